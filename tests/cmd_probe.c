/* SPDX-License-Identifier: MIT */
/* The USDT probes: they are in the binary, and the bpftrace script sees them fire. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
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
	static const char *const names[] = { "fault_begin",    "fault_end",    "invalidate_start",
					     "invalidate_end", "op_begin",     "op_end",
					     "phase",	       "run_failed",   "run_repaired",
					     "uffd_read",      "uffd_resolved" };
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

/* What the script counts of a run of @program with these words. Return: how it ran; NULL: skipped. */
static const struct tain_run *count(const char *program, const char *words)
{
	const char *script = tain_tree_file("scripts/tain-faults");
	const struct tain_setup faults = { .program = script };
	const struct tain_run *r;
	char command[800];

	if (geteuid()) {
		test_skip("bpftrace needs root");
		return NULL;
	}
	if (!script || !probes_or_skip("bpftrace"))
		return NULL;
	snprintf(command, sizeof(command), "%s %s", program, words);
	r = TAIN_WITH(&faults, "--tain", program, "-c", command);
	if (r->status && strstr(r->err.text, "ould not")) {
		test_skip("bpftrace: %.120s", r->err.text);
		return NULL;
	}
	CHECK_MSG(!r->status, "bpftrace: %s", r->err.text);
	return r;
}

/* Nothing is left of what began and did not end, nor of what the script remembers. */
static void check_counted(const struct tain_run *r, const char *const *maps)
{
	for (; *maps; maps++)
		CHECK_CONTAINS(r->out.text, *maps);
	for (const char *const *own =
		     WORDS("@began[", "@opened[", "@depth[", "@op[", "@read[", "@failed[", "@tain[", "@phase[");
	     *own; own++)
		CHECK_MSG(!strstr(r->out.text, *own), "%s: stdout '%s'", *own, r->out.text);
}

/* Could the kernel's events be seen? What it lacks is named on stderr. */
static bool has_events(const struct tain_run *r, const char *event)
{
	return !strstr(r->err.text, "no tracefs") && !strstr(r->err.text, event);
}

static void fire_on_soft(void)
{
	const struct tain_run *r =
		count(tain_program(), "stress --engine soft -b 2M -v 1 --iterations 300 --time 5m --seed 3 -q");

	if (!r)
		return;
	check_counted(r, WORDS("@fault_ns[0]: ", "@faults_by_vcpu[0]: ", "@invalidate_ns: ", "@invalidate_pages: ",
			       "@op_ns[munmap]: ", "@op_ns[mprotect]: "));
	CHECK_MSG(!strstr(r->out.text, "@kvm_"), "no KVM has a part in it: '%s'", r->out.text);
}

/* A tain that does nothing but open a section of 16 pages in one of 64, and has its probes. */
static const char nesting[] = "#include <sys/sdt.h>\n"
			      "#define P(name, a, b) DTRACE_PROBE3(tain, name, a, b, 0l)\n"
			      "int main(int argc, char **argv)\n"
			      "{\n"
			      "\tfor (int i = 0; i < 3; i++) {\n"
			      "\t\tP(invalidate_start, 0l, 64l << 12);\n"
			      "\t\tP(invalidate_start, 0l, 16l << 12);\n"
			      "\t\tP(invalidate_end, 0l, 16l << 12);\n"
			      "\t\tP(invalidate_end, 0l, 64l << 12);\n"
			      "\t}\n"
			      "\tif (argc < 2)\n"
			      "\t\treturn 0;\n"
			      "\tP(fault_begin, 0l, 0l); P(fault_end, 0l, 0l);\n"
			      "\tP(op_begin, argv[1], 0l); P(op_end, argv[1], 0l); P(phase, argv[1], 0l);\n"
			      "\tP(run_failed, 0l, 0l); P(run_repaired, 0l, 0l);\n"
			      "\tP(uffd_read, 0l, 0l); P(uffd_resolved, 0l, 0l);\n"
			      "\treturn 0;\n"
			      "}\n";

/* Of sections in one another the outer one is timed, to its own end. */
static void nested_sections_are_one(void)
{
	const struct tain_setup compiler = { .program = "cc" };
	const char *program = tain_path("nesting");
	const struct tain_run *r;

	if (!probes_or_skip("cc"))
		return;
	tain_write_file("nesting.c", nesting, strlen(nesting));
	if (!CHECK_EQ(TAIN_WITH(&compiler, "-O2", "nesting.c", "-o", program)->status, 0))
		return;
	r = count(program, "");
	if (!r)
		return;
	check_counted(r, WORDS("@invalidate_ns: "));
	/* The first row of a histogram is its least. */
	CHECK_CONTAINS(r->out.text, "@invalidate_pages: \n[64, 128)              3 |");
}

