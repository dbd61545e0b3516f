/* SPDX-License-Identifier: MIT */
/*
 * Locks, completions, wait queues and the run-time lock checker.
 *
 * Every lock belongs to a class. In checking builds the checker learns, per
 * class, which class was taken while which was held; taking two classes in both
 * orders, recursing in one class (unless taken with a _nested subclass), sleeping
 * under a spinning lock, or leaving a thread's outermost call with a lock held is a
 * bug report, once, with both acquisition sites. In a release build a lock is its
 * futex word and nothing else.
 *
 * All void unless noted; docs/locking.md has the lock tree.
 *
 *   struct mutex         mutex_init(m, class) mutex_lock mutex_trylock(bool) mutex_unlock
 *                        May sleep.
 *   struct spinlock      spin_lock_init(l, class) spin_lock spin_trylock(bool) spin_unlock
 *                        Short sections that never sleep.
 *   struct rwlock        rwlock_init(l, class) read_lock read_unlock write_lock write_unlock
 *                        The same with readers.
 *   struct rw_semaphore  init_rwsem(s, class) down_read down_read_trylock(bool) up_read
 *                        down_write down_write_trylock(bool) up_write downgrade_write
 *                        May sleep; first come first served.
 *   struct lock_map      lock_map_init(map, class) lock_map_acquire lock_map_release
 *                        A pseudo-lock, guards nothing; _read: shared.
 *   struct completion    init_completion(c) complete complete_all wait_for_completion
 *                        bool wait_for_completion_timeout(c, ns)
 *   struct wait_queue    init_waitqueue(q) wait_event(q, cond) wake_up_all(q)
 *                        bool wait_event_timeout(q, cond, ns)
 *
 *   X_nested(l, subclass)  of mutex and spinlock: one more of the same class, subclasses 1..7 in a fixed order
 *   X_nest_lock(l, nest)   of rw_semaphore, for writing: any number of one class in any order, because all who do so
 *                          hold @nest for write
 *   lockdep_assert_held(l) lockdep_assert_held_write(l) lockdep_assert_none_held()
 *   non_block_start() non_block_end() might_sleep()
 *                          per-thread may-not-block count
 */
#ifndef LIB_LOCK_H
#define LIB_LOCK_H

#include "lib/atomic.h"
#include "lib/base.h"
#include "lib/lock_check.h"
#include "lib/lock_core.h"

#if CHECKING
#define lockdep_assert_held(l) lock_check_assert_held(&(l)->dep, false, #l, LOCK_HERE)
#define lockdep_assert_held_write(l) lock_check_assert_held(&(l)->dep, true, #l, LOCK_HERE)
#define lockdep_assert_none_held() lock_check_assert_none_held(LOCK_HERE)
#define non_block_start() lock_check_non_block(1, LOCK_HERE)
#define non_block_end() lock_check_non_block(-1, LOCK_HERE)
#else
#define lockdep_assert_held(l) ((void)sizeof(&(l)->dep))
#define lockdep_assert_held_write(l) ((void)sizeof(&(l)->dep))
#define lockdep_assert_none_held() ((void)0)
#define non_block_start() ((void)0)
#define non_block_end() ((void)0)
#endif
/* First act of all that may block: no spinning lock, RCU reader or non-blocking callback above us. */
#define might_sleep() lock_check_might_sleep(LOCK_HERE)

/* --- mutex ------------------------------------------------------------------ */

struct mutex {
	struct lock_core core;
	struct lock_dep dep;
};

/* clang-format off */
#define MUTEX_INIT(class) { .dep = LOCK_DEP_INIT(class, LOCK_SLEEPING) }
/* clang-format on */

static inline void mutex_init(struct mutex *m, struct lock_class *class)
{
	m->core.word = 0;
	lock_dep_init(&m->dep, class, LOCK_SLEEPING);
}

static inline void mutex_lock_site(struct mutex *m, unsigned int subclass, const struct lock_site *site)
{
	lock_check_might_sleep(site);
	lock_check_acquire(&m->dep, subclass, LOCK_WRITE, site);
	lock_core_lock(&m->core, LOCK_SPIN_SHORT);
}

static inline bool mutex_trylock_site(struct mutex *m, const struct lock_site *site)
{
	if (!lock_core_trylock(&m->core))
		return false;
	lock_check_acquired(&m->dep, LOCK_WRITE, site);
	return true;
}

static inline void mutex_unlock_site(struct mutex *m, const struct lock_site *site)
{
	lock_check_release(&m->dep, LOCK_WRITE, site);
	lock_core_unlock(&m->core);
}

