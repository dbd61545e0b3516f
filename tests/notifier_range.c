/* SPDX-License-Identifier: MIT */
/* Sections: who hears what, in which order, with which event; those that must not block (rule N6). */
#include <string.h>

#include "tests/notifier_env.h"

static void order_and_nesting(void)
{
	struct mmu_notifier_range outer, inner;
	struct owner owner;
	struct listener a, b;

	owner_init(&owner);
	listener_init(&a, 'A', &listener_ops);
	listener_init(&b, 'B', &listener_ops);
	outer = owner_range(&owner, true);
	inner = owner_range(&owner, true);
	inner.start = 0x2000;
	heard_reset();
	down_read(&owner.lock);
	CHECK_EQ(mmu_notifier_invalidate_range_start(&outer), 0); /* nobody there */
	mmu_notifier_invalidate_range_end(&outer);
	up_read(&owner.lock);
	CHECK_EQ(mmu_notifier_register(&a.notifier, &owner.mm), 0);
	CHECK_EQ(mmu_notifier_register(&b.notifier, &owner.mm), 0);

	down_read(&owner.lock);
	CHECK_EQ(mmu_notifier_invalidate_range_start(&outer), 0);
	CHECK_EQ(mmu_notifier_invalidate_range_start(&inner), 0);
	CHECK_EQ(a.last.start, 0x2000);
	CHECK_EQ(a.last.end, 0x3000);
	CHECK_EQ(a.last.event, MMU_NOTIFY_CLEAR);
	CHECK_EQ(a.open, 2);
	mmu_notifier_invalidate_range_end(&inner);
	CHECK_EQ(a.open, 1);
	mmu_notifier_invalidate_range_end(&outer);
	up_read(&owner.lock);
	CHECK_EQ(a.open, 0);
	CHECK_STR(heard, "sB sA sB sA eB eA eB eA");

	/* rule N7: who leaves between start and end is released and hears of no end. */
	heard_reset();
	down_read(&owner.lock);
	CHECK_EQ(mmu_notifier_invalidate_range_start(&outer), 0);
	CHECK_EQ(mmu_notifier_unregister(&b.notifier, &owner.mm), 0);
	mmu_notifier_invalidate_range_end(&outer);
	up_read(&owner.lock);
	CHECK_STR(heard, "sB sA rB eA");
	CHECK_EQ(mmu_notifier_unregister(&a.notifier, &owner.mm), 0);
	owner_fini(&owner);
}

/* One of three refuses to block: all starts are called, then the ends of those that have one. */
static void refusal(const char *mutant_name, s32 left_open, const char *expected)
{
	struct mmu_notifier_range range;
	struct owner owner;
	struct listener a, b, c;

	owner_init(&owner);
	listener_init(&a, 'A', &listener_ops);
	listener_init(&b, 'B', &listener_ops_no_end);
	listener_init(&c, 'C', &listener_ops);
	b.answer = -EAGAIN;
	CHECK_EQ(mmu_notifier_register(&a.notifier, &owner.mm), 0);
	CHECK_EQ(mmu_notifier_register(&b.notifier, &owner.mm), 0);
	CHECK_EQ(mmu_notifier_register(&c.notifier, &owner.mm), 0);
	range = owner_range(&owner, false);
	heard_reset();
	mutant_set(mutant_name);
	down_read(&owner.lock);
	CHECK_EQ(mmu_notifier_invalidate_range_start(&range), -EAGAIN);
	up_read(&owner.lock);
	mutant_set(NULL);
	CHECK_STR(heard, expected);
	CHECK_EQ(a.open, left_open);
	CHECK_EQ(c.open, left_open);
	CHECK_EQ(a.bad + b.bad + c.bad, 0);

	/* Blocking, or willing, it succeeds. */
	b.answer = 0;
	down_read(&owner.lock);
	CHECK_EQ(mmu_notifier_invalidate_range_start(&range), 0);
	mmu_notifier_invalidate_range_end(&range);
	range.blockable = true;
	CHECK_EQ(mmu_notifier_invalidate_range_start(&range), 0);
	mmu_notifier_invalidate_range_end(&range);
	up_read(&owner.lock);
	CHECK_EQ(a.open, left_open);
	CHECK_EQ(mmu_notifier_unregister(&a.notifier, &owner.mm), 0);
	CHECK_EQ(mmu_notifier_unregister(&b.notifier, &owner.mm), 0);
	CHECK_EQ(mmu_notifier_unregister(&c.notifier, &owner.mm), 0);
	owner_fini(&owner);
}

static void refusal_unwinds(void)
{
	refusal(NULL, 0, "sC sB sA eC eA");
}

static void mutant_n6_no_unwind(void)
{
#if CHECKING
	refusal("n6-no-unwind", 1, "sC sB sA"); /* the count of A and C never falls to zero */
#endif
}

#if CHECKING

static void sleeps(struct listener *l, const struct mmu_notifier_range *range)
{
	might_sleep();
}

