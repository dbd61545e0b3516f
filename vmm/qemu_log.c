/* SPDX-License-Identifier: MIT */
/* A domain's log: where libvirt keeps it, and what QEMU itself has said there. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/cgroup.h"
#include "vmm/qemu_internal.h"

#define SYSTEM_LOGS "/var/log/libvirt/qemu"
#define STAMP_BYTES 28 /* 2026-01-31T12:00:00.123456Z and a blank */
#define LAST 3	       /* lines that are told of */

/*
 * The daemon's, which is root's for /system, and whatever root asks for: it has no session.
 * Of a session on the other side of a network nobody here knows whose it is.
 */
void qemu_log_dir(const char *uri, char *dir, size_t bytes)
{
	const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
	const char *place = strstr(uri, "://"), *path = place ? strchr(place + 3, '/') : NULL;
	const char *transport = memchr(uri, '+', place ? (size_t)(place - uri) : 0);
	bool here = place && path == place + 3 && (!transport || !strncmp(transport, "+unix:", 6));
	size_t n = path ? strcspn(path, "?#") : 0;

	dir[0] = '\0';
	if (path && (!strncmp(path, "/system", max(n, sizeof("/system") - 1)) || (here && !geteuid())))
		snprintf(dir, bytes, SYSTEM_LOGS);
	else if (here && cache && *cache)
		snprintf(dir, bytes, "%s/libvirt/qemu/log", cache);
	else if (here && home)
		snprintf(dir, bytes, "%s/.cache/libvirt/qemu/log", home);
}

/* Return: false: nobody here knows where it is. */
static bool log_path(const struct qemu_vm *q, const struct qemu_domain *d, char *path, size_t bytes)
{
	snprintf(path, bytes, "%s/%s.log", q->log_dir, d->name);
	return q->log_dir[0] && d->name[0];
}

static const char *behind_stamp(const char *line)
{
	bool stamped = strlen(line) > STAMP_BYTES && isdigit((unsigned char)line[0]) && line[10] == 'T' &&
		       !strncmp(line + STAMP_BYTES - 2, "Z ", 2);

	return stamped ? line + STAMP_BYTES : line;
}

/*
 * QEMU begins its lines with the name that it was started by, behind the time; some with
 * "qemu", whatever it is called. libvirt's own have another form of time, and the command
 * line has none.
 */
bool qemu_log_line(const char *line, const char *emulator)
{
	static const char *const others[] = { "qemu: ", "KVM internal error", "error: kvm run failed", "ERROR:" };
	size_t n = strlen(emulator);

	line = behind_stamp(line);
	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		if (!strncmp(line, others[i], strlen(others[i])))
			return true;
	return n && !strncmp(line, emulator, n) && !strncmp(line + n, ": ", 2);
}

/* The newest that find room, oldest first. @seen: lines so far; the n-th is in @last[n % LAST]. */
static void join_last(const char (*last)[QEMU_LOG_LINE], u32 seen, char *lines, size_t bytes)
{
	u32 from = seen;
	size_t used = 0;

	while (from && seen - from < LAST && (from == seen || used + strlen(last[(from - 1) % LAST]) + 3 < bytes))
		used += strlen(last[--from % LAST]) + 3;
	used = 0;
	lines[0] = '\0';
	for (; from < seen && used < bytes; from++)
		used += (size_t)snprintf(lines + used, bytes - used, "%s%s", used ? " | " : "", last[from % LAST]);
}

/*
 * libvirt tells nobody what a QEMU died of, and its control group is gone with it: what the kernel counts on the whole
 * machine is what is known. Return: is there something to say?
 */
static bool oom_line(const struct qemu_domain *d, char *line, size_t bytes)
{
	u64 kills = cgroup_oom_kills_anywhere("");

	if (!d->pid || kills <= d->oom_kills)
		return false;
	snprintf(line, bytes, "the OOM killer has ended %llu process%s of this machine since it began",
		 (unsigned long long)(kills - d->oom_kills), kills - d->oom_kills > 1 ? "es" : "");
	return true;
}

bool qemu_domain_log(const struct qemu_vm *q, const struct qemu_domain *d, char *lines, size_t bytes)
{
	char path[QEMU_LOG_BYTES + 64], text[512], last[LAST][QEMU_LOG_LINE];
	bool whole = false;
	u32 seen = 0;
	FILE *f;

	lines[0] = '\0';
	if (!log_path(q, d, path, sizeof(path))) {
		snprintf(lines, bytes, "its log is with the libvirtd of another user or machine");
		return true;
	}
	f = fopen(path, "re");
	if (!f) {
		snprintf(lines, bytes, "its log %s: %s", path, strerror(errno));
		return true;
	}
	while (fgets(text, sizeof(text), f)) {
		text[strcspn(text, "\n")] = '\0';
		if (strstr(text, ": starting up libvirt version: ")) { /* a domain that was restored has begun twice */
			seen = 0;
			whole = false;
		}
		if (qemu_log_line(text, d->emulator))
			snprintf(last[seen++ % LAST], QEMU_LOG_LINE, "%s", behind_stamp(text));
		whole |= strstr(text, ": shutting down, reason=") != NULL; /* libvirt's, after QEMU's end */
	}
	fclose(f);
	if (oom_line(d, last[seen % LAST], QEMU_LOG_LINE))
		seen++;
	join_last(last, seen, lines, bytes);
	return whole;
}

void qemu_log_remove(const struct qemu_vm *q, const struct qemu_domain *d)
{
	char path[QEMU_LOG_BYTES + 64];

	if (log_path(q, d, path, sizeof(path)))
		unlink(path);
}
