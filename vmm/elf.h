/* SPDX-License-Identifier: MIT */
/* Guest images: ELF64 x86-64 executables, checked before a byte of them is used. */
#ifndef VMM_ELF_H
#define VMM_ELF_H

#include "guest/abi.h"
#include "lib/base.h"
#include "lib/err.h"
#include "vmm/engine.h"

#define ELF_MAX_SEGMENTS 64
#define ELF_MAX_FILE_BYTES (256ul << 20)

/* Where segments may lie: above the page tables, below the stacks. */
#define ELF_LOAD_START GUEST_IMAGE_GPA
#define ELF_LOAD_END (GUEST_IMAGE_END - GUEST_MAX_VCPUS * GUEST_STACK_BYTES)

struct elf_segment {
	gpa_t start;
	u64 bytes; /* in memory, never 0 */
	const void *data;
	u64 data_bytes; /* at most bytes; zeros follow */
};

struct elf_image {
	gpa_t entry;
	gpa_t pvh_entry; /* of 32 bits, for QEMU; 0: none */
	u32 nr_segments;
	struct elf_segment segment[ELF_MAX_SEGMENTS];
};

/*
 * Check @file, which comes from anyone, and describe what to load.
 * @name: for messages. @file: kept by the caller as long as @image is used.
 * Return: 0; -ENOEXEC with one line in @err: the file, the value, what was expected.
 */
int elf_parse(const char *name, const void *file, size_t bytes, struct elf_image *image, struct err *err);

/* Copy the segments to @low, the host address of gpa 0, which is zero in [ELF_LOAD_START, ELF_LOAD_END). */
void elf_copy(const struct elf_image *image, void *low);

/*
 * Read a file whole. @file: to be freed with mem_free().
 * Return: 0; -errno with one line in @err naming the path.
 */
int elf_read_file(const char *path, void **file, size_t *bytes, struct err *err);

/*
 * The file of a guest: a built-in workload's, or one that is read (then *owned, for mem_free()).
 * Return: 0; -ENOENT; as elf_read_file().
 */
int elf_find_image(const struct guest_image *image, const void **file, size_t *bytes, void **owned, struct err *err);

#endif /* VMM_ELF_H */
