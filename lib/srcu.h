/* SPDX-License-Identifier: MIT */
/*
 * Sleeping readers. A reader counts itself in and out in a slot of its own thread,
 * under one of two indexes; an updater flips the index and waits until as many
 * have left the old one as entered it.
 * Source: McKenney, "Sleepable RCU" (2006); the lock and unlock counts kept apart
 * are Lai Jiangshan's (2012, 2017).
 */
#ifndef LIB_SRCU_H
#define LIB_SRCU_H

#include "lib/atomic.h"
#include "lib/base.h"
#include "lib/grace.h"
#include "lib/lock.h"
#include "lib/race.h"
#include "lib/rcu.h"
#include "lib/thread.h"

struct srcu_slot {
	u64 lock[2], unlock[2]; /* only grow; written by the thread of that id alone */
} cacheline_aligned;

struct srcu_struct {
	u32 idx;		 /* its low bit: where new readers count; written under mutex */
	struct srcu_slot *slots; /* THREAD_MAX of them */
	struct mutex mutex;	 /* one grace period at a time */
	struct grace_domain callbacks;
	struct lock_map map; /* held by readers, asked for by who waits for them: the checker sees the deadlock */
};

int init_srcu_struct_class(struct srcu_struct *ss, struct lock_class *class);

/* Return: 0; -ENOMEM. The lock checker knows one class per place of the call. */
#define init_srcu_struct(ss)                                                                                           \
	({                                                                                                             \
		static DEFINE_LOCK_CLASS(srcu_class, "srcu " #ss);                                                     \
		init_srcu_struct_class(ss, &srcu_class);                                                               \
	})

/* No reader and no callback may be left (srcu_barrier()). Fine on a zeroed struct. */
void cleanup_srcu_struct(struct srcu_struct *ss);

static inline int must_check srcu_read_lock_site(struct srcu_struct *ss, const struct lock_site *site)
{
	u32 idx = READ_ONCE(ss->idx) & 1;
	u64 *count = &ss->slots[thread_id()].lock[idx];

	lock_check_acquire(&ss->map.dep, 0, LOCK_READ, site);
	race_point("srcu_read_lock:sampled"); /* the straggler of lib/srcu.c stands here */
	WRITE_ONCE(*count, *count + 1);
	/*
	 * B, pairs with A and D in lib/srcu.c: either the updater counts us, or we see
	 * what it published before. Also keeps the section after the count.
	 */
	smp_mb();
	return (int)idx;
}

static inline void srcu_read_unlock_site(struct srcu_struct *ss, int idx, const struct lock_site *site)
{
	u64 *count = &ss->slots[thread_id()].unlock[idx];

	lock_check_release(&ss->map.dep, LOCK_READ, site);
	/* C, pairs with the acquire of the unlock counts in lib/srcu.c: who counts us out sees our section over. */
	smp_store_release(count, *count + 1);
}

/* Return: what to give to srcu_read_unlock(), on the same thread. May nest, may sleep. */
#define srcu_read_lock(ss) srcu_read_lock_site(ss, LOCK_HERE)
#define srcu_read_unlock(ss, idx) srcu_read_unlock_site(ss, idx, LOCK_HERE)

#if CHECKING
/* Is this thread in a reader of @ss? */
#define srcu_read_lock_held(ss) lock_check_held(&(ss)->map.dep, false)
#endif

#if CHECKING
#define srcu_dereference(p, ss)                                                                                        \
	({                                                                                                             \
		ASSERT(srcu_read_lock_held(ss));                                                                       \
		__atomic_load_n(&(p), __ATOMIC_ACQUIRE);                                                               \
	})
#else
#define srcu_dereference(p, ss) ((void)sizeof(ss), __atomic_load_n(&(p), __ATOMIC_ACQUIRE))
#endif

/* Wait for every reader of @ss that runs now. Context: sleeps; never in a reader of @ss. */
void synchronize_srcu_site(struct srcu_struct *ss, const struct lock_site *site);
#define synchronize_srcu(ss) synchronize_srcu_site(ss, LOCK_HERE)

/*
 * fn(head) after a grace period of @ss, on a thread shared by all srcu_structs: a
 * reader of one delays the callbacks of all. Any context.
 */
void call_srcu(struct srcu_struct *ss, struct rcu_head *head, void (*fn)(struct rcu_head *head));

/* Wait for all callbacks queued on @ss so far. Context: sleeps; never in a reader or callback. */
void srcu_barrier(struct srcu_struct *ss);

#endif /* LIB_SRCU_H */
