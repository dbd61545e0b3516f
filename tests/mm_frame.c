/* SPDX-License-Identifier: MIT */
/* Frames: sizes, references, caches, poison and its report. */
#include "lib/lock.h"
#include "tests/mm_env.h"

static void bad_sizes(void)
{
	struct frame_arena *arena;

	CHECK_EQ(frame_arena_create(0, &arena), -EINVAL);
	CHECK_EQ(frame_arena_create((1ul << 20) - PAGE_SIZE, &arena), -EINVAL);
	CHECK_EQ(frame_arena_create((1ul << 20) + 1, &arena), -EINVAL);
	CHECK_EQ(frame_arena_create(1ul << 46, &arena), -EINVAL);
	CHECK_EQ(frame_arena_create(1ul << 63, &arena), -EINVAL);
	CHECK_EQ(frame_arena_create(1ul << 20, NULL), -EINVAL);
}

static void out_of_memory(void)
{
#if CHECKING
	for (u64 n = 1;; n++) {
		struct frame_arena *arena = NULL;
		int err;

		mem_fail_after(n);
		err = frame_arena_create(1ul << 20, &arena);
		if (!err) {
			CHECK(!mem_failed());
			mem_fail_after(0);
			frame_arena_destroy(arena);
			break;
		}
		CHECK_EQ(err, -ENOMEM);
	}
#endif
}

static void references(void)
{
	struct frame_arena *arena;
	struct page *page;

	REQUIRE_EQ(frame_arena_create(ENV_ARENA_BYTES, &arena), 0);
	CHECK_EQ(frame_arena_bytes(arena), ENV_ARENA_BYTES);
	page = frame_alloc(arena, 0);
	REQUIRE(page);
	CHECK_PTR_EQ(pfn_to_page(arena, page_to_pfn(page)), page);
	CHECK_PTR_EQ(page_address(page), (u8 *)frame_arena_base(arena) + (page_to_pfn(page) << PAGE_SHIFT));
	get_page(page);
	put_page(page);
	CHECK_EQ(page_count(page), 1);
	CHECK_EQ(frame_arena_free_bytes(arena), ENV_ARENA_BYTES - PAGE_SIZE);
	set_pages_accessed(arena, page_to_pfn(page), 1, true);
	CHECK_EQ(page->flags, PG_DIRTY | PG_ACCESSED);
	put_page(page);
	CHECK_EQ(frame_arena_free_bytes(arena), ENV_ARENA_BYTES);

	page = frame_alloc(arena, 3);
	REQUIRE(page);
	get_page(page);
	put_page(page);
	put_page(page); /* the last one frees the whole block */
	CHECK_EQ(frame_arena_free_bytes(arena), ENV_ARENA_BYTES);
	CHECK(!frame_alloc(arena, FRAME_ORDERS));
	frame_arena_destroy(arena);
}

/* What one thread keeps in its cache, another can have when memory is short. */
static void take_all(void *arg)
{
	struct frame_arena *arena = arg;
	struct page *page = frame_alloc(arena, 0);

	CHECK(page);
	if (page)
		put_page(page); /* leaves frames in this thread's cache */
}

static void caches_are_no_hoard(void)
{
	struct frame_arena *arena;
	struct page *page, *first = NULL;
	u64 n = 0;

	REQUIRE_EQ(frame_arena_create(ENV_ARENA_BYTES, &arena), 0);
	for (int i = 0; i < 4; i++) {
		struct thread thread;

		REQUIRE_EQ(thread_create(&thread, "taker", -1, take_all, arena), 0);
		thread_join(&thread);
	}
	while ((page = frame_alloc(arena, 0))) {
		page->chain = first;
		first = page;
		n++;
	}
	CHECK_EQ(n, ENV_ARENA_BYTES >> PAGE_SHIFT);
	while (first) {
		page = first;
		first = page->chain;
		put_page(page);
	}
	frame_arena_destroy(arena);
}

#if CHECKING
struct corruption {
	unsigned int count, offset;
	pfn_t pfn;
	u64 found;
};

static void on_corruption(struct frame_arena *arena, pfn_t pfn, unsigned int offset, u64 found, void *arg)
{
	struct corruption *c = arg;

	c->count++;
	c->pfn = pfn;
	c->offset = offset;
	c->found = found;
}

