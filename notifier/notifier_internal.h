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

#include "lib/alloc.h"
#include "lib/atomic.h"
#include "lib/base.h"
#include "lib/lock.h"
#include "lib/mutant.h"
#include "lib/race.h"
#include "lib/srcu.h"
#include "lib/thread.h"
#include "notifier/notifier.h"
#include "notifier/trace.h"

/* Of a subscription of any kind. Changes hands by compare-and-exchange: two callers cannot both have it. */
enum mn_state {
	MN_FREE, /* zeroed memory is */
	MN_CHANGING,
	MN_REGISTERED,
	MN_GOT, /* by mmu_notifier_get() */
};

extern struct srcu_struct mn_srcu link_hidden;

/*
 * Pseudo-locks (docs/locking.md). The first is "held" by callbacks and asked for by
 * what waits for callbacks to end or may reclaim; the second by the thread that has
 * a section open, and asked for by what waits for sections to end.
 */
extern struct lock_map mn_callback_map, mn_section_map;

/* Its slot, used or not. Enters the thread if need be. */
static inline struct mn_slot *mn_slot_own(void)
{
	return &mn_slots[thread_id() + 1];
}

/* Every callback runs inside a reader of mn_srcu: that is how a thread knows that it is in one. */
static inline void mn_callback_enter(void)
{
	ASSERT(srcu_read_lock_held(&mn_srcu));
	lock_map_acquire_read(&mn_callback_map);
}

static inline void mn_callback_leave(void)
{
	lock_map_release_read(&mn_callback_map);
}

/* Around a callback that must not block (STYLE idea 4). */
static inline void mn_atomic_enter(void)
{
	mn_callback_enter();
	non_block_start();
}

static inline void mn_atomic_leave(void)
{
	non_block_end();
	mn_callback_leave();
}

/*
 * Before what waits for callbacks, or for sections. True: it would, or could, wait for its
 * own caller; reported.
 */
bool mn_in_callback(void);
bool mn_in_section(void);

/* Pairs with the store-release in list_add_locked(): who sees the subscription sees it whole. Context: mn_srcu. */
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

/* --- subscription.c ---------------------------------------------------------------- */

struct mmu_notifier_subscriptions *mn_subscriptions_alloc(void);
bool mn_ops_ok(const struct mmu_notifier_ops *ops); /* complete, and no contradiction in it (rule N2) */
/* Register or find; @state: MN_REGISTERED or MN_GOT. Context: the write lock, with admission by mm_lock. */
int mn_register_locked(struct mmu_notifier *subscription, struct notifier_mm *mm, enum mn_state state);
void mn_list_del_locked(struct mmu_notifier_subscriptions *subs, struct mmu_notifier *subscription);
/* After every change of the list, the chain or has_itree. Context: subs->lock. */
void mn_interest_locked(struct mmu_notifier_subscriptions *subs);

/* --- admission.c --------------------------------------------------------------------- */

/* What wants to become visible: publish under subs->lock; retract what a signal undid. */
struct mn_newcomer {
	void (*publish_locked)(struct mmu_notifier_subscriptions *subs, void *what);
	void (*retract_locked)(struct mmu_notifier_subscriptions *subs, void *what);
	void *what;
	bool careless; /* no admission at all: EMM V1, and the mutants of catalogue 1 */
};

/*
 * rule N3. Context: the mm's write lock (admission by mm_lock), no section, no callback.
 * Return: 0; -EINVAL (mm_users is zero); -ENOMEM; what take_all_locks() says; -EINTR.
 */
int mn_admit(struct notifier_mm *mm, const struct mn_newcomer *newcomer);
/* With admission by mm_lock. Return: 0; -EDEADLK: the caller holds it, reported. */
int must_check mn_mm_write_lock(struct notifier_mm *mm);
void mn_mm_write_unlock(struct notifier_mm *mm);
/* register_mutex, where no write lock of the mm keeps two apart: with admission by section. */
static inline void mn_register_lock(struct notifier_mm *mm)
{
	if (mm->admission == NOTIFIER_ADMIT_SECTION)
		mutex_lock(&mm->subscriptions->register_mutex);
}

static inline void mn_register_unlock(struct notifier_mm *mm)
{
	if (mm->admission == NOTIFIER_ADMIT_SECTION)
		mutex_unlock(&mm->subscriptions->register_mutex);
}

/* For the _locked variants. Return: 0; -EINVAL: the caller does not hold it, reported. */
int must_check mn_mm_check_write_locked(struct notifier_mm *mm);

/* --- interval.c, emm.c ---------------------------------------------------------------- */

int mn_itree_start(struct mmu_notifier_subscriptions *subs, struct mmu_notifier_range *range);
void mn_itree_end(struct mmu_notifier_subscriptions *subs);
void mn_itree_release(struct notifier_mm *mm);

void mn_emm_start(struct mmu_notifier_subscriptions *subs, struct mmu_notifier_range *range);
void mn_emm_end(struct mmu_notifier_subscriptions *subs, struct mmu_notifier_range *range);
/* Return: those that were released; for mn_emm_forget(), when no walk can be on one, and they may be used again. */
struct emm_notifier *mn_emm_release(struct notifier_mm *mm);
void mn_emm_forget(struct emm_notifier *first);

#endif /* NOTIFIER_NOTIFIER_INTERNAL_H */
