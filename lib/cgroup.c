/* SPDX-License-Identifier: MIT */
/* Control groups of memory: see lib/cgroup.h. */
#include "lib/cgroup.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATH_BYTES 1024	      /* on the stack, which may be small; who is deeper is not limited here */
#define NO_LIMIT (1ull << 60) /* v1 writes the largest multiple of the page size */

/* The files of both versions. The page cache in a group goes before anybody is killed: it is not in use. */
static const struct version {
	const char *fstype;
	const char *limits[3]; /* high: above it the kernel brings everything to a halt instead */
	const char *usage, *events;
	const char *droppable[4]; /* of memory.stat */
} versions[] = {
	{ "cgroup2",
	  { "memory.max", "memory.high" },
	  "memory.current",
	  "memory.events",
	  { "inactive_file", "active_file", "slab_reclaimable" } },
	{ "cgroup",
	  { "memory.limit_in_bytes" },
	  "memory.usage_in_bytes",
	  "memory.oom_control",
	  { "total_inactive_file", "total_active_file" } },
};

struct group {
	const struct version *version;
	char dir[PATH_BYTES];
	size_t top; /* dir up to here is the mount, and nothing above it is seen */
};

static FILE *open_below(const char *root, const char *path)
{
	char name[PATH_BYTES + 64];

	return snprintf(name, sizeof(name), "%s%s", root, path) < (int)sizeof(name) ? fopen(name, "re") : NULL;
}

static FILE *open_in(const char *dir, const char *file)
{
	char name[PATH_BYTES];

	return snprintf(name, sizeof(name), "%s/%s", dir, file) < (int)sizeof(name) ? fopen(name, "re") : NULL;
}

/* Is @word one of the words of @list, which commas part? */
static bool has_word(const char *list, const char *word)
{
	size_t len = strlen(word);

	for (; list; list = strchr(list, ',') ? strchr(list, ',') + 1 : NULL)
		if (!strncmp(list, word, len) && (list[len] == ',' || !list[len]))
			return true;
	return false;
}

/* "hierarchy:controllers:path"; v2 is "0::path". */
static bool find_path(const char *root, const struct version *v, char *path)
{
	FILE *f = open_below(root, "/proc/self/cgroup");
	bool v2 = v == &versions[0], found = false;
	char line[PATH_BYTES + 64], *words, *at;

	while (f && !found && fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = 0;
		words = strchr(line, ':');
		at = words ? strchr(words + 1, ':') : NULL;
		if (!at || strlen(at + 1) >= PATH_BYTES)
			continue;
		*at = 0;
		found = v2 ? !words[1] : has_word(words + 1, "memory");
		if (found)
			strcpy(path, at + 1);
	}
	if (f)
		fclose(f);
	return found;
}

/* "\040" is a blank. */
static void unescape(char *text)
{
	char *to = text, *end;
	char digits[4] = "";

	for (; *text; text++, to++) {
		*to = *text;
		if (*text != '\\' || strnlen(text, 4) < 4)
			continue;
		memcpy(digits, text + 1, 3);
		*to = (char)strtoul(digits, &end, 8);
		text += 3;
	}
	*to = 0;
}

/* What of @path lies below @top: "/a/b" below "/a" is "/b"; NULL: it does not. */
static const char *below(const char *path, const char *top)
{
	size_t len = strcmp(top, "/") ? strlen(top) : 0;

	if (strstr(path, "/..") || strncmp(path, top, len) || (path[len] && path[len] != '/'))
		return NULL;
	return strcmp(path + len, "/") ? path + len : "";
}

/* "36 35 0:28 /root /mount opts [more]... - fstype source options" */
static bool parse_mount(char *line, const struct version *v, char **top, char **mount)
{
	char *save = NULL, *type = strstr(line, " - "), *options;

	if (!type)
		return false;
	*type = 0;
	type = strtok_r(type + 3, " \n", &save);
	strtok_r(NULL, " \n", &save);
	options = strtok_r(NULL, " \n", &save);
	if (!type || !options || strcmp(type, v->fstype) || (v != &versions[0] && !has_word(options, "memory")))
		return false;
	save = NULL;
	for (int i = 0; i < 4; i++)
		*top = strtok_r(i ? NULL : line, " ", &save);
	*mount = strtok_r(NULL, " ", &save);
	if (!*top || !*mount)
		return false;
	unescape(*top);
	unescape(*mount);
	return true;
}

