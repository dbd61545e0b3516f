/* SPDX-License-Identifier: MIT */
/* Shrinking, and planted violations: plans that must fail, and how little of them is left. */
#include <string.h>

#include "lab/stress/shrink.h"
#include "lib/alloc.h"
#include "lib/mutant.h"
#include "lib/time.h"
#include "tests/lab_suites.h"

#if CHECKING

#define STEPS 60

/* Sixty steps in which nothing is wrong by itself. */
static void plan_make(struct stress_config *c, struct shrink_plan *p, u32 ranges)
{
	struct plan plan;

	stress_config_init(c, engine_find("soft"));
	c->machine.bytes = 256 << 10;
	c->machine.vcpus = 2;
	c->machine.ranges = ranges;
	c->machine.seed = 4321;
	c->audit_every = 0;
	stress_plan(c, &plan);
	*p = (struct shrink_plan){ .vcpus = 2, .bytes = c->machine.bytes, .ranges = ranges, .nr = STEPS };
	p->step = mem_zalloc(STEPS * sizeof(*p->step));
	REQUIRE(p->step);
	for (u64 i = 0; i < STEPS; i++)
		plan_step(&plan, i, &p->step[i]);
}

/* The plan as it is now: does it fail? */
static u64 violations_of(const struct stress_config *base, const struct shrink_plan *p, enum violation_kind *kind)
{
	struct stress_config c = *base;
	struct stress_result r;
	struct err err = { "" };
	u64 total;

	c.machine.vcpus = p->vcpus;
	c.machine.bytes = p->bytes;
	c.machine.ranges = p->ranges;
	c.list = p->step;
	c.list_nr = p->nr;
	c.repeat = 0;
	c.max_violations = 1;
	c.time_ns = 250 * NSEC_PER_SEC;
	CHECK_MSG(!stress_run(&c, &r, &err), "%s", err.text);
	total = r.log.total;
	*kind = r.log.nr ? r.log.record[0].kind : VIOLATION_KIND_NR;
	violation_log_destroy(&r.log);
	return total;
}

static void check_shrunk(const struct stress_config *c, struct shrink_plan *p, u64 most)
{
	struct shrink_config config = {
		.stress = c, .trial_ns = NSEC_PER_SEC, .time_ns = 250 * NSEC_PER_SEC, /* a hang */
	};
	struct err err = { "" };
	enum violation_kind kind;

	CHECK_MSG(!shrink_run(&config, p, &err), "%s", err.text);
	CHECK_GE(p->nr, 1);
	CHECK_MSG(p->nr <= most, "%llu steps are left", (unsigned long long)p->nr);
	CHECK_EQ(p->vcpus, 1);
	CHECK_LT(p->bytes, 256 << 10);
	CHECK_GT(violations_of(c, p, &kind), 0);
}

static void a_mutant(const char *name)
{
	struct stress_config c;
	struct shrink_plan p;

	plan_make(&c, &p, 1);
	CHECK_EQ(mutant_set(name), 0);
	check_shrunk(&c, &p, 6);
	mutant_set(NULL);
	mem_free(p.step);
}

static void k12_no_flush(void)
{
	a_mutant("k12-no-flush");
}

/* One lie among some steps: it is found, and is what is left. */
static void check_planted(u32 ranges)
{
	struct stress_config c;
	struct shrink_plan p;
	u64 planted = 0;

	plan_make(&c, &p, ranges);
	p.nr = 16;
	p.step[11].plant = true;
	p.step[11].hold_ns = 20 * NSEC_PER_MSEC;
	check_shrunk(&c, &p, 3);
	CHECK_EQ(p.ranges, 1);
	for (u64 i = 0; i < p.nr; i++)
		planted += p.step[i].plant;
	CHECK_EQ(planted, 1);
	mem_free(p.step);
}

static void a_planted_step_is_what_is_left(void)
{
	check_planted(1);
}

