/* SPDX-License-Identifier: MIT */
/*
 * DATA in another process (engine `qemu`), operated on from here: through the descriptor
 * of its RAM, with process_madvise(), and machine-wide. The other process neither knows
 * nor helps, so nothing here changes what it maps where: no unmap, no protect, no move.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "lab/host/host.h"
#include "lab/system/linux_compat.h"
#include "lab/system/system.h"
#include "lib/atomic.h"
#include "vmm/engine.h"

#define HUGE (2ull << 20)
#define KSM_SCANS 3	     /* a page is merged in the third look at it */
#define OWN_PIECE (2 * HUGE) /* divides what such a Linux has */

static char *data_at(const struct host *host, u64 off)
{
	return (char *)(uintptr_t)(host->data + off);
}

static int outside_supports(enum host_backing backing, struct err *why)
{
	if (backing == HOST_MEMFD || backing == HOST_FILE_SHARED)
		return 0;
	return err_set(why, -EOPNOTSUPP, "engine qemu: backing %s; its memory is shared: memfd or file_shared",
		       host_backing_table[backing].name);
}

/* A place: vm_load() maps the guest's memory over it. */
static int outside_create(struct host *host, struct err *err)
{
	void *at;

	if (host->ranges > 1)
		return err_set(err, -EOPNOTSUPP, "engine qemu: DATA is one range, as the machine's RAM is");
	at = mmap(NULL, host->bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (at == MAP_FAILED)
		return err_set(err, -errno, "no room for %llu bytes: %s", (unsigned long long)host->bytes,
			       strerror(errno));
	host->data = (hva_t)(uintptr_t)at;
	return 0;
}

static void outside_destroy(struct host *host)
{
	munmap(data_at(host, 0), host->bytes);
}

static int cannot(struct host *host, u64 off, u64 len)
{
	(void)host;
	(void)off;
	(void)len;
	return -EOPNOTSUPP;
}

static int cannot_protect(struct host *host, u64 off, u64 len, int prot)
{
	(void)prot;
	return cannot(host, off, len);
}

static int cannot_move_back(struct host *host)
{
	return cannot(host, 0, 0);
}

static int nothing_to_release(struct host *host)
{
	(void)host;
	return 0;
}

static int refused(struct err *why, const char *call)
{
	return err_set(why, -errno, "%s: %s", call, strerror(errno));
}

/* --- operations ------------------------------------------------------------------------------- */

static int advise_at(int pidfd, hva_t at, u64 len, int advice, const char *call, struct err *why)
{
	struct iovec range = { .iov_base = (void *)(uintptr_t)at, .iov_len = len };
	ssize_t n = -1;

	/* A page under migration or writeback is busy for a moment. */
	for (int i = 0; i < 100; i++) {
		n = syscall(SYS_process_madvise, pidfd, &range, 1, advice, 0);
		if (n >= 0 || (errno != EAGAIN && errno != EBUSY))
			break;
		usleep(1000);
	}
	if (n < 0 && errno == EPERM)
		return err_set(why, -EOPNOTSUPP, "process_madvise wants CAP_SYS_NICE: run tain as root");
	if (n < 0)
		return errno == ENOSYS ? err_set(why, -EOPNOTSUPP, "Linux before 5.10 has no process_madvise")
				       : refused(why, call);
	return (u64)n == len ? 0 : err_set(why, -EIO, "%s: %zd of %llu bytes", call, n, (unsigned long long)len);
}

/* What destroys nothing is also done to the memory of the Linux below the guest, a piece at a time to all of it. */
static int advise(struct host *host, u64 off, u64 len, int advice, const char *call, struct err *why)
{
	struct vm_outside o;
	u64 own;
	int ret;

	if (vm_outside(host->vm, &o))
		return -EOPNOTSUPP;
	ret = advise_at(o.pidfd, o.data_hva + off, len, advice, call, why);
	if (ret || !o.own_bytes)
		return ret;
	own = host->own_off;
	host->own_off = (own + OWN_PIECE) % o.own_bytes;
	return advise_at(o.pidfd, o.own_hva + own, OWN_PIECE, advice, call, why);
}

static int punch(struct host *host, u64 off, u64 len, struct err *why)
{
	struct vm_outside o;

	if (vm_outside(host->vm, &o))
		return -EOPNOTSUPP;
	if (fallocate(o.ram, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(o.data_offset + off), (off_t)len))
		return refused(why, "fallocate(FALLOC_FL_PUNCH_HOLE)");
	return 0;
}

/* Both processes map the pages: they go when no page table has them any more, so ours let go first. */
static int pageout(struct host *host, u64 off, u64 len, struct err *why)
{
	struct vm_outside o;
	bool file = host->backing == HOST_FILE_SHARED;
	int ret = file ? 0 : system_swap(why);

	if (ret)
		return ret;
	if (file && msync(data_at(host, off), len, MS_SYNC)) /* dirty pages stay */
		return refused(why, "msync");
	if (!vm_outside(host->vm, &o) && o.own_private)
		system_swap(NULL); /* without, that memory stays; DATA goes */
	if (madvise(data_at(host, off), len, MADV_DONTNEED))
		return refused(why, "madvise(MADV_DONTNEED) of the mapping here");
	return advise(host, off, len, MADV_PAGEOUT, "process_madvise(MADV_PAGEOUT)", why);
}

/*
 * Huge pages are the file's, whoever gathers them. QEMU maps it where no huge page fits, at
 * an address that is a multiple of 4K; a mapping here fits.
 *
 *   here                        the kernel                  QEMU, its guest
 *   map 2M of the file
 *   MADV_COLLAPSE               takes the small pages out
 *                               of all page tables          notified; faults, and waits
 *                               copies them into a huge one
 *                                                           has the huge one, in pieces
 */
static int collapse_here(const struct vm_outside *o, u64 at, struct err *why)
{
	char *room = mmap(NULL, 2 * HUGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	hva_t fits = align_up((hva_t)(uintptr_t)room, HUGE);
	int self = (int)syscall(SYS_pidfd_open, getpid(), 0), ret;

	if (room == MAP_FAILED || self < 0 ||
	    mmap((void *)(uintptr_t)fits, HUGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, o->ram, (off_t)at) ==
		    MAP_FAILED)
		ret = refused(why, "a mapping of the guest's memory for MADV_COLLAPSE");
	else
		ret = advise_at(self, fits, HUGE, MADV_COLLAPSE, "madvise(MADV_COLLAPSE)", why);
	if (self >= 0)
		close(self);
	if (room != MAP_FAILED)
		munmap(room, 2 * HUGE);
	return ret;
}

/* Anonymous memory has its huge pages where QEMU has it. Where nothing is yet, there is nothing to gather. */
static int collapse_private(struct host *host, const struct vm_outside *o, struct err *why)
{
	u64 own = host->own_off;
	int ret;

	host->own_off = (own + HUGE) % o->own_bytes;
	ret = advise_at(o->pidfd, o->own_hva + own, HUGE, MADV_COLLAPSE, "process_madvise(MADV_COLLAPSE)", why);
	return ret == -EINVAL ? 0 : ret;
}

/* The next huge page's worth of the Linux below the guest that is not all holes, of which there are many. */
static int collapse_own(struct host *host, const struct vm_outside *o, struct err *why)
{
	off_t data = lseek(o->ram, (off_t)host->own_off, SEEK_DATA);

	if (data < 0 || (u64)data >= o->own_bytes)
		data = 0;
	host->own_off = (align_down((u64)data, HUGE) + HUGE) % o->own_bytes;
	return collapse_here(o, align_down((u64)data, HUGE), why);
}

static int collapse(struct host *host, u64 off, struct err *why)
{
	struct vm_outside o;
	int ret;

	if (!vm_outside(host->vm, &o) && o.own_private)
		return collapse_private(host, &o, why);
	if (vm_outside(host->vm, &o) || host->bytes - off < HUGE)
		return err_set(why, -EOPNOTSUPP, "less than a huge page");
	if (is_aligned(o.data_hva - o.data_offset, HUGE))
		return advise(host, off, HUGE, MADV_COLLAPSE, "process_madvise(MADV_COLLAPSE)", why);
	ret = collapse_here(&o, o.data_offset + off, why);
	if (ret || !o.own_bytes)
		return ret;
	return collapse_own(host, &o, why);
}

/* Pages of the process that KSM has merged. */
static u64 merged_pages(pid_t pid)
{
	char path[48];
	unsigned long long pages = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/ksm_merging_pages", pid);
	f = fopen(path, "re");
	if (f && fscanf(f, "%llu", &pages) != 1)
		pages = 0;
	if (f)
		fclose(f);
	return pages;
}

/* QEMU has said of all its memory that it may be merged; what KSM takes of it is the Linux's own, which is private. */
static int merge(struct host *host, struct err *why)
{
	struct vm_outside o;
	int ret;

	if (vm_outside(host->vm, &o) || !o.own_private)
		return err_set(why, -EOPNOTSUPP, "%s; with -s file_shared what is Linux's own is not shared",
			       op_table[OP_MERGE].not_why);
	ret = system_ksm(&host->change, why);
	if (ret)
		return ret;
	ret = system_ksm_wait(KSM_SCANS, SYSTEM_KSM_NS, why);
	if (!ret && !merged_pages(o.pid))
		ret = err_set(why, -EAGAIN, "KSM has found nothing to merge");
	if (ret)
		system_undo(&host->change, NULL);
	return ret;
}

static int populate(struct host *host, u64 off, u64 len)
{
	for (u64 end = off + len; off < end; off += PAGE_SIZE)
		fetch_add((u64 *)(void *)data_at(host, off + PAGE_SIZE - sizeof(u64)), 0);
	return 0;
}

static int outside_begin(struct host *host, enum host_op op, u64 off, u64 len, struct err *why)
{
	if (!len || !is_aligned(off | len, PAGE_SIZE) || off > host->bytes || len > host->bytes - off)
		return err_set(why, -EINVAL, "no such range");
	host->op = op;
	switch (op) {
	case OP_PUNCH:
		return punch(host, off, len, why);
	case OP_REMOVE:
		if (madvise(data_at(host, off), len, MADV_REMOVE))
			return refused(why, "madvise(MADV_REMOVE)");
		return 0;
	case OP_COLD:
		return advise(host, off, len, MADV_COLD, "process_madvise(MADV_COLD)", why);
	case OP_SPLIT:
		return advise(host, off, PAGE_SIZE, MADV_COLD, "process_madvise(MADV_COLD) on one page", why);
	case OP_PAGEOUT:
		return pageout(host, off, len, why);
	case OP_COLLAPSE:
		return collapse(host, align_down(off, HUGE), why);
	case OP_COMPACT:
		return system_compact(why);
	case OP_MERGE:
		return merge(host, why);
	case OP_POPULATE:
		return populate(host, off, len);
	default:
		return err_set(why, -EOPNOTSUPP, "another process cannot be made to do it from outside");
	}
}

static int outside_end(struct host *host, struct err *why)
{
	/* What is merged stays so until the guest writes there. */
	return host->op == OP_MERGE ? system_undo(&host->change, why) : 0;
}

static int outside_read64(struct host *host, u64 off, u64 *value)
{
	struct vm_outside o;

	*value = READ_ONCE(*(u64 *)(void *)data_at(host, off));
	return !host->vm || vm_outside(host->vm, &o) || !o.lost ? 0 : -EIO;
}

static int outside_write64(struct host *host, u64 off, u64 value)
{
	smp_store_release((u64 *)(void *)data_at(host, off), value);
	return 0;
}

static int no_limbo_read64(struct host *host, u64 off, u64 *value)
{
	(void)host;
	(void)off;
	(void)value;
	return -EOPNOTSUPP;
}

static int no_limbo_write64(struct host *host, u64 off, u64 value)
{
	(void)host;
	(void)off;
	(void)value;
	return -EOPNOTSUPP;
}

const struct host_ops host_outside_ops = {
	.name = "Linux, another process",
	.supports = outside_supports,
	.create = outside_create,
	.destroy = outside_destroy,
	.map = cannot,
	.remap = cannot,
	.unmap = cannot,
	.protect = cannot_protect,
	.dontneed = cannot,
	.populate = populate,
	.move_away = cannot,
	.move_back = cannot_move_back,
	.release = nothing_to_release,
	.begin = outside_begin,
	.end = outside_end,
	.read64 = outside_read64,
	.write64 = outside_write64,
	.limbo_read64 = no_limbo_read64,
	.limbo_write64 = no_limbo_write64,
};
