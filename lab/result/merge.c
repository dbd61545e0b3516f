/* SPDX-License-Identifier: MIT */
/* Merging results, all but histograms: see lab/result/merge.h. */
#include "lab/result/merge.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "lab/result/merge_internal.h"
#include "lab/result/result.h"
#include "lab/plan/violation.h"
#include "lib/time.h"

#define STATUS_STALLED 124
#define STATUS_SKIPPED 4
#define STATUS_SIGNAL 128

/* What a run of them found can be added to what another one did. */
static const char *const commands[] = { "stress",	 "bench fault", "bench interference",
					"bench outside", "uffd-check",	"trace" };

/* Of a document, and of a part: who ran where, and how much. */
static const char *const text_keys[] = { "version", "engine", "host_mm", "mmu", "cpu", "kernel", "host" };
static const char *const count_keys[] = { "seed", "checked_accesses", "faults" };
/* The rest of what every document has; other keys stay with their part. */
static const char *const other_keys[] = { "schema",	"command", "status",	 "elapsed_s", "options", "host_ops",
					  "violations", "skips",   "histograms", "parts",     "warnings" };

int merge_init(struct merge *m)
{
	memset(m, 0, sizeof(*m));
	if (hist_init(&m->scratch))
		return -ENOMEM;
	m->parts = json_array();
	m->ids = json_object();
	m->host_ops = json_object();
	m->violations = json_array();
	m->skips = json_array();
	m->skip_index = json_object();
	return 0;
}

void merge_destroy(struct merge *m)
{
	merge_destroy_hists(m);
	hist_destroy(&m->scratch);
	json_decref(m->command);
	json_decref(m->parts);
	json_decref(m->ids);
	json_decref(m->host_ops);
	json_decref(m->violations);
	json_decref(m->skips);
	json_decref(m->skip_index);
	memset(m, 0, sizeof(*m));
}

/* --- numbers ------------------------------------------------------------------------------ */

int merge_get_count(json_t *object, const char *key, const char *file, u64 *value, struct err *err)
{
	json_t *n = json_object_get(object, key);

	if (!json_is_integer(n) || json_integer_value(n) < 0)
		return err_set(err, -EINVAL, "%s: '%s' is %s", file, key, n ? "no count" : "missing");
	*value = (u64)json_integer_value(n);
	return 0;
}

/* Faults that nobody counted are null. Then *@value is 0, and *@unknown set. */
static int get_known(json_t *object, const char *key, const char *file, u64 *value, bool *unknown, struct err *err)
{
	*value = 0;
	if (strcmp(key, "faults") || !json_is_null(json_object_get(object, key)))
		return merge_get_count(object, key, file, value, err);
	*unknown = true;
	return 0;
}

int merge_sum(u64 *to, u64 value, const char *what, const char *file, struct err *err)
{
	if (value > INT64_MAX - *to)
		return err_set(err, -EOVERFLOW, "%s: with its %s the sum does not fit in a result", file, what);
	*to += value;
	return 0;
}

/* --- where a part came from ----------------------------------------------------------------- */

static int hash_more(const char *text, size_t bytes, void *arg)
{
	return XXH3_64bits_update(arg, text, bytes) == XXH_OK ? 0 : -1;
}

/* The same for the same document, however it is laid out. Return: 0; -ENOMEM. */
static int make_id(json_t *doc, char *id, size_t n)
{
	XXH3_state_t *state = XXH3_createState();
	int ret = -ENOMEM;

	if (state && XXH3_64bits_reset(state) == XXH_OK &&
	    !json_dump_callback(doc, hash_more, state, JSON_COMPACT | JSON_SORT_KEYS)) {
		snprintf(id, n, "%016llx", (unsigned long long)XXH3_64bits_digest(state));
		ret = 0;
	}
	XXH3_freeState(state);
	return ret;
}

static bool is_one_of(const char *key, const char *const *keys, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!strcmp(keys[i], key))
			return true;
	return false;
}

