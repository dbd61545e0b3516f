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
 * By section: every section stands in the slot of its thread (struct mn_slot), before it
 * looks at the list; the newcomer publishes itself first and waits for slots after. A
 * section inside another of its thread finds the slot taken: it is an SRCU reader instead,
 * in a domain of its address space, by the same argument.
 *
 *   section (thread i)                     register
 *   ------------------                     --------
 *   ticket, then slot[i] = this mm         publish
 *   barrier B                              mine = ++ticket; barrier A
 *   walk the list: start                   wait for each slot that holds this mm with a
 *   clear entries                            ticket older than mine
 *   walk the list: end                       (a signal: retract, wait for walkers, -EINTR)
 *   slot[i] = none: release C              return
 *                                          a fault of the newcomer finds the entries cleared
 *
 * A pairs with B, so of the walk and the look at slot[i] at least one sees the other's
 * store. If the walk sees the newcomer, its start is called: nothing missed. If not, the
 * section is an older one, and register returns after it is over: until then the newcomer
 * holds no translation, and what it looks up later is what the section left. Either way no
 * start that matters is missed. An end is only delivered up to range->seen, the youngest
 * subscription on the list when start walked it: births are numbered in the order of
 * publication and the list is in that order, so exactly those at or below it were called.
 *
 * Sections that open later are not waited for, however many: they draw mine or a later
 * ticket. One that meets nobody on the list draws none, and is old in any case: it stood in
 * its slot before A, for after A every section sees the newcomer, until that is gone. The
 * waiter reads the slot, then the ticket; the section writes the ticket, then the slot. So
 * a ticket goes with the slot, or with a later section of the thread, and then the one that
 * is waited for is over.
 */
#include "notifier/notifier_internal.h"

int mn_mm_write_lock(struct notifier_mm *mm)
{
	if (mm->admission != NOTIFIER_ADMIT_MM_LOCK)
		return 0;
	if (mm->ops->is_write_locked && mm->ops->is_write_locked(mm)) {
		check_report("registration would wait for the mm's write lock, which its caller holds: _locked");
		return -EDEADLK;
	}
	mm->ops->lock_for_write(mm);
	return 0;
}

int mn_mm_check_write_locked(struct notifier_mm *mm)
{
	if (!mm->ops->is_write_locked || mm->ops->is_write_locked(mm))
		return 0;
	check_report("registration by _locked without the mm's write lock");
	return -EINVAL;
}

void mn_mm_write_unlock(struct notifier_mm *mm)
{
	if (mm->admission == NOTIFIER_ADMIT_MM_LOCK)
		mm->ops->unlock_for_write(mm);
}

static bool slot_is_old(const struct mn_slot *slot, const struct notifier_mm *mm, u64 mine)
{
	/* Both pair with C and with the stores of later sections: what the section did is seen when it is over. */
	uintptr_t word = smp_load_acquire(&slot->word);

	if ((word & ~MN_HEARD) != (uintptr_t)mm)
		return false;
	return !(word & MN_HEARD) || smp_load_acquire(&slot->ticket) < mine;
}

/* Wait for the sections that may not have seen what was published. Return: 0; -EINTR: a signal is pending. */
static int wait_for_sections(struct notifier_mm *mm)
{
	struct srcu_struct *nested = &mm->subscriptions->sections;
	u64 mine = srcu_advance(nested);
	u32 high = READ_ONCE(thread_high);

	for (u32 i = 1; i <= high; i++)
		for (u32 turn = 0; slot_is_old(&mn_slots[i], mm, mine); srcu_poll(&turn))
			if (thread_signal_pending())
				return -EINTR;
	return srcu_wait(nested, mine, true);
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
		err = wait_for_sections(mm);
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