/*
 * The group's directory. In a container's namespace the path may start above what is mounted: then the mount is the
 * group, or the nearest above it that can be seen.
 */
static bool find_group(const char *root, const struct version *v, struct group *g)
{
	char path[PATH_BYTES], line[2 * PATH_BYTES], *top, *mount;
	FILE *f = find_path(root, v, path) ? open_below(root, "/proc/self/mountinfo") : NULL;
	bool found = false, exact = false;

	g->version = v;
	while (f && !exact && fgets(line, sizeof(line), f)) {
		const char *rest;

		if (!parse_mount(line, v, &top, &mount))
			continue;
		rest = below(path, top);
		if ((!rest && found) ||
		    snprintf(g->dir, sizeof(g->dir), "%s%s%s", root, mount, rest ?: "") >= PATH_BYTES)
			continue;
		g->top = strlen(root) + strlen(mount);
		exact = rest != NULL;
		found = true;
	}
	if (f)
		fclose(f);
	return found;
}

/* A number alone in a file; ~0: none, and "max" is none. */
static u64 read_number(const char *dir, const char *file)
{
	unsigned long long number = ~0ull;
	FILE *f = open_in(dir, file);

	if (f && fscanf(f, "%llu", &number) != 1)
		number = ~0ull;
	if (f)
		fclose(f);
	return number;
}

/* The sum of the lines "key number" with one of @keys. Return: is there one? */
static bool sum_of(FILE *f, const char *const *keys, u64 *sum)
{
	unsigned long long number;
	bool found = false;
	char key[64];

	*sum = 0;
	while (f && fscanf(f, "%63s %llu", key, &number) == 2)
		for (const char *const *k = keys; *k; k++)
			if (!strcmp(key, *k)) {
				*sum += number;
				found = true;
			}
	if (f)
		fclose(f);
	return found;
}

static void look_at(const char *dir, const struct version *v, struct cgroup_room *r)
{
	u64 used = read_number(dir, v->usage), cache, limit, room;
	char file[PATH_BYTES];
	size_t len;

	for (const char *const *name = v->limits; *name; name++) {
		limit = read_number(dir, *name);
		if (limit >= NO_LIMIT || used == ~0ull)
			continue;
		sum_of(open_in(dir, "memory.stat"), v->droppable, &cache);
		room = limit - min(limit, used - min(used, cache));
		if (room >= r->room)
			continue;
		r->room = room;
		r->limit = limit;
		snprintf(file, sizeof(file), "%s/%s", dir, *name);
		len = strlen(file);
		strcpy(r->file, len < CGROUP_PATH ? "" : "...");
		strcat(r->file, len < CGROUP_PATH ? file : file + len - CGROUP_PATH + 4);
	}
}

bool cgroup_room(const char *root, struct cgroup_room *r)
{
	struct group g;

	*r = (struct cgroup_room){ .limit = ~0ull, .room = ~0ull };
	for (size_t i = 0; i < ARRAY_SIZE(versions); i++) {
		if (!find_group(root, &versions[i], &g))
			continue;
		for (look_at(g.dir, g.version, r); strlen(g.dir) > g.top; look_at(g.dir, g.version, r))
			*strrchr(g.dir, '/') = 0;
	}
	return r->room != ~0ull;
}

static const char *const key_kills[] = { "oom_kill", NULL };

u64 cgroup_oom_kills_anywhere(const char *root)
{
	u64 kills;

	sum_of(open_below(root, "/proc/vmstat"), key_kills, &kills);
	return kills;
}

u64 cgroup_oom_kills(const char *root)
{
	struct group g;
	u64 kills;

	for (size_t i = 0; i < ARRAY_SIZE(versions); i++)
		if (find_group(root, &versions[i], &g) && sum_of(open_in(g.dir, versions[i].events), key_kills, &kills))
			return kills;
	return cgroup_oom_kills_anywhere(root);
}

void cgroup_killed_text(u64 kills, int signal, char *text, size_t n)
{
	struct cgroup_room r;

	if (signal != SIGKILL || cgroup_oom_kills("") <= kills)
		snprintf(text, n, "by signal %d", signal);
	else if (cgroup_room("", &r))
		snprintf(text, n, "by the OOM killer: %s allows %llu MiB: raise it, or use less", r.file,
			 (unsigned long long)r.limit >> 20);
	else
		snprintf(text, n, "by the OOM killer: the machine is out of memory: use less");
}
