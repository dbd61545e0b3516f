/* SPDX-License-Identifier: MIT */
/* Threads that fault beside threads that unmap, protect and move; values are checked all the time. */
#include "tests/mm_env.h"

#define PAGES 64u
#define FAULTERS 3u
#define BASE (0x40200000ull - PAGES / 2 * PAGE_SIZE)

struct shared {
	struct env env;
	u32 stop;
	u32 started; /* workers that have done something: nothing is proved before they all have */
	u64 turns, refused, lost;
};

static void wait_for_workers(struct shared *s, u32 nr)
{
	while (READ_ONCE(s->started) < nr && !test_failures())
		thread_yield();
}

struct worker {
	struct thread thread;
	struct shared *shared;
	u32 id;
};

/*
 * A page of ours holds what we wrote last, or zero if the host threw it away; after a
 * zero, zero. Anything else is a page of another time or place.
 */
static void write_and_read(void *arg)
{
	struct worker *w = arg;
	struct shared *s = w->shared;
	u64 expected[PAGES] = { 0 };
	u64 seq = 0, refused = 0, lost = 0, turns = 0;
	struct rng rng;

	rng_seed(&rng, w->id);
	while (!READ_ONCE(s->stop)) {
		u64 page = rng_below(&rng, PAGES / FAULTERS) * FAULTERS + w->id;
		hva_t addr = env_addr(&s->env, page) + 8 * rng_below(&rng, 2);
		bool second = addr & 8; /* the second word of the page says the same */
		u64 value = 0;
		int err;

		turns++;
		if (!second && rng_below(&rng, 2)) {
			value = page << 40 | ++seq;
			err = mm_write64(s->env.mm, addr, value);
			if (!err)
				expected[page] = value;
		} else {
			err = mm_read64(s->env.mm, addr, &value);
			if (!err && !second && value != expected[page]) {
				if (!CHECK_EQ(value, 0))
					break;
				expected[page] = 0;
				lost++;
			}
			if (!err && second && !CHECK_EQ(value, 0))
				break;
		}
		if (err && !CHECK_EQ(err, -EFAULT))
			break;
		refused += !!err;
		if (turns == 1)
			fetch_add(&s->started, 1);
	}
	__atomic_fetch_add(&s->turns, turns, __ATOMIC_RELAXED);
	__atomic_fetch_add(&s->refused, refused, __ATOMIC_RELAXED);
	__atomic_fetch_add(&s->lost, lost, __ATOMIC_RELAXED);
}

static void one_op(struct shared *s, struct rng *rng)
{
	struct mm_struct *mm = s->env.mm;
	u64 page = rng_below(rng, PAGES), pages = 1 + rng_below(rng, min(PAGES - page, 16ul));
	hva_t addr = env_addr(&s->env, page);
	size_t len = pages * PAGE_SIZE;

	switch (rng_below(rng, 5)) {
	case 0:
		CHECK_EQ(mm_munmap(mm, addr, len), 0);
		CHECK_EQ(mm_mmap(mm, addr, len, RW, TAIN_MAP_FIXED, NULL), 0);
		break;
	case 1:
		CHECK_EQ(mm_mmap(mm, addr, len, RW, TAIN_MAP_FIXED, NULL), 0);
		break;
	case 2:
		CHECK_EQ(mm_mprotect(mm, addr, len, TAIN_PROT_READ), 0);
		CHECK_EQ(mm_mprotect(mm, addr, len, RW), 0);
		break;
	default:
		CHECK_EQ(mm_madvise(mm, addr, len, TAIN_MADV_DONTNEED), 0);
		break;
	}
}

static void faults_and_unmaps(void)
{
	struct worker workers[FAULTERS];
	struct shared s = { 0 };
	struct rng rng;

	if (!env_init(&s.env, BASE))
		return;
	CHECK_EQ(mm_mmap(s.env.mm, BASE, PAGES * PAGE_SIZE, RW, TAIN_MAP_FIXED, NULL), 0);
#if CHECKING
	race_delays(7, 2);
#endif
	for (u32 i = 0; i < FAULTERS; i++) {
		workers[i] = (struct worker){ .shared = &s, .id = i };
		REQUIRE_EQ(thread_create(&workers[i].thread, "faulter", -1, write_and_read, &workers[i]), 0);
	}
	wait_for_workers(&s, FAULTERS);
	rng_seed(&rng, 99);
	for (u32 turn = 0; turn < TEST_SCALE(4000u) && !test_failures(); turn++)
		one_op(&s, &rng);
	WRITE_ONCE(s.stop, 1);
	for (u32 i = 0; i < FAULTERS; i++)
		thread_join(&workers[i].thread);
	CHECK_GT(s.turns, 0);
	env_fini(&s.env);
}

