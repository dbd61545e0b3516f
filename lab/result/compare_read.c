/* SPDX-License-Identifier: MIT */
/* From result documents to measures: see lab/result/compare.h. */
#include "lab/result/compare.h"

#include <stdio.h>
#include <string.h>

#include "lab/result/blocks.h"
#include "lib/alloc.h"

#define MEASURES_MAX 1024 /* a test of that many takes seconds */

static_assert(BLOCKS_SHOWN <= STATS_UNITS_MAX, "every block of a document can be dealt");

void compare_init(struct compare *c, bool paired, double phase_s)
{
	memset(c, 0, sizeof(*c));
	c->paired = paired;
	c->phase_s = phase_s;
	c->warnings = json_array();
	c->skips = json_array();
}

void compare_destroy(struct compare *c)
{
	mem_free(c->measure);
	json_decref(c->warnings);
	json_decref(c->skips);
	*c = (struct compare){ 0 };
}

static void skip(struct compare *c, const char *what, const char *why)
{
	json_t *entry;
	size_t i;

	json_array_foreach(c->skips, i,
			   entry) if (!strcmp(json_string_value(json_object_get(entry, "what")), what)) return;
	json_array_append_new(c->skips, json_pack("{ss, ss}", "what", what, "why", why));
}

/* Room for one more; it counts when c->nr does. Return: NULL: none, with text. */
static struct compare_measure *new_measure(struct compare *c, struct err *err)
{
	if (c->nr == MEASURES_MAX) {
		err_set(err, -ENOMEM, "more than %u measures", MEASURES_MAX);
		return NULL;
	}
	if (c->nr == c->room) {
		u32 room = c->room ? 2 * c->room : 64;
		struct compare_measure *grown = mem_zalloc(room * sizeof(*grown));

		if (!grown) {
			err_set(err, -ENOMEM, "no memory for the measures");
			return NULL;
		}
		if (c->nr)
			memcpy(grown, c->measure, c->nr * sizeof(*grown));
		mem_free(c->measure);
		c->measure = grown;
		c->room = room;
	}
	c->measure[c->nr] = (struct compare_measure){ .resolution = 1 };
	return &c->measure[c->nr];
}

/* One value of the measure under way. A value of 0 ns is one below the clock's step. */
static int add_value(struct compare_measure *m, enum compare_side side, json_t *value, struct err *err)
{
	double v = json_number_value(value);

	if (!json_is_number(value) || !(v >= 0 && v < 1e300))
		return err_set(err, -EINVAL, "%s: its %s is no number, or a negative one", m->name, m->quantity);
	if (m->nr[side] == STATS_UNITS_MAX)
		return err_set(err, -EINVAL, "%s: more than %u values of %s", m->name, STATS_UNITS_MAX, m->quantity);
	m->value[side][m->nr[side]++] = max(v, m->resolution / 2);
	return 0;
}

/* --- histograms --------------------------------------------------------------------------- */

/* The documents of one comparison. */
struct source {
	json_t *const *doc[COMPARE_SIDES];
	u32 nr;
};

static json_t *histogram(const struct source *s, enum compare_side side, u32 i, const char *name)
{
	return json_object_get(json_object_get(s->doc[side][i], "histograms"), name);
}

/* Why @name cannot be compared, or NULL. */
static const char *histogram_unfit(const struct compare *c, const struct source *s, const char *name)
{
	const char *unit = json_string_value(json_object_get(histogram(s, COMPARE_A, 0, name), "unit"));

	for (int side = 0; side < COMPARE_SIDES; side++)
		for (u32 i = 0; i < s->nr; i++) {
			json_t *h = histogram(s, side, i, name);
			const char *its = json_string_value(json_object_get(h, "unit"));

			if (!h)
				return side == COMPARE_A ? "not in every result of A" : "not in every result of B";
			if (json_integer_value(json_object_get(h, "count")) <= 0)
				return side == COMPARE_A ? "empty in A" : "empty in B";
			if (!unit || !its || strcmp(unit, its))
				return "the units differ";
			if (!c->paired && !json_array_size(json_object_get(h, "blocks")))
				return side == COMPARE_A ? "A does not say what each pass measured (no blocks)"
							 : "B does not say what each pass measured (no blocks)";
		}
	return NULL;
}

