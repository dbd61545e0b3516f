/* SPDX-License-Identifier: MIT */
/*
 * Locks, completions, wait queues and the run-time lock checker.
 *
 * Every lock belongs to a class. In checking builds the checker learns, per
 * class, which class was taken while which was held; taking two classes in both
 * orders, recursing in one class (unless taken with a _nested subclass), or
 * leaving a thread's outermost call with a lock held is a bug report, once,
 * with both acquisition sites. In a release build a lock is its futex word and
 * nothing else.
 */
#ifndef LIB_LOCK_H
#define LIB_LOCK_H

#include "lib/atomic.h"
#include "lib/base.h"

struct lock_class {
	const char *name;
	u32 id; /* 0 until first use; assigned by the checker */
};

#define DEFINE_LOCK_CLASS(var, text) struct lock_class var = { .name = (text) }

/* API (all void unless noted); see docs/locking.md for the lock tree:
 * struct mutex:        mutex_init(m, class) mutex_lock mutex_trylock(bool) mutex_unlock            may sleep
 * struct spinlock:     spin_lock_init(l, class) spin_lock spin_trylock(bool) spin_unlock           short sections
 * struct rwlock:       rwlock_init(l, class) read_lock read_unlock write_lock write_unlock         short sections
 * struct rw_semaphore: init_rwsem(s, class) down_read down_read_trylock(bool) up_read
 *                      down_write down_write_trylock(bool) up_write downgrade_write                may sleep, writers not starved
 * struct completion:   init_completion(c) complete(c) complete_all(c) wait_for_completion(c)
 *                      bool wait_for_completion_timeout(c, u64 ns)
 * struct wait_queue:   init_waitqueue(q); wait_event(q, cond); wake_up_all(q)
 * struct lock_map:     lock_map_init(map, class) lock_map_acquire(map) lock_map_release(map)       a pseudo-lock, guards nothing
 * lockdep_assert_held(l), lockdep_assert_held_write(l), lockdep_assert_none_held()
 * non_block_start(), non_block_end(), might_sleep()                                                per-thread may-not-block count
 */
#endif /* LIB_LOCK_H */
