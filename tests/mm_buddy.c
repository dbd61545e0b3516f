/* SPDX-License-Identifier: MIT */
/* The buddy lists against a map of who owns which frame. */
#include "tests/mm_env.h"

#define FRAMES (ENV_ARENA_BYTES >> PAGE_SHIFT)
#define BLOCKS 256u

struct block {
	struct page *page;
	unsigned int order;
};

static void check_lists(struct frame_arena *arena, u64 expected)
{
	frame_cache_drain(arena);
	if (CHECKING)
		quarantine_drain(arena);
	spin_lock(&arena->zone_lock);
	CHECK_EQ(buddy_check_locked(arena), expected);
	spin_unlock(&arena->zone_lock);
}

/* Any sequence: blocks are aligned, whole, nobody else's, zeroed; all comes back in one piece. */
static void property(u64 seed)
{
	static u8 owned[FRAMES];
	struct block blocks[BLOCKS] = { 0 };
	struct frame_arena *arena;
	struct rng rng;
	u64 out = 0;

	rng_seed(&rng, seed);
	REQUIRE_EQ(frame_arena_create(ENV_ARENA_BYTES, &arena), 0);
	for (unsigned int turn = 0; turn < TEST_SCALE(4000u) && !test_failures(); turn++) {
		struct block *b = &blocks[rng_below(&rng, BLOCKS)];
		u64 pfn;

		if (!b->page) {
			b->order = (unsigned int)rng_below(&rng, FRAME_ORDERS);
			b->page = frame_alloc(arena, b->order);
			if (!b->page)
				continue;
			pfn = page_to_pfn(b->page);
			CHECK(is_aligned(pfn, BIT(b->order)));
			CHECK_EQ(page_count(b->page), 1);
			CHECK_EQ(*(u64 *)page_address(b->page), 0);
			CHECK_EQ(*(u64 *)((u8 *)page_address(b->page) + (PAGE_SIZE << b->order) - 8), 0);
			for (u64 i = 0; i < BIT(b->order); i++)
				CHECK_EQ(owned[pfn + i]++, 0);
			*(u64 *)page_address(b->page) = ~0ull;
			out += BIT(b->order);
		} else {
			pfn = page_to_pfn(b->page);
			for (u64 i = 0; i < BIT(b->order); i++)
				owned[pfn + i]--;
			frame_free(b->page, b->order);
			out -= BIT(b->order);
			b->page = NULL;
		}
		CHECK_EQ(frame_arena_free_bytes(arena), (FRAMES - out) << PAGE_SHIFT);
		if (turn % 64 == 0)
			check_lists(arena, FRAMES - out);
	}
	for (unsigned int i = 0; i < BLOCKS; i++) {
		if (!blocks[i].page)
			continue;
		for (u64 j = 0; j < BIT(blocks[i].order); j++)
			owned[page_to_pfn(blocks[i].page) + j]--;
		frame_free(blocks[i].page, blocks[i].order);
	}
	check_lists(arena, FRAMES);
	for (unsigned int order = 0; order < FRAME_MAX_ORDER; order++)
		CHECK(!arena->free[order]); /* all in blocks of the highest order again */
	frame_arena_destroy(arena);
}

static void random_blocks(void)
{
	for (u64 seed = 1; seed <= 4; seed++)
		property(seed);
}

/* An arena whose size is no power of two: its end has no buddies. */
static void odd_sizes(void)
{
	static const u64 frames[] = { 256, 257, 300, 511, 512, 513, 1023, 1500 };

	for (unsigned int i = 0; i < ARRAY_SIZE(frames); i++) {
		struct frame_arena *arena;
		struct page *page;
		u64 n = 0;

		REQUIRE_EQ(frame_arena_create(frames[i] << PAGE_SHIFT, &arena), 0);
		check_lists(arena, frames[i]);
		struct page *first = NULL;

		while ((page = frame_alloc(arena, 0))) {
			page->chain = first;
			first = page;
			n++;
		}
		CHECK_EQ(n, frames[i]); /* to the last frame, wherever it was */
		CHECK_EQ(frame_arena_free_bytes(arena), 0);
		while (first) {
			page = first;
			first = page->chain;
			frame_free(page, 0);
		}
		check_lists(arena, frames[i]);
		frame_arena_destroy(arena);
	}
}

static void reserve(void)
{
	struct frame_arena *arena;
	pfn_t first = 99, second = 99;
	struct page *page;

	REQUIRE_EQ(frame_arena_create(ENV_ARENA_BYTES, &arena), 0);
	CHECK_EQ(frame_reserve(arena, 0, &first), -EINVAL);
	CHECK_EQ(frame_reserve(arena, 100, &first), -EINVAL);
	CHECK_EQ(frame_reserve(arena, ENV_ARENA_BYTES + PAGE_SIZE, &first), -ENOMEM);
	CHECK_EQ(frame_reserve(arena, 5 * PAGE_SIZE, &first), 0);
	CHECK_EQ(frame_reserve(arena, 1000 * PAGE_SIZE, &second), 0); /* more than any block */
	CHECK_EQ(first, 0);
	CHECK_EQ(second, 5);
	check_lists(arena, FRAMES - 1005);
	for (unsigned int order = 0; order < FRAME_ORDERS; order++) {
		page = frame_alloc(arena, order);
		REQUIRE(page);
		CHECK_GE(page_to_pfn(page), 1005);
		CHECK_EQ(frame_reserve(arena, PAGE_SIZE, &first), -EBUSY);
		frame_free(page, order);
	}
	check_lists(arena, FRAMES - 1005);
	frame_arena_destroy(arena);
}

const struct test_case mm_buddy_tests[] = { TEST(random_blocks), TEST(odd_sizes), TEST(reserve), TEST_END };
