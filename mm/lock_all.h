/* SPDX-License-Identifier: MIT */
/*
 * mm_lock: every lock of an address space under which a section can run, so that no
 * section is open while they are held (rules N3, N4). Three variants, chosen when the
 * address space is made; they differ in where it is written down what is held:
 *
 *   name     an object met twice     is it held?            can fail for want of memory
 *   marks    has the round's mark    its mark               no
 *   bits     its bit is set          its number's bit       a bit per object that exists
 *   sorted   is next to itself       a binary search        three pointers per VMA
 *
 * Whichever: letting go is one store (struct rmap_lock), so that a registration which a
 * signal ends after a million objects has nothing to undo. Nor does it wake the thread that
 * frees its arrays, whose barrier and munmap() would meet it on its way out.
 */
#ifndef MM_LOCK_ALL_H
#define MM_LOCK_ALL_H

#include "mm/rmap.h"

/* In the order in which they are taken; inside one, any. */
enum rmap_class { RMAP_I_MMAP, RMAP_ANON_VMA, RMAP_CLASSES };

struct mm_lock_variant {
	const char *name;
	/*
	 * Context: in a round of ours; the policy's write side of everything. @killable: a
	 * pending signal ends it, asked at each VMA of each pass.
	 * Return: 0; -EINTR or -ENOMEM, and the round ends.
	 */
	int (*take)(struct mm_struct *mm, bool killable);
	/* Was it taken in the round? Context: its sem; an RCU reader; the round may end meanwhile. */
	bool (*holds)(const struct rmap_lock *lock, u64 round);
	/*
	 * The round is over: let go of what take() needed. NULL: it needs nothing.
	 * Return: what @free is owed after a grace period, or NULL.
	 */
	struct rcu_head *(*forget)(void);
	void (*free)(struct rcu_head *head);
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

/* Some address space is gone, perhaps the last: free what a round that a signal ended left behind. */
void mm_lock_settle(void);

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

/*
 * Around writing down that an object is held, once each: begin waits for who holds its
 * sem. Return: false: it is held already, which the checker has reported: leave it.
 */
bool must_check rmap_take_begin(struct rmap_lock *lock);
void rmap_take_end(struct rmap_lock *lock);

#endif /* MM_LOCK_ALL_H */
