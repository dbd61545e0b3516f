/* SPDX-License-Identifier: MIT */
/* What a trace knows of each page of a guest, and which ranges of the host were invalidated when. */
#ifndef LAB_TRACE_FAULT_PAGE_H
#define LAB_TRACE_FAULT_PAGE_H

#include "lib/base.h"

#define FAULT_LEVELS 3
/* Pages of 4 KiB that an entry of @level maps. */
#define LEVEL_PAGES(level) (1ull << 9 * ((level)-1))

/* As an event has it. */
static inline u32 fault_level(u64 level)
{
	return (u32)min(max(level, (u64)1), (u64)FAULT_LEVELS);
}

struct fault_page {
	u64 key;      /* space, gfn, level; 0: free (there is no level 0) */
	u64 set_ns;   /* its entry was set; 0: not seen, it was there before the trace, or it is no entry */
	u64 since_ns; /* by a fault that was tried, or last retried, then */
	u64 gone_ns;  /* its entry was dropped, as KVM told; 0: not since it was set */
	u64 first_ns; /* first fault */
	u32 gone_by;  /* by the invalidation of this thread; 0: by none, or by one of a page whose hva was unknown */
	u32 count;    /* of faults; 0: it was only prefetched */
	bool gone_placed; /* its hva was known when it went */
	bool checked;	  /* the caller's: its place in the host was looked up */
};

/*
 * Whose page it is: each process has a VM of its own, with a gfn 5 of its own.
 * 0: the process that is traced; else the pid of one that it forked, 22 bits in Linux.
 */
#define FAULT_GFN_BITS 40

static inline u32 fault_page_space(const struct fault_page *p)
{
	return (u32)(p->key >> (FAULT_GFN_BITS + 2));
}

static inline u64 fault_page_gfn(const struct fault_page *p)
{
	return p->key >> 2 & (BIT(FAULT_GFN_BITS) - 1);
}

static inline u32 fault_page_level(const struct fault_page *p)
{
	return p->key & 3;
}

/* Open addressing; pages are never taken out. */
struct fault_pages {
	struct fault_page *slot;
	u64 nr, max; /* max is a power of two */
};

int fault_pages_init(struct fault_pages *pages);
void fault_pages_destroy(struct fault_pages *pages);

/* The page that an entry of @level maps at @gfn; valid until the next one is made. Return: NULL: no memory. */
struct fault_page *fault_page_get(struct fault_pages *pages, u32 space, u64 gfn, u32 level);
/* Of those that cover @gfn the one that was set or dropped last, or NULL. */
struct fault_page *fault_page_find(const struct fault_pages *pages, u32 space, u64 gfn);

struct invalidation {
	u64 ns;
	u32 tid;
};

/* By chunk of 2 MiB: when it was last invalidated as a whole, and each page of it. */
struct invalid_chunk {
	u64 base; /* hva | 1; 0: free */
	struct invalidation all;
	struct invalidation *page; /* NULL, or one per page */
};

struct invalidations {
	struct invalid_chunk *slot;
	u64 nr, max;
	struct invalidation all; /* of a range too long to write down chunk by chunk */
};

int invalidations_init(struct invalidations *v);
void invalidations_destroy(struct invalidations *v);

/* [start, end). Return: 0; -ENOMEM: it counts for everything instead. */
int invalidations_add(struct invalidations *v, hva_t start, hva_t end, u64 ns, u32 tid);

/* The latest of any of the @pages pages at @hva; ns 0: none was seen. */
struct invalidation invalidations_last(const struct invalidations *v, hva_t hva, u64 pages);

static inline struct invalidation invalidation_later(struct invalidation a, struct invalidation b)
{
	return b.ns > a.ns ? b : a;
}

#endif /* LAB_TRACE_FAULT_PAGE_H */
