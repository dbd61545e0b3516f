/* SPDX-License-Identifier: MIT */
/* Where the kernel's events are: see lab/system/event_dir.h. */
#include "lab/system/event_dir.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

/* A mount that hangs nowhere: no other process sees it, and it goes with its descriptor. */
static int mount_detached(void)
{
	int fs = fsopen("tracefs", FSOPEN_CLOEXEC), fd = -1, error;

	if (fs < 0)
		return -errno;
	if (!fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0))
		fd = fsmount(fs, FSMOUNT_CLOEXEC, 0);
	error = errno;
	close(fs);
	return fd < 0 ? -error : fd;
}

int event_dir_open(struct event_dir *dir, struct err *why)
{
	static const char *const places[] = { "/sys/kernel/tracing", "/sys/kernel/debug/tracing" };
	char path[64];

	dir->mount = -1;
	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		snprintf(path, sizeof(path), "%s/events", places[i]);
		if (access(path, F_OK) && errno != EACCES)
			continue;
		if (access(path, R_OK))
			return err_set(why, -EACCES, "%s: %s: run as root", places[i], strerror(errno));
		snprintf(dir->path, sizeof(dir->path), "%s", places[i]);
		return 0;
	}
	dir->mount = mount_detached();
	if (dir->mount < 0)
		return err_set(why, dir->mount == -EPERM ? -EPERM : -EOPNOTSUPP,
			       "no tracefs: %s: as root, mount -t tracefs tracefs /sys/kernel/tracing",
			       dir->mount == -ENODEV ? "the kernel has none" : strerror(-dir->mount));
	snprintf(dir->path, sizeof(dir->path), "/proc/self/fd/%d", dir->mount);
	if (!access(dir->path, F_OK))
		return 0;
	event_dir_close(dir);
	return err_set(why, -EOPNOTSUPP, "no tracefs: one of our own needs /proc, which is not mounted");
}

void event_dir_close(struct event_dir *dir)
{
	if (dir->mount >= 0)
		close(dir->mount);
	dir->mount = -1;
}
