/* SPDX-License-Identifier: MIT */
/*
 * Interval notifiers: a subscriber per range, and a sequence that tells a fault
 * whether what it looked up still stands.
 *
 * subs->lock guards seq, active, the tree and the deferred list (rule I1):
 *
 *   active == 0            seq even   nothing open; the tree may change
 *   active > 0             seq even   sections open, none met an interval; the tree may change
 *   active > 0             seq odd    one did: the tree is frozen, for it is walked without the
 *                                     lock; changes are deferred until active is 0 again
 *
 * A subscriber's own seq is odd always. It equals subs->seq exactly while a section that met
 * it, or may have, is open: set by mmu_interval_set_seq() in invalidate(), or by insert.
 *
 *   section                              fault of the driver
 *   start: active++; seq |= 1            read_begin: s = sub->seq; is it subs->seq? wait
 *     invalidate: driver lock,           look the pages up
 *       sub->seq = seq, zap              driver lock
 *   clear entries                        sub->seq == s? nothing met us: use them
 *   end: active--; at 0: seq++, wake     otherwise again
 */
#include "notifier/interval_tree.h"
#include "notifier/notifier_internal.h"

#define SIGNAL_POLL_NS 1000000 /* a signal does not wake who sleeps for a section */

/* Context: subs->lock. */
static bool invalidating_locked(const struct mmu_notifier_subscriptions *subs)
{
	return subs->active && (subs->seq & 1);
}

/* --- sections ------------------------------------------------------------------------- */

static bool call_invalidate(struct mmu_interval_notifier *sub, const struct mmu_notifier_range *range, u64 cur_seq)
{
	bool done;

	mn_callback_enter();
	if (!range->blockable)
		non_block_start();
	done = sub->ops->invalidate(sub, range, cur_seq);
	if (!range->blockable)
		non_block_end();
	mn_callback_leave();
	if (done && READ_ONCE(sub->seq) != cur_seq)
		check_report("invalidate() did not call mmu_interval_set_seq() (rule I2)");
	if (!done && range->blockable) {
		check_report("a blockable invalidate() fails (invariant MN1)");
		done = true;
	}
	return done;
}

/* Return: 0; -EAGAIN: one would have had to block; closed again. */
static int tell_all(struct mmu_notifier_subscriptions *subs, const struct mmu_notifier_range *range)
{
	hva_t last = range->end - 1;
	struct mmu_interval_notifier *sub;
	int err = 0, idx;
	u64 cur_seq;

	spin_lock(&subs->lock);
	subs->active++;
	sub = itree_first(subs->itree, range->start, last);
	if (sub)
		WRITE_ONCE(subs->seq, subs->seq | 1);
	cur_seq = subs->seq;
	spin_unlock(&subs->lock);
	if (!sub)
		return 0;
	idx = srcu_read_lock(&mn_srcu); /* the frozen tree needs it not; callbacks all run in one */
	while (sub && !err) {
		if (!call_invalidate(sub, range, cur_seq))
			err = -EAGAIN;
		race_point("notifier:between_intervals");
		spin_lock(&subs->lock);
		sub = itree_next(subs->itree, sub, range->start, last);
		spin_unlock(&subs->lock);
	}
	srcu_read_unlock(&mn_srcu, idx);
	if (err)
		mn_itree_end(subs);
	return err;
}

int mn_itree_start(struct mmu_notifier_subscriptions *subs, struct mmu_notifier_range *range)
{
	int err = tell_all(subs, range);

	if (!err)
		range->flags |= MN_IN_ITREE;
	return err;
}

void mn_itree_end(struct mmu_notifier_subscriptions *subs)
{
	struct mmu_interval_notifier *sub;

	spin_lock(&subs->lock);
	if (--subs->active || !(subs->seq & 1)) {
		spin_unlock(&subs->lock);
		return;
	}
	WRITE_ONCE(subs->seq, subs->seq + 1);
	race_point("notifier:interval_seq_even");
	while ((sub = subs->deferred)) {
		subs->deferred = sub->deferred_next;
		sub->deferred_next = NULL;
		sub->deferred = false;
		if (itree_contains(sub))
			itree_remove(&subs->itree, sub);
		else
			itree_insert(&subs->itree, sub);
	}
	spin_unlock(&subs->lock);
	wake_up_all(&subs->wait);
}

