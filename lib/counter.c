/* SPDX-License-Identifier: MIT */
/* Per-thread counters: set-up and the sum. */
#include "lib/alloc.h"
#include "lib/counter.h"

int counters_init(struct counters *c)
{
	c->lines = mem_alloc_aligned(CACHELINE, (THREAD_MAX + 1) * sizeof(*c->lines));
	return c->lines ? 0 : -ENOMEM;
}

void counters_destroy(struct counters *c)
{
	mem_free(c->lines);
	c->lines = NULL;
}

u64 counter_sum(const struct counters *c, unsigned int idx)
{
	u32 high = READ_ONCE(thread_high);
	u64 sum = 0;

	for (u32 i = 1; i <= high; i++)
		sum += READ_ONCE(c->lines[i].value[idx]);
	return sum;
}
