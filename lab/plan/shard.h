/* SPDX-License-Identifier: MIT */
/*
 * Shards: a campaign cut into K parts, each an ordinary run that needs to know of no other.
 * Shard I has a seed of its own, which the campaign's seed and I alone decide: a campaign that
 * grows to more shards keeps the ones it has. What is counted (operations, the steps of a
 * file) is dealt out in K pieces that follow one another and differ by one at most.
 */
#ifndef LAB_PLAN_SHARD_H
#define LAB_PLAN_SHARD_H

#include "lib/base.h"
#include "lib/err.h"

#define SHARDS_MAX 65536

struct shard {
	u32 index; /* 1 to count */
	u32 count; /* 0: not a shard */
};

/* "3/8". Return: 0; -EINVAL with one line in @err. */
int shard_parse(const char *text, struct shard *shard, struct err *err);

/* Never 0, and short enough to be typed. */
u64 shard_seed(const struct shard *shard, u64 campaign);

/* Of @n pieces those from *@first on. Return: how many; 0 where there are too few. */
u64 shard_share(const struct shard *shard, u64 n, u64 *first);

#endif /* LAB_PLAN_SHARD_H */
