/* SPDX-License-Identifier: MIT */
/* The ELF loader against files from anyone: each way of being wrong has its line, none has a crash. */
#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest/test/probe.h"
#include "lib/alloc.h"
#include "lib/rng.h"
#include "tests/vmm_suites.h"
#include "vmm/elf.h"

/* A good file to spoil: the probe guest, in memory of exactly its size so that ASan sees a step too far. */
struct sample {
	char *file;
	size_t bytes;
	Elf64_Ehdr *header;
	Elf64_Phdr *ph;
};

static bool sample_open(struct sample *s)
{
	s->bytes = (size_t)(probe_elf_end - probe_elf_start);
	s->file = mem_alloc(s->bytes);
	if (!CHECK(s->file))
		return false;
	memcpy(s->file, probe_elf_start, s->bytes);
	s->header = (Elf64_Ehdr *)s->file;
	s->ph = (Elf64_Phdr *)(s->file + s->header->e_phoff);
	return true;
}

static void sample_close(struct sample *s)
{
	mem_free(s->file);
}

static void good(void)
{
	struct elf_image image;
	struct err err = { "" };
	struct sample s;

	if (!sample_open(&s))
		return;
	CHECK_MSG(!elf_parse("good", s.file, s.bytes, &image, &err), "%s", err.text);
	CHECK_EQ(image.entry, s.header->e_entry);
	CHECK_GT(image.nr_segments, 2);
	CHECK_EQ(image.segment[0].start, GUEST_IMAGE_GPA);
	sample_close(&s);
}

static void not_elf(struct sample *s)
{
	s->file[1] = 'e';
}
static void empty(struct sample *s)
{
	s->bytes = 0;
}
static void three_bytes(struct sample *s)
{
	s->bytes = 3;
}
static void half_header(struct sample *s)
{
	s->bytes = 40;
}
static void half_headers(struct sample *s)
{
	s->bytes = sizeof(Elf64_Ehdr) + sizeof(Elf64_Phdr) + 8;
}
static void half_segment(struct sample *s)
{
	s->bytes = s->ph[1].p_offset + s->ph[1].p_filesz / 2;
}
static void class_32(struct sample *s)
{
	s->file[EI_CLASS] = ELFCLASS32;
}
static void class_9(struct sample *s)
{
	s->file[EI_CLASS] = 9;
}
static void big_endian(struct sample *s)
{
	s->file[EI_DATA] = ELFDATA2MSB;
}
static void machine_arm(struct sample *s)
{
	s->header->e_machine = EM_AARCH64;
}
static void type_pie(struct sample *s)
{
	s->header->e_type = ET_DYN;
}
static void type_object(struct sample *s)
{
	s->header->e_type = ET_REL;
}
static void phentsize(struct sample *s)
{
	s->header->e_phentsize = 32;
}
static void phoff_past_end(struct sample *s)
{
	s->header->e_phoff = s->bytes + 64;
}
static void phoff_wraps(struct sample *s)
{
	s->header->e_phoff = ~0ull - 8;
}
static void no_headers(struct sample *s)
{
	s->header->e_phnum = 0;
}
static void many_headers(struct sample *s)
{
	s->header->e_phnum = 0xfffe;
}
static void no_load(struct sample *s)
{
	for (unsigned int i = 0; i < s->header->e_phnum; i++)
		s->ph[i].p_type = PT_NOTE;
}
static void interpreter(struct sample *s)
{
	s->ph[1].p_type = PT_INTERP;
}
static void offset_past_end(struct sample *s)
{
	s->ph[1].p_offset = s->bytes + 4096;
}
static void offset_wraps(struct sample *s)
{
	s->ph[1].p_offset = ~0ull - 16;
}
static void filesz_wraps(struct sample *s)
{
	s->ph[1].p_filesz = ~0ull;
	s->ph[1].p_memsz = ~0ull;
}
static void filesz_over_memsz(struct sample *s)
{
	s->ph[1].p_memsz = s->ph[1].p_filesz - 1;
}
static void two_addresses(struct sample *s)
{
	s->ph[1].p_vaddr += 0x1000;
}
static void move_to(struct sample *s, u64 gpa)
{
	s->ph[1].p_vaddr = gpa;
	s->ph[1].p_paddr = gpa;
}
static void over_page_tables(struct sample *s)
{
	move_to(s, GUEST_PGTABLE_GPA);
}
static void over_stacks(struct sample *s)
{
	move_to(s, ELF_LOAD_END - 8);
}
static void over_shared(struct sample *s)
{
	move_to(s, GUEST_SHARED_GPA);
}
static void address_wraps(struct sample *s)
{
	move_to(s, ~0ull - 0xfff);
}
static void memory_too_big(struct sample *s)
{
	s->ph[1].p_memsz = ELF_LOAD_END;
}
static void memory_wraps(struct sample *s)
{
	s->ph[1].p_memsz = ~0ull - s->ph[1].p_paddr + 1;
}
static void overlap(struct sample *s)
{
	move_to(s, s->ph[0].p_paddr);
}
static void overlap_by_one(struct sample *s)
{
	s->ph[0].p_memsz = s->ph[1].p_paddr - s->ph[0].p_paddr + 1;
}
static void entry_zero(struct sample *s)
{
	s->header->e_entry = 0;
}
static void entry_between(struct sample *s)
{
	s->header->e_entry = s->ph[0].p_paddr + s->ph[0].p_memsz;
}

