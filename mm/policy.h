/* SPDX-License-Identifier: MIT */
/*
 * A locking design: how a fault finds and holds a VMA, how it knows at the
 * page-table lock that what it found still stands, and how a writer excludes a
 * range. One file per design in mm/policy/; operations and the fault path take the
 * locks of an address space through this table and no other way.
 *
 *   fault                                writer
 *   -----                                ------
 *   fault_begin   find and hold a VMA    write_begin   exclude [start, end)
 *     walk, allocate, zero                 build the new VMAs, publish, old ones dead
 *     page-table lock                      invalidate_range_start
 *     fault_valid?  no: retry              clear entries, each under its page-table lock
 *     install                              invalidate_range_end
 *     unlock                               free frames
 *   fault_end                            write_end
 */
#ifndef MM_POLICY_H
#define MM_POLICY_H

#include "lib/base.h"
#include "mm/mm.h"

struct vm_area_struct;

struct vm_fault {
	/* In. */
	struct mm_struct *mm;
	hva_t addr; /* page aligned */
	int access; /* TAIN_PROT_* */
	/* Found by fault_begin(): the VMA that holds addr, or NULL. Valid until fault_end(). */
	struct vm_area_struct *vma;
	/* Out. */
	struct mm_fault *result;
};

struct mm_range {
	struct mm_struct *mm;
	hva_t start;
	hva_t end;
};

struct mm_policy {
	const char *name;

	/*
	 * Faults or lookups run beside writers without a lock that excludes them: nodes,
	 * VMAs and page tables are freed after a grace period. In checking builds they
	 * always are.
	 */
	bool lockless_readers;

	/* Per address space. init: 0 or -ENOMEM. */
	int (*init)(struct mm_struct *mm);
	void (*destroy)(struct mm_struct *mm);

	/* Return: 0, and fault_end() must follow; what it returns else is the fault's. Context: sleeps. */
	int (*fault_begin)(struct vm_fault *vmf);
	/* Under the page-table lock: may vmf->vma's rights still be installed? false: end, and begin again. */
	bool (*fault_valid)(struct vm_fault *vmf);
	void (*fault_end)(struct vm_fault *vmf);

	/*
	 * Hold VMAs and page tables of the range still, not their entries: faults go on.
	 * For operations that change entries only (DONTNEED). Context: sleeps.
	 */
	void (*read_begin)(struct mm_range *range);
	void (*read_end)(struct mm_range *range);

	/* Exclude every fault and operation on the range, which covers all that will change. Context: sleeps. */
	void (*write_begin)(struct mm_range *range);
	void (*write_end)(struct mm_range *range);

	/*
	 * Under write_begin() of everything: take what a section may hold beside it (rule N4).
	 * Return: 0; -EINTR, nothing taken.
	 */
	int (*lock_all)(struct mm_struct *mm);
	void (*unlock_all)(struct mm_struct *mm);
};

extern const struct mm_policy mm_policy_mmap_sem;

/* NULL if there is none of that name. */
const struct mm_policy *mm_policy_find(const char *name);

#endif /* MM_POLICY_H */
