/* SPDX-License-Identifier: MIT */
/* tain uffd-check against the handler in examples/: the good one passes, the wrong ones are told. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/thread.h"
#include "tests/cmd_env.h"
#include "tests/cmd_suites.h"

static char program[512], where[512], snapshot[512];

/* Build and start the handler. Return: NULL: skipped, or the check has failed. */
static struct tain_run *handler(const char *wrong)
{
	const char *source = tain_tree_file("examples/uffd-handler/uffd-handler.c");
	struct tain_setup compiler = { .program = "cc" }, setup = { .program = program };
	int fd = (int)syscall(SYS_userfaultfd, 0);
	struct tain_run *r;
	struct stat st;

	if (fd < 0) {
		test_skip("userfaultfd: %s", strerror(errno));
		return NULL;
	}
	close(fd);
	if (!source || !program_or_skip("cc"))
		return NULL;
	snprintf(program, sizeof(program), "%s", tain_path("uffd-handler"));
	snprintf(where, sizeof(where), "%s", tain_path("socket"));
	snprintf(snapshot, sizeof(snapshot), "%s", tain_path("snapshot"));
	if (!CHECK_EQ(tain_run(&compiler, WORDS("-O2", "-Wall", "-Werror", source, "-o", program))->status, 0))
		return NULL;
	r = tain_start(&setup, wrong ? WORDS(where, snapshot, wrong) : WORDS(where, snapshot));
	while (stat(where, &st)) /* the test's watchdog is the limit */
		thread_sleep_ns(NSEC_PER_MSEC);
	return r;
}

static void good_passes(void)
{
	const struct tain_run *r;
	json_t *doc;

	if (!handler(NULL))
		return;
	r = TAIN("uffd-check", where, "--snapshot", snapshot, "-b", "4M", "-t", "20s", "--limit", "5m", "-n", "2",
		 "--json", tain_path("result"), "--seed", "7");
	CHECK_EQ(r->status, 0);
	CHECK_CONTAINS(r->out.text, "uffd-check: 0 violations\n");
	doc = tain_json_file("result");
	if (!doc)
		return;
	CHECK_STR(json_text(doc, "command"), "uffd-check");
	CHECK_EQ(json_u64(doc, "seed"), 7);
	CHECK_GT(json_u64(doc, "checked_accesses"), 0);
	CHECK_GT(json_u64(doc, "faults"), 0);
	CHECK_GT(json_u64(json_object_get(doc, "host_ops"), "remove"), 0);
	CHECK_EQ(json_array_size(json_object_get(doc, "violations")), 0);
	CHECK_EQ(json_u64(json_object_get(json_object_get(doc, "histograms"), "handler"), "count"),
		 json_u64(doc, "faults"));
}

static void ignored_remove_is_told(void)
{
	const struct tain_run *r;

	if (!handler("--wrong=remove"))
		return;
	r = TAIN("uffd-check", where, "--snapshot", snapshot, "-b", "4M", "-t", "5m", "--limit", "5m");
	CHECK_EQ(r->status, 1);
	CHECK_CONTAINS(r->out.text, "was removed, must hold zeros, holds the snapshot's content; history: #");
}

static void given_up_is_told(void)
{
	const struct tain_run *r;

	if (!handler("--wrong=again"))
		return;
	r = TAIN("uffd-check", where, "--snapshot", snapshot, "-b", "64M", "-t", "5m", "--limit", "1s");
	CHECK_EQ(r->status, 1);
	CHECK_CONTAINS(r->out.text, "violation (stuck): page ");
	CHECK_CONTAINS(r->out.text, " got no answer for 1000 ms; history: ");
}

/* Begin a check that takes a while, and wait until its threads are at it. */
static struct tain_run *check_begun(void)
{
	const struct tain_setup terminal = { .err_terminal = true };
	struct tain_run *r = tain_start(&terminal, WORDS("uffd-check", where, "--snapshot", snapshot, "-b", "128M",
							 "-t", "5m", "--limit", "5m", "-n", "1"));

	tain_expect(r, &r->err, "tain uffd-check: ", 1);
	return r;
}

#define KILLS 20 /* on a busy machine it may be through before it is killed */

