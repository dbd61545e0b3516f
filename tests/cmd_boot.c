/* SPDX-License-Identifier: MIT */
/* The bare guests as people boot them without tain: qemu-system-x86_64 -kernel, and GRUB in Bochs. */
#include <string.h>

#include "tests/cmd_env.h"
#include "tests/cmd_suites.h"

#define QEMU "qemu-system-x86_64"

static const struct tain_run *boot_in(const char *machine, const char *accel, const char *mib, const char *guest,
				      const char *words)
{
	const char *elf = tain_tree_file(guest);
	const struct tain_setup setup = { .program = QEMU };

	if (!elf)
		return NULL;
	return TAIN_WITH(&setup, "-M", machine, "-accel", accel, "-cpu",
			 strcmp(accel, "kvm") ? "max" : "host,arch-capabilities=off", "-m", mib, "-nodefaults",
			 "-no-user-config", "-display", "none", "-serial", "stdio", "-device",
			 "isa-debug-exit,iobase=0xf4", "-kernel", elf, "-append", words);
}

static const struct tain_run *boot(const char *machine, const char *accel, const char *guest, const char *words)
{
	return boot_in(machine, accel, "256", guest, words);
}

/* isa-debug-exit makes exit status 2 * code + 1 of a code. */
static void check_hello(const char *machine, const char *accel)
{
	const struct tain_run *r = boot(machine, accel, "build/guest/hello.elf", "one  two exit=3");

	if (!r)
		return;
	CHECK_EQ(r->status, 2 * 3 + 1);
	CHECK_STR(r->out.text, "hello from vcpu 0 of 1: one two exit=3\n");
}

static void check_boot(const char *machine, const char *accel)
{
	const struct tain_run *r;

	check_hello(machine, accel);
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

static void microvm_kvm(void)
{
	if (program_or_skip(QEMU) && kvm_or_skip())
		check_boot("microvm", "kvm");
}

/* Firmware takes seconds where CPL0 is emulated, and a guest is the same in every build. */
static void firmware_kvm(const char *machine)
{
	if (test_prove_or_skip() && program_or_skip(QEMU) && kvm_or_skip())
		check_hello(machine, "kvm");
}

static void pc_kvm(void)
{
	firmware_kvm("pc");
}

static void q35_kvm(void)
{
	firmware_kvm("q35");
}

/* --- Bochs ------------------------------------------------------------------------------------- */

static const struct tain_run *bochs(const char *mib, const char *guest, const char *one, const char *two)
{
	const struct tain_setup setup = { .program = tain_tree_file("scripts/bochs") };
	const char *elf = tain_tree_file(guest);
	const struct tain_run *r;

	if (!setup.program || !elf)
		return NULL;
	r = TAIN_WITH(&setup, "--time", "600", "--memory", mib, elf, one, two);
	if (r->status != 4)
		return r;
	test_skip("%.*s", (int)strcspn(r->err.text, "\n"), r->err.text);
	return NULL;
}

static void grub_in_bochs(void)
{
	const struct tain_run *r = bochs("128", "build/guest/hello.elf", "one", "exit=3");

	if (!r)
		return;
	CHECK_MSG(r->status == 3, "status %d: %s", r->status, r->err.text);
	CHECK_STR(r->out.text, "hello from vcpu 0 of 1: one exit=3\n");
	/* The map is multiboot2's: firmware keeps the end of the 8 MiB behind LOW. */
	r = bochs("136", "build/guest/counter.elf", "passes=2", "pages=1536");
	if (!r)
		return;
	CHECK_MSG(r->status == 0, "status %d: %s", r->status, r->err.text);
	CHECK_STR(r->out.text, "counter: vcpu 0: total 3072\n");
}

/* --- what goes wrong ----------------------------------------------------------------------------- */

/* Said while there is a stack to say it from. */
static void too_little_memory(void)
{
	const struct tain_run *r;

	if (!program_or_skip(QEMU))
		return;
	for (const char *const *machine = WORDS("microvm", "pc", "q35"); *machine; machine++) {
		r = boot_in(*machine, "tcg", "127", "build/guest/hello.elf", "");
		if (!r)
			return;
		CHECK_EQ(r->status, 2 * 1 + 1);
		CHECK_STR(r->out.text, "guest: 128 MiB of memory at least are needed\n");
		/* What firmware keeps at the end is no less. */
		r = boot_in(*machine, "tcg", "128", "build/guest/hello.elf", "");
		if (r)
			CHECK_EQ(r->status, 1);
	}
}

/* Two belong to a host's command, and say so; what has no clock that anybody knows counts cycles. */
static void every_guest(void)
{
	static const struct {
		const char *elf, *text;
		int code;
	} cases[] = {
		{ "build/guest/stamp.elf", "stamp: vcpu 0: the host gave no rules; ", 1 },
		{ "build/guest/touch.elf", "touch: vcpu 0: there is no host to obey; ", 1 },
		{ "build/guest/stride.elf", "stride: vcpu 0: 32768 accesses in ", 0 },
		{ "build/guest/random.elf", " cycles\n", 0 },
	};

	if (!program_or_skip(QEMU))
		return;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct tain_run *r = boot("microvm", "tcg", cases[i].elf, "passes=1");

		if (!r)
			return;
		CHECK_EQ(r->status, 2 * cases[i].code + 1);
		CHECK_CONTAINS(r->out.text, cases[i].text);
	}
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
	TEST(microvm),
	TEST(pc),
	TEST(q35),
	TEST(microvm_kvm),
	TEST(pc_kvm),
	TEST(q35_kvm),
	TEST(grub_in_bochs),
	TEST(too_little_memory),
	TEST(every_guest),
	TEST(exception),
	TEST_END,
};