/* A write to a freed frame is told, with frame and offset: when asked, when the frame is used again, at the end. */
static void poison_tells(void)
{
	struct corruption seen = { 0 };
	struct frame_arena *arena;
	struct page *page;
	u64 *word;

	REQUIRE_EQ(frame_arena_create(1ul << 20, &arena), 0);
	frame_set_corruption_handler(arena, on_corruption, &seen);
	page = frame_alloc(arena, 0);
	REQUIRE(page);
	word = page_address(page);
	put_page(page);
	CHECK_EQ(frame_arena_verify(arena), 0);
	word[100] = 0x1234;
	CHECK_EQ(frame_arena_verify(arena), 1);
	CHECK_EQ(seen.count, 1);
	CHECK_EQ(seen.pfn, page_to_pfn(page));
	CHECK_EQ(seen.offset, 800);
	CHECK_EQ(seen.found, 0x1234);
	CHECK_EQ(frame_arena_verify(arena), 0); /* once */

	word[511] = 7;
	for (struct page *p; (p = frame_alloc(arena, 0));) /* until it is used again */
		CHECK_EQ(*(u64 *)page_address(p), 0);
	CHECK_EQ(seen.count, 2);
	CHECK_EQ(seen.offset, 4088);
	for (pfn_t pfn = 0; pfn < 256; pfn++)
		put_page(pfn_to_page(arena, pfn));
	((u64 *)frame_arena_base(arena))[0] = 1;
	frame_arena_destroy(arena);
	CHECK_EQ(seen.count, 3);
	CHECK_EQ(seen.pfn, 0);
}

/* A freed frame is not the next one allocated. */
static void frames_age(void)
{
	struct frame_arena *arena;
	struct page *page, *other;

	REQUIRE_EQ(frame_arena_create(ENV_ARENA_BYTES, &arena), 0);
	page = frame_alloc(arena, 0);
	REQUIRE(page);
	put_page(page);
	for (u64 i = 0; i + 1 < arena->quarantine_size; i++) {
		other = frame_alloc(arena, 0);
		if (!CHECK(other != page))
			break;
		put_page(other);
	}
	frame_arena_destroy(arena);
}
#endif

/* Threads allocate, write their mark, check it, free: no frame has two owners. */
static void mark_and_check(void *arg)
{
	struct frame_arena *arena = arg;
	struct page *held[16] = { 0 };
	struct rng rng;

	rng_seed(&rng, thread_id() + 1);
	for (unsigned int turn = 0; turn < TEST_SCALE(20000u); turn++) {
		unsigned int i = (unsigned int)rng_below(&rng, ARRAY_SIZE(held));
		unsigned int order = i % 8 ? 0 : i / 8;
		u64 *word;

		if (held[i]) {
			word = page_address(held[i]);
			if (!CHECK_EQ(*word, (u64)thread_id() << 32 | i))
				return;
			frame_free(held[i], order);
			held[i] = NULL;
			continue;
		}
		held[i] = frame_alloc(arena, order);
		if (!held[i])
			continue;
		word = page_address(held[i]);
		if (!CHECK_EQ(*word, 0))
			return;
		*word = (u64)thread_id() << 32 | i;
	}
	for (unsigned int i = 0; i < ARRAY_SIZE(held); i++) {
		if (held[i])
			frame_free(held[i], i % 8 ? 0 : i / 8);
	}
}

static void owners(void)
{
	struct frame_arena *arena;
	struct thread threads[4];

	REQUIRE_EQ(frame_arena_create(1ul << 20, &arena), 0);
	for (unsigned int i = 0; i < ARRAY_SIZE(threads); i++)
		REQUIRE_EQ(thread_create(&threads[i], "owner", -1, mark_and_check, arena), 0);
	for (unsigned int i = 0; i < ARRAY_SIZE(threads); i++)
		thread_join(&threads[i]);
	CHECK_EQ(frame_arena_free_bytes(arena), 1ul << 20);
	frame_arena_populate(arena); /* touches nothing that is owned, changes nothing */
	CHECK_EQ(frame_arena_verify(arena), 0);
	frame_arena_destroy(arena);
}

const struct test_case mm_frame_tests[] = { TEST(bad_sizes),	TEST(out_of_memory),
					    TEST(references),	TEST(caches_are_no_hoard),

#if CHECKING
					    TEST(poison_tells), TEST(frames_age),
#endif

					    TEST(owners),	TEST_END };
