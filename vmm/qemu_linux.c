/* SPDX-License-Identifier: MIT */
/*
 * A Linux between the machine and the guest: Debian's kernel, which scripts/linux-guest
 * has fetched, and an initramfs of two files. The guest is the first process
 * (guest/rt/linux.c); Linux is told to leave SHARED and DATA alone, has what lies below
 * SHARED, and what the layout left for firmware.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "lib/alloc.h"
#include "vmm/elf.h"
#include "vmm/qemu_internal.h"

#define KERNEL_NAME "vmlinuz"
#define CPIO_MAGIC "070701"
#define CPIO_FIELD 8 /* digits */
#define CPIO_ALIGN 4

/* Where the kernel is, as scripts/kernel says it too. */
static void kernel_path(char *path, size_t bytes)
{
	const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");

	if (cache && *cache)
		snprintf(path, bytes, "%s/tain/linux/" KERNEL_NAME, cache);
	else
		snprintf(path, bytes, "%s/.cache/tain/linux/" KERNEL_NAME, home ?: "");
}

int qemu_linux_check(struct err *err)
{
	char path[PATH_MAX];

	kernel_path(path, sizeof(path));
	if (!access(path, R_OK))
		return 0;
	return err_set(err, -EOPNOTSUPP, "--linux: %s: %s; scripts/linux-guest fetches it", path, strerror(errno));
}

/* The directory that a kernel is kept in is called after its package. */
void qemu_linux_name(char *name, size_t bytes)
{
	char path[PATH_MAX], real[PATH_MAX], *end;

	kernel_path(path, sizeof(path));
	if (!realpath(path, real) || !(end = strrchr(real, '/')))
		end = strcpy(real, "Linux");
	*end = '\0';
	end = strrchr(real, '/');
	snprintf(name, bytes, "%s", end ? end + 1 : real);
}

/* --- the initramfs: "newc" --------------------------------------------------------------------- */

struct cpio {
	char *data;
	size_t bytes;
};

static void cpio_pad(struct cpio *c)
{
	while (!is_aligned(c->bytes, CPIO_ALIGN))
		c->data[c->bytes++] = '\0';
}

static void cpio_add(struct cpio *c, const char *name, unsigned int mode, dev_t device, const void *file, size_t bytes)
{
	size_t name_bytes = strlen(name) + 1;
	/* inode, mode, owner, group, links, time, size, device, device the node is for, name's size, sum */
	const unsigned int field[] = {
		0, mode, 0, 0, 1, 0, (unsigned int)bytes, 0, 0, major(device), minor(device), (unsigned int)name_bytes,
		0
	};

	memcpy(c->data + c->bytes, CPIO_MAGIC, strlen(CPIO_MAGIC));
	c->bytes += strlen(CPIO_MAGIC);
	for (size_t i = 0; i < ARRAY_SIZE(field); i++, c->bytes += CPIO_FIELD)
		snprintf(c->data + c->bytes, CPIO_FIELD + 1, "%08x", field[i]);
	memcpy(c->data + c->bytes, name, name_bytes);
	c->bytes += name_bytes;
	cpio_pad(c);
	if (bytes)
		memcpy(c->data + c->bytes, file, bytes);
	c->bytes += bytes;
	cpio_pad(c);
}

static int write_initramfs(const struct qemu_vm *q, struct err *err)
{
	struct cpio c = { .data = mem_zalloc(q->elf_bytes + 1024) };
	int ret;

	if (!c.data)
		return err_set(err, -ENOMEM, "no memory for an initramfs");
	cpio_add(&c, "dev", S_IFDIR | 0755, 0, NULL, 0);
	cpio_add(&c, "dev/mem", S_IFCHR | 0600, makedev(1, 1), NULL, 0);
	cpio_add(&c, "init", S_IFREG | 0755, 0, q->elf, q->elf_bytes);
	cpio_add(&c, "TRAILER!!!", 0, 0, NULL, 0);
	ret = qemu_write_file(q, "initramfs", c.data, c.bytes, err);
	mem_free(c.data);
	return ret;
}

/* A copy: whoever QEMU runs as may not reach a user's cache. */
int qemu_linux_files(const struct qemu_vm *q, struct err *err)
{
	char path[PATH_MAX];
	void *kernel = NULL;
	size_t bytes;
	int ret;

	kernel_path(path, sizeof(path));
	ret = elf_read_file(path, &kernel, &bytes, err);
	ret = ret ?: qemu_write_file(q, KERNEL_NAME, kernel, bytes, err);
	mem_free(kernel);
	return ret ?: write_initramfs(q, err);
}

/*
 * Of the console the guest alone has the use, but for a panic; nothing is at a random
 * place; memory that is not Linux's is mapped cached whatever the MTRRs say of it.
 */
void qemu_linux_cmdline(const struct vm *vm, char *text, size_t bytes)
{
	const struct qemu_layout *l = &to_qemu(vm)->layout;

	snprintf(text, bytes,
		 "console=ttyS0 loglevel=1 panic=-1 nokaslr norandmaps nopat mitigations=off edd=off "
		 "cryptomgr.notests memmap=%#llx$%#lx memmap=%#llx$%#llx",
		 (unsigned long long)align_up(vm->config.shared_bytes, LARGE_PAGE), GUEST_SHARED_GPA,
		 (unsigned long long)align_up(vm->config.data_bytes, LARGE_PAGE), (unsigned long long)l->data_gpa);
}
