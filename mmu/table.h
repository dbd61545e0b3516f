/* SPDX-License-Identifier: MIT */
/*
 * The one place where entries are written: here, for who zaps pages by the million, and in
 * spte_try_change(), for all who do not hold the mmu lock alone.
 */
#ifndef MMU_TABLE_H
#define MMU_TABLE_H

#include "mmu/mmu_internal.h"

/* A leaf goes: what the processor noted in it is the page's from now on. */
static inline void leaf_gone(struct mmu *mmu, u64 old, unsigned int level)
{
	mmu_count(mmu, MMU_NR_ZAPPED);
	if (spte_accessed(mmu->format, old))
		set_pages_accessed(mmu->arena, spte_pfn(mmu->format, old), pt_pages(level),
				   spte_dirty(mmu->format, old));
}

/*
 * The choke point: every entry that anybody but the walking processor writes comes
 * by here, after the write. What it forbids would mean that mmu/ itself is broken.
 */
static inline void spte_changed(struct mmu *mmu, gfn_t gfn, unsigned int level, u64 old, u64 new)
{
	const struct mmu_format *format = mmu->format;
	bool was_leaf = spte_leaf(format, old, level), is_leaf;

	mmu_trace(spte, gfn, level, old, new);
	if (CHECKING && !format->legal(new, level))
		BUG("illegal entry %#llx at level %u of gfn %#llx", (unsigned long long)new, level,
		    (unsigned long long)gfn);
	if (was_leaf && !new) { /* of what follows nothing can be wrong with no entry */
		leaf_gone(mmu, old, level);
		return;
	}
	/* A table goes, with those below it: zaps must not remember it, or one of them. */
	if (spte_table(format, old, level) && !mutant(MUTANT_K12_STALE_TABLE))
		mmu->zap_index = MMU_NO_TABLE;
	/* rule K10: from one frame to another only through nothing and a flush. */
	is_leaf = spte_leaf(format, new, level);
	if (was_leaf && is_leaf && spte_pfn(format, old) != spte_pfn(format, new))
		BUG("rule K10: gfn %#llx: present entry %#llx replaced by %#llx", (unsigned long long)gfn,
		    (unsigned long long)old, (unsigned long long)new);
	/* A table gives way to its frozen self or to nothing, never to a leaf; and no leaf to a table. */
	BUG_ON(was_leaf && spte_table(format, new, level));
	BUG_ON(is_leaf && spte_table(format, old, level));

	if (is_leaf && !was_leaf)
		mmu_count(mmu, MMU_NR_MAPPED);
	else if (was_leaf && !is_leaf)
		leaf_gone(mmu, old, level);
}

/* Write an entry under the mmu lock for writing. Return: what it was, with the processor's last notes. */
static inline u64 spte_change_locked(struct mmu *mmu, u64 *sptep, gfn_t gfn, unsigned int level, u64 new)
{
	u64 old;

	lockdep_assert_held_write(&mmu->lock);
	/*
	 * xchg, although the lock excludes every other writer of tain: a processor in
	 * guest mode notes accessed and dirty without any lock (catalogue 32; mutant
	 * k9-plain-store; test k9_dirty_bit_is_not_lost):
	 *
	 *   zapper                             vCPU
	 *   ------                             ----
	 *   old = *sptep: writable, clean
	 *                                      first write: sets dirty, caches the right to write
	 *   *sptep = new
	 *   the page is not told
	 */
	if (mutant(MUTANT_K9_PLAIN_STORE)) {
		old = READ_ONCE(*sptep);
		race_point("spte:plain_store");
		WRITE_ONCE(*sptep, new);
	} else {
		old = xchg(sptep, new);
	}
	spte_changed(mmu, gfn, level, old, new);
	return old;
}

#endif /* MMU_TABLE_H */
