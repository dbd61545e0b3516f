/* SPDX-License-Identifier: MIT */
/* Verdicts: see lab/result/compare.h. */
#include "lab/result/compare.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/alloc.h"

const char *const compare_verdict_names[COMPARE_VERDICTS] = {
	[COMPARE_FASTER] = "faster",   [COMPARE_SLOWER] = "slower",   [COMPARE_SAME] = "no difference",
	[COMPARE_NOISY] = "too noisy", [COMPARE_CONTROL] = "control",
};

/* How far @ratio is from 1, in either direction. */
static double apart(double ratio)
{
	return ratio >= 1 ? ratio - 1 : 1 / ratio - 1;
}

/* --- p: all measures with as many units are tested together ------------------------------------ */

static bool together(const struct compare_measure *a, const struct compare_measure *b)
{
	return a->nr[COMPARE_A] == b->nr[COMPARE_A] && a->nr[COMPARE_B] == b->nr[COMPARE_B];
}

static bool first_of_group(const struct compare *c, u32 i)
{
	for (u32 j = 0; j < i; j++)
		if (together(&c->measure[i], &c->measure[j]))
			return false;
	return true;
}

static u32 count_groups(const struct compare *c)
{
	u32 n = 0;

	for (u32 i = 0; i < c->nr; i++)
		n += first_of_group(c, i);
	return n;
}

/* The values of one measure as the tests want them. */
static void lay_out(const struct compare *c, const struct compare_measure *m, double *row)
{
	u32 na = m->nr[COMPARE_A], nb = m->nr[COMPARE_B];

	for (u32 i = 0; i < na; i++)
		row[c->paired ? 2 * i : i] = m->value[COMPARE_A][i];
	for (u32 i = 0; i < nb; i++)
		row[c->paired ? 2 * i + 1 : na + i] = m->value[COMPARE_B][i];
}

static int test_group(struct compare *c, u32 first, u32 groups, double *values, double *p)
{
	const struct compare_measure *m = &c->measure[first];
	u32 na = m->nr[COMPARE_A], nb = m->nr[COMPARE_B], rows = 0;
	int ret;

	for (u32 i = first; i < c->nr; i++)
		if (together(m, &c->measure[i]))
			lay_out(c, &c->measure[i], values + (size_t)rows++ * (na + nb));
	ret = c->paired ? stats_pairs(values, rows, na, p) : stats_labels(values, rows, na, nb, p);
	if (ret)
		return ret;
	rows = 0;
	for (u32 i = first; i < c->nr; i++)
		if (together(m, &c->measure[i]))
			c->measure[i].p = min(p[rows++] * groups, 1.0); /* groups: Bonferroni */
	return 0;
}

static int test_all(struct compare *c)
{
	double *values = mem_zalloc((size_t)c->nr * 2 * STATS_UNITS_MAX * sizeof(*values));
	double *p = mem_zalloc(c->nr * sizeof(*p));
	u32 groups = count_groups(c);
	int ret = values && p ? 0 : -ENOMEM;

	for (u32 i = 0; i < c->nr && !ret; i++)
		if (first_of_group(c, i))
			ret = test_group(c, i, groups, values, p);
	mem_free(values);
	mem_free(p);
	return ret;
}

/* --- the ratio, and where it may lie ------------------------------------------------------------ */

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static u32 all_ratios(const struct compare *c, const struct compare_measure *m, double *ratio)
{
	u32 n = 0;

	for (u32 i = 0; i < m->nr[COMPARE_A]; i++)
		for (u32 j = c->paired ? i : 0; j < (c->paired ? i + 1 : m->nr[COMPARE_B]); j++)
			ratio[n++] = m->value[COMPARE_B][j] / m->value[COMPARE_A][i];
	return n;
}

static u32 interval_rank(const struct compare *c, u32 na, u32 nb, double confidence)
{
	return c->paired ? stats_pair_rank(na, confidence) : stats_ratio_rank(na, nb, confidence);
}

