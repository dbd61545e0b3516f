/* SPDX-License-Identifier: MIT */
/*
 * Sections: telling every subscriber that a range is about to change, and that it has.
 *
 * Order of start: interval notifiers, the list, the EMM chain; of end: the same. A
 * section that must not block and is refused by one is closed for all that opened
 * it, in any of the three (rule N6), before start returns.
 */
#include "lib/membarrier.h"
#include "lib/probe.h"
#include "notifier/notifier_internal.h"

/* --- counting, for admission by section (timeline in admission.c) ------------------------ */

static void mn_slot_open(struct mmu_notifier_subscriptions *subs, struct mmu_notifier_range *range)
{
	u32 id = thread_id();
	u64 *word = &subs->slots[id].word;

	WRITE_ONCE(*word, *word + 1);
	range->slot = id + 1;
	smp_mb_light(); /* A, pairs with B in wait_for_sections(): we see the newcomer, or it us */
}

static void mn_slot_close(struct mmu_notifier_subscriptions *subs, struct mmu_notifier_range *range)
{
	u64 *word = &subs->slots[range->slot - 1].word;
	u64 left = *word - 1;

	/* Pairs with the acquire in wait_for_slot(): who sees us gone sees what we did. */
	smp_store_release(word, left & MN_SLOT_OPEN ? left : left + MN_SLOT_FELL);
}

/* --- the list ------------------------------------------------------------------------------ */

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

/* rule N7: those whose start was called, less those that left. */
static void call_ends(struct mmu_notifier_subscriptions *subs, const struct mmu_notifier_range *range)
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

static int call_starts(struct mmu_notifier_subscriptions *subs, struct mmu_notifier_range *range)
{
	int idx = srcu_read_lock(&mn_srcu);
	struct mmu_notifier *first = mn_first(subs);
	int err = 0;

	range->seen = first ? first->born : 0;
	range->flags |= MN_IN_LIST;
	for (struct mmu_notifier *s = first; s; s = mn_next(s)) {
		/* One that fails does not stop the walk: the others must hear of it (rule N6). */
		if (s->ops->invalidate_range_start && call_start(s, range))
			err = -EAGAIN;
		race_point("notifier:between_starts");
	}
	srcu_read_unlock(&mn_srcu, idx);
	return err;
}

/* --- a section -------------------------------------------------------------------------------- */

static int open_all(struct mmu_notifier_subscriptions *subs, struct mmu_notifier_range *range)
{
	int err;

	if (READ_ONCE(subs->emm) && !range->blockable)
		return -EAGAIN; /* EMM knows no callback that may not block (rule E5) */
	if (READ_ONCE(subs->has_itree)) {
		err = mn_itree_start(subs, range);
		if (err)
			return err;
	}
	if (READ_ONCE(subs->first)) {
		err = call_starts(subs, range);
		if (err) {
			if (!mutant(MUTANT_N6_NO_UNWIND))
				call_ends(subs, range);
			/* Catalogue 9: the interval part has succeeded before, and nobody else ends it. */
			if ((range->flags & MN_IN_ITREE) && !mutant(MUTANT_N6_NO_INTERVAL_UNWIND))
				mn_itree_end(subs);
			return err;
		}
	}
	if (READ_ONCE(subs->emm))
		mn_emm_start(subs, range);
	return 0;
}

/* Anybody? Admission says when this may be believed: under the locks of a section, or once it is counted. */
static inline bool listening(const struct mmu_notifier_subscriptions *subs)
{
	return READ_ONCE(subs->first) || READ_ONCE(subs->has_itree) || READ_ONCE(subs->emm);
}

static inline void close_section(struct mmu_notifier_subscriptions *subs, struct mmu_notifier_range *range)
{
	if (range->slot)
		mn_slot_close(subs, range);
	range->flags = 0;
	mn_sections_open--;
	lock_map_release_read(&mn_section_map);
}

/* Apart from the rest, so that a section nobody listens to saves no registers. */
static __attribute__((noinline)) int call_all_starts(struct mmu_notifier_subscriptions *subs,
						     struct mmu_notifier_range *range)
{
	int err = open_all(subs, range);

	if (unlikely(err))
		close_section(subs, range);
	return err;
}

static __attribute__((noinline)) void call_all_ends(struct mmu_notifier_subscriptions *subs,
						    struct mmu_notifier_range *range)
{
	if (range->flags & MN_IN_ITREE)
		mn_itree_end(subs);
	if ((range->flags & MN_IN_LIST) || (CHECKING && READ_ONCE(subs->first)))
		call_ends(subs, range);
	if (range->flags & MN_IN_EMM)
		mn_emm_end(subs, range);
	close_section(subs, range);
}

int mn_range_start(struct mmu_notifier_range *range)
{
	struct mmu_notifier_subscriptions *subs = READ_ONCE(range->mm->subscriptions);
	hva_t limit = range->mm->ops->limit;

	if (unlikely(range->start >= range->end || (limit && range->end > limit))) {
		check_report("a section over %#llx..%#llx", (unsigned long long)range->start,
			     (unsigned long long)range->end);
		return -EINVAL;
	}
	lock_map_acquire_read(&mn_section_map);
	mn_sections_open++;
	range->seen = 0;
	range->slot = 0;
	range->flags = MN_OPEN;
	mn_trace(START, range->start, range->end, range->event, range->blockable);
	probe3(invalidate_start, range->start, range->end, range->event);
	if (!subs)
		return 0;
	if (subs->slots)
		mn_slot_open(subs, range);
	race_point("notifier:section_counted");
	return listening(subs) ? call_all_starts(subs, range) : 0;
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
	if ((range->flags != MN_OPEN) || (CHECKING && subs && READ_ONCE(subs->first)))
		call_all_ends(subs, range);
	else
		close_section(subs, range);
}
