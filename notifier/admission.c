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
 * By section: a section counts itself in a slot of its own thread before it looks at
 * the list; the newcomer publishes itself first and looks at the slots after.
 *
 *   section (thread i)             register
 *   ------------------             --------
 *   slot[i] = open                 publish
 *   smp_mb_light (A)               smp_mb_heavy (B)
 *   walk the list: start           for each slot i that is open:
 *   clear entries                    wait until slot[i] has been closed, or
 *   walk the list: end                 a signal: retract, wait for walkers, -EINTR
 *   slot[i] = closed, release      return
 *                                  a fault of the newcomer finds the entries cleared
 *
 * A pairs with B, so of the walk and the look at slot[i] at least one sees the
 * other's store. If the walk sees the newcomer, its start is called: nothing missed.
 * If not, the slot is seen open, and register returns after the section is over (the
 * load of the slot pairs with the release): until then the newcomer holds no
 * translation, and what it looks up later is what the section left. Either way no
 * start that matters is missed. An end is only delivered up to range->seen, the
 * youngest subscription on the list when start walked it: births are numbered in the
 * order of publication and the list is in that order, so exactly those at or below it
 * were called. The wait ends: a slot is waited for until it falls to no section
 * once, however many open later.
 */
#include "lib/membarrier.h"
#include "notifier/notifier_internal.h"

#define POLL_SPINS 200
#define POLL_MIN_NS 20000
#define POLL_MAX_NS 1000000

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

/* Sections do not pay for waking us: look again, ever more seldom. */
static int wait_for_slot(const struct mn_slot *slot, u64 word)
{
	u64 ns = POLL_MIN_NS;

	for (u32 turn = 0;; turn++) {
		u64 now = smp_load_acquire(&slot->word); /* pairs with the release in mn_slot_close() */

		if (now / MN_SLOT_FELL != word / MN_SLOT_FELL)
			return 0;
		if (thread_signal_pending())
			return -EINTR;
		if (turn < POLL_SPINS) {
			cpu_relax();
		} else {
			thread_sleep_ns(ns);
			ns = min(ns * 2, (u64)POLL_MAX_NS);
		}
	}
}

static int wait_for_sections(const struct mmu_notifier_subscriptions *subs)
{
	u32 high;

	might_sleep();
	smp_mb_heavy();		       /* B, pairs with A in mn_slot_open() */
	high = READ_ONCE(thread_high); /* who is above raised it before it opened a section, by the same pairing */
	for (u32 i = 0; i < high; i++) {
		u64 word = smp_load_acquire(&subs->slots[i].word);
		int err;

		if (!(word & MN_SLOT_OPEN))
			continue;
		err = wait_for_slot(&subs->slots[i], word);
		if (err)
			return err;
	}
	return 0;
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
	spin_unlock(&subs->lock);
	race_point("notifier:published");
	if (!newcomer->careless)
		err = wait_for_sections(subs);
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
	WRITE_ONCE(subs->interested, 1);
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
