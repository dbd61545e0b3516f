/* SPDX-License-Identifier: MIT */
/* The operations of lab/host/op.h on Linux. */
#include "lab/host/linux.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/atomic.h"
#include "lib/cgroup.h"

struct range {
	u64 off, len;
};

static int refused(struct err *why, const char *call)
{
	return err_set(why, -errno, "%s: %s", call, strerror(errno));
}

static int advise(struct host *host, struct range r, int advice, const char *call, struct err *why)
{
	int ret = host_linux_advise(data_ptr(host, r.off), r.len, advice);

	return ret ? err_set(why, ret, "%s: %s", call, strerror(-ret)) : 0;
}

static int named(struct err *why, int ret, const char *call)
{
	return ret ? err_set(why, ret, "%s: %s", call, strerror(-ret)) : 0;
}

/* --- mappings ----------------------------------------------------------------------------- */

static int begin_munmap(struct host *host, struct range r, struct err *why)
{
	return named(why, host->ops->unmap(host, r.off, r.len), "munmap");
}

static int end_munmap(struct host *host, struct range r, struct err *why)
{
	int ret = host->ops->map(host, r.off, r.len);

	ret = ret ?: host->ops->release(host);
	return named(why, ret, "mmap of fresh memory");
}

static int begin_remap(struct host *host, struct range r, struct err *why)
{
	return named(why, host->ops->remap(host, r.off, r.len), "mmap(MAP_FIXED)");
}

/* The old pages of a file stay until now: to be watched, and because it is not the kernel that frees them. */
static int end_limbo(struct host *host, struct range r, struct err *why)
{
	return named(why, host->ops->release(host), "release of the old pages");
}

static int begin_mprotect(struct host *host, struct range r, struct err *why)
{
	return named(why, host->ops->protect(host, r.off, r.len, PROT_NONE), "mprotect(PROT_NONE)");
}

static int end_mprotect(struct host *host, struct range r, struct err *why)
{
	return named(why, host->ops->protect(host, r.off, r.len, RW), "mprotect(PROT_READ | PROT_WRITE)");
}

static int begin_mremap(struct host *host, struct range r, struct err *why)
{
	return named(why, host->ops->move_away(host, r.off, r.len), "mremap");
}

static int end_mremap(struct host *host, struct range r, struct err *why)
{
	return named(why, host->ops->move_back(host), "mremap back");
}

static int begin_dontunmap(struct host *host, struct range r, struct err *why)
{
	void *to = (void *)(uintptr_t)host->quarantine;

	if (mremap(data_ptr(host, r.off), r.len, r.len, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, to) ==
	    MAP_FAILED)
		return refused(why, "mremap(MREMAP_DONTUNMAP)");
	/* A file's pages stand in both places and may be written here: nothing to watch there. */
	if (host_backing_table[host->backing].kind != BACKING_SHARED)
		host_linux_enter_limbo(host, r.off, r.len, LIMBO_QUARANTINE);
	return 0;
}

/* No hole is punched: a file's pages are still in use. */
static int end_dontunmap(struct host *host, struct range r, struct err *why)
{
	host->limbo = LIMBO_NONE;
	return munmap((void *)(uintptr_t)host->quarantine, r.len) ? refused(why, "munmap") : 0;
}

static int begin_mremap_onto(struct host *host, struct range r, struct err *why)
{
	struct host_linux *l = host->private;
	int ret;

	if (l->tracked)
		host_linux_enter_limbo(host, r.off, r.len, LIMBO_FILE);
	ret = host_linux_map_quarantine(host, r.off, r.len);
	if (ret)
		return named(why, ret, "mmap of fresh memory");
	ret = host_linux_move(host, host->quarantine, host_addr(host, r.off), r.len);
	if (ret) { /* the old pages are still there, and where they were in the file */
		munmap((void *)(uintptr_t)host->quarantine, r.len);
		if (l->tracked)
			memcpy(l->offset + r.off / PAGE_SIZE, l->old, r.len / PAGE_SIZE * sizeof(*l->old));
		host->limbo = LIMBO_NONE;
	}
	return named(why, ret, "mremap(MREMAP_FIXED) onto the range");
}

/* --- contents ------------------------------------------------------------------------------- */

