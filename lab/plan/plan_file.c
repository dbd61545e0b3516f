/* SPDX-License-Identifier: MIT */
/*
 * Plans as files: see lab/plan/plan_file.h. One table of keys for the file and one for its
 * steps; reading, writing and the list of what is allowed follow from them.
 */
#include "lab/plan/plan_file.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "guest/abi.h"
#include "lab/host/host.h"
#include "lib/alloc.h"
#include "lib/json.h"
#include "lib/option.h"
#include "lib/time.h"
#include "vmm/engine.h"

enum key_kind { KEY_U64, KEY_U32, KEY_BOOL, KEY_NAME };

struct key {
	const char *name;
	enum key_kind kind;
	size_t offset;
	u64 min, max;
	bool optional; /* missing: zero; and zero is not written */
};

#define KEY(type, field, kind_, ...)                                                                                   \
	{                                                                                                              \
		.name = #field, .kind = kind_, .offset = offsetof(struct type, field), ##__VA_ARGS__                   \
	}

/* clang-format off */
static const struct key file_keys[] = {
	KEY(plan_file, engine, KEY_NAME),
	KEY(plan_file, mutant, KEY_NAME, .optional = true),
	KEY(plan_file, uffd, KEY_NAME, .optional = true),
	KEY(plan_file, vcpus, KEY_U32, .min = 1, .max = GUEST_MAX_VCPUS),
	KEY(plan_file, bytes, KEY_U64, .min = PAGE_SIZE, .max = INT64_MAX),
	KEY(plan_file, ranges, KEY_U32, .min = 1, .max = VM_MAX_RANGES, .optional = true),
	KEY(plan_file, seed, KEY_U64, .max = INT64_MAX),
	KEY(plan_file, write_percent, KEY_U32, .max = 100),
	KEY(plan_file, delay_ns, KEY_U64, .max = 60 * NSEC_PER_SEC),
	KEY(plan_file, audit, KEY_U64, .max = INT64_MAX),
	KEY(plan_file, repeat, KEY_U64, .max = INT64_MAX),
	{ .name = NULL },
};

static const struct key step_keys[] = {
	KEY(plan_step, first, KEY_U64, .max = INT64_MAX),
	KEY(plan_step, pages, KEY_U64, .min = 1, .max = INT64_MAX),
	KEY(plan_step, hold_ns, KEY_U64, .max = 60 * NSEC_PER_SEC, .optional = true),
	KEY(plan_step, restamp, KEY_BOOL, .optional = true),
	KEY(plan_step, fresh, KEY_BOOL, .optional = true),
	KEY(plan_step, deny, KEY_BOOL, .optional = true),
	KEY(plan_step, plant, KEY_BOOL, .optional = true),
	{ .name = NULL },
};
/* clang-format on */

#define MAX_KEYS 16

/* --- reading ---------------------------------------------------------------------------- */

static int get_number(const struct key *key, json_t *from, void *to, const char *where, struct err *err)
{
	json_int_t n = json_integer_value(from);

	if (!json_is_integer(from))
		return err_set(err, -EINVAL, "%s: '%s' must be an integer", where, key->name);
	if (n < 0 || (u64)n < key->min || (u64)n > key->max)
		return err_set(err, -EINVAL, "%s: '%s' is %lld; %llu to %llu are possible", where, key->name,
			       (long long)n, (unsigned long long)key->min, (unsigned long long)key->max);
	if (key->kind == KEY_U32)
		*(u32 *)to = (u32)n;
	else
		*(u64 *)to = (u64)n;
	return 0;
}

static int get_key(const struct key *key, json_t *object, void *base, const char *where, struct err *err)
{
	json_t *from = json_object_get(object, key->name);
	void *to = (char *)base + key->offset;

	if (!from || (json_is_null(from) && key->optional))
		return key->optional ? 0 : err_set(err, -EINVAL, "%s: '%s' is missing", where, key->name);
	switch (key->kind) {
	case KEY_BOOL:
		if (!json_is_boolean(from))
			return err_set(err, -EINVAL, "%s: '%s' must be true or false", where, key->name);
		*(bool *)to = json_is_true(from);
		return 0;
	case KEY_NAME:
		if (!json_is_string(from) || json_string_length(from) >= PLAN_FILE_NAME)
			return err_set(err, -EINVAL, "%s: '%s' must be a short string", where, key->name);
		memcpy(to, json_string_value(from), json_string_length(from));
		return 0;
	default:
		return get_number(key, from, to, where, err);
	}
}

