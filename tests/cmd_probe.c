/* SPDX-License-Identifier: MIT */
/* The USDT probes: they are in the binary, and the bpftrace script sees them fire. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/cmd_env.h"
#include "tests/cmd_suites.h"

#if defined(__has_include)
#if __has_include(<sys/sdt.h>)
#define HAVE_PROBES 1
#endif
#endif

static bool probes_or_skip(const char *tool)
{
#ifndef HAVE_PROBES
	test_skip("built without <sys/sdt.h>: systemtap-sdt-dev");
	return false;
#endif
	return program_or_skip(tool);
}

static void in_the_binary(void)
{
	static const char *const names[] = { "fault_begin",    "fault_end", "invalidate_start",
					     "invalidate_end", "op_begin",  "op_end" };
	const struct tain_setup readelf = { .program = "readelf" };
	const struct tain_run *r;
	char line[64];

	if (!probes_or_skip("readelf"))
		return;
	r = TAIN_WITH(&readelf, "-n", tain_program());
	CHECK_EQ(r->status, 0);
	CHECK_GE(tain_count(r->out.text, "Provider: tain\n"), ARRAY_SIZE(names));
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		snprintf(line, sizeof(line), "Name: %s\n", names[i]);
		CHECK_CONTAINS(r->out.text, line);
	}
}

/* The script, for the tain under test, as its head says: sed 's|build/tain|PATH|'. Return: its path; NULL: skipped. */
static const char *script_or_skip(void)
{
	const char *script;
	const struct tain_setup sed = { .program = "sed" };
	const struct tain_run *r;
	char edit[600];

	if (geteuid()) {
		test_skip("bpftrace needs root");
		return NULL;
	}
	if (!probes_or_skip("bpftrace"))
		return NULL;
	script = tain_tree_file("scripts/tain-faults.bt");
	if (!script)
		return NULL;
	snprintf(edit, sizeof(edit), "s|build/tain|%s|", tain_program());
	r = TAIN_WITH(&sed, edit, script);
	CHECK_EQ(r->status, 0);
	tain_write_file("faults.bt", r->out.text, r->out.bytes);
	return tain_path("faults.bt");
}

/* What the script counts of a run with these words. Return: its text; NULL: skipped. */
static const char *count(const char *words)
{
	const char *script = script_or_skip();
	const struct tain_setup bpftrace = { .program = "bpftrace" };
	const struct tain_run *r;
	char command[800];

	if (!script)
		return NULL;
	snprintf(command, sizeof(command), "%s %s", tain_program(), words);
	r = TAIN_WITH(&bpftrace, "-c", command, script);
	if (r->status && strstr(r->err.text, "ould not")) {
		test_skip("bpftrace: %.120s", r->err.text);
		return NULL;
	}
	CHECK_MSG(!r->status, "bpftrace: %s", r->err.text);
	return r->out.text;
}

static void fire_on_soft(void)
{
	const char *text = count("stress --engine soft -b 2M -v 1 --iterations 300 --time 5m --seed 3 -q");

	if (!text)
		return;
	for (const char *const *part = WORDS("@fault_ns[0]: ", "@faults_by_vcpu[0]: ", "@invalidate_ns: ",
					     "@invalidate_pages: ", "@op_ns[munmap]: ", "@op_ns[mprotect]: ");
	     *part; part++)
		CHECK_CONTAINS(text, *part);
	/* Nothing is left of what began and did not end. */
	CHECK_MSG(!strstr(text, "@began["), "stdout '%s'", text);
}

/* Linux faults and invalidates by itself: the operations are tain's. */
static void fire_on_kvm(void)
{
	const char *text =
		kvm_or_skip()
			? count("stress --engine kvm -b 2M -v 1 --ops munmap --iterations 20 --time 5m --seed 3 -q")
			: NULL;

	if (!text)
		return;
	CHECK_CONTAINS(text, "@op_ns[munmap]: ");
	CHECK_MSG(!strstr(text, "@fault_ns"), "tain's own MMU has no part in it: '%s'", text);
}

const struct test_case cmd_probe_tests[] = {
	TEST(in_the_binary),
	TEST(fire_on_soft),
	TEST(fire_on_kvm),
	TEST_END,
};
