/* SPDX-License-Identifier: MIT */
/*
 * mremap: shrink, grow in place, or move entries and all.
 *
 * A move allocates everything it may need, VMAs and tables of the new place, before
 * it changes anything: from there on nothing can fail.
 */
#include "mm/mm_internal.h"

struct move {
	struct mm_struct *mm;
	hva_t from, to;
	u64 delta; /* to - from, modulo 2^64 */
	u64 moved;
	int err;
};

/* Where the leaf table that maps @to ends, in addresses of the old place. */
static hva_t piece_end(const struct move *move, hva_t addr, hva_t end)
{
	hva_t to = addr + move->delta;

	return min(end, addr + (align_down(to, pt_span(2)) + pt_span(2) - to));
}

static void make_tables(struct page *leaf, hva_t addr, hva_t end, void *arg)
{
	struct move *move = arg;

	for (; addr < end && !move->err; addr = piece_end(move, addr, end)) {
		if (!pt_leaf_alloc(move->mm, addr + move->delta))
			move->err = -ENOMEM;
	}
}

/* Two page-table locks at once: by address of the struct page, which is by frame number. */
static void lock_both(struct page *a, struct page *b)
{
	if (a > b) {
		struct page *swap = a;

		a = b;
		b = swap;
	}
	spin_lock(&a->ptl);
	if (b != a)
		spin_lock_nested(&b->ptl, 1);
}

static void unlock_both(struct page *a, struct page *b)
{
	spin_unlock(&a->ptl);
	if (b != a)
		spin_unlock(&b->ptl);
}

static void move_ptes(struct page *leaf, hva_t addr, hva_t end, void *arg)
{
	struct move *move = arg;

	while (addr < end) {
		hva_t first = addr, stop = piece_end(move, addr, end);
		struct page *to = pt_leaf(move->mm, addr + move->delta);

		lock_both(leaf, to);
		for (; addr < stop; addr += PAGE_SIZE) {
			pte_t pte = pte_read(&pt_entries(leaf)[pt_index(addr, 1)]);

			if (pte_none(pte))
				continue;
			pte_set_locked(leaf, addr, (pte_t){ 0 });
			pte_set_locked(to, addr + move->delta, pte);
			move->moved++;
		}
		mm_secondary_tlbs_locked(move->mm, first, stop);
		unlock_both(leaf, to);
	}
}

/* Free tables that make_tables() left in the holes of a range. */
static void free_unused_tables(struct mm_struct *mm, hva_t start, hva_t end)
{
	while (start < end) {
		struct vm_area_struct *vma = find_vma(mm, start);
		hva_t hole_end = vma ? min(vma->start, end) : end;

		if (start < hole_end)
			mm_free_tables(mm, start, hole_end);
		start = vma ? vma->end : end;
	}
}

/* Change the VMAs and make room for the entries, or change nothing. */
static int move_prepare(struct move *move, struct vma_txn *txn, struct vm_area_struct *vma, u64 old_len, u64 new_len)
{
	struct mm_struct *mm = move->mm;
	struct vma_attr attr = vma_attr_at(vma, move->from);
	int err;

	vma_txn_begin(txn, mm);
	vma_txn_replace(txn, move->from, move->from + old_len, NULL);
	vma_txn_replace(txn, move->to, move->to + new_len, &attr);
	err = vma_txn_check(txn);
	if (!err) {
		pt_for_each_leaf(mm, move->from, move->from + min(old_len, new_len), make_tables, move);
		err = move->err;
		if (err)
			free_unused_tables(mm, move->to, move->to + new_len);
	}
	if (err) {
		vma_txn_abort(txn);
		return err;
	}
	vma_txn_commit(txn);
	return 0;
}

/*
 * Who walks the reverse map looks into the VMAs one after the other, and must not find
 * a page in neither (catalogue 48):
 *
 *   walker, object's lock for reading      mremap
 *   ---------------------------------      ------
 *   the new place: nothing yet
 *                                          move the entry, but for the object's lock
 *   the old place: nothing any more
 *   "nobody maps it"
 */
