/* SPDX-License-Identifier: MIT */
/* Completions and wait queues over futexes. */
#include "lib/lock_core.h"
#include "lib/time.h"
#include "lib/wait.h"

#define COMPLETION_WAITERS BIT(31) /* somebody sleeps or slept */
#define COMPLETION_ALL BIT(30)
#define COMPLETION_COUNT (COMPLETION_ALL - 1)

/* Return: false when @deadline has passed. */
static bool sleep_until(u32 *word, u32 value, u64 deadline)
{
	u64 now;

	if (deadline == WAIT_FOREVER) {
		futex_wait(word, value, 0);
		return true;
	}
	now = clock_ns();
	if (now >= deadline)
		return false;
	futex_wait(word, value, deadline - now);
	return true;
}

void complete(struct completion *c)
{
	/* The waiter may free @c as soon as the count is up: after it only the address is used. */
	if (__atomic_fetch_add(&c->word, 1, __ATOMIC_RELEASE) & COMPLETION_WAITERS)
		futex_wake(&c->word, 1);
}

void complete_all(struct completion *c)
{
	if (__atomic_fetch_or(&c->word, COMPLETION_ALL, __ATOMIC_RELEASE) & COMPLETION_WAITERS)
		futex_wake(&c->word, INT32_MAX);
}

static bool completion_take(struct completion *c, u32 *word)
{
	*word = smp_load_acquire(&c->word);
	while (!(*word & COMPLETION_ALL)) {
		if (!(*word & COMPLETION_COUNT))
			return false;
		if (__atomic_compare_exchange_n(&c->word, word, *word - 1, false, __ATOMIC_ACQUIRE, __ATOMIC_ACQUIRE))
			return true;
	}
	return true;
}

bool completion_wait(struct completion *c, u64 ns, const struct lock_site *site)
{
	u64 deadline = wait_queue_deadline(ns);
	u32 word;

	lock_check_might_sleep(site);
	while (!completion_take(c, &word)) {
		if (!(word & COMPLETION_WAITERS) &&
		    !__atomic_compare_exchange_n(&c->word, &word, word | COMPLETION_WAITERS, false, __ATOMIC_RELAXED,
						 __ATOMIC_RELAXED))
			continue;
		if (!sleep_until(&c->word, COMPLETION_WAITERS, deadline))
			return false;
	}
	return true;
}

u64 wait_queue_deadline(u64 ns)
{
	u64 now;

	if (ns == WAIT_FOREVER)
		return WAIT_FOREVER;
	now = clock_ns();
	return ns < WAIT_FOREVER - now ? now + ns : WAIT_FOREVER;
}

bool wait_queue_sleep(struct wait_queue *q, u32 seq, u64 deadline)
{
	return sleep_until(&q->seq, seq, deadline);
}

void wait_queue_wake(struct wait_queue *q)
{
	fetch_add(&q->seq, 1);
	futex_wake(&q->seq, INT32_MAX);
}