static const struct {
	const char *name;
	void (*spoil)(struct sample *s);
	const char *says;
} bad_files[] = {
	{ "not-elf", not_elf, "not-elf: not an ELF file; expected" },
	{ "empty", empty, "empty: not an ELF file" },
	{ "three-bytes", three_bytes, "three-bytes: not an ELF file" },
	{ "half-header", half_header, "half-header: truncated: 40 bytes; an ELF64 header has 64" },
	{ "half-headers", half_headers, "half-headers: 6 program headers at offset 0x40; the file ends at 0x80" },
	{ "half-segment", half_segment, "half-segment: segment 1 has" },
	{ "32-bit", class_32, "32-bit: 32-bit ELF file; expected" },
	{ "class-9", class_9, "class-9: ELF class 9; expected 2" },
	{ "big-endian", big_endian, "big-endian: ELF data encoding 2; expected 1" },
	{ "arm", machine_arm, "arm: ELF machine 183; expected 62" },
	{ "pie", type_pie, "pie: ELF type 3 (shared object or PIE); expected 2" },
	{ "object", type_object, "object: ELF type 1; expected 2" },
	{ "phentsize", phentsize, "phentsize: program headers of 32 bytes; expected 56" },
	{ "phoff", phoff_past_end, "phoff: 6 program headers at offset 0x" },
	{ "phoff-wraps", phoff_wraps, "phoff-wraps: 6 program headers at offset 0xfffffffffffffff7; the file ends at" },
	{ "no-headers", no_headers, "no-headers: 0 of 0 program headers" },
	{ "many-headers", many_headers, "many-headers: 65534 program headers at offset 0x40; the file ends at" },
	{ "no-load", no_load, "no-load: 0 of 6 program headers say PT_LOAD" },
	{ "interp", interpreter, "interp: needs a dynamic loader" },
	{ "offset", offset_past_end, "offset: segment 1 has 0x" },
	{ "offset-wraps", offset_wraps, "at offset 0xffffffffffffffef; the file ends at" },
	{ "filesz-wraps", filesz_wraps, "segment 1 has 0xffffffffffffffff bytes at offset" },
	{ "filesz", filesz_over_memsz, "filesz: segment 1 has 0x" },
	{ "addresses", two_addresses, "addresses: segment 1 is linked for 0x202000 and loaded at 0x201000" },
	{ "page-tables", over_page_tables, "bytes at 0x4000; expected inside [0x200000, 0x7f00000)" },
	{ "stacks", over_stacks, "bytes at 0x7effff8; expected inside [0x200000, 0x7f00000)" },
	{ "shared", over_shared, "bytes at 0x10000000; expected inside" },
	{ "address-wraps", address_wraps, "bytes at 0xfffffffffffff000; expected inside" },
	{ "memory", memory_too_big, "memory: segment 1 is 0x7f00000 bytes at 0x201000; expected inside" },
	{ "memory-wraps", memory_wraps, "bytes at 0x201000; expected inside" },
	{ "overlap", overlap, "overlap: segment 1, [0x200000, 0x" },
	{ "overlap-one", overlap_by_one, "overlaps [0x200000, 0x201001); expected no overlap" },
	{ "entry-zero", entry_zero, "entry-zero: the entry, 0x0, is in no segment" },
	{ "entry-between", entry_between, "is in no segment; expected it inside one" },
};

static void bad(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(bad_files); i++) {
		struct elf_image image;
		struct err err = { "" };
		struct sample s;
		size_t bytes;
		char *exact;

		if (!sample_open(&s))
			return;
		bad_files[i].spoil(&s);
		bytes = s.bytes;
		exact = mem_alloc(bytes + 1);
		memcpy(exact, s.file, bytes);
		CHECK_MSG(elf_parse(bad_files[i].name, exact, bytes, &image, &err) == -ENOEXEC, "%s: accepted",
			  bad_files[i].name);
		CHECK_CONTAINS(err.text, bad_files[i].says);
		CHECK_CONTAINS(err.text, bad_files[i].name);
		CHECK_PTR_EQ(strchr(err.text, '\n'), NULL);
		mem_free(exact);
		sample_close(&s);
	}
}