/* rule N8: exit is one section over everything that nobody may refuse. */
void mn_itree_release(struct notifier_mm *mm)
{
	struct mmu_notifier_range range = {
		.mm = mm, .start = 0, .end = ~0ull, .event = MMU_NOTIFY_RELEASE, .blockable = true
	};

	if (!tell_all(mm->subscriptions, &range))
		mn_itree_end(mm->subscriptions);
}

/* --- insert ------------------------------------------------------------------------------ */

static void itree_publish_locked(struct mmu_notifier_subscriptions *subs, void *what)
{
	WRITE_ONCE(subs->has_itree, 1);
}

/* Sections count themselves in active from now on: that does no harm. */
static void itree_retract_locked(struct mmu_notifier_subscriptions *subs, void *what)
{
}

/* Once per mm: from here on every open section is counted in active. @locked: the write lock is held. */
static int itree_admit(struct notifier_mm *mm, bool locked)
{
	static const struct mn_newcomer newcomer = {
		.publish_locked = itree_publish_locked,
		.retract_locked = itree_retract_locked,
	};
	int err;

	if (mn_in_callback() || mn_in_section())
		return -EDEADLK;
	err = locked ? 0 : mn_mm_write_lock(mm);
	if (err)
		return err;
	err = mn_admit(mm, &newcomer);
	if (!locked)
		mn_mm_write_unlock(mm);
	if (!err)
		smp_store_release(&mm->subscriptions->itree_ready, 1); /* pairs with the acquire in itree_ready() */
	return err;
}

static bool itree_ready(const struct notifier_mm *mm)
{
	const struct mmu_notifier_subscriptions *subs = smp_load_acquire(&mm->subscriptions); /* rule N1 */

	return subs && smp_load_acquire(&subs->itree_ready);
}

/* rule I5 */
static void insert(struct mmu_notifier_subscriptions *subs, struct mmu_interval_notifier *sub)
{
	spin_lock(&subs->lock);
	if (!subs->active) {
		itree_insert(&subs->itree, sub);
		sub->seq = subs->seq - 1; /* odd, and not the seq of any section to come */
	} else if (invalidating_locked(subs)) {
		sub->deferred = true;
		sub->deferred_next = subs->deferred;
		subs->deferred = sub;
		sub->seq = subs->seq;
	} else {
		/* Nobody knows which ranges are open: as if one met us. */
		if (!mutant(MUTANT_I5_INSERT_NOT_BUSY))
			WRITE_ONCE(subs->seq, subs->seq | 1);
		itree_insert(&subs->itree, sub);
		sub->seq = subs->seq & 1 ? subs->seq : subs->seq - 1;
	}
	spin_unlock(&subs->lock);
}

static int insert_checks(struct mmu_interval_notifier *sub, struct notifier_mm *mm, hva_t start, u64 length,
			 const struct mmu_interval_notifier_ops *ops)
{
	if (!sub || !mm || !ops || !ops->invalidate)
		return -EINVAL;
	if (!length || start + length - 1 < start)
		return -EOVERFLOW;
	if (mm->ops->limit && start + length - 1 >= mm->ops->limit)
		return -EINVAL;
	return 0;
}

static int insert_one(struct mmu_interval_notifier *sub, struct notifier_mm *mm, hva_t start, u64 length,
		      const struct mmu_interval_notifier_ops *ops, bool locked)
{
	unsigned int expected = MN_FREE;
	int err = insert_checks(sub, mm, start, length, ops);

	if (!err && locked)
		err = mn_mm_check_write_locked(mm);
	if (err)
		return err;
	if (!try_cmpxchg(&sub->state, &expected, (unsigned int)MN_CHANGING))
		return -EEXIST;
	err = READ_ONCE(mm->users) > 0 ? 0 : -EINVAL;
	if (!err && !itree_ready(mm))
		err = itree_admit(mm, locked);
	if (!err) {
		notifier_mm_grab(mm);
		sub->mm = mm;
		sub->ops = ops;
		sub->start = start;
		sub->last = start + length - 1;
		insert(mm->subscriptions, sub);
	}
	mn_trace(INSERT, sub, start, length, err);
	smp_store_release(&sub->state, err ? MN_FREE : MN_REGISTERED); /* pairs with the exchanges */
	return err;
}

