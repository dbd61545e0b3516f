/* SPDX-License-Identifier: MIT */
/* Directories, files, documents and what this machine has: see tests/cmd_env.h. */
#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/cmd_env.h"
#include "vmm/engine.h"

#define TEXTS_MAX 64

static char dir[] = "/tmp/tain-test-XXXXXX";
static char *texts[TEXTS_MAX]; /* paths that were given out */
static unsigned int nr_texts;
static json_t *documents;

static const char *keep_text(char *text)
{
	if (nr_texts == TEXTS_MAX)
		BUG("more than %d paths in one test", TEXTS_MAX);
	return texts[nr_texts++] = text;
}

static const char *join(const char *a, const char *b)
{
	char *text;

	if (asprintf(&text, "%s/%s", a, b) < 0)
		BUG("no memory");
	return keep_text(text);
}

/* --- the test's directory --------------------------------------------------------------- */

const char *tain_dir(void)
{
	return dir;
}

const char *tain_path(const char *name)
{
	return join(dir, name);
}

unsigned int tain_dir_files(void)
{
	DIR *d = opendir(dir);
	struct dirent *entry;
	unsigned int n = 0;

	while (d && (entry = readdir(d)) != NULL)
		n += strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..");
	if (d)
		closedir(d);
	return n;
}

void tain_write_file(const char *name, const void *bytes, size_t n)
{
	FILE *file = fopen(tain_path(name), "we");

	if (!file || fwrite(bytes, 1, n, file) != n || fclose(file))
		BUG("%s: %s", name, strerror(errno));
}