static void too_many_segments(void)
{
	enum { NR = ELF_MAX_SEGMENTS + 1 };
	size_t bytes = sizeof(Elf64_Ehdr) + NR * sizeof(Elf64_Phdr);
	char *file = mem_zalloc(bytes);
	Elf64_Ehdr *header = (Elf64_Ehdr *)file;
	Elf64_Phdr *ph = (Elf64_Phdr *)(header + 1);
	struct elf_image image;
	struct err err = { "" };

	REQUIRE(file);
	memcpy(file, probe_elf_start, sizeof(*header));
	header->e_phoff = sizeof(*header);
	header->e_phnum = NR;
	header->e_shoff = header->e_shnum = header->e_shstrndx = 0;
	for (u32 i = 0; i < NR; i++)
		ph[i] = (Elf64_Phdr){ .p_type = PT_LOAD,
				      .p_vaddr = GUEST_IMAGE_GPA + i * 4096,
				      .p_paddr = GUEST_IMAGE_GPA + i * 4096,
				      .p_memsz = 4096 };
	CHECK_EQ(elf_parse("many", file, bytes, &image, &err), -ENOEXEC);
	CHECK_STR(err.text, "many: segment 64 is one too many; expected at most 64 to load");
	header->e_phnum--;
	CHECK_MSG(!elf_parse("many", file, bytes, &image, &err), "%s", err.text);
	CHECK_EQ(image.nr_segments, ELF_MAX_SEGMENTS);
	mem_free(file);
}

/* Whatever is accepted may be loaded. */
static void check_accepted(const struct elf_image *image, const char *file, size_t bytes, char *low)
{
	bool entry = false;

	for (u32 i = 0; i < image->nr_segments; i++) {
		const struct elf_segment *s = &image->segment[i];

		CHECK(s->start >= ELF_LOAD_START && s->start < ELF_LOAD_END && s->bytes <= ELF_LOAD_END - s->start);
		CHECK_LE(s->data_bytes, s->bytes);
		CHECK((const char *)s->data >= file && (const char *)s->data + s->data_bytes <= file + bytes);
		entry |= image->entry >= s->start && image->entry < s->start + s->bytes;
	}
	CHECK(entry);
	elf_copy(image, low);
	madvise(low, GUEST_IMAGE_END, MADV_DONTNEED);
}

static void mutate(struct sample *s, struct rng *rng)
{
	u64 flips = 1 + rng_below(rng, 8);
	u64 headers = sizeof(Elf64_Ehdr) + s->header->e_phnum * sizeof(Elf64_Phdr);

	for (u64 i = 0; i < flips; i++) {
		u64 at = rng_below(rng, rng_below(rng, 4) ? headers : s->bytes);

		s->file[at] = rng_below(rng, 2) ? (char)rng_next(rng) : (char)(s->file[at] ^ 1 << rng_below(rng, 8));
	}
	if (!rng_below(rng, 8))
		s->bytes = rng_below(rng, s->bytes);
}

static void mutations(void)
{
	char *low =
		mmap(NULL, GUEST_IMAGE_END, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	u32 accepted = 0, refused = 0;
	struct rng rng;

	REQUIRE(low != MAP_FAILED);
	rng_seed(&rng, 7);
	for (u32 i = 0; i < TEST_SCALE(5000) && !test_failures(); i++) {
		struct elf_image image;
		struct err err = { "" };
		struct sample s;
		char *exact;

		if (!sample_open(&s))
			break;
		mutate(&s, &rng);
		exact = mem_alloc(s.bytes + 1); /* the mutation may have cut it */
		memcpy(exact, s.file, s.bytes);
		if (elf_parse("mutant", exact, s.bytes, &image, &err)) {
			refused++;
			CHECK_CONTAINS(err.text, "mutant: ");
		} else {
			accepted++;
			check_accepted(&image, exact, s.bytes, low);
		}
		mem_free(exact);
		sample_close(&s);
	}
	CHECK_GT(accepted, 0);
	CHECK_GT(refused, 0);
	munmap(low, GUEST_IMAGE_END);
}

static void check_unreadable(const char *path, int error, const char *says)
{
	struct err err = { "" };
	void *file;
	size_t bytes;

	CHECK_EQ(elf_read_file(path, &file, &bytes, &err), error);
	CHECK_CONTAINS(err.text, path);
	CHECK_CONTAINS(err.text, says);
}

static void files(void)
{
	char dir[] = "/tmp/tain-elf-XXXXXX", path[64];
	struct err err = { "" };
	size_t bytes = 99;
	void *file;

	REQUIRE(mkdtemp(dir));
	check_unreadable(dir, -EINVAL, "not a regular file");
	snprintf(path, sizeof(path), "%s/none.elf", dir);
	check_unreadable(path, -ENOENT, "No such file");
	CHECK_EQ(mkfifo(path, 0600), 0);
	check_unreadable(path, -EINVAL, "not a regular file");
	unlink(path);
	fclose(fopen(path, "w"));
	CHECK_EQ(elf_read_file(path, &file, &bytes, &err), 0);
	CHECK_EQ(bytes, 0);
	mem_free(file);
	CHECK_EQ(truncate(path, (off_t)ELF_MAX_FILE_BYTES + 1), 0);
	check_unreadable(path, -EFBIG, "268435457 bytes; expected at most 268435456");
	unlink(path);
	rmdir(dir);
}

const struct test_case vmm_elf_tests[] = {
	TEST(good), TEST(bad), TEST(too_many_segments), TEST(mutations), TEST(files), TEST_END,
};