static int estimate(const struct compare *c, struct compare_measure *m, double confidence)
{
	u32 na = m->nr[COMPARE_A], nb = m->nr[COMPARE_B], n, k;
	double *ratio = mem_zalloc((size_t)na * nb * sizeof(*ratio));

	if (!ratio)
		return -ENOMEM;
	n = all_ratios(c, m, ratio);
	qsort(ratio, n, sizeof(*ratio), by_value);
	m->ratio = n % 2 ? ratio[n / 2] : (ratio[n / 2 - 1] + ratio[n / 2]) / 2;
	k = interval_rank(c, na, nb, confidence);
	m->low = k ? ratio[k - 1] : 0;
	m->high = k ? ratio[n - k] : 0;
	m->median[COMPARE_A] = stats_median(m->value[COMPARE_A], na);
	m->median[COMPARE_B] = stats_median(m->value[COMPARE_B], nb);
	mem_free(ratio);
	return 0;
}

/* --- what the machine did ------------------------------------------------------------------------- */

static bool listed(const char *list, const char *name)
{
	size_t len = strlen(name);

	for (const char *at = list; at && *at; at += strcspn(at, ","), at += *at == ',')
		if (strcspn(at, ",") == len && !strncmp(at, name, len))
			return true;
	return false;
}

/* Between the first half of a run and its second. */
static double drift(const struct compare_measure *m, enum compare_side side)
{
	u32 half = m->nr[side] / 2;

	if (half < 2)
		return 0;
	return apart(stats_median(m->value[side] + m->nr[side] - half, half) / stats_median(m->value[side], half));
}

/*
 * Runs that take turns meet the machine alike; of two documents each met it at its own
 * time. Controls count twice: a busy sibling thread that slows Linux's faults by 1.4 was
 * seen to slow tain's own by 2.
 */
static void find_wobble(struct compare *c, const struct compare_config *config, struct compare_measure *m)
{
	double control = 0;

	if (c->paired)
		return;
	for (u32 i = 0; i < c->nr; i++)
		if (listed(config->controls, c->measure[i].name) && !strcmp(c->measure[i].quantity, m->quantity))
			control = max(control, apart(c->measure[i].ratio));
	m->wobble = (1 + max(drift(m, COMPARE_A), drift(m, COMPARE_B))) * (1 + control) * (1 + control) - 1;
}

/* --- verdicts ---------------------------------------------------------------------------------------- */

/* The fewest units of each side with which a verdict is possible at all. */
static u32 fewest(const struct compare *c, const struct compare_config *config)
{
	double alpha = 1 - config->confidence;
	u32 groups = count_groups(c), n = 2;

	while (n < STATS_UNITS_MAX && (!interval_rank(c, n, n, config->confidence) ||
				       (c->paired ? stats_pairs_least(n) : stats_labels_least(n, n)) * groups > alpha))
		n++;
	return n;
}

static void too_few(const struct compare *c, const struct compare_config *config, struct compare_measure *m)
{
	if (c->paired)
		snprintf(m->why, sizeof(m->why), "%u rounds; %u are needed", m->nr[COMPARE_A], fewest(c, config));
	else
		snprintf(m->why, sizeof(m->why), "%u and %u passes of %g s; %u of each are needed", m->nr[COMPARE_A],
			 m->nr[COMPARE_B], c->phase_s, fewest(c, config));
}

