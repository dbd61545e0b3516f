/* SPDX-License-Identifier: MIT */
/*
 * madvise. DONTNEED changes no VMA, so it holds the address space for reading only,
 * as in Linux: faults go on beside it, each page going to whoever has the
 * page-table lock first.
 */
#include "mm/mm_internal.h"

/* Return: 0; -EINVAL if a special mapping is in the way; -ENOMEM for a hole. *any: is there a mapping at all? */
static int dontneed_check(struct mm_struct *mm, hva_t start, hva_t end, bool *any)
{
	hva_t at = start;
	int err = 0;

	*any = false;
	while (at < end) {
		struct vm_area_struct *vma = find_vma(mm, at);

		if (!vma || vma->start >= end)
			return -ENOMEM;
		if (vma->flags & VM_PFNMAP)
			return -EINVAL;
		if (vma->start > at)
			err = -ENOMEM;
		*any = true;
		at = vma->end;
	}
	return err;
}

int mm_madvise(struct mm_struct *mm, hva_t addr, size_t len, int advice)
{
	struct mm_range range = { mm, addr, addr + len };
	bool any;
	int err;

	if (!range_ok(addr, len) || advice != TAIN_MADV_DONTNEED)
		return -EINVAL;
	mm->policy->read_begin(&range);
	err = dontneed_check(mm, addr, addr + len, &any);
	if (any && err != -EINVAL)
		mm_unmap_section(mm, addr, addr + len, MMU_NOTIFY_CLEAR, NULL);
	mm->policy->read_end(&range);
	mm_trace(DONTNEED, addr, addr + len, 0, 0);
	return err;
}