#define mutex_lock(m) mutex_lock_site(m, 0, LOCK_HERE)
#define mutex_lock_nested(m, subclass) mutex_lock_site(m, subclass, LOCK_HERE)
#define mutex_trylock(m) mutex_trylock_site(m, LOCK_HERE)
#define mutex_unlock(m) mutex_unlock_site(m, LOCK_HERE)

/* --- spinlock: short sections, nothing inside may sleep ----------------------- */

struct spinlock {
	struct lock_core core;
	struct lock_dep dep;
};

/* clang-format off */
#define SPINLOCK_INIT(class) { .dep = LOCK_DEP_INIT(class, LOCK_SPINNING) }
/* clang-format on */

static inline void spin_lock_init(struct spinlock *l, struct lock_class *class)
{
	l->core.word = 0;
	lock_dep_init(&l->dep, class, LOCK_SPINNING);
}

static inline void spin_lock_site(struct spinlock *l, unsigned int subclass, const struct lock_site *site)
{
	lock_check_acquire(&l->dep, subclass, LOCK_WRITE, site);
	lock_core_lock(&l->core, LOCK_SPIN_LONG);
}

static inline bool spin_trylock_site(struct spinlock *l, const struct lock_site *site)
{
	if (!lock_core_trylock(&l->core))
		return false;
	lock_check_acquired(&l->dep, LOCK_WRITE, site);
	return true;
}

static inline void spin_unlock_site(struct spinlock *l, const struct lock_site *site)
{
	lock_check_release(&l->dep, LOCK_WRITE, site);
	lock_core_unlock(&l->core);
}

#define spin_lock(l) spin_lock_site(l, 0, LOCK_HERE)
#define spin_lock_nested(l, subclass) spin_lock_site(l, subclass, LOCK_HERE)
#define spin_trylock(l) spin_trylock_site(l, LOCK_HERE)
#define spin_unlock(l) spin_unlock_site(l, LOCK_HERE)

/* --- rwlock: a spinlock with readers; readers must not recurse ---------------- */

struct rwlock {
	struct rw_core core;
	struct lock_dep dep;
};

/* clang-format off */
#define RWLOCK_INIT(class) { .dep = LOCK_DEP_INIT(class, LOCK_SPINNING) }
/* clang-format on */

static inline void rwlock_init(struct rwlock *l, struct lock_class *class)
{
	l->core = (struct rw_core){ 0 };
	lock_dep_init(&l->dep, class, LOCK_SPINNING);
}

static inline void read_lock_site(struct rwlock *l, const struct lock_site *site)
{
	lock_check_acquire(&l->dep, 0, LOCK_READ, site);
	if (unlikely(!rw_core_try_read(&l->core)))
		rw_core_wait(&l->core, false, LOCK_SPIN_LONG);
}

static inline void read_unlock_site(struct rwlock *l, const struct lock_site *site)
{
	lock_check_release(&l->dep, LOCK_READ, site);
	rw_core_read_unlock(&l->core);
}

static inline void write_lock_site(struct rwlock *l, const struct lock_site *site)
{
	lock_check_acquire(&l->dep, 0, LOCK_WRITE, site);
	if (unlikely(!rw_core_try_write(&l->core)))
		rw_core_wait(&l->core, true, LOCK_SPIN_LONG);
}

static inline void write_unlock_site(struct rwlock *l, const struct lock_site *site)
{
	lock_check_release(&l->dep, LOCK_WRITE, site);
	rw_core_write_unlock(&l->core);
}

#define read_lock(l) read_lock_site(l, LOCK_HERE)
#define read_unlock(l) read_unlock_site(l, LOCK_HERE)
#define write_lock(l) write_lock_site(l, LOCK_HERE)
#define write_unlock(l) write_unlock_site(l, LOCK_HERE)

/* --- rw_semaphore: readers must not recurse ----------------------------------- */

struct rw_semaphore {
	struct rw_core core;
	struct lock_dep dep;
};

/* clang-format off */
#define RWSEM_INIT(class) { .dep = LOCK_DEP_INIT(class, LOCK_SLEEPING) }
/* clang-format on */

static inline void init_rwsem(struct rw_semaphore *s, struct lock_class *class)
{
	s->core = (struct rw_core){ 0 };
	lock_dep_init(&s->dep, class, LOCK_SLEEPING);
}

