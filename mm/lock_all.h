/* SPDX-License-Identifier: MIT */
/*
 * mm_lock: every lock of an address space under which a section can run, so that no
 * section is open while they are held (rules N3, N4). Three variants, chosen when the
 * address space is made:
 *
 *   name     an object met twice         letting go                    can fail for want of memory
 *   marks    has the round's mark        one store for all             no
 *   bits     its number's bit is set     one by one, from a chain      a bit per object that exists
 *   sorted   is next to itself           one by one, from the arrays   two pointers per VMA
 */
#ifndef MM_LOCK_ALL_H
#define MM_LOCK_ALL_H

#include "mm/rmap.h"

/* In the order in which they are taken; inside one, any. */
enum rmap_class { RMAP_I_MMAP, RMAP_ANON_VMA, RMAP_CLASSES };

struct mm_lock_variant {
	const char *name;
	/*
	 * Context: mm_all_locks.mutex; the policy's write side of everything. @killable: a
	 * pending signal ends it, asked at each VMA of each pass.
	 * Return: 0; -EINTR or -ENOMEM, with none of them held.
	 */
	int (*take)(struct mm_struct *mm, bool killable);
	void (*drop)(struct mm_struct *mm);
};

extern const struct mm_lock_variant mm_lock_marks, mm_lock_bits, mm_lock_sorted;

/* NULL if there is none of that name. */
const struct mm_lock_variant *mm_lock_find(const char *name);

/*
 * Take them all by the variant of the mm, and keep out whoever else wants all of any mm.
 * Return: 0; -EPERM (more than max_vmas VMAs, and the mm is not privileged); -EINTR;
 * -ENOMEM: then nothing is held.
 */
int mm_take_all_locks(struct mm_struct *mm);
void mm_drop_all_locks(struct mm_struct *mm);

/* For auditors: by marks, whatever the variant; cannot fail. */
void mm_take_all_locks_audit(struct mm_struct *mm);
void mm_drop_all_locks_audit(struct mm_struct *mm);

/* --- for the variants ------------------------------------------------------------- */

/* The lock of @class that this VMA contributes, or NULL. */
struct rmap_lock *vma_lock_of_class(const struct vm_area_struct *vma, enum rmap_class class);

/*
 * For each lock of a class that @mm has, as often as VMAs have it.
 * Return: 0; what @fn returned first; -EINTR.
 */
int for_each_rmap_lock(struct mm_struct *mm, enum rmap_class class, bool killable,
		       int (*fn)(struct rmap_lock *lock, void *arg), void *arg);

extern u32 rmap_numbers_high; /* every number of an object is below; only grows */

/* Wait for it and hold it, once. Variants that keep what they hold. */
void rmap_lock_take(struct rmap_lock *lock);
void rmap_lock_give_back(struct rmap_lock *lock);

#endif /* MM_LOCK_ALL_H */
