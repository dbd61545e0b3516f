/* SPDX-License-Identifier: MIT */
/* Both hosts do what lab/host/host.h promises: one table of checks, run on each. */
#include <string.h>

#include "lab/host/host.h"
#include "lib/rng.h"
#include "tain/mm.h"
#include "tests/lab_suites.h"

#define PAGES 64
#define LIMBO_PAGES 16

struct place {
	const char *name;
	bool mm;
	enum host_backing backing;
};

static const struct place places[] = {
	{ "mm anonymous", true, HOST_ANONYMOUS },
	{ "linux anonymous", false, HOST_ANONYMOUS },
	{ "linux memfd", false, HOST_MEMFD },
};

struct world {
	const struct place *place;
	struct frame_arena *arena;
	struct host host;
};

static bool world_create(struct world *w, const struct place *place)
{
	struct err err = { "" };

	*w = (struct world){ .place = place };
	w->host.backing = place->backing;
	w->host.bytes = PAGES * PAGE_SIZE;
	w->host.limbo_bytes = LIMBO_PAGES * PAGE_SIZE;
	if (place->mm) {
		if (!CHECK_EQ(frame_arena_create(8 << 20, &w->arena), 0))
			return false;
		if (!CHECK_EQ(mm_create(w->arena, "mmap_sem", &w->host.mm), 0))
			return false;
	}
	return CHECK_MSG(!host_create(&w->host, &err), "%s: %s", place->name, err.text);
}

static void world_destroy(struct world *w)
{
	host_destroy(&w->host);
	if (!w->place->mm)
		return;
	mmput(w->host.mm);
	frame_arena_destroy(w->arena);
}

static u64 get(struct world *w, u64 page)
{
	u64 value = 0;

	CHECK_EQ(w->host.ops->read64(&w->host, page * PAGE_SIZE + 8, &value), 0);
	return value;
}

static void put(struct world *w, u64 page, u64 value)
{
	CHECK_EQ(w->host.ops->write64(&w->host, page * PAGE_SIZE + 8, value), 0);
}

static u64 get_limbo(struct world *w, u64 page)
{
	u64 value = 0;

	CHECK_EQ(w->host.ops->limbo_read64(&w->host, page * PAGE_SIZE + 8, &value), 0);
	return value;
}

static void fill(struct world *w)
{
	for (u64 page = 0; page < PAGES; page++)
		put(w, page, page + 100);
}

static void expect(struct world *w, u64 first, u64 pages, bool zero)
{
	for (u64 page = first; page < first + pages; page++)
		CHECK_MSG(get(w, page) == (zero ? 0 : page + 100), "%s: page %llu holds %llu", w->place->name,
			  (unsigned long long)page, (unsigned long long)get(w, page));
}

static void all_kept(struct world *w, u64 first, u64 pages)
{
	expect(w, 0, first, false);
	expect(w, first + pages, PAGES - first - pages, false);
}

static void begins_zero(struct world *w)
{
	expect(w, 0, PAGES, true);
	fill(w);
	expect(w, 0, PAGES, false);
}

static void remap_is_fresh(struct world *w)
{
	fill(w);
	CHECK_EQ(w->host.ops->remap(&w->host, 4 * PAGE_SIZE, 8 * PAGE_SIZE), 0);
	expect(w, 4, 8, true);
	all_kept(w, 4, 8);
	if (w->place->backing == HOST_MEMFD) {
		CHECK_EQ(w->host.limbo, LIMBO_FILE);
		CHECK_EQ(get_limbo(w, 4), 104);
		CHECK_EQ(get_limbo(w, 11), 111);
		put(w, 4, 1);
		CHECK_EQ(get_limbo(w, 4), 104);
	} else {
		CHECK_EQ(w->host.limbo, LIMBO_NONE);
	}
	CHECK_EQ(w->host.ops->release(&w->host), 0);
	CHECK_EQ(w->host.limbo, LIMBO_NONE);
}

