/* SPDX-License-Identifier: MIT */
/* Control groups as containers show them: trees of a few files. What a real one does is tested by tests/lab_memory.c.
 */
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/cgroup.h"
#include "tests/lib_suites.h"

#define V1_NONE "9223372036854771712\n"
#define V1_MOUNT "35 31 0:32 / /cg/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n"
#define V2_MOUNT "41 31 0:38 / /cg rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"

static char dir[64];

static void put(const char *path, const char *text)
{
	char name[512];
	FILE *f;

	snprintf(name, sizeof(name), "%s%s", dir, path);
	for (char *at = strchr(name + strlen(dir) + 1, '/'); at; at = strchr(at + 1, '/')) {
		*at = 0;
		mkdir(name, 0755);
		*at = '/';
	}
	f = fopen(name, "w");
	if (!CHECK_MSG(f != NULL, "%s", name))
		return;
	fputs(text, f);
	fclose(f);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
	return remove(path);
}

static bool make_dir(void)
{
	strcpy(dir, "/tmp/tain-cgroup.XXXXXX");
	return CHECK(mkdtemp(dir));
}

static void remove_dir(void)
{
	CHECK_EQ(nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

static const struct row {
	const char *name, *cgroup, *mounts;
	const char *file[16]; /* path, text */
	u64 limit, room;      /* 0: there is no limit */
	const char *says;     /* the file */
} rows[] = {
	{ "a container of v2: its cache is not in use",
	  "0::/\n",
	  V2_MOUNT,
	  { "/cg/memory.max", "1000\n", "/cg/memory.high", "max\n", "/cg/memory.current", "300\n", "/cg/memory.stat",
	    "anon 150\nfile 150\ninactive_file 100\nactive_file 40\nslab_reclaimable 10\n" },
	  1000,
	  850,
	  "/cg/memory.max" },
	{ "a group above leaves less",
	  "0::/a/b\n",
	  V2_MOUNT,
	  { "/cg/a/b/memory.max", "1000\n", "/cg/a/b/memory.current", "10\n", "/cg/a/memory.max", "2000\n",
	    "/cg/a/memory.current", "1500\n" },
	  2000,
	  500,
	  "/cg/a/memory.max" },
	{ "memory.high counts, for all comes to a halt there",
	  "0::/a\n",
	  V2_MOUNT,
	  { "/cg/a/memory.max", "1000\n", "/cg/a/memory.high", "700\n", "/cg/a/memory.current", "100\n" },
	  700,
	  600,
	  "/cg/a/memory.high" },
	{ "more is in use than allowed",
	  "0::/a\n",
	  V2_MOUNT,
	  { "/cg/a/memory.max", "100\n", "/cg/a/memory.current", "120\n" },
	  100,
	  0,
	  "/cg/a/memory.max" },
	{ "no limit",
	  "0::/a\n",
	  V2_MOUNT,
	  { "/cg/a/memory.max", "max\n", "/cg/a/memory.high", "max\n", "/cg/a/memory.current", "120\n" } },
	{ "v1, among other controllers",
	  "3:cpu,cpuacct:/\n5:hugetlb,memory:/a\n1:name=memory:/wrong\n0::/\n",
	  "36 31 0:33 / /cg/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
	  "35 31 0:32 / /cg/memory rw shared:9 - cgroup cgroup rw,hugetlb,memory\n",
	  { "/cg/memory/a/memory.limit_in_bytes", "1000\n", "/cg/memory/a/memory.usage_in_bytes", "500\n",
	    "/cg/memory/a/memory.stat", "inactive_file 7\ntotal_inactive_file 50\ntotal_active_file 50\n",
	    "/cg/memory/memory.limit_in_bytes", V1_NONE, "/cg/memory/memory.usage_in_bytes", "5000\n" },
	  1000,
	  600,
	  "/cg/memory/a/memory.limit_in_bytes" },
	{ "v1 without a limit",
	  "5:memory:/a\n",
	  V1_MOUNT,
	  { "/cg/memory/a/memory.limit_in_bytes", V1_NONE, "/cg/memory/a/memory.usage_in_bytes", "500\n" } },
	{ "v2 is there, and memory is v1's",
	  "5:memory:/a\n0::/a\n",
	  V2_MOUNT V1_MOUNT,
	  { "/cg/a/cgroup.procs", "", "/cg/memory/a/memory.limit_in_bytes", "1000\n",
	    "/cg/memory/a/memory.usage_in_bytes", "0\n" },
	  1000,
	  1000,
	  "/cg/memory/a/memory.limit_in_bytes" },
	{ "a container that has no namespace of its own: the mount begins at its group",
	  "5:memory:/docker/0123\n",
	  "35 31 0:32 /docker/0123 /cg/memory ro - cgroup cgroup rw,memory\n",
	  { "/cg/memory/memory.limit_in_bytes", "1000\n", "/cg/memory/memory.usage_in_bytes", "1\n" },
	  1000,
	  999,
	  "/cg/memory/memory.limit_in_bytes" },
	{ "a group outside of the namespace: what is seen",
	  "0::/../other\n",
	  V2_MOUNT,
	  { "/cg/memory.max", "1000\n", "/cg/memory.current", "1\n" },
	  1000,
	  999,
	  "/cg/memory.max" },
	{ "of two mounts the one that has the group; a name with a blank",
	  "0::/b/c\n",
	  "41 31 0:38 /a /other rw - cgroup2 cgroup2 rw\n42 31 0:38 /b /c\\040g rw - cgroup2 cgroup2 rw\n",
	  { "/other/memory.max", "1\n", "/other/memory.current", "1\n", "/c g/c/memory.max", "1000\n",
	    "/c g/c/memory.current", "1\n" },
	  1000,
	  999,
	  "/c g/c/memory.max" },
	{ "no such mount", "0::/a\n", V1_MOUNT, { NULL } },
	{ "rubbish", "\n:\n0:\n0::\n", "rubbish\n - \n1 2 3 - cgroup2 x y\n", { NULL } },
};

static void what_is_left(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct row *row = &rows[i];
		struct cgroup_room r;
		bool limited;

		REQUIRE(make_dir());
		put("/proc/self/cgroup", row->cgroup);
		put("/proc/self/mountinfo", row->mounts);
		for (const char *const *file = row->file; *file; file += 2)
			put(file[0], file[1]);
		limited = cgroup_room(dir, &r);
		CHECK_MSG(limited == (row->limit != 0), "%s: limited %d", row->name, limited);
		CHECK_MSG(r.limit == (row->limit ?: ~0ull) && r.room == (row->limit ? row->room : ~0ull),
			  "%s: %llu of %llu", row->name, (unsigned long long)r.room, (unsigned long long)r.limit);
		CHECK_MSG(!limited || !strcmp(r.file + strlen(dir), row->says), "%s: %s", row->name, r.file);
		remove_dir();
	}
}

static void nothing_is_seen(void)
{
	struct cgroup_room r;

	CHECK(!cgroup_room("/nonexistent", &r));
	CHECK_EQ(r.room, ~0ull);
	CHECK_STR(r.file, "");
	CHECK_EQ(cgroup_oom_kills("/nonexistent"), 0);
}

/* Its end says which limit it is. */
static void a_long_name(void)
{
	char group[210] = "/", path[256], text[300];
	struct cgroup_room r;

	memset(group + 1, 'x', 200);
	REQUIRE(make_dir());
	put("/proc/self/mountinfo", V2_MOUNT);
	snprintf(text, sizeof(text), "0::%s\n", group);
	put("/proc/self/cgroup", text);
	snprintf(path, sizeof(path), "/cg%s/memory.max", group);
	put(path, "1000\n");
	snprintf(path, sizeof(path), "/cg%s/memory.current", group);
	put(path, "1\n");
	CHECK(cgroup_room(dir, &r));
	CHECK_EQ(strlen(r.file), CGROUP_PATH - 1);
	CHECK(!strncmp(r.file, "...x", 4));
	CHECK_STR(r.file + CGROUP_PATH - 1 - strlen("x/memory.max"), "x/memory.max");
	remove_dir();
}

static void who_was_killed(void)
{
	REQUIRE(make_dir());
	put("/proc/self/cgroup", "5:memory:/a\n0::/b\n");
	put("/proc/self/mountinfo", V1_MOUNT V2_MOUNT);
	CHECK_EQ(cgroup_oom_kills(dir), 0);
	put("/proc/vmstat", "nr_free_pages 5\noom_kill 2\n");
	CHECK_EQ(cgroup_oom_kills(dir), 2);
	put("/cg/memory/a/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n");
	CHECK_EQ(cgroup_oom_kills(dir), 3);
	put("/cg/b/memory.events", "low 0\nhigh 0\nmax 9\noom 8\noom_kill 4\noom_group_kill 0\n");
	CHECK_EQ(cgroup_oom_kills(dir), 4);
	remove_dir();
}

static void why_it_was_killed(void)
{
	u64 kills = cgroup_oom_kills("");
	char text[CGROUP_KILLED_TEXT];

	cgroup_killed_text(0, 15, text, sizeof(text));
	CHECK_STR(text, "by signal 15");
	cgroup_killed_text(~0ull, 9, text, sizeof(text));
	CHECK_STR(text, "by signal 9");
	if (kills) {
		cgroup_killed_text(kills - 1, 9, text, sizeof(text));
		CHECK_CONTAINS(text, "by the OOM killer: ");
	}
}

const struct test_case lib_cgroup_tests[] = {
	TEST(what_is_left),   TEST(nothing_is_seen),   TEST(a_long_name),
	TEST(who_was_killed), TEST(why_it_was_killed), TEST_END,
};
