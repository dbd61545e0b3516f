/* SPDX-License-Identifier: MIT */
/*
 * One tain on a machine changes its switches at a time.
 *
 * The lock is flock(2) on the directory `instances` of tracefs. A kernel has one tracefs, whoever mounts it and
 * wherever, so no namespace splits the lock; and that directory is root's alone (0750), so nobody else can hold it.
 * What was tried, and is not so: a socket's name and a second mount of sysfs (each network namespace has its own),
 * procfs (each pid namespace), and in sysfs whoever may read may lock.
 *
 * A kernel without tracefs has it for nobody; then the journal's lock (lab/system/journal.h) must do, a file in /run.
 */
#ifndef LAB_SYSTEM_SYSTEM_LOCK_H
#define LAB_SYSTEM_SYSTEM_LOCK_H

#include "lib/err.h"

/* A directory that is root's alone, for what outlives a process. */
#define SYSTEM_RUN_DIR "/run/tain"

/*
 * Open @name in SYSTEM_RUN_DIR for reading and writing, both made where they are not there.
 * Return: a descriptor; -EPERM (not root, or they are not root's alone), -errno.
 */
int system_run_open(const char *name, struct err *err);

/*
 * Take flock(2) of @fd for this open file: forked processes share it, and the last one's end, or LOCK_UN by any,
 * frees it. Whoever put a machine back just now is soon done: it is waited for.
 * Context: sleeps, two seconds at most. Return: 0; -EBUSY; -errno.
 */
int system_flock(int fd, struct err *err);

/*
 * Return: a descriptor that holds it, as system_flock(); -EPERM, -EACCES: not for this user; -EBUSY; -EOPNOTSUPP: the
 * kernel has no tracefs; -errno.
 */
int system_lock(struct err *err);

#endif /* LAB_SYSTEM_SYSTEM_LOCK_H */