static void unmap_and_map(struct world *w)
{
	fill(w);
	CHECK_EQ(w->host.ops->unmap(&w->host, 10 * PAGE_SIZE, 3 * PAGE_SIZE), 0);
	CHECK_EQ(w->host.limbo, w->place->backing == HOST_MEMFD ? LIMBO_FILE : LIMBO_NONE);
	/* only into a hole */
	CHECK_EQ(w->host.ops->map(&w->host, 9 * PAGE_SIZE, 3 * PAGE_SIZE), -EEXIST);
	CHECK_EQ(w->host.ops->map(&w->host, 10 * PAGE_SIZE, 3 * PAGE_SIZE), 0);
	expect(w, 10, 3, true);
	all_kept(w, 10, 3);
	if (w->place->backing == HOST_MEMFD)
		CHECK_EQ(get_limbo(w, 12), 112);
	CHECK_EQ(w->host.ops->release(&w->host), 0);
}

static void dontneed(struct world *w)
{
	fill(w);
	CHECK_EQ(w->host.ops->dontneed(&w->host, 0, PAGES * PAGE_SIZE), 0);
	expect(w, 0, PAGES, !host_backing_table[w->place->backing].keeps);
}

static void protect_keeps(struct world *w)
{
	fill(w);
	CHECK_EQ(w->host.ops->protect(&w->host, 0, 32 * PAGE_SIZE, TAIN_PROT_READ), 0);
	expect(w, 0, PAGES, false);
	CHECK_EQ(w->host.ops->protect(&w->host, 0, 32 * PAGE_SIZE, TAIN_PROT_NONE), 0);
	all_kept(w, 0, 32);
	CHECK_EQ(w->host.ops->protect(&w->host, 0, 32 * PAGE_SIZE, TAIN_PROT_READ | TAIN_PROT_WRITE), 0);
	expect(w, 0, PAGES, false);
	put(w, 0, 1);
	CHECK_EQ(get(w, 0), 1);
}

static void move_there_and_back(struct world *w)
{
	fill(w);
	CHECK_EQ(w->host.ops->move_away(&w->host, 20 * PAGE_SIZE, LIMBO_PAGES * PAGE_SIZE), 0);
	CHECK_EQ(w->host.limbo, LIMBO_QUARANTINE);
	for (u64 page = 20; page < 20 + LIMBO_PAGES; page++)
		CHECK_EQ(get_limbo(w, page), page + 100);
	CHECK_EQ(w->host.ops->limbo_write64(&w->host, 21 * PAGE_SIZE + 8, 7), 0);
	CHECK_EQ(get_limbo(w, 21), 7);
	CHECK_EQ(w->host.ops->limbo_write64(&w->host, 21 * PAGE_SIZE + 8, 121), 0);
	CHECK_EQ(w->host.ops->move_back(&w->host), 0);
	CHECK_EQ(w->host.limbo, LIMBO_NONE);
	expect(w, 0, PAGES, false);
}

static void move_for_good(struct world *w)
{
	fill(w);
	for (int i = 0; i < 3; i++) { /* the quarantine is there again after release */
		CHECK_EQ(w->host.ops->move_away(&w->host, 8 * PAGE_SIZE, 4 * PAGE_SIZE), 0);
		CHECK_EQ(w->host.ops->map(&w->host, 8 * PAGE_SIZE, 4 * PAGE_SIZE), 0);
		CHECK_EQ(get_limbo(w, 9), 109);
		expect(w, 8, 4, true);
		put(w, 9, 109);
		CHECK_EQ(w->host.ops->release(&w->host), 0);
	}
	all_kept(w, 8, 4);
}

/* Mappings of different ages under one range. */
static void move_across_mappings(struct world *w)
{
	static const u64 cuts[] = { 1, 2, 5, 6, 9 };

	for (size_t i = 0; i < ARRAY_SIZE(cuts); i++) {
		CHECK_EQ(w->host.ops->remap(&w->host, cuts[i] * PAGE_SIZE, PAGE_SIZE), 0);
		CHECK_EQ(w->host.ops->release(&w->host), 0);
	}
	fill(w);
	CHECK_EQ(w->host.ops->move_away(&w->host, 0, LIMBO_PAGES * PAGE_SIZE), 0);
	CHECK_EQ(get_limbo(w, 5), 105);
	CHECK_EQ(w->host.ops->move_back(&w->host), 0);
	expect(w, 0, PAGES, false);
}

static void populate_keeps(struct world *w)
{
	fill(w);
	CHECK_EQ(w->host.ops->remap(&w->host, 0, 8 * PAGE_SIZE), 0);
	CHECK_EQ(w->host.ops->populate(&w->host, 0, PAGES * PAGE_SIZE), 0);
	expect(w, 0, 8, true);
	all_kept(w, 0, 8);
	CHECK_EQ(w->host.ops->release(&w->host), 0);
}

