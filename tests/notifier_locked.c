/* SPDX-License-Identifier: MIT */
/* The variants for who holds the mm's write lock, on an address space, with and without it. */
#include <string.h>

#include "tests/notifier_env.h"

#define AT MIRROR_BASE

struct world {
	struct frame_arena *arena;
	struct mm_struct *mm;
	struct notifier_mm *handle;
};

static u32 freed;

static int alloc_one(struct notifier_mm *mm, struct mmu_notifier **out)
{
	*out = mem_zalloc(sizeof(**out));
	return *out ? 0 : -ENOMEM;
}

static void free_one(struct mmu_notifier *notifier)
{
	fetch_add(&freed, 1);
	mem_free(notifier);
}

static bool invalidate(struct mmu_interval_notifier *sub, const struct mmu_notifier_range *range, uint64_t cur_seq)
{
	mmu_interval_set_seq(sub, cur_seq);
	return true;
}

static const struct mmu_notifier_ops got_ops = { .alloc_notifier = alloc_one, .free_notifier = free_one };
static const struct mmu_interval_notifier_ops interval_ops = { .invalidate = invalidate };

static bool world_init(struct world *w, const char *admission)
{
	struct mm_options options = { .admission = admission };

	freed = 0;
	if (!CHECK_EQ(frame_arena_create(4 << 20, &w->arena), 0))
		return false;
	CHECK_EQ(mm_create_with(w->arena, &options, &w->mm), 0);
	w->handle = mm_notifier(w->mm);
	return CHECK_EQ(mm_mmap(w->mm, AT, 2 * PAGE_SIZE, RW, TAIN_MAP_FIXED, NULL), 0);
}

static void world_fini(struct world *w)
{
	mmput(w->mm);
	frame_arena_destroy(w->arena);
}

static int expect_report(int answer, const char *text)
{
#if CHECKING
	CHECK_CONTAINS(report_end(), text);
#endif
	return answer;
}

#if CHECKING
#define REPORTED(call, text) (report_begin(), expect_report(call, text))
#else
#define REPORTED(call, text) expect_report(call, text)
#endif

/* All three under one lock, and they hear of what comes after. */
static void with_the_lock(const char *admission)
{
	struct mmu_interval_notifier ival = { 0 };
	struct mmu_notifier *got = NULL, *again = NULL;
	struct listener l;
	struct world w;
	u64 seq = 0;

	if (!world_init(&w, admission))
		return;
	listener_init(&l, '-', &listener_ops);
	CHECK_EQ(mmap_write_lock(w.mm), 0);
	CHECK_EQ(mmu_notifier_register_locked(&l.notifier, w.handle), 0);
	CHECK_EQ(mmu_notifier_get_locked(&got_ops, w.handle, &got), 0);
	CHECK_EQ(mmu_notifier_get_locked(&got_ops, w.handle, &again), 0);
	CHECK_EQ(mmu_interval_notifier_insert_locked(&ival, w.handle, AT, PAGE_SIZE, &interval_ops), 0);
	CHECK_EQ(mmap_write_unlock(w.mm), 0);
	CHECK_PTR_EQ(got, again);
	CHECK_EQ(mmu_interval_read_begin(&ival, &seq), 0);
	CHECK_EQ(mm_munmap(w.mm, AT, 2 * PAGE_SIZE), 0);
	CHECK_EQ(l.starts, 1);
	CHECK_EQ(l.ends, 1);
	CHECK(mmu_interval_read_retry(&ival, seq));
	CHECK_EQ(mmu_interval_notifier_remove(&ival), 0);
	CHECK_EQ(mmu_notifier_put(got), 0);
	CHECK_EQ(mmu_notifier_put(again), 0);
	CHECK_EQ(mmu_notifier_unregister(&l.notifier, w.handle), 0);
	CHECK_EQ(mmu_notifier_synchronize(), 0);
	CHECK_EQ(freed, 1);
	world_fini(&w);
}

