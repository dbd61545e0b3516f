/* SPDX-License-Identifier: MIT */
/* Machine-wide changes and the process that undoes them: see lab/system/guardian.h. */
#include "lab/system/guardian.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lab/system/journal.h"
#include "lab/system/keeper.h"
#include "lab/system/system_lock.h"
#include "lib/atomic.h"
#include "lib/thread.h"

/* Tain's side only, but for the journal, which both map. */
static struct {
	struct journal *journal;
	u32 order; /* of the last change */
	struct keeper keeper;
	int pidfd; /* its; -1: before Linux 5.3 nobody watches it */
	/* Both hold them: one that is killed does not give them away. */
	int lock; /* -1: the kernel has no tracefs, and the journal's must do */
	int journal_fd;
	unsigned int healed;
	struct thread watch;
	int wake; /* an eventfd: the watch may go */
	u32 lost;
	void (*on_loss)(void);
	struct err refused;
} guardian;

/* --- small files ------------------------------------------------------------------------ */

/* First line of @path, without its end. */
static int read_text(const char *path, char *text, size_t bytes)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = read(fd, text, bytes - 1);
	close(fd);
	if (n <= 0)
		return n ? -errno : -ENODATA;
	text[n] = '\0';
	text[strcspn(text, "\n")] = '\0';
	return 0;
}

/* "always [madvise] never": the word in brackets is in force. */
static void keep_choice(char *text)
{
	char *open = strchr(text, '['), *close = open ? strchr(open, ']') : NULL;

	if (!close)
		return;
	*close = '\0';
	memmove(text, open + 1, strlen(open + 1) + 1);
}

/* --- the guardian's side ---------------------------------------------------------------- */

static void unlock(void)
{
	if (guardian.lock < 0)
		return;
	flock(guardian.lock, LOCK_UN); /* a forked child of tain may still share it */
	close(guardian.lock);
}

static void put_back(void *unused)
{
	/* What tain did not finish may hold what is undone (a page in swap) for a moment. */
	for (int i = 0; i < 600 && journal_undo_all(guardian.journal); i++)
		usleep(100000);
	journal_close(guardian.journal, guardian.journal_fd);
	unlock();
}

/* --- tain's side ------------------------------------------------------------------------ */

/* In a thread of tain: a guardian that is killed is missed at once. */
static void watch(void *unused)
{
	struct pollfd p[2] = { { .fd = guardian.pidfd, .events = POLLIN }, { .fd = guardian.wake, .events = POLLIN } };

	thread_block_signals();
	while (poll(p, 2, -1) < 0 && errno == EINTR)
		;
	if (p[1].revents)
		return;
	WRITE_ONCE(guardian.lost, 1);
	if (guardian.on_loss)
		guardian.on_loss();
}

static int start_watch(void)
{
	int ret;

	guardian.lost = 0;
	guardian.wake = -1;
	guardian.pidfd = (int)syscall(SYS_pidfd_open, guardian.keeper.pid, 0);
	if (guardian.pidfd < 0)
		return errno == ENOSYS ? 0 : -errno;
	guardian.wake = eventfd(0, EFD_CLOEXEC);
	ret = guardian.wake < 0 ? -errno : thread_create(&guardian.watch, "guardian-watch", -1, watch, NULL);
	if (!ret)
		return 0;
	if (guardian.wake >= 0)
		close(guardian.wake);
	close(guardian.pidfd);
	guardian.pidfd = -1;
	return ret;
}

static void end_watch(void)
{
	const u64 one = 1;

	if (guardian.pidfd < 0)
		return;
	if (write(guardian.wake, &one, sizeof(one)) == sizeof(one))
		thread_join(&guardian.watch);
	close(guardian.wake);
	close(guardian.pidfd);
}

/* Let it go: it undoes what still stands. */
static void end_guardian(void)
{
	keeper_end(&guardian.keeper);
	journal_close(guardian.journal, guardian.journal_fd);
	unlock();
}

static int start(struct err *err)
{
	/* The journal's is never negative; the lock's ends the list where there is none. */
	const int keep[] = { guardian.journal_fd, guardian.lock, -1 };
	int ret = keeper_start(&guardian.keeper, "tain-guardian", keep, put_back, NULL, err);

	if (ret)
		return ret;
	ret = start_watch();
	if (!ret)
		return 0;
	return err_set(err, ret, "cannot watch the guardian process: %s", strerror(-ret));
}

int guardian_start(struct err *err)
{
	int ret;

	guardian.lock = system_lock(err);
	if (guardian.lock < 0 && guardian.lock != -EOPNOTSUPP)
		return guardian.lock;
	ret = journal_open(&guardian.journal, &guardian.journal_fd, &guardian.healed, err);
	if (ret) {
		unlock();
		return ret;
	}
	ret = start(err);
	if (ret && guardian.keeper.pid) {
		end_guardian();
	} else if (ret) {
		journal_close(guardian.journal, guardian.journal_fd);
		unlock();
	}
	return ret;
}

bool guardian_running(void)
{
	return guardian.keeper.pid > 0;
}

unsigned int guardian_healed(void)
{
	return guardian.healed;
}

void guardian_on_loss(void (*fn)(void))
{
	guardian.on_loss = fn;
}

bool guardian_lost(void)
{
	return READ_ONCE(guardian.lost);
}

void guardian_refuse(const struct err *why)
{
	guardian.refused = *why;
}

const char *guardian_refused(void)
{
	return guardian.refused.text[0] ? guardian.refused.text : NULL;
}

