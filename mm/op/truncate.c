/* SPDX-License-Identifier: MIT */
/*
 * Truncate and punch: pages of a file go, wherever they are mapped. The sections run
 * under the file's i_mmap lock alone, mmap_lock of nobody; so registration must take
 * that lock too (rule N3, catalogue 1):
 *
 *   truncate                                  a new subscriber, of mmap_lock alone
 *   --------                                  ------------------------------------
 *   i_mmap lock for reading
 *   section start: nobody to tell
 *                                             registers
 *                                             faults: the page, through an entry not yet cleared
 *   clear entries, section end
 *   free the page                             still uses it
 *
 * The pages leave the file first, then the entries go, then the pages are freed:
 *
 *   truncate                                  fault
 *   --------                                  -----
 *   the file gives the pages up
 *   full barrier (A)                          link a table: full barrier (B)
 *   look for tables and entries               page-table lock; is the page the file's?
 *
 * A and B pair: either we find the table, and its lock orders us, or the fault sees
 * that the page is gone. The timeline of that lock is in mm/fault.c.
 */
#include "mm/mm_internal.h"

/* Context: i_mmap lock. */
static void zap_vma(struct mm_file *file, struct vm_area_struct *vma, u64 first, u64 last)
{
	hva_t start = vma->start + ((max(first, vma->rmap.first) - vma->pgoff) << PAGE_SHIFT);
	hva_t end = vma->start + ((min(last, vma->rmap.last) - vma->pgoff + 1) << PAGE_SHIFT);
	struct mmu_notifier_range section;
	struct mmu_gather gather;

	gather_init(&gather, vma->mm);
	gather.file = file;
	section = mm_section_begin(vma->mm, start, end, MMU_NOTIFY_CLEAR);
	race_point("mm_truncate:after_start");
	gather_unmap(&gather, start, end);
	gather_finish(&gather);
	race_point("mm_truncate:after_clear");
	mm_section_end(&section);
}

static void zap_file(struct mm_file *file, u64 first, u64 last)
{
	struct address_space *mapping = &file->mapping;
	struct rmap_node *node;

	rmap_lock_read(&mapping->i_mmap);
	for (node = rmap_tree_next(mapping->vmas, NULL, first, last); node;
	     node = rmap_tree_next(mapping->vmas, node, first, last))
		zap_vma(file, container_of(node, struct vm_area_struct, rmap), first, last);
	rmap_unlock_read(&mapping->i_mmap);
}

static void throw_away(struct mm_file *file, u64 first, u64 last, u64 size)
{
	struct page *taken = mm_file_take(file, first, last, size);

	smp_mb(); /* A; pairs with the exchange that links a table */
	race_point("mm_truncate:after_take");
	zap_file(file, first, last);
	mm_file_let_go(file, taken);
	mm_trace(TRUNCATE, file, first, last, size);
}

int mm_file_truncate(struct mm_file *file, u64 bytes)
{
	u64 pages = bytes >> PAGE_SHIFT;

	if (!file || !is_aligned(bytes, PAGE_SIZE) || pages > file->max_pages)
		return -EINVAL;
	/* What was past the end is so still, or has no page; then only the size is new. */
	throw_away(file, pages, file->max_pages, pages);
	return 0;
}

int mm_file_punch(struct mm_file *file, u64 offset, u64 len)
{
	if (!file || !range_ok(offset, len) || (offset + len) >> PAGE_SHIFT > file->max_pages)
		return -EINVAL;
	throw_away(file, offset >> PAGE_SHIFT, ((offset + len) >> PAGE_SHIFT) - 1, MM_FILE_KEEP_SIZE);
	return 0;
}