/* DONTNEED from two threads at once, over the same pages, beside faults: all hold mmap_lock for reading only. */
static void drop_pages(void *arg)
{
	struct worker *w = arg;
	struct shared *s = w->shared;
	struct rng rng;

	wait_for_workers(s, FAULTERS);
	rng_seed(&rng, w->id + 100);
	for (u32 turn = 0; turn < TEST_SCALE(20000u); turn++) {
		u64 page = rng_below(&rng, PAGES);

		CHECK_EQ(mm_madvise(s->env.mm, env_addr(&s->env, page), (1 + rng_below(&rng, PAGES - page)) * PAGE_SIZE,
				    TAIN_MADV_DONTNEED),
			 0);
	}
}

static void parallel_dontneed(void)
{
	struct worker workers[FAULTERS + 2];
	struct shared s = { 0 };

	if (!env_init(&s.env, BASE))
		return;
	CHECK_EQ(mm_mmap(s.env.mm, BASE, PAGES * PAGE_SIZE, RW, TAIN_MAP_FIXED, NULL), 0);
	for (u32 i = 0; i < FAULTERS + 2; i++) {
		workers[i] = (struct worker){ .shared = &s, .id = i };
		REQUIRE_EQ(thread_create(&workers[i].thread, i < FAULTERS ? "faulter" : "dropper", -1,
					 i < FAULTERS ? write_and_read : drop_pages, &workers[i]),
			   0);
	}
	for (u32 i = FAULTERS; i < FAULTERS + 2; i++)
		thread_join(&workers[i].thread);
	WRITE_ONCE(s.stop, 1);
	for (u32 i = 0; i < FAULTERS; i++)
		thread_join(&workers[i].thread);
	CHECK_EQ(s.refused, 0); /* the mapping was there all the time */
	env_fini(&s.env);
}

/* Two places; each page is at one of them. Readers never see another page's value, wherever they find one. */
#define OTHER (BASE + (1ull << 30) + 5 * PAGE_SIZE)

static void read_both(void *arg)
{
	struct worker *w = arg;
	struct shared *s = w->shared;
	u64 found = 0;
	struct rng rng;

	rng_seed(&rng, w->id);
	while (!READ_ONCE(s->stop)) {
		u64 page = rng_below(&rng, PAGES), value = 0;
		hva_t base = rng_below(&rng, 2) ? BASE : OTHER;
		int err = mm_read64(s->env.mm, base + page * PAGE_SIZE, &value);

		if (err ? !CHECK_EQ(err, -EFAULT) : !CHECK_EQ(value, page + 1))
			break;
		found += !err;
		if (found == 1 && !err)
			fetch_add(&s->started, 1);
	}
	__atomic_fetch_add(&s->turns, found, __ATOMIC_RELAXED);
}

static void reads_and_moves(void)
{
	struct worker workers[2];
	struct shared s = { 0 };
	bool there[PAGES] = { 0 };
	struct rng rng;

	if (!env_init(&s.env, BASE))
		return;
	CHECK_EQ(mm_mmap(s.env.mm, BASE, PAGES * PAGE_SIZE, RW, TAIN_MAP_FIXED, NULL), 0);
	for (u64 i = 0; i < PAGES; i++)
		CHECK_EQ(mm_write64(s.env.mm, BASE + i * PAGE_SIZE, i + 1), 0);
	for (u32 i = 0; i < ARRAY_SIZE(workers); i++) {
		workers[i] = (struct worker){ .shared = &s, .id = i };
		REQUIRE_EQ(thread_create(&workers[i].thread, "reader", -1, read_both, &workers[i]), 0);
	}
	wait_for_workers(&s, ARRAY_SIZE(workers));
	rng_seed(&rng, 5);
	for (u32 turn = 0; turn < TEST_SCALE(8000u) && !test_failures(); turn++) {
		u64 page = rng_below(&rng, PAGES), n = 1;
		hva_t from = there[page] ? OTHER : BASE, to = there[page] ? BASE : OTHER;

		while (page + n < PAGES && n < 8 && there[page + n] == there[page])
			n++;
		CHECK_EQ(mm_mremap(s.env.mm, from + page * PAGE_SIZE, n * PAGE_SIZE, n * PAGE_SIZE,
				   TAIN_MREMAP_MAYMOVE | TAIN_MREMAP_FIXED, to + page * PAGE_SIZE, NULL),
			 0);
		for (u64 i = page; i < page + n; i++)
			there[i] = !there[i];
	}
	WRITE_ONCE(s.stop, 1);
	for (u32 i = 0; i < ARRAY_SIZE(workers); i++)
		thread_join(&workers[i].thread);
	CHECK_GT(s.turns, 0);
	env_fini(&s.env);
}

const struct test_case mm_thread_tests[] = { TEST(faults_and_unmaps), TEST(parallel_dontneed), TEST(reads_and_moves),
					     TEST_END };
