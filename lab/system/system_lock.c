/* SPDX-License-Identifier: MIT */
/* Who may change the machine: see lab/system/system_lock.h. */
#include "lab/system/system_lock.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lab/system/event_dir.h"

#define TRIES 41
#define PAUSE_US 50000

/* Nobody but root put it there, can write it, or hold its lock. */
static bool is_roots(int fd, mode_t type)
{
	struct stat s;

	return !fstat(fd, &s) && (s.st_mode & S_IFMT) == type && s.st_uid == 0 && !(s.st_mode & 077);
}

int system_run_open(const char *name, struct err *err)
{
	int dir, fd, ret;

	if (geteuid())
		return err_set(err, -EPERM, "machine-wide changes need root");
	if ((mkdir("/run", 0755) && errno != EEXIST) || (mkdir(SYSTEM_RUN_DIR, 0700) && errno != EEXIST))
		return err_set(err, -errno, SYSTEM_RUN_DIR ": %s", strerror(errno));
	dir = open(SYSTEM_RUN_DIR, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir < 0)
		return err_set(err, -errno, SYSTEM_RUN_DIR ": %s", strerror(errno));
	if (!is_roots(dir, S_IFDIR)) {
		close(dir);
		return err_set(err, -EPERM, SYSTEM_RUN_DIR " is not root's alone: remove it");
	}
	fd = openat(dir, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
	ret = fd < 0 ? -errno : 0;
	close(dir);
	if (ret)
		return err_set(err, ret, SYSTEM_RUN_DIR "/%s: %s", name, strerror(-ret));
	if (is_roots(fd, S_IFREG))
		return fd;
	close(fd);
	return err_set(err, -EPERM, SYSTEM_RUN_DIR "/%s is not root's alone: remove it", name);
}

int system_flock(int fd, struct err *err)
{
	for (int i = 0; i < TRIES; i++) {
		if (i)
			usleep(PAUSE_US);
		if (!flock(fd, LOCK_EX | LOCK_NB))
			return 0;
		if (errno != EWOULDBLOCK && errno != EINTR)
			return err_set(err, -errno, "flock: %s", strerror(errno));
	}
	return err_set(err, -EBUSY, "another tain changes this machine, or is putting it back");
}

/* Return: a descriptor; -EOPNOTSUPP: this kernel has no tracefs. */
static int open_instances(struct err *err)
{
	struct event_dir dir;
	char path[64];
	int ret = event_dir_open(&dir, err), fd;

	if (ret)
		return ret;
	snprintf(path, sizeof(path), "%s/instances", dir.path);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ret = fd < 0 ? err_set(err, errno == ENOENT ? -EOPNOTSUPP : -errno, "%s: %s", path, strerror(errno)) : fd;
	event_dir_close(&dir);
	return ret;
}

int system_lock(struct err *err)
{
	int fd, ret;

	if (geteuid())
		return err_set(err, -EPERM, "machine-wide changes need root");
	fd = open_instances(err);
	if (fd < 0)
		return fd;
	ret = system_flock(fd, err);
	if (!ret)
		return fd;
	close(fd);
	return ret;
}
