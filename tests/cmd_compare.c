/* SPDX-License-Identifier: MIT */
/* tain compare: two files, two commands, and what it refuses. How fast anything is is not judged. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/thread.h"
#include "tests/cmd_env.h"
#include "tests/cmd_suites.h"

static const char *const measure_keys[] = {
	"name", "quantity", "unit",   "more_is_better", "a",   "b",	   "ratio",    "low",
	"high", "p",	    "wobble", "verdict",	"why", "values_a", "values_b", NULL,
};

static void bench(const char *json)
{
	const struct tain_run *r =
		TAIN("bench", "fault", "-q", "-b", "512K", "-i", "6", "--seed", "51", "--json", json);

	CHECK_MSG(!r->status, "%s: exit status %d; stderr '%s'", r->name, r->status, r->err.text);
}

static void check_measures(json_t *comparison, u64 units)
{
	json_t *measures = json_object_get(comparison, "measures"), *m;
	size_t i;

	CHECK_GE(json_array_size(measures), 20);
	json_array_foreach(measures, i, m)
	{
		const char *verdict = json_text(m, "verdict");

		check_keys(m, measure_keys);
		CHECK_MSG(!strcmp(verdict, "faster") || !strcmp(verdict, "slower") || !strcmp(verdict, "control") ||
				  !strcmp(verdict, "no difference") || !strcmp(verdict, "too noisy"),
			  "verdict '%s'", verdict);
		CHECK_EQ(json_array_size(json_object_get(m, "values_a")), units);
		CHECK_EQ(json_array_size(json_object_get(m, "values_b")), units);
		CHECK(json_number_value(json_object_get(m, "ratio")) > 0);
	}
}

static void two_files(void)
{
	const struct tain_run *r;
	json_t *doc;

	bench("a.json");
	bench("b.json");
	r = TAIN("compare", "a.json", "b.json", "--phase", "0", "--json", "c.json");
	CHECK_MSG(!r->status, "exit status %d; stderr '%s'", r->status, r->err.text);
	CHECK_STR(r->err.text, "");
	CHECK_CONTAINS(r->out.text, "\n  first_touch                p50    ns ");
	CHECK_CONTAINS(r->out.text, "\n  host_fault                 p99    ns ");
	CHECK_CONTAINS(r->out.text, "  control\n");
	CHECK_CONTAINS(r->out.text,
		       " too noisy; confidence 0.99 for the whole table, differences below 5 % are none\n");
	doc = tain_json_file("c.json");
	check_result_keys(doc, WORDS("comparison"));
	CHECK_STR(json_text(doc, "command"), "compare");
	CHECK_STR(json_text(doc, "engine"), "soft");
	check_measures(json_object_get(doc, "comparison"), 6);
	CHECK_EQ(tain_dir_files(), 3);
}

/* A result with itself is never faster or slower. */
static void a_file_with_itself(void)
{
	const struct tain_run *r;

	bench("a.json");
	r = TAIN("compare", "a.json", "a.json", "--fail", "--phase", "0");
	CHECK_EQ(r->status, 0);
	CHECK_CONTAINS(r->out.text, "\n0 faster, 0 slower, ");
	r = TAIN("compare", "a.json", "a.json", "-q", "--json", "-");
	CHECK_EQ(json_array_size(json_object_get(json_object_get(tain_json(r->out.text), "comparison"), "warnings")),
		 0);
}

static void commands_in_turn(void)
{
	const struct tain_run *r;
	char command[512];
	json_t *doc;

	snprintf(command, sizeof(command), "%s bench fault -b 512K -i 1", tain_program());
	r = TAIN("compare", "--run", command, command, "-n", "2", "--seed", "5", "--json", "c.json");
	CHECK_MSG(!r->status, "exit status %d; stderr '%s'", r->status, r->err.text);
	CHECK_STR(r->err.text, "");
	CHECK_CONTAINS(r->out.text, "tain compare: 2 runs of each command in turn, seed 5\n");
	CHECK_CONTAINS(r->out.text, "too noisy: 2 rounds; 8 are needed\n");
	CHECK_CONTAINS(r->out.text, "\n  faults                     rate   /s ");
	doc = tain_json_file("c.json");
	CHECK_EQ(json_u64(doc, "seed"), 5);
	CHECK(json_is_true(json_object_get(json_object_get(doc, "comparison"), "paired")));
	check_measures(json_object_get(doc, "comparison"), 2);
	CHECK_EQ(tain_dir_files(), 1);
}

