/* SPDX-License-Identifier: MIT */
/* Telling a stall from a busy machine: see lab/machine/watch.h. */
#include "lab/machine/watch.h"

#include <string.h>

#include "lib/time.h"

void watch_init(struct watch *w, u32 nr, u64 stall_ns, u64 now)
{
	BUG_ON(nr > WATCH_MAX);
	memset(w, 0, sizeof(*w));
	w->nr = nr;
	w->stall_ns = stall_ns;
	w->last_look = now;
}

/* How much of the time counts in which the watcher @ran. */
static u64 time_given(const struct watch *w, const struct watched *look, u64 ran)
{
	u64 given = ran;

	for (u32 i = 0; i < w->nr; i++)
		if (look[i].usage.runnable)
			given = min(given, look[i].usage.cpu_ns - min(look[i].usage.cpu_ns, w->before[i].usage.cpu_ns));
	return given;
}

u32 watch_look(struct watch *w, const struct watched *look, u64 now)
{
	u64 ran = min(now - w->last_look, 2 * WATCH_NS), given = time_given(w, look, ran);
	u32 stalled = WATCH_NOBODY;

	w->ran_ns += ran;
	for (u32 i = 0; i < w->nr; i++) {
		w->still_ns[i] += given;
		if (look[i].beat != w->before[i].beat || look[i].idle)
			w->still_ns[i] = 0;
		if (w->still_ns[i] > w->stall_ns && stalled == WATCH_NOBODY)
			stalled = i;
		w->before[i] = look[i];
	}
	w->last_look = now;
	return stalled;
}
