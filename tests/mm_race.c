/* SPDX-License-Identifier: MIT */
/* Exact interleavings of the fault path with others, by race points; each named after its timeline. */
#include "tests/mm_env.h"

#if CHECKING

struct toucher {
	struct thread thread;
	struct env *env;
	hva_t addr;
	int err;
	struct mm_fault fault;
};

static void touch(void *arg)
{
	struct toucher *t = arg;

	t->err = mm_fault_in(t->env->mm, t->addr, MM_WRITE, &t->fault);
}

static bool start_touch(struct toucher *t, struct env *env, hva_t addr)
{
	*t = (struct toucher){ .env = env, .addr = addr };
	return CHECK_EQ(thread_create(&t->thread, "toucher", -1, touch, t), 0);
}

static bool race_env(struct env *env)
{
	return env_init(env, ENV_BASE_ROOT) &&
	       CHECK_EQ(mm_mmap(env->mm, env->base, 8 * PAGE_SIZE, RW, TAIN_MAP_FIXED, NULL), 0);
}

/*
 *   T1                                  main
 *   fault: allocate, clear
 *                                       fault: install, write 42
 *   ptl: the entry holds a page: take that
 */
static void fault_loses_to_fault(void)
{
	struct race_gate gate;
	struct mm_stats stats;
	struct toucher t1;
	struct env env;

	if (!race_env(&env))
		return;
	race_arm(&gate, "mm_fault:before_ptl", 1);
	if (!start_touch(&t1, &env, env.base))
		return;
	race_wait(&gate);
	CHECK_EQ(mm_write64(env.mm, env.base, 42), 0);
	race_release(&gate);
	thread_join(&t1.thread);
	race_disarm(&gate);
	CHECK_EQ(t1.err, 0);
	CHECK_EQ(*(u64 *)page_address(t1.fault.page), 42);
	CHECK(t1.fault.writable);
	put_page(t1.fault.page);
	mm_get_stats(env.mm, &stats);
	CHECK_EQ(stats.lost_installs, 1);
	CHECK_EQ(stats.first_touches, 1);
	env_fini(&env);
}

/*
 *   T1                                  main
 *   no table: allocate one
 *                                       the same; link; install, write 42
 *   link: not empty any more: take that, give mine back
 */
static void table_loses_to_table(void)
{
	for (unsigned int nth = 1; nth <= 3; nth++) { /* at each level */
		struct race_gate gate;
		struct toucher t1;
		struct env env;

		if (!race_env(&env))
			return;
		race_arm(&gate, "pt_make:before_link", nth);
		if (!start_touch(&t1, &env, env.base))
			return;
		race_wait(&gate);
		CHECK_EQ(mm_write64(env.mm, env.base + PAGE_SIZE, 42), 0);
		race_release(&gate);
		thread_join(&t1.thread);
		race_disarm(&gate);
		CHECK_EQ(t1.err, 0);
		put_page(t1.fault.page);
		CHECK_EQ(env_word(&env, env.base + PAGE_SIZE), 42);
		CHECK(env_page(&env, env.base));
		env_fini(&env);
	}
}

/*
 *   T1                                  main (mmap_lock for reading, as T1)
 *   sees an entry that holds a page
 *                                       DONTNEED: clear, free
 *   ptl: empty: from the start
 *   a new page, zero
 */
static void present_loses_to_dontneed(void)
{
	struct race_gate gate;
	struct mm_stats stats;
	struct toucher t1;
	struct env env;

	if (!race_env(&env))
		return;
	CHECK_EQ(mm_write64(env.mm, env.base, 42), 0);
	race_arm(&gate, "mm_fault:before_present", 1);
	if (!start_touch(&t1, &env, env.base))
		return;
	race_wait(&gate);
	CHECK_EQ(mm_madvise(env.mm, env.base, PAGE_SIZE, TAIN_MADV_DONTNEED), 0);
	race_release(&gate);
	thread_join(&t1.thread);
	race_disarm(&gate);
	CHECK_EQ(t1.err, 0);
	CHECK_EQ(*(u64 *)page_address(t1.fault.page), 0);
	put_page(t1.fault.page);
	mm_get_stats(env.mm, &stats);
	CHECK_EQ(stats.retries, 1);
	env_fini(&env);
}

static void unmap(void *arg)
{
	struct toucher *t = arg;

	t->err = mm_munmap(t->env->mm, t->addr, PAGE_SIZE);
}

/*
 *   T1 (mmap_lock for reading)          T2
 *   fault: before the install
 *                                       munmap: waits for mmap_lock
 *   install; unlock
 *                                       finds the page, clears, frees
 */
