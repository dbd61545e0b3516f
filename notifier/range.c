/* SPDX-License-Identifier: MIT */
/*
 * Sections: telling every subscriber that a range is about to change, and that it has.
 *
 * Order of start: interval notifiers, the list, the EMM chain; of end: the same. A
 * section that must not block and is refused by one is closed for all that opened
 * it, in any of the three (rule N6), before start returns.
 *
 * One that everybody on the list opens, and nobody else, is a matter of nanoseconds, and
 * those are a matter of stores. So what is seldom leaves by a tail call, and little is kept
 * over a callback: each register saved is one.
 */
#include "lib/probe.h"
#include "notifier/notifier_internal.h"

/* --- the list ------------------------------------------------------------------------------ */

static inline void walk_begin(void)
{
	int idx = srcu_read_lock(&mn_srcu);

	ASSERT(idx == srcu_read_idx());
	(void)idx;
}

static inline void walk_end(void)
{
	srcu_read_unlock(&mn_srcu, srcu_read_idx());
}

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

/* Who cannot go on says so in range->flags: there is no result to carry along. */
static inline __attribute__((always_inline)) void call_starts(struct mmu_notifier_subscriptions *subs,
							      struct mmu_notifier_range *range, u32 flags)
{
	struct mmu_notifier *s;

	walk_begin();
	s = mn_first(subs);
	range->flags = flags | MN_IN_LIST;
	range->seen = s ? s->born : 0;
	for (; s; s = mn_next(s)) {
		/* One that fails does not stop the walk: the others must hear of it (rule N6). */
		if (s->ops->invalidate_range_start && unlikely(call_start(s, range)))
			range->flags |= MN_REFUSED;
		race_point("notifier:between_starts");
	}
	walk_end();
}

/* rule N7: those whose start was called, less those that left. */
static inline __attribute__((always_inline)) void call_ends(struct mmu_notifier_subscriptions *subs,
							    const struct mmu_notifier_range *range)
{
	walk_begin();
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
	walk_end();
}

/* --- a section ------------------------------------------------------------------------------ */

/* A section inside another of its thread, or no thread_line; or nobody ever listened, and a checker wants to know. */
static u32 open_more(struct mmu_notifier_subscriptions *subs, struct mmu_notifier_range *range)
{
	mn_slot_own()->more++;
	if (!subs || !(READ_ONCE(subs->interested) & MN_COUNT))
		return MN_OPEN;
	range->sections = srcu_read_lock(&subs->sections);
	return MN_OPEN | MN_COUNTED;
}

/* Before the list is looked at: registration by section finds it from here on. The slot is free. */
static inline void open_in_slot(struct mn_slot *slot, struct mmu_notifier_subscriptions *subs,
				struct mmu_notifier_range *range)
{
	/*
	 * Acquire: pairs with the addition in srcu_advance(), as in srcu_read_lock(). Release:
	 * who sees the ticket sees the thread's section before it over.
	 */
	smp_store_release(&slot->ticket, smp_load_acquire(&subs->sections.ticket));
	smp_store_release(&slot->word,
			  (uintptr_t)range->mm | MN_HEARD); /* who sees it sees its ticket, or a later one */
	smp_mb_light();					    /* B, pairs with A in srcu_advance() */
}

static inline __attribute__((always_inline)) void close_section(struct mmu_notifier_subscriptions *subs,
								struct mmu_notifier_range *range)
{
	u32 flags = range->flags;

	range->flags = 0;
	if (likely(flags & MN_SLOT)) {
		smp_store_release(&mn_slot_self()->word, 0); /* C, pairs with the acquire in slot_is_old() */
	} else {
		mn_slot_own()->more--;
		if (flags & MN_COUNTED)
			srcu_read_unlock(&subs->sections, range->sections);
	}
	lock_map_release_read(&mn_section_map);
}

