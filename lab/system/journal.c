/* SPDX-License-Identifier: MIT */
/* What was changed of the machine: see lab/system/journal.h. */
#include "lab/system/journal.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <unistd.h>

#include "lab/system/system_lock.h"
#include "lib/atomic.h"

#define NAME "journal"
#define PATH SYSTEM_RUN_DIR "/" NAME
#define MAGIC "tain.journal/1"

/* --- undoing: system calls alone --------------------------------------------------------- */

int journal_write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC | O_TRUNC), ret = 0;
	size_t n = strlen(text);

	if (fd < 0)
		return -errno;
	errno = 0;
	if (write(fd, text, n) != (ssize_t)n)
		ret = errno ? -errno : -EIO;
	close(fd);
	return ret;
}

/* The file may be in use where this process does not see it: in a container that is gone, or unlinked. */
static bool swaps_on(const char *path)
{
	static char text[16 << 10];
	int fd = open("/proc/swaps", O_RDONLY | O_CLOEXEC);
	ssize_t n = 0, got;

	while (fd >= 0 && n < (ssize_t)sizeof(text) - 1 && (got = read(fd, text + n, sizeof(text) - 1 - n)) > 0)
		n += got;
	if (fd >= 0)
		close(fd);
	text[n] = '\0';
	for (char *at = text; (at = strstr(at, path)); at++)
		if (strchr(" \t\\", at[strlen(path)])) /* "\040(deleted)" */
			return true;
	return false;
}

static int undo_swap(const char *path)
{
	if (swapoff(path) && errno != EINVAL && errno != ENOENT) /* not in use yet, or gone */
		return -errno;
	if (swaps_on(path))
		return -EBUSY;
	return unlink(path) && errno != ENOENT ? -errno : 0;
}

/* The switch goes back in any case. */
static int undo_ksm(const char *run, const char *found)
{
	int unmerged = journal_write_text(run, "2"), ret = journal_write_text(run, found);

	return ret ?: unmerged;
}

int journal_undo(struct journal_record *r)
{
	int ret;

	if (r->kind == JOURNAL_SWAP)
		ret = undo_swap(r->path);
	else if (r->kind == JOURNAL_KSM)
		ret = undo_ksm(r->path, r->found);
	else
		ret = journal_write_text(r->path, r->found);
	if (!ret)
		smp_store_release(&r->armed, 0);
	return ret;
}

/* The armed one that was made last before @before. */
static struct journal_record *latest(struct journal *j, u32 before)
{
	struct journal_record *found = NULL;
	u32 order = 0, armed;

	for (int i = 0; i < JOURNAL_RECORDS; i++) {
		armed = smp_load_acquire(&j->record[i].armed);
		if (armed <= order || armed >= before)
			continue;
		order = armed;
		found = &j->record[i];
	}
	return found;
}

int journal_undo_all(struct journal *j)
{
	u32 before = UINT32_MAX;
	struct journal_record *r;
	int ret = 0, one;

	while ((r = latest(j, before))) {
		before = r->armed;
		one = journal_undo(r);
		ret = ret ?: one;
	}
	return ret;
}

/* --- opening ------------------------------------------------------------------------------- */

static void read_boot(char *boot, size_t bytes)
{
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, boot, bytes - 1);

	if (fd >= 0)
		close(fd);
	boot[max(n, 0)] = '\0';
	boot[strcspn(boot, "\n")] = '\0';
}

static bool understood(const struct journal *j)
{
	return !j->magic[0] || !memcmp(j->magic, MAGIC, sizeof(MAGIC));
}

/* Of another boot only the file is left. */
static void forget(struct journal *j)
{
	for (int i = 0; i < JOURNAL_RECORDS; i++) {
		struct journal_record *r = &j->record[i];

		if (r->armed && r->kind == JOURNAL_SWAP)
			journal_undo(r);
		r->armed = 0;
	}
}

static int heal(struct journal *j, unsigned int *healed, struct err *err)
{
	char boot[sizeof(j->boot)], text[200];
	int ret;

	*healed = 0;
	read_boot(boot, sizeof(boot));
	if (j->magic[0] && strcmp(j->boot, boot))
		forget(j);
	for (int i = 0; i < JOURNAL_RECORDS; i++)
		*healed += j->record[i].armed != 0;
	ret = journal_undo_all(j);
	if (ret) {
		journal_left(text, sizeof(text));
		return err_set(err, -EIO, "what a killed tain left cannot be put back: %s: %s; then remove " PATH,
			       strerror(-ret), text);
	}
	memcpy(j->boot, boot, sizeof(boot));
	memcpy(j->magic, MAGIC, sizeof(MAGIC));
	return 0;
}

static int map(struct journal **j, int fd, struct err *err)
{
	struct stat s;
	int ret = fstat(fd, &s) ? errno : 0;

	if (!ret && s.st_size && s.st_size != sizeof(**j))
		return err_set(err, -EIO, PATH " is not of this version of tain: see what it names, then remove it");
	ret = ret ?: posix_fallocate(fd, 0, sizeof(**j)); /* a hole would be SIGBUS where there is no space */
	if (ret)
		return err_set(err, -ret, PATH ": %s", strerror(ret));
	*j = mmap(NULL, sizeof(**j), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (*j == MAP_FAILED)
		return err_set(err, -errno, PATH ": %s", strerror(errno));
	if (understood(*j))
		return 0;
	munmap(*j, sizeof(**j));
	return err_set(err, -EIO, PATH " is not of this version of tain: see what it names, then remove it");
}

int journal_open(struct journal **j, int *fd, unsigned int *healed, struct err *err)
{
	int ret;

	*fd = system_run_open(NAME, err);
	if (*fd < 0)
		return *fd;
	ret = system_flock(*fd, err) ?: map(j, *fd, err);
	if (!ret) {
		ret = heal(*j, healed, err);
		if (ret)
			munmap(*j, sizeof(**j));
	}
	if (ret)
		close(*fd);
	return ret;
}

void journal_close(struct journal *j, int fd)
{
	munmap(j, sizeof(*j));
	flock(fd, LOCK_UN); /* a forked child may still share it */
	close(fd);
}

/* --- looking -------------------------------------------------------------------------------- */

static int describe(const struct journal *j, char *text, size_t bytes)
{
	char boot[sizeof(j->boot)];
	size_t used = 0;
	int nr = 0;

	read_boot(boot, sizeof(boot));
	if (!understood(j))
		return -EIO;
	for (int i = 0; i < JOURNAL_RECORDS && !strcmp(boot, j->boot); i++) {
		const struct journal_record *r = &j->record[i];
		bool swap = r->kind == JOURNAL_SWAP;

		if (!r->armed)
			continue;
		if (used < bytes)
			used += (size_t)snprintf(text + used, bytes - used, "%s%s%s%s%s", nr ? ", " : "",
						 swap ? "swap on " : "", r->path, swap ? "" : " was ",
						 swap ? "" : r->found);
		nr++;
	}
	return nr;
}

int journal_left(char *text, size_t bytes)
{
	static struct journal copy;
	int fd = open(PATH, O_RDONLY | O_NOFOLLOW | O_CLOEXEC), ret;
	ssize_t n;

	*text = '\0';
	if (fd < 0)
		return errno == ENOENT ? 0 : -EACCES;
	ret = flock(fd, LOCK_SH | LOCK_NB) ? -EBUSY : 0;
	n = read(fd, &copy, sizeof(copy));
	close(fd);
	if (n != sizeof(copy))
		return ret ?: n ? -EIO : 0;
	n = describe(&copy, text, bytes);
	return ret ?: (int)n;
}
