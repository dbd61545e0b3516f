/* SPDX-License-Identifier: MIT */
/* mprotect: new rights for VMAs and for the entries they have; pages stay. */
#include "mm/mm_internal.h"

/* How far the range is mapped without a hole. */
static hva_t mapped_end(struct mm_struct *mm, hva_t start, hva_t end)
{
	while (start < end) {
		struct vm_area_struct *vma = vma_lookup(mm, start);

		if (!vma)
			break;
		start = vma->end;
	}
	return min(start, end);
}

static int protect_vmas(struct vma_txn *txn, struct mm_struct *mm, hva_t start, hva_t end, int prot)
{
	while (start < end && !txn->err) {
		/* The published tree stands still: the write side is ours. */
		struct vm_area_struct *vma = find_vma(mm, start);
		hva_t stop = min(vma->end, end);
		struct vma_attr attr = vma_attr_at(vma, start);

		attr.flags = (attr.flags & ~(u64)VM_PROT_MASK) | (u64)prot;
		if (attr.flags != vma->flags)
			vma_txn_replace(txn, start, stop, &attr);
		start = stop;
	}
	return vma_txn_check(txn);
}

struct protect {
	struct mm_struct *mm;
	int prot;
};

static void protect_leaf(struct page *leaf, hva_t start, hva_t end, void *arg)
{
	const struct protect *protect = arg;
	bool narrowed = false;

	spin_lock(&leaf->ptl);
	for (hva_t addr = start; addr < end; addr += PAGE_SIZE) {
		pte_t pte = pte_read(&pt_entries(leaf)[pt_index(addr, 1)]);
		pte_t new = pte_modify(pte, protect->prot);

		if (pte_none(pte) || new.val == pte.val)
			continue;
		pte_set_locked(leaf, addr, new);
		narrowed |= pte_prot(pte) & ~protect->prot;
	}
	if (narrowed)
		mm_secondary_tlbs_locked(protect->mm, start, end);
	spin_unlock(&leaf->ptl);
}

static int mprotect_locked(struct mm_struct *mm, hva_t start, hva_t end, int prot)
{
	hva_t stop = mapped_end(mm, start, end);
	struct protect protect = { mm, prot };
	struct mmu_notifier_range section;
	struct vma_txn txn;
	int err;

	if (stop == start)
		return -ENOMEM;
	vma_txn_begin(&txn, mm);
	err = protect_vmas(&txn, mm, start, stop, prot);
	if (err) {
		vma_txn_abort(&txn);
		return err;
	}
	vma_txn_commit(&txn);
	vma_txn_finish(&txn); /* the new VMAs have the entries of the old */
	race_point("mm_mprotect:before_start");
	section = mm_section_begin(mm, start, stop, MMU_NOTIFY_PROTECTION_VMA);
	race_point("mm_mprotect:after_start");
	pt_for_each_leaf(mm, start, stop, protect_leaf, &protect);
	race_point("mm_mprotect:after_change");
	mm_section_end(&section);
	return stop < end ? -ENOMEM : 0;
}

int mm_mprotect(struct mm_struct *mm, hva_t addr, size_t len, int prot)
{
	struct mm_range range;
	int err;

	if (!range_ok(addr, len) || prot & ~(int)VM_PROT_MASK)
		return -EINVAL;
	range = mm_write_begin(mm, addr, addr + len);
	err = mprotect_locked(mm, addr, addr + len, prot);
	mm_write_end(&range);
	mm_trace(MPROTECT, addr, addr + len, prot, 0);
	return err;
}