/* Nothing but what the table knows, and @others. */
static int get_keys(const struct key *keys, const char *const *others, json_t *object, void *base, const char *where,
		    struct err *err)
{
	const char *names[MAX_KEYS] = { NULL }, *name, *near;
	unsigned int n = 0;
	json_t *value;
	int ret = 0;

	if (!json_is_object(object))
		return err_set(err, -EINVAL, "%s: must be an object", where);
	for (const struct key *key = keys; key->name; key++)
		names[n++] = key->name;
	for (; *others; others++)
		names[n++] = *others;
	BUG_ON(n >= MAX_KEYS);
	json_object_foreach(object, name, value)
	{
		for (n = 0; names[n] && strcmp(names[n], name); n++)
			;
		if (names[n])
			continue;
		near = option_nearest(name, names);
		return err_set(err, -EINVAL, "%s: unknown key '%s'%s%s%s", where, name, near ? ", did you mean '" : "",
			       near ?: "", near ? "'?" : "");
	}
	for (const struct key *key = keys; key->name && !ret; key++)
		ret = get_key(key, object, base, where, err);
	return ret;
}

static int get_step(struct plan_file *file, u64 index, json_t *object, const char *path, struct err *err)
{
	static const char *const others[] = { "op", NULL };
	struct plan_step *s = &file->step[index];
	u64 pages = file->bytes / PAGE_SIZE;
	u64 each = pages / max(file->ranges, 1u);
	struct plan_ops ops;
	struct err why = { "" };
	char where[160];
	json_t *op;
	int ret;

	snprintf(where, sizeof(where), "%.100s: step %llu", path, (unsigned long long)index);
	ret = get_keys(step_keys, others, object, s, where, err);
	if (ret)
		return ret;
	op = json_object_get(object, "op");
	if (!json_is_string(op))
		return err_set(err, -EINVAL, "%s: 'op' must be the name of an operation", where);
	if (strpbrk(json_string_value(op), ",=") || plan_parse_ops(json_string_value(op), &ops, &why) ||
	    ops.set & (ops.set - 1))
		return err_set(err, -EINVAL, "%s: %s", where, why.text[0] ? why.text : "'op' must be one operation");
	s->op = __builtin_ctz(ops.set);
	s->index = index;
	if (s->first >= pages || s->pages > pages - s->first)
		return err_set(err, -EINVAL, "%s: pages %llu to %llu; guest memory has %llu", where,
			       (unsigned long long)s->first, (unsigned long long)(s->first + s->pages - 1),
			       (unsigned long long)pages);
	if (s->first / each != (s->first + s->pages - 1) / each)
		return err_set(err, -EINVAL, "%s: pages %llu to %llu are not in one range of %llu pages", where,
			       (unsigned long long)s->first, (unsigned long long)(s->first + s->pages - 1),
			       (unsigned long long)each);
	if (s->plant && !CHECKING)
		return err_set(err, -EINVAL, "%s: 'plant' works in the prove, asan and tsan builds only", where);
	return 0;
}

static int get_steps(struct plan_file *file, json_t *steps, const char *path, struct err *err)
{
	int ret = 0;

	if (!json_is_array(steps) || !json_array_size(steps))
		return err_set(err, -EINVAL, "%s: 'steps' must be an array of at least one step", path);
	if (json_array_size(steps) > PLAN_FILE_MAX_STEPS)
		return err_set(err, -EINVAL, "%s: %zu steps; at most %llu are possible", path, json_array_size(steps),
			       PLAN_FILE_MAX_STEPS);
	file->nr = json_array_size(steps);
	file->step = mem_zalloc(file->nr * sizeof(*file->step));
	if (!file->step)
		return err_set(err, -ENOMEM, "%s: no memory for %llu steps", path, (unsigned long long)file->nr);
	for (u64 i = 0; i < file->nr && !ret; i++)
		ret = get_step(file, i, json_array_get(steps, i), path, err);
	return ret;
}

