/* SPDX-License-Identifier: MIT */
/*
 * Another way to pages that guests are about to lose for a moment, where they stay
 * what they are: the oracle reads and marks them there, as if they were in limbo.
 *
 *   shared   a second mapping of the same pages, at the quarantine
 *   private  /proc/self/mem, which asks for no right, as debuggers need it
 */
#include <fcntl.h>
#include <unistd.h>

#include "lab/host/linux.h"

/* A few mappings: one per piece of the file. */
static int map_file(struct host *host, u64 off, u64 len)
{
	struct host_linux *l = host->private;
	const u64 *at = l->offset + off / PAGE_SIZE;
	char *to = (char *)(uintptr_t)host->quarantine;
	u64 pages = len / PAGE_SIZE;

	for (u64 i = 0, n; i < pages; i += n) {
		for (n = 1; i + n < pages && at[i + n] == at[i] + n * PAGE_SIZE; n++)
			;
		if (mmap(to + i * PAGE_SIZE, n * PAGE_SIZE, RW, MAP_SHARED | MAP_FIXED, host->fd, (off_t)at[i]) ==
		    MAP_FAILED)
			return -errno;
	}
	return 0;
}

/* Without a descriptor nobody knows which pages are one piece. An old size of 0 leaves the old mapping there. */
static int map_again(struct host *host, u64 off, u64 len)
{
	char *to = (char *)(uintptr_t)host->quarantine;

	for (u64 i = 0; i < len; i += PAGE_SIZE)
		if (mremap(data_ptr(host, off + i), 0, PAGE_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, to + i) == MAP_FAILED)
			return -errno;
	return 0;
}

/* Some kernels allow it to debuggers alone, or to nobody: try. */
static int open_mem(void)
{
	int fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	void *page = mmap(NULL, PAGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	u64 word = 1;

	if (page != MAP_FAILED && fd >= 0 && pwrite(fd, &word, sizeof(word), (off_t)(uintptr_t)page) != sizeof(word)) {
		close(fd);
		fd = -1;
	}
	if (page != MAP_FAILED)
		munmap(page, PAGE_SIZE);
	return fd;
}

int host_linux_watch(struct host *host, u64 off, u64 len)
{
	struct host_linux *l = host->private;
	int ret;

	if (host->limbo != LIMBO_NONE || len > host->limbo_bytes)
		return -EOPNOTSUPP;
	if (host_backing_table[host->backing].kind != BACKING_SHARED) {
		/* The kernel writes to no huge page that was reserved, unless it may be written. */
		if (host->backing == HOST_ANONYMOUS_HUGETLB_2MB)
			return -EOPNOTSUPP;
		if (l->mem < 0)
			l->mem = open_mem();
		if (l->mem < 0)
			return -EOPNOTSUPP;
		host_linux_enter_limbo(host, off, len, LIMBO_MEM);
		return 0;
	}
	ret = l->tracked ? map_file(host, off, len) : map_again(host, off, len);
	if (ret) { /* too many mappings: it can be done without */
		munmap((void *)(uintptr_t)host->quarantine, len);
		return -EOPNOTSUPP;
	}
	host_linux_enter_limbo(host, off, len, LIMBO_QUARANTINE);
	return 0;
}

/* No hole is punched: the pages are in use. */
int host_linux_unwatch(struct host *host)
{
	enum host_limbo kind = host->limbo;

	host->limbo = LIMBO_NONE;
	if (kind == LIMBO_QUARANTINE && munmap((void *)(uintptr_t)host->quarantine, host->limbo_len))
		return -errno;
	return 0;
}

int host_linux_mem_word(struct host *host, u64 off, u64 *value, bool write)
{
	struct host_linux *l = host->private;
	off_t at = (off_t)host_addr(host, off);
	ssize_t n = write ? pwrite(l->mem, value, sizeof(*value), at) : pread(l->mem, value, sizeof(*value), at);

	return n == sizeof(*value) ? 0 : -EIO;
}
