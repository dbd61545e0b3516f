/* SPDX-License-Identifier: MIT */
/*
 * Sections: telling every subscriber that a range is about to change, and that it has.
 *
 * Who opens a section holds a lock that registration takes for writing (rule N3), so
 * the set of subscribers can only shrink between start and end (rule N7), and an
 * empty list stays empty: neither needs a barrier of its own.
 */
#include "notifier/notifier_internal.h"

static int call_start(struct mmu_notifier *subscription, const struct mmu_notifier_range *range)
{
	int err;

	mn_callback_enter();
	if (!range->blockable)
		non_block_start();
	err = subscription->ops->invalidate_range_start(subscription, range);
	if (!range->blockable)
		non_block_end();
	mn_callback_leave();
	if (likely(!err))
		return 0;
	mn_trace(START_FAILED, range->start, range->end, subscription, err);
	ASSERT(!range->blockable);			  /* invariant MN1: a blockable start succeeds (rule N6) */
	ASSERT(err == -EAGAIN);				  /* invariant MN2 */
	ASSERT(!subscription->ops->invalidate_range_end); /* invariant MN3: who can fail has no end (rule N6) */
	return -EAGAIN;
}

static void call_ends(struct mmu_notifier_subscriptions *subs, const struct mmu_notifier_range *range)
{
	for (struct mmu_notifier *s = mn_first(subs); s; s = mn_next(s)) {
		if (!s->ops->invalidate_range_end)
			continue;
		mn_callback_enter();
		if (!range->blockable)
			non_block_start();
		s->ops->invalidate_range_end(s, range);
		if (!range->blockable)
			non_block_end();
		mn_callback_leave();
	}
}

int mn_range_start(struct mmu_notifier_range *range)
{
	struct mmu_notifier_subscriptions *subs = READ_ONCE(range->mm->subscriptions);
	int err = 0;
	int idx;

	if (!subs)
		return 0;
	ASSERT(range->start < range->end);
	mn_trace(START, range->start, range->end, range->event, range->blockable);
	idx = srcu_read_lock(&mn_srcu);
	for (struct mmu_notifier *s = mn_first(subs); s; s = mn_next(s)) {
		/* One that fails does not stop the walk: the others must hear of it (rule N6). */
		if (s->ops->invalidate_range_start && call_start(s, range))
			err = -EAGAIN;
		race_point("notifier:between_starts");
	}
	/*
	 * A subscriber that fails a blockable start has broken its contract: the section is
	 * opened all the same, since the owner of the address space cannot go back.
	 */
	if (range->blockable)
		err = 0;
	if (err && !mutant(MUTANT_N6_NO_UNWIND))
		call_ends(subs, range);
	srcu_read_unlock(&mn_srcu, idx);
	return err;
}

void mn_range_end(struct mmu_notifier_range *range)
{
	struct mmu_notifier_subscriptions *subs = READ_ONCE(range->mm->subscriptions);
	int idx;

	if (!subs)
		return;
	mn_trace(END, range->start, range->end, range->event, 0);
	idx = srcu_read_lock(&mn_srcu);
	call_ends(subs, range);
	srcu_read_unlock(&mn_srcu, idx);
}
