/* SPDX-License-Identifier: MIT */
/* Tests of SRCU: sleeping readers, independent domains, callbacks, reuse of thread ids. */
#include <stdio.h>

#include "lib/alloc.h"
#include "lib/atomic.h"
#include "lib/lock.h"
#include "lib/race.h"
#include "lib/rng.h"
#include "lib/srcu.h"
#include "lib/thread.h"
#include "tests/lib_suites.h"

#define ALIVE 0x616c697665ull
#define DEAD 0x64656164ull
#define READERS 3

struct object {
	struct rcu_head rcu;
	u64 state;
};

static struct srcu_struct ss;
static struct object *current;
static u32 stop, bad, freed;

static struct object *object_new(void)
{
	struct object *object = mem_zalloc(sizeof(*object));

	if (!object)
		BUG("no memory for the test");
	WRITE_ONCE(object->state, ALIVE);
	return object;
}

static void object_free(struct rcu_head *head)
{
	struct object *object = container_of(head, struct object, rcu);

	WRITE_ONCE(object->state, DEAD);
	fetch_add(&freed, 1);
	mem_free(object);
}

static void reader(void *arg)
{
	struct rng rng;

	rng_seed(&rng, (uintptr_t)arg);
	while (!READ_ONCE(stop)) {
		int idx = srcu_read_lock(&ss), inner;
		struct object *object = srcu_dereference(current, &ss);

		switch (rng_below(&rng, 8)) {
		case 0:
			thread_sleep_ns(rng_below(&rng, 100000));
			break;
		case 1:
			thread_yield();
			break;
		case 2:
			inner = srcu_read_lock(&ss);
			if (READ_ONCE(srcu_dereference(current, &ss)->state) != ALIVE)
				fetch_add(&bad, 1);
			srcu_read_unlock(&ss, inner);
			break;
		}
		if (READ_ONCE(object->state) != ALIVE)
			fetch_add(&bad, 1);
		srcu_read_unlock(&ss, idx);
	}
}

static void replace(u32 i)
{
	struct object *new = object_new(), *old = xchg(&current, new);

	if (i % 4) {
		call_srcu(&ss, &old->rcu, object_free);
	} else {
		synchronize_srcu(&ss);
		object_free(&old->rcu);
	}
}

static u32 rounds;

static void updater(void *arg)
{
	for (u32 i = 0; i < rounds; i++)
		replace(i);
}

static void readers_never_see_freed_memory(void)
{
	struct thread readers[READERS], updaters[2];

	stop = bad = freed = 0;
	rounds = TEST_SCALE(1000);
	REQUIRE_EQ(init_srcu_struct(&ss), 0);
	current = object_new();
	for (int i = 0; i < READERS; i++)
		REQUIRE_EQ(thread_create(&readers[i], "reader", -1, reader, (void *)(uintptr_t)i), 0);
	for (int i = 0; i < 2; i++)
		REQUIRE_EQ(thread_create(&updaters[i], "updater", -1, updater, NULL), 0);
	for (int i = 0; i < 2; i++)
		thread_join(&updaters[i]);
	WRITE_ONCE(stop, 1);
	for (int i = 0; i < READERS; i++)
		thread_join(&readers[i]);
	srcu_barrier(&ss);
	CHECK_EQ(bad, 0);
	CHECK_EQ(freed, 2 * rounds);
	mem_free(current);
	cleanup_srcu_struct(&ss);
}

static struct completion entered;
static u32 waited, waited_too_early;

static void long_reader(void *arg)
{
	int idx = srcu_read_lock(&ss);

	complete(&entered);
	while (!READ_ONCE(stop))
		thread_sleep_ns(1000);
	for (int i = 0; i < 100; i++)
		thread_yield();
	waited_too_early = smp_load_acquire(&waited);
	srcu_read_unlock(&ss, idx);
}

static void synchronize_waits_for_a_sleeping_reader(void)
{
	struct thread thread;

	REQUIRE_EQ(init_srcu_struct(&ss), 0);
	for (int round = 0; round < 4; round++) { /* both indexes */
		stop = waited = waited_too_early = 0;
		init_completion(&entered);
		REQUIRE_EQ(thread_create(&thread, "reader", -1, long_reader, NULL), 0);
		wait_for_completion(&entered);
		WRITE_ONCE(stop, 1);
		synchronize_srcu(&ss);
		smp_store_release(&waited, 1);
		thread_join(&thread);
		CHECK_EQ(waited_too_early, 0);
	}
	cleanup_srcu_struct(&ss);
}

static void domains_are_independent(void)
{
	struct srcu_struct other;
	int idx;

	REQUIRE_EQ(init_srcu_struct(&ss), 0);
	REQUIRE_EQ(init_srcu_struct(&other), 0);
	idx = srcu_read_lock(&ss);
	synchronize_srcu(&other); /* would hang here if they were one */
	srcu_read_unlock(&ss, idx);
	cleanup_srcu_struct(&other);
	cleanup_srcu_struct(&ss);
}

static void callback_fn(struct rcu_head *head)
{
	fetch_add(&freed, 1);
}

