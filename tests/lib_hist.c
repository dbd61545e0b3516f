/* SPDX-License-Identifier: MIT */
/* Tests of histograms, by property: against sorted arrays of the same values. */
#include <stdlib.h>

#include "lib/alloc.h"
#include "lib/hist.h"
#include "lib/rng.h"
#include "tests/lib_suites.h"

#define VALUES 5000

static const double percentiles[] = { 0, 0.01, 1, 10, 25, 50, 75, 90, 99, 99.9, 99.99, 100 };

/* Within 0.1 % of @exact. */
static bool near(u64 got, u64 exact)
{
	u64 off = got > exact ? got - exact : exact - got;

	return off * 1000 <= exact;
}

static int compare_u64(const void *a, const void *b)
{
	u64 x = *(const u64 *)a, y = *(const u64 *)b;

	return (x > y) - (x < y);
}

/* Nearest rank: percentiles are in hundredths here, so that the rank is exact. */
static u64 exact_percentile(const u64 *sorted, u64 n, double p)
{
	u64 hundredths = (u64)(p * 100 + 0.5), rank = (hundredths * n + 9999) / 10000;

	return sorted[rank ? rank - 1 : 0];
}

static void every_value_is_in_its_bucket(void)
{
	struct rng rng;
	struct hist h;

	REQUIRE_EQ(hist_init(&h), 0);
	rng_seed(&rng, 1);
	for (int i = 0; i < 20000 && !test_failures(); i++) {
		u64 v = rng_next(&rng) >> (22 + rng_below(&rng, 42)), lo, hi, count;
		size_t pos = hist_bucket(v);

		CHECK_LT(pos, HIST_BUCKETS);
		h.buckets[pos] = 1;
		CHECK(hist_next_bucket(&h, &pos, &lo, &hi, &count));
		CHECK_LE(lo, v);
		CHECK_LT(v, hi);
		CHECK_MSG(hi - lo == 1 || (hi - lo) * 1000 < lo, "[%llu, %llu) is too wide", (unsigned long long)lo,
			  (unsigned long long)hi);
		h.buckets[pos - 1] = 0;
	}
	hist_destroy(&h);
}

static void buckets_touch(void)
{
	u64 lo, hi, count, end = 0;
	size_t pos = 0, nr = 0;
	struct hist h;

	REQUIRE_EQ(hist_init(&h), 0);
	for (size_t i = 0; i < HIST_BUCKETS; i++)
		h.buckets[i] = i + 1;
	while (hist_next_bucket(&h, &pos, &lo, &hi, &count) && !test_failures()) {
		CHECK_EQ(lo, end);
		CHECK_EQ(hist_bucket(lo), nr);
		CHECK_EQ(hist_bucket(hi - 1), nr);
		CHECK_EQ(count, ++nr);
		end = hi;
	}
	CHECK_EQ(nr, HIST_BUCKETS);
	CHECK_EQ(end, HIST_MAX + 1);
	CHECK_GE(HIST_MAX, 1ull << 40);
	hist_destroy(&h);
}

/* Shapes of distributions: uniform small, uniform wide, log-uniform, two humps, constant. */
static u64 draw(struct rng *rng, int shape)
{
	switch (shape) {
	case 0:
		return rng_below(rng, 500);
	case 1:
		return rng_below(rng, 1ull << 40);
	case 2:
		return rng_next(rng) >> (23 + rng_below(rng, 40));
	case 3:
		return rng_below(rng, 100) ? 2000 + rng_below(rng, 300) : 1000000 + rng_below(rng, 1000000);
	default:
		return 123456789;
	}
}

