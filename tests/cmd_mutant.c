/* SPDX-License-Identifier: MIT */
/* Stress finds the bugs that were put back. */
#include <stdio.h>
#include <string.h>

#include "tests/cmd_env.h"
#include "tests/cmd_suites.h"

static bool mutants_or_skip(void)
{
	if (!CHECKING)
		test_skip("a release build has no mutants");
	return CHECKING;
}

static void check_violation(json_t *v)
{
	json_t *trace = json_object_get(v, "trace");

	check_keys(v,
		   WORDS("kind", "what", "page", "vcpu", "seen", "expected", "generation_seen", "generation_required",
			 "zero_allowed", "generation_announced", "operation", "step", "seed", "text", "trace"));
	CHECK(json_text(v, "kind")[0]);
	CHECK(json_text(v, "what")[0]);
	CHECK_EQ(json_u64(v, "seed"), 81);
	CHECK_GT(json_array_size(trace), 0);
}

/* Little memory, so that the guest is soon where the host works; it takes a second, and has minutes. */
static void check_caught(const char *mutant)
{
	const char *env[] = { "TMPDIR=.", NULL }; /* the plan that failed is left there */
	const struct tain_setup here = { .env = env };
	const struct tain_run *r = TAIN_WITH(&here, "stress", "--mutant", mutant, "--max-violations", "1", "-v", "2",
					     "-b", "256K", "--seed", "81", "-t", "5m", "--json", "r.json");
	json_t *doc, *violations;
	char line[64];

	CHECK_MSG(r->status == 1, "%s: exit status %d, not caught; stdout '%s' stderr '%s'", r->name, r->status,
		  r->out.text, r->err.text);
	doc = tain_json_file("r.json");
	violations = json_object_get(doc, "violations");
	CHECK_STR(json_text(json_object_get(doc, "options"), "mutant"), mutant);
	if (!CHECK_GT(json_array_size(violations), 0))
		return;
	check_violation(json_array_get(violations, 0));
	/* People are told the same. */
	snprintf(line, sizeof(line), "\nmutant %s is on\n", mutant);
	CHECK_CONTAINS(r->out.text, line);
	snprintf(line, sizeof(line), "\nviolation 1: %s: ", json_text(json_array_get(violations, 0), "kind"));
	CHECK_CONTAINS(r->out.text, line);
	CHECK_CONTAINS(r->out.text, "\n  the last events of each thread:\n    ");
	CHECK_CONTAINS(r->out.text, "\nthe same plan again: tain stress -e soft --ops all -v 2 -b 262144 -s anonymous "
				    "--seed 81 --mutant ");
	CHECK_MSG(!strstr(r->out.text, "passed"), "'%s' does not say passed", r->out.text);
}

static void the_sequence_check_dropped(void)
{
	if (mutants_or_skip())
		check_caught("k4-no-seq-check");
}

static void the_sequence_checked_before_the_lock(void)
{
	if (mutants_or_skip())
		check_caught("k4-check-before-lock");
}

static void a_flush_forgotten(void)
{
	if (mutants_or_skip())
		check_caught("k12-no-flush");
}

/* One that lives where no plan goes is no pass. */
static void a_place_that_no_plan_comes_to(void)
{
	const struct tain_run *r;

	if (!mutants_or_skip())
		return;
	r = TAIN("stress", "--mutant", "e4-no-mm-lock", "-b", "256K", "-v", "1", "-i", "20", "--json", "r.json");
	CHECK_EQ(r->status, 4);
	CHECK_CONTAINS(r->err.text, "mutant e4-no-mm-lock: this run never came to its place");
	CHECK(!strstr(r->out.text, "passed"));
	CHECK_EQ(json_u64(tain_json_file("r.json"), "mutant_reached"), 0);
}

static void a_vcpu_not_waited_for(void)
{
	if (mutants_or_skip())
		check_caught("k23-no-wait");
}

static void no_mutant_is_no_mutant(void)
{
	const struct tain_run *r = TAIN("stress", "--mutant", "none", "-b", "64K", "-i", "20");

	CHECK_EQ(r->status, 0);
	CHECK_CONTAINS(r->out.text, "\npassed\n");
}

const struct test_case cmd_mutant_tests[] = {
	TEST(the_sequence_check_dropped),
	TEST(the_sequence_checked_before_the_lock),
	TEST(a_flush_forgotten),
	TEST(a_vcpu_not_waited_for),
	TEST(no_mutant_is_no_mutant),
	TEST(a_place_that_no_plan_comes_to),
	TEST_END,
};
