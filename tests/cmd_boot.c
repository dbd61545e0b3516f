/* SPDX-License-Identifier: MIT */
/* The bare guests as people boot them without tain: qemu-system-x86_64 -kernel. */
#include <string.h>

#include "tests/cmd_env.h"
#include "tests/cmd_suites.h"

#define QEMU "qemu-system-x86_64"

static const struct tain_run *boot(const char *machine, const char *accel, const char *guest, const char *words)
{
	const char *elf = tain_tree_file(guest);
	const struct tain_setup setup = { .program = QEMU };

	if (!elf)
		return NULL;
	return TAIN_WITH(&setup, "-M", machine, "-accel", accel, "-cpu",
			 strcmp(accel, "kvm") ? "max" : "host,arch-capabilities=off", "-m", "256", "-nodefaults",
			 "-no-user-config", "-display", "none", "-serial", "stdio", "-device",
			 "isa-debug-exit,iobase=0xf4", "-kernel", elf, "-append", words);
}

/* isa-debug-exit makes exit status 2 * code + 1 of a code. */
static void check_boot(const char *machine, const char *accel)
{
	const struct tain_run *r = boot(machine, accel, "build/guest/hello.elf", "one  two exit=3");

	if (!r)
		return;
	CHECK_EQ(r->status, 2 * 3 + 1);
	CHECK_STR(r->out.text, "hello from vcpu 0 of 1: one two exit=3\n");
	/* DATA is the memory behind LOW, where firmware was before */
	r = boot(machine, accel, "build/guest/counter.elf", "passes=20 pages=16384");
	if (r) {
		CHECK_EQ(r->status, 1);
		CHECK_STR(r->out.text, "counter: vcpu 0: total 327680\n");
	}
}

static void microvm(void)
{
	if (program_or_skip(QEMU))
		check_boot("microvm", "tcg");
}

/* With firmware, which leaves a timer ticking. */
static void pc(void)
{
	if (program_or_skip(QEMU))
		check_boot("pc", "tcg");
}

static void q35(void)
{
	if (program_or_skip(QEMU))
		check_boot("q35", "tcg");
}

/* The others spend seconds in their firmware where CPL0 is emulated. */
static void microvm_kvm(void)
{
	if (program_or_skip(QEMU) && kvm_or_skip())
		check_boot("microvm", "kvm");
}

static void exception(void)
{
	const struct tain_run *r;

	if (!program_or_skip(QEMU))
		return;
	r = boot("microvm", "tcg", "build/guest/test/probe.elf", "do=9"); /* PROBE_INVALID_OPCODE */
	if (!r)
		return;
	CHECK_EQ(r->status, (2 * (128 + 6) + 1) & 0xff);
	CHECK_CONTAINS(r->out.text, "guest: exception 6 (invalid opcode)");
}

const struct test_case cmd_boot_tests[] = {
	TEST(microvm), TEST(pc), TEST(q35), TEST(microvm_kvm), TEST(exception), TEST_END,
};
