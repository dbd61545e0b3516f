/* SPDX-License-Identifier: MIT */
/* Clearing entries inside a notifier section, and freeing what they held. */
#include "mm/mm_internal.h"

void gather_init(struct mmu_gather *gather, struct mm_struct *mm)
{
	gather->mm = mm;
	gather->file = NULL;
	gather->cleared = 0;
	gather->nr = 0;
}

static void gather_free(struct mmu_gather *gather)
{
	put_pages(gather->mm->arena, gather->pages, gather->nr);
	gather->nr = 0;
}

void gather_finish(struct mmu_gather *gather)
{
	gather_free(gather);
	mm_count_event(gather->mm, MM_NR_ZAPPED, gather->cleared);
}

/* Is the entry one that the gather is for? */
static bool wanted(const struct mmu_gather *gather, pte_t pte)
{
	if (pte_none(pte))
		return false;
	return likely(!gather->file) ||
	       (!pte_special(pte) && page_is_of_file(frame_page(gather->mm->arena, pte_pfn(pte)), gather->file));
}

static void clear_entry_locked(struct mmu_gather *gather, struct page *leaf, hva_t addr, pte_t pte)
{
	struct page *page;

	pte_set_locked(leaf, addr, (pte_t){ 0 });
	gather->cleared++;
	if (pte_special(pte))
		return;
	page = frame_page(gather->mm->arena, pte_pfn(pte));
	if (pte.val & PTE_D)
		page_set_flag(page, PG_DIRTY);
	fetch_add(&page->mapcount, (u32)-1);
	gather->pages[gather->nr++] = page;
}

/* From *addr on, under one hold of the lock. Return: true at the end; false: no room, *addr says where to go on. */
static bool clear_some(struct mmu_gather *gather, struct page *leaf, hva_t *addr, hva_t end)
{
	u64 before = gather->cleared;
	hva_t at, first = *addr;

	spin_lock(&leaf->ptl);
	for (at = first; at < end; at += PAGE_SIZE) {
		pte_t pte = pte_read(&pt_entries(leaf)[pt_index(at, 1)]);

		if (!wanted(gather, pte))
			continue;
		if (gather->nr == GATHER_MAX)
			break;
		clear_entry_locked(gather, leaf, at, pte);
	}
	*addr = at;
	if (mutant(MUTANT_N13_OUTSIDE_PTL)) {
		spin_unlock(&leaf->ptl); /* catalogue 14 */
		race_point("gather:told_late");
	}
	if (gather->cleared != before)
		mm_secondary_tlbs_locked(gather->mm, first, at);
	if (!mutant(MUTANT_N13_OUTSIDE_PTL))
		spin_unlock(&leaf->ptl);
	return at == end;
}

static void clear_leaf(struct page *leaf, hva_t addr, hva_t end, void *arg)
{
	struct mmu_gather *gather = arg;

	/* The section's start has flushed every mirror: what is cleared may go already (rule N5). */
	while (!clear_some(gather, leaf, &addr, end))
		gather_free(gather);
}

void gather_unmap(struct mmu_gather *gather, hva_t start, hva_t end)
{
	pt_for_each_leaf(gather->mm, start, end, clear_leaf, gather);
}

struct mmu_notifier_range mm_section_begin(struct mm_struct *mm, hva_t start, hva_t end, enum mmu_notifier_event event)
{
	struct mmu_notifier_range range = {
		.mm = &mm->notifier, .start = start, .end = end, .event = event, .blockable = true
	};
	int err;

	mm_count_event(mm, MM_NR_SECTIONS, 1);
	err = mmu_notifier_invalidate_range_start(&range);
	BUG_ON(err); /* rule N6: a blockable start succeeds */
	return range;
}

void mm_section_end(struct mmu_notifier_range *range)
{
	mmu_notifier_invalidate_range_end(range);
}

void mm_free_tables(struct mm_struct *mm, hva_t start, hva_t end)
{
	struct vm_area_struct *before = vma_find_before(mm->vmas.root, start);
	struct vm_area_struct *after = find_vma(mm, start);

	free_pgtables(mm, start, end, before ? before->end : 0, after ? after->start : TAIN_TASK_SIZE);
}

void mm_unmap_section(struct mm_struct *mm, hva_t start, hva_t end, enum mmu_notifier_event event, struct vma_txn *txn)
{
	struct mmu_notifier_range range;
	struct mmu_gather gather;

	gather_init(&gather, mm);
	race_point("mm_unmap:before_start");
	if (mutant(MUTANT_N5_FREE_BEFORE_START)) {
		/* Catalogue 10: told after the fact, the frame is somebody else's by then. */
		gather_unmap(&gather, start, end);
		gather_finish(&gather);
		race_point("mm_unmap:after_free");
		range = mm_section_begin(mm, start, end, event);
	} else {
		range = mm_section_begin(mm, start, end, event);
		race_point("mm_unmap:after_start");
		gather_unmap(&gather, start, end);
		race_point("mm_unmap:after_clear");
		gather_finish(&gather);
	}
	if (txn) {
		vma_txn_finish(txn);
		mm_free_tables(mm, start, end);
	}
	mm_section_end(&range);
}