/* Passes one after the other meet the same phase of the machine: together they are one unit. */
static void group_passes(const struct compare *c, struct compare_measure *m, enum compare_side side, json_t *doc)
{
	double seconds = json_number_value(json_object_get(doc, "elapsed_s"));
	u32 nr = m->nr[side], units = nr;

	if (c->phase_s > 0 && seconds < c->phase_s * nr)
		units = max((u32)(seconds / c->phase_s), 1u);
	for (u32 i = 0; i < units && units < nr; i++) {
		u32 from = nr * i / units, to = nr * (i + 1) / units;

		m->value[side][i] = stats_median(m->value[side] + from, to - from);
	}
	m->nr[side] = units;
}

static int add_blocks(const struct compare *c, struct compare_measure *m, enum compare_side side, json_t *h,
		      json_t *doc, struct err *err)
{
	json_t *block;
	size_t i;
	int ret;

	json_array_foreach(json_object_get(h, "blocks"), i, block)
	{
		ret = add_value(m, side, json_object_get(block, m->quantity), err);
		if (ret)
			return ret;
	}
	group_passes(c, m, side, doc);
	return 0;
}

/* Of fewer samples it is their maximum, or nearly so, whatever an older tain wrote. */
#define P99_SAMPLES 100

static bool has_p99(json_t *of)
{
	json_t *count = json_object_get(of, "count");

	return !json_is_null(json_object_get(of, "p99")) && (!count || json_number_value(count) >= P99_SAMPLES);
}

/* In every run, or every block? */
static bool all_have_p99(const struct compare *c, const struct source *s, const char *name)
{
	json_t *block;
	size_t k;

	for (int side = 0; side < COMPARE_SIDES; side++)
		for (u32 i = 0; i < s->nr; i++) {
			json_t *h = histogram(s, side, i, name);

			if (c->paired && !has_p99(h))
				return false;
			json_array_foreach(c->paired ? NULL : json_object_get(h, "blocks"), k,
					   block) if (!has_p99(block)) return false;
		}
	return true;
}

static int take_quantity(struct compare *c, const struct source *s, const char *name, const char *quantity,
			 struct err *err)
{
	struct compare_measure *m = new_measure(c, err);
	json_t *first = histogram(s, COMPARE_A, 0, name);
	int ret = 0;

	if (!m)
		return -ENOMEM;
	snprintf(m->name, sizeof(m->name), "%s", name);
	snprintf(m->quantity, sizeof(m->quantity), "%s", quantity);
	snprintf(m->unit, sizeof(m->unit), "%s", json_string_value(json_object_get(first, "unit")));
	for (int side = 0; side < COMPARE_SIDES; side++)
		for (u32 i = 0; i < s->nr && !ret; i++) {
			json_t *h = histogram(s, side, i, name), *step = json_object_get(h, "resolution");

			m->resolution = max(m->resolution, json_number_value(step));
			if (c->paired)
				ret = add_value(m, side, json_object_get(h, quantity), err);
			else
				ret = add_blocks(c, m, side, h, s->doc[side][i], err);
		}
	c->nr += !ret;
	return ret;
}

static int take_quantities(struct compare *c, const struct source *s, const char *name, struct err *err)
{
	int ret = take_quantity(c, s, name, "p50", err);
	char what[128];

	if (ret || all_have_p99(c, s, name))
		return ret ?: take_quantity(c, s, name, "p99", err);
	snprintf(what, sizeof(what), "%.110s p99", name);
	skip(c, what, c->paired ? "a run has fewer than 100 samples" : "a pass has fewer than 100 samples");
	return 0;
}

