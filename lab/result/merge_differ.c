/* SPDX-License-Identifier: MIT */
/* Merging results: in what the parts differ, and which of them are missing. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lab/result/merge_internal.h"
#include "lab/plan/shard.h"
#include "lib/alloc.h"

#define STATUS_SKIPPED 4
#define STATUS_SIGNAL 128
#define MISSING_NAMED 8

static json_t *part(const struct merge *m, size_t i)
{
	return json_array_get(m->parts, i);
}

static const char *file_of(const struct merge *m, size_t i)
{
	return json_string_value(json_object_get(part(m, i), "file")) ?: "?";
}

json_t *merge_common(const struct merge *m, const char *key)
{
	json_t *first = json_object_get(part(m, 0), key);

	for (size_t i = 1; i < json_array_size(m->parts); i++)
		if (!json_equal(json_object_get(part(m, i), key), first))
			return NULL;
	return first;
}

static json_t *option(const struct merge *m, size_t i, const char *name)
{
	return json_object_get(json_object_get(part(m, i), "options"), name);
}

json_t *merge_common_options(const struct merge *m)
{
	json_t *common = json_copy(json_object_get(part(m, 0), "options")), *value;
	const char *name;
	void *next;

	for (size_t i = 1; i < json_array_size(m->parts); i++)
		json_object_foreach_safe(common, next, name, value)
		{
			if (!json_equal(option(m, i, name), value))
				json_object_del(common, name);
		}
	return common;
}

/* --- warnings ----------------------------------------------------------------------------- */

static void format_printf(2, 3) warn(json_t *to, const char *fmt, ...)
{
	char text[512];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	/* cut in the middle of a letter, it is no text */
	for (size_t n = strlen(text); n; text[--n] = 0) {
		json_t *line = json_string(text);

		if (!line)
			continue;
		json_array_append_new(to, line);
		return;
	}
}

static const char *text_of(json_t *value, char *text, size_t n)
{
	char *dump = json_is_string(value) ? NULL : json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);

	snprintf(text, n, "%s", json_string_value(value) ?: dump ?: "nothing");
	free(dump);
	return text;
}

/* @get: the value of part i. The first two that differ stand for all. */
static void warn_if_different(const struct merge *m, json_t *to, const char *what, const char *key,
			      json_t *(*get)(const struct merge *m, size_t i, const char *key))
{
	json_t *first = get(m, 0, key);
	char texts[2][64];

	for (size_t i = 1; i < json_array_size(m->parts); i++) {
		json_t *other = get(m, i, key);

		if (json_equal(first, other) || (!first && !other))
			continue;
		warn(to, "%s%s differs: %s in %.100s, %s in %.100s", what, key,
		     text_of(first, texts[0], sizeof(texts[0])), file_of(m, 0),
		     text_of(other, texts[1], sizeof(texts[1])), file_of(m, i));
		return;
	}
}

static json_t *key_of(const struct merge *m, size_t i, const char *key)
{
	return json_object_get(part(m, i), key);
}

/* How many parts ended so, and which is the first. */
static size_t count_status(const struct merge *m, bool (*is)(json_int_t status), size_t *first)
{
	size_t n = 0;

	for (size_t i = 0; i < json_array_size(m->parts); i++)
		if (is(json_integer_value(key_of(m, i, "status"))) && !n++)
			*first = i;
	return n;
}

static bool was_ended(json_int_t status)
{
	return status > STATUS_SIGNAL;
}

static bool ran_nothing(json_int_t status)
{
	return status == STATUS_SKIPPED;
}

/* --- shards --------------------------------------------------------------------------------- */

/* One campaign: which of its shards are there? */
struct campaign {
	u64 seed;
	u32 count;
	u32 *seen; /* by shard: the part that is it, plus 1; 0: none */
};

