/* SPDX-License-Identifier: MIT */
/*
 * Taking entries away. Whoever zaps owes a flush before the mmu lock is dropped:
 * the next one who takes it finds the entries gone, owes nothing, and its caller
 * frees the frames (rule K12; catalogue 28):
 *
 *   zapper                            another zapper of the same gfn
 *   ------                            ------------------------------
 *   write_lock, zap
 *   write_unlock, TLBs still hold it
 *                                     write_lock: nothing there, no flush; write_unlock
 *                                     host frees the frame
 *   flush: too late
 *
 * (mutant k12-no-flush; test k12_zap_is_flushed.) The same holds when a long zap
 * yields the lock: what is owed is paid before, and only then forgotten (mutant
 * k12-flush-lost-on-yield; test k12_flush_survives_a_yield).
 *
 * Sections empty leaves and keep tables, which faults will want again; a slot's
 * tables go with the slot.
 */
#include "mmu/zap.h"

/* rule K13: let faults and other sections in, owing nothing while the lock is away. */
static void zap_yield(struct mmu *mmu, struct pt_iter *it, bool *flush)
{
	if (*flush && !mutant(MUTANT_K12_FLUSH_LOST_ON_YIELD))
		mmu_flush_remote_tlbs(mmu);
	*flush = false;
	write_unlock(&mmu->lock);
	might_sleep(); /* the processor may be somebody else's for a while: never in a section that must not block */
	race_point("zap:yielded");
	write_lock(&mmu->lock);
	pt_iter_yielded(it);
}

bool zap_tables_locked(struct mmu *mmu, gfn_t start, gfn_t end, bool may_yield, bool flush)
{
	unsigned int visited = 0, level;
	struct pt_iter it;
	u64 spte;

	lockdep_assert_held_write(&mmu->lock);
	pt_find(mmu, start, &spte, &level);
	if (!spte_present(mmu->format, spte) && (start ^ (end - 1)) < pt_pages(level))
		return flush; /* that entry speaks for all of them */
	for_each_leaf_spte(&it, mmu, start, end)
	{
		if (may_yield && ++visited >= mmu_zap_batch && pt_iter_progressed(&it)) {
			zap_yield(mmu, &it, &flush);
			visited = 0;
			continue;
		}
		if (!spte_leaf(mmu->format, it.old, it.level))
			continue;
		spte_change_locked(mmu, it.sptep, it.gfn, it.level, 0);
		flush = true;
	}
	return flush;
}

/*
 * Freeze the entries of tables that lie in the range whole; they keep the table's
 * frame. Walkers in guest mode may still be in it.
 */
static bool retire_tables_locked(struct mmu *mmu, gfn_t start, gfn_t end)
{
	const struct mmu_format *format = mmu->format;
	bool retired = false;
	struct pt_iter it;

	for_each_spte(&it, mmu, start, end)
	{
		if (!spte_table(format, it.old, it.level) || it.gfn < start || it.gfn + pt_pages(it.level) > end)
			continue;
		spte_change_locked(mmu, it.sptep, it.gfn, it.level, spte_make_frozen(format, spte_pfn(format, it.old)));
		retired = true;
	}
	return retired;
}

static void free_retired_locked(struct mmu *mmu, gfn_t start, gfn_t end)
{
	const struct mmu_format *format = mmu->format;
	struct pt_iter it;

	for_each_spte(&it, mmu, start, end)
	{
		if (!spte_frozen(format, it.old))
			continue;
		spte_change_locked(mmu, it.sptep, it.gfn, it.level, 0);
		table_free_tree(mmu, table_at(mmu, spte_pfn(format, it.old)), it.level - 1);
	}
}

void zap_slot(struct mmu *mmu, gfn_t start, gfn_t end)
{
	bool flush, retired;

	write_lock(&mmu->lock);
	flush = zap_tables_locked(mmu, start, end, true, false);
	/* Nobody fills the range again: the slot is invalid, and faults that saw it valid are over. */
	retired = retire_tables_locked(mmu, start, end);
	if (flush || retired)
		mmu_flush_remote_tlbs(mmu);
	write_unlock(&mmu->lock);
	if (!retired)
		return;
	synchronize_rcu(); /* walkers that read an entry before it froze */
	write_lock(&mmu->lock);
	free_retired_locked(mmu, start, end);
	write_unlock(&mmu->lock);
}
