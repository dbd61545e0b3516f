/* SPDX-License-Identifier: MIT */
/*
 * The door to mm/ for the rooms above it. struct mm_struct itself is private
 * (mm/mm_internal.h).
 */
#ifndef MM_MM_H
#define MM_MM_H

#include "lib/base.h"
#include "tain/mm.h"

enum mm_access { MM_READ = TAIN_PROT_READ, MM_WRITE = TAIN_PROT_WRITE, MM_EXEC = TAIN_PROT_EXEC };

struct mm_fault {
	struct page *page; /* with a reference for the caller; put_page() when done */
	bool writable;	   /* the host entry is writable now: the mirror may map it so (HostW of rule K8) */
};

/*
 * Resolve @hva for @access, faulting the page in if needed: what get_user_pages is
 * to KVM. The result is a snapshot: it holds only while no section on the page was
 * opened since the caller sampled its sequence (rule K4).
 * @access: one or more of enum mm_access, all of which must be allowed.
 * @mm: mm_count held; after the last mmput() the answer is -EFAULT.
 * Context: sleeps; takes the policy's fault locks; never under a subscriber's lock (N11).
 * Return: 0; -EFAULT (no VMA, or it forbids the access); -ENOMEM.
 */
int mm_fault_in(struct mm_struct *mm, hva_t hva, enum mm_access access, struct mm_fault *fault);

/* Frames. */
struct page *pfn_to_page(struct frame_arena *arena, pfn_t pfn);
pfn_t page_to_pfn(const struct page *page);
void *page_address(const struct page *page);
void get_page(struct page *page);
void put_page(struct page *page);
/* Of @nr pages from @first on: accessed, and dirty too if @dirty. */
void set_pages_accessed(struct frame_arena *arena, pfn_t first, u64 nr, bool dirty);
struct frame_arena *mm_arena(struct mm_struct *mm);
void *frame_arena_base(struct frame_arena *arena); /* page_address(pfn 0) */
size_t frame_arena_bytes(struct frame_arena *arena);
size_t frame_arena_free_bytes(struct frame_arena *arena);

/*
 * 2^order zeroed frames with one reference, for tables of the rooms above; NULL when the arena is full.
 * Context: does not sleep; takes spinlocks that nest inside all others.
 */
struct page *frame_alloc(struct frame_arena *arena, unsigned int order);
void frame_free(struct page *page, unsigned int order);

/* Have the host back the whole arena now; otherwise it does so 2 MiB at a time, when the first frame of them is used.
 */
void frame_arena_populate(struct frame_arena *arena);

/*
 * Checking builds poison frames when they are freed, let them age, and compare when
 * they are used again, when the arena ends, and in frame_arena_verify(). A
 * difference is a write through a translation that should have been gone: a bug
 * report, unless a handler is set (before the first use of the arena).
 */
typedef void (*frame_corruption_fn)(struct frame_arena *arena, pfn_t pfn, unsigned int offset, u64 found, void *arg);
void frame_set_corruption_handler(struct frame_arena *arena, frame_corruption_fn fn, void *arg);
/* Compare every free frame now; nobody may allocate or free meanwhile. Return: how many were written, each told once.
 */
u64 frame_arena_verify(struct frame_arena *arena);

/*
 * Take @bytes of contiguous frames out of the arena for good (until its end), as
 * firmware would; only on a fresh arena. Return: 0 and the first frame; -EINVAL
 * (nothing, or not page aligned); -EBUSY (not fresh); -ENOMEM.
 */
int frame_reserve(struct frame_arena *arena, size_t bytes, pfn_t *first);

/*
 * Map reserved frames at a fixed address (remap_pfn_range): a special mapping
 * whose pages nobody may take away. Return: 0; -EINVAL; -EEXIST; -ENOMEM.
 */
int mm_map_pfn(struct mm_struct *mm, hva_t addr, pfn_t first, size_t bytes, int prot);

/*
 * Aligned 64-bit access, atomic against guests, through the fault path.
 * Return: 0; -EINVAL (not aligned); -EFAULT; -ENOMEM.
 */
int mm_read64(struct mm_struct *mm, hva_t addr, u64 *value);
int mm_write64(struct mm_struct *mm, hva_t addr, u64 value);

/*
 * Hold the address space still (no operation, no section) while a checker compares
 * a mirror with it: mmap write lock. mm_audit_lookup() is valid between the two.
 */
void mm_audit_begin(struct mm_struct *mm);
void mm_audit_end(struct mm_struct *mm);
/* The page mapped at @hva and its rights, or NULL. */
struct page *mm_audit_lookup(struct mm_struct *mm, hva_t hva, bool *writable);

/* What an address space did so far, summed over threads; a snapshot. */
struct mm_stats {
	u64 faults;	   /* mm_fault_in() and what is built on it */
	u64 first_touches; /* ... that installed an anonymous page */
	u64 spurious;	   /* ... that found the entry good */
	u64 retries;	   /* ... rounds thrown away because a writer was faster */
	u64 lost_installs; /* ... that found another's page at the page-table lock */
	u64 sections;	   /* notifier sections opened */
	u64 zapped;	   /* entries cleared */
	u64 moved;	   /* entries moved by mremap */
	u64 tables;	   /* page tables allocated */
	u64 tables_freed;
};
void mm_get_stats(struct mm_struct *mm, struct mm_stats *stats);

/* Names of the locking designs, NULL terminated. */
const char *const *mm_policy_names(void);

#endif /* MM_MM_H */