static int take_histograms(struct compare *c, const struct source *s, struct err *err)
{
	const char *name, *why;
	json_t *h;

	for (int side = 0; side < COMPARE_SIDES; side++)
		json_object_foreach(json_object_get(s->doc[side][0], "histograms"), name, h)
		{
			int ret = 0;

			why = histogram_unfit(c, s, name);
			if (why)
				skip(c, name, why);
			else if (side == COMPARE_A)
				ret = take_quantities(c, s, name, err);
			if (ret)
				return ret;
		}
	return 0;
}

/* --- figures and rates ---------------------------------------------------------------------- */

static json_t *figure(json_t *doc, const char *name)
{
	const char *its;
	json_t *f;
	size_t i;

	json_array_foreach(json_object_get(doc, "figures"), i, f)
	{
		its = json_string_value(json_object_get(f, "name"));
		if (its && !strcmp(its, name))
			return f;
	}
	return NULL;
}

/* All its rounds have a value, and one that a ratio can be of. */
static bool measured(json_t *values)
{
	json_t *value;
	size_t i;

	json_array_foreach(values, i, value) if (!(json_number_value(value) > 0)) return false;
	return json_array_size(values) > 0;
}

/* A round of the figures is a block; of a whole run the median of its rounds counts. */
static int add_figure(struct compare *c, struct compare_measure *m, enum compare_side side, json_t *values,
		      struct err *err)
{
	double v[STATS_UNITS_MAX];
	json_t *value, *middle;
	u32 n = 0;
	size_t i;
	int ret = 0;

	json_array_foreach(values, i, value)
	{
		if (!c->paired)
			ret = ret ?: add_value(m, side, value, err);
		else if (n < STATS_UNITS_MAX)
			v[n++] = json_number_value(value);
	}
	if (!c->paired || !n)
		return ret;
	middle = json_real(stats_median(v, n));
	ret = add_value(m, side, middle, err);
	json_decref(middle);
	return ret;
}

static bool same_key(json_t *a, json_t *b, const char *key)
{
	json_t *of_a = json_object_get(a, key), *of_b = json_object_get(b, key);

	return of_a == of_b || json_equal(of_a, of_b);
}

static int take_figure(struct compare *c, const struct source *s, json_t *first, const char *name, struct err *err)
{
	struct compare_measure *m = new_measure(c, err);
	int ret = 0;

	if (!m)
		return -ENOMEM;
	snprintf(m->name, sizeof(m->name), "%s", name);
	snprintf(m->quantity, sizeof(m->quantity), "value");
	snprintf(m->unit, sizeof(m->unit), "%s", json_string_value(json_object_get(first, "unit")) ?: "");
	m->more_is_better = !json_is_true(json_object_get(first, "at_most"));
	m->resolution = 0;
	for (int side = 0; side < COMPARE_SIDES; side++)
		for (u32 i = 0; i < s->nr && !ret; i++) {
			json_t *f = figure(s->doc[side][i], name), *values = json_object_get(f, "values");

			if (!measured(values)) {
				skip(c, name, side == COMPARE_A ? "not measured in A" : "not measured in B");
				return 0;
			}
			if (!same_key(f, first, "unit") || !same_key(f, first, "at_most")) {
				skip(c, name, "the units differ, or what is better");
				return 0;
			}
			ret = add_figure(c, m, side, values, err);
			if (!c->paired && !ret)
				group_passes(c, m, side, s->doc[side][i]);
		}
	c->nr += !ret;
	return ret;
}

static int take_figures(struct compare *c, const struct source *s, struct err *err)
{
	json_t *f;
	size_t i;

	json_array_foreach(json_object_get(s->doc[COMPARE_A][0], "figures"), i, f)
	{
		const char *name = json_string_value(json_object_get(f, "name"));
		int ret = name ? take_figure(c, s, f, name, err) : 0;

		if (ret)
			return ret;
	}
	return 0;
}