/* A verdict is about the whole interval: beyond what counts as an effect, or within it. */
static void judge(const struct compare *c, const struct compare_config *config, struct compare_measure *m)
{
	double low = m->low / (1 + m->wobble), high = m->high * (1 + m->wobble), bound = 1 + config->effect;
	double difference = m->median[COMPARE_B] - m->median[COMPARE_A], blur = 2 * m->resolution;
	bool differs = m->p <= 1 - config->confidence;

	m->verdict = COMPARE_NOISY;
	if (!c->paired && listed(config->controls, m->name))
		m->verdict = COMPARE_CONTROL;
	else if (!m->high)
		too_few(c, config, m);
	else if (differs && low >= bound && difference >= blur)
		m->verdict = m->more_is_better ? COMPARE_FASTER : COMPARE_SLOWER;
	else if (differs && high <= 1 / bound && -difference >= blur)
		m->verdict = m->more_is_better ? COMPARE_SLOWER : COMPARE_FASTER;
	else if ((low >= 1 / bound || (1 - low) * m->median[COMPARE_A] < blur) &&
		 (high <= bound || (high - 1) * m->median[COMPARE_A] < blur))
		m->verdict = COMPARE_SAME;
	else if (m->wobble > config->effect)
		snprintf(m->why, sizeof(m->why), "the machine itself moved by %.1f %%", m->wobble * 100);
	else if (differs)
		snprintf(m->why, sizeof(m->why), "different, but perhaps by less than %.3g %%", config->effect * 100);
	else if (min(m->nr[COMPARE_A], m->nr[COMPARE_B]) < fewest(c, config))
		too_few(c, config, m);
}

int compare_judge(struct compare *c, const struct compare_config *config)
{
	int ret = test_all(c);

	for (u32 i = 0; i < c->nr && !ret; i++)
		ret = estimate(c, &c->measure[i], config->confidence);
	for (u32 i = 0; i < c->nr && !ret; i++)
		find_wobble(c, config, &c->measure[i]);
	for (u32 i = 0; i < c->nr && !ret; i++)
		judge(c, config, &c->measure[i]);
	return ret;
}

u32 compare_count(const struct compare *c, enum compare_verdict verdict)
{
	u32 n = 0;

	for (u32 i = 0; i < c->nr; i++)
		n += c->measure[i].verdict == verdict;
	return n;
}

static json_t *values_json(const struct compare_measure *m, enum compare_side side)
{
	json_t *list = json_array();

	for (u32 i = 0; i < m->nr[side]; i++)
		json_array_append_new(list, json_real(m->value[side][i]));
	return list;
}

static json_t *measure_json(const struct compare_measure *m)
{
	json_t *o = json_object();

	json_object_set_new(o, "name", json_string(m->name));
	json_object_set_new(o, "quantity", json_string(m->quantity));
	json_object_set_new(o, "unit", json_string(m->unit));
	json_object_set_new(o, "more_is_better", json_boolean(m->more_is_better));
	json_object_set_new(o, "a", json_real(m->median[COMPARE_A]));
	json_object_set_new(o, "b", json_real(m->median[COMPARE_B]));
	json_object_set_new(o, "ratio", json_real(m->ratio));
	json_object_set_new(o, "low", m->high ? json_real(m->low) : json_null());
	json_object_set_new(o, "high", m->high ? json_real(m->high) : json_null());
	json_object_set_new(o, "p", json_real(m->p));
	json_object_set_new(o, "wobble", json_real(m->wobble));
	json_object_set_new(o, "verdict", json_string(compare_verdict_names[m->verdict]));
	json_object_set_new(o, "why", m->why[0] ? json_string(m->why) : json_null());
	json_object_set_new(o, "values_a", values_json(m, COMPARE_A));
	json_object_set_new(o, "values_b", values_json(m, COMPARE_B));
	return o;
}

json_t *compare_json(const struct compare *c, const struct compare_config *config)
{
	json_t *o = json_object(), *list = json_array();

	json_object_set_new(o, "paired", json_boolean(c->paired));
	json_object_set_new(o, "confidence", json_real(config->confidence));
	json_object_set_new(o, "effect", json_real(config->effect));
	json_object_set_new(o, "warnings", json_incref(c->warnings));
	for (u32 i = 0; i < c->nr; i++)
		json_array_append_new(list, measure_json(&c->measure[i]));
	json_object_set_new(o, "measures", list);
	return o;
}
