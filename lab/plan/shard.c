/* SPDX-License-Identifier: MIT */
/* Shards: see lab/plan/shard.h. */
#include "lab/plan/shard.h"

#include <stdio.h>
#include <string.h>

#include "lib/option.h"
#include "lib/rng.h"

int shard_parse(const char *text, struct shard *shard, struct err *err)
{
	const char *slash = strchr(text, '/');
	u64 index, count;
	char first[16];

	*shard = (struct shard){ 0 };
	if (!slash || slash - text >= (ptrdiff_t)sizeof(first))
		return err_set(err, -EINVAL, "'%.40s' is not I/K, such as 3/8", text);
	snprintf(first, sizeof(first), "%.*s", (int)(slash - text), text);
	if (parse_u64(first, &index) || parse_u64(slash + 1, &count))
		return err_set(err, -EINVAL, "'%.40s' is not I/K, such as 3/8", text);
	if (!count || count > SHARDS_MAX)
		return err_set(err, -EINVAL, "'%.40s': 1 to %d shards are possible", text, SHARDS_MAX);
	if (!index || index > count)
		return err_set(err, -EINVAL, "'%.40s': shards are numbered 1/%llu to %llu/%llu", text,
			       (unsigned long long)count, (unsigned long long)count, (unsigned long long)count);
	*shard = (struct shard){ .index = (u32)index, .count = (u32)count };
	return 0;
}

u64 shard_seed(const struct shard *shard, u64 campaign)
{
	return rng_mix(campaign, shard->index) >> 16 ?: 1;
}

/* Where the share of shard @index ends: i * n / K without an overflow. */
static u64 share_end(u32 index, u32 count, u64 n)
{
	return n / count * index + n % count * index / count;
}

u64 shard_share(const struct shard *shard, u64 n, u64 *first)
{
	*first = share_end(shard->index - 1, shard->count, n);
	return share_end(shard->index, shard->count, n) - *first;
}
