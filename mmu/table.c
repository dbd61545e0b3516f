/* SPDX-License-Identifier: MIT */
/* Tables in arena frames. */
#include "mmu/table.h"

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
