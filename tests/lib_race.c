/* SPDX-License-Identifier: MIT */
/* Tests of race points: gates hold exactly who they should; delays change nothing but time. */
#include "lib/atomic.h"
#include "lib/lock.h"
#include "lib/race.h"
#include "lib/thread.h"
#include "tests/lib_suites.h"

#if CHECKING

static u32 passed, shared;

static void pass_thread(void *arg)
{
	for (uintptr_t i = 0; i < (uintptr_t)arg; i++) {
		race_point("test:pass");
		fetch_add(&passed, 1);
	}
}

static void unarmed_points_hold_nobody(void)
{
	passed = 0;
	CHECK_EQ(race_active, 0);
	pass_thread((void *)3);
	CHECK_EQ(passed, 3);
}

static void gate_holds_the_nth_passage(void)
{
	struct race_gate gate;
	struct thread thread;

	passed = 0;
	race_arm(&gate, "test:pass", 3);
	REQUIRE_EQ(thread_create(&thread, "pass", -1, pass_thread, (void *)5), 0);
	race_wait(&gate);
	CHECK(race_held(&gate));
	CHECK_EQ(READ_ONCE(passed), 2);
	race_release(&gate);
	thread_join(&thread);
	CHECK(!race_held(&gate));
	CHECK_EQ(passed, 5);
	race_disarm(&gate);
	CHECK_EQ(race_active, 0);
}

static void other_points_are_not_held(void)
{
	struct race_gate gate;

	passed = 0;
	race_arm(&gate, "test:other", 1);
	pass_thread((void *)2);
	CHECK_EQ(passed, 2);
	CHECK_EQ(gate.hits, 0);
	race_disarm(&gate);
}

static void disarming_lets_go(void)
{
	struct thread thread;

	passed = 0;
	for (u32 i = 1; i <= TEST_SCALE(200u); i++) {
		struct race_gate gate; /* on the stack: the thread must not touch it after race_disarm() */

		race_arm(&gate, "test:pass", 1);
		REQUIRE_EQ(thread_create(&thread, "pass", -1, pass_thread, (void *)1), 0);
		if (i & 1)
			race_wait(&gate);
		race_disarm(&gate);
		thread_join(&thread);
		CHECK_EQ(passed, i);
	}
}

static void released_before_anyone_came(void)
{
	struct race_gate gate;

	passed = 0;
	race_arm(&gate, "test:pass", 1);
	race_release(&gate);
	pass_thread((void *)2);
	CHECK_EQ(passed, 2);
	race_disarm(&gate);
}

/* The use they are made for: force the one interleaving in which an increment is lost. */
static void increment_thread(void *arg)
{
	u32 value = READ_ONCE(shared);

	race_point("test:increment");
	WRITE_ONCE(shared, value + 1);
}

static void gates_force_a_lost_update(void)
{
	struct race_gate first, second;
	struct thread threads[2];

	shared = 0;
	race_arm(&first, "test:increment", 1);
	race_arm(&second, "test:increment", 2);
	for (int i = 0; i < 2; i++)
		REQUIRE_EQ(thread_create(&threads[i], "increment", -1, increment_thread, NULL), 0);
	race_wait(&first);
	race_wait(&second);
	race_release(&second);
	race_release(&first);
	for (int i = 0; i < 2; i++)
		thread_join(&threads[i]);
	race_disarm(&second);
	race_disarm(&first);
	CHECK_EQ(shared, 1);
}

static void delays_lose_nothing(void)
{
	struct thread threads[4];

	passed = 0;
	race_delays(99, 500);
	for (int i = 0; i < 4; i++)
		REQUIRE_EQ(thread_create(&threads[i], "pass", -1, pass_thread, (void *)100), 0);
	for (int i = 0; i < 4; i++)
		thread_join(&threads[i]);
	race_delays(0, 0);
	CHECK_EQ(passed, 400);
	CHECK_EQ(race_active, 0);
}

static void stretched(void *arg)
{
	race_point("test:window");
	smp_store_release(&passed, passed + 1);
}

/* It waits for the other side; and not for ever, if that waits for it. */
static void stretch_waits(void)
{
	struct thread thread;

	passed = 0;
	race_stretch("test:window", "test:other", 1000, 20000000);
	REQUIRE_EQ(thread_create(&thread, "stretched", -1, stretched, NULL), 0);
	while (!smp_load_acquire(&passed))
		race_point("test:other");
	thread_join(&thread);
	stretched(NULL); /* nobody passes */
	CHECK_EQ(passed, 2);
	race_stretch(NULL, NULL, 0, 0);
	CHECK_EQ(race_active, 0);
}

const struct test_case lib_race_tests[] = {
	TEST(stretch_waits),
	TEST(unarmed_points_hold_nobody),
	TEST(gate_holds_the_nth_passage),
	TEST(other_points_are_not_held),
	TEST(disarming_lets_go),
	TEST(released_before_anyone_came),
	TEST(gates_force_a_lost_update),
	TEST(delays_lose_nothing),
	TEST_END,
};

#else

static void race_points(void)
{
	race_point("test:nothing");
	test_skip("race points are in checking builds only");
}

const struct test_case lib_race_tests[] = { TEST(race_points), TEST_END };

#endif
