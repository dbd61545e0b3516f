/* SPDX-License-Identifier: MIT */
/* Stress on a VM in another process: engine qemu, operated on from outside. */
#include "lab/system/guardian.h"
#include "lab/stress/stress.h"
#include "lib/time.h"
#include "tests/lab_suites.h"

#define STEPS TEST_SCALE(300)
/* Those that need nothing of the machine. */
#define PLAIN                                                                                                          \
	(BIT(PLAN_REMOVE) | BIT(PLAN_PUNCH) | BIT(PLAN_COLD) | BIT(PLAN_SPLIT) | BIT(PLAN_POPULATE) |                  \
	 BIT(PLAN_SUSPEND) | BIT(PLAN_MEMSTATS) | BIT(PLAN_BALLOON))

static bool config_outside(struct stress_config *c, const char *accel, u32 ops)
{
	struct err why = { "" };

	qemu_config.accel = accel;
	qemu_config.machine = "microvm";
	if (engine_find("qemu")->probe(&why)) {
		test_skip("%s", why.text);
		return false;
	}
	stress_config_init(c, engine_find("qemu"));
	c->machine.backing = HOST_MEMFD;
	c->machine.bytes = 1 << 20;
	c->machine.seed = 99;
	c->ops = ops;
	c->steps = STEPS;
	c->time_ns = 0;
	return true;
}

static void run_clean(const struct stress_config *c, struct stress_result *r)
{
	struct err err = { "" };
	int ret = stress_run(c, r, &err);

	CHECK_MSG(!ret, "%d %s", ret, err.text);
	CHECK_MSG(!r->log.total, "%llu violations, the first: %s %s", (unsigned long long)r->log.total,
		  r->log.nr ? violation_name(r->log.record[0].kind) : "", r->log.nr ? r->log.record[0].text : "");
	CHECK_EQ(r->steps, c->steps);
	CHECK_GT(r->checked, 0);
	violation_log_destroy(&r->log);
}

static void from_outside(const char *accel, const char *mmu)
{
	struct stress_config c;
	struct stress_result r;

	if (!config_outside(&c, accel, PLAIN))
		return;
	run_clean(&c, &r);
	CHECK_EQ(r.unsupported, 0);
	for (int op = 0; op < PLAN_OP_NR; op++)
		if (PLAIN & BIT(op))
			CHECK_MSG(r.host_ops[op], "%s was done", plan_op_name(op));
	CHECK_STR(r.id.engine, "qemu");
	CHECK(!r.counted); /* KVM's counters are QEMU's */
	CHECK_CONTAINS(r.id.mmu, mmu);
}

/*
 * Small pages are gathered into huge ones and fall apart again, which needs DATA of several. @more: what may be done
 * where it is allowed.
 */
static void huge_pages(const char *accel, u32 more)
{
	u32 ops = BIT(PLAN_COLLAPSE) | BIT(PLAN_SPLIT) | BIT(PLAN_PUNCH) | more;
	struct stress_config c;
	struct stress_result r;

	if (!config_outside(&c, accel, ops))
		return;
	c.machine.bytes = 8 << 20;
	for (int op = 0; op < PLAN_OP_NR; op++)
		c.weight[op] = 1;
	c.steps = 60;
	run_clean(&c, &r);
	CHECK_EQ(r.unsupported, 0);
	for (int op = 0; op < PLAN_OP_NR; op++)
		if (ops & BIT(op))
			CHECK_MSG(r.host_ops[op], "%s was done: %s", plan_op_name(op), r.why[op].text);
}

static void tcg(void)
{
	from_outside("tcg", "QEMU TCG");
}

static bool kvm_here(void)
{
	struct err why = { "" };

	if (!engine_find("kvm")->probe(&why))
		return true;
	test_skip("%s", why.text);
	return false;
}

static void kvm(void)
{
	if (kvm_here())
		from_outside("kvm", "KVM ");
}

static void collapse_tcg(void)
{
	huge_pages("tcg", 0);
}

static void collapse_kvm(void)
{
	if (test_prove_or_skip() && kvm_here())
		huge_pages("kvm", 0);
}

/* The domain's pages go to swap and come back, and move to other frames; the machine is as before. */
static void where_the_machine_may_be_changed(const char *accel)
{
	struct err err = { "" };

	test_own_machine();
	if (guardian_start(&err)) {
		test_skip("%s", err.text);
		return;
	}
	huge_pages(accel, BIT(PLAN_PAGEOUT) | BIT(PLAN_COMPACT));
	CHECK_MSG(!guardian_stop(&err), "%s", err.text);
}

static void pageout_and_compaction_tcg(void)
{
	where_the_machine_may_be_changed("tcg");
}

static void pageout_and_compaction_kvm(void)
{
	if (test_prove_or_skip() && kvm_here())
		where_the_machine_may_be_changed("kvm");
}

/* @op takes seconds: holes are made more often. */
static void to_another_process(const char *accel, enum plan_op op, u32 more)
{
	struct stress_config c;
	struct stress_result r;

	if (!config_outside(&c, accel, BIT(op) | BIT(PLAN_PUNCH) | more))
		return;
	c.weight[PLAN_PUNCH] = 5;
	c.steps = 12;
	run_clean(&c, &r);
	CHECK_GT(r.host_ops[op], 0);
	CHECK_GT(r.host_ops[PLAN_PUNCH], 0);
}