/* Linux faults and invalidates by itself: the operations are tain's, the rest is the kernel's. */
static void fire_on_kvm(void)
{
	const struct tain_run *r =
		kvm_or_skip()
			? count(tain_program(),
				"stress --engine kvm -b 2M -v 1 --ops munmap --iterations 20 --time 5m --seed 3 -q")
			: NULL;

	if (!r)
		return;
	check_counted(r, WORDS("@op_ns[munmap]: "));
	CHECK_MSG(!strstr(r->out.text, "@fault_ns"), "tain's own MMU has no part in it: '%s'", r->out.text);
	if (has_events(r, "kvm:kvm_unmap_hva_range"))
		check_counted(r, WORDS("@op_ranges[munmap]: ", "@op_invalidated_pages[munmap]: "));
	if (has_events(r, "kvmmmu:kvm_mmu_set_spte"))
		check_counted(r, WORDS("@kvm_fault_ns[stress]: "));
}

/* A handler in a thread reads its faults; without one KVM_RUN fails and is repaired. */
static void fire_on_uffd(void)
{
	int fd = (int)syscall(SYS_userfaultfd, 0);
	const struct tain_run *r;

	if (fd < 0) {
		test_skip("userfaultfd: %s", strerror(errno));
		return;
	}
	close(fd);
	r = kvm_or_skip() ? count(tain_program(),
				  "bench fault -e kvm -b 1M -i 1 -q --cause uffd_missing_thread,uffd_missing_vcpu")
			  : NULL;
	if (!r)
		return;
	check_counted(r, WORDS("@repair_ns[1]: ", "@uffd_faults[0, -1]: ", "@uffd_ns[0, 0]: "));
	/* Of a write that found nothing. */
	CHECK_CONTAINS(r->out.text, "@uffd_faults[0, 1]: ");
	if (has_events(r, "kvm:kvm_userspace_exit"))
		check_counted(r, WORDS("@kvm_exits[0, -14]: "));
}

/* Events that a kernel lacks are left out whole, and named: bpftrace would give up at them. */
static void lacking_events_are_left_out(void)
{
	static const char few[] = "mount -t tmpfs none /sys/kernel/tracing && "
				  "mkdir -p /sys/kernel/tracing/events/kvm/kvm_unmap_hva_range && exec \"$0\" \"$@\"";
	const char *script = tain_tree_file("scripts/tain-faults");
	const struct tain_setup bare = { .program = script, .before = WORDS("unshare", "-m", "sh", "-c", few) };
	const struct tain_run *r;

	if (geteuid() || access("/sys/kernel/tracing", F_OK)) {
		test_skip(geteuid() ? "mounts need root" : "there is no /sys/kernel/tracing");
		return;
	}
	if (!script || !program_or_skip("unshare"))
		return;
	r = TAIN_WITH(&bare, "--tain", tain_program(), "--print");
	if (r->status && strstr(r->err.text, "unshare")) {
		test_skip("mounts: %.120s", r->err.text);
		return;
	}
	CHECK_EQ(r->status, 0);
	CHECK_CONTAINS(r->err.text, "tain-faults: this kernel has no kvm:kvm_page_fault\n");
	CHECK_EQ(tain_count(r->err.text, "kvmmmu:kvm_mmu_set_spte\n"), 1);
	CHECK_EQ(tain_count(r->out.text, "\ntracepoint:"), 2);
	CHECK_CONTAINS(r->out.text, "\ntracepoint:kvm:kvm_unmap_hva_range /@op[tid]/\n{\n\t@ranges[tid] += 1;\n");
	CHECK_MSG(!strstr(r->out.text, "@kvm_fault_ns"), "a piece of a probe stays: '%s'", r->out.text);
	CHECK_EQ(tain_count(r->out.text, "}"), tain_count(r->out.text, "{"));
}

const struct test_case cmd_probe_tests[] = {
	TEST(in_the_binary),
	TEST(fire_on_soft),
	TEST(nested_sections_are_one),
	TEST(fire_on_kvm),
	TEST(fire_on_uffd),
	TEST(lacking_events_are_left_out),
	TEST_END,
};