void tain_copy_file(const char *from, const char *to)
{
	static char bytes[1 << 16];
	int in = open(from, O_RDONLY | O_CLOEXEC), out = open(to, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
	ssize_t n;

	while ((n = read(in, bytes, sizeof(bytes))) > 0)
		if (write(out, bytes, (size_t)n) != n)
			BUG("%s: %s", to, strerror(errno));
	if (in < 0 || out < 0 || n < 0)
		BUG("%s to %s: %s", from, to, strerror(errno));
	close(in);
	close(out);
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *where)
{
	return remove(path);
}

void cmd_env_setup(void)
{
	strcpy(dir + strlen(dir) - 6, "XXXXXX");
	if (!mkdtemp(dir))
		BUG("%s: %s", dir, strerror(errno));
	documents = json_array();
}

void cmd_env_teardown(void)
{
	tain_end_runs();
	nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
	json_decref(documents);
	documents = NULL;
	while (nr_texts)
		free(texts[--nr_texts]);
}

/* --- the trees ---------------------------------------------------------------------------- */

/* The directory of this program. */
static const char *program_dir(void)
{
	static char path[PATH_MAX];
	ssize_t n;

	if (path[0])
		return path;
	n = readlink("/proc/self/exe", path, sizeof(path) - 1);
	if (n <= 0)
		BUG("/proc/self/exe: %s", strerror(errno));
	path[n] = '\0';
	*strrchr(path, '/') = '\0';
	return path;
}

const char *tain_program(void)
{
	static char path[PATH_MAX];
	const char *given = getenv("TAIN_BIN");

	if (path[0])
		return path;
	if (given && *given)
		snprintf(path, sizeof(path), "%s", given);
	else
		snprintf(path, sizeof(path), "%.*s/tain", (int)(strrchr(program_dir(), '/') - program_dir()),
			 program_dir());
	if (access(path, X_OK))
		BUG("no tain to test: %s: %s; build it, or name it in TAIN_BIN", path, strerror(errno));
	return path;
}

const char *tain_tree_file(const char *name)
{
	char up[PATH_MAX];
	char *end;

	snprintf(up, sizeof(up), "%s", program_dir());
	while ((end = strrchr(up, '/')) != NULL) {
		const char *path = join(up, name);

		if (!access(path, R_OK))
			return path;
		*end = '\0';
	}
	CHECK_MSG(false, "%s is nowhere above %s", name, program_dir());
	return NULL;
}

/* --- refusals ------------------------------------------------------------------------------ */

static void check_one_line(const struct tain_run *r, int status)
{
	const char *newline = strchr(r->err.text, '\n');

	CHECK_MSG(r->status == status, "%s: exit status %d instead of %d; stderr '%s'", r->name, r->status, status,
		  r->err.text);
	CHECK_MSG(!r->out.bytes, "%s: stdout '%s' instead of nothing", r->name, r->out.text);
	CHECK_MSG(newline && !newline[1] && r->err.bytes == strlen(r->err.text), "%s: stderr '%s' instead of one line",
		  r->name, r->err.text);
	CHECK_MSG(!tain_dir_files(), "%s: left %u files", r->name, tain_dir_files());
}

void check_refused(const struct tain_run *r, int status, const char *text)
{
	static const char tain[] = "tain: ";
	size_t n = strlen(text), at = strlen(tain);
	bool more = n >= 3 && !strcmp(text + n - 3, "...");

	check_one_line(r, status);
	n -= more ? 3 : 0;
	CHECK_MSG(r->err.bytes > at + n && !strncmp(r->err.text, tain, at) && !strncmp(r->err.text + at, text, n) &&
			  (more || r->err.text[at + n] == '\n'),
		  "%s: stderr '%s' instead of '%s%s'", r->name, r->err.text, tain, text);
}

/* --- documents ------------------------------------------------------------------------------ */

json_t *tain_json(const char *text)
{
	json_error_t error;
	json_t *doc = json_loads(text, JSON_REJECT_DUPLICATES, &error);

	if (!CHECK_MSG(doc, "no JSON: %s in line %d of '%s'", error.text, error.line, text))
		return NULL;
	json_array_append_new(documents, doc);
	return doc;
}

json_t *tain_json_file(const char *name)
{
	char bytes[1 << 16];
	FILE *file = fopen(tain_path(name), "re");
	char *text = NULL;
	json_t *doc;
	size_t n, all = 0;

	if (!CHECK_MSG(file, "%s: %s", name, strerror(errno)))
		return NULL;
	while ((n = fread(bytes, 1, sizeof(bytes), file)) > 0) {
		text = realloc(text, all + n + 1);
		memcpy(text + all, bytes, n);
		all += n;
	}
	fclose(file);
	if (!CHECK_MSG(text, "%s is empty", name))
		return NULL;
	text[all] = '\0';
	CHECK_MSG(text[all - 1] == '\n', "%s ends without a newline", name);
	doc = tain_json(text);
	free(text);
	return doc;
}

u64 json_u64(json_t *doc, const char *key)
{
	json_t *value = json_object_get(doc, key);

	CHECK_MSG(json_is_integer(value) && json_integer_value(value) >= 0, "%s is a count", key);
	return (u64)json_integer_value(value);
}

const char *json_text(json_t *doc, const char *key)
{
	json_t *value = json_object_get(doc, key);

	CHECK_MSG(json_is_string(value), "%s is text", key);
	return json_string_value(value) ?: "";
}

void check_keys(json_t *object, const char *const *keys)
{
	const char *key;
	json_t *value;
	size_t n = 0;

	for (; keys[n]; n++)
		CHECK_MSG(json_object_get(object, keys[n]), "there is a key %s", keys[n]);
	json_object_foreach(object, key, value)
	{
		size_t i = 0;

		while (keys[i] && strcmp(keys[i], key))
			i++;
		CHECK_MSG(keys[i], "key %s is documented", key);
	}
	CHECK_EQ(json_object_size(object), n);
}

void check_result_keys(json_t *doc, const char *const *own)
{
	static const char *const common[] = {
		"schema",     "version", "command",   "engine",	   "host_mm",	       "mmu",	 "cpu",	    "kernel",
		"host",	      "seed",	 "status",    "elapsed_s", "checked_accesses", "faults", "options", "host_ops",
		"violations", "skips",	 "histograms"
	};
	const char *keys[40] = { NULL };
	size_t n = ARRAY_SIZE(common);

	memcpy(keys, common, sizeof(common));
	for (; own && *own; own++)
		keys[n++] = *own;
	check_keys(doc, keys);
}

/* --- what this machine has -------------------------------------------------------------------- */

bool kvm_or_skip(void)
{
	struct err why = { "" };

	if (!engine_find("kvm")->probe(&why))
		return true;
	test_skip("engine kvm: %s", why.text);
	return false;
}

bool program_or_skip(const char *program)
{
	char *path = strdup(getenv("PATH") ?: "/usr/bin:/bin"), *rest = path, *part, file[PATH_MAX];
	bool found = false;

	while (!found && (part = strsep(&rest, ":")) != NULL) {
		snprintf(file, sizeof(file), "%s/%s", part, program);
		found = !access(file, X_OK);
	}
	free(path);
	if (!found)
		test_skip("%s is not installed", program);
	return found;
}
