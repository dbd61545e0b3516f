/* SPDX-License-Identifier: MIT */
/*
 * Subscriptions: register, unregister, release at exit.
 *
 * Which lock protects the list: registration adds to it with every lock held under
 * which a section can run (take_all_locks), so a section sees the same subscribers
 * from start to end, less those that leave. Leaving takes no lock of the address
 * space; it needs the SRCU domain instead.
 */
#include "lib/alloc.h"
#include "notifier/notifier_internal.h"

static DEFINE_LOCK_CLASS(subscriptions_class, "mmu_notifier_subscriptions");
static __attribute__((unused)) DEFINE_LOCK_CLASS(callback_class, "mmu_notifier_callback");

struct srcu_struct mn_srcu;
static bool srcu_ready; /* constant after the program's start */

struct lock_map mn_callback_map = LOCK_MAP_INIT(&callback_class);
__thread unsigned int mn_callback_depth;

/* --- the address space -------------------------------------------------------- */

int notifier_mm_init(struct notifier_mm *mm, const struct notifier_mm_ops *ops, enum notifier_admission admission)
{
	mm->ops = ops;
	mm->admission = admission;
	mm->subscriptions = NULL;
	mm->users = 1;
	mm->count = 1;
	return 0;
}

void notifier_mm_destroy(struct notifier_mm *mm)
{
	ASSERT(mm->count == 0);
	ASSERT(!mm->subscriptions || !mm->subscriptions->first); /* each holds a count */
	mem_free(mm->subscriptions);
	mm->subscriptions = NULL;
}

void notifier_mm_grab(struct notifier_mm *mm)
{
	s32 old = fetch_add(&mm->count, 1);

	ASSERT(old > 0); /* invariant MN4: who may call holds one */
	(void)old;
}

void notifier_mm_drop(struct notifier_mm *mm)
{
	s32 old = fetch_add(&mm->count, -1);

	ASSERT(old > 0);
	if (old == 1)
		mm->ops->free(mm);
}

/* --- the list ------------------------------------------------------------------- */

/* One domain for the life of the program: it can be made before any thread asks for it, and never ends. */
__attribute__((constructor)) static void srcu_make(void)
{
	srcu_ready = !init_srcu_struct(&mn_srcu);
}

static struct mmu_notifier_subscriptions *subscriptions_alloc(void)
{
	struct mmu_notifier_subscriptions *subs = srcu_ready ? mem_zalloc(sizeof(*subs)) : NULL;

	if (subs)
		spin_lock_init(&subs->lock, &subscriptions_class);
	return subs;
}

static void list_add_locked(struct mmu_notifier_subscriptions *subs, struct mmu_notifier *subscription)
{
	struct mmu_notifier *first = subs->first;

	lockdep_assert_held(&subs->lock);
	subscription->list_next = first;
	WRITE_ONCE(subscription->list_pprev, &subs->first);
	if (first)
		WRITE_ONCE(first->list_pprev, &subscription->list_next);
	/* Pairs with the load-acquire in mn_first(). */
	smp_store_release(&subs->first, subscription);
}

/* list_next stays: a walker may stand here. */
static void list_del_locked(struct mmu_notifier_subscriptions *subs, struct mmu_notifier *subscription)
{
	struct mmu_notifier *next = subscription->list_next;
	struct mmu_notifier **pprev = subscription->list_pprev;

	lockdep_assert_held(&subs->lock);
	if (!pprev)
		return; /* exit was faster (rule N9) */
	WRITE_ONCE(*pprev, next);
	if (next)
		WRITE_ONCE(next->list_pprev, pprev);
	WRITE_ONCE(subscription->list_pprev, NULL);
}

/* --- register ---------------------------------------------------------------------- */

static bool ops_ok(const struct mmu_notifier_ops *ops)
{
	return ops && (!ops->invalidate_range_end || ops->invalidate_range_start);
}

/* Report a call that would wait for the callback it is made from. */
static bool in_callback(void)
{
	if (likely(!mn_callback_depth))
		return false;
	lock_map_acquire(&mn_callback_map);
	lock_map_release(&mn_callback_map);
	return true;
}

/* Context: write lock held. */
static int register_locked(struct mmu_notifier *subscription, struct notifier_mm *mm)
{
	struct mmu_notifier_subscriptions *subs = mm->subscriptions, *made = NULL;
	int err;

	if (READ_ONCE(mm->users) <= 0)
		return -EINVAL;
	if (!subs) {
		/* Before the locks: memory that is short may want them (rule N1). */
		made = subscriptions_alloc();
		if (!made)
			return -ENOMEM;
		subs = made;
	}
	err = mm->ops->take_all_locks(mm);
	if (err) {
		mem_free(made);
		return err;
	}
	/*
	 * No section is open from here to drop_all_locks (rule N3):
	 *
	 *   section                        register
	 *   -------                        --------
	 *   one of the locks
	 *   start walks the list           take_all_locks waits
	 *   clear entries; end
	 *   unlock                         take_all_locks returns; add
	 *                                  a fault of the new subscriber finds the entries cleared
	 */
	if (made)
		smp_store_release(&mm->subscriptions, made); /* rule N1; pairs with lock-less readers of the pointer */
	notifier_mm_grab(mm);
	subscription->mm = mm;
	spin_lock(&subs->lock);
	list_add_locked(subs, subscription);
	WRITE_ONCE(subs->interested, 1);
	spin_unlock(&subs->lock);
	mm->ops->drop_all_locks(mm);
	return 0;
}