static int get_file(struct plan_file *file, json_t *doc, const char *path, struct err *err)
{
	static const char *const others[] = { "schema", "backing", "steps", NULL };
	const char *schema = json_string_value(json_object_get(doc, "schema"));
	const char *backing = json_string_value(json_object_get(doc, "backing"));
	struct err why = { "" };
	int ret;

	if (!schema || strcmp(schema, PLAN_FILE_SCHEMA))
		return err_set(err, -EINVAL, "%s: not a plan; 'schema' must be \"%s\"", path, PLAN_FILE_SCHEMA);
	ret = get_keys(file_keys, others, doc, file, path, err);
	if (ret)
		return ret;
	if (file->ranges && file->bytes / PAGE_SIZE % file->ranges)
		return err_set(err, -EINVAL, "%s: %llu pages do not divide into %u ranges", path,
			       (unsigned long long)(file->bytes / PAGE_SIZE), file->ranges);
	if (!backing || host_parse_backing(backing, &file->backing, &why))
		return err_set(err, -EINVAL, "%s: %s", path, why.text[0] ? why.text : "'backing' must be a name");
	return get_steps(file, json_object_get(doc, "steps"), path, err);
}

int plan_file_load(struct plan_file *file, const char *path, struct err *err)
{
	json_error_t error;
	json_t *doc;
	FILE *stream;
	int ret;

	memset(file, 0, sizeof(*file));
	stream = fopen(path, "re");
	if (!stream)
		return err_set(err, -EINVAL, "cannot read %s: %s", path, strerror(errno));
	doc = json_loadf(stream, JSON_REJECT_DUPLICATES, &error);
	fclose(stream);
	if (!doc)
		return err_set(err, -EINVAL, "%s: line %d: %s", path, error.line, error.text);
	ret = get_file(file, doc, path, err);
	json_decref(doc);
	if (ret)
		plan_file_destroy(file);
	return ret;
}

void plan_file_destroy(struct plan_file *file)
{
	mem_free(file->step);
	file->step = NULL;
	file->nr = 0;
}

/* --- writing ---------------------------------------------------------------------------- */

static void put_keys(const struct key *keys, json_t *object, const void *base)
{
	for (const struct key *key = keys; key->name; key++) {
		const void *from = (const char *)base + key->offset;
		u64 n = 0;

		if (key->kind == KEY_NAME) {
			if (*(const char *)from || !key->optional)
				json_object_set_new(object, key->name, json_string(from));
			continue;
		}
		if (key->kind == KEY_BOOL)
			n = *(const bool *)from;
		else
			n = key->kind == KEY_U32 ? *(const u32 *)from : *(const u64 *)from;
		if (!n && key->optional)
			continue;
		json_object_set_new(object, key->name,
				    key->kind == KEY_BOOL ? json_boolean(n) : json_integer((json_int_t)n));
	}
}

int plan_file_save(const struct plan_file *file, const char *path, struct err *err)
{
	json_t *doc = json_object(), *steps = json_array();
	int ret;

	json_object_set_new(doc, "schema", json_string(PLAN_FILE_SCHEMA));
	put_keys(file_keys, doc, file);
	json_object_set_new(doc, "backing", json_string(host_backing_table[file->backing].name));
	for (u64 i = 0; i < file->nr; i++) {
		json_t *step = json_object();

		json_object_set_new(step, "op", json_string(plan_op_name(file->step[i].op)));
		put_keys(step_keys, step, &file->step[i]);
		if (json_array_append_new(steps, step)) {
			json_decref(steps);
			json_decref(doc);
			return err_set(err, -ENOMEM, "%s: no memory for %llu steps", path,
				       (unsigned long long)file->nr);
		}
	}
	json_object_set_new(doc, "steps", steps);
	ret = json_save(doc, path, err);
	json_decref(doc);
	return ret;
}

int plan_file_fill(struct plan_file *file, const struct plan *plan, u64 nr)
{
	file->nr = min(nr, (u64)PLAN_FILE_MAX_STEPS);
	file->step = mem_zalloc(max(file->nr, (u64)1) * sizeof(*file->step));
	if (!file->step)
		return -ENOMEM;
	/* Of more than that the last ones, which led to where it ended. */
	for (u64 i = 0; i < file->nr; i++)
		plan_step(plan, nr - file->nr + i, &file->step[i]);
	return 0;
}
