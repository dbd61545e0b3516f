/* SPDX-License-Identifier: MIT */
/* The host over Linux: DATA is mapped in this process. */
#include "lab/host/linux.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "guest/abi.h"
#include "lab/system/place.h"
#include "lab/system/smaps.h"
#include "lib/alloc.h"
#include "lib/atomic.h"
#include "lib/cgroup.h"

static int host_linux_supports(enum host_backing backing, struct err *why)
{
	return 0;
}

int host_linux_advise(void *at, u64 len, int advice)
{
	/* A page under migration or writeback is busy for a moment; collapse says so. */
	for (int i = 0; i < 100; i++) {
		if (!madvise(at, len, advice))
			return 0;
		if (errno != EAGAIN && errno != EBUSY)
			break;
		usleep(1000);
	}
	return -errno;
}

/*
 * Anonymous memory is huge from its fault on. Shared memory is so only where a switch of the machine, shmem_enabled,
 * says it, but MADV_COLLAPSE asks no switch: of a block that is not all hole. A file system with large
 * folios brings a huge one where the mapping wants it. Where no whole block is mapped, small pages are
 * asked for: each of them could take 2 MiB of its file.
 */
static void make_huge(struct host *host, char *at, u64 len)
{
	struct host_linux *l = host->private;
	char *block = (char *)align_up((uintptr_t)at, HUGE), *end = at + len;
	bool shared = host_backing_table[host->backing].kind == BACKING_SHARED;
	int ret;

	madvise(at, len, !shared || block + HUGE <= end ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	for (; shared && block + HUGE <= end; block += HUGE) {
		ret = host_linux_advise(block, PAGE_SIZE, MADV_POPULATE_WRITE);
		ret = ret ?: host_linux_advise(block, HUGE, MADV_COLLAPSE);
		l->huge_error = ret ?: l->huge_error;
	}
}

/* Is there a huge page in DATA? Anonymous memory is asked by its faults. Return: 0; -EOPNOTSUPP and why not. */
static int check_huge(struct host *host, struct err *err)
{
	struct host_linux *l = host->private;
	const struct host_backing_info *b = &host_backing_table[host->backing];
	struct smaps maps;

	if (!b->thp || b->kind != BACKING_SHARED)
		return 0;
	for (u64 off = 0; off < host->bytes; off += host_range_bytes(host)) {
		hva_t start = host_addr(host, off);

		if (smaps_read(start, start + host_range_bytes(host), &maps) || maps.huge_kib)
			return 0;
	}
	if (host_linux_on_disk(host))
		return err_set(err, -EOPNOTSUPP, "%s: the file system gives no huge pages (large folios)", b->name);
	if (!l->huge_error)
		return err_set(err, -EOPNOTSUPP, "%s: the kernel collapsed pages and maps no huge one", b->name);
	return err_set(err, -EOPNOTSUPP, "%s: madvise(MADV_COLLAPSE): %s (Linux 6.1)", b->name,
		       strerror(-l->huge_error));
}

static int map_at(struct host *host, char *at, u64 off, u64 len, int how)
{
	struct host_linux *l = host->private;
	/* A private mapping shows the file's data of its own place again, a shared one the next piece of the file. */
	u64 start = l->tracked ? l->file_end : off;
	void *p;

	/* A huge page stands alike in the file and in the address space; a file on a disk has less room to spare. */
	if (host->backing == HOST_MEMFD || (l->tracked && l->huge))
		start += (host_addr(host, off) - start) % HUGE;

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
		make_huge(host, p, len);
	if (!l->tracked)
		return 0;
	l->file_end = start + len;
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

static u64 old_offset(struct host *host, u64 off)
{
	struct host_linux *l = host->private;

	return l->tracked ? l->old[(off - host->limbo_off) / PAGE_SIZE] + off % PAGE_SIZE : off;
}

/* A page's stamps and its slots are gone through from the first of them on. */
static bool asked_already(u64 at)
{
	return at && (at % GUEST_STAMP_STRIDE == 0 ||
		      (at > GUEST_WSLOT_OFFSET && at < GUEST_WSLOT_OFFSET + GUEST_MAX_VCPUS * sizeof(u64)));
}

/*
 * A touch of a hole in a file may take a block, a read too (tmpfs), and is a SIGBUS where the disk has none left: ask
 * first, once a page. A kernel that cannot be asked (before 5.14), or says no,
 * is asked for the block itself, at @at of the file, which tells why.
 */
static int ask_first(struct host *host, u64 *word, u64 at, bool write)
{
	void *page = (void *)align_down((uintptr_t)word, PAGE_SIZE);

	if (!host_linux_on_disk(host) || asked_already(at % PAGE_SIZE))
		return 0;
	if (!madvise(page, PAGE_SIZE, write ? MADV_POPULATE_WRITE : MADV_POPULATE_READ))
		return 0;
	return fallocate(host->fd, 0, (off_t)align_down(at, PAGE_SIZE), PAGE_SIZE) && errno != EOPNOTSUPP ? -errno : 0;
}

/* Where a word of DATA stands in the file. */
static u64 file_offset(struct host *host, u64 off)
{
	struct host_linux *l = host->private;

	return l->tracked ? l->offset[off / PAGE_SIZE] + off % PAGE_SIZE : off;
}

static int host_linux_populate(struct host *host, u64 off, u64 len)
{
	int ret = 0;

	for (u64 i = 0; i < len && !ret; i += PAGE_SIZE) {
		u64 *word = (u64 *)data_ptr(host, off + i);

		ret = ask_first(host, word, file_offset(host, off + i), true);
		if (!ret)
			fetch_add(word, 0);
	}
	return ret;
}

int host_linux_move(struct host *host, hva_t from, hva_t to, u64 len)
{
	void *p = mremap((void *)(uintptr_t)from, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)(uintptr_t)to);

	return p == MAP_FAILED ? -errno : 0;
}

static int host_linux_move_away(struct host *host, u64 off, u64 len)
{
	int ret = host_move_range(host, host_addr(host, off), host->quarantine, len, host_linux_move);

	if (!ret)
		host_linux_enter_limbo(host, off, len, LIMBO_QUARANTINE);
	return ret;
}

static int host_linux_move_back(struct host *host)
{
	host->limbo = LIMBO_NONE;
	return host_move_range(host, host->quarantine, host_addr(host, host->limbo_off), host->limbo_len,
			       host_linux_move);
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

static u64 *quarantine_ptr(struct host *host, u64 off)
{
	return (u64 *)(uintptr_t)(host->quarantine + (off - host->limbo_off));
}

static int host_linux_read64(struct host *host, u64 off, u64 *value)
{
	u64 *word = (u64 *)data_ptr(host, off);
	int ret = ask_first(host, word, file_offset(host, off), false);

	if (!ret)
		*value = READ_ONCE(*word);
	return ret;
}

static int host_linux_write64(struct host *host, u64 off, u64 value)
{
	u64 *word = (u64 *)data_ptr(host, off);
	int ret = ask_first(host, word, file_offset(host, off), true);

	if (!ret)
		smp_store_release(word, value);
	return ret;
}

/* A guest_memfd can be mapped, but neither read nor written through its descriptor. */
static int mapped_word(struct host *host, u64 at, u64 *value, bool write)
{
	u64 *page = mmap(NULL, PAGE_SIZE, RW, MAP_SHARED, host->fd, (off_t)align_down(at, PAGE_SIZE));

	if (page == MAP_FAILED)
		return -errno;
	if (write)
		smp_store_release(&page[at % PAGE_SIZE / sizeof(u64)], *value);
	else
		*value = READ_ONCE(page[at % PAGE_SIZE / sizeof(u64)]);
	munmap(page, PAGE_SIZE);
	return 0;
}

static int host_linux_limbo_read64(struct host *host, u64 off, u64 *value)
{
	int ret;

	if (host->limbo == LIMBO_QUARANTINE) {
		ret = ask_first(host, quarantine_ptr(host, off), old_offset(host, off), false);
		if (!ret)
			*value = READ_ONCE(*quarantine_ptr(host, off));
		return ret;
	}
	if (host->limbo == LIMBO_MEM)
		return host_linux_mem_word(host, off, value, false);
	if (host->backing == HOST_GUEST_MEMFD)
		return mapped_word(host, old_offset(host, off), value, false);
	return pread(host->fd, value, sizeof(*value), old_offset(host, off)) == sizeof(*value) ? 0 : -EIO;
}

static int host_linux_limbo_write64(struct host *host, u64 off, u64 value)
{
	int ret;

	if (host->limbo == LIMBO_QUARANTINE) {
		ret = ask_first(host, quarantine_ptr(host, off), old_offset(host, off), true);
		if (!ret)
			smp_store_release(quarantine_ptr(host, off), value);
		return ret;
	}
	if (host->limbo == LIMBO_MEM)
		return host_linux_mem_word(host, off, &value, true);
	if (host->backing == HOST_GUEST_MEMFD)
		return mapped_word(host, old_offset(host, off), &value, true);
	return pwrite(host->fd, &value, sizeof(value), old_offset(host, off)) == sizeof(value) ? 0 : -EIO;
}

static void host_linux_destroy(struct host *host)
{
	struct host_linux *l = host->private;

	if (!l)
		return;
	host_linux_end(host, NULL);
	host_linux_release(host);
	for (u32 i = 0; host->data && i < max(host->ranges, 1u); i++)
		munmap((void *)(uintptr_t)(host->data + i * host->stride), host_range_bytes(host));
	host_linux_close(host);
	if (l->mem >= 0)
		close(l->mem);
	mem_free(l);
	host->private = NULL;
}

/* Fresh memory for each range; what lies between and behind them is a hole from now on. Return: 0; -errno. */
static int map_ranges(struct host *host)
{
	u32 ranges = max(host->ranges, 1u);
	u64 each = host_range_bytes(host), room;
	int ret = 0;

	/* A huge page moves as one only between places that are aligned alike. */
	host->stride = align_up(each + PAGE_SIZE, HUGE);
	room = ranges * host->stride + host->limbo_bytes;
	host->data = place_reserve(room);
	if (!host->data)
		return -ENOMEM;
	host->quarantine = host->data + ranges * host->stride;
	for (u64 off = 0; off < host->bytes && !ret; off += each) {
		char *at = data_ptr(host, off);
		u64 hole = host->stride - each + (off ? 0 : host->limbo_bytes); /* the first range is the last here */

		ret = host_linux_map_fresh(host, off, each, MAP_FIXED);
		munmap(at + each, hole);
	}
	if (ret) {
		munmap((void *)(uintptr_t)host->data, room);
		host->data = 0;
	}
	return ret;
}

static int host_linux_create(struct host *host, struct err *err)
{
	struct host_linux *l = mem_zalloc(sizeof(*l));
	int ret;

	host->private = l;
	if (!l)
		return err_set(err, -ENOMEM, "no memory");
	l->mem = -1;
	l->oom_kills = cgroup_oom_kills("");
	ret = host_linux_open(host, err);
	if (ret)
		goto fail;
	ret = map_ranges(host);
	if (ret)
		err_set(err, ret, "cannot map %llu bytes: %s", (unsigned long long)host->bytes, strerror(-ret));
	ret = ret ?: check_huge(host, err);
	if (!ret)
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
	.watch = host_linux_watch,
	.unwatch = host_linux_unwatch,
	.begin = host_linux_begin,
	.end = host_linux_end,
	.read64 = host_linux_read64,
	.write64 = host_linux_write64,
	.limbo_read64 = host_linux_limbo_read64,
	.limbo_write64 = host_linux_limbo_write64,
	.full = host_linux_full,
};