/* Random operations against a list of what each page should hold. */
static void model(struct world *w)
{
	const struct host_ops *ops = w->host.ops;
	u64 expected[PAGES] = { 0 };
	struct rng rng;

	rng_seed(&rng, 5);
	for (int i = 0; i < TEST_SCALE(1000) && !test_failures(); i++) {
		u64 n = 1 + rng_below(&rng, LIMBO_PAGES), first = rng_below(&rng, PAGES - n + 1);
		u64 off = first * PAGE_SIZE, len = n * PAGE_SIZE, op = rng_below(&rng, 5);
		bool gone = true;

		if (op == 0) {
			CHECK_EQ(ops->unmap(&w->host, off, len), 0);
			CHECK_EQ(ops->map(&w->host, off, len), 0);
		} else if (op == 1) {
			CHECK_EQ(ops->remap(&w->host, off, len), 0);
		} else if (op == 2) {
			CHECK_EQ(ops->dontneed(&w->host, off, len), 0);
			gone = !host_backing_table[w->place->backing].keeps;
		} else if (op == 3) {
			CHECK_EQ(ops->move_away(&w->host, off, len), 0);
			CHECK_EQ(ops->move_back(&w->host), 0);
			gone = false;
		} else {
			CHECK_EQ(ops->move_away(&w->host, off, len), 0);
			CHECK_EQ(ops->map(&w->host, off, len), 0);
		}
		CHECK_EQ(ops->release(&w->host), 0);
		for (u64 page = first; gone && page < first + n; page++)
			expected[page] = 0;
		for (u64 page = 0; page < PAGES; page++)
			CHECK_EQ(get(w, page), expected[page]);
		n = rng_below(&rng, PAGES);
		expected[n] = i + 1;
		put(w, n, i + 1);
	}
}

static void on_each_host(void (*check)(struct world *w))
{
	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		struct world w;

		if (!world_create(&w, &places[i]))
			return;
		check(&w);
		world_destroy(&w);
	}
}

#define ON_EACH_HOST(check)                                                                                            \
	static void check##_test(void)                                                                                 \
	{                                                                                                              \
		on_each_host(check);                                                                                   \
	}

ON_EACH_HOST(begins_zero)
ON_EACH_HOST(remap_is_fresh)
ON_EACH_HOST(unmap_and_map)
ON_EACH_HOST(dontneed)
ON_EACH_HOST(protect_keeps)
ON_EACH_HOST(move_there_and_back)
ON_EACH_HOST(move_for_good)
ON_EACH_HOST(move_across_mappings)
ON_EACH_HOST(populate_keeps)
ON_EACH_HOST(model)

static void backings_are_parsed(void)
{
	enum host_backing backing;
	struct err err = { "" };

	for (int i = 0; i < HOST_BACKING_NR; i++) {
		CHECK_EQ(host_parse_backing(host_backing_table[i].name, &backing, &err), 0);
		CHECK_EQ(backing, i);
	}
	CHECK_EQ(host_parse_backing("anonymus", &backing, &err), -EINVAL);
	CHECK_CONTAINS(err.text, "did you mean 'anonymous'?");
	CHECK_EQ(host_parse_backing("", &backing, &err), -EINVAL);
}

static void mm_has_no_memfd(void)
{
	struct frame_arena *arena;
	struct err err = { "" };
	struct host host = { .backing = HOST_MEMFD, .bytes = PAGE_SIZE, .limbo_bytes = PAGE_SIZE };

	REQUIRE_EQ(frame_arena_create(1 << 20, &arena), 0);
	REQUIRE_EQ(mm_create(arena, "mmap_sem", &host.mm), 0);
	CHECK_EQ(host_create(&host, &err), -EOPNOTSUPP);
	CHECK_CONTAINS(err.text, "anonymous memory only");
	mmput(host.mm);
	frame_arena_destroy(arena);
}

const struct test_case lab_host_tests[] = {
	TEST(begins_zero_test),
	TEST(remap_is_fresh_test),
	TEST(unmap_and_map_test),
	TEST(dontneed_test),
	TEST(protect_keeps_test),
	TEST(move_there_and_back_test),
	TEST(move_for_good_test),
	TEST(move_across_mappings_test),
	TEST(populate_keeps_test),
	TEST(model_test),
	TEST(backings_are_parsed),
	TEST(mm_has_no_memfd),
	TEST_END,
};
