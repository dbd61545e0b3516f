/* SPDX-License-Identifier: MIT */
/* Permutation tests and order statistics: see lab/result/compare_stats.h. */
#include "lab/result/compare_stats.h"

#include <stdlib.h>
#include <string.h>

#include "lib/alloc.h"
#include "lib/rng.h"

#define EVERY_MAX 20000 /* up to so many, all arrangements; beyond, as many random ones */
#define RANDOM_SEED 1	/* one and the same: documents compared again give the same answer */
#define TIE 1e-9
#define OUTLYING 1.5
#define ROUNDING 1e-20 /* squares of what only rounding made */

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double stats_median(const double *value, u32 n)
{
	double sorted[2 * STATS_UNITS_MAX];

	memcpy(sorted, value, n * sizeof(*value));
	qsort(sorted, n, sizeof(*sorted), by_value);
	return n % 2 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
}

/* How many arrangements there are, at most EVERY_MAX + 1. */
static double subsets(u32 n, u32 k)
{
	double count = 1;

	for (u32 i = 1; i <= k && count <= EVERY_MAX; i++)
		count = count * (n - k + i) / i;
	return min(count, (double)EVERY_MAX + 1);
}

static double flips(u32 n)
{
	return n < 15 ? (double)BIT(n) : EVERY_MAX + 1;
}

/* What a random arrangement counts for: itself too is one. */
static double least(double arrangements, double alike)
{
	return arrangements <= EVERY_MAX ? alike / arrangements : 1.0 / (EVERY_MAX + 1);
}

double stats_labels_least(u32 na, u32 nb)
{
	/* Equal sides: A for B and B for A is as far apart. */
	return min(least(subsets(na + nb, min(na, nb)), na == nb ? 2 : 1), 1.0);
}

double stats_pairs_least(u32 n)
{
	return min(least(flips(n), 2), 1.0);
}

/* --- a search through arrangements ------------------------------------------------- */

struct search {
	double *x; /* rows of units: what the statistic sums */
	u32 rows, units;
	double *seen;  /* per row: the square of the sum as it was measured, over what it can be */
	double *scale; /* per row: 1 over what it can be; 0: the row does not vary */
	u64 *reached;  /* per row: arrangements whose largest statistic of all rows is at least seen */
};

static void search_destroy(struct search *s)
{
	mem_free(s->x);
	mem_free(s->seen);
	mem_free(s->scale);
	mem_free(s->reached);
}

static int search_init(struct search *s, u32 rows, u32 units)
{
	*s = (struct search){ .rows = rows, .units = units };
	s->x = mem_zalloc((size_t)rows * units * sizeof(*s->x));
	s->seen = mem_zalloc(rows * sizeof(*s->seen));
	s->scale = mem_zalloc(rows * sizeof(*s->scale));
	s->reached = mem_zalloc(rows * sizeof(*s->reached));
	if (s->x && s->seen && s->scale && s->reached)
		return 0;
	search_destroy(s);
	return -ENOMEM;
}

/* @sign: per unit; the statistic of row @r is (sum of sign * x)^2 * scale. */
static double statistic(const struct search *s, u32 r, const double *sign)
{
	const double *x = s->x + (size_t)r * s->units;
	double sum = 0;

	for (u32 i = 0; i < s->units; i++)
		sum += sign[i] * x[i];
	return sum * sum * s->scale[r];
}

static void try_arrangement(struct search *s, const double *sign)
{
	double largest = 0;

	for (u32 r = 0; r < s->rows; r++)
		largest = max(largest, statistic(s, r, sign));
	for (u32 r = 0; r < s->rows; r++)
		s->reached[r] += largest >= s->seen[r] - TIE;
}

/* With @sign as it was measured, rows are scaled and seen is known. */
static void search_begin(struct search *s, const double *sign)
{
	for (u32 r = 0; r < s->rows; r++) {
		double squares = 0;

		for (u32 i = 0; i < s->units; i++)
			squares += s->x[(size_t)r * s->units + i] * s->x[(size_t)r * s->units + i];
		s->scale[r] = squares > ROUNDING ? 1 / squares : 0;
		s->seen[r] = statistic(s, r, sign);
	}
}

static void search_answer(const struct search *s, bool random, u64 arrangements, double *p)
{
	for (u32 r = 0; r < s->rows; r++)
		p[r] = (double)(s->reached[r] + random) / (double)(arrangements + random);
}

/*
 * One unit that went wrong must not outweigh the rest: nothing counts for more than OUTLYING times
 * the median distance from 0. The same for every arrangement, so that the test stays exact.
 */
static void pull_in(double *x, u32 n)
{
	double size[2 * STATS_UNITS_MAX] = { 0 }, most;

	for (u32 i = 0; i < n; i++)
		size[i] = x[i] < 0 ? -x[i] : x[i];
	most = OUTLYING * stats_median(size, n);
	for (u32 i = 0; i < n && most > 0; i++)
		x[i] = max(min(x[i], most), -most);
}

/* --- labels ----------------------------------------------------------------------------- */

/* @word: bit i: unit i is an A. */
static void try_labels(struct search *s, u64 word)
{
	double sign[2 * STATS_UNITS_MAX];

	for (u32 i = 0; i < s->units; i++)
		sign[i] = word >> i & 1;
	try_arrangement(s, sign);
}