/* B is slower by far, and --fail says so. */
static void slower_is_found(void)
{
	static const char text[] =
		"f() { n=$((1000 + $$ %% 7)); [ %c = b ] && n=$((n * 3)); cat >\"$2\" <<E\n"
		"{\"schema\": \"tain.result/1\", \"elapsed_s\": 1, \"figures\": [{\"name\": \"x\", \"unit\": \"ns\", "
		"\"at_most\": true, \"values\": [$n]}]}\nE\n}; f";
	char a[512], b[512];

	snprintf(a, sizeof(a), text, 'a');
	snprintf(b, sizeof(b), text, 'b');
	CHECK_EQ(TAIN("compare", "--run", a, b, "--fail", "-n", "8")->status, 1);
	CHECK_CONTAINS(TAIN("compare", "--run", a, b, "-n", "8")->out.text, "  slower\n");
	CHECK_EQ(TAIN("compare", "--run", b, a, "--fail", "-n", "8")->status, 0);
	CHECK_CONTAINS(TAIN("compare", "--run", b, a, "-n", "8")->out.text, "  faster\n");
}

static void write_text(const char *name, const char *text)
{
	tain_write_file(name, text, strlen(text));
}

/* Refused, with the files that are there. */
static void refused(const struct tain_run *r, const char *says)
{
	char line[256];

	snprintf(line, sizeof(line), "tain: %s", says);
	CHECK_MSG(r->status == 2, "%s: exit status %d", r->name, r->status);
	CHECK_STR(r->out.text, "");
	CHECK_EQ(tain_count(r->err.text, "\n"), 1);
	CHECK_CONTAINS(r->err.text, line);
}

static void what_is_no_result_is_refused(void)
{
	write_text("bad", "{\n\"schema\": ");
	write_text("doctor", "{\"schema\": \"tain.doctor/1\"}");
	write_text("none", "{\"schema\": \"tain.result/1\", \"elapsed_s\": 1}");
	write_text("list", "[1, 2]");
	refused(TAIN("compare", "none"), "missing argument; usage: tain compare [OPTIONS] A B");
	refused(TAIN("compare", "none", "none", "none"), "unexpected argument 'none'; see tain compare --help");
	refused(TAIN("compare", "absent", "none"), "cannot read absent: No such file or directory");
	refused(TAIN("compare", ".", "none"), "cannot read .: Is a directory");
	refused(TAIN("compare", "none", "bad"), "bad is not JSON: line 2: ");
	refused(TAIN("compare", "doctor", "none"), "doctor has the schema 'tain.doctor/1', not 'tain.result/1'");
	refused(TAIN("compare", "none", "list"), "list is no result: it has no schema");
	refused(TAIN("compare", "none", "none"), "A and B have nothing to compare: no histogram, no figure");
	for (const char *const *p = WORDS("0", "1", "2", "x", "", "0.5x", "nan", "-1"); *p; p++) {
		char says[80];

		snprintf(says, sizeof(says), "--confidence: '%s' is not a number between 0 and 1", *p);
		refused(TAIN("compare", "none", "none", "--confidence", *p), says);
	}
	refused(TAIN("compare", "none", "none", "--effect", "0"), "--effect: '0' is not a number between 0 and 1000");
	refused(TAIN("compare", "none", "none", "--json", "missing/x"),
		"--json: cannot write to missing: No such file or directory");
	refused(TAIN("compare", "none", "none", "-n", "65"), "-n: '65' is out of range, 1 to 64");
}

