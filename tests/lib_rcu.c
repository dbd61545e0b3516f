/* SPDX-License-Identifier: MIT */
/* Tests of RCU: grace periods, callbacks, and no reader ever in freed memory. */
#include "lib/alloc.h"
#include "lib/atomic.h"
#include "lib/grace.h"
#include "lib/lock.h"
#include "lib/rcu.h"
#include "lib/thread.h"
#include "tests/lib_suites.h"

#define ALIVE 0x616c697665ull
#define DEAD 0x64656164ull
#define READERS 3

struct object {
	struct rcu_head rcu;
	u64 state; /* ALIVE until a grace period after it was replaced */
};

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
	while (!READ_ONCE(stop)) {
		rcu_read_lock();
		rcu_read_lock();
		rcu_read_unlock();
		for (int i = 0; i < 10; i++) {
			struct object *object = rcu_dereference(current);

			if (i & 1)
				thread_yield();
			if (READ_ONCE(object->state) != ALIVE)
				fetch_add(&bad, 1);
		}
		rcu_read_unlock();
	}
}

/* Half of the replaced objects go by callback, half after a wait. */
static void readers_never_see_freed_memory(void)
{
	struct thread threads[READERS];
	u32 rounds = TEST_SCALE(2000);

	stop = bad = freed = 0;
	rcu_assign_pointer(current, object_new());
	for (int i = 0; i < READERS; i++)
		REQUIRE_EQ(thread_create(&threads[i], "reader", -1, reader, NULL), 0);
	for (u32 i = 0; i < rounds; i++) {
		struct object *old = current;

		rcu_assign_pointer(current, object_new());
		if (i % 8) {
			call_rcu(&old->rcu, object_free);
		} else {
			synchronize_rcu();
			object_free(&old->rcu);
		}
	}
	WRITE_ONCE(stop, 1);
	for (int i = 0; i < READERS; i++)
		thread_join(&threads[i]);
	rcu_barrier();
	CHECK_EQ(bad, 0);
	CHECK_EQ(freed, rounds);
	mem_free(current);
	current = NULL;
}

static struct completion entered;
static u32 waited, waited_too_early;

static void long_reader(void *arg)
{
	rcu_read_lock();
	complete(&entered);
	while (!READ_ONCE(stop))
		thread_yield();
	/* The updater has been waiting since before `stop`. */
	for (int i = 0; i < 100; i++)
		thread_yield();
	waited_too_early = smp_load_acquire(&waited);
	rcu_read_unlock();
}

static void synchronize_waits_for_the_reader(void)
{
	struct thread thread;

	stop = waited = waited_too_early = 0;
	init_completion(&entered);
	REQUIRE_EQ(thread_create(&thread, "reader", -1, long_reader, NULL), 0);
	wait_for_completion(&entered);
	WRITE_ONCE(stop, 1);
	synchronize_rcu();
	smp_store_release(&waited, 1);
	thread_join(&thread);
	CHECK_EQ(waited_too_early, 0);
}

struct ordered {
	struct rcu_head rcu;
	u32 nr;
};

static u32 next_nr, out_of_order;

static void ordered_fn(struct rcu_head *head)
{
	struct ordered *ordered = container_of(head, struct ordered, rcu);

	if (ordered->nr != next_nr++)
		out_of_order++;
}

static void barrier_waits_for_all_callbacks_in_order(void)
{
	static struct ordered ordered[500];

	next_nr = out_of_order = 0;
	for (u32 i = 0; i < ARRAY_SIZE(ordered); i++) {
		ordered[i].nr = i;
		call_rcu(&ordered[i].rcu, ordered_fn);
	}
	rcu_barrier();
	CHECK_EQ(next_nr, ARRAY_SIZE(ordered));
	CHECK_EQ(out_of_order, 0);
	rcu_barrier();
}

static u32 chain;

static void chain_fn(struct rcu_head *head)
{
	if (++chain < 5)
		call_rcu(head, chain_fn);
}

static void callback_may_queue_itself_again(void)
{
	static struct rcu_head head;

	chain = 0;
	call_rcu(&head, chain_fn);
	for (int i = 0; i < 5; i++)
		rcu_barrier();
	CHECK_EQ(chain, 5);
}

static void held_is_exact(void)
{
	CHECK(!rcu_read_lock_held());
	rcu_read_lock();
	rcu_read_lock();
	CHECK(rcu_read_lock_held());
	rcu_read_unlock();
	CHECK(rcu_read_lock_held());
	rcu_read_unlock();
	CHECK(!rcu_read_lock_held());
	synchronize_rcu();
}

static struct completion let_go;
static u32 runner; /* of the last callback */

static void waiter(void *arg)
{
	wait_for_completion(&let_go);
}

static void note_runner(struct rcu_head *head)
{
	runner = thread_id() + 1;
}

static void no_readers(struct grace_domain *domain)
{
}

/* As many threads as there can be: the worker's is one too many, until they have gone. */
static void callbacks_run_without_a_thread(void)
{
	static struct grace_worker worker = GRACE_WORKER_INIT(worker, "test");
	static struct thread threads[THREAD_MAX];
	static DEFINE_LOCK_CLASS(around_class, "test around a barrier");
	static struct mutex around = MUTEX_INIT(&around_class);
	struct rcu_head first, second, third;
	struct grace_domain domain, other;
	int nr = 0;

	init_completion(&let_go);
	grace_domain_init(&domain, &worker, no_readers);
	grace_domain_init(&other, &worker, no_readers);
	while (nr < (int)THREAD_MAX && !thread_create(&threads[nr], "waiter", -1, waiter, NULL))
		nr++;
	CHECK(nr < (int)THREAD_MAX);
	runner = 0;
	grace_call(&domain, &first, note_runner);
	CHECK_EQ(runner, 0);
	CHECK(!grace_idle(&domain));
	grace_call(&domain, &second, note_runner);
	grace_call(&other, &third, note_runner);
	mutex_lock(&around); /* as one who needs memory holds locks */
	grace_barrier(&domain);
	mutex_unlock(&around);
	CHECK(grace_idle(&domain));
	CHECK_EQ(runner, thread_id() + 1);
	CHECK(!grace_idle(&other)); /* nobody waits for that yet */
	complete_all(&let_go);
	while (nr)
		thread_join(&threads[--nr]);
	grace_barrier(&other);
	CHECK(grace_idle(&other));
	CHECK(runner != thread_id() + 1);
}

const struct test_case lib_rcu_tests[] = {
	TEST(held_is_exact),
	TEST(synchronize_waits_for_the_reader),
	TEST(barrier_waits_for_all_callbacks_in_order),
	TEST(callback_may_queue_itself_again),
	TEST(callbacks_run_without_a_thread),
	TEST(readers_never_see_freed_memory),
	TEST_END,
};
