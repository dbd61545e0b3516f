/* SPDX-License-Identifier: MIT */
/* Where the kernel's events are: tracefs, mounted by the machine, or for this process alone. */
#ifndef LAB_SYSTEM_EVENT_DIR_H
#define LAB_SYSTEM_EVENT_DIR_H

#include "lib/base.h"
#include "lib/err.h"

struct event_dir {
	int mount;     /* of our own; -1: the machine's */
	char path[40]; /* of a tracefs; through a descriptor of ours, so for this process, until the end */
};

/*
 * Find tracefs; where it is not mounted, mount it on nothing: no other process sees that.
 * Return: 0; -EACCES: mounted, and not for this user; -EPERM: not mounted, and not ours
 * to mount; -EOPNOTSUPP: the kernel has none; with one line in @why and nothing to close.
 */
int event_dir_open(struct event_dir *dir, struct err *why);
/* Harmless after a failed open, and twice. */
void event_dir_close(struct event_dir *dir);

#endif /* LAB_SYSTEM_EVENT_DIR_H */
