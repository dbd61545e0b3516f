/* SPDX-License-Identifier: MIT */
/* The host over Linux: DATA is mapped in this process. */
#include "lab/host.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "lib/alloc.h"
#include "lib/atomic.h"

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

#define RW (PROT_READ | PROT_WRITE)

/*
 * Where DATA goes. While a plan has a hole open in DATA, another thread's malloc
 * may call mmap(), and must not be given the hole. Linux fills the highest gap that
 * fits, so DATA lies well below the process's other mappings, with this gap between.
 */
#define LINUX_GAP (64ull << 30)
#define LINUX_TRIES 64

/* The memfd is sparse and never filled twice at one offset: fresh memory is the next piece of it. */
#define LINUX_FILE_BYTES (1ull << 60)

struct host_linux {
	int fd;		  /* memfd, or -1 */
	u64 file_end;	  /* offsets below it have been used */
	u64 *offset;	  /* memfd: per page of DATA, its offset in the file */
	u64 *old;	  /* the same for the pages in limbo */
	int thp_disabled; /* PR_SET_THP_DISABLE as found */
};

static int host_linux_supports(enum host_backing backing, struct err *why)
{
	return 0;
}

static char *data_ptr(struct host *host, u64 off)
{
	return (char *)(uintptr_t)(host->data + off);
}

/* Map fresh memory at @off; @how is MAP_FIXED or MAP_FIXED_NOREPLACE. */
static int map_fresh(struct host *host, u64 off, u64 len, int how)
{
	struct host_linux *l = host->private;
	int flags = how | MAP_NORESERVE;
	u64 start = l->file_end;
	void *p;

	flags |= host->backing == HOST_MEMFD ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS;
	p = mmap(data_ptr(host, off), len, RW, flags, l->fd, l->fd >= 0 ? (off_t)start : 0);
	if (p == MAP_FAILED)
		return -errno;
	if (p != data_ptr(host, off)) { /* a kernel before 4.17 takes NOREPLACE for a hint */
		munmap(p, len);
		return -EEXIST;
	}
	if (l->fd < 0)
		return 0;
	l->file_end += len;
	for (u64 i = 0; i < len; i += PAGE_SIZE)
		l->offset[(off + i) / PAGE_SIZE] = start + i;
	return 0;
}

/* The file's pages of the range are about to lose their place in DATA. */
static void enter_limbo(struct host *host, u64 off, u64 len, enum host_limbo kind)
{
	struct host_linux *l = host->private;

	host->limbo = kind;
	host->limbo_off = off;
	host->limbo_len = len;
	if (l->fd >= 0)
		memcpy(l->old, l->offset + off / PAGE_SIZE, len / PAGE_SIZE * sizeof(*l->old));
}

static int host_linux_map(struct host *host, u64 off, u64 len)
{
	return map_fresh(host, off, len, MAP_FIXED_NOREPLACE);
}

static int host_linux_remap(struct host *host, u64 off, u64 len)
{
	struct host_linux *l = host->private;

	if (l->fd >= 0)
		enter_limbo(host, off, len, LIMBO_FILE);
	return map_fresh(host, off, len, MAP_FIXED);
}

static int host_linux_unmap(struct host *host, u64 off, u64 len)
{
	struct host_linux *l = host->private;

	if (munmap(data_ptr(host, off), len))
		return -errno;
	if (l->fd >= 0)
		enter_limbo(host, off, len, LIMBO_FILE);
	return 0;
}

static int host_linux_protect(struct host *host, u64 off, u64 len, int prot)
{
	/* TAIN_PROT_* has Linux's values */
	return mprotect(data_ptr(host, off), len, prot) ? -errno : 0;
}

static int host_linux_dontneed(struct host *host, u64 off, u64 len)
{
	return madvise(data_ptr(host, off), len, MADV_DONTNEED) ? -errno : 0;
}

static int host_linux_populate(struct host *host, u64 off, u64 len)
{
	for (u64 i = 0; i < len; i += PAGE_SIZE)
		fetch_add((u64 *)data_ptr(host, off + i), 0);
	return 0;
}

static int host_linux_move(struct host *host, hva_t from, hva_t to, u64 len)
{
	void *p = mremap((void *)(uintptr_t)from, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)(uintptr_t)to);

	return p == MAP_FAILED ? -errno : 0;
}

static int host_linux_move_away(struct host *host, u64 off, u64 len)
{
	int ret = host_move_range(host, host->data + off, host->quarantine, len, host_linux_move);

	if (!ret)
		enter_limbo(host, off, len, LIMBO_QUARANTINE);
	return ret;
}

static int host_linux_move_back(struct host *host)
{
	host->limbo = LIMBO_NONE;
	return host_move_range(host, host->quarantine, host->data + host->limbo_off, host->limbo_len, host_linux_move);
}

/* Give the file's pages in limbo back, one hole per piece of the file. */
static int punch_old(struct host *host)
{
	struct host_linux *l = host->private;
	u64 pages = host->limbo_len / PAGE_SIZE;

	for (u64 i = 0, n; i < pages; i += n) {
		for (n = 1; i + n < pages && l->old[i + n] == l->old[i] + n * PAGE_SIZE; n++)
			;
		if (fallocate(l->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, l->old[i], n * PAGE_SIZE))
			return -errno;
	}
	return 0;
}

static int host_linux_release(struct host *host)
{
	struct host_linux *l = host->private;
	enum host_limbo kind = host->limbo;

	host->limbo = LIMBO_NONE;
	if (kind == LIMBO_QUARANTINE && munmap((void *)(uintptr_t)host->quarantine, host->limbo_len))
		return -errno;
	if (kind != LIMBO_NONE && l->fd >= 0)
		return punch_old(host);
	return 0;
}