/* subscription->state: 0 free, 1 registered, 2 changing. Two callers cannot both have it. */
#define USERS_FREE 0u
#define USERS_REGISTERED 1u
#define USERS_CHANGING 2u

int mmu_notifier_register(struct mmu_notifier *subscription, struct notifier_mm *mm)
{
	unsigned int users = USERS_FREE;
	int err;

	if (!subscription || !mm || !ops_ok(subscription->ops))
		return -EINVAL;
	if (in_callback())
		return -EDEADLK;
	if (!try_cmpxchg(&subscription->state, &users, USERS_CHANGING))
		return -EEXIST;
	mm->ops->lock_for_write(mm);
	err = register_locked(subscription, mm);
	mm->ops->unlock_for_write(mm);
	smp_store_release(&subscription->state, err ? USERS_FREE : USERS_REGISTERED); /* pairs with the exchanges */
	mn_trace(REGISTER, subscription, mm, err, 0);
	return err;
}

/* --- unregister, release -------------------------------------------------------------- */

static void call_release(struct mmu_notifier *subscription, struct notifier_mm *mm)
{
	if (!subscription->ops->release)
		return;
	mn_callback_enter();
	subscription->ops->release(subscription, mm);
	mn_callback_leave();
}

int mmu_notifier_unregister(struct mmu_notifier *subscription, struct notifier_mm *mm)
{
	struct mmu_notifier_subscriptions *subs;
	unsigned int users = USERS_REGISTERED;

	if (!subscription || !mm)
		return -EINVAL;
	if (in_callback())
		return -EDEADLK;
	if (!try_cmpxchg(&subscription->state, &users, USERS_CHANGING))
		return -EINVAL;
	if (subscription->mm != mm) {
		smp_store_release(&subscription->state, USERS_REGISTERED);
		return -EINVAL;
	}
	subs = mm->subscriptions;
	mn_trace(UNREGISTER, subscription, mm, 0, 0);
	/*
	 * Exit may be doing the same: release is called while still listed, by one or by
	 * both, so no section misses a subscriber that still has translations (rule N9).
	 */
	if (mn_listed(subscription)) {
		int idx = srcu_read_lock(&mn_srcu);

		call_release(subscription, mm);
		srcu_read_unlock(&mn_srcu, idx);
		race_point("notifier:unregister_before_unlink");
		spin_lock(&subs->lock);
		list_del_locked(subs, subscription);
		spin_unlock(&subs->lock);
	}
	/* Always: exit may have unlinked it, and a walker may still be on it. */
	synchronize_srcu(&mn_srcu);
	subscription->mm = NULL;
	subscription->list_next = NULL;
	smp_store_release(&subscription->state, USERS_FREE); /* pairs with the exchange in mmu_notifier_register() */
	notifier_mm_drop(mm);
	return 0;
}

static void unlink_all(struct mmu_notifier_subscriptions *subs)
{
	spin_lock(&subs->lock);
	while (subs->first)
		list_del_locked(subs, subs->first);
	spin_unlock(&subs->lock);
}

/*
 * Rule N8.
 *
 *   exit                                       reclaim, truncate (rmap locks only)
 *   ----                                       -----------------
 *   srcu_read_lock
 *   release of each, still listed              start: they hear of it
 *     -> no translation, and none ever again   clear an entry, end, free the page
 *   unlink                                     start: nobody listed, nobody has anything
 *   srcu_read_unlock; synchronize_srcu         (walks that began before are over)
 *   only now: unmap, free
 */
void mn_release(struct notifier_mm *mm)
{
	struct mmu_notifier_subscriptions *subs = READ_ONCE(mm->subscriptions);
	struct mmu_notifier *first;
	int idx;

	lockdep_assert_none_held();
	mn_trace(RELEASE, mm, 0, 0, 0);
	idx = srcu_read_lock(&mn_srcu);
	first = mn_first(subs);
	if (mutant(MUTANT_N8_UNLINK_BEFORE_RELEASE)) {
		unlink_all(subs);
		race_point("notifier:release_after_unlink");
	}
	for (struct mmu_notifier *s = first; s; s = mn_next(s))
		call_release(s, mm);
	race_point("notifier:release_before_unlink");
	unlink_all(subs);
	srcu_read_unlock(&mn_srcu, idx);
	synchronize_srcu(&mn_srcu);
}
