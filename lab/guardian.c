/* SPDX-License-Identifier: MIT */
/* Machine-wide changes and the process that undoes them: see lab/guardian.h. */
#include "lab/guardian.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lab/system_lock.h"
#include "lib/atomic.h"

#define RECORDS 32
#define PATH_BYTES 256
#define VALUE_BYTES 64

enum record_kind { RECORD_WRITE, RECORD_SWAP };

struct record {
	u32 armed; /* stored last, with release; the guardian reads it when tain is dead */
	enum record_kind kind;
	char path[PATH_BYTES];
	char found[VALUE_BYTES];
};

/* Only tain's side, but for shared, which both map. */
static struct {
	struct record *shared;
	pid_t pid; /* 0: there is none */
	int pipe;  /* its end: the guardian may look and go */
	int lock;  /* both hold it: one that is killed does not give it away */
	struct err refused;
} guardian;

/* --- small files: system calls alone, for both sides ---------------------------------- */

static int write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC | O_TRUNC), ret = 0;
	size_t n = strlen(text);

	if (fd < 0)
		return -errno;
	if (write(fd, text, n) != (ssize_t)n)
		ret = errno ? -errno : -EIO;
	close(fd);
	return ret;
}

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

static int undo(struct record *r)
{
	int ret = 0;

	if (r->kind == RECORD_WRITE)
		return write_text(r->path, r->found);
	if (swapoff(r->path) && errno != EINVAL && errno != ENOENT) /* not in use yet, or gone */
		ret = -errno;
	if (!ret && unlink(r->path) && errno != ENOENT)
		ret = -errno;
	return ret;
}

/* Latest first. Return: the first error; what failed stays armed. */
static int undo_all(struct record *records)
{
	int ret = 0, one;

	for (int i = RECORDS - 1; i >= 0; i--) {
		if (!smp_load_acquire(&records[i].armed))
			continue;
		one = undo(&records[i]);
		if (!one)
			smp_store_release(&records[i].armed, 0);
		ret = ret ?: one;
	}
	return ret;
}

/* --- the guardian's side ---------------------------------------------------------------- */

/* Signals for a whole group or session are not for it, and nobody waits for its end of a pipe. */
static void guardian_detach(int pipe, int lock)
{
	static const int ignored[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE, SIGTSTP };
	int null = open("/dev/null", O_RDWR);

	setsid();
	for (size_t i = 0; i < ARRAY_SIZE(ignored); i++)
		signal(ignored[i], SIG_IGN);
	prctl(PR_SET_NAME, "tain-guardian");
	if (null >= 0)
		for (int fd = 0; fd <= STDERR_FILENO; fd++)
			dup2(null, fd);
	for (int fd = STDERR_FILENO + 1; fd < 1024; fd++)
		if (fd != pipe && fd != lock)
			close(fd);
	if (chdir("/"))
		return;
}

static void guardian_main(pid_t parent, int pipe, int lock, struct record *records)
{
	struct pollfd p[2] = { { .fd = pipe, .events = POLLIN }, { .fd = -1, .events = POLLIN } };

	guardian_detach(pipe, lock);
	p[1].fd = (int)syscall(SYS_pidfd_open, parent, 0); /* before Linux 5.3 the pipe's end must do */
	if (getppid() == parent)
		while (poll(p, 2, -1) < 0 && errno == EINTR)
			;
	/* What tain did not finish may hold what is undone (a page in swap) for a moment. */
	for (int i = 0; i < 600 && undo_all(records); i++)
		usleep(100000);
	flock(lock, LOCK_UN); /* a forked child of tain may still share it */
	_exit(0);
}

/* --- tain's side ------------------------------------------------------------------------ */

int guardian_start(struct err *err)
{
	void *shared =
		mmap(NULL, RECORDS * sizeof(struct record), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t parent = getpid(), pid;
	int fds[2], lock;

	if (shared == MAP_FAILED)
		return err_set(err, -errno, "no memory for the guardian: %s", strerror(errno));
	lock = system_lock(err);
	if (lock < 0) {
		munmap(shared, RECORDS * sizeof(struct record));
		return lock;
	}
	pid = pipe2(fds, O_CLOEXEC) ? -1 : fork();
	if (!pid)
		guardian_main(parent, fds[0], lock, shared);
	if (pid < 0) {
		int error = errno;

		close(lock);
		munmap(shared, RECORDS * sizeof(struct record));
		return err_set(err, -error, "cannot start the guardian process: %s", strerror(error));
	}
	close(fds[0]);
	guardian.shared = shared;
	guardian.lock = lock;
	guardian.pid = pid;
	guardian.pipe = fds[1];
	return 0;
}

bool guardian_running(void)
{
	return guardian.pid > 0;
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
	ret = undo_all(guardian.shared);
	if (ret)
		err_set(err, ret, "a machine-wide change could not be put back: %s", strerror(-ret));
	close(guardian.pipe);
	while (waitpid(guardian.pid, NULL, 0) < 0 && errno == EINTR)
		;
	flock(guardian.lock, LOCK_UN);
	close(guardian.lock);
	munmap(guardian.shared, RECORDS * sizeof(struct record));
	guardian.pid = 0;
	return ret;
}

static int new_record(enum record_kind kind, const char *path, struct err *err)
{
	if (!guardian_running())
		return err_set(err, -EPERM, "machine-wide changes were not allowed");
	for (int i = 0; i < RECORDS; i++) {
		struct record *r = &guardian.shared[i];

		if (r->armed)
			continue;
		if (snprintf(r->path, sizeof(r->path), "%s", path) >= (int)sizeof(r->path))
			return err_set(err, -ENAMETOOLONG, "%s: name too long", path);
		r->kind = kind;
		return i;
	}
	return err_set(err, -ENOSPC, "too many machine-wide changes at a time");
}

int guardian_write(const char *path, const char *value, struct err *err)
{
	int i = new_record(RECORD_WRITE, path, err), ret;
	struct record *r;

	if (i < 0)
		return i;
	r = &guardian.shared[i];
	ret = read_text(path, r->found, sizeof(r->found));
	if (ret)
		return err_set(err, ret, "cannot read %s: %s", path, strerror(-ret));
	keep_choice(r->found);
	smp_store_release(&r->armed, 1); /* the kernel orders it before our death */
	ret = write_text(path, value);
	if (!ret)
		return i;
	WRITE_ONCE(r->armed, 0);
	return err_set(err, ret, "cannot write %s to %s: %s", value, path, strerror(-ret));
}

int guardian_undo(int change, struct err *err)
{
	int ret;

	if (change < 0 || !guardian_running() || !guardian.shared[change].armed)
		return 0;
	ret = undo(&guardian.shared[change]);
	if (ret)
		return err_set(err, ret, "cannot put back %s: %s", guardian.shared[change].path, strerror(-ret));
	smp_store_release(&guardian.shared[change].armed, 0);
	return 0;
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
	char path[PATH_BYTES];
	struct record *r;
	int fd, i, ret;

	bytes = align_up(bytes, (u64)(64 << 10));
	if (snprintf(path, sizeof(path), "%s/tain-swap-%d", dir && *dir == '/' ? dir : "/var/tmp", getpid()) >=
	    (int)sizeof(path))
		return err_set(err, -ENAMETOOLONG, "TMPDIR is too long a name for a swap file");
	i = new_record(RECORD_SWAP, path, err);
	if (i < 0)
		return i;
	r = &guardian.shared[i];
	smp_store_release(&r->armed, 1); /* a file is there from now on */
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
