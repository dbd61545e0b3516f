/* SPDX-License-Identifier: MIT */
/*
 * What the locks are made of: one exclusive and one shared/exclusive lock over a
 * futex word, without classes. Private to lib/; rooms use lib/lock.h.
 */
#ifndef LIB_LOCK_CORE_H
#define LIB_LOCK_CORE_H

#include "lib/atomic.h"
#include "lib/base.h"

/* Turns of the spin loop before a waiter sleeps. Holders get preempted: none spins for long. */
#define LOCK_SPIN_SHORT 40
#define LOCK_SPIN_LONG 200

/* Sleep while *@word is @value, at most @ns (0: for ever). May return early. Return: 0; -ETIMEDOUT. */
int futex_wait(u32 *word, u32 value, u64 ns);
void futex_wake(u32 *word, u32 nr);

/* 0 free, 1 held, 2 held and somebody may sleep. Not fair: a running thread may overtake a sleeping one. */
struct lock_core {
	u32 word;
};

void lock_core_lock_slow(struct lock_core *lock, unsigned int spins);

static inline bool lock_core_trylock(struct lock_core *lock)
{
	u32 expected = 0;

	return __atomic_compare_exchange_n(&lock->word, &expected, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

static inline void lock_core_lock(struct lock_core *lock, unsigned int spins)
{
	if (unlikely(!lock_core_trylock(lock)))
		lock_core_lock_slow(lock, spins);
}

static inline void lock_core_unlock(struct lock_core *lock)
{
	/* The lock may be freed by its next owner from here on: futex_wake() uses the address alone. */
	if (unlikely(__atomic_exchange_n(&lock->word, 0, __ATOMIC_RELEASE) == 2))
		futex_wake(&lock->word, 1);
}

/*
 * Shared/exclusive, first come first served: who finds waiters queues behind
 * them, and a release hands the lock to the head of the queue (all queued readers,
 * or one writer). Neither side starves; the price is that a reader must not recurse.
 */
#define RW_WRITER BIT(0)
#define RW_WAITERS BIT(1) /* the queue is not empty; changes under wait_lock only */
#define RW_READER BIT(2)  /* one reader; the rest of the word counts them */

struct rw_waiter;

struct rw_core {
	u32 state;
	struct lock_core wait_lock; /* guards the queue */
	struct rw_waiter *first, *last;
};

void rw_core_wait(struct rw_core *rw, bool write, unsigned int spins);
void rw_core_wake(struct rw_core *rw);

static inline bool rw_core_try_read(struct rw_core *rw)
{
	u32 state = READ_ONCE(rw->state);

	while (likely(!(state & (RW_WRITER | RW_WAITERS)))) {
		if (likely(__atomic_compare_exchange_n(&rw->state, &state, state + RW_READER, true, __ATOMIC_ACQUIRE,
						       __ATOMIC_RELAXED)))
			return true;
	}
	return false;
}

static inline bool rw_core_try_write(struct rw_core *rw)
{
	u32 expected = 0;

	return __atomic_compare_exchange_n(&rw->state, &expected, RW_WRITER, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

static inline void rw_core_read_unlock(struct rw_core *rw)
{
	if (unlikely(__atomic_sub_fetch(&rw->state, RW_READER, __ATOMIC_RELEASE) == RW_WAITERS))
		rw_core_wake(rw);
}

static inline void rw_core_write_unlock(struct rw_core *rw)
{
	if (unlikely(__atomic_sub_fetch(&rw->state, RW_WRITER, __ATOMIC_RELEASE) & RW_WAITERS))
		rw_core_wake(rw);
}

static inline void rw_core_downgrade(struct rw_core *rw)
{
	if (unlikely(__atomic_add_fetch(&rw->state, RW_READER - RW_WRITER, __ATOMIC_RELEASE) & RW_WAITERS))
		rw_core_wake(rw);
}

#endif /* LIB_LOCK_CORE_H */
