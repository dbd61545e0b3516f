/* SPDX-License-Identifier: MIT */
/* mmap: anonymous memory, files, and special mappings of reserved frames. */
#include "mm/mm_internal.h"

#define MMAP_FLAGS (TAIN_MAP_FIXED | TAIN_MAP_FIXED_NOREPLACE | TAIN_MAP_POPULATE)

/* Where to map: *addr is a demand or a hint. Context: write side. */
static int mmap_place(struct mm_struct *mm, u64 len, int flags, hva_t *addr)
{
	struct vm_area_struct *vma;

	if (flags & (TAIN_MAP_FIXED | TAIN_MAP_FIXED_NOREPLACE)) {
		vma = find_vma(mm, *addr);
		return flags & TAIN_MAP_FIXED_NOREPLACE && vma && vma->start < *addr + len ? -EEXIST : 0;
	}
	if (*addr >= MM_MMAP_MIN && range_ok(*addr, len)) {
		vma = find_vma(mm, *addr);
		if (!vma || vma->start >= *addr + len)
			return 0;
	}
	*addr = vma_find_gap(mm->vmas.root, len, MM_MMAP_MIN, TAIN_TASK_SIZE);
	return *addr == (hva_t)-1 ? -ENOMEM : 0;
}

/* Context: write side. @attr without pgoff for anonymous memory. */
static int mmap_locked(struct mm_struct *mm, hva_t *addr, u64 len, struct vma_attr attr, int flags)
{
	struct vm_area_struct *vma;
	struct vma_txn txn;
	bool replaces;
	int err;

	err = mmap_place(mm, len, flags, addr);
	if (err)
		return err;
	vma = find_vma(mm, *addr);
	replaces = vma && vma->start < *addr + len;
	if (!(attr.flags & (VM_PFNMAP | VM_SHARED)))
		attr.pgoff = *addr >> PAGE_SHIFT;
	vma_txn_begin(&txn, mm);
	vma_txn_replace(&txn, *addr, *addr + len, &attr);
	err = vma_txn_check(&txn);
	if (err) {
		vma_txn_abort(&txn);
		return err;
	}
	vma_txn_commit(&txn);
	/* The new VMA is in place and faults are excluded: clear what the old ones held. */
	if (replaces)
		mm_unmap_section(mm, *addr, *addr + len, MMU_NOTIFY_UNMAP, NULL);
	vma_txn_finish(&txn);
	return 0;
}

static int do_mmap(struct mm_struct *mm, hva_t addr, size_t len, struct vma_attr attr, int flags, hva_t *out)
{
	struct mm_range range;
	int err;

	if (flags & (TAIN_MAP_FIXED | TAIN_MAP_FIXED_NOREPLACE)) {
		if (!range_ok(addr, len))
			return -EINVAL;
		range = mm_write_begin(mm, addr, addr + len);
	} else {
		if (!out || !is_aligned(addr, PAGE_SIZE) || !range_ok(0, len))
			return -EINVAL;
		range = mm_write_begin(mm, 0, TAIN_TASK_SIZE); /* anywhere */
	}
	err = mmap_locked(mm, &addr, len, attr, flags);
	mm_write_end(&range);
	mm_trace(MMAP, addr, addr + len, attr.flags, flags);
	if (err)
		return err;
	if (out)
		*out = addr;
	return flags & TAIN_MAP_POPULATE ? mm_populate(mm, addr, len) : 0;
}

int mm_mmap(struct mm_struct *mm, hva_t addr, size_t len, int prot, int flags, hva_t *out)
{
	if (prot & ~(int)VM_PROT_MASK || flags & ~MMAP_FLAGS)
		return -EINVAL;
	return do_mmap(mm, addr, len, (struct vma_attr){ .flags = (u64)prot }, flags, out);
}

int mm_mmap_file(struct mm_struct *mm, hva_t addr, size_t len, int prot, int flags, struct mm_file *file, u64 offset,
		 hva_t *out)
{
	if (prot & ~(int)VM_PROT_MASK || flags & ~(MMAP_FLAGS | TAIN_MAP_SHARED) || !(flags & TAIN_MAP_SHARED))
		return -EINVAL;
	if (!file || file->arena != mm->arena || !is_aligned(offset, PAGE_SIZE) || offset > TAIN_TASK_SIZE)
		return -EINVAL;
	return do_mmap(mm, addr, len,
		       (struct vma_attr){ .flags = VM_SHARED | (u64)prot, .pgoff = offset >> PAGE_SHIFT, .file = file },
		       flags & ~TAIN_MAP_SHARED, out);
}

int mm_map_pfn(struct mm_struct *mm, hva_t addr, pfn_t first, size_t bytes, int prot)
{
	struct vma_attr attr = { .flags = VM_PFNMAP | (u64)prot, .pgoff = first };
	struct mm_range range;
	int err;

	if (!range_ok(addr, bytes) || prot & ~(int)VM_PROT_MASK)
		return -EINVAL;
	if (first > mm->arena->nr_reserved || bytes >> PAGE_SHIFT > mm->arena->nr_reserved - first)
		return -EINVAL;
	range = mm_write_begin(mm, addr, addr + bytes);
	err = mmap_locked(mm, &addr, bytes, attr, TAIN_MAP_FIXED_NOREPLACE);
	mm_write_end(&range);
	mm_trace(MMAP, addr, addr + bytes, prot, VM_PFNMAP);
	return err;
}
