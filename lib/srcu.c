/* SPDX-License-Identifier: MIT */
/*
 * Sleeping RCU: the updater's side. lib/srcu.h has the readers'.
 *
 * Why one barrier is enough:
 *
 *   reader (thread i)                updater
 *   t = ticket, acquire              unpublish (the caller)
 *   slot[i] = t, if it is 0          mine = ++ticket, release
 *   smp_mb_light (B)                 smp_mb_heavy (A)
 *   read the pointer                 for each slot i: wait until
 *   slot[i] = 0, release (C)           slot[i] == 0, or slot[i] >= mine
 *                                    free (the caller)
 *
 * A and B are a store-buffering pair: a reader whose slot is seen empty after A does
 * not see the old pointer. One that drew our ticket or a later one does not either, by
 * the acquire. Any other is waited for, until its release is seen. Of nested readers the
 * outermost alone writes the slot; it is the one to wait for.
 *
 * A ticket may be drawn long before it is written. That does no harm, for it is only
 * too old (test srcu_straggler):
 *
 *   reader                        updater 1, then 2
 *   draws ticket 1
 *                                 1: makes ticket 2, sees no slot used, returns
 *   writes 1
 *   reads pointer p
 *                                 2: unpublishes p, makes ticket 3
 *                                 2: sees 1 in the slot: waits
 *   uses p; leaves
 *                                 2: frees p
 *
 * The wait ends: a slot that a thread has left is only written with newer tickets, as
 * soon as the thread sees the new one. Threads above thread_high have not entered yet, by
 * A and B: they raise it before they write.
 */
#include "lib/alloc.h"
#include "lib/srcu.h"

#define POLL_SPINS 200
#define POLL_MIN_NS 20000ull
#define POLL_MAX_NS 1000000ull

/* guards the list of all srcu_structs: for threads that leave. Not a struct spinlock, as in lib/grace.c. */
static struct lock_core all_lock;
static struct srcu_struct *all;

static void all_add(struct srcu_struct *ss)
{
	lock_core_lock(&all_lock, LOCK_SPIN_LONG);
	ss->next = all;
	ss->pprev = &all;
	if (all)
		all->pprev = &ss->next;
	all = ss;
	lock_core_unlock(&all_lock);
}

static void all_del(struct srcu_struct *ss)
{
	lock_core_lock(&all_lock, LOCK_SPIN_LONG);
	*ss->pprev = ss->next;
	if (ss->next)
		ss->next->pprev = ss->pprev;
	lock_core_unlock(&all_lock);
}

/*
 * A reader whose thread has ended reads no more: nobody shall wait for it, nor take the
 * next thread of that number for it. The checker has reported the srcu map as held.
 */
static void leave_readers(void)
{
	u64 line = thread_own_line();

	lock_core_lock(&all_lock, LOCK_SPIN_LONG);
	for (struct srcu_struct *ss = all; ss; ss = ss->next) {
		struct srcu_slot *slot = srcu_slot_at(ss, line);

		if (likely(!slot->ticket))
			continue;
		slot->nested = 0;
		smp_store_release(&slot->ticket, 0); /* C */
	}
	lock_core_unlock(&all_lock);
}

__attribute__((constructor)) static void leave_hook_add(void)
{
	static struct thread_leave_hook hook = { .fn = leave_readers };

	thread_at_leave(&hook);
}

static void srcu_domain_synchronize(struct grace_domain *domain)
{
	synchronize_srcu(container_of(domain, struct srcu_struct, callbacks));
}

int init_srcu_struct_class(struct srcu_struct *ss, struct lock_class *class)
{
	static_assert(sizeof(*ss->slots) == CACHELINE, "thread_line is an offset in slots");
	ss->slots = mem_alloc_aligned(CACHELINE, (THREAD_MAX + 1) * sizeof(*ss->slots));
	if (!ss->slots)
		return -ENOMEM;
	ss->slots[0].ticket = ~0ull;
	ss->ticket = 1;
	lock_map_init(&ss->map, class);
	grace_domain_init(&ss->callbacks, &srcu_worker, srcu_domain_synchronize);
	all_add(ss);
	return 0;
}

u64 srcu_read_lock_slow(struct srcu_struct *ss, u64 ticket)
{
	u64 line = thread_own_line();
	struct srcu_slot *slot = srcu_slot_at(ss, line);

	if (slot->ticket)
		slot->nested++;
	else
		WRITE_ONCE(slot->ticket, ticket);
	/* B */
	if (likely(thread_line))
		smp_mb_light();
	else
		smp_mb();
	return line;
}

u64 srcu_advance_site(struct srcu_struct *ss, const struct lock_site *site)
{
	u64 mine;

	lock_check_might_sleep(site);
	/* Taken and dropped: the checker learns that we wait for readers here. */
	lock_check_acquire(&ss->map.dep, 0, LOCK_WRITE, site);
	lock_check_release(&ss->map.dep, LOCK_WRITE, site);

	mine = fetch_add(&ss->ticket, 1) + 1; /* pairs with the acquire in srcu_read_lock() */
	smp_mb_heavy();			      /* A, pairs with B in srcu_read_lock() */
	return mine;
}

void srcu_poll(u32 *turn)
{
	u32 n = (*turn)++;

	if (n < POLL_SPINS)
		cpu_relax();
	else
		thread_sleep_ns(min(POLL_MIN_NS << min(n - POLL_SPINS, 16u), POLL_MAX_NS));
}

static bool slot_is_old(const struct srcu_slot *slot, u64 mine)
{
	u64 ticket = smp_load_acquire(&slot->ticket); /* pairs with C */

	return ticket && ticket < mine;
}

int srcu_wait(struct srcu_struct *ss, u64 mine, bool killable)
{
	u32 high = READ_ONCE(thread_high);

	for (u32 i = 1; i <= high; i++)
		for (u32 turn = 0; slot_is_old(&ss->slots[i], mine); srcu_poll(&turn))
			if (killable && thread_signal_pending())
				return -EINTR;
	smp_mb(); /* as the kernel's: full. What the readers did is seen by the acquires already */
	return 0;
}

void synchronize_srcu_site(struct srcu_struct *ss, const struct lock_site *site)
{
	int err = srcu_wait(ss, srcu_advance_site(ss, site), false);

	ASSERT(!err);
	(void)err;
}

void call_srcu(struct srcu_struct *ss, struct rcu_head *head, void (*fn)(struct rcu_head *head))
{
	grace_call(&ss->callbacks, head, fn);
}

void srcu_barrier(struct srcu_struct *ss)
{
	might_sleep();
	grace_barrier(&ss->callbacks);
}

void cleanup_srcu_struct(struct srcu_struct *ss)
{
	if (!ss->slots)
		return;
	for (u32 i = 1; i <= READ_ONCE(thread_high); i++)
		if (smp_load_acquire(&ss->slots[i].ticket))
			BUG("srcu_struct cleaned up under a reader");
	if (!grace_idle(&ss->callbacks))
		BUG("srcu_struct cleaned up with callbacks queued: srcu_barrier() first");
	all_del(ss);
	mem_free(ss->slots);
	ss->slots = NULL;
}