static void munmap_waits_for_fault(void)
{
	struct race_gate fault_gate, unmap_gate;
	struct toucher t1, t2;
	struct env env;

	if (!race_env(&env))
		return;
	race_arm(&fault_gate, "mm_fault:before_ptl", 1);
	race_arm(&unmap_gate, "mm_unmap:after_clear", 1);
	if (!start_touch(&t1, &env, env.base))
		return;
	race_wait(&fault_gate);
	t2 = (struct toucher){ .env = &env, .addr = env.base };
	REQUIRE_EQ(thread_create(&t2.thread, "unmapper", -1, unmap, &t2), 0);
	CHECK(!race_held(&unmap_gate));
	race_release(&fault_gate);
	race_wait(&unmap_gate);
	thread_join(&t1.thread); /* it is through: munmap is, which waited for it */
	CHECK_EQ(t1.err, 0);
	CHECK_EQ(t1.fault.page->mapcount, 0);
	CHECK_EQ(page_count(t1.fault.page), 2); /* ours, and the gather's */
	race_release(&unmap_gate);
	thread_join(&t2.thread);
	CHECK_EQ(t2.err, 0);
	CHECK_EQ(page_count(t1.fault.page), 1);
	put_page(t1.fault.page);
	race_disarm(&fault_gate);
	race_disarm(&unmap_gate);
	env_fini(&env);
}

struct reader {
	struct thread thread;
	struct completion in;
	u32 out;
};

static void rcu_reader(void *arg)
{
	struct reader *r = arg;

	rcu_read_lock();
	complete(&r->in);
	while (!smp_load_acquire(&r->out)) /* pairs with the release in the test */
		thread_yield();
	rcu_read_unlock();
}

/*
 *   T1                                  main
 *   rcu_read_lock
 *   walks to a table
 *                                       munmap: unlink the table, call_rcu
 *   the table is still one
 *   rcu_read_unlock
 *                                       (after a grace period) it is free
 */
static void table_outlives_reader(void)
{
	struct page *leaf;
	struct reader r;
	struct env env;

	if (!race_env(&env))
		return;
	CHECK_EQ(mm_write64(env.mm, env.base, 42), 0);
	leaf = pt_leaf(env.mm, env.base);
	init_completion(&r.in);
	r.out = 0;
	REQUIRE_EQ(thread_create(&r.thread, "reader", -1, rcu_reader, &r), 0);
	wait_for_completion(&r.in);
	CHECK_EQ(mm_munmap(env.mm, env.base, 8 * PAGE_SIZE), 0);
	CHECK(!pt_leaf(env.mm, env.base));
	CHECK_EQ(page_count(leaf), 1);
	CHECK(leaf->flags & PG_TABLE);
	CHECK_EQ(READ_ONCE(env.arena->nr_retired), 3);
	CHECK_EQ(((u64 *)page_address(leaf))[0], 0);
	smp_store_release(&r.out, 1);
	thread_join(&r.thread);
	rcu_barrier();
	CHECK_EQ(page_count(leaf), 0);
	CHECK_EQ(READ_ONCE(env.arena->nr_retired), 0);
	env_fini(&env);
}

struct counter {
	struct thread thread;
	struct frame_arena *arena;
	size_t bytes;
};

static void count_free(void *arg)
{
	struct counter *c = arg;

	c->bytes = frame_arena_free_bytes(c->arena);
}

/*
 *   RCU's thread                        main
 *   (the grace period is over)
 *   frees three tables
 *                                       counts: they are free, and, without the lock, still waiting too
 *   three less are waiting
 */
static void count_meets_grace_period(void)
{
	struct race_gate gate;
	struct counter c;
	size_t before;
	struct env env;

	if (!race_env(&env))
		return;
	before = frame_arena_free_bytes(env.arena);
	CHECK_EQ(mm_write64(env.mm, env.base, 42), 0);
	race_arm(&gate, "frame:tables_given_back", 1);
	CHECK_EQ(mm_munmap(env.mm, env.base, 8 * PAGE_SIZE), 0);
	race_wait(&gate);
	c.arena = env.arena;
	REQUIRE_EQ(thread_create(&c.thread, "count", -1, count_free, &c), 0);
	for (unsigned int turn = 0; turn < 100; turn++)
		thread_yield(); /* a chance to count too early */
	race_release(&gate);
	thread_join(&c.thread);
	race_disarm(&gate);
	CHECK_EQ(c.bytes, before);
	env_fini(&env);
}

const struct test_case mm_race_tests[] = { TEST(count_meets_grace_period),
					   TEST(fault_loses_to_fault),
					   TEST(table_loses_to_table),
					   TEST(present_loses_to_dontneed),
					   TEST(munmap_waits_for_fault),
					   TEST(table_outlives_reader),
					   TEST_END };
#else
const struct test_case mm_race_tests[] = { TEST_END };
#endif
