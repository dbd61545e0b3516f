/* SPDX-License-Identifier: MIT */
/*
 * Sections: telling every subscriber that a range is about to change, and that it has.
 *
 * Order of start: interval notifiers, the list, the EMM chain; of end: the same. A
 * section that must not block and is refused by one is closed for all that opened
 * it, in any of the three (rule N6), before start returns.
 */
#include "lib/probe.h"
#include "notifier/notifier_internal.h"

/* --- the list ------------------------------------------------------------------------------ */

/* Return: 0: opened all the same; -EAGAIN. */
static __attribute__((noinline, cold)) int start_failed(const struct mmu_notifier *subscription,
							const struct mmu_notifier_range *range, int err)
{
	mn_trace(START_FAILED, range->start, range->end, subscription, err);
	if (range->blockable)
		check_report("a blockable start answers %d (invariant MN1)", err);
	else if (err != -EAGAIN)
		check_report("a start fails with %d, not -EAGAIN (invariant MN2)", err);
	else if (subscription->ops->invalidate_range_end)
		check_report("a subscriber that can fail has an end callback (invariant MN3)");
	/*
	 * One that fails a blockable start has broken its contract: the section is opened
	 * all the same, since the owner of the address space cannot go back.
	 */
	return range->blockable ? 0 : -EAGAIN;
}

static inline int call_start(struct mmu_notifier *subscription, const struct mmu_notifier_range *range)
{
	int err;

	mn_callback_enter();
	if (!range->blockable)
		non_block_start();
	err = subscription->ops->invalidate_range_start(subscription, range);
	if (!range->blockable)
		non_block_end();
	mn_callback_leave();
	return likely(!err) ? 0 : start_failed(subscription, range, err);
}

static inline __attribute__((always_inline)) int call_starts(struct mmu_notifier_subscriptions *subs,
							     struct mmu_notifier_range *range)
{
	int idx = srcu_read_lock(&mn_srcu), err = 0;
	struct mmu_notifier *first;

	first = mn_first(subs);
	range->seen = first ? first->born : 0;
	range->flags |= MN_IN_LIST;
	for (struct mmu_notifier *s = first; s; s = mn_next(s)) {
		/* One that fails does not stop the walk: the others must hear of it (rule N6). */
		if (s->ops->invalidate_range_start && unlikely(call_start(s, range)))
			err = -EAGAIN;
		race_point("notifier:between_starts");
	}
	srcu_read_unlock(&mn_srcu, idx);
	return err;
}

/* rule N7: those whose start was called, less those that left. */
static inline __attribute__((always_inline)) void call_ends(struct mmu_notifier_subscriptions *subs,
							    const struct mmu_notifier_range *range)
{
	int idx = srcu_read_lock(&mn_srcu);

	for (struct mmu_notifier *s = mn_first(subs); s; s = mn_next(s)) {
		if (unlikely(s->born > range->seen)) {
			if (range->mm->admission == NOTIFIER_ADMIT_MM_LOCK)
				check_report("a subscription became visible in an open section (rule N3)");
			continue;
		}
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
	srcu_read_unlock(&mn_srcu, idx);
}

/* --- a section ------------------------------------------------------------------------------ */

static inline void close_section(struct mmu_notifier_subscriptions *subs, struct mmu_notifier_range *range)
{
	if (range->flags & MN_COUNTED)
		srcu_read_unlock(&subs->sections, range->sections);
	range->flags = 0;
	mn_section_leave();
}

/* Beside the list, or instead of it: what only some address spaces have. */
static __attribute__((noinline)) int call_all_starts(struct mmu_notifier_subscriptions *subs,
						     struct mmu_notifier_range *range, u32 interested)
{
	int err = 0;

	if ((interested & MN_EMM) && !range->blockable)
		return -EAGAIN; /* EMM knows no callback that may not block (rule E5) */
	if (interested & MN_ITREE)
		err = mn_itree_start(subs, range);
	if (err)
		return err;
	if (interested & MN_LIST)
		err = call_starts(subs, range);
	if (!err && (interested & MN_EMM))
		mn_emm_start(subs, range);
	return err;
}

/* Nobody else ends it for those who have started: the caller will not (rule N6). */
static __attribute__((noinline, cold)) int start_unwind(struct mmu_notifier_subscriptions *subs,
							struct mmu_notifier_range *range)
{
	if ((range->flags & MN_IN_LIST) && !mutant(MUTANT_N6_NO_UNWIND))
		call_ends(subs, range);
	/* Catalogue 9: the interval part has succeeded before. */
	if ((range->flags & MN_IN_ITREE) && !mutant(MUTANT_N6_NO_INTERVAL_UNWIND))
		mn_itree_end(subs);
	close_section(subs, range);
	return -EAGAIN;
}

static __attribute__((noinline)) void call_all_ends(struct mmu_notifier_subscriptions *subs,
						    struct mmu_notifier_range *range)
{
	if (range->flags & MN_IN_ITREE)
		mn_itree_end(subs);
	if (range->flags & MN_IN_LIST)
		call_ends(subs, range);
	if (range->flags & MN_IN_EMM)
		mn_emm_end(subs, range);
	close_section(subs, range);
}

static __attribute__((noinline, cold)) int bad_range(const struct mmu_notifier_range *range)
{
	check_report("a section over %#llx..%#llx", (unsigned long long)range->start, (unsigned long long)range->end);
	return -EINVAL;
}

int mn_range_start(struct mmu_notifier_range *range)
{
	struct mmu_notifier_subscriptions *subs = READ_ONCE(range->mm->subscriptions);
	u32 interested;
	int err;

	/* Without a limit, limit - 1 is the highest address. */
	if (unlikely(range->start >= range->end || range->end - 1 > range->mm->ops->limit - 1))
		return bad_range(range);
	mn_section_enter();
	range->flags = MN_OPEN;
	mn_trace(START, range->start, range->end, range->event, range->blockable);
	probe3(invalidate_start, range->start, range->end, range->event);
	if (!subs)
		return 0;
	if (READ_ONCE(subs->interested) & MN_COUNT) {
		range->sections = srcu_read_lock(&subs->sections);
		range->flags = MN_OPEN | MN_COUNTED;
	}
	race_point("notifier:section_counted");
	/* To be believed under the locks of a section, or once it is counted: as admission is. */
	interested = READ_ONCE(subs->interested) & MN_LISTEN;
	if (!interested)
		return 0;
	if (likely(interested == MN_LIST))
		err = call_starts(subs, range);
	else
		err = call_all_starts(subs, range, interested);
	return likely(!err) ? 0 : start_unwind(subs, range);
}

void mn_range_end(struct mmu_notifier_range *range)
{
	struct mmu_notifier_subscriptions *subs = READ_ONCE(range->mm->subscriptions);

	if (unlikely(!range->flags)) {
		check_report("the end of a section that is not open");
		return;
	}
	mn_trace(END, range->start, range->end, range->event, 0);
	probe3(invalidate_end, range->start, range->end, range->event);
	if (unlikely(range->flags & (MN_IN_ITREE | MN_IN_EMM))) {
		call_all_ends(subs, range);
		return;
	}
	if ((range->flags & MN_IN_LIST) || (CHECKING && subs && READ_ONCE(subs->first)))
		call_ends(subs, range);
	close_section(subs, range);
}