/* Beside the list, or instead of it: what only some address spaces have. */
static __attribute__((noinline)) void call_all_starts(struct mmu_notifier_subscriptions *subs,
						      struct mmu_notifier_range *range, u32 interested)
{
	/* EMM knows no callback that may not block (rule E5). */
	if (((interested & MN_EMM) && !range->blockable) || ((interested & MN_ITREE) && mn_itree_start(subs, range))) {
		range->flags |= MN_REFUSED;
		return;
	}
	if (interested & MN_LIST)
		call_starts(subs, range, range->flags);
	if ((interested & MN_EMM) && !(range->flags & MN_REFUSED))
		mn_emm_start(subs, range);
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

static __attribute__((noinline, cold)) int bad_range(const struct mmu_notifier_range *range)
{
	check_report("a section over %#llx..%#llx", (unsigned long long)range->start, (unsigned long long)range->end);
	return -EINVAL;
}

/* What is heard by others than a list, or nested, or the first of its thread. The section is open. */
static __attribute__((noinline)) int start_by_kind(struct mmu_notifier_subscriptions *subs,
						   struct mmu_notifier_range *range, u32 flags)
{
	range->flags = flags;
	if (subs)
		call_all_starts(subs, range, READ_ONCE(subs->interested) & MN_LISTEN);
	return likely(!(range->flags & MN_REFUSED)) ? 0 : start_unwind(subs, range);
}

static __attribute__((noinline)) int start_more(struct mmu_notifier_subscriptions *subs,
						struct mmu_notifier_range *range)
{
	u32 flags = open_more(subs, range);

	race_point("notifier:section_counted");
	return start_by_kind(subs, range, flags);
}

int mn_range_start(struct mmu_notifier_range *range)
{
	struct mmu_notifier_subscriptions *subs = READ_ONCE(range->mm->subscriptions);
	struct mn_slot *slot;

	if (unlikely(range->start >= range->end || range->end - 1 > range->mm->last))
		return bad_range(range);
	lock_map_acquire_read(&mn_section_map);
	mn_trace(START, range->start, range->end, range->event, range->blockable);
	probe3(invalidate_start, range->start, range->end, range->event);
	/* In a release build it was tried inline. */
	if (CHECKING && subs && READ_ONCE(subs->interested) == MN_COUNT && mn_quick_start(range->mm, subs)) {
		range->flags = MN_QUICK;
		return 0;
	}
	slot = mn_slot_self();
	if (unlikely((CHECKING && !subs) || slot->word))
		return start_more(subs, range);
	open_in_slot(slot, subs, range);
	race_point("notifier:section_counted");
	/* To be believed under the locks of a section, or once it can be found: as admission is. */
	if (unlikely((READ_ONCE(subs->interested) & MN_LISTEN) != MN_LIST))
		return start_by_kind(subs, range, MN_OPEN | MN_SLOT);
	call_starts(subs, range, MN_OPEN | MN_SLOT);
	return likely(!(range->flags & MN_REFUSED)) ? 0 : start_unwind(range->mm->subscriptions, range);
}

static __attribute__((noinline)) void end_by_kind(struct mmu_notifier_subscriptions *subs,
						  struct mmu_notifier_range *range)
{
	if (!range->flags) {
		check_report("the end of a section that is not open");
		return;
	}
	if (CHECKING && (range->flags & MN_QUICK)) {
		range->flags = 0;
		mn_quick_end(range->mm);
		lock_map_release_read(&mn_section_map);
		return;
	}
	if (range->flags & MN_IN_ITREE)
		mn_itree_end(subs);
	if ((range->flags & MN_IN_LIST) || (CHECKING && subs && READ_ONCE(subs->first)))
		call_ends(subs, range);
	if (range->flags & MN_IN_EMM)
		mn_emm_end(subs, range);
	close_section(subs, range);
}

void mn_range_end(struct mmu_notifier_range *range)
{
	struct mmu_notifier_subscriptions *subs = READ_ONCE(range->mm->subscriptions);

	if (range->flags) {
		mn_trace(END, range->start, range->end, range->event, 0);
		probe3(invalidate_end, range->start, range->end, range->event);
	}
	if (unlikely(range->flags != (MN_OPEN | MN_SLOT | MN_IN_LIST))) {
		end_by_kind(subs, range);
		return;
	}
	call_ends(subs, range);
	range->flags = 0;
	smp_store_release(&mn_slot_self()->word, 0); /* C, pairs with the acquire in slot_is_old() */
	lock_map_release_read(&mn_section_map);
}
