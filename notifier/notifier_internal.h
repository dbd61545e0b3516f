/* SPDX-License-Identifier: MIT */
/*
 * What the files of notifier/ share.
 *
 * The list of subscriptions is written under subscriptions->lock and walked under
 * the notifier SRCU domain, one for all address spaces. A subscription is unlinked
 * with its list_next kept, so a walker that stands on it goes on; unregister waits
 * for the walkers before the memory is given back.
 *
 *   walker                               unregister
 *   ------                               ----------
 *   srcu_read_lock                       release callback, if still listed
 *   first, next: load-acquire            lock; unlink; unlock
 *   callback                             synchronize_srcu: waits for the walker
 *   srcu_read_unlock                     the memory is the caller's
 */
#ifndef NOTIFIER_NOTIFIER_INTERNAL_H
#define NOTIFIER_NOTIFIER_INTERNAL_H

#include "lib/atomic.h"
#include "lib/base.h"
#include "lib/lock.h"
#include "lib/mutant.h"
#include "lib/race.h"
#include "lib/srcu.h"
#include "notifier/notifier.h"
#include "notifier/trace.h"

extern struct srcu_struct mn_srcu;

/* "Held" by callbacks, asked for by what waits for callbacks to end: the checker sees the deadlock. */
extern struct lock_map mn_callback_map;

/* How many callbacks this thread is in. */
extern __thread unsigned int mn_callback_depth;

static inline void mn_callback_enter(void)
{
	mn_callback_depth++;
	lock_map_acquire_read(&mn_callback_map);
}

static inline void mn_callback_leave(void)
{
	lock_map_release_read(&mn_callback_map);
	mn_callback_depth--;
}

/* Pairs with the store-release in list_add(): who sees the subscription sees it whole. Context: mn_srcu. */
static inline struct mmu_notifier *mn_first(struct mmu_notifier_subscriptions *subs)
{
	return srcu_dereference(subs->first, &mn_srcu);
}

static inline struct mmu_notifier *mn_next(struct mmu_notifier *subscription)
{
	return srcu_dereference(subscription->list_next, &mn_srcu);
}

/* On the list? Stable under subscriptions->lock, a hint without. */
static inline bool mn_listed(const struct mmu_notifier *subscription)
{
	return READ_ONCE(subscription->list_pprev);
}

#endif /* NOTIFIER_NOTIFIER_INTERNAL_H */
