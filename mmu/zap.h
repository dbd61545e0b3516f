/* SPDX-License-Identifier: MIT */
/*
 * Zapping what most sections are about: no more than one leaf table. One way down then, and
 * no iterator, which takes longer to set up than a page to zap.
 */
#ifndef MMU_ZAP_H
#define MMU_ZAP_H

#include "mmu/pt_iter.h"
#include "mmu/table.h"

/* zap_range_locked() of any range. */
bool zap_tables_locked(struct mmu *mmu, gfn_t start, gfn_t end, bool may_yield, bool flush);

/* Entries of one leaf table. */
static inline bool zap_leaves_locked(struct mmu *mmu, u64 *sptep, gfn_t start, gfn_t end, bool flush)
{
	do {
		if (spte_present(mmu->format, READ_ONCE(*sptep))) {
			spte_change_locked(mmu, sptep, start, PT_LEVEL_4K, 0);
			flush = true;
		}
		sptep++;
	} while (++start < end);
	return flush;
}

/*
 * The leaf table of @gfn, or NULL: it has none. Neighbours go one after the other, so the last
 * table is kept in mind until it goes (spte_changed(); mutant k12-stale-table; test
 * k12_zap_finds_the_new_table).
 */
static inline u64 *leaf_table_locked(struct mmu *mmu, gfn_t gfn)
{
	unsigned int level;
	u64 spte, *sptep;

	if (likely(gfn >> PT_INDEX_BITS == mmu->zap_index))
		return mmu->zap_table;
	sptep = pt_find(mmu, gfn, &spte, &level);
	if (level > PT_LEVEL_4K)
		return NULL;
	mmu->zap_index = gfn >> PT_INDEX_BITS;
	mmu->zap_table = sptep - pt_index(gfn, PT_LEVEL_4K);
	return mmu->zap_table;
}

/*
 * Empty every leaf that overlaps [start, end). Context: mmu lock for writing; may
 * drop and retake it if @may_yield, having flushed first (rule K12).
 * Return: true if TLBs must be flushed before the lock is dropped: @flush, or
 * something was present.
 */
static inline bool zap_range_locked(struct mmu *mmu, gfn_t start, gfn_t end, bool may_yield, bool flush)
{
	gfn_t differ = start ^ (end - 1);

	lockdep_assert_held_write(&mmu->lock);
	if (likely(differ < PT_ENTRIES && end - start < mmu_zap_batch)) {
		u64 *table = leaf_table_locked(mmu, start);

		if (likely(table))
			return zap_leaves_locked(mmu, &table[pt_index(start, PT_LEVEL_4K)], start, end, flush);
	}
	return zap_tables_locked(mmu, start, end, may_yield, flush);
}

#endif /* MMU_ZAP_H */
