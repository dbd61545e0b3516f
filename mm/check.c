/* SPDX-License-Identifier: MIT */
/* Everything that must hold of an address space at rest; for tests. */
#include "mm/mm_internal.h"

struct table_check {
	struct mm_struct *mm;
	u64 entries;
};

static void check_entry(struct mm_struct *mm, hva_t addr, pte_t pte)
{
	struct vm_area_struct *vma = vma_lookup(mm, addr);
	struct page *page = frame_page(mm->arena, pte_pfn(pte));

	BUG_ON(!vma); /* invariant MM9: every entry lies in a VMA and has its rights exactly */
	BUG_ON(pte_prot(pte) != vma_prot(vma));
	BUG_ON(pte_special(pte) != !!(vma->flags & VM_PFNMAP));
	if (pte_special(pte)) {
		BUG_ON(pte_pfn(pte) != vma_attr_at(vma, addr).pgoff);
		return;
	}
	/* invariant MM13: a page in a VMA is of the VMA's object, at its index */
	BUG_ON(page->index != vma_index(vma, addr));
	if (vma->file) {
		BUG_ON(!(page->flags & PG_FILE) || page->mapping != vma->file);
		BUG_ON(!mm_file_has_page(vma->file, page->index, page));
		BUG_ON(!page->mapcount || page_count(page) < page->mapcount + 1);
		return;
	}
	BUG_ON(!(page->flags & PG_ANON) || page->mapping != vma_anon(vma) || !page->mapping);
	BUG_ON(page->mapcount != 1);
	BUG_ON(page_count(page) < 1);
}

/* invariant MM12: a VMA that has an object is in its index, once, with its range; the others are in none */
static void check_rmap(const struct vm_area_struct *vma)
{
	struct rmap_node *root, *node, *found = NULL;

	BUG_ON(vma->rmap.first != vma->pgoff || vma->rmap.last != vma_index(vma, vma->end - 1));
	BUG_ON(vma->file && vma_anon(vma));
	BUG_ON(!vma->file != !(vma->flags & VM_SHARED));
	if (!vma_rmap_lock(vma))
		return;
	root = vma->file ? vma->file->mapping.vmas : vma_anon(vma)->vmas;
	rmap_tree_check(root);
	for (node = rmap_tree_next(root, NULL, vma->pgoff, vma->pgoff); node;
	     node = rmap_tree_next(root, node, vma->pgoff, vma->pgoff)) {
		if (node == &vma->rmap)
			found = node;
	}
	BUG_ON(!found);
}

static void check_table(struct table_check *check, struct page *table, unsigned int level, hva_t base)
{
	struct vm_area_struct *vma;

	BUG_ON(!(table->flags & PG_TABLE) || table->level != level || page_count(table) != 1);
	for (unsigned int i = 0; i < PT_ENTRIES; i++) {
		pte_t pte = pt_entries(table)[i];
		hva_t addr = base + i * pt_span(level);

		if (pte_none(pte))
			continue;
		if (level == 1) {
			check_entry(check->mm, addr, pte);
			check->entries++;
			continue;
		}
		/* invariant MM10: a table exists only where a VMA is */
		vma = find_vma(check->mm, addr);
		BUG_ON(!vma || vma->start >= addr + pt_span(level));
		check_table(check, frame_page(check->mm->arena, pte_pfn(pte)), level - 1, addr);
	}
}

void mm_check(struct mm_struct *mm)
{
	struct table_check check = { .mm = mm };

	mm_audit_begin(mm);
	BUG_ON(vma_node_check(mm->vmas.root) != mm->vmas.count);
	for (struct vm_area_struct *vma = find_vma(mm, 0), *next; vma; vma = next) {
		next = vma->end < TAIN_TASK_SIZE ? find_vma(mm, vma->end) : NULL;
		BUG_ON(vma->dead || vma->fresh || vma->mm != mm);
		BUG_ON(!is_aligned(vma->start | vma->end, PAGE_SIZE) || vma->end > TAIN_TASK_SIZE);
		/* invariant MM11: neighbours that could be one are one */
		BUG_ON(next && next->start == vma->end && next->flags == vma->flags && next->file == vma->file &&
		       next->pgoff == vma_index(vma, vma->end) && anon_vma_compatible(vma_anon(vma), vma_anon(next)));
		check_rmap(vma);
	}
	check_table(&check, mm->root, PT_LEVELS, 0);
	mm_audit_end(mm);
}
