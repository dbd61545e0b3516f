/* SPDX-License-Identifier: MIT */
/* tain run: the guest's console, arguments, exit code, and how a guest is ended. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/cmd_env.h"
#include "tests/cmd_suites.h"

static void check_hello(const char *engine)
{
	const struct tain_run *r = TAIN("run", "-e", engine, "-q", "hello");

	CHECK_EQ(r->status, 0);
	CHECK_STR(r->out.text, "hello from vcpu 0 of 1\n");
	CHECK_STR(r->err.text, "");
	r = TAIN("run", "--engine", engine, "--quiet", "hello", "--", "one", "--two", "exit=7", "-h");
	CHECK_EQ(r->status, 7);
	CHECK_STR(r->out.text, "hello from vcpu 0 of 1: one --two exit=7 -h\n");
	CHECK_STR(r->err.text, "");
}

static void hello(void)
{
	const struct tain_run *r = TAIN("run", "hello", "--seed", "5");

	CHECK_EQ(r->status, 0);
	CHECK_STR(r->out.text, "hello from vcpu 0 of 1\n");
	CHECK_STR(r->err.text, "tain run: engine soft, MMU tain EPT, host mm tain mmap_sem, CPU software, seed 5\n");
	check_hello("soft");
}

static void hello_on_kvm(void)
{
	const struct tain_run *r;

	if (!kvm_or_skip())
		return;
	r = TAIN("run", "-e", "kvm", "--seed", "0x10", "hello");
	CHECK_EQ(r->status, 0);
	CHECK_STR(r->out.text, "hello from vcpu 0 of 1\n");
	CHECK_CONTAINS(r->err.text, "tain run: engine kvm, MMU KVM ");
	CHECK_CONTAINS(r->err.text, ", host mm Linux ");
	CHECK_CONTAINS(r->err.text, ", seed 16\n");
	check_hello("kvm");
	CHECK_EQ(TAIN("run", "-q", "-e", "kvm", "-s", "memfd", "-v", "2", "-b", "1M", "counter")->status, 0);
}

static void exit_codes_are_passed_on(void)
{
	static const int codes[] = { 0, 1, 2, 4, 99, 124, 255 };

	for (size_t i = 0; i < ARRAY_SIZE(codes); i++) {
		char word[16];

		if (codes[i] == 99) /* taken: a sanitizer's */
			continue;
		snprintf(word, sizeof(word), "exit=%d", codes[i]);
		CHECK_EQ(TAIN("run", "-q", "hello", "--", word)->status, codes[i]);
	}
	/* The low eight bits are what a process can pass on. */
	CHECK_EQ(TAIN("run", "-q", "hello", "--", "exit=300")->status, 44);
}

/* Each vCPU's line, whole, in any order. */
static void every_vcpu_speaks(void)
{
	const struct tain_run *r = TAIN("run", "-q", "-v", "16", "-b", "1M", "hello", "--", "exit=3");
	char line[48];

	CHECK_EQ(r->status, 3);
	for (int i = 0; i < 16; i++) {
		snprintf(line, sizeof(line), "hello from vcpu %d of 16: exit=3\n", i);
		CHECK_EQ(tain_count(r->out.text, line), 1);
	}
	CHECK_EQ(tain_count(r->out.text, "\n"), 16);
}

static void workloads_that_end_by_themselves(void)
{
	const struct tain_run *r = TAIN("run", "-q", "-v", "2", "-b", "64K", "counter", "--", "passes=10", "pages=4");

	CHECK_EQ(r->status, 0);
	CHECK_CONTAINS(r->out.text, "counter: vcpu 0: total 40\n");
	CHECK_CONTAINS(r->out.text, "counter: vcpu 1: total 40\n");
	r = TAIN("run", "-q", "-b", "64K", "random", "--", "passes=2", "seed=1");
	CHECK_EQ(r->status, 0);
	CHECK_CONTAINS(r->out.text, "random: vcpu 0: 32 accesses in ");
	r = TAIN("run", "-q", "-b", "64K", "stride", "--", "passes=3", "stride=2");
	CHECK_EQ(r->status, 0);
	CHECK_CONTAINS(r->out.text, "stride: vcpu 0: ");
}