int guardian_stop(struct err *err)
{
	int ret;

	if (!guardian_running())
		return 0;
	end_watch();
	ret = journal_undo_all(guardian.journal);
	if (ret)
		err_set(err, ret, "a machine-wide change could not be put back: %s", strerror(-ret));
	else if (guardian_lost())
		ret = err_set(err, -ESRCH, "the guardian process was killed, so the run was ended; all is put back");
	end_guardian();
	return ret;
}

static int new_record(enum journal_kind kind, const char *path, struct err *err)
{
	if (!guardian_running())
		return err_set(err, -EPERM, "machine-wide changes were not allowed");
	if (guardian_lost())
		return err_set(err, -EPERM, "the guardian process was killed");
	for (int i = 0; i < JOURNAL_RECORDS; i++) {
		struct journal_record *r = &guardian.journal->record[i];

		if (r->armed)
			continue;
		if (snprintf(r->path, sizeof(r->path), "%s", path) >= (int)sizeof(r->path))
			return err_set(err, -ENAMETOOLONG, "%s: name too long", path);
		r->kind = kind;
		return i;
	}
	return err_set(err, -ENOSPC, "too many machine-wide changes at a time");
}

static void arm(struct journal_record *r)
{
	smp_store_release(&r->armed, ++guardian.order); /* the kernel orders it before our death */
}

int guardian_write(const char *path, const char *value, struct err *err)
{
	int i = new_record(JOURNAL_WRITE, path, err), ret;
	struct journal_record *r;

	if (i < 0)
		return i;
	r = &guardian.journal->record[i];
	ret = read_text(path, r->found, sizeof(r->found));
	if (ret)
		return err_set(err, ret, "cannot read %s: %s", path, strerror(-ret));
	keep_choice(r->found);
	arm(r);
	ret = journal_write_text(path, value);
	if (!ret)
		return i;
	WRITE_ONCE(r->armed, 0);
	return err_set(err, ret, "cannot write %s to %s: %s", value, path, strerror(-ret));
}

int guardian_unmerge(const char *run, struct err *err)
{
	struct journal_record *r;
	int i;

	for (i = 0; guardian_running() && i < JOURNAL_RECORDS; i++) {
		r = &guardian.journal->record[i];
		if (r->armed && r->kind == JOURNAL_KSM)
			return 0;
	}
	i = new_record(JOURNAL_KSM, run, err);
	if (i < 0)
		return i;
	r = &guardian.journal->record[i];
	snprintf(r->found, sizeof(r->found), "0");
	arm(r);
	return 0;
}

int guardian_undo(int change, struct err *err)
{
	struct journal_record *r;
	int ret;

	if (change < 0 || !guardian_running() || !guardian.journal->record[change].armed)
		return 0;
	r = &guardian.journal->record[change];
	ret = journal_undo(r);
	return ret ? err_set(err, ret, "cannot put back %s: %s", r->path, strerror(-ret)) : 0;
}

/* --- swap ------------------------------------------------------------------------------- */

/* What the kernel wants to find in the first page of a swap file. */
struct swap_header {
	char boot[1024];
	u32 version, last_page, bad_pages;
	u8 uuid[16];
	char label[16];
	u32 pad[117];
	char rest[PAGE_SIZE - 1024 - 12 - 32 - 117 * 4 - 10];
	char magic[10];
};
_Static_assert(sizeof(struct swap_header) == PAGE_SIZE, "one page");

static int fill_swap(int fd, u64 bytes)
{
	static char zeros[64 << 10];
	struct swap_header *h = (void *)zeros;
	int ret = 0;

	for (u64 done = 0; done < bytes && !ret; done += sizeof(zeros))
		if (write(fd, zeros, sizeof(zeros)) != sizeof(zeros))
			ret = -ENOSPC;
	h->version = 1;
	h->last_page = (u32)(bytes / PAGE_SIZE - 1);
	memcpy(h->label, "tain", 5);
	memcpy(h->magic, "SWAPSPACE2", sizeof(h->magic));
	if (!ret && (pwrite(fd, h, PAGE_SIZE, 0) != PAGE_SIZE || fsync(fd)))
		ret = -EIO;
	memset(zeros, 0, PAGE_SIZE);
	return ret;
}

int guardian_swap(u64 bytes, struct err *err)
{
	const char *dir = getenv("TMPDIR");
	char path[JOURNAL_PATH_BYTES];
	struct journal_record *r;
	int fd, i, ret;

	bytes = align_up(bytes, (u64)(64 << 10));
	if (snprintf(path, sizeof(path), "%s/tain-swap-%d", dir && *dir == '/' ? dir : "/var/tmp", getpid()) >=
	    (int)sizeof(path))
		return err_set(err, -ENAMETOOLONG, "TMPDIR is too long a name for a swap file");
	i = new_record(JOURNAL_SWAP, path, err);
	if (i < 0)
		return i;
	r = &guardian.journal->record[i];
	arm(r); /* a file is there from now on */
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	ret = fd < 0 ? -errno : fill_swap(fd, bytes);
	if (fd >= 0)
		close(fd);
	if (!ret && swapon(path, 0))
		ret = -errno;
	if (!ret)
		return i;
	if (fd >= 0) /* else it is somebody else's */
		unlink(path);
	WRITE_ONCE(r->armed, 0);
	return err_set(err, ret, "cannot swap on %s: %s", path, strerror(-ret));
}
