/* SPDX-License-Identifier: MIT */
/* Whole runs: no operation makes the oracle complain, on soft and on kvm; every mutant does, on soft. */
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "lab/bench/bench.h"
#include "lab/stress/stress.h"
#include "lib/mutant.h"
#include "lib/race.h"
#include "lib/time.h"
#include "tests/lab_suites.h"

/* Host operations, not time, end these runs; the time is a limit that a slow machine may need. */
#define STEPS TEST_SCALE(200)
#define LIMIT_NS (400 * NSEC_PER_SEC)

static void config_small(struct stress_config *c, const char *engine, u32 ops)
{
	stress_config_init(c, engine_find(engine));
	c->machine.bytes = 1 << 20;
	c->machine.vcpus = 2;
	c->machine.seed = 1234;
	c->ops = ops;
	c->steps = STEPS;
	c->time_ns = LIMIT_NS;
	c->audit_every = 16;
}

static void expect_clean(const struct stress_config *c, struct stress_result *r, const char *what)
{
	struct err err = { "" };
	int ret = stress_run(c, r, &err);

	CHECK_MSG(!ret, "%s: %d %s", what, ret, err.text);
	CHECK_MSG(!r->log.total, "%s: %llu violations, the first: %s %s", what, (unsigned long long)r->log.total,
		  r->log.nr ? violation_name(r->log.record[0].kind) : "", r->log.nr ? r->log.record[0].text : "");
	CHECK(r->ran);
	CHECK_EQ(r->steps, c->steps);
	CHECK_GT(r->checked, 0);
	CHECK_GT(r->faults, 0);
	violation_log_destroy(&r->log);
}

static void each_operation_on(const char *engine, enum host_backing backing)
{
	struct stress_config c;
	struct stress_result r;

	for (int op = 0; op < PLAN_BASIC_NR && !test_failures(); op++) {
		config_small(&c, engine, BIT(op));
		c.machine.backing = backing;
		c.machine.vcpus = 1;
		expect_clean(&c, &r, plan_op_name(op));
		CHECK_EQ(r.host_ops[op], c.steps);
		CHECK_EQ(r.unsupported, 0);
	}
}

static void soft_each_operation(void)
{
	each_operation_on("soft", HOST_ANONYMOUS);
}

static void soft_all_operations(void)
{
	struct stress_config c;
	struct stress_result r;
	u64 sum = 0;

	config_small(&c, "soft", PLAN_OPS_BASIC);
	c.steps = TEST_SCALE(500);
	c.trace = true;
	expect_clean(&c, &r, "all");
	for (int op = 0; op < PLAN_BASIC_NR; op++)
		sum += r.host_ops[op];
	CHECK_EQ(sum, c.steps);
	CHECK_GT(r.audits, 0);
	CHECK_STR(r.id.engine, "soft");
}

/* The smallest: one page, one vCPU. */
static void soft_one_page(void)
{
	struct stress_config c;
	struct stress_result r;

	config_small(&c, "soft", PLAN_OPS_BASIC);
	c.machine.bytes = PAGE_SIZE;
	c.machine.vcpus = 1;
	expect_clean(&c, &r, "one page");
}

/* The time that rates are made of is that of the steps, however few; and what was checked was checked in it. */
static void a_short_run_has_its_time(const char *engine)
{
	const struct plan_step step = { .op = PLAN_DONTNEED, .pages = 1, .hold_ns = 20 * NSEC_PER_MSEC };
	struct stress_config c;
	struct stress_result r;
	struct err err = { "" };
	u64 start = clock_ns();

	config_small(&c, engine, PLAN_OPS_BASIC);
	c.list = &step;
	c.list_nr = 1;
	c.repeat = 2;
	CHECK_MSG(!stress_run(&c, &r, &err), "%s: %s", engine, err.text);
	CHECK_GE(r.elapsed_ns, 2 * step.hold_ns);
	CHECK_LE(r.elapsed_ns, clock_ns() - start);
	CHECK_EQ(r.host_ops[step.op], 2);
	violation_log_destroy(&r.log);
}

static void soft_short_run(void)
{
	a_short_run_has_its_time("soft");
}

static void kvm_short_run(void)
{
	if (have_kvm())
		a_short_run_has_its_time("kvm");
}

static void stop_when_started(const struct machine_identity *id, void *arg)
{
	u32 *stop = arg;

	WRITE_ONCE(*stop, 1);
}

