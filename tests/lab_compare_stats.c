/* SPDX-License-Identifier: MIT */
/* The arithmetic of comparing, against tables. */
#include <string.h>

#include "lab/result/blocks.h"
#include "lab/result/compare.h"
#include "lab/result/compare_stats.h"
#include "lib/rng.h"
#include "tests/lab_suites.h"

/* Critical values of Mann and Whitney's U and of the sign test, two-sided, as tables have them, plus one. */
static void ranks_are_those_of_the_tables(void)
{
	static const struct {
		u32 na, nb;
		double confidence;
		u32 rank;
	} mann_whitney[] = {
		{ 4, 4, 0.99, 0 },    { 5, 5, 0.99, 1 },    { 8, 8, 0.99, 8 },
		{ 10, 10, 0.99, 17 }, { 5, 8, 0.99, 3 },    { 20, 20, 0.99, 106 },
		{ 8, 8, 0.95, 14 },   { 20, 10, 0.95, 56 }, { 1, 1, 0.99, 0 },
	};
	static const struct {
		u32 n, rank;
	} sign[] = { { 1, 0 }, { 7, 0 }, { 8, 1 }, { 11, 1 }, { 12, 2 }, { 20, 4 }, { 64, 22 } };

	for (size_t i = 0; i < ARRAY_SIZE(mann_whitney); i++) {
		u32 rank = stats_ratio_rank(mann_whitney[i].na, mann_whitney[i].nb, mann_whitney[i].confidence);

		CHECK_MSG(rank == mann_whitney[i].rank, "%u against %u at %g: rank %u instead of %u",
			  mann_whitney[i].na, mann_whitney[i].nb, mann_whitney[i].confidence, rank,
			  mann_whitney[i].rank);
	}
	for (size_t i = 0; i < ARRAY_SIZE(sign); i++)
		CHECK_MSG(stats_pair_rank(sign[i].n, 0.99) == sign[i].rank, "%u pairs: rank %u instead of %u",
			  sign[i].n, stats_pair_rank(sign[i].n, 0.99), sign[i].rank);
}

static bool near(double a, double b)
{
	return a - b < 1e-9 && b - a < 1e-9;
}

static void labels_dealt_in_every_way(void)
{
	static const double apart[] = { 1, 2, 3, 4, 5, 11, 12, 13, 14, 15 };
	static const double alike[] = { 7, 7, 7, 7, 7, 7, 7, 7, 7, 7 };
	static const double one_left[] = { 1, 2, 3, 4, 12, 5, 11, 13, 14, 15 };
	double p, both[20], ps[2];

	CHECK_EQ(stats_labels(apart, 1, 5, 5, &p), 0);
	CHECK_MSG(near(p, 2.0 / 252), "apart: p %g", p);
	CHECK(near(stats_labels_least(5, 5), 2.0 / 252));
	CHECK_EQ(stats_labels(alike, 1, 5, 5, &p), 0);
	CHECK_MSG(p == 1, "alike: p %g", p);
	CHECK_EQ(stats_labels(one_left, 1, 5, 5, &p), 0);
	CHECK_MSG(p > 2.0 / 252 && p < 0.2, "nearly apart: p %g", p);
	/* What does not differ cannot hide what does, nor be taken for it. */
	memcpy(both, apart, sizeof(apart));
	memcpy(both + 10, alike, sizeof(alike));
	CHECK_EQ(stats_labels(both, 2, 5, 5, ps), 0);
	CHECK_MSG(near(ps[0], 2.0 / 252) && ps[1] == 1, "p %g and %g", ps[0], ps[1]);
}