/* Out of time: the guest is asked first, and finishes its sentence. */
static void time_ends_a_guest(void)
{
	const struct tain_run *r = TAIN("run", "-b", "64K", "-t", "300ms", "stride");

	CHECK_EQ(r->status, 124);
	CHECK_CONTAINS(r->out.text, "stride: vcpu 0: ");
	CHECK_CONTAINS(r->err.text, "tain: the guest did not end within 0.3 s\n");
	/* In time: no difference. */
	CHECK_EQ(TAIN("run", "-q", "-t", "100s", "hello", "--", "exit=5")->status, 5);
}

static void signals_end_a_guest(void)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP };

	for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
		struct tain_run *r = tain_start(NULL, WORDS("run", "-b", "64K", "-v", "2", "stride"));

		if (tain_expect(r, &r->err, "seed ", 1))
			kill(r->pid, signals[i]);
		tain_wait(r);
		CHECK_EQ(r->status, 128 + signals[i]);
		CHECK(!r->killed);
		CHECK_CONTAINS(r->out.text, "stride: vcpu 0: ");
		CHECK_CONTAINS(r->out.text, "stride: vcpu 1: ");
	}
}

/* A file called like a workload is meant only with a slash. */
static void a_file_called_like_a_workload(void)
{
	tain_write_file("hello", "no guest", 8);
	mkdir(tain_path("counter"), 0700);
	CHECK_EQ(TAIN("run", "-q", "hello")->status, 0);
	CHECK_EQ(TAIN("run", "-q", "-b", "64K", "counter", "--", "passes=1")->status, 0);
	CHECK_EQ(TAIN("run", "-q", "./hello")->status, 2);
}

static void a_users_own_guest(void)
{
	const char *elf = tain_tree_file("guest/hello.elf");
	char soft[256];

	if (!elf)
		return;
	snprintf(soft, sizeof(soft), "%s: the soft engine runs built-in guests only; use --engine kvm for ELF files",
		 elf);
	check_refused(TAIN("run", elf), 2, soft);
	if (!kvm_or_skip())
		return;
	CHECK_EQ(TAIN("run", "-q", "-e", "kvm", elf, "--", "exit=9")->status, 9);
	CHECK_STR(TAIN("run", "-q", "-e", "kvm", "-b", "4K", elf)->out.text, "hello from vcpu 0 of 1\n");
}

static void sizes_at_the_edges(void)
{
	char cpus[20];

	snprintf(cpus, sizeof(cpus), "-c%s", test_cpu());
	CHECK_EQ(TAIN("run", "-q", "-b", "4K", "hello")->status, 0);
	CHECK_EQ(TAIN("run", "-q", "-b", "0x1000", "hello")->status, 0);
	CHECK_EQ(TAIN("run", "-q", "-b", "1G", "hello")->status, 0); /* not touched: costs nothing */
	CHECK_EQ(TAIN("run", "-q", "-b", "4k", "--arena", "2M", "hello")->status, 0);
	CHECK_EQ(TAIN("run", "-q", "-b4KiB", "-v1", cpus, "hello")->status, 0);
}

const struct test_case cmd_run_tests[] = {
	TEST(hello),
	TEST(hello_on_kvm),
	TEST(exit_codes_are_passed_on),
	TEST(every_vcpu_speaks),
	TEST(workloads_that_end_by_themselves),
	TEST(time_ends_a_guest),
	TEST(signals_end_a_guest),
	TEST(a_file_called_like_a_workload),
	TEST(a_users_own_guest),
	TEST(sizes_at_the_edges),
	TEST_END,
};