static void stop_from_outside(void)
{
	struct stress_config c;
	struct stress_result r;
	struct err err = { "" };
	u32 stop = 0;

	config_small(&c, "soft", PLAN_OPS_BASIC);
	c.steps = 0;
	c.time_ns = 0;
	c.stop = &stop;
	c.started = stop_when_started;
	c.arg = &stop;
	CHECK_EQ(stress_run(&c, &r, &err), 0);
	CHECK(r.ran);
	CHECK_EQ(r.log.total, 0);
	violation_log_destroy(&r.log);
	/* It is set now: the guest does not even start. */
	CHECK_EQ(stress_run(&c, &r, &err), -EINTR);
	CHECK(!r.ran);
	CHECK_STR(err.text, "stopped before the guest ran: its memory was not prepared yet");
}

#if CHECKING
struct stall {
	struct race_gate gate;
	u32 released;
};

/* Lets the vCPU go as soon as it was reported. */
static void release_when_reported(const struct stress_progress *p, void *arg)
{
	struct stall *stall = arg;

	if (p->violations && !stall->released) {
		stall->released = 1;
		race_release(&stall->gate);
	}
}
#endif

/* A vCPU that is stuck in a fault is named, and the run ends. */
static void a_stall_is_reported(void)
{
#if CHECKING
	struct stress_config c;
	struct stress_result r;
	struct err err = { "" };
	struct stall stall = { .released = 0 };

	config_small(&c, "soft", PLAN_OPS_BASIC);
	c.machine.vcpus = 1;
	c.steps = 0;
	c.audit_every = 0;
	c.stall_ns = NSEC_PER_SEC;
	c.progress = release_when_reported;
	c.arg = &stall;
	race_arm(&stall.gate, "mmu_fault:before_lock", 50);
	CHECK_EQ(stress_run(&c, &r, &err), 0);
	race_disarm(&stall.gate);
	CHECK_EQ(stall.released, 1);
	CHECK(!r.stalled);
	REQUIRE_EQ(r.log.nr, 1);
	CHECK_EQ(r.log.record[0].kind, VIOLATION_STALL);
	CHECK_EQ(r.log.record[0].vcpu, 0);
	CHECK_CONTAINS(r.log.record[0].text, "vCPU 0 made no progress for 1 s; it was about to touch gpa 0x");
	CHECK_CONTAINS(r.log.record[0].text, "; the host ");
	CHECK_CONTAINS(r.log.record[0].text, " pages at page ");
	CHECK_LT(r.log.record[0].page, 256);
	violation_log_destroy(&r.log);
#else
	test_skip("needs a checking build");
#endif
}

