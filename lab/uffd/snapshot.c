/* SPDX-License-Identifier: MIT */
/* uffd_check's snapshot: see lab/uffd/snapshot.h. */
#include "lab/uffd/snapshot.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/atomic.h"

#define WORDS (PAGE_SIZE / sizeof(u64))

static void fill_page(u64 *words, u64 page)
{
	for (u64 k = 0; k < WORDS; k++)
		words[k] = uffd_snapshot_word(page, k);
}

static bool stopped(const u32 *stop)
{
	return stop && READ_ONCE(*stop);
}

/* Return: 1: it holds the pattern; 0: something else; -errno. */
static int compare(int fd, u64 bytes, const u32 *stop)
{
	u64 want[WORDS], have[WORDS];

	for (u64 page = 0; page < bytes / PAGE_SIZE; page++) {
		ssize_t n = pread(fd, have, sizeof(have), (off_t)(page * PAGE_SIZE));

		if (n < 0)
			return -errno;
		fill_page(want, page);
		if (n != (ssize_t)sizeof(have) || memcmp(want, have, sizeof(have)))
			return 0;
		if (stopped(stop))
			return -EINTR;
	}
	return 1;
}

/* What stands at @path? Return: 1: the pattern; 0: another file; -ENOENT: nothing; -errno. */
static int look(const char *path, u64 bytes, const u32 *stop, struct err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), ret = 0;
	struct stat st;

	if (fd < 0 && errno == ENOENT)
		return -ENOENT;
	if (fd < 0 || fstat(fd, &st))
		ret = err_set(err, -errno, "cannot read %s: %s", path, strerror(errno));
	else if (!S_ISREG(st.st_mode))
		ret = err_set(err, -EINVAL, "%s is no regular file, which a snapshot has to be", path);
	else if ((u64)st.st_size == bytes)
		ret = compare(fd, bytes, stop);
	if (ret < 0 && !err->text[0])
		err_set(err, ret, "cannot read %s: %s", path, strerror(-ret));
	if (fd >= 0)
		close(fd);
	return ret;
}

/* A new file @name. Return: 0; -errno: there is none. */
static int write_pattern(const char *name, u64 bytes, const u32 *stop)
{
	int fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644), ret = 0;
	u64 words[WORDS];

	if (fd < 0)
		return -errno;
	for (u64 page = 0; page < bytes / PAGE_SIZE && !ret; page++) {
		ssize_t n;

		fill_page(words, page);
		n = write(fd, words, sizeof(words));
		if (n < 0)
			ret = -errno;
		else if (n != (ssize_t)sizeof(words))
			ret = -ENOSPC;
		else if (stopped(stop))
			ret = -EINTR;
	}
	if (close(fd) && !ret)
		ret = -errno;
	if (ret)
		unlink(name);
	return ret;
}

/* @file, which lies beside it, becomes @s->path. Return: 0; -errno: @s->path is as it was. */
static int into_place(struct uffd_snapshot *s, const char *file, bool replace)
{
	int ret;

	if (!replace) { /* somebody may have come since we looked */
		if (!renameat2(AT_FDCWD, file, AT_FDCWD, s->path, RENAME_NOREPLACE))
			return 0;
		if (errno != EINVAL || link(file, s->path)) /* EINVAL: the file system does not know how */
			return -errno;
		unlink(file);
		return 0;
	}
	if (rename(s->path, s->old))
		return -errno;
	if (!rename(file, s->path))
		return 0;
	ret = -errno;
	rename(s->old, s->path);
	return ret;
}

static int put(struct uffd_snapshot *s, u64 bytes, bool replace, const u32 *stop)
{
	char file[PATH_MAX];
	int ret;

	if (snprintf(file, sizeof(file), "%s.%d.new", s->path, getpid()) >= (int)sizeof(file) ||
	    snprintf(s->old, sizeof(s->old), "%s.%d.old", s->path, getpid()) >= (int)sizeof(s->old))
		return -ENAMETOOLONG;
	ret = write_pattern(file, bytes, stop);
	if (ret)
		return ret;
	ret = into_place(s, file, replace);
	if (ret)
		unlink(file);
	if (!replace)
		s->old[0] = 0;
	return ret;
}

int uffd_snapshot_put(struct uffd_snapshot *s, const char *path, u64 bytes, bool force, const u32 *stop,
		      struct err *err)
{
	int ret;

	s->path[0] = s->old[0] = err->text[0] = 0;
	ret = look(path, bytes, stop, err);
	if (ret == 1 || (ret < 0 && ret != -ENOENT))
		return min(ret, 0);
	if (!ret && !force)
		return err_set(
			err, -EEXIST,
			"%s is there, and is not the snapshot of %llu bytes: another name, or --force to replace it",
			path, (unsigned long long)bytes);
	/* Through a symbolic link, not over it. */
	if (ret ? snprintf(s->path, sizeof(s->path), "%s", path) >= (int)sizeof(s->path) : !realpath(path, s->path)) {
		s->path[0] = 0;
		return err_set(err, -ENAMETOOLONG, "cannot create %s: %s", path, strerror(ENAMETOOLONG));
	}
	ret = put(s, bytes, !ret, stop);
	if (!ret)
		return 0;
	s->path[0] = s->old[0] = 0;
	return err_set(err, ret, "cannot create %s: %s", path, strerror(-ret));
}

void uffd_snapshot_keep(struct uffd_snapshot *s)
{
	if (s->path[0] && s->old[0])
		unlink(s->old);
	s->path[0] = s->old[0] = 0;
}

int uffd_snapshot_undo(struct uffd_snapshot *s, struct err *err)
{
	int ret = 0;

	if (s->path[0] && (s->old[0] ? rename(s->old, s->path) : unlink(s->path)))
		ret = err_set(err, -errno, "cannot put %s back: %s%s%s", s->path, strerror(errno),
			      s->old[0] ? "; it is now " : "", s->old);
	s->path[0] = s->old[0] = 0;
	return ret;
}
