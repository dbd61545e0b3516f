/* SPDX-License-Identifier: MIT */
/* tain stress: plans in files. Saved, replayed, shrunk; what is wrong with one is one line. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "tests/cmd_env.h"
#include "tests/cmd_suites.h"

static json_t *steps_of(const char *name)
{
	return json_object_get(tain_json_file(name), "steps");
}

static u64 op_count(json_t *steps, const char *op)
{
	json_t *step;
	size_t i;
	u64 n = 0;

	json_array_foreach(steps, i, step) n += !strcmp(json_text(step, "op"), op);
	return n;
}

static void a_saved_plan_is_what_ran(void)
{
	json_t *doc, *steps;

	CHECK_EQ(TAIN("stress", "-b", "256K", "-i", "30", "-d", "500", "-v", "1", "--seed", "5", "--ops",
		      "munmap=3,remap", "--save-plan", "p.json", "--json", "r.json")
			 ->status,
		 0);
	doc = tain_json_file("p.json");
	check_keys(doc, WORDS("schema", "engine", "vcpus", "bytes", "seed", "write_percent", "delay_ns", "audit",
			      "repeat", "backing", "steps"));
	CHECK_STR(json_text(doc, "schema"), "tain.plan/1");
	CHECK_EQ(json_u64(doc, "bytes"), 256 << 10);
	CHECK_EQ(json_u64(doc, "delay_ns"), 500000);
	steps = json_object_get(doc, "steps");
	CHECK_EQ(json_array_size(steps), 30);
	doc = json_object_get(tain_json_file("r.json"), "host_ops");
	CHECK_EQ(op_count(steps, "munmap"), json_u64(doc, "munmap"));
	CHECK_EQ(op_count(steps, "remap"), json_u64(doc, "remap"));
	CHECK_GT(json_u64(doc, "munmap"), json_u64(doc, "remap"));
	CHECK_STR(json_text(tain_json_file("r.json"), "plan"), "p.json");
}

/* The same steps, with the file's options, once or as often as asked. */
static void a_plan_is_replayed(void)
{
	const struct tain_run *r;
	char text[512];
	json_t *doc;

	CHECK_EQ(TAIN("stress", "-b", "128K", "-i", "7", "-d", "500", "-v", "3", "-w", "11", "--seed", "9",
		      "--save-plan", "p.json", "-q")
			 ->status,
		 0);
	r = TAIN("stress", "--plan", "p.json", "--json", "r.json", "--save-plan", "again.json");
	CHECK_EQ(r->status, 0);
	doc = tain_json_file("r.json");
	/* Its own operations, not all. */
	snprintf(text, sizeof(text), "\n3 vCPUs, 128 KiB anonymous, operations %s, no limit\n7 steps of p.json\n",
		 json_text(json_object_get(doc, "options"), "ops"));
	CHECK_CONTAINS(r->out.text, text);
	CHECK(!strstr(text, "all"));
	CHECK_EQ(json_u64(doc, "seed"), 9);
	doc = json_object_get(doc, "options");
	CHECK_EQ(json_u64(doc, "vcpus"), 3);
	CHECK_EQ(json_u64(doc, "bytes"), 128 << 10);
	CHECK_EQ(json_u64(doc, "write_percent"), 11);
	CHECK_EQ(json_u64(doc, "delay_ns"), 500000);
	CHECK_STR(json_text(doc, "plan"), "p.json");
	CHECK(json_equal(steps_of("p.json"), steps_of("again.json")));
	/* what is given here wins */
	r = TAIN("stress", "--plan", "p.json", "--repeat", "3", "-v", "1", "--json", "r.json", "--save-plan",
		 "again.json");
	CHECK_EQ(r->status, 0);
	CHECK_EQ(json_u64(json_object_get(tain_json_file("r.json"), "options"), "vcpus"), 1);
	CHECK_EQ(json_array_size(steps_of("again.json")), 21);
}

