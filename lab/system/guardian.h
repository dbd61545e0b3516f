/* SPDX-License-Identifier: MIT */
/*
 * Machine-wide changes that are put back, whatever happens to tain.
 *
 * A guardian process is forked before the first change. A change is written into the
 * journal (lab/system/journal.h), which both map, before it is made, and crossed out after it is
 * undone. When tain is gone, by kill -9 too, the guardian undoes what stands there, latest
 * first. When the guardian is gone, tain is told, and undoes it. When both are, at one
 * blow, the journal stays, and the next guardian_start() undoes it.
 *
 *   tain                                  guardian
 *   record: what was found                waits: pidfd of tain, or its pipe
 *   armed = n (store-release)
 *   the change                            tain dies here or later: sees armed (its death
 *   ...                                   is ordered behind the store), undoes the change,
 *   undo it                               which may not have been made yet: harmless, it
 *   armed = 0                             writes what was found
 *
 * One tain on a machine at a time: both hold lab/system/system_lock.h until all is as it was.
 * All functions: one thread at a time; rooms below cmd/ use them through lab/system/system.h.
 */
#ifndef LAB_SYSTEM_GUARDIAN_H
#define LAB_SYSTEM_GUARDIAN_H

#include "lib/base.h"
#include "lib/err.h"

/*
 * Fork it, early: before other threads. Return: 0; -EBUSY (another tain changes this
 * machine, and still did after two seconds); -EPERM, -EACCES (not for this user); -EIO
 * (what a dead one left cannot be undone); -errno with one line in @err.
 */
int guardian_start(struct err *err);
bool guardian_running(void);

/* Changes that a tain which was killed with its guardian had left, and guardian_start() undid. */
unsigned int guardian_healed(void);

/*
 * @fn is called, in a thread of its own, when the guardian is killed while tain runs: the
 * run is to end, and guardian_stop() undoes everything, and fails. Set before guardian_start().
 */
void guardian_on_loss(void (*fn)(void));
bool guardian_lost(void);

/* It was asked for and there is none: what would need it is skipped, and says @why. */
void guardian_refuse(const struct err *why);
const char *guardian_refused(void); /* NULL: it was not asked for */

/* Undo everything, latest first, and end the guardian. Return: 0, or the first undo that failed, in @err. */
int guardian_stop(struct err *err);

/*
 * Write @value to @path (a switch below /proc or /sys), whose first line is what will
 * be written back; of "always [madvise] never" the word in brackets.
 * Return: a number for guardian_undo(); -errno, nothing changed.
 */
int guardian_write(const char *path, const char *value, struct err *err);

/* Swap on a file of @bytes in TMPDIR or /var/tmp. Return: as guardian_write(). */
int guardian_swap(u64 bytes, struct err *err);

/*
 * @run, KSM's switch, is off and nothing is merged: when everything is undone, what was
 * merged since is not left merged, anybody's. Said before the switch is used; a second
 * time it is nothing. Return: 0; -errno: it will be left.
 */
int guardian_unmerge(const char *run, struct err *err);

/* Return: 0; -errno: the change stands, and is tried again at the end. A negative @change is nothing. */
int guardian_undo(int change, struct err *err);

#endif /* LAB_SYSTEM_GUARDIAN_H */