static int move_vma(struct mm_struct *mm, struct vm_area_struct *vma, hva_t from, u64 old_len, hva_t to, u64 new_len)
{
	struct move move = { .mm = mm, .from = from, .to = to, .delta = to - from };
	struct vm_area_struct *target = find_vma(mm, to);
	bool replaces = target && target->start < to + new_len;
	u64 len = min(old_len, new_len);
	struct mmu_notifier_range section;
	struct mmu_gather gather;
	struct rmap_lock *rmap;
	struct vma_txn txn;
	int err;

	err = move_prepare(&move, &txn, vma, old_len, new_len);
	if (err)
		return err;
	if (replaces)
		mm_unmap_section(mm, to, to + new_len, MMU_NOTIFY_UNMAP, NULL);
	rmap = vma_rmap_lock(vma);
	gather_init(&gather, mm);
	race_point("mm_mremap:before_start");
	section = mm_section_begin(mm, from, from + old_len, MMU_NOTIFY_CLEAR);
	race_point("mm_mremap:after_start");
	if (rmap)
		rmap_lock_write(rmap);
	pt_for_each_leaf(mm, from, from + len, move_ptes, &move);
	if (rmap)
		rmap_unlock_write(rmap);
	if (old_len > len)
		gather_unmap(&gather, from + len, from + old_len);
	race_point("mm_mremap:after_move");
	gather_finish(&gather);
	vma_txn_finish(&txn);
	mm_free_tables(mm, from, from + old_len);
	mm_section_end(&section);
	mm_count_event(mm, MM_NR_MOVED, move.moved);
	return 0;
}

static int shrink(struct mm_struct *mm, hva_t start, hva_t end)
{
	struct vma_txn txn;
	int err;

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

/* -ENOSPC: something is in the way. */
static int grow(struct mm_struct *mm, struct vm_area_struct *vma, hva_t old_end, hva_t new_end)
{
	struct vma_attr attr = vma_attr_at(vma, old_end);
	struct vm_area_struct *next;
	struct vma_txn txn;
	int err;

	if (old_end != vma->end || new_end > TAIN_TASK_SIZE)
		return -ENOSPC;
	next = find_vma(mm, old_end);
	if (next && next->start < new_end)
		return -ENOSPC;
	vma_txn_begin(&txn, mm);
	vma_txn_replace(&txn, old_end, new_end, &attr);
	err = vma_txn_check(&txn);
	if (err) {
		vma_txn_abort(&txn);
		return err;
	}
	vma_txn_commit(&txn);
	vma_txn_finish(&txn);
	return 0;
}

/* *to: the new address demanded with FIXED; receives the one taken. */
static int mremap_locked(struct mm_struct *mm, hva_t from, u64 old_len, u64 new_len, int flags, hva_t *to)
{
	struct vm_area_struct *vma = vma_lookup(mm, from);
	int err;

	if (!vma || vma->end - from < old_len)
		return -EFAULT;
	if (vma->flags & VM_PFNMAP && new_len > old_len)
		return -EFAULT;
	if (flags & TAIN_MREMAP_FIXED)
		return move_vma(mm, vma, from, old_len, *to, new_len);
	*to = from;
	if (new_len == old_len)
		return 0;
	if (new_len < old_len)
		return shrink(mm, from + new_len, from + old_len);
	err = grow(mm, vma, from + old_len, from + new_len);
	if (err != -ENOSPC)
		return err;
	if (!(flags & TAIN_MREMAP_MAYMOVE))
		return -ENOMEM;
	*to = vma_find_gap(mm->vmas.root, new_len, MM_MMAP_MIN, TAIN_TASK_SIZE);
	if (*to == (hva_t)-1)
		return -ENOMEM;
	return move_vma(mm, vma, from, old_len, *to, new_len);
}

static bool overlap(hva_t a, u64 a_len, hva_t b, u64 b_len)
{
	return a < b + b_len && b < a + a_len;
}

int mm_mremap(struct mm_struct *mm, hva_t old_addr, size_t old_len, size_t new_len, int flags, hva_t new_addr,
	      hva_t *out)
{
	struct mm_range range;
	int err;

	if (flags & ~(TAIN_MREMAP_MAYMOVE | TAIN_MREMAP_FIXED) || !range_ok(old_addr, old_len) || !range_ok(0, new_len))
		return -EINVAL;
	if (flags & TAIN_MREMAP_FIXED) {
		if (!(flags & TAIN_MREMAP_MAYMOVE) || !range_ok(new_addr, new_len) ||
		    overlap(old_addr, old_len, new_addr, new_len))
			return -EINVAL;
		range = mm_write_begin(mm, min(old_addr, new_addr), max(old_addr + old_len, new_addr + new_len));
	} else if (new_len <= old_len) {
		range = mm_write_begin(mm, old_addr, old_addr + old_len);
	} else {
		range = mm_write_begin(mm, 0, TAIN_TASK_SIZE); /* may go anywhere */
	}
	err = mremap_locked(mm, old_addr, old_len, new_len, flags, &new_addr);
	mm_write_end(&range);
	mm_trace(MREMAP, old_addr, old_len, new_addr, new_len);
	if (!err && out)
		*out = new_addr;
	return err;
}
