/* SPDX-License-Identifier: MIT */
/* The host over Linux: DATA is mapped in this process. */
#include "lab/host_linux.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "lab/place.h"
#include "lib/alloc.h"
#include "lib/atomic.h"

static int host_linux_supports(enum host_backing backing, struct err *why)
{
	return 0;
}

static int map_at(struct host *host, char *at, u64 off, u64 len, int how)
{
	struct host_linux *l = host->private;
	/* A private mapping shows the file's data of its own place again, a shared one the next piece of the file. */
	u64 start = l->tracked ? l->file_end : off;
	void *p;

	if (l->tracked && start + len > l->file_bytes)
		return -ENOSPC;
	p = mmap(at, len, RW, l->map_flags | how, host->fd, host->fd >= 0 ? (off_t)start : 0);
	if (p == MAP_FAILED)
		return -errno;
	if (p != at) { /* a kernel before 4.17 takes NOREPLACE for a hint */
		munmap(p, len);
		return -EEXIST;
	}
	if (l->huge)
		madvise(p, len, MADV_HUGEPAGE);
	if (!l->tracked)
		return 0;
	l->file_end += len;
	for (u64 i = 0; i < len; i += PAGE_SIZE)
		l->offset[(off + i) / PAGE_SIZE] = start + i;
	return 0;
}

int host_linux_map_fresh(struct host *host, u64 off, u64 len, int how)
{
	return map_at(host, data_ptr(host, off), off, len, how);
}

int host_linux_map_quarantine(struct host *host, u64 off, u64 len)
{
	return map_at(host, (char *)(uintptr_t)host->quarantine, off, len, MAP_FIXED_NOREPLACE);
}

void host_linux_enter_limbo(struct host *host, u64 off, u64 len, enum host_limbo kind)
{
	struct host_linux *l = host->private;

	host->limbo = kind;
	host->limbo_off = off;
	host->limbo_len = len;
	if (l->tracked)
		memcpy(l->old, l->offset + off / PAGE_SIZE, len / PAGE_SIZE * sizeof(*l->old));
}

static int host_linux_map(struct host *host, u64 off, u64 len)
{
	return host_linux_map_fresh(host, off, len, MAP_FIXED_NOREPLACE);
}

static int host_linux_remap(struct host *host, u64 off, u64 len)
{
	struct host_linux *l = host->private;

	if (l->tracked)
		host_linux_enter_limbo(host, off, len, LIMBO_FILE);
	return host_linux_map_fresh(host, off, len, MAP_FIXED);
}

static int host_linux_unmap(struct host *host, u64 off, u64 len)
{
	struct host_linux *l = host->private;

	if (munmap(data_ptr(host, off), len))
		return -errno;
	if (l->tracked)
		host_linux_enter_limbo(host, off, len, LIMBO_FILE);
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

int host_linux_move(struct host *host, hva_t from, hva_t to, u64 len)
{
	void *p = mremap((void *)(uintptr_t)from, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)(uintptr_t)to);

	return p == MAP_FAILED ? -errno : 0;
}

static int host_linux_move_away(struct host *host, u64 off, u64 len)
{
	int ret = host_move_range(host, host->data + off, host->quarantine, len, host_linux_move);

	if (!ret)
		host_linux_enter_limbo(host, off, len, LIMBO_QUARANTINE);
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
		if (fallocate(host->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, l->old[i], n * PAGE_SIZE))
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
	if (kind != LIMBO_NONE && l->tracked)
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
	if (host->limbo == LIMBO_QUARANTINE) {
		*value = READ_ONCE(*quarantine_ptr(host, off));
		return 0;
	}
	return pread(host->fd, value, sizeof(*value), old_offset(host, off)) == sizeof(*value) ? 0 : -EIO;
}

static int host_linux_limbo_write64(struct host *host, u64 off, u64 value)
{
	if (host->limbo == LIMBO_QUARANTINE) {
		smp_store_release(quarantine_ptr(host, off), value);
		return 0;
	}
	return pwrite(host->fd, &value, sizeof(value), old_offset(host, off)) == sizeof(value) ? 0 : -EIO;
}

static void host_linux_destroy(struct host *host)
{
	struct host_linux *l = host->private;

	if (!l)
		return;
	host_linux_end(host, NULL);
	host_linux_release(host);
	if (host->data)
		munmap(data_ptr(host, 0), host->bytes);
	host_linux_close(host);
	mem_free(l);
	host->private = NULL;
}

static int host_linux_create(struct host *host, struct err *err)
{
	struct host_linux *l = mem_zalloc(sizeof(*l));
	/* a huge page moves as one only between places that are aligned alike */
	u64 room = align_up(host->bytes + PAGE_SIZE, 2ul << 20);
	hva_t base;
	int ret;

	host->private = l;
	if (!l)
		return err_set(err, -ENOMEM, "no memory");
	ret = host_linux_open(host, err);
	if (ret)
		goto fail;
	base = place_reserve(room + host->limbo_bytes);
	if (base) {
		host->data = base;
		host->quarantine = base + room;
		ret = host_linux_map_fresh(host, 0, host->bytes, MAP_FIXED);
		/* what nothing was mapped over is a hole from now on */
		munmap(data_ptr(host, ret ? 0 : host->bytes), room + host->limbo_bytes - (ret ? 0 : host->bytes));
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
	.begin = host_linux_begin,
	.end = host_linux_end,
	.read64 = host_linux_read64,
	.write64 = host_linux_write64,
	.limbo_read64 = host_linux_limbo_read64,
	.limbo_write64 = host_linux_limbo_write64,
};