/* How it was arranged is in the file too. */
static void a_plan_knows_its_ranges(void)
{
	const struct tain_run *r = TAIN("stress", "-i", "20", "-b", "64K", "--ranges", "4", "--ops", "remap,munmap",
					"--save-plan", "p.json", "-q");
	json_t *doc;

	CHECK_EQ(r->status, 0);
	CHECK_EQ(json_u64(tain_json_file("p.json"), "ranges"), 4);
	CHECK_EQ(TAIN("stress", "--plan", "p.json", "--json", "r.json", "-q")->status, 0);
	doc = tain_json_file("r.json");
	CHECK_EQ(json_u64(json_object_get(doc, "options"), "ranges"), 4);
	CHECK_STR(json_text(json_object_get(doc, "options"), "ops"), "munmap,remap"); /* its own, not all */
	check_keys(json_object_get(doc, "host_ops"), WORDS("munmap", "remap"));
	r = TAIN("stress", "--plan", "p.json", "--ranges", "2");
	CHECK_EQ(r->status, 2);
	CHECK_STR(r->err.text, "tain: --ranges: a plan of --plan has its own\n");
}

static void a_plan_knows_who_resolves(void)
{
	if (!kvm_or_skip())
		return;
	CHECK_EQ(TAIN("stress", "-e", "kvm", "-i", "20", "-b", "64K", "--uffd", "inline", "--ops", "remap",
		      "--save-plan", "p.json", "-q")
			 ->status,
		 0);
	CHECK_STR(json_text(tain_json_file("p.json"), "uffd"), "inline");
	CHECK_EQ(TAIN("stress", "--plan", "p.json", "--json", "r.json", "-q")->status, 0);
	CHECK_STR(json_text(json_object_get(tain_json_file("r.json"), "options"), "uffd"), "inline");
}

/* As check_refused(), where the plan lies in the directory. */
static void check_plan_refused(const struct tain_run *r, const char *text)
{
	CHECK_EQ(r->status, 2);
	CHECK_STR(r->out.text, "");
	CHECK_CONTAINS(r->err.text, "tain: --");
	CHECK_CONTAINS(r->err.text, text);
	CHECK_EQ(tain_count(r->err.text, "\n"), 1);
	CHECK_EQ(tain_dir_files(), 1);
}

static void bad_plans_are_one_line(void)
{
	static const char head[] = "{\"schema\":\"tain.plan/1\",\"engine\":\"soft\",\"backing\":\"anonymous\","
				   "\"vcpus\":1,\"bytes\":65536,\"seed\":1,\"write_percent\":25,\"delay_ns\":0,"
				   "\"audit\":0,\"repeat\":1,\"steps\":[{\"op\":\"remap\",\"first\":0,\"pages\":1},";
	char text[512];

	check_refused(TAIN("stress", "--plan", "none.json"), 2,
		      "--plan: cannot read none.json: No such file or directory");
	check_refused(TAIN("stress", "--repeat", "3"), 2, "--repeat: only with --plan");
	check_refused(TAIN("stress", "--save-plan", "no/p.json"), 2,
		      "--save-plan: cannot write to no: No such file or directory");
	check_refused(TAIN("stress", "--shrink", ""), 2, "--shrink: an empty file name");
	check_refused(TAIN("stress", "--save-plan", "-"), 2, "--save-plan: it goes to a file, - is for --json");
	check_refused(TAIN("stress", "--save-plan", "x", "--json", "x"), 2, "--json and --save-plan: both name x");
	check_refused(TAIN("stress", "--shrink", "x", "--save-plan", "x"), 2, "--save-plan and --shrink: both name x");
	snprintf(text, sizeof(text), "%s{\"op\":\"remap\",\"first\":9,\"pages\":9}]}", head);
	tain_write_file("p.json", text, strlen(text));
	check_plan_refused(TAIN("stress", "--plan", "p.json", "--ops", "remap"), "--ops: a plan of --plan has its own");
	check_plan_refused(TAIN("stress", "--plan", "p.json", "-b", "1M"), "--bytes: a plan of --plan has its own");
	check_plan_refused(TAIN("stress", "--plan", "p.json"),
			   "--plan: p.json: step 1: pages 9 to 17; guest memory has 16");
	snprintf(text, sizeof(text), "%s{\"op\":\"remop\",\"first\":9,\"pages\":1}]}", head);
	tain_write_file("p.json", text, strlen(text));
	check_plan_refused(TAIN("stress", "--plan", "p.json"),
			   "--plan: p.json: step 1: unknown operation 'remop', did you mean 'remap'?");
	tain_write_file("p.json", head, strlen(head));
	check_plan_refused(TAIN("stress", "--plan", "p.json"), "--plan: p.json: line 1: ");
}

