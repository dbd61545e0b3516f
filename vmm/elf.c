/* SPDX-License-Identifier: MIT */
/*
 * Loads guest images through libelf. The file may be hostile: every number is
 * checked against the file's size and the guest's layout before it is used, without
 * sums that can overflow.
 */
#include <fcntl.h>
#include <gelf.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/alloc.h"
#include "vmm/elf.h"

#define hex(x) ((unsigned long long)(x))

static int bad(const char *name, struct err *err, const char *what)
{
	return err_set(err, -ENOEXEC, "%s: %s; expected an ELF64 executable for x86-64", name, what);
}

/* What the first bytes say; libelf would take 32-bit and big-endian files. */
static int check_ident(const char *name, const u8 *file, size_t bytes, struct err *err)
{
	if (bytes < SELFMAG || memcmp(file, ELFMAG, SELFMAG))
		return bad(name, err, "not an ELF file");
	if (bytes < sizeof(Elf64_Ehdr))
		return err_set(err, -ENOEXEC, "%s: truncated: %zu bytes; an ELF64 header has %zu", name, bytes,
			       sizeof(Elf64_Ehdr));
	if (file[EI_CLASS] == ELFCLASS32)
		return bad(name, err, "32-bit ELF file");
	if (file[EI_CLASS] != ELFCLASS64)
		return err_set(err, -ENOEXEC, "%s: ELF class %u; expected %u (64-bit)", name, file[EI_CLASS],
			       ELFCLASS64);
	if (file[EI_DATA] != ELFDATA2LSB)
		return err_set(err, -ENOEXEC, "%s: ELF data encoding %u; expected %u (little endian)", name,
			       file[EI_DATA], ELFDATA2LSB);
	return 0;
}

static int check_header(const char *name, const GElf_Ehdr *header, size_t bytes, struct err *err)
{
	if (header->e_machine != EM_X86_64)
		return err_set(err, -ENOEXEC, "%s: ELF machine %u; expected %u (x86-64)", name, header->e_machine,
			       EM_X86_64);
	if (header->e_type != ET_EXEC)
		return err_set(err, -ENOEXEC, "%s: ELF type %u%s; expected %u (ET_EXEC): link with tain-guest.ld", name,
			       header->e_type, header->e_type == ET_DYN ? " (shared object or PIE)" : "", ET_EXEC);
	if (header->e_phentsize != sizeof(Elf64_Phdr) && header->e_phnum)
		return err_set(err, -ENOEXEC, "%s: program headers of %u bytes; expected %zu", name,
			       header->e_phentsize, sizeof(Elf64_Phdr));
	if (header->e_phnum &&
	    (header->e_phoff > bytes || header->e_phnum > (bytes - header->e_phoff) / sizeof(Elf64_Phdr)))
		return err_set(err, -ENOEXEC, "%s: %u program headers at offset 0x%llx; the file ends at 0x%zx", name,
			       header->e_phnum, hex(header->e_phoff), bytes);
	return 0;
}

static int check_segment(const char *name, size_t index, const GElf_Phdr *ph, size_t bytes, struct err *err)
{
	if (ph->p_offset > bytes || ph->p_filesz > bytes - ph->p_offset)
		return err_set(err, -ENOEXEC,
			       "%s: segment %zu has 0x%llx bytes at offset 0x%llx; the file ends at 0x%zx", name, index,
			       hex(ph->p_filesz), hex(ph->p_offset), bytes);
	if (ph->p_filesz > ph->p_memsz)
		return err_set(err, -ENOEXEC, "%s: segment %zu has 0x%llx bytes in the file; memory for 0x%llx", name,
			       index, hex(ph->p_filesz), hex(ph->p_memsz));
	if (ph->p_paddr != ph->p_vaddr)
		return err_set(err, -ENOEXEC,
			       "%s: segment %zu is linked for 0x%llx and loaded at 0x%llx; expected the same address",
			       name, index, hex(ph->p_vaddr), hex(ph->p_paddr));
	if (ph->p_paddr < ELF_LOAD_START || ph->p_paddr > ELF_LOAD_END || ph->p_memsz > ELF_LOAD_END - ph->p_paddr)
		return err_set(err, -ENOEXEC,
			       "%s: segment %zu is 0x%llx bytes at 0x%llx; expected inside [0x%lx, 0x%lx)", name, index,
			       hex(ph->p_memsz), hex(ph->p_paddr), ELF_LOAD_START, ELF_LOAD_END);
	return 0;
}