/* The keys that documents and parts share. */
static int copy_common(json_t *part, json_t *doc, const char *file, struct err *err)
{
	json_t *value, *seconds = json_object_get(doc, "elapsed_s"), *status = json_object_get(doc, "status");
	bool unknown;
	u64 count;

	for (size_t i = 0; i < ARRAY_SIZE(text_keys); i++) {
		value = json_object_get(doc, text_keys[i]) ?: json_null();
		if (!json_is_string(value) && !json_is_null(value))
			return err_set(err, -EINVAL, "%s: '%s' is no text", file, text_keys[i]);
		json_object_set(part, text_keys[i], value);
	}
	for (size_t i = 0; i < ARRAY_SIZE(count_keys); i++) {
		if (get_known(doc, count_keys[i], file, &count, &unknown, err))
			return -EINVAL;
		json_object_set(part, count_keys[i], json_object_get(doc, count_keys[i]));
	}
	if (!json_is_number(seconds) || !(json_number_value(seconds) >= 0 && json_number_value(seconds) < 1e12))
		return err_set(err, -EINVAL, "%s: 'elapsed_s' is no time", file);
	json_object_set(part, "elapsed_s", seconds);
	if (status && !json_is_null(status) && !(json_is_integer(status) && json_integer_value(status) >= 0))
		return err_set(err, -EINVAL, "%s: 'status' is no exit status", file);
	json_object_set(part, "status", status ?: json_null());
	value = json_object_get(doc, "options");
	if (value && !json_is_object(value))
		return err_set(err, -EINVAL, "%s: 'options' must be an object", file);
	json_object_set_new(part, "options", value ? json_incref(value) : json_object());
	return 0;
}

/* One that is in already would count twice. */
static int take_part(struct merge *m, json_t *part, const char *file, struct err *err)
{
	const char *id = json_string_value(json_object_get(part, "id"));
	json_t *other;

	if (!id)
		return err_set(err, -EINVAL, "%s: a part without an id", file);
	other = json_object_get(m->ids, id);
	if (other)
		return err_set(err, -EEXIST, "%s holds the same run as %s: give each once", file,
			       json_string_value(other));
	json_object_set_new(m->ids, id, json_string(file) ?: json_string("another file"));
	json_array_append(m->parts, part);
	m->faults_unknown |= json_is_null(json_object_get(part, "faults"));
	return merge_sum(&m->checked, (u64)json_integer_value(json_object_get(part, "checked_accesses")),
			 "checked_accesses", file, err)
		       ?: merge_sum(&m->faults, (u64)json_integer_value(json_object_get(part, "faults")), "faults",
				    file, err);
}

/* A run of its own. */
static int take_run(struct merge *m, json_t *doc, const char *file, u64 samples, struct err *err)
{
	json_t *part = json_object(), *own = json_object(), *value;
	char id[24];
	const char *key;
	int ret;

	ret = make_id(doc, id, sizeof(id)) ? err_set(err, -ENOMEM, "%s: no memory", file) : 0;
	json_object_set_new(part, "file", json_string(file) ?: json_null());
	json_object_set_new(part, "id", json_string(id));
	ret = ret ?: copy_common(part, doc, file, err);
	json_object_set_new(part, "samples", json_integer((json_int_t)samples));
	json_object_set_new(part, "violations",
			    json_integer((json_int_t)json_array_size(json_object_get(doc, "violations"))));
	json_object_foreach(doc, key, value)
	{
		if (!is_one_of(key, text_keys, ARRAY_SIZE(text_keys)) &&
		    !is_one_of(key, count_keys, ARRAY_SIZE(count_keys)) &&
		    !is_one_of(key, other_keys, ARRAY_SIZE(other_keys)))
			json_object_set(own, key, value);
	}
	if (json_object_size(own))
		json_object_set(part, "own", own);
	json_decref(own);
	ret = ret ?: take_part(m, part, file, err);
	json_decref(part);
	return ret;
}

/* The runs of a merged result. Somebody may have edited it: they have to make up what it says of itself. */
static int take_parts(struct merge *m, json_t *doc, const char *file, u64 samples, struct err *err)
{
	json_t *parts = json_object_get(doc, "parts"), *part, *checked = json_object();
	u64 sum[3] = { 0 }, said[3] = { 0 }, n;
	static const char *const keys[] = { "samples", "checked_accesses", "faults" };
	bool unknown = false, said_unknown = false;
	char where[160];
	size_t i;
	int ret = 0;

	json_array_foreach(parts, i, part)
	{
		snprintf(where, sizeof(where), "%.120s: part %zu", file, i);
		ret = ret ?: copy_common(checked, part, where, err);
		for (size_t k = 0; k < ARRAY_SIZE(keys) && !ret; k++)
			ret = get_known(part, keys[k], where, &n, &unknown, err)
				      ?: merge_sum(&sum[k], n, keys[k], where, err);
		ret = ret ?: take_part(m, part, file, err);
	}
	json_decref(checked);
	said[0] = samples;
	for (size_t k = 1; k < ARRAY_SIZE(keys) && !ret; k++)
		ret = get_known(doc, keys[k], file, &said[k], &said_unknown, err);
	if (!ret && unknown != said_unknown)
		ret = err_set(err, -EINVAL, "%s: faults are not counted in %s alone: merge the parts anew", file,
			      unknown ? "a part" : "the sum");
	for (size_t k = 0; k < ARRAY_SIZE(keys) && !ret; k++)
		if (sum[k] != said[k] && !(said_unknown && !strcmp(keys[k], "faults")))
			ret = err_set(err, -EINVAL, "%s: its parts have %llu %s, it says %llu: merge the parts anew",
				      file, (unsigned long long)sum[k], keys[k], (unsigned long long)said[k]);
	return ret;
}

