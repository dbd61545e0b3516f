/* SPDX-License-Identifier: MIT */
/* tain stress --engine kvm in bad weather: little of everything, a disk that fills up, kill -9. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/thread.h"
#include "lib/time.h"
#include "tests/cmd_env.h"
#include "tests/cmd_suites.h"

/* Sanitizers want address space for themselves. */
static const bool sanitized = CHECKING && !PROVE;

#define STRESS_ALL "stress", "-e", "kvm", "--ops", "all=1", "-b", "4M", "--seed", "41", "-t", "5m"

/* Machine-wide operations, with leave: done, or refused with a reason; and all is as it was. */
static void the_machine_is_put_back(void)
{
	struct machine_state before;
	const struct tain_run *r;
	json_t *doc;

	if (!may_change_the_machine())
		return;
	read_machine(&before);
	r = TAIN(STRESS_ALL, "--ops", "merge,compact,pageout,munmap=4", "--allow-system", "-i", "20", "-q", "--json",
		 "-");
	CHECK_MSG(r->status == 0, "status %d: %s", r->status, r->err.text);
	check_machine(&before);
	doc = tain_json(r->out.text);
	CHECK_GT(json_u64(json_object_get(doc, "host_ops"), "munmap"), 0);
	CHECK_GT(json_object_size(json_object_get(doc, "host_ops")) + json_array_size(json_object_get(doc, "skips")),
		 3);
}

/* kill -9 in the middle of everything: forked children with guests go with it, and switches go back. */
static void killed_in_the_middle(void)
{
	if (may_change_the_machine())
		kill_in_the_middle(WORDS(STRESS_ALL, "--ops", "merge=9,fork", "--allow-system", "-q"));
}

/* Locked memory, descriptors and stacks at the least that works; nothing of a plan needs more. */
static void tight_limits(void)
{
	const struct tain_setup setup = { .before =
						  WORDS("sh", "-c", "ulimit -l 0; ulimit -n 40; exec \"$0\" \"$@\"") };
	const struct tain_run *r;

	if (!kvm_or_skip())
		return;
	r = TAIN_WITH(&setup, STRESS_ALL, "-i", "60", "-q");
	CHECK_MSG(r->status == 0, "status %d: %s %s", r->status, r->out.text, r->err.text);
}

/* With less and less address space: it runs, or one line says what is missing. Never a crash, never a violation. */
static void little_address_space(void)
{
	unsigned int ran = 0, said = 0;

	if (!kvm_or_skip())
		return;
	if (sanitized) {
		test_skip("sanitizers take address space");
		return;
	}
	for (int mib = 512; mib >= 32; mib -= 60) {
		char limit[96];
		const struct tain_setup setup = { .before = WORDS("sh", "-c", limit) };
		const struct tain_run *r;

		snprintf(limit, sizeof(limit), "ulimit -v %d; exec \"$0\" \"$@\"", mib * 1024);
		r = TAIN_WITH(&setup, STRESS_ALL, "-i", "30", "-q");
		if (!r->status) {
			ran++;
			continue;
		}
		said++;
		CHECK_CONTAINS(r->err.text, "tain: ");
		CHECK_MSG(!strstr(r->out.text, "violation"), "%s", r->out.text);
	}
	CHECK_GT(ran, 0);
	CHECK_GT(said, 0);
}

/* Write to the disk that @r stands on until it is full, and take what becomes free until @r has ended. */
static void fill_disk(const struct tain_run *r)
{
	static const char zeros[1 << 16];
	u64 end = clock_ns() + 100 * NSEC_PER_SEC; /* a hang */
	char path[48];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/cwd/fill", r->pid);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (!CHECK_MSG(fd >= 0, "%s: %s", path, strerror(errno)))
		return;
	while (write(fd, zeros, sizeof(zeros)) > 0)
		;
	CHECK_EQ(errno, ENOSPC);
	while (!tain_has_ended(r) && clock_ns() < end)
		if (write(fd, zeros, PAGE_SIZE) < 0)
			thread_sleep_ns(20 * NSEC_PER_USEC);
	close(fd);
}