static void bad_numbers(void)
{
	static const struct {
		u64 bytes, arena;
		u32 vcpus;
		const char *cpus, *says;
	} cases[] = {
		{ 0, 0, 1, NULL, "0 bytes" },
		{ 4097, 0, 1, NULL, "not a multiple of the page size" },
		{ 1 << 20, 0, 0, NULL, "0 vCPUs" },
		{ 1 << 20, 0, 17, NULL, "17 vCPUs" },
		{ 1 << 20, 1 << 20, 1, NULL, "is too small for" },
		{ 1 << 20, 12345, 1, NULL, "not a multiple" },
		{ 1ull << 46, 0, 1, NULL, "this machine has available" },
		{ ~4095ull, 0, 1, NULL, "this machine has available" },
		{ 1 << 20, 0, 1, "", "no list of processors" },
		{ 1 << 20, 0, 1, "0,", "no list of processors" },
		{ 1 << 20, 0, 1, "3-1", "no list of processors" },
		{ 1 << 20, 0, 1, "zero", "no list of processors" },
		{ 1 << 20, 0, 1, "1000", "does not exist" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct stress_config c;
		struct stress_result r;
		struct err err = { "" };

		config_small(&c, "soft", PLAN_OPS_BASIC);
		c.machine.bytes = cases[i].bytes;
		c.machine.arena_bytes = cases[i].arena;
		c.machine.vcpus = cases[i].vcpus;
		c.machine.cpus = cases[i].cpus;
		CHECK_EQ(stress_run(&c, &r, &err), -EINVAL);
		CHECK_CONTAINS(err.text, cases[i].says);
		CHECK(!r.ran);
	}
}

static void memfd_on_soft_cannot_run(void)
{
	struct stress_config c;
	struct stress_result r;
	struct err err = { "" };

	config_small(&c, "soft", PLAN_OPS_BASIC);
	c.machine.backing = HOST_MEMFD;
	CHECK_EQ(stress_run(&c, &r, &err), -EOPNOTSUPP);
	CHECK_CONTAINS(err.text, "memfd");
	CHECK(!r.ran);
}

const struct test_case lab_stress_tests[] = {
	TEST(soft_each_operation),
	TEST(soft_all_operations),
	TEST(soft_one_page),
	TEST(soft_short_run),
	TEST(kvm_short_run),
	TEST(stop_from_outside),
	TEST(a_stall_is_reported),
	TEST(bad_numbers),
	TEST(memfd_on_soft_cannot_run),
	TEST_END,
};

/* --- mutants -------------------------------------------------------------------------- */

/*
 * Which bugs a stress run must find. @audit: whether the exact audit helps; without it the guests find it alone.
 * @window: the race point inside the window of the bug, NULL for none. Where processors are scarce, a window of a few
 * instructions is not met in half a minute; so a vCPU that comes by waits in it until the host has zapped something.
 */
static void mutant_is_found(const char *name, const char *window, bool audit)
{
#if CHECKING
	struct stress_config c;
	struct stress_result r;
	struct err err = { "" };

	config_small(&c, "soft", PLAN_OPS_BASIC);
	c.steps = 0;
	c.time_ns = 250 * NSEC_PER_SEC; /* it takes less than one */
	c.max_violations = 1;
	c.audit_every = audit ? 1 : 0;
	c.trace = true;
	CHECK_EQ(mutant_set(name), 0);
	race_delays(c.machine.seed, 100);
	race_stretch(window, "invalidate:after_zap", 250, 20 * NSEC_PER_MSEC);
	CHECK_EQ(stress_run(&c, &r, &err), 0);
	race_stretch(NULL, NULL, 0, 0);
	race_delays(0, 0);
	mutant_set(NULL);
	CHECK_MSG(r.log.total > 0, "%s%s: not found by %llu steps", name, audit ? "" : " without audit",
		  (unsigned long long)r.steps);
	if (r.log.nr)
		CHECK_MSG(r.log.record[0].trace, "%s: no trace with the violation", name);
	violation_log_destroy(&r.log);
#else
	test_skip("%s: needs a checking build", name);
#endif
}

static void k4_no_seq_check(void)
{
	mutant_is_found("k4-no-seq-check", "mmu_fault:before_lock", true);
	mutant_is_found("k4-no-seq-check", "mmu_fault:before_lock", false);
}

static void k4_check_before_lock(void)
{
	mutant_is_found("k4-check-before-lock", "mmu_fault:before_lock", true);
	mutant_is_found("k4-check-before-lock", "mmu_fault:before_lock", false);
}

static void k12_no_flush(void)
{
	mutant_is_found("k12-no-flush", NULL, true);
	mutant_is_found("k12-no-flush", NULL, false);
}

static void k23_no_wait(void)
{
	mutant_is_found("k23-no-wait", NULL, true);
	mutant_is_found("k23-no-wait", NULL, false);
}

static void k23_owed_unasked(void)
{
	mutant_is_found("k23-owed-unasked", NULL, true);
	mutant_is_found("k23-owed-unasked", NULL, false);
}

const struct test_case lab_mutant_tests[] = {
	TEST(k4_no_seq_check), TEST(k4_check_before_lock), TEST(k12_no_flush),
	TEST(k23_no_wait),     TEST(k23_owed_unasked),	   TEST_END,
};

/* --- kvm -------------------------------------------------------------------------------- */

static void kvm_anonymous(void)
{
	if (have_kvm())
		each_operation_on("kvm", HOST_ANONYMOUS);
}

static void kvm_memfd(void)
{
	if (have_kvm())
		each_operation_on("kvm", HOST_MEMFD);
}

static void kvm_all_operations(void)
{
	struct stress_config c;
	struct stress_result r;

	if (!have_kvm())
		return;
	config_small(&c, "kvm", PLAN_OPS_BASIC);
	c.steps = TEST_SCALE(1500);
	expect_clean(&c, &r, "all");
}

const struct test_case lab_kvm_tests[] = {
	TEST(kvm_anonymous),
	TEST(kvm_memfd),
	TEST(kvm_all_operations),
	TEST_END,
};

/* --- bench --------------------------------------------------------------------------------- */

static void bench_on(const char *engine)
{
	struct bench_fault_config c;
	struct bench_fault_result r;
	struct err err = { "" };
	int ret;

	bench_fault_config_init(&c, engine_find(engine));
	c.machine.bytes = 1 << 20;
	c.machine.vcpus = 2;
	c.passes = 2;
	ret = bench_fault_run(&c, &r, &err);
	CHECK_MSG(!ret, "%s: %s", engine, err.text);
	for (int cause = BENCH_PRESENT; cause < BENCH_CAUSE_NR && !ret; cause++)
		for (int order = 0; order < BENCH_ORDER_NR; order++) {
			const struct bench_row *row = &r.row[cause][order];

			if (!row->ran)
				continue;
			/* every page once a pass, and a sample for each */
			if (order != BENCH_APART)
				CHECK_EQ(row->accesses, 2 * 256);
			CHECK_EQ(hist_count(&row->ns), row->accesses);
		}
	CHECK(r.row[BENCH_FIRST_TOUCH][BENCH_SEQUENTIAL].ran);
	CHECK_EQ(r.row[BENCH_TAIN_HOST_FAULT][BENCH_SEQUENTIAL].ran, engine_find(engine)->own_mm);
	/* soft: a fault per page mapped just now, and none on warm ones; some are repeated (rule K4) */
	if (engine_find(engine)->own_mm && !ret) {
		CHECK_GE(r.row[BENCH_FIRST_TOUCH][BENCH_RANDOM].faults, 2 * 256);
		CHECK_EQ(r.row[BENCH_PRESENT][BENCH_SEQUENTIAL].faults, 0);
	}
	bench_fault_destroy(&r);
}

static void bench_fault_soft(void)
{
	bench_on("soft");
}

static void bench_fault_kvm(void)
{
	if (have_kvm())
		bench_on("kvm");
}

static void bench_bad_numbers(void)
{
	struct bench_fault_config c;
	struct bench_fault_result r;
	struct err err = { "" };

	bench_fault_config_init(&c, engine_find("soft"));
	c.machine.bytes = PAGE_SIZE;
	c.machine.vcpus = 2;
	CHECK_EQ(bench_fault_run(&c, &r, &err), -EINVAL);
	CHECK_CONTAINS(err.text, "fewer pages than vCPUs");
	bench_fault_destroy(&r);
}

static void figures_measure(void)
{
	struct figure f = { .peer = "p", .at_most = true, .bound = 0.5, .rounds = 3 };

	CHECK(!figure_met(&(struct figure){ .bound = 1 }));
	memcpy(f.value, (double[]){ 1, 2, 30 }, 3 * sizeof(double));
	memcpy(f.other, (double[]){ 10, 10, 10 }, 3 * sizeof(double));
	CHECK(figure_median(&f, f.value) == 2);
	CHECK(figure_measure(&f) == 0.2);
	CHECK(figure_met(&f));
	f.at_most = false;
	CHECK(!figure_met(&f));
	f.peer = NULL;
	CHECK(figure_measure(&f) == 2);
	CHECK(figure_met(&f));
}

static void peer_output(void)
{
	char *echo[] = { (char *)"sh", (char *)"-c", (char *)"echo rate: 12.5; echo more >&2", NULL };
	char *fail[] = { (char *)"sh", (char *)"-c", (char *)"echo oh; exit 3", NULL };
	char *none[] = { (char *)"/nonexistent/program", NULL };
	char *place[] = { (char *)"grep", (char *)"Cpus_allowed_list", (char *)"/proc/self/status", NULL };
	char output[64], expected[64];
	struct err err = { "" };
	cpu_set_t before, after;
	int cpu;

	CHECK_EQ(bench_peer_output(echo, -1, output, sizeof(output), NULL, &err), 0);
	CHECK_CONTAINS(output, "rate: 12.5");
	CHECK_CONTAINS(output, "more");
	CHECK_EQ(bench_peer_output(fail, -1, output, sizeof(output), NULL, &err), -EIO);
	CHECK_CONTAINS(err.text, "oh");
	CHECK_EQ(sched_getaffinity(0, sizeof(before), &before), 0);
	for (cpu = 0; cpu < CPU_SETSIZE - 1 && !CPU_ISSET(cpu, &before); cpu++)
		;
	snprintf(expected, sizeof(expected), "Cpus_allowed_list:\t%d\n", cpu);
	CHECK_EQ(bench_peer_output(place, cpu, output, sizeof(output), NULL, &err), 0);
	CHECK_STR(output, expected);
	CHECK_EQ(sched_getaffinity(0, sizeof(after), &after), 0);
	CHECK(CPU_EQUAL(&before, &after)); /* the peer was confined, not tain */
	CHECK_EQ(bench_peer_output(none, -1, output, sizeof(output), NULL, &err), -ENOENT);
}

const struct test_case lab_bench_tests[] = {
	TEST(bench_fault_soft), TEST(bench_fault_kvm), TEST(bench_bad_numbers),
	TEST(figures_measure),	TEST(peer_output),     TEST_END,
};
