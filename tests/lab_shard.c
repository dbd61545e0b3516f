/* SPDX-License-Identifier: MIT */
/* Shards: together they are the whole, and each is the same wherever it runs. */
#include <stdio.h>

#include "lab/plan/shard.h"
#include "tests/lab_suites.h"

static void check_refused(const char *text, const char *says)
{
	struct shard shard;
	struct err err = { "" };

	CHECK_MSG(shard_parse(text, &shard, &err) == -EINVAL, "'%s' is taken", text);
	CHECK_STR(err.text, says);
	CHECK_EQ(shard.count, 0);
}

static void words(void)
{
	struct shard shard;

	CHECK_EQ(shard_parse("3/8", &shard, NULL), 0);
	CHECK_EQ(shard.index, 3);
	CHECK_EQ(shard.count, 8);
	CHECK_EQ(shard_parse("1/1", &shard, NULL), 0);
	CHECK_EQ(shard_parse("65536/65536", &shard, NULL), 0);
	check_refused("0/8", "'0/8': shards are numbered 1/8 to 8/8");
	check_refused("9/8", "'9/8': shards are numbered 1/8 to 8/8");
	check_refused("1/0", "'1/0': 1 to 65536 shards are possible");
	check_refused("1/65537", "'1/65537': 1 to 65536 shards are possible");
	check_refused("3", "'3' is not I/K, such as 3/8");
	check_refused("/", "'/' is not I/K, such as 3/8");
	check_refused("", "'' is not I/K, such as 3/8");
	check_refused("3/", "'3/' is not I/K, such as 3/8");
	check_refused("-1/8", "'-1/8' is not I/K, such as 3/8");
	check_refused("1/8/2", "'1/8/2' is not I/K, such as 3/8");
	check_refused(" 1/8", "' 1/8' is not I/K, such as 3/8");
	check_refused("00000000000000000000000003/8", "'00000000000000000000000003/8' is not I/K, such as 3/8");
}

/* One after the other, without a gap, and none larger by more than one. */
static void shares_are_the_whole(void)
{
	static const u64 wholes[] = { 0, 1, 2, 7, 8, 1000, 1ull << 40, ~0ull };
	static const u32 counts[] = { 1, 2, 3, 7, 64, 999 };

	for (size_t w = 0; w < ARRAY_SIZE(wholes); w++)
		for (size_t k = 0; k < ARRAY_SIZE(counts); k++) {
			u64 next = 0, least = wholes[w] / counts[k], first, n;

			for (u32 i = 1; i <= counts[k]; i++) {
				n = shard_share(&(struct shard){ i, counts[k] }, wholes[w], &first);
				CHECK_EQ(first, next);
				CHECK_GE(n, least);
				CHECK_LE(n - least, 1);
				next += n;
			}
			CHECK_EQ(next, wholes[w]);
		}
}

/* By the number alone: a campaign that grows keeps its shards. And for ever: results name them. */
static void seeds(void)
{
	const struct shard third = { 3, 8 }, third_of_more = { 3, 64 };
	u64 seen[64];

	CHECK_EQ(shard_seed(&third, 7), 79356339941564);
	CHECK_EQ(shard_seed(&third, 7), shard_seed(&third_of_more, 7));
	CHECK_NE(shard_seed(&third, 7), shard_seed(&third, 8));
	for (u32 i = 0; i < ARRAY_SIZE(seen); i++) {
		seen[i] = shard_seed(&(struct shard){ i + 1, 64 }, 1);
		CHECK_NE(seen[i], 0);
		CHECK_LT(seen[i], 1ull << 48);
		for (u32 j = 0; j < i; j++)
			CHECK_NE(seen[i], seen[j]);
	}
}

const struct test_case lab_shard_tests[] = {
	TEST(words),
	TEST(shares_are_the_whole),
	TEST(seeds),
	TEST_END,
};