/* Each an error, in a release build too, and nothing is changed. */
static void without_the_lock(const char *admission)
{
	static const char without[] = "without the mm's write lock";
	struct mmu_interval_notifier ival = { 0 };
	struct mmu_notifier *got = NULL;
	struct listener l;
	struct world w;

	if (!world_init(&w, admission))
		return;
	listener_init(&l, '-', &listener_ops);
	CHECK_EQ(REPORTED(mmu_notifier_register_locked(&l.notifier, w.handle), without), -EINVAL);
	CHECK_EQ(REPORTED(mmu_notifier_get_locked(&got_ops, w.handle, &got), without), -EINVAL);
	CHECK_EQ(REPORTED(mmu_interval_notifier_insert_locked(&ival, w.handle, AT, PAGE_SIZE, &interval_ops), without),
		 -EINVAL);
	CHECK(!mm_has_notifiers(w.handle));
	CHECK_EQ(w.handle->count, 1);
	CHECK_EQ(REPORTED(mmap_write_unlock(w.mm), "a thread that does not hold it"), -EINVAL);
	CHECK_EQ(mmap_write_lock(NULL), -EINVAL);
	CHECK_EQ(mmap_write_unlock(NULL), -EINVAL);
	world_fini(&w);
}

/* With the lock, what would wait for it. By section registration takes none. */
static void twice(const char *admission)
{
	static const char held[] = "which its caller holds";
	bool waits = !strcmp(admission, "mm_lock");
	struct mmu_interval_notifier ival = { 0 };
	struct emm_notifier e = { 0 };
	struct mmu_notifier *got = NULL;
	struct listener l;
	struct world w;

	if (!world_init(&w, admission))
		return;
	listener_init(&l, '-', &listener_ops);
	CHECK_EQ(mmap_write_lock(w.mm), 0);
	CHECK_EQ(REPORTED(mmap_write_lock(w.mm), "by the thread that holds it"), -EDEADLK);
	CHECK_EQ(emm_notifier_register(&e, w.handle, EMM_V3), -EINVAL);
	if (waits) {
		CHECK_EQ(REPORTED(mmu_notifier_register(&l.notifier, w.handle), held), -EDEADLK);
		CHECK_EQ(REPORTED(mmu_notifier_get(&got_ops, w.handle, &got), held), -EDEADLK);
		CHECK_EQ(REPORTED(mmu_interval_notifier_insert(&ival, w.handle, AT, PAGE_SIZE, &interval_ops), held),
			 -EDEADLK);
		CHECK(!mm_has_notifiers(w.handle));
	} else {
		CHECK_EQ(mmu_notifier_register(&l.notifier, w.handle), 0);
		CHECK_EQ(mmu_notifier_unregister(&l.notifier, w.handle), 0);
	}
	CHECK_EQ(mmap_write_unlock(w.mm), 0);
	CHECK_EQ(mm_munmap(w.mm, AT, PAGE_SIZE), 0); /* the one unlock was enough */
	world_fini(&w);
}

static void do_write_unlock(void *arg)
{
	struct actor *a = arg;

	a->result = mmap_write_unlock(a->arg);
}

/* Another thread's lock is not ours to use nor to drop. */
static void of_another_thread(void)
{
	struct actor a;
	struct world w;

	if (!world_init(&w, "mm_lock"))
		return;
	CHECK_EQ(mmap_write_lock(w.mm), 0);
#if CHECKING
	report_begin();
#endif
	if (act(&a, do_write_unlock, w.mm, NULL)) {
		thread_join(&a.thread);
		CHECK_EQ(expect_report(a.result, "a thread that does not hold it"), -EINVAL);
	}
	CHECK_EQ(mmap_write_unlock(w.mm), 0);
	world_fini(&w);
}

static void locked_registers(void)
{
	with_the_lock("mm_lock");
	with_the_lock("section");
}

static void locked_without_is_refused(void)
{
	without_the_lock("mm_lock");
	without_the_lock("section");
}

static void locked_twice_is_refused(void)
{
	twice("mm_lock");
	twice("section");
}

const struct test_case notifier_locked_tests[] = { TEST(locked_registers), TEST(locked_without_is_refused),
						   TEST(locked_twice_is_refused), TEST(of_another_thread), TEST_END };
