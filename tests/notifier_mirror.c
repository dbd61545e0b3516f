/* SPDX-License-Identifier: MIT */
/*
 * A naive mirror of a real address space: it must never reach a page that is not
 * mapped there. And the mutants, which make it.
 */
#include "tests/notifier_env.h"

struct accessor {
	struct thread thread;
	struct mirror_env *env;
	u32 id;
	u32 stop;
	u64 accesses, stale;
};

#define ACCESSORS 2u

/* Our pages hold what we wrote, or zero; after a zero, zero. */
static void access_at_random(void *arg)
{
	struct accessor *a = arg;
	u64 expected[MIRROR_PAGES] = { 0 };
	struct rng rng;

	rng_seed(&rng, a->id);
	while (!READ_ONCE(a->stop)) {
		u64 page = rng_below(&rng, MIRROR_PAGES / ACCESSORS) * ACCESSORS + a->id;
		bool write = rng_below(&rng, 2);
		u64 value = write ? page << 40 | (a->accesses + 1) : 0;
		int err = mirror_access(a->env, page, write, &value);

		if (err == -EFAULT)
			continue;
		if (!CHECK_EQ(err, 0))
			break;
		if (write) {
			expected[page] = value;
		} else if (value != expected[page]) {
			if (!CHECK_EQ(value, 0))
				break;
			expected[page] = 0;
		}
		WRITE_ONCE(a->accesses, a->accesses + 1);
	}
}

static void one_op(struct mirror_env *env, struct rng *rng)
{
	u64 page = rng_below(rng, MIRROR_PAGES), pages = 1 + rng_below(rng, min(MIRROR_PAGES - page, 8ul));
	hva_t addr = mirror_addr(page), away = 0;
	size_t len = pages * PAGE_SIZE;

	switch (rng_below(rng, 5)) {
	case 0:
		CHECK_EQ(mm_munmap(env->mm, addr, len), 0);
		CHECK_EQ(mm_mmap(env->mm, addr, len, RW, TAIN_MAP_FIXED, NULL), 0);
		break;
	case 1:
		CHECK_EQ(mm_mmap(env->mm, addr, len, RW, TAIN_MAP_FIXED, NULL), 0);
		break;
	case 2:
		CHECK_EQ(mm_mprotect(env->mm, addr, len, TAIN_PROT_READ), 0);
		CHECK_EQ(mm_mprotect(env->mm, addr, len, RW), 0);
		break;
	case 3:
		/* Away and back, contents and all. */
		if (mm_mremap(env->mm, addr, PAGE_SIZE, PAGE_SIZE, TAIN_MREMAP_MAYMOVE | TAIN_MREMAP_FIXED,
			      MIRROR_BASE + (1ull << 32), &away))
			break;
		CHECK_EQ(mm_mremap(env->mm, away, PAGE_SIZE, PAGE_SIZE, TAIN_MREMAP_MAYMOVE | TAIN_MREMAP_FIXED, addr,
				   NULL),
			 0);
		break;
	default:
		CHECK_EQ(mm_madvise(env->mm, addr, len, TAIN_MADV_DONTNEED), 0);
		break;
	}
}

static void never_outside(void)
{
	struct accessor accessors[ACCESSORS];
	struct mirror_env env;
	u64 accesses = 0;
	struct rng rng;

	if (!mirror_env_init(&env))
		return;
#if CHECKING
	race_delays(5, 2);
#endif
	for (u32 i = 0; i < ACCESSORS; i++) {
		accessors[i] = (struct accessor){ .env = &env, .id = i };
		REQUIRE_EQ(thread_create(&accessors[i].thread, "accessor", -1, access_at_random, &accessors[i]), 0);
	}
	for (u32 i = 0; i < ACCESSORS; i++) {
		while (!READ_ONCE(accessors[i].accesses) && !test_failures()) /* nothing is proved before */
			thread_yield();
	}
	rng_seed(&rng, 42);
	for (u32 turn = 0; turn < TEST_SCALE(4000u) && !test_failures(); turn++) {
		one_op(&env, &rng);
		if (turn % 4 == 0)
			CHECK_EQ(mirror_audit(&env), 0);
	}
	for (u32 i = 0; i < ACCESSORS; i++) {
		WRITE_ONCE(accessors[i].stop, 1);
		thread_join(&accessors[i].thread);
		accesses += accessors[i].accesses;
	}
	CHECK_GT(accesses, 0);
	CHECK_EQ(frame_arena_verify(env.arena), 0);
	CHECK_EQ(env.corrupted, 0);
	mirror_env_fini(&env);
}

/* Exit while the mirror is in use: after release it is refused for ever. */
static void exit_under_access(void)
{
	for (u32 turn = 0; turn < TEST_SCALE(50u); turn++) {
		struct accessor a;
		struct mirror_env env;

		if (!mirror_env_init(&env))
			return;
		mmgrab(env.mm);
		a = (struct accessor){ .env = &env };
		REQUIRE_EQ(thread_create(&a.thread, "accessor", -1, access_at_random, &a), 0);
		while (!mirror_page(&env, 0))
			thread_yield();
		mmput(env.mm);
		CHECK_EQ(mirror_fault(&env, 0, true), -EFAULT);
		WRITE_ONCE(a.stop, 1);
		thread_join(&a.thread);
		for (u64 i = 0; i < MIRROR_PAGES; i++)
			CHECK(!mirror_page(&env, i));
		CHECK_EQ(mmu_notifier_unregister(&env.mirror.notifier, mm_notifier(env.mm)), 0);
		mmdrop(env.mm);
		CHECK_EQ(frame_arena_verify(env.arena), 0);
		CHECK_EQ(env.corrupted, 0);
		frame_arena_destroy(env.arena);
	}
}

