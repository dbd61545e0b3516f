/* SPDX-License-Identifier: MIT */
/* The watchdog: what counts as a stall, and what a busy machine is allowed to do. */
#include "lab/machine/watch.h"

#include <time.h>

#include "lib/atomic.h"
#include "lib/lock.h"
#include "lib/time.h"
#include "tests/lab_suites.h"

#define MS NSEC_PER_MSEC

struct at_each_look {
	bool runnable;
	u64 cpu_ns; /* got since the last look */
	u64 beat;   /* progress since the last look */
	bool idle;
};

/* Two threads, watched by somebody who looks every @look_ns, with a limit of a second. */
static const struct {
	const char *name;
	struct at_each_look one, two;
	u64 look_ns;
	u64 looks; /* until the first is reported; 0: never */
} cases[] = {
	{ "both work", { true, 100 * MS, 5, false }, { true, 100 * MS, 5, false }, 100 * MS, 0 },
	{ "one spins", { true, 100 * MS, 0, false }, { true, 100 * MS, 5, false }, 100 * MS, 11 },
	{ "one sleeps", { false, 0, 0, false }, { true, 100 * MS, 5, false }, 100 * MS, 11 },
	{ "one may sleep", { false, 0, 0, true }, { true, 100 * MS, 5, false }, 100 * MS, 0 },
	{ "one gets no processor", { true, 0, 0, false }, { true, 100 * MS, 5, false }, 100 * MS, 0 },
	{ "one waits for another without", { false, 0, 0, false }, { true, 0, 0, false }, 100 * MS, 0 },
	{ "one waits, another has a tenth", { false, 0, 0, false }, { true, 10 * MS, 5, false }, 100 * MS, 101 },
	{ "the watcher seldom runs", { false, 0, 0, false }, { false, 0, 5, false }, 10000 * MS, 6 },
};

static u64 looks_until_reported(const struct at_each_look *one, const struct at_each_look *two, u64 look_ns)
{
	struct watched look[2] = { 0 };
	const struct at_each_look *each[2] = { one, two };
	struct watch w;

	watch_init(&w, 2, NSEC_PER_SEC, 77);
	for (u64 n = 1; n <= 1000; n++) {
		u32 who;

		for (int i = 0; i < 2; i++) {
			look[i].beat += each[i]->beat;
			look[i].idle = each[i]->idle;
			look[i].usage.cpu_ns += each[i]->cpu_ns;
			look[i].usage.runnable = each[i]->runnable;
		}
		who = watch_look(&w, look, 77 + n * look_ns);
		if (who != WATCH_NOBODY) {
			CHECK_EQ(who, 0);
			return n;
		}
	}
	return 0;
}

static void a_stall_is_told_from_a_busy_machine(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		u64 looks = looks_until_reported(&cases[i].one, &cases[i].two, cases[i].look_ns);

		CHECK_MSG(looks == cases[i].looks, "%s: reported after %llu looks, expected %llu", cases[i].name,
			  (unsigned long long)looks, (unsigned long long)cases[i].looks);
	}
}

static struct completion let_go;
static u32 spin;

static u64 own_cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (u64)ts.tv_sec * NSEC_PER_SEC + (u64)ts.tv_nsec;
}

/*
 * A virtual machine's kernel takes the time stolen from a processor off the next
 * thread that runs there: one that went to sleep at once may never be charged any.
 */
static void sleeper(void *arg)
{
	while (!own_cpu_ns())
		cpu_relax();
	wait_for_completion(&let_go);
}

static void spinner(void *arg)
{
	while (READ_ONCE(spin))
		cpu_relax();
}

/* Until the kernel says what is true by now. */
static bool usage_becomes(const struct thread *t, bool runnable, u64 cpu_ns)
{
	struct thread_usage usage;

	for (int i = 0; i < 10000; i++) {
		thread_get_usage(t, &usage);
		if (usage.runnable == runnable && usage.cpu_ns >= cpu_ns)
			return true;
		thread_sleep_ns(NSEC_PER_MSEC);
	}
	return false;
}

static void usage_of_threads(void)
{
	struct thread asleep, busy;

	init_completion(&let_go);
	WRITE_ONCE(spin, 1);
	REQUIRE_EQ(thread_create(&asleep, "a (name) R", -1, sleeper, NULL), 0);
	REQUIRE_EQ(thread_create(&busy, "busy", -1, spinner, NULL), 0);
	CHECK(usage_becomes(&asleep, false, 1));
	CHECK(usage_becomes(&busy, true, 10 * MS));
	WRITE_ONCE(spin, 0);
	complete(&let_go);
	thread_join(&asleep);
	thread_join(&busy);
}

const struct test_case lab_watch_tests[] = {
	TEST(a_stall_is_told_from_a_busy_machine),
	TEST(usage_of_threads),
	TEST_END,
};
