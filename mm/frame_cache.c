/* SPDX-License-Identifier: MIT */
/*
 * Order-0 frames per thread, so that a first-touch fault takes no shared lock:
 * the lock of a cache is its own thread's, and another takes it only to drain the
 * caches when the lists are empty. Last in, first out: a frame just freed is in
 * the processor's cache.
 */
#include "mm/frame.h"

static struct frame_cache *cache_of(struct frame_arena *arena)
{
	return &arena->caches[thread_id() % FRAME_CACHES];
}

static void cache_refill_locked(struct frame_arena *arena, struct frame_cache *cache)
{
	u32 count = cache->count;

	spin_lock(&arena->zone_lock);
	while (count < arena->cache_batch) {
		struct page *page = buddy_alloc_locked(arena, 0);

		if (!page)
			break;
		cache->frames[count++] = page;
	}
	spin_unlock(&arena->zone_lock);
	/* The lists give ascending frames; hand them out in that order. */
	for (u32 i = 0; i < count / 2; i++) {
		struct page *page = cache->frames[i];

		cache->frames[i] = cache->frames[count - 1 - i];
		cache->frames[count - 1 - i] = page;
	}
	WRITE_ONCE(cache->count, count);
}

struct page *frame_cache_alloc(struct frame_arena *arena)
{
	struct frame_cache *cache = cache_of(arena);
	struct page *page = NULL;

	spin_lock(&cache->lock);
	if (unlikely(!cache->count))
		cache_refill_locked(arena, cache);
	if (likely(cache->count)) {
		page = cache->frames[cache->count - 1];
		WRITE_ONCE(cache->count, cache->count - 1);
	}
	spin_unlock(&cache->lock);
	return page;
}

static void zone_free(struct frame_arena *arena, struct page **pages, unsigned int nr)
{
	spin_lock(&arena->zone_lock);
	for (unsigned int i = 0; i < nr; i++)
		buddy_free_locked(arena, pages[i], 0);
	spin_unlock(&arena->zone_lock);
}

void frame_cache_free(struct frame_arena *arena, struct page **pages, unsigned int nr)
{
	struct frame_cache *cache = cache_of(arena);
	u32 limit = min(2 * arena->cache_batch, (u32)FRAME_CACHE_MAX);
	u32 count;

	spin_lock(&cache->lock);
	count = cache->count;
	if (count + nr > limit && count > arena->cache_batch) {
		/* Make room below: the oldest go. */
		u32 spill = count - arena->cache_batch;

		zone_free(arena, cache->frames, spill);
		for (u32 i = spill; i < count; i++)
			cache->frames[i - spill] = cache->frames[i];
		count -= spill;
	}
	while (nr && count < limit)
		cache->frames[count++] = pages[--nr];
	WRITE_ONCE(cache->count, count);
	spin_unlock(&cache->lock);
	if (nr)
		zone_free(arena, pages, nr);
}

void frame_cache_drain(struct frame_arena *arena)
{
	for (unsigned int i = 0; i < FRAME_CACHES; i++) {
		struct frame_cache *cache = &arena->caches[i];

		if (!READ_ONCE(cache->count))
			continue;
		spin_lock(&cache->lock);
		zone_free(arena, cache->frames, cache->count);
		WRITE_ONCE(cache->count, 0);
		spin_unlock(&cache->lock);
	}
}

u64 frame_cache_count(struct frame_arena *arena)
{
	u64 sum = 0;

	for (unsigned int i = 0; i < FRAME_CACHES; i++)
		sum += READ_ONCE(arena->caches[i].count);
	return sum;
}
