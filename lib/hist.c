/* SPDX-License-Identifier: MIT */
/* Log-linear histograms: everything but adding a value. */
#include <string.h>

#include "lib/alloc.h"
#include "lib/hist.h"

#define SUB_BUCKETS BIT(HIST_SUB_BITS)

static_assert(HIST_BUCKETS == 33792, "the last bucket holds HIST_MAX");

int hist_init(struct hist *h)
{
	*h = (struct hist){ .min = ~0ull };
	h->buckets = mem_zalloc(HIST_BUCKETS * sizeof(*h->buckets));
	return h->buckets ? 0 : -ENOMEM;
}

void hist_destroy(struct hist *h)
{
	mem_free(h->buckets);
	h->buckets = NULL;
}

void hist_reset(struct hist *h)
{
	memset(h->buckets, 0, HIST_BUCKETS * sizeof(*h->buckets));
	h->count = 0;
	h->sum = 0;
	h->min = ~0ull;
	h->max = 0;
}

void hist_merge(struct hist *dst, const struct hist *src)
{
	if (!src->count)
		return;
	for (size_t i = hist_bucket(src->min); i <= hist_bucket(src->max); i++)
		dst->buckets[i] += src->buckets[i];
	dst->count += src->count;
	dst->sum += src->sum;
	dst->min = min(dst->min, src->min);
	dst->max = max(dst->max, src->max);
}

static u64 bucket_start(size_t bucket)
{
	unsigned int shift;

	if (bucket < 2 * SUB_BUCKETS)
		return bucket;
	shift = (unsigned int)(bucket >> HIST_SUB_BITS) - 1;
	return (bucket - ((u64)shift << HIST_SUB_BITS)) << shift;
}

/* Of all values that a bucket holds the one that is nearest to each of them. */
static u64 bucket_middle(size_t bucket)
{
	u64 start = bucket_start(bucket);

	return start + (bucket_start(bucket + 1) - 1 - start) / 2;
}

int hist_add_bucket(struct hist *h, u64 lo, u64 count)
{
	size_t bucket = hist_bucket(lo);

	if (lo > HIST_MAX || bucket_start(bucket) != lo)
		return -EINVAL;
	if (count > INT64_MAX - h->count)
		return -EOVERFLOW;
	hist_add_n(h, bucket_middle(bucket), count);
	return 0;
}

int hist_set_ends(struct hist *h, u64 least, u64 most)
{
	if (!h->count)
		return least || most ? -EINVAL : 0;
	if (least > most || hist_bucket(least) != hist_bucket(h->min) || hist_bucket(most) != hist_bucket(h->max))
		return -EINVAL;
	h->min = least;
	h->max = most;
	return 0;
}

u64 hist_percentile(const struct hist *h, double p)
{
	double exact = p * (double)h->count / 100;
	u64 rank, seen = 0;

	if (!h->count)
		return 0;
	if (p <= 0)
		return h->min;
	if (p >= 100)
		return h->max;
	/* 99.9 % of 1000 is 999.0000000000001 to a double: a hair above a whole number is that number. */
	exact -= exact * 1e-12;
	rank = (u64)exact;
	if ((double)rank < exact)
		rank++;
	for (size_t i = hist_bucket(h->min);; i++) {
		seen += h->buckets[i];
		if (seen >= rank) {
			/* No value of the bucket is further from its middle than half its width. */
			return min(max(bucket_middle(i), h->min), h->max);
		}
	}
}

bool hist_tells(const struct hist *h, double p)
{
	/* 99.9 is a hair below itself to a double, see above. */
	return h->count && (p <= 50 || p >= 100 || (double)h->count * (100 - p) >= 100 * (1 - 1e-9));
}

bool hist_next_bucket(const struct hist *h, size_t *pos, u64 *lo, u64 *hi, u64 *count)
{
	for (; *pos < HIST_BUCKETS; (*pos)++) {
		if (!h->buckets[*pos])
			continue;
		*lo = bucket_start(*pos);
		*hi = bucket_start(*pos + 1);
		*count = h->buckets[*pos];
		(*pos)++;
		return true;
	}
	return false;
}
