/* SPDX-License-Identifier: MIT */
/* bench outside: what is measured from outside a VM, and how a standstill is seen. */
#include <string.h>

#include "lab/bench/outside.h"
#include "lab/machine/stall.h"
#include "lab/machine/touch.h"
#include "lib/atomic.h"
#include "lib/time.h"
#include "tests/lab_suites.h"

#define STOOD_NS (5 * NSEC_PER_MSEC)

/* However late the watcher runs: it says no more than is true, and in the end what is. */
static void a_standstill_is_never_overstated(void)
{
	struct err err = { "" };
	u64 counter = 1, start, stood;
	struct stall s;

	start = clock_ns();
	REQUIRE_EQ(stall_watch(&s, &counter, &err), 0);
	while (READ_ONCE(s.longest_ns) < STOOD_NS) /* the watchdog is the limit */
		thread_sleep_ns(NSEC_PER_MSEC);
	WRITE_ONCE(counter, 2);
	stood = clock_ns() - start;
	for (u64 i = 3; i < 100; i++) {
		WRITE_ONCE(counter, i);
		thread_yield();
	}
	stall_end(&s);
	CHECK_GE(s.longest_ns, STOOD_NS);
	CHECK_LE(s.longest_ns, max(stood, clock_ns() - start - stood));
}

/* Until it is told something else, and then it says its longest gap. */
static void the_longest_gap_ends_with_the_next_command(void)
{
	struct machine_config c = { .engine = engine_find("soft"), .vcpus = 1, .bytes = 64 * PAGE_SIZE };
	struct guest_command until_told = { .pages = 1, .write = 1, .timed = GUEST_SAMPLE_LONGEST },
			     next = { .pages = 1 };
	struct err err = { "" };
	u64 start, gap, beat;
	struct touch t;

	REQUIRE_EQ(touch_start(&t, &c, NULL, &err), 0);
	start = clock_ns();
	touch_post(&t, &until_told);
	for (int i = 0; i < 3; i++) {
		beat = READ_ONCE(vm_guest_vcpu(t.machine.vm, 0)->heartbeat);
		CHECK_MSG(!touch_goes_on(&t, &err), "%s", err.text);
		CHECK_GT(READ_ONCE(vm_guest_vcpu(t.machine.vm, 0)->heartbeat), beat);
		CHECK(!touch_answered(&t));
	}
	CHECK_MSG(!touch_run(&t, &next, NULL, NULL, NULL, &err), "%s", err.text);
	gap = cycles_to_ns(READ_ONCE(vm_guest_vcpu(t.machine.vm, 0)->longest));
	CHECK_GT(gap, 0);
	CHECK_LE(gap, clock_ns() - start);
	CHECK_EQ(touch_end(&t, &err), 0);
}

static void names(void)
{
	struct err err = { "" };
	char name[64];
	u32 ops;

	CHECK_EQ(outside_parse_ops("punch,migrate", &ops, &err), 0);
	CHECK_EQ(ops, BIT(OUTSIDE_PUNCH) | BIT(OUTSIDE_MIGRATE));
	CHECK_EQ(outside_parse_ops("all", &ops, &err), 0);
	CHECK_EQ(ops, OUTSIDE_OPS_ALL);
	CHECK_EQ(outside_parse_ops("pnuch", &ops, &err), -EINVAL);
	CHECK_CONTAINS(err.text, "did you mean 'punch'?");
	CHECK(outside_time_name(name, sizeof(name), OUTSIDE_SUSPEND, OUTSIDE_BACK));
	CHECK_STR(name, "call_resume");
	CHECK(outside_time_name(name, sizeof(name), OUTSIDE_MIGRATE, OUTSIDE_DOWNTIME));
	CHECK_STR(name, "qemu_downtime_migrate");
	CHECK(!outside_time_name(name, sizeof(name), OUTSIDE_PUNCH, OUTSIDE_BACK));
	CHECK(!outside_time_name(name, sizeof(name), OUTSIDE_PUNCH, OUTSIDE_DOWNTIME));
	CHECK(!outside_time_name(name, sizeof(name), OUTSIDE_NONE, OUTSIDE_CALL));
}

static struct bench_outside_result result;

