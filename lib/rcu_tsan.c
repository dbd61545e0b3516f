/* SPDX-License-Identifier: MIT */
/*
 * RCU that ThreadSanitizer can follow: one word per thread holds the grace period
 * in which its outermost reader began, 0 outside.
 */
#include "lib/rcu.h"

#if TSAN
#include "lib/lock.h"
#include "lib/thread.h"

struct rcu_slot {
	u64 period; /* written by its thread alone */
} cacheline_aligned;

static struct rcu_slot slots[THREAD_MAX];
static u64 period = 1; /* 64 bits: never comes round */
static DEFINE_LOCK_CLASS(sync_class, "rcu sync");
static struct mutex sync_mutex = MUTEX_INIT(&sync_class); /* guards writes of period */
static __thread u32 nesting;

void rcu_tsan_read_lock(void)
{
	if (nesting++)
		return;
	WRITE_ONCE(slots[thread_id()].period, smp_load_acquire(&period));
	/* A, pairs with B: either the updater sees this reader, or the reader sees what the updater published. */
	smp_mb();
}

void rcu_tsan_read_unlock(void)
{
	ASSERT(nesting);
	/* C, pairs with the acquire in synchronize_rcu(): who sees 0 sees the section over. */
	if (!--nesting)
		smp_store_release(&slots[thread_id()].period, 0);
}

bool rcu_read_lock_held(void)
{
	return nesting;
}

void synchronize_rcu(void)
{
	u64 now, seen;

	might_sleep();
	mutex_lock(&sync_mutex);
	now = fetch_add(&period, 1) + 1;
	smp_mb(); /* B, pairs with A */
	/*
	 * A reader that sampled an older period and was not seen by an earlier scan began
	 * after that scan's B; it is waited for here.
	 */
	for (u32 i = 0; i < READ_ONCE(thread_high); i++) {
		while ((seen = smp_load_acquire(&slots[i].period)) && seen < now)
			thread_sleep_ns(20000);
	}
	mutex_unlock(&sync_mutex);
}

void rcu_register_thread(void)
{
}

void rcu_unregister_thread(void)
{
}
#endif /* TSAN */
