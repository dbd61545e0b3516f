/* SPDX-License-Identifier: MIT */
/*
 * The QEMU behind a domain: the process whose command line has the domain's UUID, which
 * tain made up for it. Held by a pidfd before it is looked at, so that another process
 * that gets the number is never taken for it.
 */
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/cgroup.h"
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

/* Of its command line's first word; the kernel's limit on a process's name would cut it. */
static void read_emulator(struct qemu_domain *d)
{
	char path[32], word[PATH_MAX] = "";
	const char *name;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/cmdline", d->pid);
	f = fopen(path, "re");
	if (f && !fread(word, 1, sizeof(word) - 1, f))
		word[0] = '\0';
	if (f)
		fclose(f);
	name = strrchr(word, '/');
	snprintf(d->emulator, sizeof(d->emulator), "%.31s", name ? name + 1 : word);
}

bool qemu_process_seek(struct qemu_domain *d)
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
			d->oom_kills = cgroup_oom_kills_anywhere("");
			read_emulator(d);
			break;
		}
		close(d->pidfd);
		d->pidfd = -1;
	}
	if (dir)
		closedir(dir);
	return d->pidfd >= 0;
}

/* --- its memory ------------------------------------------------------------------------------ */

/* A line of /proc/PID/maps. */
struct mapping {
	unsigned long start, end, offset, inode;
	unsigned int major, minor;
	char rights[8];
};

/* Where the RAM object is mapped: the one shared mapping of that length, from the object's start. */
static bool is_ram(const struct mapping *m, u64 bytes)
{
	return m->rights[3] == 's' && !m->offset && m->end - m->start == bytes;
}

static bool holds(const struct mapping *m, u64 at)
{
	return m->start <= at && at < m->end;
}

static bool find_mapping(const char *maps, bool (*fits)(const struct mapping *m, u64 what), u64 what, struct mapping *m)
{
	bool found = false;
	char line[512];
	FILE *f;

	f = fopen(maps, "re");
	while (f && !found && fgets(line, sizeof(line), f))
		found = sscanf(line, "%lx-%lx %7s %lx %x:%x %lu", &m->start, &m->end, m->rights, &m->offset, &m->major,
			       &m->minor, &m->inode) == 7 &&
			fits(m, what);
	if (f)
		fclose(f);
	return found;
}

/*
 * Is it the file of @m? Its mapping says so in the kernel's words for a mapping, which are
 * not stat()'s: a file system may show other numbers of a device than it has.
 */
static bool is_file_of(int fd, const struct mapping *m)
{
	struct mapping own;
	void *at = mmap(NULL, PAGE_SIZE, PROT_READ, MAP_SHARED, fd, 0);
	bool same;

	if (at == MAP_FAILED)
		return false;
	same = find_mapping("/proc/self/maps", holds, (uintptr_t)at, &own) && own.major == m->major &&
	       own.minor == m->minor && own.inode == m->inode;
	munmap(at, PAGE_SIZE);
	return same;
}

/* Open the file that is behind one of its descriptors, and behind the mapping. */
static int open_file_of(pid_t pid, const struct mapping *m)
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
		if (!isdigit((unsigned char)e->d_name[0]) || stat(path, &st) || !S_ISREG(st.st_mode) ||
		    (u64)st.st_size < m->end - m->start)
			continue;
		fd = open(path, O_RDWR | O_CLOEXEC);
		if (fd >= 0 && !is_file_of(fd, m)) {
			close(fd);
			fd = -1;
		}
	}
	if (dir)
		closedir(dir);
	return fd;
}

int qemu_process_find(struct qemu_domain *d, u64 ram_bytes, struct err *err)
{
	struct mapping m;
	char maps[32];

	if (!qemu_process_seek(d))
		return err_set(err, -EOPNOTSUPP,
			       "domain %s: its QEMU is no process of this machine, or not visible here; tain works on "
			       "its memory",
			       d->name);
	snprintf(maps, sizeof(maps), "/proc/%d/maps", d->pid);
	if (!find_mapping(maps, is_ram, ram_bytes, &m))
		return err_set(err, -EOPNOTSUPP, "domain %s: QEMU (%d) has no shared mapping of %llu bytes%s", d->name,
			       d->pid, (unsigned long long)ram_bytes,
			       geteuid() ? ", or this user may not look: use qemu:///session or root" : "");
	d->hva = m.start;
	d->ram = open_file_of(d->pid, &m);
	if (d->ram < 0)
		return err_set(err, -EACCES,
			       "domain %s: QEMU (%d) holds its memory, which was truncated or is not for this user",
			       d->name, d->pid);
	if (qemu_process_ended(d)) /* then the number may have been another process's by now */
		return err_set(err, -EIO, "domain %s: QEMU (%d) ended while it was looked at", d->name, d->pid);
	return 0;
}

int qemu_process_find_below(struct qemu_domain *d, struct err *err)
{
	json_t *said = qemu_monitor(d,
				    "{\"execute\":\"human-monitor-command\",\"arguments\":"
				    "{\"command-line\":\"gpa2hva 0\"}}",
				    err);
	const char *text = json_string_value(said), *at = text ? strstr(text, " is 0x") : NULL;

	d->below = at ? strtoull(at + strlen(" is "), NULL, 16) : 0;
	if (said && !d->below)
		err_set(err, -EIO, "domain %s: QEMU does not say where its memory is: %.100s", d->name, text ?: "");
	json_decref(said);
	return d->below ? 0 : -EIO;
}
