/* SPDX-License-Identifier: MIT */
/*
 * A thread that ends where it must not, in a section: it is reported where there is a
 * checker, and nobody waits for it, nor is the next thread of its number taken for it.
 */
#include "tests/notifier_env.h"

#define SECTIONS 3u

struct ended {
	struct owner *owner[SECTIONS]; /* of each section, from the outermost */
	struct mmu_notifier_range range[SECTIONS];
	u32 nr;
	u32 id; /* the thread's */
};

static void end_in_sections(void *arg)
{
	struct actor *a = arg;
	struct ended *e = a->arg;

	e->id = thread_id();
	for (u32 i = 0; i < e->nr; i++) {
		e->range[i] = owner_range(e->owner[i], true);
		a->result |= mmu_notifier_invalidate_range_start(&e->range[i]);
	}
}

/* One section after the other, and each is over when it says so. */
static void go_on(void *arg)
{
	struct actor *a = arg;
	struct ended *e = a->arg;

	CHECK_EQ(thread_id(), e->id);
	for (u32 i = 0; i < SECTIONS; i++) {
		struct mmu_notifier_range range = owner_range(e->owner[i], true);

		CHECK_EQ(mmu_notifier_invalidate_range_start(&range), 0);
		mmu_notifier_invalidate_range_end(&range);
		CHECK_EQ(mn_slot_own()->word, 0);
		CHECK_EQ(mn_slot_own()->more, 0);
	}
}

static void end_one(enum notifier_admission admission, u32 nr, bool heard_of, bool two_spaces)
{
	struct owner owner, other;
	struct ended e = { .owner = { &owner, two_spaces ? &other : &owner, &owner }, .nr = nr };
	struct actor a, next;
	struct listener l, comer;

	owner_init_with(&owner, admission);
	owner_init_with(&other, admission);
	listener_init(&l, '-', &listener_ops);
	listener_init(&comer, '-', &listener_ops);
	if (heard_of)
		CHECK_EQ(mmu_notifier_register(&l.notifier, &owner.mm), 0);
#if CHECKING
	report_begin();
#endif
	REQUIRE(act(&a, end_in_sections, &e, NULL));
	thread_join(&a.thread);
#if CHECKING
	CHECK_CONTAINS(report_end(), "mmu_notifier_section");
#endif
	CHECK_EQ(a.result, 0);
	REQUIRE(act(&next, go_on, &e, NULL));
	thread_join(&next.thread);
	/* It would wait for ever. */
	CHECK_EQ(mmu_notifier_register(&comer.notifier, &owner.mm), 0);
	CHECK_EQ(mmu_notifier_unregister(&comer.notifier, &owner.mm), 0);
	if (heard_of) {
		CHECK_EQ(l.starts - l.ends, two_spaces && nr > 1 ? nr - 1 : nr); /* no end of those (rule N7) */
		CHECK_EQ(mmu_notifier_unregister(&l.notifier, &owner.mm), 0);
	}
	owner_fini(&other);
	owner_fini(&owner);
}

static void thread_ends_in_a_section(void)
{
	static const enum notifier_admission admissions[] = { NOTIFIER_ADMIT_MM_LOCK, NOTIFIER_ADMIT_SECTION };

	for (unsigned int i = 0; i < ARRAY_SIZE(admissions); i++)
		for (u32 nr = 1; nr <= SECTIONS; nr++)
			for (int how = 0; how < 4; how++)
				end_one(admissions[i], nr, how & 1, how & 2);
}

const struct test_case notifier_leave_tests[] = { TEST(thread_ends_in_a_section), TEST_END };
