/* SPDX-License-Identifier: MIT */
/*
 * Histograms of unit-less values: exact below 2048, then 1024 buckets per power of
 * two, so that a bucket is narrower than 0.1 % of its values. One writer; merge
 * the writers' histograms when they are done.
 */
#ifndef LIB_HIST_H
#define LIB_HIST_H

#include "lib/base.h"

#define HIST_SUB_BITS 10
#define HIST_MAX_BITS 42
#define HIST_MAX (BIT(HIST_MAX_BITS) - 1) /* larger values count as this one; min, max and mean keep them */
#define HIST_BUCKETS ((size_t)(HIST_MAX_BITS - HIST_SUB_BITS + 1) << HIST_SUB_BITS)

struct hist {
	u64 *buckets;
	u64 count;
	u64 min, max; /* of the values themselves; min is ~0 while empty */
	unsigned __int128 sum;
};

/* Return: 0; -ENOMEM. */
int hist_init(struct hist *h);
void hist_destroy(struct hist *h); /* fine on a zeroed one */
void hist_reset(struct hist *h);

static inline size_t hist_bucket(u64 v)
{
	unsigned int shift;

	if (v < 2ull << HIST_SUB_BITS)
		return v;
	if (unlikely(v > HIST_MAX))
		v = HIST_MAX;
	shift = 63 - HIST_SUB_BITS - (unsigned int)__builtin_clzll(v);
	return ((size_t)shift << HIST_SUB_BITS) + (v >> shift);
}

static inline void hist_add_n(struct hist *h, u64 v, u64 n)
{
	if (unlikely(!n))
		return;
	h->buckets[hist_bucket(v)] += n;
	h->count += n;
	h->sum += (unsigned __int128)v * n;
	if (v < h->min)
		h->min = v;
	if (v > h->max)
		h->max = v;
}

static inline void hist_add(struct hist *h, u64 v)
{
	hist_add_n(h, v, 1);
}

/* Exact, whoever filled them and however often: buckets begin where they begin. */
void hist_merge(struct hist *dst, const struct hist *src);

/*
 * From buckets that hist_next_bucket() told, back to a histogram: @count values more of the bucket that begins at @lo.
 * Then the ends, which buckets do not know. The mean is within 0.1 % then.
 * Return: 0; -EINVAL (no bucket begins there; the ends lie in other buckets than the outermost ones), -EOVERFLOW.
 */
int hist_add_bucket(struct hist *h, u64 lo, u64 count);
int hist_set_ends(struct hist *h, u64 least, u64 most);

/* 0 while empty, like all below. */
static inline u64 hist_count(const struct hist *h)
{
	return h->count;
}

static inline u64 hist_min(const struct hist *h)
{
	return h->count ? h->min : 0;
}

static inline u64 hist_max(const struct hist *h)
{
	return h->max;
}

/*
 * Nearest rank: the value that ceil(p/100 * count) of the values do not exceed, within
 * 0.1 %, exact for 0 (min) and 100 (max). @p: 0..100.
 */
u64 hist_percentile(const struct hist *h, double p);

/*
 * Are there enough values for it? One at least has to lie beyond, so p99 is told of a hundred; the median of any.
 * Where not, hist_percentile() is the maximum or nearly so, and no percentile.
 */
bool hist_tells(const struct hist *h, double p);

/*
 * Walk the non-empty buckets upwards, from *pos = 0: [*lo, *hi) holds *count values.
 * Return: false at the end.
 */
bool hist_next_bucket(const struct hist *h, size_t *pos, u64 *lo, u64 *hi, u64 *count);

#endif /* LIB_HIST_H */