static int host_linux_read64(struct host *host, u64 off, u64 *value)
{
	*value = READ_ONCE(*(u64 *)data_ptr(host, off));
	return 0;
}

static int host_linux_write64(struct host *host, u64 off, u64 value)
{
	smp_store_release((u64 *)data_ptr(host, off), value);
	return 0;
}

static u64 *quarantine_ptr(struct host *host, u64 off)
{
	return (u64 *)(uintptr_t)(host->quarantine + (off - host->limbo_off));
}

static u64 old_offset(struct host *host, u64 off)
{
	struct host_linux *l = host->private;

	return l->old[(off - host->limbo_off) / PAGE_SIZE] + off % PAGE_SIZE;
}

static int host_linux_limbo_read64(struct host *host, u64 off, u64 *value)
{
	struct host_linux *l = host->private;

	if (host->limbo == LIMBO_QUARANTINE) {
		*value = READ_ONCE(*quarantine_ptr(host, off));
		return 0;
	}
	return pread(l->fd, value, sizeof(*value), old_offset(host, off)) == sizeof(*value) ? 0 : -EIO;
}

static int host_linux_limbo_write64(struct host *host, u64 off, u64 value)
{
	struct host_linux *l = host->private;

	if (host->limbo == LIMBO_QUARANTINE) {
		smp_store_release(quarantine_ptr(host, off), value);
		return 0;
	}
	return pwrite(l->fd, &value, sizeof(value), old_offset(host, off)) == sizeof(value) ? 0 : -EIO;
}

/* Find a free range of @bytes, see LINUX_GAP. Return: its address, or 0. */
static hva_t find_place(u64 bytes)
{
	void *top = mmap(NULL, PAGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	hva_t base = (hva_t)(uintptr_t)top;
	void *p;

	if (top == MAP_FAILED)
		return 0;
	munmap(top, PAGE_SIZE);
	for (int i = 0; i < LINUX_TRIES; i++) {
		if (base < bytes + LINUX_GAP)
			break;
		base = align_down(base - bytes - LINUX_GAP, 1ul << 30);
		p = mmap((void *)(uintptr_t)base, bytes, PROT_NONE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
		if (p == MAP_FAILED)
			continue;
		munmap(p, bytes);
		if (p == (void *)(uintptr_t)base)
			return base;
	}
	return 0;
}

static int open_memfd(struct host *host, struct host_linux *l, struct err *err)
{
	u64 pages = host->bytes / PAGE_SIZE;

	if (host->backing != HOST_MEMFD)
		return 0;
	l->fd = memfd_create("tain-data", MFD_CLOEXEC);
	if (l->fd < 0)
		return err_set(err, -errno, "memfd_create: %s", strerror(errno));
	if (ftruncate(l->fd, LINUX_FILE_BYTES))
		return err_set(err, -errno, "memfd: cannot set its size: %s", strerror(errno));
	l->offset = mem_zalloc(pages * sizeof(u64));
	l->old = mem_zalloc(pages * sizeof(u64));
	if (!l->offset || !l->old)
		return err_set(err, -ENOMEM, "no memory for the map of the memfd");
	return 0;
}

static void host_linux_destroy(struct host *host)
{
	struct host_linux *l = host->private;

	if (!l)
		return;
	host_linux_release(host);
	if (host->data)
		munmap(data_ptr(host, 0), host->bytes);
	if (l->fd >= 0)
		close(l->fd);
	if (l->thp_disabled == 0)
		prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0);
	mem_free(l->offset);
	mem_free(l->old);
	mem_free(l);
	host->private = NULL;
}

static int host_linux_create(struct host *host, struct err *err)
{
	struct host_linux *l = mem_zalloc(sizeof(*l));
	hva_t base;
	int ret;

	host->private = l;
	if (!l)
		return err_set(err, -ENOMEM, "no memory");
	l->fd = -1;
	/* Huge pages are backings of their own: per process, since flags per mapping would keep mappings from merging.
	 */
	l->thp_disabled = prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0);
	if (l->thp_disabled == 0)
		prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
	ret = open_memfd(host, l, err);
	if (ret)
		goto fail;
	base = find_place(host->bytes + PAGE_SIZE + host->limbo_bytes);
	if (base) {
		host->data = base;
		host->quarantine = base + host->bytes + PAGE_SIZE;
		ret = map_fresh(host, 0, host->bytes, MAP_FIXED_NOREPLACE);
	}
	if (!base || ret) {
		host->data = 0;
		ret = err_set(err, ret ?: -ENOMEM, "cannot map %llu bytes: %s", (unsigned long long)host->bytes,
			      strerror(ret ? -ret : ENOMEM));
		goto fail;
	}
	return 0;
fail:
	host_linux_destroy(host);
	return ret;
}

const struct host_ops host_linux_ops = {
	.name = "Linux",
	.supports = host_linux_supports,
	.create = host_linux_create,
	.destroy = host_linux_destroy,
	.map = host_linux_map,
	.remap = host_linux_remap,
	.unmap = host_linux_unmap,
	.protect = host_linux_protect,
	.dontneed = host_linux_dontneed,
	.populate = host_linux_populate,
	.move_away = host_linux_move_away,
	.move_back = host_linux_move_back,
	.release = host_linux_release,
	.read64 = host_linux_read64,
	.write64 = host_linux_write64,
	.limbo_read64 = host_linux_limbo_read64,
	.limbo_write64 = host_linux_limbo_write64,
};
