/* SPDX-License-Identifier: MIT */
/*
 * Sleeping readers. A reader draws a ticket and writes it into a slot of its own
 * thread; an updater makes a new ticket and waits until no slot holds an older one.
 * The barrier of the reader is the updater's to pay for (lib/membarrier.h), and no store
 * of his depends on what he stored before: entering and leaving cost a nanosecond.
 * Source: McKenney, "Sleepable RCU" (2006) for what it is for; the counter of grace
 * periods that readers copy is user-level RCU's (Desnoyers et al., 2012).
 */
#ifndef LIB_SRCU_H
#define LIB_SRCU_H

#include "lib/atomic.h"
#include "lib/base.h"
#include "lib/grace.h"
#include "lib/lock.h"
#include "lib/membarrier.h"
#include "lib/race.h"
#include "lib/rcu.h"
#include "lib/thread.h"

/* Written by the thread of that id alone. */
struct srcu_slot {
	u64 ticket; /* of its outermost reader; 0: none */
	u64 nested; /* readers beyond that one */
} cacheline_aligned;

struct srcu_struct {
	u64 ticket;			   /* one more per grace period, from 1 */
	struct srcu_slot *slots;	   /* by thread_line; the first looks as if a reader were in it */
	struct srcu_struct *next, **pprev; /* all there are */
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

static inline struct srcu_slot *srcu_slot_at(const struct srcu_struct *ss, u64 line)
{
	return (struct srcu_slot *)((char *)ss->slots + line);
}

/* Not the outermost reader of its thread, or no thread_line. Return: the line. */
u64 srcu_read_lock_slow(struct srcu_struct *ss, u64 ticket);

static inline int must_check srcu_read_lock_site(struct srcu_struct *ss, const struct lock_site *site)
{
	u64 line = thread_line;
	struct srcu_slot *slot = srcu_slot_at(ss, line);
	/* Pairs with the addition in srcu_advance(): who draws a ticket sees what was published before it was made. */
	u64 ticket = smp_load_acquire(&ss->ticket);

	lock_check_acquire(&ss->map.dep, 0, LOCK_READ, site);
	race_point("srcu_read_lock:sampled"); /* the straggler of lib/srcu.c stands here */
	if (unlikely(slot->ticket))
		return (int)srcu_read_lock_slow(ss, ticket);
	WRITE_ONCE(slot->ticket, ticket);
	/*
	 * B, pairs with A in srcu_advance(): either the updater sees us, or we see what
	 * it published before. Also keeps the section after the store.
	 */
	smp_mb_light();
	return (int)line;
}

static inline void srcu_read_unlock_site(struct srcu_struct *ss, int idx, const struct lock_site *site)
{
	struct srcu_slot *slot = srcu_slot_at(ss, (u32)idx);

	lock_check_release(&ss->map.dep, LOCK_READ, site);
	if (unlikely(slot->nested))
		slot->nested--;
	else /* C, pairs with the acquire in slot_is_old(): who sees us gone sees our section over */
		smp_store_release(&slot->ticket, 0);
}

/*
 * Return: what to give to srcu_read_unlock(), on the same thread. May nest, may sleep.
 * Readers of one thread that overlap without end hold every updater up.
 */
#define srcu_read_lock(ss) srcu_read_lock_site(ss, LOCK_HERE)
#define srcu_read_unlock(ss, idx) srcu_read_unlock_site(ss, idx, LOCK_HERE)

/* What srcu_read_lock() returned to this thread, for who would have to keep it over a call: a store is dearer. */
static inline int srcu_read_idx(void)
{
	u64 line = thread_line;

	return (int)(likely(line) ? line : thread_own_line());
}

/* Is this thread in a reader of @ss? Exact in every build. */
static inline bool srcu_read_lock_held(const struct srcu_struct *ss)
{
	return thread_self && srcu_slot_at(ss, thread_own_line())->ticket;
}

#define srcu_dereference(p, ss)                                                                                        \
	({                                                                                                             \
		ASSERT(srcu_read_lock_held(ss));                                                                       \
		__atomic_load_n(&(p), __ATOMIC_ACQUIRE);                                                               \
	})

/*
 * Wait for every reader of @ss that runs now. Context: sleeps; never in a reader of @ss.
 * Costs a membarrier(2) too: an interrupt to each processor that runs one of our threads.
 */
void synchronize_srcu_site(struct srcu_struct *ss, const struct lock_site *site);
#define synchronize_srcu(ss) synchronize_srcu_site(ss, LOCK_HERE)

/*
 * The two halves of synchronize_srcu(), for who keeps readers of his own beside those of
 * @ss. The first makes a new ticket and passes barrier A: of a reader that does not see what
 * the caller published, what it stored before its own barrier is seen now. Return: the
 * ticket; older ones are waited for. The second waits. Return: 0; -EINTR if @killable and a
 * signal is pending: some reader may still run.
 */
u64 must_check srcu_advance_site(struct srcu_struct *ss, const struct lock_site *site);
#define srcu_advance(ss) srcu_advance_site(ss, LOCK_HERE)
int must_check srcu_wait(struct srcu_struct *ss, u64 ticket, bool killable);

/* Between two looks at what readers do not pay for telling us: ever more seldom. *@turn: 0 at first. */
void srcu_poll(u32 *turn);

/*
 * fn(head) after a grace period of @ss, on a thread shared by all srcu_structs (none to be had: in srcu_barrier()): a
 * reader of one delays the callbacks of all. Any context.
 */
void call_srcu(struct srcu_struct *ss, struct rcu_head *head, void (*fn)(struct rcu_head *head));

/* Wait for all callbacks queued on @ss so far. Context: sleeps; never in a reader or callback. */
void srcu_barrier(struct srcu_struct *ss);

#endif /* LIB_SRCU_H */