static void try_random_labels(struct search *s, u32 na, struct rng *rng)
{
	double sign[2 * STATS_UNITS_MAX] = { 0 };

	for (u32 i = 0, left = na; i < s->units; i++)
		if (rng_below(rng, s->units - i) < left) {
			sign[i] = 1;
			left--;
		}
	try_arrangement(s, sign);
}

/*
 * Values as x / (x + median): the logistic of the logarithm, so that ratios count, not
 * differences. What lies out further than most is pulled in; centred.
 */
static void bounded(double *x, const double *value, u32 n)
{
	double middle = stats_median(value, n), mean = 0;

	for (u32 i = 0; i < n; i++)
		x[i] = middle > 0 ? value[i] / (value[i] + middle) - 0.5 : 0;
	pull_in(x, n);
	for (u32 i = 0; i < n; i++)
		mean += x[i] / n;
	for (u32 i = 0; i < n; i++)
		x[i] -= mean;
}

int stats_labels(const double *value, u32 rows, u32 na, u32 nb, double *p)
{
	double ways = subsets(na + nb, min(na, nb)), sign[2 * STATS_UNITS_MAX] = { 0 };
	bool random = ways > EVERY_MAX || na + nb > 62; /* a word holds no more */
	u64 count = 0, word = BIT(na) - 1;
	struct search s;
	struct rng rng;

	if (search_init(&s, rows, na + nb))
		return -ENOMEM;
	for (u32 r = 0; r < rows; r++)
		bounded(s.x + (size_t)r * s.units, value + (size_t)r * s.units, s.units);
	for (u32 i = 0; i < na; i++)
		sign[i] = 1;
	search_begin(&s, sign);
	rng_seed(&rng, RANDOM_SEED);
	for (; random && count < EVERY_MAX; count++)
		try_random_labels(&s, na, &rng);
	/* Words of na bits in rising order (HAKMEM item 175). */
	while (!random && word < BIT(s.units)) {
		u64 low = word & -word, carried = word + low;

		try_labels(&s, word);
		count++;
		word = carried | ((word ^ carried) / low) >> 2;
	}
	search_answer(&s, random, count, p);
	search_destroy(&s);
	return 0;
}

/* --- pairs ------------------------------------------------------------------------------ */

static void try_flips(struct search *s, u64 word, struct rng *rng)
{
	double sign[STATS_UNITS_MAX];

	for (u32 i = 0; i < s->units; i++)
		sign[i] = (rng ? rng_next(rng) >> 63 : word >> i & 1) ? -1 : 1;
	try_arrangement(s, sign);
}

int stats_pairs(const double *value, u32 rows, u32 n, double *p)
{
	bool random = flips(n) > EVERY_MAX;
	u64 count = random ? EVERY_MAX : (u64)flips(n);
	double sign[STATS_UNITS_MAX];
	struct search s;
	struct rng rng;

	if (search_init(&s, rows, n))
		return -ENOMEM;
	for (size_t i = 0; i < (size_t)rows * n; i++) {
		double a = value[2 * i], b = value[2 * i + 1];

		s.x[i] = a + b > 0 ? b / (a + b) - 0.5 : 0; /* changes its sign when they change places */
	}
	for (u32 r = 0; r < rows; r++)
		pull_in(s.x + (size_t)r * n, n);
	for (u32 i = 0; i < n; i++)
		sign[i] = 1;
	search_begin(&s, sign);
	rng_seed(&rng, RANDOM_SEED);
	for (u64 word = 0; word < count; word++)
		try_flips(&s, word, random ? &rng : NULL);
	search_answer(&s, random, count, p);
	search_destroy(&s);
	return 0;
}

/* --- intervals -------------------------------------------------------------------------- */

/*
 * The number of ways in which @na of @na + @nb ranks have a sum of least + u, for u up to na * nb / 2.
 * @ways: (na + 1) rows of na * nb + 1.
 */
static void count_ways(double *ways, u32 na, u32 nb)
{
	u32 width = na * nb + 1;

	ways[0] = 1;
	for (u32 rank = 0; rank < na + nb; rank++)
		for (u32 k = min(rank + 1, na); k >= 1; k--)
			/* The k-th of those chosen is at rank k - 1 at least: what it is above that counts. */
			for (u32 u = rank + 1 - k; u < width; u++)
				ways[k * width + u] += ways[(k - 1) * width + u - (rank + 1 - k)];
}

u32 stats_ratio_rank(u32 na, u32 nb, double confidence)
{
	double tail = (1 - confidence) / 2, total = 0, below = 0, *ways, *last;
	u32 width = na * nb + 1, k = 0;

	if (!na || !nb)
		return 0;
	ways = mem_zalloc((size_t)(na + 1) * width * sizeof(*ways));
	if (!ways)
		return 0;
	count_ways(ways, na, nb);
	last = ways + (size_t)na * width;
	for (u32 u = 0; u < width; u++)
		total += last[u];
	while (k < width / 2 && below + last[k] <= tail * total)
		below += last[k++];
	mem_free(ways);
	return k;
}

u32 stats_pair_rank(u32 n, double confidence)
{
	double tail = (1 - confidence) / 2, all = 1, ways = 1, below = 0;
	u32 k = 0;

	for (u32 i = 0; i < n; i++)
		all *= 2;
	while (k < n / 2 && below + ways <= tail * all) {
		below += ways;
		ways = ways * (n - k) / (k + 1);
		k++;
	}
	return k;
}