#if CHECKING

struct host {
	struct thread thread;
	struct mirror_env *env;
	int result;
};

static void host_munmap(void *arg)
{
	struct host *h = arg;

	h->result = mm_munmap(h->env->mm, MIRROR_BASE, PAGE_SIZE);
}

static void host_exit(void *arg)
{
	struct host *h = arg;

	mmput(h->env->mm);
}

/*
 * rule N5.
 *
 *   T1 munmap                           main (a guest)
 *   start: the mirror lets go
 *   clear the entry
 *                                       the mirror has no translation
 *   free; end
 */
static void cleared_after_start(void)
{
	struct host h = { 0 };
	struct mirror_env env;
	struct race_gate gate;

	if (!mirror_env_init(&env))
		return;
	h.env = &env;
	CHECK_EQ(mirror_fault(&env, 0, true), 0);
	CHECK(mirror_page(&env, 0));
	race_arm(&gate, "mm_unmap:after_clear", 1);
	REQUIRE_EQ(thread_create(&h.thread, "host", -1, host_munmap, &h), 0);
	race_wait(&gate);
	CHECK(!mirror_page(&env, 0));
	race_release(&gate);
	thread_join(&h.thread);
	race_disarm(&gate);
	CHECK_EQ(h.result, 0);
	CHECK_EQ(mirror_fault(&env, 0, true), -EFAULT);
	mirror_env_fini(&env);
	CHECK_EQ(env.corrupted, 0);
}

/*
 * Catalogue 10: told after the fact.
 *
 *   T1 munmap                           main (a guest)
 *   clear the entry; free the frame
 *                                       writes through its translation: to a free frame
 *   start: the mirror lets go; end
 *   (the frame is used again: its poison is gone)
 */
static void mutant_n5_free_before_start(void)
{
	struct host h = { 0 };
	struct mirror_env env;
	struct race_gate gate;
	u64 value = 0x42;

	if (!mirror_env_init(&env))
		return;
	h.env = &env;
	CHECK_EQ(mirror_fault(&env, 0, true), 0);
	mutant_set("n5-free-before-start");
	race_arm(&gate, "mm_unmap:after_free", 1);
	REQUIRE_EQ(thread_create(&h.thread, "host", -1, host_munmap, &h), 0);
	race_wait(&gate);
	CHECK_EQ(mirror_access(&env, 0, true, &value), -ESTALE);
	race_release(&gate);
	thread_join(&h.thread);
	race_disarm(&gate);
	mutant_set(NULL);
	CHECK_EQ(frame_arena_verify(env.arena), 1);
	CHECK_EQ(env.corrupted, 1);
	mirror_env_fini(&env);
}

/* What reclaim does: a section under locks that exit does not take; here, none. Frees the first page. */
static void reclaim_first_page(struct mirror_env *env)
{
	struct mmu_notifier_range section =
		mm_section_begin(env->mm, MIRROR_BASE, MIRROR_BASE + PAGE_SIZE, MMU_NOTIFY_CLEAR);
	struct mmu_gather gather;

	gather_init(&gather, env->mm);
	gather_unmap(&gather, MIRROR_BASE, MIRROR_BASE + PAGE_SIZE);
	gather_finish(&gather);
	mm_section_end(&section);
}

/*
 * rule N8 and catalogue 5.
 *
 *   T1 exit                             main (reclaim, then a guest)
 *   right: release, still listed        right: start: told, has nothing any more
 *   mutant: unlink first                mutant: start: nobody is listed; clear; free the frame
 *                                       the guest writes through its translation: to a free frame
 *   mutant: release, too late
 */
static void exit_meets_reclaim(const char *mutant_name, const char *gate_name, bool caught)
{
	struct host h = { 0 };
	struct mirror_env env;
	struct race_gate gate;
	u64 value = 0x42;
	int err;

	if (!mirror_env_init(&env))
		return;
	h.env = &env;
	CHECK_EQ(mirror_fault(&env, 0, true), 0);
	mmgrab(env.mm);
	mutant_set(mutant_name);
	race_arm(&gate, gate_name, 1);
	REQUIRE_EQ(thread_create(&h.thread, "host", -1, host_exit, &h), 0);
	race_wait(&gate);
	reclaim_first_page(&env);
	CHECK_EQ(!!mirror_page(&env, 0), caught);
	if (mirror_page(&env, 0)) {
		err = mirror_access(&env, 0, true, &value);
		CHECK_EQ(err, -ESTALE);
	}
	race_release(&gate);
	thread_join(&h.thread);
	race_disarm(&gate);
	mutant_set(NULL);
	CHECK_EQ(frame_arena_verify(env.arena), caught);
	CHECK_EQ(mmu_notifier_unregister(&env.mirror.notifier, mm_notifier(env.mm)), 0);
	mmdrop(env.mm);
	CHECK_EQ(env.corrupted, caught);
	frame_arena_destroy(env.arena);
}

static void release_before_unlink(void)
{
	exit_meets_reclaim(NULL, "notifier:release_before_unlink", false);
}

static void mutant_n8_unlink_before_release(void)
{
	exit_meets_reclaim("n8-unlink-before-release", "notifier:release_after_unlink", true);
}

#endif

const struct test_case notifier_mirror_tests[] = { TEST(never_outside),
						   TEST(exit_under_access),
#if CHECKING
						   TEST(cleared_after_start),
						   TEST(mutant_n5_free_before_start),
						   TEST(release_before_unlink),
						   TEST(mutant_n8_unlink_before_release),
#endif
						   TEST_END };
