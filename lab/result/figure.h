/* SPDX-License-Identifier: MIT */
/* One figure of a benchmark: values by round, what they are compared with, and what they must reach. */
#ifndef LAB_RESULT_FIGURE_H
#define LAB_RESULT_FIGURE_H

#include "lib/base.h"

#define FIGURE_ROUNDS_MAX 16

struct figure {
	char name[80];
	const char *what;
	const char *unit;
	const char *peer; /* what it is compared with; NULL: with the bound alone */
	bool at_most;	  /* bound is an upper one */
	double bound;	  /* of the value, or of value / peer where there is a peer; 0: none */
	u32 rounds;
	double value[FIGURE_ROUNDS_MAX];
	double other[FIGURE_ROUNDS_MAX]; /* the peer's */
	char skip[320];			 /* why nothing was measured; empty when it was */
	char note[320];			 /* of how it came about, for who reads the ratio; empty: nothing to say */
};

/* One round more; beyond the last it is dropped. @other: 0 without a peer. */
void figure_add(struct figure *figure, double value, double other);

/* Why it was not measured, or not compared. */
void figure_skip(struct figure *figure, const char *fmt, ...) format_printf(2, 3);

double figure_median(const struct figure *figure, const double *values);
/* The value, or its ratio to the peer, that the bound speaks of. */
double figure_measure(const struct figure *figure);
bool figure_met(const struct figure *figure);

#endif /* LAB_RESULT_FIGURE_H */
