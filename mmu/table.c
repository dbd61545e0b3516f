/* SPDX-License-Identifier: MIT */
/* Tables in arena frames, and the one place where entries are written. */
#include "mmu/mmu_internal.h"

u64 *table_alloc(struct mmu *mmu)
{
	struct page *page = frame_alloc(mmu->arena, 0);

	if (!page)
		return NULL;
	mmu_count(mmu, MMU_NR_TABLES);
	return page_address(page);
}

pfn_t table_pfn(const struct mmu *mmu, const u64 *table)
{
	return (pfn_t)((const u8 *)table - mmu->arena_base) >> PAGE_SHIFT;
}

void table_free(struct mmu *mmu, u64 *table)
{
	mmu_count(mmu, MMU_NR_TABLES_FREED);
	frame_free(pfn_to_page(mmu->arena, table_pfn(mmu, table)), 0);
}

void table_free_tree(struct mmu *mmu, u64 *table, unsigned int level)
{
	unsigned int i;

	for (i = 0; level > PT_LEVEL_4K && i < PT_ENTRIES; i++) {
		u64 spte = READ_ONCE(table[i]);

		if (spte_table(mmu->format, spte, level))
			table_free_tree(mmu, table_at(mmu, spte_pfn(mmu->format, spte)), level - 1);
	}
	table_free(mmu, table);
}

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
	if (!new) { /* of what follows nothing can be wrong with no entry */
		if (was_leaf)
			leaf_gone(mmu, old, level);
		return;
	}
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

bool spte_try_change(struct mmu *mmu, u64 *sptep, gfn_t gfn, unsigned int level, u64 *old, u64 new)
{
	u64 was = *old;

	lockdep_assert_held(&mmu->lock);
	/* Release: pairs with the acquire of walkers and iterators, who go on into what the entry points to. */
	if (!try_cmpxchg(sptep, old, new))
		return false;
	spte_changed(mmu, gfn, level, was, new);
	return true;
}

u64 spte_change_locked(struct mmu *mmu, u64 *sptep, gfn_t gfn, unsigned int level, u64 new)
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