static void percentiles_match_sorted_values(void)
{
	static u64 values[VALUES];
	struct rng rng;
	struct hist h;

	rng_seed(&rng, 2);
	for (int round = 0; round < 25; round++) {
		u64 n = round < 5 ? (u64)round + 1 : 1 + rng_below(&rng, VALUES);
		double sum = 0;

		REQUIRE_EQ(hist_init(&h), 0);
		for (u64 i = 0; i < n; i++) {
			values[i] = draw(&rng, round % 5);
			sum += (double)values[i];
			hist_add(&h, values[i]);
		}
		qsort(values, n, sizeof(*values), compare_u64);
		for (size_t i = 0; i < ARRAY_SIZE(percentiles); i++) {
			u64 got = hist_percentile(&h, percentiles[i]);
			u64 exact = exact_percentile(values, n, percentiles[i]);

			CHECK_MSG(near(got, exact), "shape %d, %llu values: p%g is %llu, sorted gives %llu", round % 5,
				  (unsigned long long)n, percentiles[i], (unsigned long long)got,
				  (unsigned long long)exact);
		}
		CHECK_EQ(hist_count(&h), n);
		CHECK_EQ(hist_min(&h), values[0]);
		CHECK_EQ(hist_max(&h), values[n - 1]);
		CHECK_EQ(hist_percentile(&h, 0), values[0]);
		CHECK_EQ(hist_percentile(&h, 100), values[n - 1]);
		CHECK_MSG(near((u64)((double)h.sum / (double)n), (u64)(sum / (double)n)), "sum %llu, not %g",
			  (unsigned long long)h.sum, sum);
		hist_destroy(&h);
	}
}

static void merging_equals_adding(void)
{
	struct hist parts[3], whole, merged;
	struct rng rng;

	rng_seed(&rng, 3);
	REQUIRE_EQ(hist_init(&whole), 0);
	REQUIRE_EQ(hist_init(&merged), 0);
	for (int part = 0; part < 3; part++) {
		REQUIRE_EQ(hist_init(&parts[part]), 0);
		for (int i = 0; i < 1000 && part != 1; i++) { /* the middle one stays empty */
			u64 v = draw(&rng, 2), n = rng_below(&rng, 3);

			hist_add_n(&parts[part], v, n);
			for (; n; n--)
				hist_add(&whole, v);
		}
	}
	for (int part = 0; part < 3; part++)
		hist_merge(&merged, &parts[part]);
	for (size_t i = 0; i < HIST_BUCKETS; i++) {
		if (merged.buckets[i] != whole.buckets[i])
			CHECK_EQ(merged.buckets[i], whole.buckets[i]);
	}
	CHECK_EQ(merged.count, whole.count);
	CHECK_EQ(merged.min, whole.min);
	CHECK_EQ(merged.max, whole.max);
	CHECK(merged.sum == whole.sum);
	for (int part = 0; part < 3; part++)
		hist_destroy(&parts[part]);
	hist_destroy(&merged);
	hist_destroy(&whole);
}

static void empty_is_zero(void)
{
	struct hist h;
	u64 lo, hi, count;
	size_t pos = 0;

	REQUIRE_EQ(hist_init(&h), 0);
	for (int i = 0; i < 2; i++) {
		CHECK_EQ(hist_count(&h), 0);
		CHECK_EQ(hist_min(&h), 0);
		CHECK_EQ(hist_max(&h), 0);
		CHECK_EQ(hist_percentile(&h, 50), 0);
		CHECK_EQ(h.sum, 0);
		pos = 0;
		CHECK(!hist_next_bucket(&h, &pos, &lo, &hi, &count));
		hist_add(&h, 5);
		hist_add_n(&h, 6, 0);
		CHECK_EQ(hist_count(&h), 1);
		hist_reset(&h);
	}
	hist_destroy(&h);
	hist_destroy(&h);
}

static void huge_values_are_clamped(void)
{
	struct hist h;
	size_t pos = 0;
	u64 lo, hi, count;

	REQUIRE_EQ(hist_init(&h), 0);
	hist_add(&h, ~0ull);
	hist_add(&h, HIST_MAX + 1);
	hist_add(&h, HIST_MAX);
	CHECK_EQ(hist_max(&h), ~0ull);
	CHECK_EQ(hist_min(&h), HIST_MAX);
	REQUIRE(hist_next_bucket(&h, &pos, &lo, &hi, &count));
	CHECK_EQ(count, 3);
	CHECK_EQ(hi, HIST_MAX + 1);
	CHECK(!hist_next_bucket(&h, &pos, &lo, &hi, &count));
	CHECK_EQ(hist_percentile(&h, 50), HIST_MAX);
	hist_destroy(&h);
}