/* Add a checked segment. */
static int add_segment(const char *name, size_t index, const GElf_Phdr *ph, const char *file, struct elf_image *image,
		       struct err *err)
{
	struct elf_segment *new = &image->segment[image->nr_segments];

	if (image->nr_segments == ELF_MAX_SEGMENTS)
		return err_set(err, -ENOEXEC, "%s: segment %zu is one too many; expected at most %u to load", name,
			       index, ELF_MAX_SEGMENTS);
	for (u32 i = 0; i < image->nr_segments; i++) {
		const struct elf_segment *old = &image->segment[i];

		if (ph->p_paddr < old->start + old->bytes && old->start < ph->p_paddr + ph->p_memsz)
			return err_set(
				err, -ENOEXEC,
				"%s: segment %zu, [0x%llx, 0x%llx), overlaps [0x%llx, 0x%llx); expected no overlap",
				name, index, hex(ph->p_paddr), hex(ph->p_paddr + ph->p_memsz), hex(old->start),
				hex(old->start + old->bytes));
	}
	*new = (struct elf_segment){
		.start = ph->p_paddr,
		.bytes = ph->p_memsz,
		.data = file + ph->p_offset,
		.data_bytes = ph->p_filesz,
	};
	image->nr_segments++;
	return 0;
}

/* XEN_ELFNOTE_PHYS32_ENTRY among the notes in [at, end): where a loader that knows PVH enters. */
static gpa_t find_pvh_entry(const char *at, const char *end)
{
	while ((size_t)(end - at) >= sizeof(Elf64_Nhdr)) {
		Elf64_Nhdr note;
		u64 name, data;
		u32 entry;

		memcpy(&note, at, sizeof(note));
		at += sizeof(note);
		name = align_up((u64)note.n_namesz, 4);
		data = align_up((u64)note.n_descsz, 4);
		if (name > (size_t)(end - at) || data > (size_t)(end - at) - name)
			return 0;
		if (note.n_type == 18 && note.n_namesz == 4 && !memcmp(at, "Xen", 4) && data >= sizeof(entry)) {
			memcpy(&entry, at + name, sizeof(entry));
			return entry;
		}
		at += name + data;
	}
	return 0;
}

static int read_segments(const char *name, Elf *elf, const char *file, size_t bytes, struct elf_image *image,
			 struct err *err)
{
	size_t nr;
	GElf_Phdr ph;
	int ret;

	if (elf_getphdrnum(elf, &nr))
		return bad(name, err, elf_errmsg(-1));
	for (size_t i = 0; i < nr; i++) {
		if (!gelf_getphdr(elf, (int)i, &ph))
			return err_set(err, -ENOEXEC, "%s: program header %zu of %zu: %s; the file ends at 0x%zx", name,
				       i, nr, elf_errmsg(-1), bytes);
		if (ph.p_type == PT_INTERP)
			return bad(name, err, "needs a dynamic loader (PT_INTERP)");
		if (ph.p_type == PT_NOTE && ph.p_offset <= bytes && ph.p_filesz <= bytes - ph.p_offset)
			image->pvh_entry = find_pvh_entry(file + ph.p_offset, file + ph.p_offset + ph.p_filesz);
		if (ph.p_type != PT_LOAD || !ph.p_memsz)
			continue;
		ret = check_segment(name, i, &ph, bytes, err);
		if (!ret)
			ret = add_segment(name, i, &ph, file, image, err);
		if (ret)
			return ret;
	}
	if (!image->nr_segments)
		return err_set(err, -ENOEXEC, "%s: 0 of %zu program headers say PT_LOAD; expected at least one", name,
			       nr);
	return 0;
}

