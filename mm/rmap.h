/* SPDX-License-Identifier: MIT */
/*
 * From a page to every entry that holds it. A page knows its object (an anon_vma, or
 * the address_space of a file) and its index in it; the object knows, by index, the
 * VMAs that map it; a VMA turns the index into an address.
 *
 *   page->mapping, ->index --> object: VMAs by [pgoff, pgoff + pages) --> address --> entry
 *
 * The lock of an object is all that who comes this way holds: no mmap_lock. So a VMA
 * leaves its object after its entries are cleared or moved and before its page tables
 * are freed, on the other side of that lock (rule D0).
 */
#ifndef MM_RMAP_H
#define MM_RMAP_H

#include "lib/atomic.h"
#include "lib/base.h"
#include "lib/lock.h"
#include "lib/rcu.h"

struct mm_struct;
struct mm_lock_variant;
struct mm_file;
struct page;
struct vm_area_struct;

/* --- the lock of an object ----------------------------------------------------- */

/*
 * A rwsem that can also be held by a round: mm_lock (mm/lock_all.c) goes through the
 * objects of an address space and writes down which it has; letting go of all of them is the
 * end of the round, one store, however many there are. Where it is written down is the
 * variant's affair: in the object, in a bit array, in a sorted array.
 *
 *   who locks one object              who locks all
 *   --------------------              -------------
 *                                     round is odd
 *   down (waits)                      down_write; write it down; up_write
 *   down returns
 *     written down: up, and wait      ... the rest, and what it is all for
 *     for the round to end            round++; wake
 *   down; the round is over: it is ours
 *
 * Who was faster holds the rwsem, and the one who locks all waits.
 */
struct rmap_lock {
	struct rw_semaphore sem;
	u32 number; /* of the object, unique while it lives, or RMAP_NO_NUMBER; constant */
	u64 mark;   /* variant marks: the last round that took it; written under sem */
};

#define RMAP_NO_NUMBER ((u32)-1)

void rmap_lock_init(struct rmap_lock *lock, struct lock_class *class);
void rmap_lock_destroy(struct rmap_lock *lock);

/* One at a time takes all locks of an mm: so the order inside a lock class is free (rule N4). */
struct mm_all_locks {
	struct mutex mutex;
	u64 round;			       /* odd: under way; written under mutex */
	const struct mm_lock_variant *variant; /* of this round, or the last; written under mutex */
	struct wait_queue wait;		       /* for the end of a round */
};
extern struct mm_all_locks mm_all_locks;

bool rmap_round_holds(const struct rmap_lock *lock, u64 round);
void rmap_wait_round(u64 round);

/* Does a round hold it? Then *round says which. Context: sem. */
static inline bool rmap_in_round(const struct rmap_lock *lock, u64 *round)
{
	/* Pairs with the releases in round_begin(), and in round_end(): what was done under all locks is seen under
	 * this one. */
	*round = smp_load_acquire(&mm_all_locks.round);
	return unlikely(*round & 1) && rmap_round_holds(lock, *round);
}

static inline void rmap_lock_read_site(struct rmap_lock *lock, const struct lock_site *site)
{
	u64 round;

	for (;;) {
		down_read_site(&lock->sem, site);
		if (likely(!rmap_in_round(lock, &round)))
			return;
		up_read_site(&lock->sem, site);
		rmap_wait_round(round);
	}
}

static inline void rmap_lock_write_site(struct rmap_lock *lock, const struct lock_site *site)
{
	u64 round;

	for (;;) {
		down_write_site(&lock->sem, site);
		if (likely(!rmap_in_round(lock, &round)))
			return;
		up_write_site(&lock->sem, site);
		rmap_wait_round(round);
	}
}

/* Context: sleeps; mmap_lock > i_mmap > anon_vma > ptl, one of a class at a time (rule N4). */
#define rmap_lock_read(lock) rmap_lock_read_site(lock, LOCK_HERE)
#define rmap_lock_write(lock) rmap_lock_write_site(lock, LOCK_HERE)
#define rmap_unlock_read(lock) up_read(&(lock)->sem)
#define rmap_unlock_write(lock) up_write(&(lock)->sem)

/* --- the index of an object -------------------------------------------------------- */

/* One range of page numbers in the tree of an object. */
struct rmap_node {
	struct rmap_node *left, *right;
	u64 first, last; /* inclusive */
	u64 max_last;	 /* of the subtree */
	u64 priority;	 /* a parent's is higher than its children's */
};

void rmap_tree_insert(struct rmap_node **root, struct rmap_node *node);
void rmap_tree_remove(struct rmap_node **root, struct rmap_node *node);
/* The first node, by ->first, that overlaps [first, last] and comes after @prev (NULL: from the start); or NULL. */
struct rmap_node *rmap_tree_next(struct rmap_node *root, struct rmap_node *prev, u64 first, u64 last);
/* Test. Return: nodes. */
u64 rmap_tree_check(const struct rmap_node *root);

/* --- anonymous memory ---------------------------------------------------------------- */

/*
 * What the anonymous pages of one VMA belong to, and of those that came from it by
 * split, move or merge. Made at the first fault; a VMA that never had one has no page.
 */
struct anon_vma {
	union {
		struct rmap_lock lock;
		struct { /* after the last reference */
			struct rcu_head rcu;
			struct anon_vma *chain;
		};
	};
	struct rmap_node *vmas; /* under lock */
	u32 refs;		/* atomic; linked VMAs, and who looks for one */
} cacheline_aligned;		/* one line each: mm_lock touches them all */

/*
 * Give @vma its anon_vma: a neighbour's, so that the two may merge one day, or a new one.
 * Context: the policy's fault or read side; sleeps. Return: 0; -ENOMEM.
 */
int anon_vma_prepare(struct vm_area_struct *vma);

/* Context: any; never in an RCU reader of its own. */
void anon_vma_put(struct anon_vma *anon_vma);

/* Exit: those that wait with the mm for company go into the grace period. */
void anon_vma_flush(struct mm_struct *mm);

/* --- VMAs --------------------------------------------------------------------------- */

/* The lock of the object whose pages a VMA maps, or NULL. */
struct rmap_lock *vma_rmap_lock(const struct vm_area_struct *vma);

/* Put a VMA into its object's index, and take it out. Context: the write side; takes the object's lock. */
void vma_rmap_link(struct vm_area_struct *vma);
void vma_rmap_unlink(struct vm_area_struct *vma);

/* --- from the page -------------------------------------------------------------------- */

/*
 * Lock the object of a page for reading; the page cannot get into, or out of, a VMA
 * of another object meanwhile. Context: a reference on the page; sleeps.
 * Return: NULL if no entry holds it (any more).
 */
struct rmap_lock *page_rmap_lock(struct page *page);
void page_rmap_unlock(struct page *page, struct rmap_lock *lock);

/*
 * Call @fn for each VMA that may have an entry of the page, with the address.
 * Context: page_rmap_lock(). Return: the first value other than zero that @fn returns, or zero.
 */
int page_rmap_walk(struct page *page, int (*fn)(struct vm_area_struct *vma, u64 addr, void *arg), void *arg);

#endif /* MM_RMAP_H */
