/* SPDX-License-Identifier: MIT */
/* For how long did a counter stand still: see lab/machine/stall.h. */
#include "lab/machine/stall.h"

#include <string.h>

#include "lib/atomic.h"
#include "lib/time.h"

static void watch(void *arg)
{
	struct stall *s = arg;
	u64 seen = READ_ONCE(*s->counter), since = clock_ns();

	while (!READ_ONCE(s->stop)) {
		u64 before = clock_ns(), now = READ_ONCE(*s->counter);

		/* as of before the look: it has stood until then for certain */
		if (now != seen) {
			seen = now;
			since = clock_ns();
		} else if (before > since) {
			WRITE_ONCE(s->longest_ns, max(s->longest_ns, before - since));
		}
		thread_sleep_ns(STALL_LOOK_NS);
	}
}

int stall_watch(struct stall *s, const u64 *counter, struct err *err)
{
	int ret;

	*s = (struct stall){ .counter = counter };
	ret = thread_create(&s->thread, "stall", -1, watch, s);
	return ret ? err_set(err, ret, "cannot start a thread: %s", strerror(-ret)) : 0;
}

void stall_end(struct stall *s)
{
	WRITE_ONCE(s->stop, 1);
	thread_join(&s->thread);
}