/* The disk behind a file fills up: the run ends with the reason; no SIGBUS ends it, and no guest waits for ever. */
static void a_disk_that_fills_up(void)
{
	static const struct {
		const char *words[20], *begun;
	} cases[] = {
		{ { "stress", "-e", "kvm", "-s", "file_shared", "--ops", "remap,munmap,punch", "-b", "1M", "--seed",
		    "42", "-t", "5m", "-q" },
		  "seed 42\n" },
		{ { "stress", "-e", "kvm", "-s", "file_shared", "--ops", "punch,mprotect,mremap,populate", "-b", "1M",
		    "--seed", "42", "-t", "5m", "-q" },
		  "seed 42\n" },
		{ { "stress", "-e", "kvm", "-s", "file_private", "--ops", "punch,truncate,munmap,remap", "-b", "1M",
		    "--seed", "42", "-t", "5m", "-q" },
		  "seed 42\n" },
		{ { "bench", "fault", "-e", "kvm", "-s", "file_shared", "-b", "1M", "-i", "10000", "--seed", "42" },
		  "seed 42\n" },
	};
	const struct tain_setup probe = { .before = WORDS("unshare", "-m"), .program = "true" };
	const struct tain_setup setup = {
		.before = WORDS("unshare", "-m", "sh", "-c",
				"set -e; mount -t tmpfs -o size=12m none .; cd \"$PWD\"; export TMPDIR=\"$PWD\"; "
				"exec \"$0\" \"$@\""),
	};
	const struct tain_run *refused;
	char says[300];

	if (!kvm_or_skip() || !program_or_skip("unshare"))
		return;
	if (TAIN_WITH(&probe, "x")->status) {
		test_skip("no mount namespace without root");
		return;
	}
	snprintf(says, sizeof(says), "no space left on %s", tain_dir());
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct tain_run *r = tain_start(&setup, cases[i].words);

		if (tain_expect(r, &r->out, cases[i].begun, 1)) /* it has its file */
			fill_disk(r);
		tain_wait(r);
		CHECK_MSG(r->status == 1, "%s: status %d: %s", r->name, r->status, r->err.text);
		CHECK_CONTAINS(r->err.text, says);
		CHECK_MSG(!strstr(r->out.text, "violation"), "%s", r->out.text);
	}
	/* no room from the start is no failure */
	refused = TAIN_WITH(&setup, "stress", "-e", "kvm", "-s", "file_shared", "-b", "16M", "-q");
	CHECK_EQ(refused->status, 4);
	CHECK_CONTAINS(refused->err.text, "has no room for a file of 16777216 bytes");
}

/* What is absent makes KVM_RUN fail again and again: the run ends in time, and nobody is blamed. */
static void storms_of_failed_accesses(void)
{
	static const char *const backings[] = { "memfd", "file_shared", "file_private" };

	if (!kvm_or_skip())
		return;
	for (size_t i = 0; i < ARRAY_SIZE(backings); i++) {
		const struct tain_run *r =
			TAIN("stress", "-e", "kvm", "-s", backings[i], "--ops", "truncate,munmap,guard,mprotect", "-b",
			     "256K", "-v", "3", "-d", "0", "--seed", "43", "-i", "150", "-t", "5m");

		CHECK_MSG(r->status == 0, "%s: status %d: %s", backings[i], r->status, r->err.text);
		CHECK_CONTAINS(r->out.text, "\n  failed accesses ");
		CHECK_CONTAINS(r->out.text, "\n    truncate ");
	}
}

static void who_resolves(void)
{
	check_refused(TAIN("stress", "--ranges", "3", "-b", "4M"), 2,
		      "4194304 bytes do not divide into 3 ranges of whole pages");
	check_refused(TAIN("stress", "--ranges", "17"), 2, "--ranges: '17' is out of range, 1 to 16...");
	if (kvm_or_skip())
		check_refused(TAIN("stress", "-e", "kvm", "--uffd", "nobody"), 2,
			      "--uffd nobody: it is thread or inline");
}

const struct test_case cmd_storm_tests[] = {
	TEST(the_machine_is_put_back), TEST(killed_in_the_middle),	TEST(tight_limits), TEST(little_address_space),
	TEST(a_disk_that_fills_up),    TEST(storms_of_failed_accesses), TEST(who_resolves), TEST_END,
};
