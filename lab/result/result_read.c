/* SPDX-License-Identifier: MIT */
/* Results from files: see lab/result/result_read.h. */
#include "lab/result/result_read.h"

#include <stdio.h>
#include <string.h>

struct reading {
	FILE *file;
	u64 bytes;
	bool too_long;
};

/* For jansson, which needs ten times the memory of the text: no more of it than any result can have. */
static size_t read_some(void *buffer, size_t len, void *arg)
{
	struct reading *r = arg;
	size_t n = fread(buffer, 1, len, r->file);

	r->bytes += n;
	r->too_long |= r->bytes > RESULT_MAX_BYTES;
	return r->too_long || ferror(r->file) ? (size_t)-1 : n;
}

/* Return: 0; -errno with text. */
static int parse(struct reading *r, const char *path, json_t **doc, struct err *err)
{
	json_error_t why;

	errno = 0;
	*doc = json_load_callback(read_some, r, JSON_REJECT_DUPLICATES, &why);
	if (*doc)
		return 0;
	if (ferror(r->file)) {
		int code = errno ?: EIO;

		return err_set(err, -code, "cannot read %s: %s", path, strerror(code));
	}
	if (r->too_long)
		return err_set(err, -EFBIG, "%s is no result: it has more than %llu MiB", path, RESULT_MAX_BYTES >> 20);
	return err_set(err, -EINVAL, "%s is not JSON: line %d: %s", path, why.line, why.text);
}

int result_load(const char *path, json_t **doc, struct err *err)
{
	struct reading r = { .file = fopen(path, "re") };
	const char *schema;
	int ret;

	*doc = NULL;
	if (!r.file)
		return err_set(err, -errno, "cannot read %s: %s", path, strerror(errno));
	ret = parse(&r, path, doc, err);
	fclose(r.file);
	if (ret)
		return ret;
	schema = json_string_value(json_object_get(*doc, "schema"));
	if (schema && !strcmp(schema, RESULT_SCHEMA))
		return 0;
	if (schema)
		err_set(err, -EINVAL, "%s has the schema '%.40s', not '%s'", path, schema, RESULT_SCHEMA);
	else
		err_set(err, -EINVAL, "%s is no result: it has no schema", path);
	json_decref(*doc);
	*doc = NULL;
	return -EINVAL;
}
