/* SPDX-License-Identifier: MIT */
/* Tests of the lock checker: what it must report, and what it must not. */
#include <stdio.h>
#include <string.h>

#include "lib/lock.h"
#include "lib/rcu.h"
#include "lib/srcu.h"
#include "lib/thread.h"
#include "tests/lib_suites.h"

#if CHECKING

static unsigned int reports;
static char report[2048];

static void capture(const char *text)
{
	reports++;
	snprintf(report, sizeof(report), "%s", text);
}

static void begin(void)
{
	reports = 0;
	report[0] = '\0';
	lockdep_set_report(capture);
}

/* A fresh class per mutex: what one test teaches the checker stays in its graph. */
#define MUTEX(var, text)                                                                                               \
	static DEFINE_LOCK_CLASS(var##_class, text);                                                                   \
	static struct mutex var = MUTEX_INIT(&var##_class)

static void order_inversion_names_both_sites(void)
{
	MUTEX(a, "inversion A");
	MUTEX(b, "inversion B");
	char site[128];
	int first, second;

	begin();
	mutex_lock(&a);
	mutex_lock(&b), first = __LINE__;
	mutex_unlock(&b);
	mutex_unlock(&a);
	CHECK_EQ(reports, 0);
	mutex_lock(&b);
	mutex_lock(&a), second = __LINE__;
	mutex_unlock(&a);
	mutex_unlock(&b);
	CHECK_EQ(reports, 1);
	CHECK_CONTAINS(report, "lock order inversion: inversion B, inversion A");
	snprintf(site, sizeof(site), "inversion B taken at %s:%d while inversion A is held since", __FILE__, first);
	CHECK_CONTAINS(report, site);
	snprintf(site, sizeof(site), "inversion A taken at %s:%d while inversion B is held since", __FILE__, second);
	CHECK_CONTAINS(report, site);

	mutex_lock(&b);
	mutex_lock(&a);
	mutex_unlock(&a);
	mutex_unlock(&b);
	CHECK_EQ(reports, 1); /* once is enough */
}

static void cycle_of_three_is_found(void)
{
	MUTEX(a, "three A");
	MUTEX(b, "three B");
	MUTEX(c, "three C");
	struct mutex *const order[3][2] = { { &a, &b }, { &b, &c }, { &c, &a } };

	begin();
	for (int i = 0; i < 3; i++) {
		CHECK_EQ(reports, 0);
		mutex_lock(order[i][0]);
		mutex_lock(order[i][1]);
		mutex_unlock(order[i][1]);
		mutex_unlock(order[i][0]);
	}
	CHECK_EQ(reports, 1);
	CHECK_CONTAINS(report, "three B taken at");
	CHECK_CONTAINS(report, "three C taken at");
}

static void trylock_orders_nothing_before_itself(void)
{
	MUTEX(a, "try A");
	MUTEX(b, "try B");

	begin();
	mutex_lock(&a);
	mutex_lock(&b);
	mutex_unlock(&b);
	mutex_unlock(&a);
	mutex_lock(&b);
	REQUIRE(mutex_trylock(&a)); /* never waits: no deadlock */
	mutex_unlock(&b);	    /* not the order of taking */
	mutex_unlock(&a);
	CHECK_EQ(reports, 0);
}

static void trylocked_lock_orders_what_follows(void)
{
	MUTEX(a, "tried A");
	MUTEX(b, "tried B");

	begin();
	mutex_lock(&a);
	mutex_lock(&b);
	mutex_unlock(&b);
	mutex_unlock(&a);
	REQUIRE(mutex_trylock(&b));
	mutex_lock(&a);
	mutex_unlock(&a);
	mutex_unlock(&b);
	CHECK_EQ(reports, 1);
}

static void recursion_in_a_class_is_found(void)
{
	static DEFINE_LOCK_CLASS(class, "recursion");
	struct mutex a, b;

	begin();
	mutex_init(&a, &class);
	mutex_init(&b, &class);
	mutex_lock(&a);
	mutex_lock(&b);
	CHECK_EQ(reports, 1);
	CHECK_CONTAINS(report, "lock recursion: recursion taken at");
	CHECK_CONTAINS(report, "another of its class is held since");
	mutex_unlock(&b);
	mutex_unlock(&a);
}

static void subclasses_nest_in_one_order(void)
{
	static DEFINE_LOCK_CLASS(class, "subclass");
	struct mutex a, b;

	begin();
	mutex_init(&a, &class);
	mutex_init(&b, &class);
	mutex_lock(&a);
	mutex_lock_nested(&b, 1);
	mutex_unlock(&b);
	mutex_unlock(&a);
	CHECK_EQ(reports, 0);
	mutex_lock_nested(&b, 1);
	mutex_lock(&a);
	mutex_unlock(&a);
	mutex_unlock(&b);
	CHECK_EQ(reports, 1);
	CHECK_CONTAINS(report, "subclass/1");
}

static void read_recursion_is_found(void)
{
	static DEFINE_LOCK_CLASS(class, "read recursion");
	struct rw_semaphore s;

	begin();
	init_rwsem(&s, &class);
	down_read(&s);
	down_read(&s); /* a writer queued in between would make this wait for ever */
	CHECK_EQ(reports, 1);
	CHECK_CONTAINS(report, "read recursion (read) taken at");
	CHECK_CONTAINS(report, "the same lock is held since");
	up_read(&s);
	up_read(&s);
}

static void release_must_match(void)
{
	static DEFINE_LOCK_CLASS(class, "release");
	struct rw_semaphore s;

	begin();
	init_rwsem(&s, &class);
	lock_check_release(&s.dep, LOCK_READ, LOCK_HERE);
	CHECK_EQ(reports, 1);
	CHECK_CONTAINS(report, "is not held by this thread");
	down_write(&s);
	lock_check_release(&s.dep, LOCK_READ, LOCK_HERE);
	CHECK_EQ(reports, 2);
	CHECK_CONTAINS(report, "for read is held for write since");
	rw_core_write_unlock(&s.core);
	lock_check_downgrade(&s.dep, LOCK_HERE);
	CHECK_EQ(reports, 3);
	CHECK_CONTAINS(report, "is not held for write");
}

static void asserts_know_what_is_held(void)
{
	static DEFINE_LOCK_CLASS(class, "asserted");
	struct rw_semaphore s;

	begin();
	init_rwsem(&s, &class);
	lockdep_assert_held(&s);
	CHECK_EQ(reports, 1);
	CHECK_CONTAINS(report, "&s must be held at");
	down_write(&s);
	lockdep_assert_held(&s);
	lockdep_assert_held_write(&s);
	CHECK_EQ(reports, 1);
	downgrade_write(&s);
	lockdep_assert_held(&s);
	CHECK_EQ(reports, 1);
	lockdep_assert_held_write(&s);
	CHECK_EQ(reports, 2);
	CHECK_CONTAINS(report, "&s must be held for write at");
	lockdep_assert_none_held();
	CHECK_EQ(reports, 3);
	CHECK_CONTAINS(report, "asserted (tests/lib_check.c:");
	up_read(&s);
	lockdep_assert_none_held();
	CHECK_EQ(reports, 3);
	CHECK_EQ(lock_check_depth(), 0);
}

static void forgetful_thread(void *arg)
{
	mutex_lock(arg);
}

static void held_on_return_is_found(void)
{
	MUTEX(m, "forgotten");
	struct thread thread;

	begin();
	REQUIRE_EQ(thread_create(&thread, "forget", -1, forgetful_thread, &m), 0);
	thread_join(&thread);
	CHECK_EQ(reports, 1);
	CHECK_CONTAINS(report, "where none may be: forgotten (tests/lib_check.c:");
}

/* A section that others wait for takes a lock; a waiter holds that lock. No schedule of this run deadlocks. */
static void pseudo_lock_shows_the_deadlock(void)
{
	static DEFINE_LOCK_CLASS(map_class, "invalidation");
	static struct lock_map map = LOCK_MAP_INIT(&map_class);
	MUTEX(m, "taken in the section");

	begin();
	lock_map_acquire(&map);
	mutex_lock(&m);
	mutex_unlock(&m);
	lock_map_release(&map);
	CHECK_EQ(reports, 0);
	mutex_lock(&m);
	lock_map_acquire(&map); /* about to wait for sections */
	lock_map_release(&map);
	mutex_unlock(&m);
	CHECK_EQ(reports, 1);
	CHECK_CONTAINS(report, "invalidation");
}

static void pseudo_lock_sections_nest_shared(void)
{
	static DEFINE_LOCK_CLASS(map_class, "shared sections");
	static struct lock_map map = LOCK_MAP_INIT(&map_class);
	MUTEX(m, "around a section");

	begin();
	mutex_lock(&m);
	lock_map_acquire_read(&map);
	lock_map_acquire_read(&map);
	lock_map_release_read(&map);
	lock_map_release_read(&map);
	mutex_unlock(&m);
	lock_map_acquire_read(&map);
	mutex_lock(&m); /* the section entered under m waited for nobody */
	mutex_unlock(&m);
	CHECK_EQ(reports, 0);
	lock_map_acquire(&map); /* waits for the section it is in */
	CHECK_EQ(reports, 1);
	lock_map_release(&map);
	lock_map_release_read(&map);
}

static void srcu_wait_under_a_readers_lock_is_found(void)
{
	MUTEX(m, "taken by a reader");
	struct srcu_struct ss;
	int idx;

	begin();
	REQUIRE_EQ(init_srcu_struct(&ss), 0);
	mutex_lock(&m);
	idx = srcu_read_lock(&ss);
	CHECK(srcu_read_lock_held(&ss));
	srcu_read_unlock(&ss, idx);
	mutex_unlock(&m);
	CHECK(!srcu_read_lock_held(&ss));
	idx = srcu_read_lock(&ss);
	mutex_lock(&m);
	mutex_unlock(&m);
	srcu_read_unlock(&ss, idx);
	CHECK_EQ(reports, 0);
	mutex_lock(&m);
	synchronize_srcu(&ss);
	mutex_unlock(&m);
	CHECK_EQ(reports, 1);
	CHECK_CONTAINS(report, "srcu &ss");
	cleanup_srcu_struct(&ss);
}

static void sleeping_where_one_must_not_is_found(void)
{
	static DEFINE_LOCK_CLASS(class, "no sleep under");
	static struct spinlock spin = SPINLOCK_INIT(&class);
	MUTEX(m, "sleeper");
	struct completion done = COMPLETION_INIT;

	begin();
	might_sleep();
	CHECK_EQ(reports, 0);
	spin_lock(&spin);
	mutex_lock(&m);
	spin_unlock(&spin);
	mutex_unlock(&m);
	CHECK_EQ(reports, 1);
	CHECK_CONTAINS(report, "while no sleep under is held since");
	rcu_read_lock();
	might_sleep();
	rcu_read_unlock();
	CHECK_EQ(reports, 2);
	CHECK_CONTAINS(report, "inside an RCU reader");
	non_block_start();
	CHECK(mutex_trylock(&m));
	mutex_unlock(&m);
	spin_lock(&spin);
	spin_unlock(&spin);
	CHECK_EQ(reports, 2);
	complete(&done);
	wait_for_completion(&done);
	non_block_end();
	CHECK_EQ(reports, 3);
	CHECK_CONTAINS(report, "inside a section that may not block");
}

#define MANY 100

static void many_of_a_class_under_one_lock(void)
{
	static DEFINE_LOCK_CLASS(outer_class, "nest outer");
	static DEFINE_LOCK_CLASS(class, "nest");
	static struct rw_semaphore outer = RWSEM_INIT(&outer_class);
	static struct rw_semaphore many[MANY];

	begin();
	for (int i = 0; i < MANY; i++)
		init_rwsem(&many[i], &class);
	down_write(&outer);
	for (int i = 0; i < MANY; i++)
		down_write_nest_lock(&many[i], &outer);
	CHECK_EQ(lock_check_depth(), 2);
	lockdep_assert_held_write(&many[7]);
	for (int i = 0; i < MANY; i++)
		up_write(&many[i]);
	CHECK_EQ(lock_check_depth(), 1);
	up_write(&outer);
	CHECK_EQ(reports, 0);
	down_write_nest_lock(&many[0], &outer);
	CHECK_EQ(reports, 1);
	CHECK_CONTAINS(report, "must be held for write");
	up_write(&many[0]);
}

const struct test_case lib_check_tests[] = {
	TEST(order_inversion_names_both_sites),
	TEST(cycle_of_three_is_found),
	TEST(trylock_orders_nothing_before_itself),
	TEST(trylocked_lock_orders_what_follows),
	TEST(recursion_in_a_class_is_found),
	TEST(subclasses_nest_in_one_order),
	TEST(read_recursion_is_found),
	TEST(release_must_match),
	TEST(asserts_know_what_is_held),
	TEST(held_on_return_is_found),
	TEST(pseudo_lock_shows_the_deadlock),
	TEST(pseudo_lock_sections_nest_shared),
	TEST(srcu_wait_under_a_readers_lock_is_found),
	TEST(sleeping_where_one_must_not_is_found),
	TEST(many_of_a_class_under_one_lock),
	TEST_END,
};

#else

static void lock_checker(void)
{
	test_skip("the lock checker is in checking builds only");
}

const struct test_case lib_check_tests[] = { TEST(lock_checker), TEST_END };

#endif
