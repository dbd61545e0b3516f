/* SPDX-License-Identifier: MIT */
/*
 * RCU: liburcu (memb flavour). TSan cannot follow liburcu, so its build uses
 * lib/rcu_tsan.c. Readers do not sleep; threads are registered by thread_enter().
 */
#ifndef LIB_RCU_H
#define LIB_RCU_H

#include "lib/atomic.h"
#include "lib/base.h"

struct rcu_head {
	struct rcu_head *next;
	void (*func)(struct rcu_head *head);
};

#if TSAN
void rcu_tsan_read_lock(void);
void rcu_tsan_read_unlock(void);
bool rcu_read_lock_held(void);

static inline void rcu_read_lock(void)
{
	rcu_tsan_read_lock();
}

static inline void rcu_read_unlock(void)
{
	rcu_tsan_read_unlock();
}
#else
#include <urcu/static/urcu-memb.h>
#undef rcu_dereference
#undef rcu_assign_pointer

static inline void rcu_read_lock(void)
{
	_urcu_memb_read_lock();
}

static inline void rcu_read_unlock(void)
{
	_urcu_memb_read_unlock();
}

/* Is this thread in a reader? Exact in every build. */
static inline bool rcu_read_lock_held(void)
{
	return _urcu_memb_read_ongoing();
}
#endif

#define rcu_assign_pointer(p, v) __atomic_store_n(&(p), (v), __ATOMIC_RELEASE)
#define rcu_dereference(p)                                                                                             \
	({                                                                                                             \
		ASSERT(rcu_read_lock_held());                                                                          \
		__atomic_load_n(&(p), __ATOMIC_ACQUIRE);                                                               \
	})

/* Wait for every reader that runs now. Context: sleeps; never in a reader. */
void synchronize_rcu(void);

/* fn(head) after a grace period, on a thread of RCU's own, or where no thread is to be had in rcu_barrier(). It must
 * not wait for callbacks. Any context. */
void call_rcu(struct rcu_head *head, void (*fn)(struct rcu_head *head));

/* Wait for all callbacks queued so far. Context: sleeps; never in a reader or callback. */
void rcu_barrier(void);

/* For thread_enter() and thread_exit(). */
void rcu_register_thread(void);
void rcu_unregister_thread(void);

#endif /* LIB_RCU_H */
