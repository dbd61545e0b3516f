/* SPDX-License-Identifier: MIT */
/* munmap: the VMAs go, then what their entries held, then the tables. */
#include "mm/mm_internal.h"

static int munmap_locked(struct mm_struct *mm, hva_t start, hva_t end)
{
	struct vm_area_struct *vma = find_vma(mm, start);
	struct vma_txn txn;
	int err;

	if (!vma || vma->start >= end)
		return 0;
	vma_txn_begin(&txn, mm);
	vma_txn_replace(&txn, start, end, NULL);
	err = vma_txn_check(&txn);
	if (err) {
		vma_txn_abort(&txn);
		return err;
	}
	vma_txn_commit(&txn);
	mm_unmap_section(mm, start, end, MMU_NOTIFY_UNMAP, &txn);
	return 0;
}

int mm_munmap(struct mm_struct *mm, hva_t addr, size_t len)
{
	struct mm_range range;
	int err;

	if (!range_ok(addr, len))
		return -EINVAL;
	range = mm_write_begin(mm, addr, addr + len);
	err = munmap_locked(mm, addr, addr + len);
	mm_write_end(&range);
	mm_trace(MUNMAP, addr, addr + len, 0, 0);
	return err;
}
