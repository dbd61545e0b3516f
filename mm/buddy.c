/* SPDX-License-Identifier: MIT */
/*
 * The buddy lists: free blocks of 2^order frames, each aligned to its size. A
 * block that becomes free joins its buddy (the block whose number differs in the
 * bit of the order) as long as that is free as a whole.
 *
 * Everything here runs under arena->zone_lock.
 */
#include "mm/frame.h"

static void list_add(struct frame_arena *arena, struct page *page, unsigned int order)
{
	struct page *next = arena->free[order];

	page->buddy = (u8)order;
	page->list.prev = NULL;
	page->list.next = next;
	if (next)
		next->list.prev = page;
	arena->free[order] = page;
}

static void list_del(struct frame_arena *arena, struct page *page)
{
	struct page *next = page->list.next;
	struct page *prev = page->list.prev;

	if (prev)
		prev->list.next = next;
	else
		arena->free[page->buddy] = next;
	if (next)
		next->list.prev = prev;
	page->buddy = FRAME_NOT_BUDDY;
}

void buddy_free_locked(struct frame_arena *arena, struct page *page, unsigned int order)
{
	pfn_t pfn = frame_pfn(page);

	lockdep_assert_held(&arena->zone_lock);
	ASSERT(is_aligned(pfn, BIT(order)));
	ASSERT(page->buddy == FRAME_NOT_BUDDY); /* invariant MM1: freed once */
	arena->nr_free += BIT(order);
	while (order < FRAME_MAX_ORDER) {
		pfn_t other = pfn ^ BIT(order);

		/* A block cut off by either end of the arena has no buddy. */
		if (other < arena->nr_reserved || other + BIT(order) > arena->nr_frames)
			break;
		if (frame_page(arena, other)->buddy != order)
			break;
		list_del(arena, frame_page(arena, other));
		pfn = min(pfn, other);
		order++;
	}
	list_add(arena, frame_page(arena, pfn), order);
}

struct page *buddy_alloc_locked(struct frame_arena *arena, unsigned int order)
{
	unsigned int have = order;
	struct page *page;

	lockdep_assert_held(&arena->zone_lock);
	while (have < FRAME_ORDERS && !arena->free[have])
		have++;
	if (have >= FRAME_ORDERS)
		return NULL;
	page = arena->free[have];
	list_del(arena, page);
	/* Keep the lower half of each split, so that runs of allocations ascend. */
	while (have > order) {
		have--;
		list_add(arena, page + BIT(have), have);
	}
	arena->nr_free -= BIT(order);
	return page;
}

void buddy_init_locked(struct frame_arena *arena, pfn_t first)
{
	pfn_t pfn = first;

	for (unsigned int order = 0; order < FRAME_ORDERS; order++)
		arena->free[order] = NULL;
	for (pfn_t p = 0; p < arena->nr_frames; p++)
		frame_page(arena, p)->buddy = FRAME_NOT_BUDDY;
	arena->nr_free = arena->nr_frames - first;
	while (pfn < arena->nr_frames) {
		unsigned int order = FRAME_MAX_ORDER;

		while (!is_aligned(pfn, BIT(order)) || pfn + BIT(order) > arena->nr_frames)
			order--;
		list_add(arena, frame_page(arena, pfn), order);
		pfn += BIT(order);
	}
}

u64 buddy_check_locked(struct frame_arena *arena)
{
	u64 sum = 0;

	lockdep_assert_held(&arena->zone_lock);
	for (unsigned int order = 0; order < FRAME_ORDERS; order++) {
		struct page *prev = NULL;

		for (struct page *page = arena->free[order]; page; page = page->list.next) {
			pfn_t pfn = frame_pfn(page);
			pfn_t other = pfn ^ BIT(order);

			BUG_ON(page->buddy != order);
			BUG_ON(page->list.prev != prev);
			BUG_ON(!is_aligned(pfn, BIT(order)));
			BUG_ON(pfn < arena->nr_reserved || pfn + BIT(order) > arena->nr_frames);
			BUG_ON(page_count(page) != 0);
			/* Two free buddies would have joined. */
			if (order < FRAME_MAX_ORDER && other >= arena->nr_reserved &&
			    other + BIT(order) <= arena->nr_frames)
				BUG_ON(frame_page(arena, other)->buddy == order);
			sum += BIT(order);
			prev = page;
		}
	}
	BUG_ON(sum != arena->nr_free);
	return sum;
}
