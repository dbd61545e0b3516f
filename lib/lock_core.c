/* SPDX-License-Identifier: MIT */
/* The slow paths of the locks: spin a little, then sleep on the futex word. */
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "lib/lock_core.h"
#include "lib/time.h"

int futex_wait(u32 *word, u32 value, u64 ns)
{
	struct timespec ts = { .tv_sec = (time_t)(ns / NSEC_PER_SEC), .tv_nsec = (long)(ns % NSEC_PER_SEC) };
	int saved = errno, ret = 0;

	if (syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, ns ? &ts : NULL, NULL, 0) && errno == ETIMEDOUT)
		ret = -ETIMEDOUT;
	errno = saved;
	return ret;
}

void futex_wake(u32 *word, u32 nr)
{
	int saved = errno;

	/* The word's owner may have freed it: EFAULT and wake-ups of strangers are harmless, all waits are loops. */
	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, nr, NULL, NULL, 0);
	errno = saved;
}

void lock_core_lock_slow(struct lock_core *lock, unsigned int spins)
{
	while (spins--) {
		u32 word = READ_ONCE(lock->word);

		if (!word && lock_core_trylock(lock))
			return;
		if (word == 2) /* others sleep: the holder takes long */
			break;
		cpu_relax();
	}
	/* Whoever may have slept takes it as 2: there may be more like him. */
	while (__atomic_exchange_n(&lock->word, 2, __ATOMIC_ACQUIRE))
		futex_wait(&lock->word, 2, 0);
}

/*
 * Lives on the waiter's stack. When state becomes RW_GRANTED the lock is the
 * waiter's already, and the waker must not touch the object again.
 */
struct rw_waiter {
	struct rw_waiter *next;
	bool write;
	u32 state; /* a futex */
};

enum { RW_SPINNING, RW_SLEEPING, RW_GRANTED };

static void rw_core_grant(struct rw_waiter *waiter)
{
	u32 *word = &waiter->state;

	if (__atomic_exchange_n(word, RW_GRANTED, __ATOMIC_RELEASE) == RW_SLEEPING)
		futex_wake(word, 1);
}

/* Try once more under wait_lock; if held or contended, make sure the holder sees RW_WAITERS. */
static bool rw_core_take_or_mark(struct rw_core *rw, bool write)
{
	u32 state = READ_ONCE(rw->state);

	for (;;) {
		u32 next;
		bool take = write ? !state : !(state & (RW_WRITER | RW_WAITERS));

		if (!take && state & RW_WAITERS)
			return false;
		if (take)
			next = state + (write ? RW_WRITER : RW_READER);
		else
			next = state | RW_WAITERS;
		/* Marking succeeds only while the lock is held, so somebody is left to call rw_core_wake(). */
		if (__atomic_compare_exchange_n(&rw->state, &state, next, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
			return take;
	}
}

void rw_core_wait(struct rw_core *rw, bool write, unsigned int spins)
{
	struct rw_waiter self = { .write = write, .state = RW_SPINNING };
	u32 spinning = RW_SPINNING;

	lock_core_lock(&rw->wait_lock, LOCK_SPIN_LONG);
	if (rw_core_take_or_mark(rw, write)) {
		lock_core_unlock(&rw->wait_lock);
		return;
	}
	if (rw->first)
		rw->last->next = &self;
	else
		rw->first = &self;
	rw->last = &self;
	lock_core_unlock(&rw->wait_lock);

	while (spins--) {
		if (smp_load_acquire(&self.state) == RW_GRANTED)
			return;
		cpu_relax();
	}
	if (!__atomic_compare_exchange_n(&self.state, &spinning, RW_SLEEPING, false, __ATOMIC_ACQUIRE,
					 __ATOMIC_ACQUIRE))
		return;
	while (smp_load_acquire(&self.state) != RW_GRANTED)
		futex_wait(&self.state, RW_SLEEPING, 0);
}

/* Unlink every reader of the queue. Return: their list; *nr their number. */
static struct rw_waiter *rw_core_take_readers(struct rw_core *rw, u32 *nr)
{
	struct rw_waiter *readers = NULL, **tail = &readers, **link = &rw->first, *waiter, *last = NULL;

	*nr = 0;
	while ((waiter = *link)) {
		if (waiter->write) {
			last = waiter;
			link = &waiter->next;
			continue;
		}
		*link = waiter->next;
		waiter->next = NULL;
		*tail = waiter;
		tail = &waiter->next;
		(*nr)++;
	}
	rw->last = last;
	return readers;
}

/*
 * After a release that left RW_WAITERS behind: give the lock to the head of the
 * queue, if it is free for it. While RW_WAITERS is set only releases change the
 * state, so what is found free stays free.
 */
void rw_core_wake(struct rw_core *rw)
{
	struct rw_waiter *granted = NULL, *next;
	u32 state, nr;

	lock_core_lock(&rw->wait_lock, LOCK_SPIN_LONG);
	state = smp_load_acquire(&rw->state);
	if (rw->first && !(state & RW_WRITER)) {
		if (!rw->first->write) {
			/* All readers at once, those behind a writer too: it is next, and newcomers queue behind it. */
			granted = rw_core_take_readers(rw, &nr);
			__atomic_fetch_add(&rw->state, nr * RW_READER - (rw->first ? 0 : RW_WAITERS), __ATOMIC_ACQ_REL);
		} else if (state == RW_WAITERS) {
			granted = rw->first;
			rw->first = granted->next;
			granted->next = NULL;
			__atomic_store_n(&rw->state, RW_WRITER | (rw->first ? RW_WAITERS : 0), __ATOMIC_RELAXED);
		}
	}
	lock_core_unlock(&rw->wait_lock);
	for (; granted; granted = next) {
		next = granted->next; /* it returns, and its stack goes, with the grant */
		rw_core_grant(granted);
	}
}
