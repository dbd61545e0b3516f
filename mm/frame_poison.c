/* SPDX-License-Identifier: MIT */
/*
 * Freed frames in checking builds: filled with poison, aged in a first-in first-out
 * quarantine, compared with the poison when they are used again. Whoever wrote
 * through a stale translation in between is seen, with frame and offset.
 */
#include <string.h>

#include "lib/alloc.h"
#include "mm/frame.h"
#include "mm/trace.h"

#define QUARANTINE_MAX 4096

static u64 poison[PAGE_SIZE / sizeof(u64)];

static void poison_fill(void)
{
	static u32 done;

	if (smp_load_acquire(&done)) /* pairs with the release below */
		return;
	/* Two threads may fill it at once with the same words. */
	for (unsigned int i = 0; i < ARRAY_SIZE(poison); i++)
		WRITE_ONCE(poison[i], FRAME_POISON);
	smp_store_release(&done, 1); /* pairs with the acquire above */
}

int quarantine_init(struct frame_arena *arena)
{
	if (!CHECKING)
		return 0;
	poison_fill();
	arena->quarantine_size = min(arena->nr_frames / 8, (u64)QUARANTINE_MAX);
	arena->quarantine = mem_zalloc(arena->quarantine_size * sizeof(*arena->quarantine));
	return arena->quarantine ? 0 : -ENOMEM;
}

void quarantine_destroy(struct frame_arena *arena)
{
	mem_free(arena->quarantine);
}

void frame_poison(struct page *page, unsigned int order)
{
	for (u64 i = 0; i < BIT(order); i++) {
		memcpy(frame_address(page + i), poison, PAGE_SIZE);
		WRITE_ONCE(page[i].flags, PG_POISONED);
	}
}

static void report(struct page *page)
{
	struct frame_arena *arena = page->arena;
	const u64 *word = frame_address(page);
	pfn_t pfn = frame_pfn(page);
	unsigned int i = 0;

	while (i < ARRAY_SIZE(poison) - 1 && word[i] == FRAME_POISON)
		i++;
	mm_trace(FRAME_CORRUPT, pfn, i * sizeof(u64), word[i], 0);
	if (!arena->corruption)
		BUG("frame %#llx was written at offset %#zx after it was freed: %#llx", (unsigned long long)pfn,
		    i * sizeof(u64), (unsigned long long)word[i]);
	arena->corruption(arena, pfn, i * (unsigned int)sizeof(u64), word[i], arena->corruption_arg);
}

static bool check(struct page *page)
{
	if (!(READ_ONCE(page->flags) & PG_POISONED) || !memcmp(frame_address(page), poison, PAGE_SIZE))
		return true;
	report(page);
	return false;
}

void frame_unpoison(struct page *page, unsigned int order)
{
	for (u64 i = 0; i < BIT(order); i++) {
		check(page + i);
		WRITE_ONCE(page[i].flags, 0);
	}
}

u64 frame_arena_verify(struct frame_arena *arena)
{
	u64 bad = 0;

	for (pfn_t pfn = 0; CHECKING && pfn < arena->nr_frames; pfn++) {
		struct page *page = frame_page(arena, pfn);

		if (page_count(page) || check(page))
			continue;
		memcpy(frame_address(page), poison, PAGE_SIZE); /* reported once */
		bad++;
	}
	return bad;
}

unsigned int quarantine_pass(struct frame_arena *arena, struct page **pages, unsigned int nr)
{
	unsigned int aged = 0;

	spin_lock(&arena->zone_lock);
	for (unsigned int i = 0; i < nr; i++) {
		u64 slot = arena->quarantine_head;
		struct page *page = pages[i];

		if (arena->quarantine_count == arena->quarantine_size)
			pages[aged++] = arena->quarantine[slot];
		else
			arena->quarantine_count++;
		arena->quarantine[slot] = page;
		arena->quarantine_head = (slot + 1) % arena->quarantine_size;
	}
	spin_unlock(&arena->zone_lock);
	return aged;
}

void quarantine_drain(struct frame_arena *arena)
{
	spin_lock(&arena->zone_lock);
	while (arena->quarantine_count) {
		u64 size = arena->quarantine_size;
		u64 tail = (arena->quarantine_head + size - arena->quarantine_count) % size;

		arena->quarantine_count--;
		buddy_free_locked(arena, arena->quarantine[tail], 0);
	}
	spin_unlock(&arena->zone_lock);
}
