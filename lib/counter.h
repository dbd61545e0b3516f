/* SPDX-License-Identifier: MIT */
/* Statistics: each thread counts in cache lines of its own, a reader sums them. */
#ifndef LIB_COUNTER_H
#define LIB_COUNTER_H

#include "lib/atomic.h"
#include "lib/base.h"
#include "lib/thread.h"

#define COUNTERS_MAX 32 /* in one set */

struct counter_line {
	u64 value[COUNTERS_MAX]; /* written by its thread alone */
} cacheline_aligned;

struct counters {
	struct counter_line *lines; /* by thread_self; the first is nobody's */
};

/* Return: 0; -ENOMEM. */
int counters_init(struct counters *c);
void counters_destroy(struct counters *c); /* fine after a failed or no counters_init() of a zeroed set */

static inline void counter_add(struct counters *c, unsigned int idx, u64 n)
{
	u32 self = thread_self;
	u64 *value = &c->lines[likely(self) ? self : thread_id_slow() + 1].value[idx];

	WRITE_ONCE(*value, *value + n);
}

/* The sum at some moment during the call. */
u64 counter_sum(const struct counters *c, unsigned int idx);

#endif /* LIB_COUNTER_H */