/* Whole runs have rates; a single one says nothing of how they vary. */
static int take_rate(struct compare *c, const struct source *s, const char *key, struct err *err)
{
	struct compare_measure *m = new_measure(c, err);

	if (!m)
		return -ENOMEM;
	snprintf(m->name, sizeof(m->name), "%s", key);
	snprintf(m->quantity, sizeof(m->quantity), "rate");
	snprintf(m->unit, sizeof(m->unit), "/s");
	m->more_is_better = true;
	m->resolution = 0;
	for (int side = 0; side < COMPARE_SIDES; side++)
		for (u32 i = 0; i < s->nr; i++) {
			double n = json_number_value(json_object_get(s->doc[side][i], key));
			double seconds = json_number_value(json_object_get(s->doc[side][i], "elapsed_s"));

			if (!(n > 0 && seconds > 0))
				return 0; /* no such rate here */
			m->value[side][m->nr[side]++] = n / seconds;
		}
	c->nr++;
	return 0;
}

/* --- is it the same that was measured? -------------------------------------------------------- */

static const char *text_of(json_t *value, char *text, size_t n)
{
	char *dump = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);

	snprintf(text, n, "%s", dump ?: "nothing");
	free(dump);
	return text;
}

static void warn_if_different(struct compare *c, const char *what, json_t *a, json_t *b)
{
	char texts[COMPARE_SIDES][64], line[256];

	if (json_equal(a, b) || (!a && !b))
		return;
	snprintf(line, sizeof(line), "%s differs: A %s, B %s", what, text_of(a, texts[0], sizeof(texts[0])),
		 text_of(b, texts[1], sizeof(texts[1])));
	json_array_append_new(c->warnings, json_string(line) ?: json_null());
}

static void warn(struct compare *c, json_t *a, json_t *b)
{
	static const char *const keys[] = { "command", "engine", "mmu", "host_mm", "cpu", "kernel" };
	json_t *options[] = { json_object_get(a, "options"), json_object_get(b, "options") }, *value;
	char what[96];
	const char *key;

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		warn_if_different(c, keys[i], json_object_get(a, keys[i]), json_object_get(b, keys[i]));
	json_object_foreach(options[0], key, value)
	{
		snprintf(what, sizeof(what), "option %s", key);
		warn_if_different(c, what, value, json_object_get(options[1], key));
	}
	json_object_foreach(options[1], key, value)
	{
		snprintf(what, sizeof(what), "option %s", key);
		if (!json_object_get(options[0], key))
			warn_if_different(c, what, NULL, value);
	}
	for (int side = 0; side < COMPARE_SIDES; side++)
		if (json_array_size(json_object_get(side == COMPARE_A ? a : b, "violations"))) {
			snprintf(what, sizeof(what), "%s has violations", side == COMPARE_A ? "A" : "B");
			json_array_append_new(c->warnings, json_string(what));
		}
}

/* How long each run took: how many of its passes are one unit hangs on it. */
static int check_times(const struct source *s, struct err *err)
{
	for (int side = 0; side < COMPARE_SIDES; side++)
		for (u32 i = 0; i < s->nr; i++) {
			json_t *seconds = json_object_get(s->doc[side][i], "elapsed_s");
			double v = json_number_value(seconds);

			if (!json_is_number(seconds) || !(v >= 0 && v < 1e300))
				return err_set(err, -EINVAL, "%s: 'elapsed_s' is no time",
					       side == COMPARE_A ? "A" : "B");
		}
	return 0;
}

int compare_take(struct compare *c, json_t *const *a, json_t *const *b, u32 nr, struct err *err)
{
	struct source s = { .doc = { a, b }, .nr = nr };
	int ret = check_times(&s, err);

	if (ret)
		return ret;
	warn(c, a[0], b[0]);
	ret = take_histograms(c, &s, err) ?: take_figures(c, &s, err);
	if (!ret && c->paired)
		ret = take_rate(c, &s, "checked_accesses", err) ?: take_rate(c, &s, "faults", err);
	if (ret)
		return ret;
	if (!c->nr) {
		json_t *first = json_array_get(c->skips, 0);

		return first ? err_set(err, -ENOENT, "A and B have nothing to compare in common: %s: %s",
				       json_string_value(json_object_get(first, "what")),
				       json_string_value(json_object_get(first, "why")))
			     : err_set(err, -ENOENT, "A and B have nothing to compare: no histogram, no figure");
	}
	return 0;
}