static void an_interrupted_run_leaves_its_steps(void)
{
	const struct tain_setup setup = { .err_terminal = true };
	struct tain_run *r = tain_start(&setup, WORDS("stress", "-b", "256K", "-t", "1h", "-d", "1000", "--seed", "77",
						      "--save-plan", "p.json"));

	tain_expect_work(r);
	kill(r->pid, SIGINT);
	tain_wait(r);
	CHECK_EQ(r->status, 130);
	CHECK_GT(json_array_size(steps_of("p.json")), 0);
	CHECK_EQ(TAIN("stress", "--plan", "p.json", "-q")->status, 0);
}

/* A violation: the steps are kept, a smaller plan is found, and fails as well. */
static void a_violation_is_shrunk(void)
{
	const char *env[] = { "TMPDIR=.", NULL };
	const struct tain_setup here = { .env = env };
	const struct tain_run *r;
	const char *kept;
	json_t *doc;

	if (!CHECKING) {
		test_skip("a release build has no mutants");
		return;
	}
	r = TAIN_WITH(&here, "stress", "--mutant", "k12-no-flush", "--audit", "0", "--max-violations", "1", "--seed",
		      "81", "-t", "5m", "--shrink", "s.json", "--shrink-time", "5m", "--json", "r.json");
	CHECK_EQ(r->status, 1);
	CHECK_CONTAINS(r->out.text, " steps again: tain stress --plan ./tain-plan-81-");
	CHECK_CONTAINS(r->out.text, " trials: tain stress --plan s.json\n");
	kept = json_text(tain_json_file("r.json"), "plan");
	CHECK_CONTAINS(kept, "./tain-plan-81-");
	CHECK_GT(json_array_size(steps_of(kept + 2)), 0);
	CHECK_GE(json_u64(tain_json_file("r.json"), "violations_total"), 1);
	doc = tain_json_file("s.json");
	CHECK_STR(json_text(doc, "mutant"), "k12-no-flush");
	CHECK_EQ(json_u64(doc, "repeat"), 0);
	CHECK_LE(json_array_size(json_object_get(doc, "steps")), 6);
	r = TAIN_WITH(&here, "stress", "--plan", "s.json", "--max-violations", "1", "-t", "5m");
	CHECK_EQ(r->status, 1);
	CHECK_CONTAINS(r->out.text, "\nmutant k12-no-flush is on\n");
	CHECK_CONTAINS(r->out.text, " steps again: tain stress --plan s.json\n");
}

/* A copy that is kept on purpose, under real KVM. */
static void a_planted_copy_is_reported_on_kvm(void)
{
	static const char text[] =
		"{\"schema\":\"tain.plan/1\",\"engine\":\"kvm\",\"backing\":\"anonymous\",\"vcpus\":1,\"bytes\":65536,"
		"\"seed\":1,\"write_percent\":25,\"delay_ns\":1000,\"audit\":0,\"repeat\":0,\"steps\":["
		"{\"op\":\"remap\",\"first\":0,\"pages\":16,\"restamp\":true},"
		"{\"op\":\"remap\",\"first\":0,\"pages\":16,\"hold_ns\":5000000,\"plant\":true}]}";
	const struct tain_run *r;
	json_t *violations;

	tain_write_file("p.json", text, strlen(text));
	if (!CHECKING) {
		check_plan_refused(TAIN("stress", "--plan", "p.json"),
				   "--plan: p.json: step 1: 'plant' works in the prove, asan and tsan builds only");
		return;
	}
	if (!kvm_or_skip())
		return;
	r = TAIN("stress", "--plan", "p.json", "--max-violations", "1", "-t", "5m", "--json", "r.json");
	CHECK_EQ(r->status, 1);
	violations = json_object_get(tain_json_file("r.json"), "violations");
	REQUIRE(json_array_size(violations));
	CHECK_STR(json_text(json_array_get(violations, 0), "kind"), "stale-read");
	CHECK_STR(json_text(json_array_get(violations, 0), "operation"), "remap");
}

const struct test_case cmd_plan_tests[] = {
	TEST(a_saved_plan_is_what_ran),
	TEST(a_plan_is_replayed),
	TEST(a_plan_knows_its_ranges),
	TEST(a_plan_knows_who_resolves),
	TEST(bad_plans_are_one_line),
	TEST(an_interrupted_run_leaves_its_steps),
	TEST(a_violation_is_shrunk),
	TEST(a_planted_copy_is_reported_on_kvm),
	TEST_END,
};
