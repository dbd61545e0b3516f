/* SPDX-License-Identifier: MIT */
/* Completions and wait queues. Included by lib/lock.h, which is the name to include. */
#ifndef LIB_WAIT_H
#define LIB_WAIT_H

#include "lib/atomic.h"
#include "lib/base.h"
#include "lib/lock_check.h"

#define WAIT_FOREVER (~0ull) /* nanoseconds */

/* A count of things done. Each wait takes one; after complete_all() every wait returns at once. */
struct completion {
	u32 word; /* count, COMPLETION_WAITERS, COMPLETION_ALL; a futex */
};

/* clang-format off */
#define COMPLETION_INIT { 0 }
/* clang-format on */

static inline void init_completion(struct completion *c)
{
	c->word = 0;
}

/* The completion may be gone when these return: the waiter owns it. Any context. */
void complete(struct completion *c);
void complete_all(struct completion *c);
bool completion_wait(struct completion *c, u64 ns, const struct lock_site *site);

/* Context: sleeps. What the completer wrote before complete() is visible after it. */
#define wait_for_completion(c) ((void)completion_wait(c, WAIT_FOREVER, LOCK_HERE))
/* Return: false after @ns nanoseconds without completion. */
#define wait_for_completion_timeout(c, ns) completion_wait(c, ns, LOCK_HERE)

struct wait_queue {
	u32 seq;     /* futex; changes with each wake-up somebody waits for */
	u32 waiters; /* threads between wait_queue_prepare() and wait_queue_finish() */
};

/* clang-format off */
#define WAIT_QUEUE_INIT { 0 }
/* clang-format on */

static inline void init_waitqueue(struct wait_queue *q)
{
	q->seq = 0;
	q->waiters = 0;
}

/*
 * Announce the wait, then look at the condition once more:
 *
 *   waiter                          waker
 *   waiters++                       condition = true
 *   full barrier (A)                full barrier (B)
 *   condition still false?          waiters == 0? nothing to wake
 *   sleep unless seq changed        seq++, wake
 *
 * A and B pair: one of the two sees the other's store.
 */
static inline u32 wait_queue_prepare(struct wait_queue *q)
{
	u32 seq;

	fetch_add(&q->waiters, 1);
	seq = smp_load_acquire(&q->seq);
	smp_mb(); /* A */
	return seq;
}

static inline void wait_queue_finish(struct wait_queue *q)
{
	__atomic_fetch_sub(&q->waiters, 1, __ATOMIC_RELAXED);
}

/* Return: false when @deadline (on clock_ns(), or WAIT_FOREVER) has passed. */
bool wait_queue_sleep(struct wait_queue *q, u32 seq, u64 deadline);
u64 wait_queue_deadline(u64 ns);
void wait_queue_wake(struct wait_queue *q);

/* After the state change. Any context; cheap when nobody waits. */
static inline void wake_up_all(struct wait_queue *q)
{
	smp_mb(); /* B of wait_queue_prepare() */
	if (READ_ONCE(q->waiters))
		wait_queue_wake(q);
}

/*
 * Sleep until @cond, an expression evaluated again after each wake-up. It orders
 * what follows only if it reads with acquire, or under a lock. Context: sleeps.
 */
#define wait_event(q, cond)                                                                                            \
	do {                                                                                                           \
		struct wait_queue *wait_q = (q);                                                                       \
                                                                                                                       \
		lock_check_might_sleep(LOCK_HERE);                                                                     \
		while (!(cond)) {                                                                                      \
			u32 wait_seq = wait_queue_prepare(wait_q);                                                     \
                                                                                                                       \
			if (!(cond))                                                                                   \
				wait_queue_sleep(wait_q, wait_seq, WAIT_FOREVER);                                      \
			wait_queue_finish(wait_q);                                                                     \
		}                                                                                                      \
	} while (0)

/* The same for at most @ns nanoseconds. Value: the condition at the end. */
#define wait_event_timeout(q, cond, ns)                                                                                \
	({                                                                                                             \
		struct wait_queue *wait_q = (q);                                                                       \
		u64 wait_deadline = wait_queue_deadline(ns);                                                           \
		bool wait_in_time = true, wait_done;                                                                   \
                                                                                                                       \
		lock_check_might_sleep(LOCK_HERE);                                                                     \
		while (!(wait_done = (cond)) && wait_in_time) {                                                        \
			u32 wait_seq = wait_queue_prepare(wait_q);                                                     \
                                                                                                                       \
			if (!(cond))                                                                                   \
				wait_in_time = wait_queue_sleep(wait_q, wait_seq, wait_deadline);                      \
			wait_queue_finish(wait_q);                                                                     \
		}                                                                                                      \
		wait_done;                                                                                             \
	})

#endif /* LIB_WAIT_H */
