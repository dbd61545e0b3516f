/* SPDX-License-Identifier: MIT */
/*
 * What an earlier tain has left, whatever became of it: domains that begin with
 * QEMU_PREFIX and carry the tag of a process that has ended, its files for QEMU, its logs.
 */
#include <dirent.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/qemu_internal.h"

/* A name that a tain made whose process has ended, in this world of processes. */
static bool left_behind(const char *name, const struct qemu_owner *self, bool own_too)
{
	unsigned long long pidns, pid;

	if (sscanf(name, QEMU_PREFIX "%llu-%llu-", &pidns, &pid) != 2 || pidns != self->pidns || !pid || pid > INT_MAX)
		return false;
	return pid == self->pid ? own_too : kill((pid_t)pid, 0) && errno == ESRCH;
}

/* The files for QEMU of a tain that ended between making and removing them. */
static void sweep_files(const struct qemu_owner *self)
{
	char old[QEMU_DIR_BYTES];
	DIR *dir = opendir("/tmp");
	struct dirent *e;
	struct stat st;

	while (dir && (e = readdir(dir)) != NULL) {
		if (strlen(e->d_name) > 48 || !left_behind(e->d_name, self, false))
			continue;
		snprintf(old, sizeof(old), "/tmp/%.48s", e->d_name);
		if (!lstat(old, &st) && S_ISDIR(st.st_mode) && st.st_uid == geteuid() && (st.st_mode & 0777) == 0711)
			qemu_remove_dir(old);
	}
	if (dir)
		closedir(dir);
}

static bool is_log_of(const char *file, const char *domain)
{
	size_t n = domain ? strlen(domain) : 0;

	return n && !strncmp(file, domain, n) && !strcmp(file + n, ".log");
}

/* libvirt ends a domain's log a moment after the domain, and so after the tain that ran it. */
static void sweep_logs(const char *path, const struct qemu_owner *self, virDomainPtr *active, int n)
{
	DIR *dir = path[0] ? opendir(path) : NULL;
	char file[QEMU_LOG_BYTES + 256];
	struct dirent *e;

	while (dir && (e = readdir(dir)) != NULL) {
		bool used = !left_behind(e->d_name, self, true);

		for (int i = 0; i < n && !used; i++)
			used = is_log_of(e->d_name, virt->virDomainGetName(active[i]));
		snprintf(file, sizeof(file), "%s/%s", path, e->d_name);
		if (!used)
			unlink(file);
	}
	if (dir)
		closedir(dir);
}

void qemu_sweep(virConnectPtr connection, const char *log_dir)
{
	virDomainPtr *all = NULL;
	struct qemu_owner self;
	int n;

	qemu_owner_self(&self);
	sweep_files(&self);
	n = virt->virConnectListAllDomains(connection, &all, VIR_CONNECT_LIST_DOMAINS_ACTIVE);
	if (n < 0) /* which logs are in use is not known; who comes next looks again */
		return;
	sweep_logs(log_dir, &self, all, n);
	for (int i = 0; i < n; i++) {
		const char *name = virt->virDomainGetName(all[i]);
		char *tag = NULL;

		if (name && !strncmp(name, QEMU_PREFIX, strlen(QEMU_PREFIX)))
			tag = virt->virDomainGetMetadata(all[i], VIR_DOMAIN_METADATA_ELEMENT, QEMU_OWNER_NS, 0);
		if (tag && qemu_owner_gone(tag))
			virt->virDomainDestroy(all[i]);
		free(tag);
		virt->virDomainFree(all[i]);
	}
	free(all);
}
