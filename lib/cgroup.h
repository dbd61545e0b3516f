/* SPDX-License-Identifier: MIT */
/*
 * What the control groups of this process leave it of memory, v2 and v1, and whom their OOM
 * killer took. A group that cannot be seen (no mount of it here) limits nothing that is told.
 */
#ifndef LIB_CGROUP_H
#define LIB_CGROUP_H

#include "lib/base.h"

#define CGROUP_PATH 180

struct cgroup_room {
	u64 limit, room;	/* bytes; room: the limit less what is in use and cannot be dropped */
	char file[CGROUP_PATH]; /* that sets the limit; its head is cut off if it is longer */
};

/*
 * Of this process's group and those above it the one that leaves least.
 * @root: put before every path that is looked at; "" but in tests.
 * Return: is there a limit at all? Without one @r->limit and @r->room are ~0.
 */
bool cgroup_room(const char *root, struct cgroup_room *r);

/* Processes of this process's group that were killed for want of memory so far; without a group, of the machine. */
u64 cgroup_oom_kills(const char *root);

/* Of the whole machine, whatever their group: for processes that may be of another. */
u64 cgroup_oom_kills_anywhere(const char *root);

#define CGROUP_KILLED_TEXT (CGROUP_PATH + 64)

/* By whom a child was killed, @kills being the count before: "by the OOM killer: FILE allows 64 MiB: ..."; "by signal
 * 9". */
void cgroup_killed_text(u64 kills, int signal, char *text, size_t n);

#endif /* LIB_CGROUP_H */
