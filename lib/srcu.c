/* SPDX-License-Identifier: MIT */
/* Sleeping RCU: the updater's side. lib/srcu.h has the readers'. */
#include "lib/alloc.h"
#include "lib/srcu.h"

#define POLL_SPINS 200
#define POLL_MIN_NS 20000
#define POLL_MAX_NS 1000000

static DEFINE_LOCK_CLASS(mutex_class, "srcu sync");

static void srcu_domain_synchronize(struct grace_domain *domain)
{
	synchronize_srcu(container_of(domain, struct srcu_struct, callbacks));
}

int init_srcu_struct_class(struct srcu_struct *ss, struct lock_class *class)
{
	ss->slots = mem_alloc_aligned(CACHELINE, THREAD_MAX * sizeof(*ss->slots));
	if (!ss->slots)
		return -ENOMEM;
	ss->idx = 0;
	mutex_init(&ss->mutex, &mutex_class);
	lock_map_init(&ss->map, class);
	grace_domain_init(&ss->callbacks, &srcu_worker, srcu_domain_synchronize);
	return 0;
}

/*
 * Did as many leave @idx as entered it?
 *
 * The leavers are summed first, with acquire (pairs with C: their sections are over
 * for us). Then A: a reader whose leaving was counted is also counted entering; and
 * as a store-buffering pair with B, a reader whose entering is missed sees all
 * that was published before this call. The threads above thread_high when it is
 * read have not entered yet, by the same pairing: they raise it before they count.
 */
static bool readers_gone(struct srcu_struct *ss, u32 idx)
{
	u64 left = 0, entered = 0;
	u32 high;

	high = READ_ONCE(thread_high);
	for (u32 i = 0; i < high; i++)
		left += smp_load_acquire(&ss->slots[i].unlock[idx]);
	smp_mb();		       /* A, pairs with B in srcu_read_lock() */
	high = READ_ONCE(thread_high); /* only grows: whoever was counted out is among them */
	for (u32 i = 0; i < high; i++)
		entered += READ_ONCE(ss->slots[i].lock[idx]);
	return left == entered;
}

static void wait_for_readers(struct srcu_struct *ss, u32 idx)
{
	u64 ns = POLL_MIN_NS;

	for (unsigned int i = 0; i < POLL_SPINS; i++) {
		if (readers_gone(ss, idx))
			return;
		cpu_relax();
	}
	/* Readers do not pay for waking us: look again, ever more seldom. */
	while (!readers_gone(ss, idx)) {
		thread_sleep_ns(ns);
		ns = min(ns * 2, (u64)POLL_MAX_NS);
	}
}

/*
 * Why the index that is not current is waited for first (test srcu_straggler):
 *
 *   reader                        updater 1, then 2
 *   samples index 0
 *                                 1: flips to 1, nobody counted in 0, returns
 *   counts itself in 0
 *   reads pointer p
 *                                 2: unpublishes p
 *                                 2: flips to 0, nobody counted in 1, frees p
 *   uses p
 *
 * So 2 must see 0 empty before it makes 0 the current index again.
 */
void synchronize_srcu_site(struct srcu_struct *ss, const struct lock_site *site)
{
	lock_check_might_sleep(site);
	/* Taken and dropped: the checker learns that we wait for readers here. */
	lock_check_acquire(&ss->map.dep, 0, LOCK_WRITE, site);
	lock_check_release(&ss->map.dep, LOCK_WRITE, site);

	mutex_lock(&ss->mutex);
	wait_for_readers(ss, !(ss->idx & 1));
	smp_mb(); /* E, pairs with B: who was missed just now counts under the old index, or sees the flip */
	WRITE_ONCE(ss->idx, ss->idx + 1);
	smp_mb(); /* D, pairs with B: who is missed by the next scan sees the flip the next time it enters */
	wait_for_readers(ss, !(ss->idx & 1));
	mutex_unlock(&ss->mutex);
	smp_mb(); /* pairs with C: what the caller does now comes after the sections waited for */
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
	if (!readers_gone(ss, 0) || !readers_gone(ss, 1))
		BUG("srcu_struct cleaned up under a reader");
	if (!grace_idle(&ss->callbacks))
		BUG("srcu_struct cleaned up with callbacks queued: srcu_barrier() first");
	mem_free(ss->slots);
	ss->slots = NULL;
}