static int begin_dontneed(struct host *host, struct range r, struct err *why)
{
	return advise(host, r, MADV_DONTNEED, "madvise(MADV_DONTNEED)", why);
}

static int begin_remove(struct host *host, struct range r, struct err *why)
{
	return advise(host, r, MADV_REMOVE, "madvise(MADV_REMOVE)", why);
}

/* The range's pages in the file, one hole per piece. */
static int begin_punch(struct host *host, struct range r, struct err *why)
{
	struct host_linux *l = host->private;
	u64 first = r.off / PAGE_SIZE, pages = r.len / PAGE_SIZE;

	for (u64 i = 0, n; i < pages; i += n) {
		u64 at = l->tracked ? l->offset[first + i] : r.off;

		n = l->tracked ? 1 : pages;
		while (i + n < pages && l->offset[first + i + n] == at + n * PAGE_SIZE)
			n++;
		if (fallocate(host->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)at, (off_t)(n * PAGE_SIZE)))
			return refused(why, "fallocate(FALLOC_FL_PUNCH_HOLE)");
	}
	return 0;
}

static int begin_truncate(struct host *host, struct range r, struct err *why)
{
	return ftruncate(host->fd, 0) ? refused(why, "ftruncate") : 0;
}

static int end_truncate(struct host *host, struct range r, struct err *why)
{
	struct host_linux *l = host->private;

	return ftruncate(host->fd, (off_t)l->file_bytes) ? refused(why, "ftruncate") : 0;
}

static int begin_guard(struct host *host, struct range r, struct err *why)
{
	return advise(host, r, MADV_GUARD_INSTALL, "madvise(MADV_GUARD_INSTALL)", why);
}

static int end_guard(struct host *host, struct range r, struct err *why)
{
	return advise(host, r, MADV_GUARD_REMOVE, "madvise(MADV_GUARD_REMOVE)", why);
}

static int begin_populate(struct host *host, struct range r, struct err *why)
{
	int ret = advise(host, r, MADV_POPULATE_WRITE, "madvise(MADV_POPULATE_WRITE)", why);

	if (ret != -EINVAL) /* Linux before 5.14, or a mapping it does not know; a touch does it too */
		return ret;
	return named(why, host->ops->populate(host, r.off, r.len), "a write to each page");
}

/* --- reclaim, huge pages, merging ------------------------------------------------------------- */

static int begin_free(struct host *host, struct range r, struct err *why)
{
	return advise(host, r, MADV_FREE, "madvise(MADV_FREE)", why);
}

static int begin_cold(struct host *host, struct range r, struct err *why)
{
	return advise(host, r, MADV_COLD, "madvise(MADV_COLD)", why);
}

/* Only a file's own pages go without swap: back to the file. Those that are dirty stay, so they are written first. */
static int begin_pageout(struct host *host, struct range r, struct err *why)
{
	bool own = host_linux_on_disk(host) && host_backing_table[host->backing].kind == BACKING_SHARED;
	int ret = 0;

	if (!own)
		ret = system_swap(why);
	else if (msync(data_ptr(host, r.off), r.len, MS_SYNC))
		ret = refused(why, "msync");
	return ret ?: advise(host, r, MADV_PAGEOUT, "madvise(MADV_PAGEOUT)", why);
}

/* Do other operations' fresh pages stand between those of the range? */
static bool in_pieces(struct host *host, struct range r)
{
	struct host_linux *l = host->private;
	const u64 *at = l->tracked ? l->offset + r.off / PAGE_SIZE : NULL;

	for (u64 i = 1; at && i < r.len / PAGE_SIZE; i++)
		if (at[i] != at[0] + i * PAGE_SIZE)
			return true;
	return false;
}

/* What the kernel means by EINVAL. */
static const char *uncollapsed(struct host *host, struct range r)
{
	if (host_linux_on_disk(host))
		return "it wants READ_ONLY_THP_FOR_FS and no writer";
	if (host->fd < 0 && host_backing_table[host->backing].kind == BACKING_SHARED)
		return "it is of several objects by now, or gets no huge pages here";
	return in_pieces(host, r) ? "it is in several pieces of the file by now" : "it gets no huge pages here";
}