int mmu_interval_notifier_insert(struct mmu_interval_notifier *subscription, struct notifier_mm *mm, hva_t start,
				 uint64_t length, const struct mmu_interval_notifier_ops *ops)
{
	return insert_one(subscription, mm, start, length, ops, false);
}

int mmu_interval_notifier_insert_locked(struct mmu_interval_notifier *subscription, struct notifier_mm *mm, hva_t start,
					uint64_t length, const struct mmu_interval_notifier_ops *ops)
{
	return insert_one(subscription, mm, start, length, ops, true);
}

/* --- remove -------------------------------------------------------------------------------- */

static void undefer_locked(struct mmu_notifier_subscriptions *subs, struct mmu_interval_notifier *sub)
{
	struct mmu_interval_notifier **link = &subs->deferred;

	while (*link != sub)
		link = &(*link)->deferred_next;
	*link = sub->deferred_next;
	sub->deferred_next = NULL;
	sub->deferred = false;
}

/*
 * rule I6, catalogue 7. The lock is not for the load, but for what its holder does after
 * the seq has changed:
 *
 *   section, end                         remove
 *   lock; seq++                          mutant: sees seq changed, returns, sub is freed
 *   walks the deferred list: sub         right: waits for the lock
 *   unlock                               sees seq changed; sub is on no list
 */
static bool seq_left(struct mmu_notifier_subscriptions *subs, u64 seq)
{
	bool left;

	if (mutant(MUTANT_I6_WAIT_UNLOCKED))
		return READ_ONCE(subs->seq) != seq;
	spin_lock(&subs->lock);
	left = subs->seq != seq;
	spin_unlock(&subs->lock);
	return left;
}

int mmu_interval_notifier_remove(struct mmu_interval_notifier *subscription)
{
	struct mmu_notifier_subscriptions *subs;
	unsigned int expected = MN_REGISTERED;
	struct notifier_mm *mm;
	u64 seq = 0;

	if (!subscription)
		return -EINVAL;
	if (mn_in_callback() || mn_in_section())
		return -EDEADLK;
	if (!try_cmpxchg(&subscription->state, &expected, (unsigned int)MN_CHANGING))
		return -EINVAL;
	mm = subscription->mm;
	subs = mm->subscriptions;
	spin_lock(&subs->lock);
	if (!invalidating_locked(subs)) {
		itree_remove(&subs->itree, subscription);
	} else if (subscription->deferred) {
		undefer_locked(subs, subscription); /* it never came into the tree: nobody walks on it */
	} else {
		subscription->deferred = true;
		subscription->deferred_next = subs->deferred;
		subs->deferred = subscription;
		seq = subs->seq;
	}
	spin_unlock(&subs->lock);
	if (seq)
		wait_event(&subs->wait, seq_left(subs, seq));
	mn_trace(REMOVE, subscription, mm, seq, 0);
	WRITE_ONCE(subscription->mm, NULL);
	smp_store_release(&subscription->state, MN_FREE); /* pairs with the exchange in insert_one() */
	notifier_mm_drop(mm);
	return 0;
}

/* --- faults of the driver ---------------------------------------------------------------------- */

/* rule I3 */
int mmu_interval_read_begin(struct mmu_interval_notifier *subscription, uint64_t *out)
{
	struct mmu_notifier_subscriptions *subs;
	struct notifier_mm *mm;
	bool busy;
	u64 seq;

	if (!subscription || !out || READ_ONCE(subscription->state) != MN_REGISTERED)
		return -EINVAL;
	if (mn_in_callback() || mn_in_section())
		return -EDEADLK;
	race_point("notifier:read_begin_inserted");
	mm = READ_ONCE(subscription->mm);
	if (unlikely(!mm)) {
		check_report("mmu_interval_read_begin() meets the remove of its interval");
		return -EINVAL;
	}
	subs = mm->subscriptions;
	/*
	 * Under subs->lock: a set_seq of a section that is open is either seen here, and we
	 * wait, or comes later, and read_retry sees it.
	 */
	spin_lock(&subs->lock);
	seq = READ_ONCE(subscription->seq);
	busy = seq == subs->seq;
	spin_unlock(&subs->lock);
	while (busy && READ_ONCE(subs->seq) == seq) {
		if (thread_signal_pending())
			return -EINTR;
		(void)wait_event_timeout(&subs->wait, READ_ONCE(subs->seq) != seq, SIGNAL_POLL_NS);
	}
	*out = seq;
	return 0;
}
