/* SPDX-License-Identifier: MIT */
/* Tests of saving documents: the whole file or the old one. */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/json.h"
#include "tests/lib_suites.h"

static char dir[64], path[96];

static bool make_dir(void)
{
	strcpy(dir, "/tmp/tain-json.XXXXXX");
	if (!CHECK(mkdtemp(dir)))
		return false;
	snprintf(path, sizeof(path), "%s/out.json", dir);
	return true;
}

/* Remove the directory. Return: how many files were in it. */
static int remove_dir(void)
{
	char name[400];
	struct dirent *entry;
	DIR *d = opendir(dir);
	int n = 0;

	while (d && (entry = readdir(d))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(name, sizeof(name), "%s/%s", dir, entry->d_name);
		unlink(name);
		n++;
	}
	if (d)
		closedir(d);
	rmdir(dir);
	return n;
}

static json_t *document(int size)
{
	json_t *doc = json_object(), *list = json_array();

	for (int i = 0; i < size; i++)
		json_array_append_new(list, json_integer(i));
	json_object_set_new(doc, "list", list);
	return doc;
}

static void check_file(int size)
{
	json_error_t error;
	json_t *doc = json_load_file(path, 0, &error);

	if (CHECK_MSG(doc, "%s: %s", path, error.text))
		CHECK_EQ(json_array_size(json_object_get(doc, "list")), size);
	json_decref(doc);
}

static void saves_and_replaces(void)
{
	struct err err = { "" };
	struct stat st;

	REQUIRE(make_dir());
	for (int size = 3; size < 6; size++) {
		json_t *doc = document(size);

		CHECK_EQ(json_save(doc, path, &err), 0);
		json_decref(doc);
		check_file(size);
		if (size == 3)
			CHECK_EQ(chmod(path, 0640), 0);
	}
	CHECK_STR(err.text, "");
	CHECK_EQ(stat(path, &st), 0);
	CHECK_EQ(st.st_mode & 07777, 0640);
	CHECK_EQ(remove_dir(), 1);
}

static void symbolic_link_is_kept(void)
{
	char link[128];
	struct stat st;
	json_t *doc = document(1);

	REQUIRE(make_dir());
	snprintf(link, sizeof(link), "%s/link.json", dir);
	CHECK_EQ(json_save(doc, path, NULL), 0);
	CHECK_EQ(symlink(path, link), 0);
	json_decref(doc);
	doc = document(2);
	CHECK_EQ(json_save(doc, link, NULL), 0);
	check_file(2);
	CHECK_EQ(lstat(link, &st), 0);
	CHECK(S_ISLNK(st.st_mode));
	json_decref(doc);
	CHECK_EQ(remove_dir(), 2);
}

static void full_device_is_reported(void)
{
	json_t *doc = document(1000);
	struct err err;

	CHECK_EQ(json_save(doc, "/dev/full", &err), -ENOSPC);
	CHECK_STR(err.text, "cannot write /dev/full: No space left on device");
	CHECK_EQ(json_save(doc, "/dev/null", &err), 0);
	json_decref(doc);
}

static void unwritable_places_are_reported(void)
{
	json_t *doc = document(1);
	struct err err;

	CHECK_EQ(json_save(doc, "/nowhere/at/all.json", &err), -ENOENT);
	CHECK_STR(err.text, "cannot write /nowhere/at/all.json: No such file or directory");
	CHECK_EQ(json_save(doc, "/tmp", &err), -EISDIR);
	CHECK_STR(err.text, "cannot write /tmp: Is a directory");
	json_decref(doc);
}

/* A file size limit stands in for the full disk: writing fails half way. */
static void failure_keeps_the_old_file(void)
{
	struct rlimit old, limit;
	json_t *small = document(2), *large = document(10000);
	struct err err;

	REQUIRE(make_dir());
	CHECK_EQ(json_save(small, path, &err), 0);
	CHECK_EQ(getrlimit(RLIMIT_FSIZE, &old), 0);
	limit = old;
	limit.rlim_cur = 8192;
	signal(SIGXFSZ, SIG_IGN);
	CHECK_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
	CHECK_EQ(json_save(large, path, &err), -EFBIG);
	CHECK_EQ(setrlimit(RLIMIT_FSIZE, &old), 0);
	signal(SIGXFSZ, SIG_DFL);
	CHECK_CONTAINS(err.text, "out.json: File too large");
	check_file(2);
	CHECK_EQ(remove_dir(), 1); /* and no half-written one beside it */
	json_decref(small);
	json_decref(large);
}

const struct test_case lib_json_tests[] = {
	TEST(saves_and_replaces),	  TEST(symbolic_link_is_kept),
	TEST(full_device_is_reported),	  TEST(unwritable_places_are_reported),
	TEST(failure_keeps_the_old_file), TEST_END,
};