static int begin_collapse(struct host *host, struct range r, struct err *why)
{
	struct host_linux *l = host->private;
	int ret;

	if (r.len < HUGE)
		return err_set(why, -EOPNOTSUPP, "less than a huge page");
	if (!l->huge && host_linux_thp_allow(l, true))
		return refused(why, "prctl(PR_SET_THP_DISABLE)");
	ret = advise(host, r, MADV_COLLAPSE, "madvise(MADV_COLLAPSE)", why);
	if (!l->huge)
		host_linux_thp_allow(l, false);
	if (ret == -EINVAL && host->backing != HOST_ANONYMOUS_HUGETLB_2MB) /* there it has another reason */
		return err_set(why, ret, "madvise(MADV_COLLAPSE): %s: %s", strerror(-ret), uncollapsed(host, r));
	return ret;
}

/* Advice for one page of a huge page splits it first; what is not huge is left as it is. */
static int begin_split(struct host *host, struct range r, struct err *why)
{
	struct range page = { .len = PAGE_SIZE };
	int ret = 0;

	for (u64 off = r.off; off < r.off + r.len && !ret; off = align_down(off, HUGE) + HUGE) {
		page.off = off;
		ret = advise(host, page, MADV_COLD, "madvise(MADV_COLD) on a part of a huge page", why);
	}
	return ret;
}

static int begin_compact(struct host *host, struct range r, struct err *why)
{
	return system_compact(why);
}

static int begin_merge(struct host *host, struct range r, struct err *why)
{
	return host_linux_merge(host, r.off, r.len, why);
}

static int end_merge(struct host *host, struct range r, struct err *why)
{
	return host_linux_unmerge(host, r.off, r.len, why);
}

/* --- fork ----------------------------------------------------------------------------------------- */

static u64 sum_range(struct host *host, struct range r)
{
	u64 sum = 0;

	for (u64 i = 0; i < r.len; i += sizeof(u64))
		sum = sum * 0x9e3779b97f4a7c15ull + READ_ONCE(*(u64 *)data_ptr(host, r.off + i));
	return sum;
}

