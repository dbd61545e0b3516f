/* SPDX-License-Identifier: MIT */
/* ELF files as a user may hand them to tain run: all but a good one are refused, with what is wrong. */
#include <elf.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/cmd_env.h"
#include "tests/cmd_suites.h"

#define LOAD 0x200000ull /* where guests are linked to */

/* Two segments of a page each; what they hold is not run. */
struct image {
	Elf64_Ehdr header;
	Elf64_Phdr segment[2];
	char code[64];
};

static void good_image(struct image *f)
{
	*f = (struct image){
		.header = {
			.e_ident = { ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT },
			.e_type = ET_EXEC,
			.e_machine = EM_X86_64,
			.e_version = EV_CURRENT,
			.e_entry = LOAD,
			.e_phoff = offsetof(struct image, segment),
			.e_ehsize = sizeof(Elf64_Ehdr),
			.e_phentsize = sizeof(Elf64_Phdr),
			.e_phnum = 2,
		},
	};
	for (unsigned int i = 0; i < 2; i++)
		f->segment[i] = (Elf64_Phdr){
			.p_type = PT_LOAD,
			.p_flags = PF_R | PF_W | PF_X,
			.p_offset = offsetof(struct image, code),
			.p_vaddr = LOAD + i * 0x1000,
			.p_paddr = LOAD + i * 0x1000,
			.p_filesz = sizeof(f->code),
			.p_memsz = 0x1000,
			.p_align = 0x1000,
		};
	memset(f->code, 0xf4, sizeof(f->code));
}

/* --- one defect each ---------------------------------------------------------------------------- */

static void bits_32(struct image *f)
{
	f->header.e_ident[EI_CLASS] = ELFCLASS32;
}

static void big_endian(struct image *f)
{
	f->header.e_ident[EI_DATA] = ELFDATA2MSB;
}

static void other_machine(struct image *f)
{
	f->header.e_machine = EM_AARCH64;
}

static void position_independent(struct image *f)
{
	f->header.e_type = ET_DYN;
}

static void overlap(struct image *f)
{
	f->segment[1].p_vaddr = f->segment[1].p_paddr = LOAD + 0xfff;
}

static void below(struct image *f)
{
	f->segment[0].p_vaddr = f->segment[0].p_paddr = 0x1000;
}

static void above(struct image *f)
{
	f->segment[1].p_vaddr = f->segment[1].p_paddr = 1ull << 40;
}

static void wraps_around(struct image *f)
{
	f->segment[1].p_vaddr = f->segment[1].p_paddr = -0x800ull;
}

static void too_large(struct image *f)
{
	f->segment[1].p_memsz = ~0ull - 4096;
}

static void offset_past_the_end(struct image *f)
{
	f->segment[0].p_offset = 1 << 20;
}

static void offset_that_overflows(struct image *f)
{
	f->segment[0].p_offset = ~0ull - 16;
}

static void size_past_the_end(struct image *f)
{
	f->segment[1].p_filesz = 0x1000;
}

static void more_file_than_memory(struct image *f)
{
	f->segment[0].p_memsz = 8;
}

static void headers_past_the_end(struct image *f)
{
	f->header.e_phoff = 1 << 20;
}

static void headers_that_overflow(struct image *f)
{
	f->header.e_phoff = ~0ull - 8;
}

static void many_headers(struct image *f)
{
	f->header.e_phnum = 1000;
}

static void odd_headers(struct image *f)
{
	f->header.e_phentsize = 8;
}

static void nothing_to_load(struct image *f)
{
	f->segment[0].p_type = f->segment[1].p_type = PT_NOTE;
}

static void wants_a_loader(struct image *f)
{
	f->segment[1].p_type = PT_INTERP;
}

static void entry_nowhere(struct image *f)
{
	f->header.e_entry = LOAD + 0x2000;
}

static const struct {
	void (*spoil)(struct image *f);
	const char *says; /* somewhere in the line */
} defects[] = {
	{ bits_32, "32-bit ELF file" },
	{ big_endian, "ELF data encoding 2; expected 1 (little endian)" },
	{ other_machine, "ELF machine 183; expected 62 (x86-64)" },
	{ position_independent, "ELF type 3 (shared object or PIE); expected 2 (ET_EXEC)" },
	{ overlap, "segment 1, [0x200fff, 0x201fff), overlaps [0x200000, 0x201000); expected no overlap" },
	{ below, "segment 0 is 0x1000 bytes at 0x1000; expected inside [0x" },
	{ above, "segment 1 is 0x1000 bytes at 0x10000000000; expected inside [0x" },
	{ wraps_around, "segment 1 is 0x1000 bytes at 0xfffffffffffff800; expected inside [0x" },
	{ too_large, "segment 1 is 0xffffffffffffefff bytes at 0x201000; expected inside [0x" },
	{ offset_past_the_end, "segment 0 has 0x40 bytes at offset 0x100000; the file ends at 0x" },
	{ offset_that_overflows, "segment 0 has 0x40 bytes at offset 0xffffffffffffffef; the file ends at 0x" },
	{ size_past_the_end, "segment 1 has 0x1000 bytes at offset 0x" },
	{ more_file_than_memory, "segment 0 has 0x40 bytes in the file; memory for 0x8" },
	{ headers_past_the_end, "2 program headers at offset 0x100000; the file ends at 0x" },
	{ headers_that_overflow, "2 program headers at offset 0xfffffffffffffff7; the file ends at 0x" },
	{ many_headers, "1000 program headers at offset 0x40; the file ends at 0x" },
	{ odd_headers, "program headers of 8 bytes; expected 56" },
	{ nothing_to_load, "0 of 2 program headers say PT_LOAD; expected at least one" },
	{ wants_a_loader, "needs a dynamic loader (PT_INTERP)" },
	{ entry_nowhere, "the entry, 0x202000, is in no segment; expected it inside one" },
};

