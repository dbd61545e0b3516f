/* SPDX-License-Identifier: MIT */
/*
 * Guests under a Linux: tain run and tain stress with --engine qemu --linux. Under TCG, with
 * one processor: QEMU 7.2 runs overwritten code on others (docs/lanes.md). The guest, its
 * Linux and QEMU are the same in every build, so the build with the most checks runs them.
 */
#include <stdio.h>
#include <string.h>

#include "lab/system/guardian.h"
#include "tests/cmd_env.h"
#include "tests/cmd_suites.h"
#include "vmm/engine.h"

#define ONE_TCG "-e", "qemu", "--linux", "--accel", "tcg", "-v", "1"

static bool linux_or_skip(void)
{
	struct err why = { "" };
	int ret;

	if (!test_prove_or_skip())
		return false;
	qemu_config.under_linux = true;
	qemu_config.accel = "tcg";
	ret = engine_find("qemu")->probe(&why);
	qemu_config = (struct qemu_config){ .accel = "auto", .backing = "memfd" };
	if (ret)
		test_skip("%s", why.text);
	return !ret;
}

static void a_guest_runs_and_ends(void)
{
	const struct tain_run *r;

	if (!linux_or_skip())
		return;
	r = TAIN("run", ONE_TCG, "hello", "--", "a", "exit=3");
	CHECK_EQ(r->status, 3);
	CHECK_STR(r->out.text, "hello from vcpu 0 of 1: a exit=3\n");
	CHECK_CONTAINS(r->err.text, ", guest under linux-image-");
}

/* One file, whichever way it is entered: a user's too, and its traps are told in the same words. */
static void a_trap_is_told_as_everywhere(void)
{
	const char *elf = tain_tree_file("guest/test/probe.elf");
	const struct tain_run *r;

	if (!elf || !linux_or_skip())
		return;
	r = TAIN("run", "-q", ONE_TCG, elf, "--", "do=9"); /* PROBE_INVALID_OPCODE */
	CHECK_EQ(r->status, 128 + 6);
	CHECK_CONTAINS(r->out.text, "guest: exception 6 (invalid opcode)");
}

/* Everything an outsider can do, to DATA and to the Linux itself. */
static void stress_finds_nothing(void)
{
	const struct tain_run *r;
	json_t *doc, *done;

	if (!linux_or_skip())
		return;
	r = TAIN("stress", "-q", ONE_TCG, "-b", "1M", "-i", "400", "--time", "1h", "--seed", "5", "--ops",
		 "punch,remove,cold,split,populate,suspend,memstats", "--json", "r.json");
	CHECK_MSG(r->status == 0, "exit status %d; stdout '%s' stderr '%s'", r->status, r->out.text, r->err.text);
	doc = tain_json_file("r.json");
	if (!doc)
		return;
	CHECK_STR(json_text(doc, "mmu"), "QEMU TCG");
	CHECK_CONTAINS(json_text(json_object_get(doc, "options"), "linux"), "linux-image-");
	CHECK_EQ(json_array_size(json_object_get(doc, "violations")), 0);
	CHECK_GT(json_u64(doc, "checked_accesses"), 0);
	CHECK_GT(json_u64(doc, "own_checked"), 0);
	done = json_object_get(doc, "host_ops");
	CHECK_GT(json_u64(done, "punch"), 0);
	CHECK_GT(json_u64(done, "cold"), 0);
	CHECK_GT(json_u64(done, "suspend"), 0);
}

/* @ops that keep every byte, done to DATA and to the Linux itself; each was, in @steps. */
static void transparent(const char *backing, const char *const *ops, const char *list, const char *steps,
			const char *allow)
{
	const struct tain_run *r;
	json_t *doc;

	r = TAIN("stress", "-q", ONE_TCG, "-b", "8M", "-s", backing, "-i", steps, "--time", "1h", "--seed", "5",
		 "--ops", list, "--json", "r.json", allow);
	CHECK_MSG(r->status == 0, "exit status %d; stdout '%s' stderr '%s'", r->status, r->out.text, r->err.text);
	doc = tain_json_file("r.json");
	if (!doc)
		return;
	CHECK_EQ(json_array_size(json_object_get(doc, "violations")), 0);
	CHECK_GT(json_u64(doc, "own_checked"), 0);
	for (; *ops; ops++)
		CHECK_MSG(json_u64(json_object_get(doc, "host_ops"), *ops), "%s was done", *ops);
}

static void it_moves_and_has_huge_pages(void)
{
	if (linux_or_skip())
		transparent("memfd", WORDS("collapse", "split", "migrate"), "collapse=2,split,migrate", "8", NULL);
}

/* Where the machine may be changed; it is as before then. */
static bool guardian_or_skip(void)
{
	struct err err = { "" };

	if (!linux_or_skip())
		return false;
	test_own_machine();
	if (!guardian_start(&err)) {
		guardian_stop(NULL);
		return true;
	}
	test_skip("%s", err.text);
	return false;
}

/* Its pages go to swap and to other frames. */
static void it_is_paged_out_and_compacted(void)
{
	if (guardian_or_skip())
		transparent("memfd", WORDS("pageout", "compact", "collapse"), "pageout=3,compact=1,collapse=2", "30",
			    "--allow-system");
}

/* Its memory is anonymous, and half of what it checks are twins. */
static void it_is_merged(void)
{
	if (guardian_or_skip())
		transparent("file_shared", WORDS("merge", "pageout", "collapse", "migrate"),
			    "merge=2,pageout=2,collapse=2,migrate=1", "16", "--allow-system");
}

static void shared_memory_is_not_merged(void)
{
	const struct tain_run *r;

	if (!guardian_or_skip())
		return;
	r = TAIN("stress", "-q", ONE_TCG, "-i", "1", "--ops", "merge", "--allow-system");
	CHECK_EQ(r->status, 4);
	CHECK_CONTAINS(r->out.text, "with -s file_shared what is Linux's own is not shared");
}

static void a_machine_without_a_clock(void)
{
	if (linux_or_skip())
		check_refused(TAIN("run", ONE_TCG, "--machine", "microvm", "hello"), 2,
			      "--linux: in a microvm Linux finds no clock under TCG; give --machine q35, or --accel "
			      "kvm");
}

static void no_kernel(void)
{
	struct tain_setup setup = { .env = WORDS("XDG_CACHE_HOME=/nowhere") };
	struct err why = { "" };

	check_refused(TAIN("run", "--linux", "hello"), 2, "--linux: engine soft boots none; give --engine qemu");
	if (engine_find("qemu")->probe(&why)) {
		test_skip("%s", why.text);
		return;
	}
	check_refused(TAIN_WITH(&setup, "run", ONE_TCG, "hello"), 4,
		      "engine qemu cannot run here: --linux: /nowhere/tain/linux/vmlinuz: No such file or directory; "
		      "scripts/linux-guest fetches it");
}

const struct test_case cmd_linux_tests[] = {
	TEST(a_guest_runs_and_ends),
	TEST(a_trap_is_told_as_everywhere),
	TEST(stress_finds_nothing),
	TEST(it_moves_and_has_huge_pages),
	TEST(it_is_paged_out_and_compacted),
	TEST(it_is_merged),
	TEST(shared_memory_is_not_merged),
	TEST(a_machine_without_a_clock),
	TEST(no_kernel),
	TEST_END,
};