/* --- what is added ------------------------------------------------------------------------ */

static int add_host_ops(struct merge *m, json_t *ops, const char *file, struct err *err)
{
	json_t *count;
	const char *name;
	u64 n, sum;
	int ret;

	if (ops && !json_is_object(ops))
		return err_set(err, -EINVAL, "%s: 'host_ops' must be an object", file);
	json_object_foreach(ops, name, count)
	{
		ret = merge_get_count(ops, name, file, &n, err);
		sum = (u64)json_integer_value(json_object_get(m->host_ops, name));
		ret = ret ?: merge_sum(&sum, n, name, file, err);
		if (ret)
			return ret;
		json_object_set_new(m->host_ops, name, json_integer((json_int_t)sum));
	}
	return 0;
}

/* The part of an entry: of a run its own, of a merged result the one it says. */
static int part_of(json_t *said, size_t base, size_t nr, size_t *part)
{
	if (said && !(json_is_integer(said) && json_integer_value(said) >= 0 && (u64)json_integer_value(said) < nr))
		return -EINVAL;
	*part = base + (size_t)json_integer_value(said);
	return 0;
}

static int add_violations(struct merge *m, json_t *list, size_t base, const char *file, struct err *err)
{
	size_t i, part, nr = json_array_size(m->parts) - base;
	json_t *v;

	if (list && !json_is_array(list))
		return err_set(err, -EINVAL, "%s: 'violations' must be an array", file);
	json_array_foreach(list, i, v)
	{
		if (!json_is_string(json_object_get(v, "kind")) || part_of(json_object_get(v, "part"), base, nr, &part))
			return err_set(err, -EINVAL, "%s: violation %zu has no kind, or another file's part", file, i);
		json_object_set_new(v, "part", json_integer((json_int_t)part));
		json_array_append(m->violations, v);
	}
	return 0;
}

/* What was skipped for the same reason by many is said once, with all of them. */
static json_t *skip_entry(struct merge *m, const char *what, const char *why)
{
	char key[256];
	json_t *place, *entry;

	snprintf(key, sizeof(key), "%.90s\n%.150s", what, why);
	place = json_object_get(m->skip_index, key);
	entry = place ? json_array_get(m->skips, (size_t)json_integer_value(place)) : NULL;
	if (entry && !strcmp(json_string_value(json_object_get(entry, "why")), why))
		return entry;
	entry = json_pack("{ss, ss, s[]}", "what", what, "why", why, "parts");
	json_object_set_new(m->skip_index, key, json_integer((json_int_t)json_array_size(m->skips)));
	json_array_append_new(m->skips, entry);
	return entry;
}

static int add_skips(struct merge *m, json_t *list, size_t base, const char *file, struct err *err)
{
	size_t i, j, part = base, nr = json_array_size(m->parts) - base;
	json_t *skip, *parts, *said, *into;

	if (list && !json_is_array(list))
		return err_set(err, -EINVAL, "%s: 'skips' must be an array", file);
	json_array_foreach(list, i, skip)
	{
		const char *what = json_string_value(json_object_get(skip, "what"));
		const char *why = json_string_value(json_object_get(skip, "why"));

		if (!what || !why)
			return err_set(err, -EINVAL, "%s: skip %zu has no 'what' or no 'why'", file, i);
		into = json_object_get(skip_entry(m, what, why), "parts");
		parts = json_object_get(skip, "parts");
		if (!parts)
			json_array_append_new(into, json_integer((json_int_t)base));
		json_array_foreach(parts, j, said)
		{
			if (part_of(said, base, nr, &part))
				return err_set(err, -EINVAL, "%s: skip %zu is of another file's part", file, i);
			json_array_append_new(into, json_integer((json_int_t)part));
		}
	}
	return 0;
}

/* --- does it go with the others? ------------------------------------------------------------ */

