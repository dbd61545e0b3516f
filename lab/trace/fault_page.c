/* SPDX-License-Identifier: MIT */
/* Pages of a guest and invalidations of a host, in hash tables with open addressing. */
#include "lab/trace/fault_page.h"

#include <string.h>

#include "lib/alloc.h"

#define FIRST_SLOTS 1024
#define CHUNK_SHIFT 21
#define CHUNK_BYTES BIT(CHUNK_SHIFT)
#define CHUNK_PAGES (CHUNK_BYTES / PAGE_SIZE)
/* A longer range counts for everything: nobody unmaps 64 GiB and asks which page of it was meant. */
#define RANGE_MAX (64ull << 30)

/* Multiplicative; the upper bits are the good ones. @max: a power of two. */
static u64 hash(u64 key, u64 max)
{
	return (key * 0x9e3779b97f4a7c15ull) >> (64 - (u64)__builtin_ctzll(max));
}

/* --- pages ------------------------------------------------------------------------------ */

int fault_pages_init(struct fault_pages *pages)
{
	pages->nr = 0;
	pages->max = FIRST_SLOTS;
	pages->slot = mem_zalloc(FIRST_SLOTS * sizeof(*pages->slot));
	return pages->slot ? 0 : -ENOMEM;
}

void fault_pages_destroy(struct fault_pages *pages)
{
	mem_free(pages->slot);
	pages->slot = NULL;
}

/* The slot of @key, or the free one where it belongs. */
static struct fault_page *page_slot(const struct fault_pages *pages, u64 key)
{
	u64 i = hash(key, pages->max);

	while (pages->slot[i].key && pages->slot[i].key != key)
		i = (i + 1) & (pages->max - 1);
	return &pages->slot[i];
}

static int pages_grow(struct fault_pages *pages)
{
	struct fault_pages more = { .nr = pages->nr, .max = pages->max * 2 };

	more.slot = mem_zalloc(more.max * sizeof(*more.slot));
	if (!more.slot)
		return -ENOMEM;
	for (u64 i = 0; i < pages->max; i++)
		if (pages->slot[i].key)
			*page_slot(&more, pages->slot[i].key) = pages->slot[i];
	mem_free(pages->slot);
	*pages = more;
	return 0;
}

static u64 page_key(u32 space, u64 gfn, u32 level)
{
	return (u64)space << (FAULT_GFN_BITS + 2) | align_down(gfn, LEVEL_PAGES(level)) << 2 | level;
}

struct fault_page *fault_page_get(struct fault_pages *pages, u32 space, u64 gfn, u32 level)
{
	u64 key = page_key(space, gfn, level);
	struct fault_page *p = page_slot(pages, key);

	if (p->key)
		return p;
	if (pages->nr >= pages->max / 4 * 3) {
		if (pages_grow(pages))
			return NULL;
		p = page_slot(pages, key);
	}
	p->key = key;
	pages->nr++;
	return p;
}

static u64 last_told(const struct fault_page *p)
{
	return max(p->set_ns, p->gone_ns);
}

struct fault_page *fault_page_find(const struct fault_pages *pages, u32 space, u64 gfn)
{
	struct fault_page *found = NULL;

	for (u32 level = 1; level <= FAULT_LEVELS; level++) {
		struct fault_page *p = page_slot(pages, page_key(space, gfn, level));

		if (p->key && (!found || last_told(p) > last_told(found)))
			found = p;
	}
	return found;
}

/* --- invalidations ------------------------------------------------------------------------ */

int invalidations_init(struct invalidations *v)
{
	*v = (struct invalidations){ .max = FIRST_SLOTS };
	v->slot = mem_zalloc(FIRST_SLOTS * sizeof(*v->slot));
	return v->slot ? 0 : -ENOMEM;
}

void invalidations_destroy(struct invalidations *v)
{
	for (u64 i = 0; v->slot && i < v->max; i++)
		mem_free(v->slot[i].page);
	mem_free(v->slot);
	v->slot = NULL;
}

static struct invalid_chunk *chunk_slot(const struct invalidations *v, u64 base)
{
	u64 i = hash(base, v->max);

	while (v->slot[i].base && v->slot[i].base != base)
		i = (i + 1) & (v->max - 1);
	return &v->slot[i];
}

static int invalidations_grow(struct invalidations *v)
{
	struct invalidations more = { .nr = v->nr, .max = v->max * 2, .all = v->all };

	more.slot = mem_zalloc(more.max * sizeof(*more.slot));
	if (!more.slot)
		return -ENOMEM;
	for (u64 i = 0; i < v->max; i++)
		if (v->slot[i].base)
			*chunk_slot(&more, v->slot[i].base) = v->slot[i];
	mem_free(v->slot);
	*v = more;
	return 0;
}

static struct invalid_chunk *chunk_get(struct invalidations *v, hva_t hva)
{
	u64 base = align_down(hva, CHUNK_BYTES) | 1;
	struct invalid_chunk *c = chunk_slot(v, base);

	if (c->base)
		return c;
	if (v->nr >= v->max / 4 * 3) {
		if (invalidations_grow(v))
			return NULL;
		c = chunk_slot(v, base);
	}
	c->base = base;
	v->nr++;
	return c;
}

/* [start, end) of one chunk. */
static int chunk_add(struct invalidations *v, hva_t start, hva_t end, struct invalidation now)
{
	struct invalid_chunk *c = chunk_get(v, start);
	u64 first = start % CHUNK_BYTES >> PAGE_SHIFT, pages = align_up(end - start, PAGE_SIZE) >> PAGE_SHIFT;

	if (!c)
		return -ENOMEM;
	if (pages == CHUNK_PAGES) {
		c->all = now;
		return 0;
	}
	if (!c->page)
		c->page = mem_zalloc(CHUNK_PAGES * sizeof(*c->page));
	if (!c->page)
		return -ENOMEM;
	for (u64 i = 0; i < pages && first + i < CHUNK_PAGES; i++)
		c->page[first + i] = now;
	return 0;
}

int invalidations_add(struct invalidations *v, hva_t start, hva_t end, u64 ns, u32 tid)
{
	struct invalidation now = { ns, tid };

	start = align_down(start, PAGE_SIZE);
	if (end <= start)
		return 0;
	if (end - start > RANGE_MAX) {
		v->all = now;
		return 0;
	}
	while (start < end) {
		hva_t next = min(end, align_down(start, CHUNK_BYTES) + CHUNK_BYTES);

		if (chunk_add(v, start, next, now)) {
			v->all = now;
			return -ENOMEM;
		}
		start = next;
	}
	return 0;
}

struct invalidation invalidations_last(const struct invalidations *v, hva_t hva, u64 pages)
{
	struct invalidation last = v->all;
	hva_t end = hva + pages * PAGE_SIZE;

	while (hva < end) {
		hva_t next = min(end, align_down(hva, CHUNK_BYTES) + CHUNK_BYTES);
		const struct invalid_chunk *c = chunk_slot(v, align_down(hva, CHUNK_BYTES) | 1);

		last = c->base ? invalidation_later(last, c->all) : last;
		for (; c->page && hva < next; hva += PAGE_SIZE)
			last = invalidation_later(last, c->page[hva % CHUNK_BYTES >> PAGE_SHIFT]);
		hva = next;
	}
	return last;
}
