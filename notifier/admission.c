/* SPDX-License-Identifier: MIT */
/*
 * Admission: how a newcomer becomes visible without meeting a section half way.
 * "Missing an end is fine, missing a start is never fine" (rule N3).
 *
 * By mm_lock: every lock under which a section can run is taken; none is open then.
 *
 *   section                        register
 *   -------                        --------
 *   one of the locks
 *   start walks the list           take_all_locks waits
 *   clear entries; end
 *   unlock                         take_all_locks returns; publish
 *                                  a fault of the newcomer finds the entries cleared
 *
 * By section: every section is an SRCU reader, in a domain of its address space, before
 * it looks at the list; the newcomer publishes itself first and waits for readers after.
 *
 *   section (thread i)                     register
 *   ------------------                     --------
 *   srcu_read_lock: slot[i], barrier B     publish
 *   walk the list: start                   synchronize_srcu: barrier A, then wait for
 *   clear entries                            each slot that an older section holds
 *   walk the list: end                       (a signal: retract, wait for walkers, -EINTR)
 *   srcu_read_unlock: release              return
 *                                          a fault of the newcomer finds the entries cleared
 *
 * A pairs with B (lib/srcu.c), so of the walk and the look at slot[i] at least one sees
 * the other's store. If the walk sees the newcomer, its start is called: nothing missed.
 * If not, the section is an older one, and register returns after it is over: until then
 * the newcomer holds no translation, and what it looks up later is what the section left.
 * Either way no start that matters is missed. An end is only delivered up to
 * range->seen, the youngest subscription on the list when start walked it: births are
 * numbered in the order of publication and the list is in that order, so exactly those
 * at or below it were called. Sections that open later are not waited for, however many.
 */
#include "notifier/notifier_internal.h"

void mn_mm_write_lock(struct notifier_mm *mm)
{
	if (mm->admission == NOTIFIER_ADMIT_MM_LOCK)
		mm->ops->lock_for_write(mm);
}

void mn_mm_write_unlock(struct notifier_mm *mm)
{
	if (mm->admission == NOTIFIER_ADMIT_MM_LOCK)
		mm->ops->unlock_for_write(mm);
}

static int admit_by_section(struct notifier_mm *mm, const struct mn_newcomer *newcomer)
{
	struct mmu_notifier_subscriptions *subs = mm->subscriptions;
	int err = 0;

	/* For the checker: from here we wait for sections, whoever has them open. */
	lock_map_acquire(&mn_section_map);
	lock_map_release(&mn_section_map);
	spin_lock(&subs->lock);
	newcomer->publish_locked(subs, newcomer->what);
	mn_interest_locked(subs);
	spin_unlock(&subs->lock);
	race_point("notifier:published");
	if (!newcomer->careless)
		err = synchronize_srcu_killable(&subs->sections);
	if (!err)
		return 0;
	spin_lock(&subs->lock);
	newcomer->retract_locked(subs, newcomer->what);
	spin_unlock(&subs->lock);
	synchronize_srcu(&mn_srcu);
	return err;
}

static int admit_by_mm_lock(struct notifier_mm *mm, const struct mn_newcomer *newcomer)
{
	struct mmu_notifier_subscriptions *subs = mm->subscriptions, *made = NULL;
	int err;

	if (!subs) {
		/* Before the locks: memory that is short may want them (rule N1). */
		made = mn_subscriptions_alloc();
		if (!made)
			return -ENOMEM;
		subs = made;
	}
	err = newcomer->careless ? 0 : mm->ops->take_all_locks(mm);
	if (err) {
		mem_free(made);
		return err;
	}
	if (made)
		smp_store_release(&mm->subscriptions, made); /* rule N1; pairs with lock-less readers of the pointer */
	spin_lock(&subs->lock);
	newcomer->publish_locked(subs, newcomer->what);
	mn_interest_locked(subs);
	spin_unlock(&subs->lock);
	if (!newcomer->careless)
		mm->ops->drop_all_locks(mm);
	return 0;
}

int mn_admit(struct notifier_mm *mm, const struct mn_newcomer *newcomer)
{
	if (READ_ONCE(mm->users) <= 0)
		return -EINVAL;
	if (mm->admission == NOTIFIER_ADMIT_SECTION)
		return admit_by_section(mm, newcomer);
	return admit_by_mm_lock(mm, newcomer);
}