/*
 * The oracle's pages move to another process. Under KVM the guest runs meanwhile, and all writes are its own; under
 * TCG it is suspended.
 */
static void migrated(const char *accel)
{
	to_another_process(accel, PLAN_MIGRATE, 0);
}

static void migrate_tcg(void)
{
	migrated("tcg");
}

static void migrate_kvm(void)
{
	if (test_prove_or_skip() && kvm_here())
		migrated("kvm");
}

/*
 * The process that had the pages ends before another reads them from a file; the VM stands
 * still meanwhile, so that TCG loses nothing. A balloon before it: libvirt must be told what it holds.
 */
static void save_and_restore(const char *accel)
{
	to_another_process(accel, PLAN_RESTORE, BIT(PLAN_BALLOON));
}

static void restore_tcg(void)
{
	save_and_restore("tcg");
}

static void restore_kvm(void)
{
	if (test_prove_or_skip() && kvm_here())
		save_and_restore("kvm");
}

/* Firmware runs first on these machines. The guest finds zeros in what was plugged in, and then what it wrote. */
static void memory_is_plugged_in_and_out(void)
{
	static const char *const machines[] = { "pc", "q35" };
	struct stress_config c;
	struct stress_result r;

	if (!test_prove_or_skip())
		return;
	for (size_t i = 0; i < ARRAY_SIZE(machines); i++) {
		if (!config_outside(&c, "tcg", BIT(PLAN_PLUG) | BIT(PLAN_BALLOON)))
			return;
		qemu_config.machine = machines[i];
		c.steps = 6;
		run_clean(&c, &r);
		CHECK_EQ(r.unsupported, 0);
		CHECK_GT(r.host_ops[PLAN_PLUG], 0);
		CHECK_GT(r.host_ops[PLAN_BALLOON], 0);
	}
	qemu_config.machine = "microvm";
}

/* Each by its reason: shared memory has nothing for KSM, microvm no slot for memory. */
static void what_this_memory_cannot_do_has_its_reason(void)
{
	struct stress_config c;
	struct stress_result r;

	const u32 none = BIT(PLAN_MERGE) | BIT(PLAN_PLUG);

	if (!config_outside(&c, "tcg", none | BIT(PLAN_COLD)))
		return;
	c.steps = 30;
	run_clean(&c, &r);
	CHECK_EQ(r.unsupported, none);
	CHECK_STR(r.why[PLAN_MERGE].text, "KSM passes over shared memory and hugetlb pages");
	CHECK_STR(r.why[PLAN_PLUG].text, "machine microvm has no memory slots: --machine pc or q35");
}

/* What an outsider cannot do is skipped by name, and nothing has happened. */
static void what_is_not_possible_is_skipped(void)
{
	struct stress_config c;
	struct stress_result r;
	struct err err = { "" };

	if (!config_outside(&c, "tcg", PLAN_OPS_BASIC | BIT(PLAN_COLD)))
		return;
	c.steps = 60;
	run_clean(&c, &r);
	CHECK_EQ(r.unsupported, PLAN_OPS_BASIC);
	if (!config_outside(&c, "tcg", PLAN_OPS_BASIC))
		return;
	CHECK_EQ(stress_run(&c, &r, &err), -EOPNOTSUPP);
	violation_log_destroy(&r.log);
}

/* Old contents that come back are seen by a guest in another process too. */
static void a_planted_copy_is_reported(void)
{
	static const struct plan_step step = {
		.op = PLAN_PUNCH, .pages = 64, .hold_ns = 20 * NSEC_PER_MSEC, .plant = true
	};
	struct stress_config c;
	struct stress_result r;
	struct err err = { "" };

	if (!CHECKING) {
		test_skip("this build plants nothing");
		return;
	}
	if (!config_outside(&c, "tcg", BIT(PLAN_PUNCH)))
		return;
	c.list = &step;
	c.list_nr = 1;
	c.repeat = 0;
	c.time_ns = 250 * NSEC_PER_SEC; /* a hang */
	c.steps = 0;
	c.max_violations = 1;
	CHECK_EQ(stress_run(&c, &r, &err), 0);
	CHECK_GT(r.log.total, 0);
	if (r.log.nr)
		CHECK_EQ(r.log.record[0].kind, VIOLATION_STALE);
	violation_log_destroy(&r.log);
}

const struct test_case lab_outside_tests[] = {
	TEST(tcg),
	TEST(kvm),
	TEST(collapse_tcg),
	TEST(collapse_kvm),
	TEST(pageout_and_compaction_tcg),
	TEST(pageout_and_compaction_kvm),
	TEST(migrate_tcg),
	TEST(migrate_kvm),
	TEST(restore_tcg),
	TEST(restore_kvm),
	TEST(memory_is_plugged_in_and_out),
	TEST(what_this_memory_cannot_do_has_its_reason),
	TEST(what_is_not_possible_is_skipped),
	TEST(a_planted_copy_is_reported),
	TEST_END,
};
