/* SPDX-License-Identifier: MIT */
/* Tests of completions and wait queues. */
#include "lib/lock.h"
#include "lib/thread.h"
#include "lib/time.h"
#include "tests/lib_suites.h"

static struct completion done;
static struct wait_queue queue;
static u32 turn, woken;

static void completion_counts(void)
{
	init_completion(&done);
	CHECK(!wait_for_completion_timeout(&done, 0));
	complete(&done);
	complete(&done);
	CHECK(wait_for_completion_timeout(&done, 0));
	wait_for_completion(&done);
	CHECK(!wait_for_completion_timeout(&done, NSEC_PER_MSEC));
	complete_all(&done);
	for (int i = 0; i < 5; i++)
		wait_for_completion(&done);
	complete(&done);
	CHECK(wait_for_completion_timeout(&done, 0));
	init_completion(&done);
	CHECK(!wait_for_completion_timeout(&done, 0));
}

static void wait_thread(void *arg)
{
	if (arg)
		wait_for_completion(&done);
	else
		CHECK(wait_for_completion_timeout(&done, 400 * NSEC_PER_SEC));
	fetch_add(&woken, 1);
}

static void completion_wakes(void)
{
	struct thread threads[4];

	for (int all = 0; all < 2; all++) {
		init_completion(&done);
		woken = 0;
		for (uintptr_t i = 0; i < 4; i++)
			REQUIRE_EQ(thread_create(&threads[i], "wait", -1, wait_thread, (void *)(i & 1)), 0);
		if (all)
			complete_all(&done);
		for (int i = 0; i < 4 && !all; i++)
			complete(&done);
		for (int i = 0; i < 4; i++)
			thread_join(&threads[i]);
		CHECK_EQ(woken, 4);
	}
	CHECK(wait_for_completion_timeout(&done, 0));
}

struct handover {
	struct completion done;
	u64 value;
};

static void complete_thread(void *arg)
{
	struct handover *handover = arg;

	handover->value = 7;
	complete(&handover->done);
	/* From here on it belongs to the waiter. */
}

/* The waiter frees the completion at once: complete() must not touch it after it counts. */
static void completion_on_the_stack(void)
{
	for (u32 i = 0; i < TEST_SCALE(500); i++) {
		struct handover handover = { .value = 0 };
		struct thread thread;

		init_completion(&handover.done);
		REQUIRE_EQ(thread_create(&thread, "complete", -1, complete_thread, &handover), 0);
		wait_for_completion(&handover.done);
		CHECK_EQ(handover.value, 7);
		handover.value = 0;
		thread_join(&thread);
	}
}

#define ROUNDS TEST_SCALE(10000u)

static void pong_thread(void *arg)
{
	for (u32 i = 0; i < ROUNDS; i++) {
		wait_event(&queue, smp_load_acquire(&turn) == 2 * i + 1);
		smp_store_release(&turn, 2 * i + 2);
		wake_up_all(&queue);
	}
}

static void wait_event_loses_no_wake_up(void)
{
	struct thread thread;

	init_waitqueue(&queue);
	turn = 0;
	REQUIRE_EQ(thread_create(&thread, "pong", -1, pong_thread, NULL), 0);
	for (u32 i = 0; i < ROUNDS; i++) {
		smp_store_release(&turn, 2 * i + 1);
		wake_up_all(&queue);
		wait_event(&queue, smp_load_acquire(&turn) == 2 * i + 2);
	}
	thread_join(&thread);
	CHECK_EQ(turn, 2 * ROUNDS);
	CHECK_EQ(queue.waiters, 0);
}

static void wait_event_timeout_tells(void)
{
	u64 start = clock_ns();
	u32 evaluated = 0;

	init_waitqueue(&queue);
	turn = 0;
	CHECK(!wait_event_timeout(&queue, READ_ONCE(turn) == 1, 2 * NSEC_PER_MSEC));
	CHECK_GE(clock_ns() - start, 2 * NSEC_PER_MSEC);
	CHECK(!wait_event_timeout(&queue, (evaluated++, false), 0));
	CHECK_GT(evaluated, 0);
	turn = 1;
	CHECK(wait_event_timeout(&queue, READ_ONCE(turn) == 1, 0));
	CHECK(wait_event_timeout(&queue, READ_ONCE(turn) == 1, WAIT_FOREVER));
	CHECK_EQ(queue.waiters, 0);
}

static void timeout_thread(void *arg)
{
	if (wait_event_timeout(&queue, smp_load_acquire(&turn), 400 * NSEC_PER_SEC))
		fetch_add(&woken, 1);
}

static void one_wake_up_reaches_all(void)
{
	struct thread threads[4];

	init_waitqueue(&queue);
	turn = woken = 0;
	for (int i = 0; i < 4; i++)
		REQUIRE_EQ(thread_create(&threads[i], "wait", -1, timeout_thread, NULL), 0);
	while (READ_ONCE(queue.waiters) != 4)
		thread_yield();
	wake_up_all(&queue); /* the condition is false still: nobody returns */
	CHECK_EQ(READ_ONCE(woken), 0);
	smp_store_release(&turn, 1);
	wake_up_all(&queue);
	for (int i = 0; i < 4; i++)
		thread_join(&threads[i]);
	CHECK_EQ(woken, 4);
}

const struct test_case lib_wait_tests[] = {
	TEST(completion_counts),
	TEST(completion_wakes),
	TEST(completion_on_the_stack),
	TEST(wait_event_loses_no_wake_up),
	TEST(wait_event_timeout_tells),
	TEST(one_wake_up_reaches_all),
	TEST_END,
};