static void warn_missing(json_t *to, const struct campaign *c, bool *complete)
{
	char list[128] = "";
	size_t used = 0;
	u32 missing = 0;

	for (u32 i = 0; i < c->count; i++) {
		if (c->seen[i])
			continue;
		if (missing++ < MISSING_NAMED)
			used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%u", used ? ", " : "", i + 1);
	}
	if (!missing)
		return;
	*complete = false;
	warn(to, "%u of %u shards of seed %llu %s missing: %s%s", missing, c->count, (unsigned long long)c->seed,
	     missing == 1 ? "is" : "are", list, missing > MISSING_NAMED ? " ..." : "");
}

/* @numbers: of the parts that say they belong to it. */
static void look_at_campaign(const struct merge *m, json_t *to, struct campaign *c, json_t *numbers, bool *complete)
{
	json_t *number;
	size_t i;

	c->seen = mem_zalloc(c->count * sizeof(*c->seen));
	if (!c->seen) {
		*complete = false; /* nobody looked */
		return;
	}
	json_array_foreach(numbers, i, number)
	{
		size_t p = (size_t)json_integer_value(number);
		struct shard shard;
		u32 *seen;

		shard_parse(json_string_value(option(m, p, "shard")), &shard, NULL);
		seen = &c->seen[shard.index - 1];
		if (*seen)
			warn(to, "shard %u/%u of seed %llu is there twice, %.100s and %.100s: both count", shard.index,
			     shard.count, (unsigned long long)c->seed, file_of(m, *seen - 1), file_of(m, p));
		*seen = (u32)p + 1;
	}
	warn_missing(to, c, complete);
	mem_free(c->seen);
}

/* Parts by campaign: those of one seed and one number of shards. */
static void look_at_shards(const struct merge *m, json_t *to, bool *complete)
{
	json_t *campaigns = json_object(), *numbers;
	struct campaign c = { 0 };
	const char *name;
	char key[64];

	for (size_t i = 0; i < json_array_size(m->parts); i++) {
		const char *text = json_string_value(option(m, i, "shard"));
		struct shard shard;

		if (!text || shard_parse(text, &shard, NULL))
			continue;
		snprintf(key, sizeof(key), "%llu/%u",
			 (unsigned long long)json_integer_value(option(m, i, "campaign_seed")), shard.count);
		if (!json_object_get(campaigns, key))
			json_object_set_new(campaigns, key, json_array());
		json_array_append_new(json_object_get(campaigns, key), json_integer((json_int_t)i));
	}
	json_object_foreach(campaigns, name, numbers)
	{
		c.seed = strtoull(name, NULL, 10);
		c.count = (u32)strtoul(strchr(name, '/') + 1, NULL, 10);
		look_at_campaign(m, to, &c, numbers, complete);
	}
	json_decref(campaigns);
}

json_t *merge_warnings(const struct merge *m, bool *complete)
{
	static const char *const keys[] = { "version", "engine", "host_mm", "mmu", "cpu", "kernel" };
	/* what makes one shard another than the next */
	static const char *const own[] = { "shard", "campaign_seed", "plan" };
	json_t *to = json_array(), *value;
	size_t n, first = 0, nr = json_array_size(m->parts);
	const char *name;

	*complete = true;
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		warn_if_different(m, to, "", keys[i], key_of);
	json_object_foreach(json_object_get(part(m, 0), "options"), name, value)
	{
		bool skip = false;

		for (size_t i = 0; i < ARRAY_SIZE(own); i++)
			skip |= !strcmp(name, own[i]);
		if (!skip)
			warn_if_different(m, to, "option ", name, option);
	}
	n = count_status(m, ran_nothing, &first);
	if (n)
		warn(to, "%zu of %zu parts ran nothing, the first of them %.100s: see what was skipped", n, nr,
		     file_of(m, first));
	*complete &= !n;
	n = count_status(m, was_ended, &first);
	if (n)
		warn(to, "%zu of %zu parts were ended by a signal, the first of them %.100s: what they found counts", n,
		     nr, file_of(m, first));
	*complete &= !n;
	look_at_shards(m, to, complete);
	return to;
}
