/* SPDX-License-Identifier: MIT */
/* What a trace remembers of pages and invalidations, beside plain arrays. */
#include <string.h>

#include "lab/trace/fault_stream.h"
#include "lib/alloc.h"
#include "tests/lab_suites.h"

#define BASE 0x7fb840000000ull

static void many_pages(void)
{
	struct fault_pages pages;
	u64 n = TEST_SCALE(20000);

	REQUIRE_EQ(fault_pages_init(&pages), 0);
	for (u64 i = 0; i < n; i++)
		fault_page_get(&pages, 0, i * 3, 1)->count = (u32)i;
	CHECK_EQ(pages.nr, n);
	for (u64 i = 0; i < n && !test_failures(); i++) {
		CHECK_EQ(fault_page_find(&pages, 0, i * 3)->count, i);
		CHECK_PTR_EQ(fault_page_find(&pages, 0, i * 3 + 1), NULL);
	}
	fault_pages_destroy(&pages);
}

static void no_memory(void)
{
#if CHECKING
	struct fault_stream_config config = { 0 };
	struct fault_stream s;

	for (u64 n = 1; n <= 2; n++) {
		mem_fail_after(n);
		CHECK_EQ(fault_stream_init(&s, &config), -ENOMEM);
		CHECK(mem_failed());
		fault_stream_destroy(&s);
	}
	mem_fail_after(0);
#else
	test_skip("a build that checks nothing cannot fail allocations");
#endif
}

/* Beside a plain array: what the chunks and the whole ranges say of each page. */
static void invalidations_against_a_model(void)
{
	enum { PAGES = 2048 }; /* four chunks */
	static struct invalidation model[PAGES];
	struct invalidations v;
	u64 x = 88172645463325252ull;

	REQUIRE_EQ(invalidations_init(&v), 0);
	memset(model, 0, sizeof(model));
	for (u32 step = 1; step < 400; step++) {
		u64 first = (x ^= x << 13) % PAGES, pages = (x ^= x >> 7) % (step % 8 ? 16 : PAGES);

		x ^= x << 17;
		pages = min(pages, PAGES - first);
		CHECK_EQ(
			invalidations_add(&v, BASE + first * PAGE_SIZE, BASE + (first + pages) * PAGE_SIZE, step, step),
			0);
		for (u64 i = first; i < first + pages; i++)
			model[i] = (struct invalidation){ step, step };
		for (u64 i = 0; i < PAGES && !test_failures(); i += 1 + x % 7)
			CHECK_EQ(invalidations_last(&v, BASE + i * PAGE_SIZE, 1).ns, model[i].ns);
	}
	CHECK_EQ(invalidations_last(&v, BASE - PAGE_SIZE, 1).ns, 0);
	/* Everything. */
	CHECK_EQ(invalidations_add(&v, 0, ~0ull, 1000, 5), 0);
	CHECK_EQ(invalidations_last(&v, BASE - PAGE_SIZE, 1).tid, 5);
	invalidations_destroy(&v);
}

const struct test_case lab_fault_page_tests[] = {
	TEST(many_pages),
	TEST(no_memory),
	TEST(invalidations_against_a_model),
	TEST_END,
};