/* In four ranges; one will do. */
static void ranges_are_joined(void)
{
	check_planted(4);
}

/* Most candidates have no step that this host can do: they do not fail, and the search goes on. */
static void what_the_host_lacks_goes_too(void)
{
	struct stress_config c;
	struct shrink_plan p;

	plan_make(&c, &p, 1);
	p.nr = 41;
	for (u64 i = 0; i < p.nr; i++)
		p.step[i].op = PLAN_PUNCH;
	p.step[23].op = PLAN_REMAP;
	p.step[23].plant = true;
	p.step[23].hold_ns = 20 * NSEC_PER_MSEC;
	check_shrunk(&c, &p, 3);
	mem_free(p.step);
}

static void what_never_fails_is_left_alone(void)
{
	struct shrink_config config = { .trial_ns = NSEC_PER_SEC / 10 };
	struct stress_config c;
	struct shrink_plan p;
	struct err err = { "" };

	plan_make(&c, &p, 1);
	config.stress = &c;
	CHECK_EQ(shrink_run(&config, &p, &err), -EAGAIN);
	CHECK_STR(err.text, "the plan did not fail again");
	CHECK_EQ(p.nr, STEPS);
	CHECK_EQ(p.vcpus, 2);
	mem_free(p.step);
}

struct interrupt {
	u32 stop;
	u64 smaller;
};

static void stop_at_the_second(const struct shrink_progress *p, bool smaller, void *arg)
{
	struct interrupt *i = arg;

	i->smaller += smaller;
	if (i->smaller == 2)
		WRITE_ONCE(i->stop, 1);
}

static void interrupted_it_keeps_the_best(void)
{
	struct interrupt i = { 0 };
	struct shrink_config config = { .trial_ns = NSEC_PER_SEC, .stop = &i.stop, .progress = stop_at_the_second };
	struct stress_config c;
	struct shrink_plan p;
	struct err err = { "" };

	plan_make(&c, &p, 1);
	for (u64 n = 0; n < p.nr; n++) {
		p.step[n].plant = true;
		p.step[n].hold_ns = 5 * NSEC_PER_MSEC;
	}
	config.stress = &c;
	config.arg = &i;
	CHECK_EQ(shrink_run(&config, &p, &err), 0);
	CHECK_EQ(i.smaller, 2);
	CHECK_EQ(p.bytes, 32 << 10); /* an eighth of it was the second trial */
	mem_free(p.step);
}

/* The oracle bites on real KVM: old contents that come back are reported by the guest itself. */
static void kvm_reports_a_planted_copy(void)
{
	static const enum host_backing backings[] = { HOST_ANONYMOUS, HOST_MEMFD };
	struct err why = { "" };

	if (engine_find("kvm")->probe(&why)) {
		test_skip("kvm: %s", why.text);
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(backings); i++) {
		enum violation_kind kind;
		struct stress_config c;
		struct shrink_plan p;

		plan_make(&c, &p, 2);
		c.machine.engine = engine_find("kvm");
		c.machine.backing = backings[i];
		p.step[7].plant = true;
		p.step[7].hold_ns = 50 * NSEC_PER_MSEC;
		CHECK_GT(violations_of(&c, &p, &kind), 0);
		CHECK_EQ(kind, VIOLATION_STALE);
		mem_free(p.step);
	}
}

const struct test_case lab_shrink_tests[] = {
	TEST(k12_no_flush),
	TEST(a_planted_step_is_what_is_left),
	TEST(ranges_are_joined),
	TEST(what_the_host_lacks_goes_too),
	TEST(what_never_fails_is_left_alone),
	TEST(interrupted_it_keeps_the_best),
	TEST(kvm_reports_a_planted_copy),
	TEST_END,
};

#else

static void checking_builds_only(void)
{
	test_skip("a release build has no mutants and plants nothing");
}

const struct test_case lab_shrink_tests[] = { TEST(checking_builds_only), TEST_END };

#endif