/* What hist_next_bucket() tells, and the ends, are all of it but the mean's last digits. */
static void buckets_make_it_again(void)
{
	u64 lo, hi, count;
	struct hist h, again;
	size_t pos = 0;
	struct rng rng;

	REQUIRE_EQ(hist_init(&h), 0);
	REQUIRE_EQ(hist_init(&again), 0);
	rng_seed(&rng, 4);
	for (int i = 0; i < 2000; i++)
		hist_add(&h, rng_next(&rng) >> (17 + rng_below(&rng, 47))); /* some beyond HIST_MAX */
	while (hist_next_bucket(&h, &pos, &lo, &hi, &count))
		CHECK_EQ(hist_add_bucket(&again, lo, count), 0);
	CHECK_EQ(hist_set_ends(&again, hist_min(&h), hist_max(&h)), 0);
	CHECK_EQ(hist_count(&again), hist_count(&h));
	CHECK_EQ(hist_min(&again), hist_min(&h));
	CHECK_EQ(hist_max(&again), hist_max(&h));
	for (size_t i = 0; i < ARRAY_SIZE(percentiles); i++)
		CHECK_EQ(hist_percentile(&again, percentiles[i]), hist_percentile(&h, percentiles[i]));
	hist_destroy(&h);
	hist_destroy(&again);
}

static void what_is_no_bucket(void)
{
	struct hist h;

	REQUIRE_EQ(hist_init(&h), 0);
	CHECK_EQ(hist_set_ends(&h, 0, 0), 0);
	CHECK_EQ(hist_set_ends(&h, 0, 1), -EINVAL);
	CHECK_EQ(hist_add_bucket(&h, 2049, 1), -EINVAL); /* the one of 2048 holds it */
	CHECK_EQ(hist_add_bucket(&h, HIST_MAX + 1, 1), -EINVAL);
	CHECK_EQ(hist_add_bucket(&h, 2048, INT64_MAX), 0);
	CHECK_EQ(hist_add_bucket(&h, 5, 1), -EOVERFLOW);
	CHECK_EQ(hist_set_ends(&h, 2049, 2048), -EINVAL);
	CHECK_EQ(hist_set_ends(&h, 2047, 2048), -EINVAL);
	CHECK_EQ(hist_set_ends(&h, 2048, 2050), -EINVAL);
	CHECK_EQ(hist_set_ends(&h, 2048, 2049), 0);
	hist_destroy(&h);
}

static void percentiles_that_are_told(void)
{
	static const struct {
		double p;
		u64 needed;
	} table[] = { { 0, 1 }, { 50, 1 }, { 90, 10 }, { 99, 100 }, { 99.9, 1000 }, { 99.99, 10000 }, { 100, 1 } };
	struct hist h;

	REQUIRE_EQ(hist_init(&h), 0);
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		hist_reset(&h);
		hist_add_n(&h, 7, table[i].needed - 1);
		CHECK_MSG(!hist_tells(&h, table[i].p), "p%g is told", table[i].p);
		hist_add(&h, 7);
		CHECK_MSG(hist_tells(&h, table[i].p), "p%g is not told", table[i].p);
	}
	hist_destroy(&h);
}

static void init_may_fail(void)
{
#if CHECKING
	struct hist h;

	mem_fail_after(1);
	CHECK_EQ(hist_init(&h), -ENOMEM);
	hist_destroy(&h);
#else
	test_skip("allocation failures are in checking builds only");
#endif
}

const struct test_case lib_hist_tests[] = {
	TEST(every_value_is_in_its_bucket),
	TEST(buckets_touch),
	TEST(percentiles_match_sorted_values),
	TEST(merging_equals_adding),
	TEST(empty_is_zero),
	TEST(percentiles_that_are_told),
	TEST(huge_values_are_clamped),
	TEST(buckets_make_it_again),
	TEST(what_is_no_bucket),
	TEST(init_may_fail),
	TEST_END,
};
