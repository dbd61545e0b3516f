/* SPDX-License-Identifier: MIT */
/*
 * A watchdog that tells a stall from a busy machine. Threads that should make progress
 * are looked at now and then. What counts against one that made none is not the time
 * on the clock but the time in which all of them could have run:
 *
 *   the watcher itself did not run          nothing is known of that time
 *   a thread is ready and has no processor  others may wait for what it holds: what
 *                                           counts is the time it did get
 *   all threads run or sleep                all of it
 */
#ifndef LAB_MACHINE_WATCH_H
#define LAB_MACHINE_WATCH_H

#include "lib/base.h"
#include "lib/thread.h"

#define WATCH_NS (100 * NSEC_PER_MSEC) /* between two looks */
#define WATCH_MAX 32
#define WATCH_NOBODY ((u32)-1)

struct watched {
	u64 beat;  /* grows with progress */
	bool idle; /* there is no progress to expect of it now */
	struct thread_usage usage;
};

struct watch {
	u64 stall_ns;
	u64 last_look;
	u64 ran_ns; /* since watch_init(), as far as the watcher ran */
	u32 nr;
	struct watched before[WATCH_MAX];
	u64 still_ns[WATCH_MAX]; /* without progress, as far as it counts */
};

/* @nr: how many are watched, at most WATCH_MAX. @now: clock_ns(). */
void watch_init(struct watch *w, u32 nr, u64 stall_ns, u64 now);

/* One look at all of them. Return: the first that has made no progress for too long, or WATCH_NOBODY. */
u32 watch_look(struct watch *w, const struct watched *look, u64 now);

#endif /* LAB_MACHINE_WATCH_H */