static bool run(const char *accel, u32 ops)
{
	struct bench_outside_config c = {
		.machine = { .engine = engine_find("qemu"), .vcpus = 1, .bytes = 1 << 20, .backing = HOST_MEMFD },
		.ops = ops,
		.passes = 1,
	};
	struct err err = { "" };
	int ret;

	qemu_config.accel = accel;
	qemu_config.machine = "microvm";
	if (c.machine.engine->probe(&err)) {
		test_skip("%s", err.text);
		return false;
	}
	ret = bench_outside_run(&c, &result, &err);
	CHECK_MSG(!ret, "%s", err.text);
	CHECK(result.ran);
	return true;
}

/* Each time that the operation has was measured as often as it was done. @suspended: QEMU knows of no downtime. */
static void check_op(enum outside_op op, bool suspended)
{
	const struct outside_op_info *info = &outside_op_table[op];
	const struct outside_row *row = result.row[op];

	CHECK_MSG(!result.skip[op][0], "%s: %s", info->name, result.skip[op]);
	for (int time = 0; time < OUTSIDE_TIME_NR; time++) {
		char name[64];
		bool has = outside_time_name(name, sizeof(name), op, time) && !(time == OUTSIDE_DOWNTIME && suspended);
		u64 count = hist_count(&row[time].ns);

		if (!has)
			CHECK_EQ(count, 0);
		else if (time == OUTSIDE_AFTER)
			CHECK_MSG(count == 256 / 8 - 1, "%s: %llu", name, (unsigned long long)count);
		else
			CHECK_MSG(count == info->times, "%s: %llu", name, (unsigned long long)count);
		CHECK_EQ(row[time].blocks.nr, has);
	}
}

static void tcg(void)
{
	static const enum outside_op can[] = { OUTSIDE_NONE,	OUTSIDE_PUNCH,	OUTSIDE_REMOVE,	 OUTSIDE_COLD,
					       OUTSIDE_STATUS,	OUTSIDE_STATS,	OUTSIDE_SUSPEND, OUTSIDE_BALLOON,
					       OUTSIDE_MIGRATE, OUTSIDE_RESTORE };
	u32 ops = BIT(OUTSIDE_PLUG);

	for (size_t i = 0; i < ARRAY_SIZE(can); i++)
		ops |= BIT(can[i]);
	if (!run("tcg", ops))
		return;
	for (size_t i = 0; i < ARRAY_SIZE(can); i++)
		check_op(can[i], true);
	CHECK_CONTAINS(result.skip[OUTSIDE_PLUG], "microvm has no memory slots");
	/* the process that had it ended, or it was suspended: it cannot have gone on meanwhile */
	CHECK_GT(hist_min(&result.row[OUTSIDE_RESTORE][OUTSIDE_STALL].ns), 0);
	CHECK_GT(hist_min(&result.row[OUTSIDE_MIGRATE][OUTSIDE_STALL].ns), 0);
	bench_outside_destroy(&result);
}

static void a_migration_stops_the_guest_for_a_while(void)
{
	struct err why = { "" };

	if (!test_prove_or_skip())
		return;
	if (engine_find("kvm")->probe(&why)) {
		test_skip("%s", why.text);
		return;
	}
	if (!run("kvm", BIT(OUTSIDE_MIGRATE)))
		return;
	check_op(OUTSIDE_MIGRATE, false);
	CHECK_GT(hist_min(&result.row[OUTSIDE_MIGRATE][OUTSIDE_STALL].ns), 0);
	CHECK_LE(hist_max(&result.row[OUTSIDE_MIGRATE][OUTSIDE_STALL].ns), result.elapsed_ns);
	bench_outside_destroy(&result);
}

static void other_engines_are_refused(void)
{
	struct bench_outside_config c = { .machine = { .engine = engine_find("soft"), .vcpus = 1, .bytes = 1 << 20 },
					  .passes = 1 };
	struct err err = { "" };

	CHECK_EQ(bench_outside_run(&c, &result, &err), -EINVAL);
	CHECK_CONTAINS(err.text, "engine soft: its guest's memory is this process's");
	c.machine.engine = engine_find("qemu");
	c.machine.vcpus = 2;
	CHECK_EQ(bench_outside_run(&c, &result, &err), -EINVAL);
	bench_outside_destroy(&result);
}

const struct test_case lab_bench_outside_tests[] = {
	TEST(a_standstill_is_never_overstated),
	TEST(the_longest_gap_ends_with_the_next_command),
	TEST(names),
	TEST(tcg),
	TEST(a_migration_stops_the_guest_for_a_while),
	TEST(other_engines_are_refused),
	TEST_END,
};
