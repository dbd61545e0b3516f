/* SPDX-License-Identifier: MIT */
/* struct mm_struct, and what the files of mm/ share. */
#ifndef MM_MM_INTERNAL_H
#define MM_MM_INTERNAL_H

#include "lib/atomic.h"
#include "lib/base.h"
#include "lib/counter.h"
#include "lib/lock.h"
#include "lib/mutant.h"
#include "lib/race.h"
#include "lib/rcu.h"
#include "mm/file.h"
#include "mm/frame.h"
#include "mm/lock_all.h"
#include "mm/mm.h"
#include "mm/policy.h"
#include "mm/pte_x86.h"
#include "mm/trace.h"
#include "mm/vma.h"
#include "notifier/notifier.h"

#define MM_MMAP_MIN 0x10000ull /* automatic placement stays above */

enum mm_counter {
	MM_NR_FAULTS,
	MM_NR_FIRST_TOUCHES,
	MM_NR_SPURIOUS,
	MM_NR_RETRIES,
	MM_NR_LOST_INSTALLS,
	MM_NR_SECTIONS,
	MM_NR_ZAPPED,
	MM_NR_MOVED,
	MM_NR_TABLES,
	MM_NR_TABLES_FREED,
	MM_NR_COUNTERS
};

struct mm_struct {
	/* Constant after creation. */
	struct frame_arena *arena;
	const struct mm_policy *policy;
	const struct mm_lock_variant *mm_lock; /* how registration takes all locks */
	bool privileged;		       /* ... whatever their number */
	u32 max_vmas;
	struct page *root; /* the level 4 table; freed by exit */
	u32 max_map_count;
	struct counters counters;
	struct notifier_mm notifier;

	/* anon_vmas that wait to be freed together; the write side's. */
	struct anon_vma *anon_retired;
	u32 nr_anon_retired;

	struct vma_tree vmas; /* written on the policy's write side; see mm/vma.h for readers */

	/*
	 * mmap_lock, of the policies that have one. For writing: guards the VMA tree, the
	 * existence of page tables, and opens sections that clear entries. For reading:
	 * faults, and sections that leave the VMAs alone.
	 */
	struct rw_semaphore mmap_lock cacheline_aligned;
	u32 write_owner; /* thread_id() + 1 of who is in mmap_write_lock(), 0: nobody; written on the write side */
};

static inline struct mm_struct *mm_of(struct notifier_mm *notifier)
{
	return container_of(notifier, struct mm_struct, notifier);
}

static inline void mm_count_event(struct mm_struct *mm, enum mm_counter counter, u64 n)
{
	counter_add(&mm->counters, counter, n);
}

/* Do nodes, VMAs and tables that were published wait for a grace period? */
static inline bool mm_defers(const struct mm_struct *mm)
{
	return CHECKING || mm->policy->lockless_readers;
}

static inline bool range_ok(hva_t start, u64 len)
{
	return len && is_aligned(start | len, PAGE_SIZE) && start < TAIN_TASK_SIZE && len <= TAIN_TASK_SIZE - start;
}

static inline struct mm_range mm_write_begin(struct mm_struct *mm, hva_t start, hva_t end)
{
	struct mm_range range = { mm, start, end };

	mm->policy->write_begin(&range);
	return range;
}

static inline void mm_write_end(struct mm_range *range)
{
	range->mm->policy->write_end(range);
}

/* --- pgtable.c ------------------------------------------------------------------ */

static inline pte_t pte_read(const pte_t *ptep)
{
	return (pte_t){ READ_ONCE(ptep->val) };
}

static inline pte_t *pt_entries(const struct page *table)
{
	return frame_address(table);
}

int pt_create(struct mm_struct *mm);
/* Exit: free every table; all entries are clear. */
void pt_destroy(struct mm_struct *mm);

/* The leaf table of @addr, or NULL. Context: the policy keeps the tables alive. */
struct page *pt_leaf(struct mm_struct *mm, hva_t addr);
/* The same, made if need be. Context: sleeps. Return: NULL when the arena is full. */
struct page *pt_leaf_alloc(struct mm_struct *mm, hva_t addr);

/* Write an entry of a leaf: the one place where they change. Context: the table's ptl. */
void pte_set_locked(struct page *leaf, hva_t addr, pte_t new);

/*
 * Call fn for each leaf table that overlaps [start, end), with the part of the range
 * that it maps. Absent tables are skipped.
 */
void pt_for_each_leaf(struct mm_struct *mm, hva_t start, hva_t end,
		      void (*fn)(struct page *leaf, hva_t start, hva_t end, void *arg), void *arg);

/*
 * Free the tables below the root that map part of [start, end) and nothing outside
 * [floor, ceiling), where no other VMA is. Context: the policy's write side; the
 * entries are clear.
 */
void free_pgtables(struct mm_struct *mm, hva_t start, hva_t end, hva_t floor, hva_t ceiling);

/* --- gather.c: clearing entries --------------------------------------------------- */

/*
 * Pages whose entries were cleared, kept until the section has made sure that no
 * mirror reaches them (rule T), then freed together.
 */
#define GATHER_MAX (PROVE ? 5 : 256) /* hostile mode: full in the middle of nearly every table */

struct mmu_gather {
	struct mm_struct *mm;
	const struct mm_file *file; /* only pages of this one; NULL: all */
	u64 cleared;
	unsigned int nr;
	struct page *pages[GATHER_MAX];
};

void gather_init(struct mmu_gather *gather, struct mm_struct *mm);
/* Clear every entry of the range. Context: inside a section that covers it (rule N5); takes page-table locks. */
void gather_unmap(struct mmu_gather *gather, hva_t start, hva_t end);
/* Free what was gathered. Context: no page-table lock. */
void gather_finish(struct mmu_gather *gather);

/*
 * A section of @event around the clearing of [start, end), and the freeing of the
 * pages. @txn: the VMAs of the range are gone from the tree; finish it and free the page tables.
 * Context: the policy's write side, or its read side without @txn.
 */
void mm_unmap_section(struct mm_struct *mm, hva_t start, hva_t end, enum mmu_notifier_event event, struct vma_txn *txn);

/* Open and close a section; what is between may clear, move and protect entries of the range. */
struct mmu_notifier_range mm_section_begin(struct mm_struct *mm, hva_t start, hva_t end, enum mmu_notifier_event event);
void mm_section_end(struct mmu_notifier_range *range);

/*
 * Entries of the range were cleared or narrowed: devices that walk the page table hear
 * of it before the lock goes, and so before a page is freed or a new entry seen (rule N13):
 *
 *   zap                                  another zap of the range
 *   ---                                  ------------------------
 *   ptl; clear; unlock
 *                                        ptl: nothing there; unlock
 *                                        returns: its caller relies on it
 *   tell the devices: too late           (catalogue 14)
 *
 * Context: the page-table lock.
 */
static inline void mm_secondary_tlbs_locked(struct mm_struct *mm, hva_t start, hva_t end)
{
	if (!mutant(MUTANT_N13_NOT_TOLD)) /* catalogue 13 */
		mmu_notifier_arch_invalidate_secondary_tlbs(&mm->notifier, start, end);
}

/* Free the page tables of a range that has no VMA any more. Context: the policy's write side. */
void mm_free_tables(struct mm_struct *mm, hva_t start, hva_t end);

/* --- mm.c --------------------------------------------------------------------------- */

/* Test: every entry and every VMA is as it must be. Context: nothing else runs on the mm. */
void mm_check(struct mm_struct *mm);

#endif /* MM_MM_INTERNAL_H */