static void pairs_turned_in_every_way(void)
{
	double value[2 * 20], p;

	for (int i = 0; i < 20; i++) {
		value[2 * i] = 100 + i;
		value[2 * i + 1] = 120 + i;
	}
	CHECK_EQ(stats_pairs(value, 1, 8, &p), 0);
	CHECK_MSG(near(p, 2.0 / 256), "8 pairs: p %g", p);
	/* Too many for every way: random ones, none of which is this one but itself. */
	CHECK_EQ(stats_pairs(value, 1, 20, &p), 0);
	CHECK_MSG(p <= 1e-3 && p >= stats_pairs_least(20), "20 pairs: p %g", p);
	for (int i = 0; i < 20; i += 2) {
		value[2 * i] = 120 + i;
		value[2 * i + 1] = 100 + i;
	}
	CHECK_EQ(stats_pairs(value, 1, 8, &p), 0);
	CHECK_MSG(p > 0.5, "as often one way as the other: p %g", p);
}

/* Of @rounds pairs whose two commands are one, on a machine that slows each second and third run of four: p. */
static double p_of_periodic_machine(u64 seed, u32 rounds)
{
	double value[2 * STATS_UNITS_MAX], p = 0;

	for (u32 turn = 0; turn < 2 * rounds; turn++) {
		bool slow = turn % 4 == 1 || turn % 4 == 2;
		double noise = (double)(rng_mix(seed, 1000 + turn) % 4001) / 100 - 20;

		value[turn / 2 * 2 + (compare_turn(seed, turn) == COMPARE_B)] = (slow ? 1400 : 1000) + noise;
	}
	CHECK_EQ(stats_pairs(value, 1, rounds, &p), 0);
	return p;
}

/* The order is as random as the test takes it to be: what the machine does in step with it deceives nobody. */
static void order_of_runs_is_as_random_as_the_test(void)
{
	u32 wrong = 0, b_first = 0;

	for (u64 seed = 1; seed <= 400; seed++)
		wrong += p_of_periodic_machine(seed, 8) <= 0.01;
	CHECK_MSG(wrong <= 10, "%u of 400 at 0.99", wrong);
	for (u32 pair = 0; pair < 64; pair++) {
		CHECK(compare_turn(9, 2 * pair) != compare_turn(9, 2 * pair + 1));
		b_first += compare_turn(9, 2 * pair) == COMPARE_B;
	}
	CHECK_MSG(b_first > 16 && b_first < 48, "B first in %u of 64 pairs", b_first);
}

static void medians(void)
{
	static const double v[] = { 5, 1, 4, 2 };

	CHECK(stats_median(v, 1) == 5);
	CHECK(stats_median(v, 2) == 3);
	CHECK(stats_median(v, 3) == 4);
	CHECK(stats_median(v, 4) == 3);
	CHECK(v[0] == 5);
}

static void passes_that_share_a_block(void)
{
	struct block shown[BLOCKS_SHOWN];
	struct blocks blocks;
	struct hist pass;

	CHECK_EQ(hist_init(&pass), 0);
	CHECK_EQ(blocks_init(&blocks, 1000), 0);
	blocks_add(&blocks, &pass); /* empty */
	CHECK_EQ(blocks.nr, 0);
	for (u64 i = 0; i < 1000; i++) {
		hist_reset(&pass);
		hist_add_n(&pass, i, i == 20 ? 99 : 100);
		blocks_add(&blocks, &pass);
	}
	CHECK_EQ(blocks_show(&blocks, shown), BLOCKS_SHOWN);
	CHECK_EQ(shown[0].p50, 7); /* 0 to 14 */
	CHECK_EQ(shown[0].p99, 7);
	CHECK_EQ(shown[0].count, 1500);
	CHECK_EQ(shown[1].p99, BLOCK_UNTOLD);	    /* one of them has too few for it */
	CHECK_EQ(shown[BLOCKS_SHOWN - 1].p99, 991); /* 984 to 999 */
	blocks_destroy(&blocks);
	hist_destroy(&pass);
}

const struct test_case lab_compare_stats_tests[] = {
	TEST(ranks_are_those_of_the_tables),
	TEST(labels_dealt_in_every_way),
	TEST(pairs_turned_in_every_way),
	TEST(order_of_runs_is_as_random_as_the_test),
	TEST(medians),
	TEST(passes_that_share_a_block),
	TEST_END,
};
