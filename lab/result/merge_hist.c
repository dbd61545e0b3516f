/* SPDX-License-Identifier: MIT */
/* Merging results, histograms: buckets begin at the same values in every document, so their counts add. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lab/result/merge_internal.h"
#include "lab/result/result.h"
#include "lib/alloc.h"

static char *copy_text(const char *from)
{
	char *text = mem_alloc(strlen(from) + 1);

	return text ? strcpy(text, from) : NULL;
}

static struct merge_hist *find(const struct merge *m, const char *name)
{
	for (u32 i = 0; i < m->nr_hists; i++)
		if (!strcmp(m->hist[i]->name, name))
			return m->hist[i];
	return NULL;
}

static void destroy(struct merge_hist *h)
{
	hist_destroy(&h->hist);
	blocks_destroy(&h->passes);
	mem_free(h->name);
	mem_free(h->unit);
	mem_free(h);
}

void merge_destroy_hists(struct merge *m)
{
	while (m->nr_hists)
		destroy(m->hist[--m->nr_hists]);
}

/* A new one, empty. Return: NULL with text. */
static struct merge_hist *make(struct merge *m, const char *name, const char *unit, struct err *err)
{
	struct merge_hist *h;

	if (m->nr_hists == MERGE_HISTS_MAX) {
		err_set(err, -EINVAL, "more than %u histograms", MERGE_HISTS_MAX);
		return NULL;
	}
	h = mem_zalloc(sizeof(*h));
	if (!h || hist_init(&h->hist)) {
		mem_free(h);
		goto none;
	}
	h->name = copy_text(name);
	h->unit = copy_text(unit);
	if (!h->name || !h->unit) {
		destroy(h);
		goto none;
	}
	m->hist[m->nr_hists++] = h;
	return h;
none:
	err_set(err, -ENOMEM, "no memory for histogram '%s'", name);
	return NULL;
}

/* A bucket's lower bound as a document writes it: digits, and no zero in front. */
static bool bucket_bound(const char *key, u64 *lo)
{
	char again[24];

	*lo = strtoull(key, NULL, 10);
	snprintf(again, sizeof(again), "%llu", (unsigned long long)*lo);
	return !strcmp(key, again);
}

/* @json into m->scratch. @where: "FILE: histogram 'NAME'". */
static int read_hist(struct merge *m, json_t *json, const char *where, struct err *err)
{
	json_t *buckets = json_object_get(json, "buckets"), *value;
	u64 count, least, most, lo, n;
	const char *key;

	if (merge_get_count(json, "count", where, &count, err) || merge_get_count(json, "min", where, &least, err) ||
	    merge_get_count(json, "max", where, &most, err))
		return -EINVAL;
	hist_reset(&m->scratch);
	json_object_foreach(buckets, key, value)
	{
		n = (u64)json_integer_value(value);
		if (!json_is_integer(value) || json_integer_value(value) <= 0 || !bucket_bound(key, &lo) ||
		    hist_add_bucket(&m->scratch, lo, n))
			return err_set(err, -EINVAL, "%s: '%.30s' is no bucket with a count", where, key);
	}
	if (hist_count(&m->scratch) != count)
		return err_set(err, -EINVAL, "%s: 'count' is %llu, its buckets hold %llu", where,
			       (unsigned long long)count, (unsigned long long)hist_count(&m->scratch));
	if (hist_set_ends(&m->scratch, least, most))
		return err_set(err, -EINVAL, "%s: 'min' and 'max' are not in the outermost buckets", where);
	return 0;
}

static int grow(struct blocks *b, u32 nr)
{
	u32 room = max(b->room, 64u);
	struct block *block;

	while (room - b->nr < nr)
		room *= 2;
	if (room == b->room)
		return 0;
	block = mem_zalloc(room * sizeof(*block));
	if (!block)
		return -ENOMEM;
	if (b->nr)
		memcpy(block, b->block, b->nr * sizeof(*block));
	mem_free(b->block);
	b->block = block;
	b->room = room;
	return 0;
}

static int add_passes(struct merge_hist *h, json_t *json, const char *where, struct err *err)
{
	json_t *passes = json_object_get(json, "blocks"), *pass;
	u64 resolution = 0;
	size_t i, nr = json_array_size(passes);

	if (!nr) {
		h->no_passes |= json_integer_value(json_object_get(json, "count")) > 0;
		return 0;
	}
	if (nr > BLOCKS_SHOWN)
		return err_set(err, -EINVAL, "%s: %zu blocks; a result has at most %d", where, nr, BLOCKS_SHOWN);
	if (merge_get_count(json, "resolution", where, &resolution, err))
		return -EINVAL;
	h->resolution = max(h->resolution, resolution);
	if (grow(&h->passes, (u32)nr))
		return err_set(err, -ENOMEM, "%s: no memory for its blocks", where);
	json_array_foreach(passes, i, pass)
	{
		struct block *b = &h->passes.block[h->passes.nr++];

		b->p99 = BLOCK_UNTOLD;
		if (merge_get_count(pass, "count", where, &b->count, err) ||
		    merge_get_count(pass, "p50", where, &b->p50, err) ||
		    (!json_is_null(json_object_get(pass, "p99")) && merge_get_count(pass, "p99", where, &b->p99, err)))
			return -EINVAL;
	}
	return 0;
}

static int add_hist(struct merge *m, const char *name, json_t *json, const char *file, struct err *err)
{
	const char *unit = json_string_value(json_object_get(json, "unit"));
	struct merge_hist *h = find(m, name);
	char where[200];
	u64 total;
	int ret;

	snprintf(where, sizeof(where), "%.120s: histogram '%.60s'", file, name);
	if (!unit)
		return err_set(err, -EINVAL, "%s: 'unit' is missing", where);
	if (h && strcmp(h->unit, unit))
		return err_set(err, -EINVAL, "%s is in %.20s, that of the others in %.20s: merge those of one unit",
			       where, unit, h->unit);
	ret = read_hist(m, json, where, err);
	if (ret)
		return ret;
	h = h ?: make(m, name, unit, err);
	if (!h)
		return m->nr_hists == MERGE_HISTS_MAX ? -EINVAL : -ENOMEM;
	total = hist_count(&h->hist);
	ret = merge_sum(&total, hist_count(&m->scratch), "samples", where, err);
	if (ret)
		return ret;
	hist_merge(&h->hist, &m->scratch);
	return add_passes(h, json, where, err);
}

int merge_add_hists(struct merge *m, json_t *hists, const char *file, u64 *samples, struct err *err)
{
	const char *name;
	json_t *json;
	int ret;

	*samples = 0;
	if (hists && !json_is_object(hists))
		return err_set(err, -EINVAL, "%s: 'histograms' must be an object", file);
	json_object_foreach(hists, name, json)
	{
		ret = add_hist(m, name, json, file, err);
		ret = ret ?: merge_sum(samples, hist_count(&m->scratch), "samples", file, err);
		if (ret)
			return ret;
	}
	return 0;
}

void merge_put_hists(const struct merge *m, json_t *doc)
{
	for (u32 i = 0; i < m->nr_hists; i++) {
		struct merge_hist *h = m->hist[i];

		result_histogram(doc, h->name, h->unit, &h->hist);
		if (h->passes.nr && !h->no_passes)
			result_blocks(doc, h->name, &h->passes, h->resolution);
	}
}
