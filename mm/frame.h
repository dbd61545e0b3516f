/* SPDX-License-Identifier: MIT */
/*
 * Frames as mm/ sees them: struct page, the arena, the allocator's two floors
 * (buddy lists, per-thread caches). Private to mm/.
 */
#ifndef MM_FRAME_H
#define MM_FRAME_H

#include "lib/atomic.h"
#include "lib/base.h"
#include "lib/lock.h"
#include "lib/rcu.h"
#include "lib/thread.h"
#include "mm/mm.h"

#define FRAME_MAX_ORDER 9
#define FRAME_ORDERS (FRAME_MAX_ORDER + 1)
#define FRAME_CHUNK_ORDER 9 /* what the arena asks the host for at a time */

#define PG_POISONED BIT(0) /* holds the poison pattern since it was freed */
#define PG_RESERVED BIT(1) /* taken by frame_reserve() */
#define PG_TABLE BIT(2)	   /* a page table of an mm */
#define PG_ANON BIT(3)	   /* anonymous memory */
#define PG_DIRTY BIT(4)
#define PG_ACCESSED BIT(5)
#define PG_FILE BIT(6) /* a page of a struct mm_file, or was until the file gave it up */

/* A word of poison. Freed frames hold it from end to end in checking builds. */
#define FRAME_POISON 0xdeadf4a3e5dead00ull

struct page {
	u32 refcount;		   /* atomic; 0: free, owned by the allocator */
	u32 mapcount;		   /* atomic; page table entries that hold it */
	u32 flags;		   /* atomic; PG_* */
	u8 order;		   /* of the allocation it heads; constant while allocated */
	u8 buddy;		   /* order of the free block it heads, or FRAME_NOT_BUDDY; under zone_lock */
	u8 level;		   /* PG_TABLE: level of the entries in it */
	struct frame_arena *arena; /* constant */
	union {
		struct {
			struct page *next, *prev;
		} list;		     /* on a buddy list; under zone_lock */
		struct rcu_head rcu; /* a table on its way out */
		struct {
			/*
			 * PG_ANON: the struct anon_vma, constant while the page has entries. PG_FILE: the
			 * struct mm_file, or NULL when it has given the page up; under its pages_lock.
			 */
			void *mapping;
			u64 index; /* in the object; constant once mapping is set */
		};
	};
	struct page *chain;  /* pages on their way out together, owned by who retires them */
	struct spinlock ptl; /* PG_TABLE, leaf: guards its entries. Survives a grace period after the table */
};

#define FRAME_NOT_BUDDY 0xff

/* Frames a thread keeps for itself, newest first: reused while still in the processor's cache. */
#define FRAME_CACHE_MAX 64
#define FRAME_CACHES 128 /* threads whose numbers are so far apart share one */

struct frame_cache {
	struct spinlock lock; /* guards count, frames; its own thread, and who drains when memory is short */
	u32 count;	      /* written under lock, read by frame_arena_free_bytes() without */
	struct page *frames[FRAME_CACHE_MAX];
} cacheline_aligned;

struct page_list {
	struct page *first, *last;
};

struct frame_arena {
	/* Constant after creation. */
	u8 *base;
	struct page *pages;
	u64 nr_frames;
	u32 cache_batch; /* frames moved between a cache and the lists at a time */
	int fd;
	frame_corruption_fn corruption;
	void *corruption_arg;
	u8 *populated; /* per chunk: the host has been asked to back it; a hint, racy by design */

	struct spinlock zone_lock cacheline_aligned; /* guards the rest of this line and the lists below */
	u64 nr_free;				     /* on the buddy lists */
	u64 nr_reserved;			     /* frames [0, nr_reserved) are out for good */
	struct page *free[FRAME_ORDERS];

	/* Checking builds: freed frames wait here, first in first out, before they may be used again. */
	struct page **quarantine; /* ring; under zone_lock, as are the next three */
	u64 quarantine_size, quarantine_head, quarantine_count;

