/* SPDX-License-Identifier: MIT */
/* Tests of the trace rings. */
#include <stdio.h>
#include <string.h>

#include "lib/atomic.h"
#include "lib/lock.h"
#include "lib/thread.h"
#include "lib/trace.h"
#include "tests/lib_suites.h"

#define TEST_EVENTS(X)                                                                                                 \
	X(pair, "a %llu b %llu")                                                                                       \
	X(four, "%#llx %#llx %llu %llu")                                                                               \
	X(none, "nothing")

enum test_event {
#define TRACE_ENUM(name, format) TEST_TRACE_##name,
	TEST_EVENTS(TRACE_ENUM)
#undef TRACE_ENUM
};

static const struct trace_event_desc events[] = {
#define TRACE_DESC(name, format) { #name, format },
	TEST_EVENTS(TRACE_DESC)
#undef TRACE_DESC
};

static const struct trace_room test_trace = { "test", events, ARRAY_SIZE(events) };

static struct {
	unsigned int lines, pairs, torn, unordered, mine;
	u64 last[2]; /* a of the last pair, per writer */
	char text[512];
} dump;

static void count_line(const char *text, void *arg)
{
	unsigned long long a, b;
	const char *found = strstr(text, "test:pair");

	dump.lines++;
	snprintf(dump.text, sizeof(dump.text), "%s", text);
	dump.mine += !!strstr(text, arg ? (const char *)arg : "main");
	if (!found || sscanf(found, "test:pair a %llu b %llu", &a, &b) != 2)
		return;
	dump.pairs++;
	dump.torn += b != a * 3;
	dump.unordered += a < dump.last[a & 1];
	dump.last[a & 1] = a;
}

static void dump_now(unsigned int last, const char *name)
{
	memset(&dump, 0, sizeof(dump));
	trace_dump(last, count_line, (void *)name);
}

static void off_evaluates_nothing(void)
{
	int evaluated = 0;

	trace_reset();
	trace_set(false);
	trace(&test_trace, TEST_TRACE_pair, evaluated++, 0, 0, 0);
	CHECK_EQ(evaluated, 0);
	trace_set(true);
	trace(&test_trace, TEST_TRACE_pair, evaluated++, 0, 0, 0);
	CHECK_EQ(evaluated, 1);
	dump_now(0, NULL);
	CHECK_EQ(dump.lines, 1);
}

static void records_are_formatted(void)
{
	trace_reset();
	trace_set(true);
	trace(&test_trace, TEST_TRACE_four, 0x1000, ~0ull, 3, 4);
	dump_now(0, NULL);
	CHECK_EQ(dump.lines, 1);
	CHECK_CONTAINS(dump.text, "us  main ");
	CHECK_CONTAINS(dump.text, "test:four");
	CHECK_CONTAINS(dump.text, "0x1000 0xffffffffffffffff 3 4");
	trace(&test_trace, TEST_TRACE_none, &dump, 0, 0, 0);
	dump_now(0, NULL);
	CHECK_EQ(dump.lines, 2);
	CHECK_CONTAINS(dump.text, "-0.000 us");
	CHECK_CONTAINS(dump.text, "nothing");
}

static void old_records_are_overwritten(void)
{
	trace_reset();
	trace_set(true);
	for (u64 i = 0; i < TRACE_RING_RECORDS + 10; i++)
		trace(&test_trace, TEST_TRACE_pair, 2 * i, 6 * i, 0, 0);
	dump_now(0, NULL);
	/* The oldest slot is the one to be written next: it does not count as whole. */
	CHECK_GE(dump.lines, TRACE_RING_RECORDS - 1);
	CHECK_LE(dump.lines, TRACE_RING_RECORDS);
	CHECK_EQ(dump.torn, 0);
	CHECK_EQ(dump.unordered, 0);
	CHECK_EQ(dump.last[0], 2 * (TRACE_RING_RECORDS + 9));
	dump_now(5, NULL);
	CHECK_EQ(dump.lines, 5);
}

static struct completion written;
static u32 stop;

static void writer(void *arg)
{
	u64 which = (uintptr_t)arg;

	for (u64 i = 0; !READ_ONCE(stop); i++) {
		trace(&test_trace, TEST_TRACE_pair, 2 * i + which, (2 * i + which) * 3, 0, 0);
		if (i == 2 * TRACE_RING_RECORDS)
			complete(&written);
	}
}

static void dumping_while_others_write(void)
{
	struct thread threads[2];

	trace_reset();
	trace_set(true);
	stop = 0;
	init_completion(&written);
	for (uintptr_t i = 0; i < 2; i++)
		REQUIRE_EQ(thread_create(&threads[i], "writer", -1, writer, (void *)i), 0);
	for (int i = 0; i < 2; i++)
		wait_for_completion(&written);
	for (int i = 0; i < 20; i++) {
		dump_now(i & 1 ? 0 : 500, "writer");
		CHECK_EQ(dump.torn, 0);
		CHECK_EQ(dump.unordered, 0);
		CHECK_EQ(dump.pairs, dump.lines);
	}
	/* Both write on: the dump got some of their records before they were overwritten. */
	WRITE_ONCE(stop, 1);
	for (int i = 0; i < 2; i++)
		thread_join(&threads[i]);
	dump_now(100, "writer");
	CHECK_GT(dump.mine, 100);
	CHECK(dump.last[0] && dump.last[1]);
}

static void name_thread(void *arg)
{
	trace(&test_trace, TEST_TRACE_none, 0, 0, 0, 0);
}

/* Two threads after each other have one id and one ring; each record keeps its writer's name. */
static void records_keep_the_name_of_their_thread(void)
{
	struct thread thread;

	trace_reset();
	trace_set(true);
	REQUIRE_EQ(thread_create(&thread, "first", -1, name_thread, NULL), 0);
	thread_join(&thread);
	REQUIRE_EQ(thread_create(&thread, "second, long", -1, name_thread, NULL), 0);
	thread_join(&thread);
	dump_now(0, "first");
	CHECK_EQ(dump.lines, 2);
	CHECK_EQ(dump.mine, 1);
	CHECK_CONTAINS(dump.text, "second, ");
}

const struct test_case lib_trace_tests[] = {
	TEST(off_evaluates_nothing),
	TEST(records_are_formatted),
	TEST(old_records_are_overwritten),
	TEST(dumping_while_others_write),
	TEST(records_keep_the_name_of_their_thread),
	TEST_END,
};
