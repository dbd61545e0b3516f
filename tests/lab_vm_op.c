/* SPDX-License-Identifier: MIT */
/* Operations on the VM itself: memslots and dirty logs, alone and among the host's operations. */
#include "lab/stress/stress.h"
#include "lib/mutant.h"
#include "lib/time.h"
#include "tests/lab_suites.h"

#define STEPS TEST_SCALE(200)

static void config_small(struct stress_config *c, const char *engine, u32 ops)
{
	stress_config_init(c, engine_find(engine));
	c->machine.bytes = 1 << 20;
	c->machine.seed = 1234;
	c->ops = ops;
	c->steps = STEPS;
	c->time_ns = 250 * NSEC_PER_SEC; /* a hang */
	c->audit_every = 16;
}

static void expect_clean(const struct stress_config *c, struct stress_result *r, const char *what)
{
	struct err err = { "" };
	int ret = stress_run(c, r, &err);

	CHECK_MSG(!ret, "%s: %d %s", what, ret, err.text);
	CHECK_MSG(!r->log.total, "%s: %llu violations, the first: %s %s", what, (unsigned long long)r->log.total,
		  r->log.nr ? violation_name(r->log.record[0].kind) : "", r->log.nr ? r->log.record[0].text : "");
	CHECK_EQ(r->steps, c->steps);
	CHECK_GT(r->checked, 0);
	violation_log_destroy(&r->log);
}

/* The memslot comes and goes under running guests, alone and among the others. */
static void memslot_on(const char *engine)
{
	struct stress_config c;
	struct stress_result r;

	config_small(&c, engine, BIT(PLAN_MEMSLOT));
	expect_clean(&c, &r, "memslot");
	CHECK_EQ(r.host_ops[PLAN_MEMSLOT], c.steps);
	config_small(&c, engine, BIT(PLAN_SLOTMOVE));
	expect_clean(&c, &r, "slotmove");
	CHECK_EQ(r.host_ops[PLAN_SLOTMOVE], c.steps);
	config_small(&c, engine, PLAN_OPS_BASIC | BIT(PLAN_MEMSLOT) | BIT(PLAN_SLOTMOVE));
	c.machine.ranges = 4;
	expect_clean(&c, &r, "memslots of four ranges among all");
	CHECK_GT(r.host_ops[PLAN_MEMSLOT], 0);
	CHECK_GT(r.host_ops[PLAN_SLOTMOVE], 0);
}

static void soft_memslot(void)
{
	memslot_on("soft");
}

static void soft_logs_no_writes(void)
{
	struct stress_config c;
	struct stress_result r;
	struct err err = { "" };

	config_small(&c, "soft", BIT(PLAN_DIRTYLOG));
	CHECK_EQ(stress_run(&c, &r, &err), -EOPNOTSUPP);
	CHECK_EQ(r.unsupported, BIT(PLAN_DIRTYLOG));
	violation_log_destroy(&r.log);
}

/* A slot that goes without its flush: the guests see marks, or write where nobody may. */
static void a_missed_memslot_is_found(void)
{
#if CHECKING
	struct stress_config c;
	struct stress_result r;
	struct err err = { "" };

	config_small(&c, "soft", BIT(PLAN_MEMSLOT));
	c.steps = 0;
	c.audit_every = 0;
	c.max_violations = 1;
	CHECK_EQ(mutant_set("k12-no-flush"), 0);
	CHECK_MSG(!stress_run(&c, &r, &err), "%s", err.text);
	mutant_set(NULL);
	CHECK_GT(r.log.total, 0);
	violation_log_destroy(&r.log);
#else
	test_skip("needs a checking build");
#endif
}

static void kvm_memslot(void)
{
	if (have_kvm())
		memslot_on("kvm");
}

static void kvm_dirtylog(void)
{
	struct stress_config c;
	struct stress_result r;

	if (!have_kvm())
		return;
	config_small(&c, "kvm", BIT(PLAN_DIRTYLOG));
	expect_clean(&c, &r, "dirtylog");
	CHECK_EQ(r.host_ops[PLAN_DIRTYLOG], c.steps);
	config_small(&c, "kvm", PLAN_OPS_BASIC | BIT(PLAN_DIRTYLOG) | BIT(PLAN_MEMSLOT));
	c.machine.backing = HOST_MEMFD;
	expect_clean(&c, &r, "dirtylog among all");
	CHECK_GT(r.host_ops[PLAN_DIRTYLOG], 0);
}

/* A log that forgets is reported. */
static void kvm_lost_dirty_is_reported(void)
{
#if CHECKING
	struct plan_step step = {
		.op = PLAN_DIRTYLOG, .first = 0, .pages = 16, .hold_ns = 5 * NSEC_PER_MSEC, .plant = true
	};
	struct stress_config c;
	struct stress_result r;
	struct err err = { "" };

	if (!have_kvm())
		return;
	config_small(&c, "kvm", 0);
	c.machine.bytes = 16 * PAGE_SIZE;
	c.list = &step;
	c.list_nr = 1;
	c.repeat = 0;
	c.steps = 0;
	c.max_violations = 1;
	CHECK_MSG(!stress_run(&c, &r, &err), "%s", err.text);
	REQUIRE(r.log.nr);
	CHECK_EQ(r.log.record[0].kind, VIOLATION_LOST_DIRTY);
	violation_log_destroy(&r.log);
#else
	test_skip("needs a checking build");
#endif
}

const struct test_case lab_vm_op_tests[] = {
	TEST(soft_memslot), TEST(soft_logs_no_writes), TEST(a_missed_memslot_is_found),
	TEST(kvm_memslot),  TEST(kvm_dirtylog),	       TEST(kvm_lost_dirty_is_reported),
	TEST_END,
};