/* If memory runs out, let it be taken: its parent can say what happened. */
static void offer_to_oom_killer(void)
{
	long fd = syscall(SYS_openat, AT_FDCWD, "/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	syscall(SYS_write, fd, "1000", 4);
	syscall(SYS_close, fd);
}

/*
 * The child looks at its copy when it is born and before it goes, or does what it was told. Other threads may have
 * held any lock at the fork, the C library's too: nothing but the range and bare system
 * calls. The end of its pipe, or its parent's, ends it.
 */
static void child_main(struct host *host, struct range r, int from_parent, int to_parent)
{
	const struct host_child *child = host->child;
	u64 sum = 0;
	char c = 0;

	syscall(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	offer_to_oom_killer();
	if (!child)
		sum = sum_range(host, r);
	else if (child->notes)
		child->notes(child->arg);
	if (syscall(SYS_write, to_parent, &c, 1) != 1)
		syscall(SYS_exit_group, 2);
	if (child)
		child->born(child->arg);
	while (syscall(SYS_read, from_parent, &c, 1) < 0 && errno == EINTR)
		;
	if (child)
		child->ends(child->arg);
	else
		sum -= sum_range(host, r);
	syscall(SYS_exit_group, sum ? 1 : 0);
}

/* Let it look again and go. Return: its wait status. */
static int end_child(struct host_linux *l)
{
	int status = 0;

	close(l->to_child); /* its read ends */
	while (waitpid(l->child, &status, 0) < 0 && errno == EINTR)
		;
	close(l->from_child);
	l->child = 0;
	return status;
}

static int child_died(struct host_linux *l, int status, struct err *why)
{
	char by[CGROUP_KILLED_TEXT];

	if (!WIFSIGNALED(status))
		return err_set(why, -ECHILD, "fork: the child died");
	cgroup_killed_text(l->oom_kills, WTERMSIG(status), by, sizeof(by));
	l->oom_kills = cgroup_oom_kills("");
	return err_set(why, -ECHILD, "fork: the child was killed %s", by);
}

static int begin_fork(struct host *host, struct range r, struct err *why)
{
	struct host_linux *l = host->private;
	int to[2], from[2];
	ssize_t n;
	char c;

	if (pipe2(to, O_CLOEXEC))
		return refused(why, "pipe");
	if (pipe2(from, O_CLOEXEC)) {
		close(to[0]);
		close(to[1]);
		return refused(why, "pipe");
	}
	/*
	 * Not fork(): a userfaultfd handler must be able to run meanwhile, since the kernel waits
	 * for it to take the event, and the thread sanitizer's fork() holds every thread.
	 */
	l->child = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	if (!l->child) {
		syscall(SYS_close, to[1]);
		child_main(host, r, to[0], from[1]);
	}
	close(to[0]);
	close(from[1]);
	l->to_child = to[1];
	l->from_child = from[0];
	if (l->child < 0) {
		l->child = 0;
		close(to[1]);
		close(from[0]);
		return refused(why, "fork");
	}
	do
		n = read(l->from_child, &c, 1);
	while (n < 0 && errno == EINTR);
	if (n == 1)
		return 0;
	return child_died(l, end_child(l), why);
}

static int end_fork(struct host *host, struct range r, struct err *why)
{
	int status = end_child(host->private);
	bool same = WIFEXITED(status) && !WEXITSTATUS(status);

	host->child_changed = host_backing_table[host->backing].kind != BACKING_SHARED && !same;
	if (WIFEXITED(status) && WEXITSTATUS(status) < 2)
		return 0;
	return child_died(host->private, status, why);
}

/* --- begin and end -------------------------------------------------------------------------------- */

static const struct {
	int (*begin)(struct host *host, struct range r, struct err *why);
	int (*end)(struct host *host, struct range r, struct err *why); /* NULL: nothing to end */
} fns[OP_NR] = {
	[OP_MUNMAP] = { begin_munmap, end_munmap },
	[OP_REMAP] = { begin_remap, end_limbo },
	[OP_MPROTECT] = { begin_mprotect, end_mprotect },
	[OP_DONTNEED] = { begin_dontneed, NULL },
	[OP_MREMAP] = { begin_mremap, end_mremap },
	[OP_DONTUNMAP] = { begin_dontunmap, end_dontunmap },
	[OP_MREMAP_ONTO] = { begin_mremap_onto, end_limbo },
	[OP_REMOVE] = { begin_remove, NULL },
	[OP_PUNCH] = { begin_punch, NULL },
	[OP_TRUNCATE] = { begin_truncate, end_truncate },
	[OP_GUARD] = { begin_guard, end_guard },
	[OP_FREE] = { begin_free, NULL },
	[OP_COLD] = { begin_cold, NULL },
	[OP_PAGEOUT] = { begin_pageout, NULL },
	[OP_COLLAPSE] = { begin_collapse, NULL },
	[OP_SPLIT] = { begin_split, NULL },
	[OP_COMPACT] = { begin_compact, NULL },
	[OP_MERGE] = { begin_merge, end_merge },
	[OP_FORK] = { begin_fork, end_fork },
	[OP_POPULATE] = { begin_populate, NULL },
};

int host_linux_begin(struct host *host, enum host_op op, u64 off, u64 len, struct err *why)
{
	const struct host_backing_info *b = &host_backing_table[host->backing];
	struct range r = { off, len };
	int ret;

	if (host->op_len)
		return err_set(why, -EBUSY, "%s has not ended", op_table[host->op].name);
	if (!len || !is_aligned(off | len, b->granule) || off > host->bytes || len > host->bytes - off)
		return err_set(why, -EINVAL, "backing %s: no such range", b->name);
	if (op == OP_PUNCH && host->fd < 0) /* no call could be made */
		return err_set(why, -EOPNOTSUPP, "there is no file to punch a hole into");
	if (op == OP_TRUNCATE && host->fd < 0)
		return err_set(why, -EOPNOTSUPP, "there is no file to truncate");
	ret = fns[op].begin(host, r, why);
	if (ret || !fns[op].end)
		return ret;
	host->op = op;
	host->op_off = off;
	host->op_len = len;
	return 0;
}

int host_linux_end(struct host *host, struct err *why)
{
	struct range r = { host->op_off, host->op_len };

	if (!r.len)
		return 0;
	host->op_len = 0;
	return fns[host->op].end(host, r, why);
}