static int check_entry(const char *name, const struct elf_image *image, struct err *err)
{
	for (u32 i = 0; i < image->nr_segments; i++)
		if (image->entry - image->segment[i].start < image->segment[i].bytes)
			return 0;
	return err_set(err, -ENOEXEC, "%s: the entry, 0x%llx, is in no segment; expected it inside one", name,
		       hex(image->entry));
}

int elf_parse(const char *name, const void *file, size_t bytes, struct elf_image *image, struct err *err)
{
	GElf_Ehdr header;
	Elf *elf;
	int ret = check_ident(name, file, bytes, err);

	if (ret)
		return ret;
	*image = (struct elf_image){ 0 };
	if (elf_version(EV_CURRENT) == EV_NONE)
		return bad(name, err, elf_errmsg(-1));
	elf = elf_memory((char *)file, bytes);
	if (!elf)
		return bad(name, err, elf_errmsg(-1));
	if (!gelf_getehdr(elf, &header)) {
		ret = bad(name, err, elf_errmsg(-1));
		goto end;
	}
	image->entry = header.e_entry;
	ret = check_header(name, &header, bytes, err);
	if (!ret)
		ret = read_segments(name, elf, file, bytes, image, err);
	if (!ret)
		ret = check_entry(name, image, err);
end:
	elf_end(elf);
	return ret;
}

void elf_copy(const struct elf_image *image, void *low)
{
	for (u32 i = 0; i < image->nr_segments; i++)
		memcpy((char *)low + image->segment[i].start, image->segment[i].data, image->segment[i].data_bytes);
}

static int read_whole(int fd, const char *path, char *file, size_t bytes, struct err *err)
{
	for (size_t at = 0; at < bytes;) {
		ssize_t n = read(fd, file + at, bytes - at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_set(err, -errno, "%s: %s", path, strerror(errno));
		if (!n)
			return err_set(err, -EIO, "%s: ended at 0x%zx while it was read; expected 0x%zx bytes", path,
				       at, bytes);
		at += (size_t)n;
	}
	return 0;
}

int elf_read_file(const char *path, void **file, size_t *bytes, struct err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY), ret;
	struct stat st;

	if (fd < 0)
		return err_set(err, -errno, "%s: %s", path, strerror(errno));
	if (fstat(fd, &st)) {
		ret = err_set(err, -errno, "%s: %s", path, strerror(errno));
	} else if (!S_ISREG(st.st_mode)) {
		ret = err_set(err, -EINVAL, "%s: not a regular file; expected an ELF file", path);
	} else if ((u64)st.st_size > ELF_MAX_FILE_BYTES) {
		ret = err_set(err, -EFBIG, "%s: %lld bytes; expected at most %lu", path, (long long)st.st_size,
			      ELF_MAX_FILE_BYTES);
	} else {
		*bytes = (size_t)st.st_size;
		*file = mem_alloc(*bytes + 1);
		ret = *file ? read_whole(fd, path, *file, *bytes, err)
			    : err_set(err, -ENOMEM, "%s: no memory for %zu bytes", path, *bytes);
		if (ret)
			mem_free(*file);
	}
	close(fd);
	return ret;
}

int elf_find_image(const struct guest_image *image, const void **file, size_t *bytes, void **owned, struct err *err)
{
	int ret;

	if (image->path) {
		ret = elf_read_file(image->path, owned, bytes, err);
		*file = *owned;
		return ret;
	}
	for (const struct guest_elf_entry *entry = guest_elf_table; entry->name; entry++) {
		if (strcmp(entry->name, image->name))
			continue;
		*file = entry->start;
		*bytes = (size_t)((const char *)entry->end - (const char *)entry->start);
		return 0;
	}
	return err_set(err, -ENOENT, "no guest named '%s'", image->name);
}
