/* SPDX-License-Identifier: MIT */
/*
 * The arithmetic of comparing: tests by permutation and intervals by order statistics.
 * Nothing here assumes a distribution; docs/compare.md says what is assumed.
 */
#ifndef LAB_RESULT_COMPARE_STATS_H
#define LAB_RESULT_COMPARE_STATS_H

#include "lib/base.h"

#define STATS_UNITS_MAX 64 /* blocks or runs of one side */

/* Of @n values, 1 to 2 * STATS_UNITS_MAX; the mean of the two middle ones. Does not move them. */
double stats_median(const double *value, u32 n);

/*
 * Do A and B differ, in any of @rows measures? Each row holds @na values of A, then @nb of B, measured in the
 * same @na + @nb units. The labels A and B are dealt anew to the units, in every way or in
 * 20,000 random ones, for all rows at once; p[r]: how often the largest difference of any row was at least that of
 * row r. Small p[r]: row r differs, and what was asked of all rows together is accounted for (Westfall, Young 1993).
 * @p: written. Return: 0; -ENOMEM.
 */
int stats_labels(const double *value, u32 rows, u32 na, u32 nb, double *p);

/*
 * The same for pairs: unit i is the pair (a, b) of row r, value[(r * n + i) * 2] and the one after it. Within each pair
 * A and B change places or do not. Return: 0; -ENOMEM.
 */
int stats_pairs(const double *value, u32 rows, u32 n, double *p);

/* The smallest p that these can give. */
double stats_labels_least(u32 na, u32 nb);
double stats_pairs_least(u32 n);

/*
 * Of the @na * @nb ratios of a B to an A in order, the k-th smallest and k-th largest hold the
 * true one between them with probability @confidence at least (Mann, Whitney 1947). Return: k; 0: too few values.
 */
u32 stats_ratio_rank(u32 na, u32 nb, double confidence);

/* The same for the @n ratios of pairs and their median (a sign test, inverted). */
u32 stats_pair_rank(u32 n, double confidence);

#endif /* LAB_RESULT_COMPARE_STATS_H */