static void another_mmu_is_warned_of(void)
{
	static const char shadow[] =
		"{\"schema\": \"tain.result/1\", \"mmu\": \"KVM kernel shadow\", \"elapsed_s\": 1, \"figures\": "
		"[{\"name\": \"x\", \"values\": [1]}]}";
	static const char ept[] =
		"{\"schema\": \"tain.result/1\", \"mmu\": \"KVM EPT\", \"elapsed_s\": 1, \"figures\": "
		"[{\"name\": \"x\", \"values\": [1]}]}";
	const struct tain_run *r;

	write_text("shadow", shadow);
	write_text("ept", ept);
	r = TAIN("compare", "shadow", "ept");
	CHECK_EQ(r->status, 0);
	CHECK_STR(r->err.text, "tain: warning: mmu differs: A \"KVM kernel shadow\", B \"KVM EPT\"\n");
	CHECK_CONTAINS(r->out.text, "  too noisy: 1 and 1 passes of 1 s; 5 of each are needed\n");
}

static void check_run(const char *command, const char *timeout, int status, const char *says)
{
	const struct tain_run *r = TAIN("compare", "--run", command, command, "-n", "1", "--timeout", timeout);

	CHECK_MSG(r->status == status, "%s: exit status %d", r->name, r->status);
	CHECK_CONTAINS(r->err.text, says);
	CHECK_EQ(tain_count(r->err.text, "\n"), 1);
	CHECK_EQ(tain_dir_files(), 0);
}

static void commands_that_fail(void)
{
	check_run("exit 3 #", "10m", 1, " ended with status 3\n");
	check_run("sleep 1000 #", "100ms", 124, " has not ended within 0 s\n");
	check_run("true", "10m", 2, " wrote no result: does it take --json?\n");
}

/* The command that runs is ended too: nothing is left of either. */
static void ends_the_command_too(int sig, int status)
{
	static const char command[] = "echo $$ >pid.new; mv pid.new pid; echo \"$0\" >where; sleep 1000 #";
	struct tain_run *r = tain_start(NULL, WORDS("compare", "--run", command, command));
	const char *pid_path = tain_path("pid"), *where_path = tain_path("where");
	char where[256] = "";
	FILE *file;
	int pid = 0;

	while (!(file = fopen(where_path, "re")) || !fgets(where, sizeof(where), file)) {
		if (file)
			fclose(file);
		if (tain_has_ended(r)) /* the test's watchdog is the limit */
			break;
		thread_sleep_ns(NSEC_PER_MSEC);
	}
	REQUIRE(where[0]);
	fclose(file);
	*strrchr(where, '/') = '\0';
	file = fopen(pid_path, "re");
	REQUIRE(file);
	CHECK_EQ(fscanf(file, "%d", &pid), 1);
	fclose(file);
	CHECK_EQ(access(where, F_OK), 0);
	kill(r->pid, sig);
	tain_wait(r);
	CHECK_EQ(r->status, status);
	CHECK_STR(r->err.text, "");
	while (sig == SIGKILL && (!tain_gone(pid) || !access(where, F_OK)))
		thread_sleep_ns(NSEC_PER_MSEC);
	CHECK_MSG(tain_gone(pid), "process %d is there", pid);
	CHECK_MSG(access(where, F_OK) && errno == ENOENT, "%s is there", where);
}

static void a_signal_ends_the_command_too(void)
{
	ends_the_command_too(SIGTERM, 143);
}

static void a_kill_ends_the_command_too(void)
{
	ends_the_command_too(SIGKILL, 128 + SIGKILL);
}

const struct test_case cmd_compare_tests[] = {
	TEST(two_files),
	TEST(a_file_with_itself),
	TEST(commands_in_turn),
	TEST(slower_is_found),
	TEST(what_is_no_result_is_refused),
	TEST(another_mmu_is_warned_of),
	TEST(commands_that_fail),
	TEST(a_signal_ends_the_command_too),
	TEST(a_kill_ends_the_command_too),
	TEST_END,
};