static inline void down_read_site(struct rw_semaphore *s, const struct lock_site *site)
{
	lock_check_might_sleep(site);
	lock_check_acquire(&s->dep, 0, LOCK_READ, site);
	if (unlikely(!rw_core_try_read(&s->core)))
		rw_core_wait(&s->core, false, LOCK_SPIN_SHORT);
}

static inline bool down_read_trylock_site(struct rw_semaphore *s, const struct lock_site *site)
{
	if (!rw_core_try_read(&s->core))
		return false;
	lock_check_acquired(&s->dep, LOCK_READ, site);
	return true;
}

static inline void up_read_site(struct rw_semaphore *s, const struct lock_site *site)
{
	lock_check_release(&s->dep, LOCK_READ, site);
	rw_core_read_unlock(&s->core);
}

static inline void down_write_site(struct rw_semaphore *s, const struct lock_site *site)
{
	lock_check_might_sleep(site);
	lock_check_acquire(&s->dep, 0, LOCK_WRITE, site);
	if (unlikely(!rw_core_try_write(&s->core)))
		rw_core_wait(&s->core, true, LOCK_SPIN_SHORT);
}

static inline void down_write_nest_site(struct rw_semaphore *s, struct lock_dep *nest, const struct lock_site *site)
{
	lock_check_might_sleep(site);
	lock_check_acquire_nest(&s->dep, nest, LOCK_WRITE, site);
	if (unlikely(!rw_core_try_write(&s->core)))
		rw_core_wait(&s->core, true, LOCK_SPIN_SHORT);
}

static inline bool down_write_trylock_site(struct rw_semaphore *s, const struct lock_site *site)
{
	if (!rw_core_try_write(&s->core))
		return false;
	lock_check_acquired(&s->dep, LOCK_WRITE, site);
	return true;
}

static inline void up_write_site(struct rw_semaphore *s, const struct lock_site *site)
{
	lock_check_release(&s->dep, LOCK_WRITE, site);
	rw_core_write_unlock(&s->core);
}

static inline void downgrade_write_site(struct rw_semaphore *s, const struct lock_site *site)
{
	lock_check_downgrade(&s->dep, site);
	rw_core_downgrade(&s->core);
}

/* Somebody holds it: a hint for asserts about locks that another thread may hold for us. */
static inline bool rwsem_is_locked(const struct rw_semaphore *s)
{
	return READ_ONCE(s->core.state) & ~(u32)RW_WAITERS;
}

/* Somebody waits for it: a hint for holders who may let go early. */
static inline bool rwsem_is_contended(const struct rw_semaphore *s)
{
	return READ_ONCE(s->core.state) & RW_WAITERS;
}

#define down_read(s) down_read_site(s, LOCK_HERE)
#define down_read_trylock(s) down_read_trylock_site(s, LOCK_HERE)
#define up_read(s) up_read_site(s, LOCK_HERE)
#define down_write(s) down_write_site(s, LOCK_HERE)
#define down_write_nest_lock(s, nest) down_write_nest_site(s, &(nest)->dep, LOCK_HERE)
#define down_write_trylock(s) down_write_trylock_site(s, LOCK_HERE)
#define up_write(s) up_write_site(s, LOCK_HERE)
#define downgrade_write(s) downgrade_write_site(s, LOCK_HERE)

/* --- lock_map: a pseudo-lock ---------------------------------------------------- */

/*
 * Held across what others wait for, and taken and dropped at once before such a
 * wait: the order checker then sees a deadlock that never has to happen.
 */
struct lock_map {
	struct lock_dep dep;
};

/* clang-format off */
#define LOCK_MAP_INIT(class) { .dep = LOCK_DEP_INIT(class, LOCK_PSEUDO) }
/* clang-format on */

static inline void lock_map_init(struct lock_map *map, struct lock_class *class)
{
	lock_dep_init(&map->dep, class, LOCK_PSEUDO);
}

#define lock_map_acquire(map) lock_check_acquire(&(map)->dep, 0, LOCK_WRITE, LOCK_HERE)
#define lock_map_release(map) lock_check_release(&(map)->dep, LOCK_WRITE, LOCK_HERE)
/*
 * Shared: enters without waiting, so it orders nothing before itself; may nest in
 * itself, not in or around the exclusive one.
 */
#define lock_map_acquire_read(map) lock_check_acquire(&(map)->dep, 0, LOCK_READ, LOCK_HERE)
#define lock_map_release_read(map) lock_check_release(&(map)->dep, LOCK_READ, LOCK_HERE)

/* --- completion, wait queue ------------------------------------------------------ */

#include "lib/wait.h"

#endif /* LIB_LOCK_H */
