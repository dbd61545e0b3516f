/* SPDX-License-Identifier: MIT */
/*
 * A guest's counter, watched by a thread: for how long did it stand still? Only time
 * between two looks that saw the same number counts, so a watcher that had to wait for a
 * processor takes nothing for a stall that was none. The truth is longer by a look at each end.
 */
#ifndef LAB_MACHINE_STALL_H
#define LAB_MACHINE_STALL_H

#include "lib/base.h"
#include "lib/err.h"
#include "lib/thread.h"

#define STALL_LOOK_NS 20000ull

struct stall {
	const u64 *counter; /* only grows; its memory may be mapped anew meanwhile */
	u32 stop;
	struct thread thread;
	u64 longest_ns; /* so far; written by the thread */
};

/* Return: 0; -errno with one line in @err, and nothing is to be ended. */
int stall_watch(struct stall *s, const u64 *counter, struct err *err);
void stall_end(struct stall *s);

#endif /* LAB_MACHINE_STALL_H */