/* Refused in one line that names the file; the file itself is all that lies there. */
static void check_file(const void *bytes, size_t n, const char *says)
{
	const struct tain_run *r;
	char line[512];

	tain_write_file("guest.elf", bytes, n);
	r = TAIN("run", "-e", "kvm", "./guest.elf");
	snprintf(line, sizeof(line), "tain: ./guest.elf: %s", says);
	CHECK_MSG(r->status == 2, "%s: exit status %d; stderr '%s'", says, r->status, r->err.text);
	CHECK_STR(r->out.text, "");
	CHECK_MSG(!strncmp(r->err.text, line, strlen(line)) && tain_count(r->err.text, "\n") == 1,
		  "stderr '%s' instead of '%s'", r->err.text, line);
	CHECK_EQ(tain_dir_files(), 1);
	unlink(tain_path("guest.elf"));
}

static void each_defect_is_named(void)
{
	if (!kvm_or_skip())
		return;
	for (size_t i = 0; i < ARRAY_SIZE(defects); i++) {
		struct image f;

		good_image(&f);
		defects[i].spoil(&f);
		check_file(&f, sizeof(f), defects[i].says);
	}
}

static void cut_short_anywhere(void)
{
	struct image f;

	if (!kvm_or_skip())
		return;
	good_image(&f);
	check_file(&f, 0, "not an ELF file");
	check_file(&f, 3, "not an ELF file");
	check_file(&f, 4, "truncated: 4 bytes; an ELF64 header has 64");
	check_file(&f, 63, "truncated: 63 bytes; an ELF64 header has 64");
	check_file(&f, 64, "2 program headers at offset 0x40; the file ends at 0x40");
	check_file(&f, sizeof(f) - 65, "2 program headers at offset 0x40; the file ends at 0x");
	check_file(&f, sizeof(f) - 64, "segment 0 has 0x40 bytes at offset 0x");
	check_file(&f, sizeof(f) - 1, "segment 0 has 0x40 bytes at offset 0x");
}

static void no_elf_at_all(void)
{
	static const char script[] = "#!/bin/sh\nexit 0\n";

	if (!kvm_or_skip())
		return;
	check_file(script, strlen(script), "not an ELF file");
	check_refused(TAIN("run", "-e", "kvm", "."), 2, ".: not a regular file; expected an ELF file");
	check_refused(TAIN("run", "-e", "kvm", "/dev/zero"), 2, "/dev/zero: not a regular file; expected an ELF file");
}

static void a_file_that_is_not_there(void)
{
	check_refused(TAIN("run", "./missing.elf"), 2, "./missing.elf: No such file or directory");
	check_refused(TAIN("run", "-e", "kvm", "missing/x.elf"), 2, "missing/x.elf: No such file or directory");
}

/* A good one runs, whatever it then does. */
static void the_image_without_a_defect_is_taken(void)
{
	const struct tain_run *r;
	struct image f;

	if (!kvm_or_skip())
		return;
	good_image(&f);
	tain_write_file("guest.elf", &f, sizeof(f));
	r = TAIN("run", "-e", "kvm", "-t", "500ms", "./guest.elf");
	CHECK_CONTAINS(r->err.text, "tain run: engine kvm, ");
	CHECK_NE(r->status, 2);
}

/* It looks at nothing and never ends: made to leave, by the clock and by a signal. */
static void a_guest_that_spins(void)
{
	static const char spin[] = { (char)0xeb, (char)0xfe }; /* jmp . */
	struct tain_run *r;
	struct image f;

	if (!kvm_or_skip())
		return;
	good_image(&f);
	memcpy(f.code, spin, sizeof(spin));
	tain_write_file("guest.elf", &f, sizeof(f));
	CHECK_EQ(TAIN("run", "-e", "kvm", "-v", "2", "-t", "200ms", "./guest.elf")->status, 124);
	r = tain_start(NULL, WORDS("run", "-e", "kvm", "./guest.elf"));
	tain_expect(r, &r->err, ", seed ", 1);
	kill(r->pid, SIGTERM);
	tain_wait(r);
	CHECK_EQ(r->status, 143);
	CHECK(!r->killed);
}

const struct test_case cmd_elf_tests[] = {
	TEST(each_defect_is_named),
	TEST(cut_short_anywhere),
	TEST(no_elf_at_all),
	TEST(a_file_that_is_not_there),
	TEST(the_image_without_a_defect_is_taken),
	TEST(a_guest_that_spins),
	TEST_END,
};