/* A callback that sleeps where it must not is reported. */
static void sleeping_where_it_must_not(void)
{
	struct mmu_notifier_range range;
	struct owner owner;
	struct listener a;

	owner_init(&owner);
	listener_init(&a, 'A', &listener_ops);
	a.in_start = sleeps;
	CHECK_EQ(mmu_notifier_register(&a.notifier, &owner.mm), 0);
	report_begin();
	range = owner_range(&owner, true);
	CHECK_EQ(mmu_notifier_invalidate_range_start(&range), 0);
	mmu_notifier_invalidate_range_end(&range);
	CHECK_STR(report_end(), "");
	report_begin();
	range.blockable = false;
	CHECK_EQ(mmu_notifier_invalidate_range_start(&range), 0);
	mmu_notifier_invalidate_range_end(&range);
	CHECK_CONTAINS(report_end(), "sleeping call");
	CHECK_EQ(mmu_notifier_unregister(&a.notifier, &owner.mm), 0);
	owner_fini(&owner);
}
#endif

/* Each operation of mm/ opens its section over the right range, with the right event. */
struct op_event {
	const char *name;
	int (*fn)(struct mm_struct *mm, hva_t base);
	enum mmu_notifier_event event;
	u64 first, end; /* pages */
};

#define P PAGE_SIZE

static int ev_munmap(struct mm_struct *mm, hva_t base)
{
	return mm_munmap(mm, base + 2 * P, 3 * P);
}

static int ev_mmap(struct mm_struct *mm, hva_t base)
{
	return mm_mmap(mm, base + 1 * P, 4 * P, RW, TAIN_MAP_FIXED, NULL);
}

static int ev_mprotect(struct mm_struct *mm, hva_t base)
{
	return mm_mprotect(mm, base + 3 * P, 2 * P, TAIN_PROT_READ);
}

static int ev_mprotect_hole(struct mm_struct *mm, hva_t base)
{
	return mm_mprotect(mm, base + 6 * P, 8 * P, TAIN_PROT_READ) == -ENOMEM ? 0 : -EIO;
}

static int ev_dontneed(struct mm_struct *mm, hva_t base)
{
	return mm_madvise(mm, base, 5 * P, TAIN_MADV_DONTNEED);
}

static int ev_move(struct mm_struct *mm, hva_t base)
{
	return mm_mremap(mm, base + P, 2 * P, 2 * P, TAIN_MREMAP_MAYMOVE | TAIN_MREMAP_FIXED, base + 20 * P, NULL);
}

static int ev_move_shrink(struct mm_struct *mm, hva_t base)
{
	return mm_mremap(mm, base + P, 4 * P, 2 * P, TAIN_MREMAP_MAYMOVE | TAIN_MREMAP_FIXED, base + 20 * P, NULL);
}

static int ev_shrink(struct mm_struct *mm, hva_t base)
{
	return mm_mremap(mm, base, 8 * P, 3 * P, 0, 0, NULL);
}

static const struct op_event events[] = {
	{ "munmap", ev_munmap, MMU_NOTIFY_UNMAP, 2, 5 },
	{ "mmap fixed", ev_mmap, MMU_NOTIFY_UNMAP, 1, 5 },
	{ "mprotect", ev_mprotect, MMU_NOTIFY_PROTECTION_VMA, 3, 5 },
	{ "mprotect up to a hole", ev_mprotect_hole, MMU_NOTIFY_PROTECTION_VMA, 6, 8 },
	{ "dontneed", ev_dontneed, MMU_NOTIFY_CLEAR, 0, 5 },
	{ "mremap move", ev_move, MMU_NOTIFY_CLEAR, 1, 3 },
	{ "mremap move and shrink", ev_move_shrink, MMU_NOTIFY_CLEAR, 1, 5 },
	{ "mremap shrink", ev_shrink, MMU_NOTIFY_UNMAP, 3, 8 },
};

static void events_of_operations(void)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(events); i++) {
		const struct op_event *e = &events[i];
		struct frame_arena *arena;
		struct mm_struct *mm;
		struct listener a;

		REQUIRE_EQ(frame_arena_create(1ul << 20, &arena), 0);
		REQUIRE_EQ(mm_create(arena, "mmap_sem", &mm), 0);
		CHECK_EQ(mm_mmap(mm, MIRROR_BASE, 8 * P, RW, TAIN_MAP_FIXED | TAIN_MAP_POPULATE, NULL), 0);
		listener_init(&a, 'A', &listener_ops);
		CHECK_EQ(mmu_notifier_register(&a.notifier, mm_notifier(mm)), 0);
		heard_reset();
		CHECK_MSG(!e->fn(mm, MIRROR_BASE), "%s", e->name);
		CHECK_STR(heard, "sA eA");
		CHECK_MSG(a.last.event == e->event, "%s: event %d", e->name, a.last.event);
		CHECK_MSG(a.last.blockable && a.last.mm == mm_notifier(mm), "%s", e->name);
		CHECK_EQ(a.last.start, mirror_addr(e->first));
		CHECK_EQ(a.last.end, mirror_addr(e->end));
		CHECK_EQ(mmu_notifier_unregister(&a.notifier, mm_notifier(mm)), 0);
		mmput(mm);
		frame_arena_destroy(arena);
	}
}

const struct test_case notifier_range_tests[] = { TEST(order_and_nesting),	    TEST(refusal_unwinds),
						  TEST(mutant_n6_no_unwind),
#if CHECKING
						  TEST(sleeping_where_it_must_not),
#endif
						  TEST(events_of_operations),	    TEST_END };