static void killed_is_told(void)
{
	struct tain_run *h, *r = NULL;

	for (int i = 0; i < KILLS && !test_failures() && (!r || !r->status); i++) {
		h = handler(NULL);
		if (!h)
			return;
		r = check_begun();
		kill(h->pid, SIGKILL);
		tain_wait(r);
		tain_wait(h);
		unlink(where);
	}
	CHECK_EQ(r->status, 1);
	CHECK_CONTAINS(r->out.text, "violation (dead): page ");
	CHECK_CONTAINS(r->out.text, "the handler has ended");
	CHECK_CONTAINS(r->out.text, "uffd-check: 1 violation\n");
}

static void signal_ends_it(void)
{
	struct tain_run *r = NULL;

	if (!handler(NULL))
		return;
	for (int i = 0; i < KILLS && !test_failures() && (!r || !r->status); i++) {
		r = check_begun();
		kill(r->pid, SIGINT);
		tain_wait(r);
	}
	CHECK_EQ(r->status, 130);
}

static void refuses(void)
{
	check_refused(TAIN("uffd-check", "s"), 2, "--snapshot FILE is needed: the file that the handler answers from");
	check_refused(TAIN("uffd-check", "s", "--snapshot", "x", "--ops", "remove,unmaps"), 2,
		      "unknown operation 'unmaps', did you mean 'unmap'?");
	check_refused(TAIN("uffd-check", "s", "--snapshot", "/nowhere/x", "-b", "1M"), 2,
		      "cannot create /nowhere/x: No such file or directory");
}

static void bench_times_faults(void)
{
	static const struct {
		const char *mode, *placement, *histogram;
	} cases[] = {
		{ "MISSING", "vcpu", "uffd_missing" },
		{ "MINOR", "same-cpu", "uffd_minor" },
		{ "WP", "thread", "uffd_wp" },
	};
	int fd = (int)syscall(SYS_userfaultfd, 0);

	if (fd < 0) {
		test_skip("userfaultfd: %s", strerror(errno));
		return;
	}
	close(fd);
	if (!kvm_or_skip())
		return;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct tain_run *r =
			TAIN("bench", "fault", "-e", "kvm", "-u", cases[i].mode, "--placement", cases[i].placement,
			     "--window", "4", "-b", "1M", "-i", "2", "--json", tain_path("result"));
		json_t *doc;

		CHECK_EQ(r->status, 0);
		CHECK_CONTAINS(r->out.text, "4 pages (fault-around)");
		doc = tain_json_file("result");
		if (!doc)
			return;
		/* Two passes over 256 pages; a fault brings four in. */
		CHECK_EQ(json_u64(json_object_get(json_object_get(doc, "histograms"), cases[i].histogram), "count"),
			 512);
		CHECK_GE(json_u64(doc, "faults"), 128);
		CHECK_STR(json_text(json_object_get(doc, "options"), "placement"), cases[i].placement);
	}
}

static void bench_refuses(void)
{
	check_refused(TAIN("bench", "fault", "-u", "MISSING"), 2, "-u needs engine kvm: userfaultfd is Linux's");
	if (!kvm_or_skip())
		return;
	check_refused(TAIN("bench", "fault", "-e", "kvm", "-u", "missing"), 2,
		      "unknown mode 'missing' of userfaultfd; MISSING, MINOR and WP are");
	check_refused(TAIN("bench", "fault", "-e", "kvm", "-u", "WP", "--window", "3"), 2,
		      "a window of 3 pages; a power of two is possible");
	check_refused(TAIN("bench", "fault", "-e", "kvm", "-u", "MINOR", "-s", "anonymous"), 2,
		      "-u MINOR is measured on memfd memory: without -s anonymous");
	check_refused(TAIN("bench", "fault", "-e", "kvm", "--window", "4"), 2,
		      "--window is for a userfaultfd's faults: with -u");
}

const struct test_case cmd_uffd_tests[] = {
	TEST(good_passes),	  TEST(ignored_remove_is_told), TEST(given_up_is_told),
	TEST(killed_is_told),	  TEST(signal_ends_it),		TEST(refuses),
	TEST(bench_times_faults), TEST(bench_refuses),		TEST_END,
};