	struct spinlock retired_lock cacheline_aligned; /* guards the next */
	u64 nr_retired;					/* tables waiting for a grace period; a hint without the lock */
	struct frame_cache caches[FRAME_CACHES];
};

static inline pfn_t frame_pfn(const struct page *page)
{
	return (pfn_t)(page - page->arena->pages);
}

static inline struct page *frame_page(struct frame_arena *arena, pfn_t pfn)
{
	return arena->pages + pfn;
}

static inline void *frame_address(const struct page *page)
{
	return page->arena->base + (frame_pfn(page) << PAGE_SHIFT);
}

static inline void frame_get(struct page *page)
{
	u32 old = fetch_add(&page->refcount, 1);

	ASSERT(old != 0); /* invariant MM3: only an owner makes another owner */
	(void)old;
}

static inline u32 page_count(const struct page *page)
{
	return READ_ONCE(page->refcount);
}

static inline void page_set_flag(struct page *page, u32 flag)
{
	if (~READ_ONCE(page->flags) & flag)
		fetch_or(&page->flags, flag);
}

/* --- frame.c ------------------------------------------------------------- */

/*
 * 2^order frames with one reference, contents unspecified.
 * Context: does not sleep; takes frame_cache and zone_lock. Return: NULL when the arena is full.
 */
struct page *frame_alloc_raw(struct frame_arena *arena, unsigned int order);

/*
 * The same, and waits for frames that wait for a grace period rather than fail. Where an mm
 * reclaims, this is who would: neither in a callback of a notifier, nor under a lock that
 * one takes (rule I7); the checker sees both.
 * Context: sleeps.
 */
struct page *frame_alloc_wait(struct frame_arena *arena, unsigned int order);

/* Drop one reference of each of @nr order-0 pages; those that had the last one are freed together. */
void put_pages(struct frame_arena *arena, struct page **pages, unsigned int nr);

static inline void frame_clear(struct page *page)
{
	__builtin_memset(frame_address(page), 0, PAGE_SIZE);
}

/* Free page tables linked by ->chain: at once, or after a grace period if somebody may still walk them. */
void frame_retire_tables(struct frame_arena *arena, struct page *chain, bool deferred);

#if CHECKING
/* The @n-th following allocation of this thread fails, once; 0: none does. */
void frame_fail_after(u64 n);
bool frame_failed(void);
#endif

/* --- buddy.c: all under zone_lock ------------------------------------------ */

void buddy_init_locked(struct frame_arena *arena, pfn_t first);
struct page *buddy_alloc_locked(struct frame_arena *arena, unsigned int order);
void buddy_free_locked(struct frame_arena *arena, struct page *page, unsigned int order);
/* Test: every list is what it should be. Return: frames on the lists. */
u64 buddy_check_locked(struct frame_arena *arena);

/* --- frame_cache.c --------------------------------------------------------- */

struct page *frame_cache_alloc(struct frame_arena *arena);
/* @pages hold no reference any more. */
void frame_cache_free(struct frame_arena *arena, struct page **pages, unsigned int nr);
/* Give every thread's frames back to the lists. */
void frame_cache_drain(struct frame_arena *arena);
u64 frame_cache_count(struct frame_arena *arena);

/* --- frame_poison.c: checking builds --------------------------------------- */

int quarantine_init(struct frame_arena *arena);
void quarantine_destroy(struct frame_arena *arena);
/* Poison a block that is being freed. */
void frame_poison(struct page *page, unsigned int order);
/* A block that was freed is about to be used: does it still hold the poison? Reports what does not. */
void frame_unpoison(struct page *page, unsigned int order);
/* Put freed order-0 frames into the quarantine. Return: how many came out for them, the oldest, now in @pages. */
unsigned int quarantine_pass(struct frame_arena *arena, struct page **pages, unsigned int nr);
/* Give everything in it back to the lists. */
void quarantine_drain(struct frame_arena *arena);

#endif /* MM_FRAME_H */
