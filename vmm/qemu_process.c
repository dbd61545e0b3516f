/* SPDX-License-Identifier: MIT */
/*
 * The QEMU behind a domain: the process whose command line has the domain's UUID, which
 * tain made up for it. Held by a pidfd before it is looked at, so that another process
 * that gets the number is never taken for it.
 */
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/qemu_internal.h"

static bool has_uuid(pid_t pid, const char *uuid)
{
	char path[32], word[64];
	bool next = false, found = false;
	size_t n = 0;
	FILE *f;
	int c;

	snprintf(path, sizeof(path), "/proc/%d/cmdline", pid);
	f = fopen(path, "re");
	while (f && !found && (c = fgetc(f)) != EOF) {
		if (n < sizeof(word))
			word[n++] = (char)c;
		if (c)
			continue;
		word[n - 1] = '\0';
		found = next && !strcmp(word, uuid);
		next = !strcmp(word, "-uuid");
		n = 0;
	}
	if (f)
		fclose(f);
	return found;
}

bool qemu_process_ended(const struct qemu_domain *d)
{
	struct pollfd p = { .fd = d->pidfd, .events = POLLIN };

	return poll(&p, 1, 0) > 0;
}

static bool find_pid(struct qemu_domain *d)
{
	DIR *dir = opendir("/proc");
	struct dirent *e;

	while (dir && d->pidfd < 0 && (e = readdir(dir)) != NULL) {
		pid_t pid = (pid_t)atoi(e->d_name);

		if (!isdigit((unsigned char)e->d_name[0]) || !has_uuid(pid, d->uuid))
			continue;
		d->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
		if (d->pidfd < 0)
			continue;
		if (has_uuid(pid, d->uuid) && !qemu_process_ended(d)) {
			d->pid = pid;
			break;
		}
		close(d->pidfd);
		d->pidfd = -1;
	}
	if (dir)
		closedir(dir);
	return d->pidfd >= 0;
}

/* Where the RAM object is mapped: the one shared mapping of that length, from the object's start. */
static bool find_mapping(struct qemu_domain *d, u64 ram_bytes, unsigned int *major, unsigned int *minor,
			 unsigned long *inode)
{
	unsigned long start, end, offset;
	char path[32], line[512], rights[8];
	bool found = false;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/maps", d->pid);
	f = fopen(path, "re");
	while (f && !found && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx %7s %lx %x:%x %lu", &start, &end, rights, &offset, major, minor, inode) != 7)
			continue;
		found = rights[3] == 's' && !offset && end - start == ram_bytes;
		d->hva = start;
	}
	if (f)
		fclose(f);
	return found;
}

/* Open the file that is behind one of its descriptors, or behind the mapping itself. */
static int open_inode(pid_t pid, unsigned long inode, u64 bytes)
{
	char path[64];
	struct dirent *e;
	struct stat st;
	int fd = -1;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	dir = opendir(path);
	while (dir && fd < 0 && (e = readdir(dir)) != NULL) {
		snprintf(path, sizeof(path), "/proc/%d/fd/%.16s", pid, e->d_name);
		if (!isdigit((unsigned char)e->d_name[0]) || stat(path, &st) || st.st_ino != inode ||
		    !S_ISREG(st.st_mode) || (u64)st.st_size < bytes)
			continue;
		fd = open(path, O_RDWR | O_CLOEXEC);
	}
	if (dir)
		closedir(dir);
	return fd;
}

int qemu_process_find(struct qemu_domain *d, u64 ram_bytes, struct err *err)
{
	unsigned int major, minor;
	unsigned long inode;

	if (!find_pid(d))
		return err_set(err, -EOPNOTSUPP,
			       "domain %s: its QEMU is no process of this machine, or not visible here; tain works on "
			       "its memory",
			       d->name);
	if (!find_mapping(d, ram_bytes, &major, &minor, &inode))
		return err_set(err, -EOPNOTSUPP, "domain %s: QEMU (%d) has no shared mapping of %llu bytes%s", d->name,
			       d->pid, (unsigned long long)ram_bytes,
			       geteuid() ? ", or this user may not look: use qemu:///session or root" : "");
	d->ram = open_inode(d->pid, inode, ram_bytes);
	if (d->ram < 0)
		return err_set(err, -EACCES,
			       "domain %s: QEMU (%d) holds its memory, which was truncated or is not for this user",
			       d->name, d->pid);
	return 0;
}
