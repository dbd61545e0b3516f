/* SPDX-License-Identifier: MIT */
/* Figures: see lab/result/figure.h. */
#include "lab/result/figure.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static double median(const double *values, u32 n)
{
	double sorted[FIGURE_ROUNDS_MAX];

	if (!n)
		return 0;
	memcpy(sorted, values, n * sizeof(*sorted));
	qsort(sorted, n, sizeof(*sorted), compare_doubles);
	return n % 2 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
}

void figure_add(struct figure *figure, double value, double other)
{
	if (figure->rounds == FIGURE_ROUNDS_MAX)
		return;
	figure->value[figure->rounds] = value;
	figure->other[figure->rounds] = other;
	figure->rounds++;
}

void figure_skip(struct figure *figure, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(figure->skip, sizeof(figure->skip), fmt, args);
	va_end(args);
}

double figure_median(const struct figure *figure, const double *values)
{
	return median(values, figure->rounds);
}

double figure_measure(const struct figure *figure)
{
	double ratio[FIGURE_ROUNDS_MAX];

	if (!figure->peer)
		return median(figure->value, figure->rounds);
	for (u32 i = 0; i < figure->rounds; i++)
		ratio[i] = figure->other[i] > 0 ? figure->value[i] / figure->other[i] : 0;
	return median(ratio, figure->rounds);
}

bool figure_met(const struct figure *figure)
{
	double m = figure_measure(figure);

	if (!figure->rounds)
		return false;
	return !figure->bound || (figure->at_most ? m <= figure->bound : m >= figure->bound);
}