static int check_command(struct merge *m, json_t *doc, const char *file, struct err *err)
{
	json_t *command = json_object_get(doc, "command");
	const char *name = json_string_value(command);

	if (!name)
		return err_set(err, -EINVAL, "%s is no result: it does not say of which command", file);
	if (!is_one_of(name, commands, ARRAY_SIZE(commands)))
		return err_set(err, -EINVAL,
			       "%s: results of '%.40s' cannot be added up; tain compare sets two side by side", file,
			       name);
	if (m->command && !json_equal(m->command, command))
		return err_set(err, -EINVAL, "%s is a result of '%s', those before it of '%s': merge each kind alone",
			       file, name, json_string_value(m->command));
	if (!m->command)
		m->command = json_incref(command);
	return 0;
}

/* Times of another engine, or of another second MMU, are times of something else. @base: the first new part. */
static int check_times(struct merge *m, size_t base, const char *file, struct err *err)
{
	static const char *const keys[] = { "engine", "mmu" };

	for (size_t i = base; i < json_array_size(m->parts); i++) {
		json_t *part = json_array_get(m->parts, i);

		if (!json_integer_value(json_object_get(part, "samples")))
			continue;
		m->timed = m->timed ?: part;
		for (size_t k = 0; k < ARRAY_SIZE(keys); k++) {
			json_t *a = json_object_get(m->timed, keys[k]), *b = json_object_get(part, keys[k]);

			if (!json_equal(a, b))
				return err_set(err, -EINVAL,
					       "%s: its times are of %s '%.40s', those before it of '%.40s': merge "
					       "those of one %s",
					       file, keys[k], json_string_value(b) ?: "?", json_string_value(a) ?: "?",
					       keys[k]);
		}
	}
	return 0;
}

int merge_add(struct merge *m, json_t *doc, const char *file, struct err *err)
{
	size_t base = json_array_size(m->parts);
	json_t *parts = json_object_get(doc, "parts");
	u64 samples = 0;
	int ret;

	if (parts && !json_array_size(parts))
		return err_set(err, -EINVAL, "%s: 'parts' must be an array of at least one", file);
	ret = check_command(m, doc, file, err);
	ret = ret ?: merge_add_hists(m, json_object_get(doc, "histograms"), file, &samples, err);
	ret = ret ?: (parts ? take_parts : take_run)(m, doc, file, samples, err);
	ret = ret ?: check_times(m, base, file, err);
	ret = ret ?: add_host_ops(m, json_object_get(doc, "host_ops"), file, err);
	ret = ret ?: add_violations(m, json_object_get(doc, "violations"), base, file, err);
	return ret ?: add_skips(m, json_object_get(doc, "skips"), base, file, err);
}

/* --- the document --------------------------------------------------------------------------- */

json_t *merge_document(const struct merge *m, bool *complete)
{
	json_t *doc = result_new(json_string_value(m->command), NULL, 0), *part, *seed = merge_common(m, "seed");
	u64 us = 0;
	size_t i;

	json_array_foreach(m->parts, i, part) us +=
		(u64)(json_number_value(json_object_get(part, "elapsed_s")) * 1e6 + 0.5);
	/* version is of the tain that merged */
	for (i = 1; i < ARRAY_SIZE(text_keys); i++) {
		json_t *common = merge_common(m, text_keys[i]);

		json_object_set(doc, text_keys[i], common ?: json_null());
	}
	if (seed)
		json_object_set(doc, "seed", seed);
	result_counts(doc, us * NSEC_PER_USEC, m->checked, m->faults);
	if (m->faults_unknown)
		result_faults_unknown(doc);
	json_object_set_new(doc, "options", merge_common_options(m));
	json_object_set(doc, "host_ops", m->host_ops);
	json_object_set(doc, "violations", m->violations);
	json_object_set(doc, "skips", m->skips);
	merge_put_hists(m, doc);
	json_object_set(doc, "parts", m->parts);
	json_object_set_new(doc, "warnings", merge_warnings(m, complete));
	return doc;
}

enum merge_outcome merge_outcome(const struct merge *m)
{
	bool failed = false, stalled = false, ran = false;
	json_t *item;
	size_t i;

	json_array_foreach(m->violations, i, item)
	{
		if (strcmp(json_string_value(json_object_get(item, "kind")), violation_name(VIOLATION_STALL)))
			failed = true;
		else
			stalled = true;
	}
	json_array_foreach(m->parts, i, item)
	{
		json_int_t status = json_integer_value(json_object_get(item, "status"));

		stalled |= status == STATUS_STALLED;
		ran |= status != STATUS_SKIPPED;
		failed |= status && status != STATUS_STALLED && status != STATUS_SKIPPED && status < STATUS_SIGNAL;
	}
	return failed ? MERGE_FAILED : stalled ? MERGE_STALLED : ran ? MERGE_PASSED : MERGE_NOTHING_RAN;
}
