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
	bool writable;     /* the host entry is writable now: the mirror may map it so (HostW of rule K8) */
};

/*
 * Resolve @hva for @access, faulting the page in if needed: what get_user_pages is
 * to KVM. The result is a snapshot: it holds only while no section on the page was
 * opened since the caller sampled its sequence (rule K4).
 * Context: sleeps; takes the policy's fault locks; never under a subscriber's lock (N11).
 * Return: 0; -EFAULT (no VMA, or it forbids the access); -ENOMEM; -EINTR.
 */
int mm_fault_in(struct mm_struct *mm, hva_t hva, enum mm_access access, struct mm_fault *fault);

/* Frames. */
struct page *pfn_to_page(struct frame_arena *arena, pfn_t pfn);
pfn_t page_to_pfn(const struct page *page);
void *page_address(const struct page *page);
void get_page(struct page *page);
void put_page(struct page *page);
void set_page_dirty(struct page *page);
void set_page_accessed(struct page *page);
struct frame_arena *mm_arena(struct mm_struct *mm);
void *frame_arena_base(struct frame_arena *arena); /* page_address(pfn 0) */
size_t frame_arena_bytes(struct frame_arena *arena);
size_t frame_arena_free_bytes(struct frame_arena *arena);

/* 2^order zeroed frames with one reference, for tables of the rooms above; NULL when the arena is full. */
struct page *frame_alloc(struct frame_arena *arena, unsigned int order);
void frame_free(struct page *page, unsigned int order);

/*
 * Take @bytes of contiguous frames out of the arena for good (until its end), as
 * firmware would; only on a fresh arena. Return: 0 and the first frame; -ENOMEM.
 */
int frame_reserve(struct frame_arena *arena, size_t bytes, pfn_t *first);

/*
 * Map reserved frames at a fixed address (remap_pfn_range): a special mapping
 * whose pages nobody may take away. Return: 0; -EINVAL; -EEXIST; -ENOMEM.
 */
int mm_map_pfn(struct mm_struct *mm, hva_t addr, pfn_t first, size_t bytes, int prot);

/*
 * Aligned 64-bit access, atomic against guests, through the fault path.
 * Return: 0; -EFAULT; -ENOMEM.
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

/* Names of the locking designs, NULL terminated. */
const char *const *mm_policy_names(void);

#endif /* MM_MM_H */