static void call_is_not_early_and_barrier_waits(void)
{
	static struct rcu_head heads[100];
	int idx;

	freed = 0;
	REQUIRE_EQ(init_srcu_struct(&ss), 0);
	idx = srcu_read_lock(&ss);
	call_srcu(&ss, &heads[0], callback_fn);
	for (int i = 0; i < 200; i++)
		thread_yield();
	CHECK_EQ(READ_ONCE(freed), 0);
	srcu_read_unlock(&ss, idx);
	for (size_t i = 1; i < ARRAY_SIZE(heads); i++)
		call_srcu(&ss, &heads[i], callback_fn);
	srcu_barrier(&ss);
	CHECK_EQ(freed, ARRAY_SIZE(heads));
	srcu_barrier(&ss);
	cleanup_srcu_struct(&ss);
}

static void short_reader(void *arg)
{
	srcu_read_unlock(&ss, srcu_read_lock(&ss));
}

/* Counts stay in the slot when its thread is gone; the next owner goes on from them. */
static void thread_ids_come_and_go(void)
{
	struct thread threads[4];

	REQUIRE_EQ(init_srcu_struct(&ss), 0);
	for (int i = 0; i < 20; i++) {
		for (int j = 0; j < 4; j++)
			REQUIRE_EQ(thread_create(&threads[j], "short", -1, short_reader, NULL), 0);
		synchronize_srcu(&ss);
		for (int j = 0; j < 4; j++)
			thread_join(&threads[j]);
		synchronize_srcu(&ss);
	}
	cleanup_srcu_struct(&ss);
}

#if CHECKING
static void straggler(void *arg)
{
	int idx = srcu_read_lock(&ss);
	struct object *object = srcu_dereference(current, &ss);

	complete(&entered);
	while (!READ_ONCE(stop))
		thread_sleep_ns(1000);
	for (int i = 0; i < 200; i++)
		thread_yield();
	if (READ_ONCE(object->state) != ALIVE)
		fetch_add(&bad, 1);
	srcu_read_unlock(&ss, idx);
}

/* The timeline above synchronize_srcu_site(). */
static void srcu_straggler(void)
{
	struct race_gate gate;
	struct object *first;
	struct thread thread;

	stop = bad = 0;
	init_completion(&entered);
	REQUIRE_EQ(init_srcu_struct(&ss), 0);
	first = current = object_new();
	race_arm(&gate, "srcu_read_lock:sampled", 1);
	REQUIRE_EQ(thread_create(&thread, "straggler", -1, straggler, NULL), 0);
	race_wait(&gate);
	synchronize_srcu(&ss);
	race_release(&gate);
	wait_for_completion(&entered);
	rcu_assign_pointer(current, object_new());
	WRITE_ONCE(stop, 1);
	synchronize_srcu(&ss);
	WRITE_ONCE(first->state, DEAD);
	thread_join(&thread);
	race_disarm(&gate);
	CHECK_EQ(bad, 0);
	mem_free(first);
	mem_free(current);
	cleanup_srcu_struct(&ss);
}
#else
static void srcu_straggler(void)
{
	test_skip("race points are in checking builds only");
}
#endif

static void init_may_fail(void)
{
#if CHECKING
	struct srcu_struct none = { 0 };

	mem_fail_after(1);
	CHECK_EQ(init_srcu_struct(&none), -ENOMEM);
	cleanup_srcu_struct(&none);
#else
	test_skip("allocation failures are in checking builds only");
#endif
}

static void end_in_readers(void *arg)
{
	struct srcu_struct *domains = arg;

	CHECK_GE(srcu_read_lock(&domains[0]), 0);
	CHECK_GE(srcu_read_lock(&domains[1]), 0);
	CHECK_GE(srcu_read_lock(&domains[1]), 0);
}

#if CHECKING
static char left[256];

static void keep_left(const char *text)
{
	snprintf(left, sizeof(left), "%s", text);
}
#endif

/* A reader that ends with its thread is reported where there is a checker, and waited for by nobody. */
static void thread_ends_in_a_reader(void)
{
	struct srcu_struct domains[2];
	struct thread thread;

	REQUIRE(!init_srcu_struct(&domains[0]) && !init_srcu_struct(&domains[1]));
#if CHECKING
	lockdep_set_report(keep_left);
#endif
	REQUIRE_EQ(thread_create(&thread, "ends", -1, end_in_readers, domains), 0);
	thread_join(&thread);
#if CHECKING
	lockdep_set_report(NULL);
	CHECK_CONTAINS(left, "srcu &domains[1]");
#endif
	for (int i = 0; i < 2; i++) {
		synchronize_srcu(&domains[i]);
		cleanup_srcu_struct(&domains[i]);
	}
}

const struct test_case lib_srcu_tests[] = {
	TEST(synchronize_waits_for_a_sleeping_reader),
	TEST(domains_are_independent),
	TEST(call_is_not_early_and_barrier_waits),
	TEST(thread_ids_come_and_go),
	TEST(srcu_straggler),
	TEST(init_may_fail),
	TEST(thread_ends_in_a_reader),
	TEST(readers_never_see_freed_memory),
	TEST_END,
};
