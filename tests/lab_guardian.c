/* SPDX-License-Identifier: MIT */
/* The guardian puts back what was changed: asked to, at the end, and after kill -9. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lab/system/guardian.h"
#include "lab/system/journal.h"
#include "lib/thread.h"
#include "lib/time.h"
#include "tests/lab_suites.h"

#define WAIT_NS (120 * NSEC_PER_SEC) /* a hang */

/* Files that stand for switches of the machine. */
static char dir[64], one[96], other[96];

static void write_file(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	fputs(text, f);
	fclose(f);
}

static const char *read_file(const char *path)
{
	static char text[64];
	FILE *f = fopen(path, "r");
	size_t n = f ? fread(text, 1, sizeof(text) - 1, f) : 0;

	text[n] = '\0';
	if (f)
		fclose(f);
	return text;
}

static bool begin(void)
{
	struct err err = { "" };
	bool ok;

	test_own_machine();
	snprintf(dir, sizeof(dir), "/tmp/tain-test-XXXXXX");
	if (!CHECK(mkdtemp(dir) != NULL))
		return false;
	snprintf(one, sizeof(one), "%s/one", dir);
	snprintf(other, sizeof(other), "%s/other", dir);
	write_file(one, "0\n");
	write_file(other, "always [madvise] never\n");
	ok = !guardian_start(&err);
	if (!ok)
		test_skip("%s", err.text);
	return ok;
}

static void finish(void)
{
	unlink(one);
	unlink(other);
	rmdir(dir);
}

static void changes_are_undone_when_asked(void)
{
	struct err err = { "" };
	int a, b;

	if (begin()) {
		CHECK(guardian_running());
		a = guardian_write(one, "7", &err);
		b = guardian_write(other, "always", &err);
		CHECK_GE(a, 0);
		CHECK_GE(b, 0);
		CHECK_STR(read_file(one), "7");
		CHECK_STR(read_file(other), "always");
		CHECK_EQ(guardian_undo(b, &err), 0);
		CHECK_STR(read_file(other), "madvise");
		CHECK_STR(read_file(one), "7");
		CHECK_EQ(guardian_undo(b, &err), 0);
		CHECK_EQ(guardian_undo(-1, &err), 0);
		CHECK_EQ(guardian_stop(&err), 0);
		CHECK(!guardian_running());
		CHECK_STR(read_file(one), "0");
	}
	finish();
}

/* Two changes of one switch: the first value found stands at the end. */
static void the_latest_goes_first(void)
{
	struct err err = { "" };

	if (begin()) {
		CHECK_GE(guardian_write(one, "1", &err), 0);
		CHECK_GE(guardian_write(one, "2", &err), 0);
		CHECK_EQ(guardian_stop(&err), 0);
		CHECK_STR(read_file(one), "0");
	}
	finish();
}

/* ... also where the later one stands in a place that was free again. */
static void the_latest_goes_first_from_any_place(void)
{
	struct err err = { "" };
	int first;

	if (begin()) {
		first = guardian_write(one, "1", &err);
		CHECK_GE(first, 0);
		CHECK_GE(guardian_write(other, "never", &err), 0);
		CHECK_EQ(guardian_undo(first, &err), 0);
		CHECK_EQ(guardian_write(other, "always", &err), first);
		CHECK_EQ(guardian_stop(&err), 0);
		CHECK_STR(read_file(other), "madvise");
	}
	finish();
}

/* A journal that a dead tain left: @boot NULL: in this boot. */
static void leave_a_change(const char *boot)
{
	struct journal_record *r;
	struct err err = { "" };
	unsigned int healed;
	struct journal *j;
	int fd;

	if (!CHECK_MSG(!journal_open(&j, &fd, &healed, &err), "%s", err.text))
		return;
	if (boot)
		snprintf(j->boot, sizeof(j->boot), "%s", boot);
	r = &j->record[JOURNAL_RECORDS - 1];
	*r = (struct journal_record){ .armed = 1, .kind = JOURNAL_WRITE, .found = "5" };
	memcpy(r->path, one, sizeof(one));
	journal_close(j, fd);
}

static void what_the_dead_left(void)
{
	struct err err = { "" };
	char text[200];

	if (!begin()) {
		finish();
		return;
	}
	CHECK_EQ(journal_left(text, sizeof(text)), -EBUSY);
	guardian_stop(&err);
	CHECK_EQ(journal_left(text, sizeof(text)), 0);
	leave_a_change("another boot");
	CHECK_EQ(journal_left(text, sizeof(text)), 0);
	CHECK_MSG(!guardian_start(&err), "%s", err.text);
	CHECK_EQ(guardian_healed(), 0);
	guardian_stop(&err);
	CHECK_STR(read_file(one), "0\n");
	leave_a_change(NULL);
	CHECK_EQ(journal_left(text, sizeof(text)), 1);
	CHECK_CONTAINS(text, one);
	CHECK_CONTAINS(text, " was 5");
	CHECK_MSG(!guardian_start(&err), "%s", err.text);
	CHECK_EQ(guardian_healed(), 1);
	CHECK_STR(read_file(one), "5");
	guardian_stop(&err);
	leave_a_change(NULL);
	unlink(one); /* it cannot be put back: nothing more is changed, and the words stand */
	CHECK_EQ(guardian_start(&err), -EIO);
	CHECK_CONTAINS(err.text, one);
	CHECK(!guardian_running());
	write_file(one, "0\n");
	CHECK_MSG(!guardian_start(&err), "%s", err.text);
	CHECK_STR(read_file(one), "5");
	guardian_stop(&err);
	finish();
}

static void refusals_change_nothing(void)
{
	char path[128];
	struct err err = { "" };

	CHECK_EQ(guardian_write("/tmp/x", "1", &err), -EPERM);
	CHECK_CONTAINS(err.text, "not allowed");
	if (begin()) {
		snprintf(path, sizeof(path), "%s/none", dir);
		CHECK_EQ(guardian_write(path, "1", &err), -ENOENT);
		CHECK_CONTAINS(err.text, path);
		CHECK(access(path, F_OK) < 0);
		CHECK_EQ(guardian_start(&err), -EBUSY);
		CHECK_CONTAINS(err.text, "another tain");
		CHECK_EQ(guardian_stop(&err), 0);
	}
	finish();
}

/* Changes two files and waits to be killed. */
static void victim(int ready)
{
	struct err err = { "" };

	if (guardian_start(&err) || guardian_write(one, "7", &err) < 0 || guardian_write(other, "never", &err) < 0)
		_exit(1);
	if (write(ready, "", 1) != 1)
		_exit(1);
	for (;;)
		pause();
}

static void killed_in_the_middle(void)
{
	struct err err = { "" };
	u64 end;
	int fds[2], status;
	pid_t pid;
	char c;

	if (TSAN) { /* tests/cmd_guardian.c kills real ones there */
		test_skip("the thread sanitizer makes no threads in a forked child");
		return;
	}
	if (!begin()) {
		finish();
		return;
	}
	guardian_stop(&err);
	REQUIRE_EQ(pipe2(fds, O_CLOEXEC), 0);
	pid = fork();
	if (!pid)
		victim(fds[1]);
	close(fds[1]);
	CHECK_EQ(read(fds[0], &c, 1), 1);
	close(fds[0]);
	CHECK_STR(read_file(one), "7");
	CHECK_STR(read_file(other), "never");
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	/* The guardian's name is free again when all is as before. */
	for (end = clock_ns() + WAIT_NS; guardian_start(&err) && clock_ns() < end;)
		thread_sleep_ns(NSEC_PER_MSEC);
	CHECK(guardian_running());
	CHECK_STR(read_file(one), "0");
	CHECK_STR(read_file(other), "madvise");
	guardian_stop(&err);
	finish();
}

static unsigned int swap_areas(void)
{
	char line[256];
	unsigned int n = 0;
	FILE *f = fopen("/proc/swaps", "r");

	while (f && fgets(line, sizeof(line), f))
		n++;
	if (f)
		fclose(f);
	return n;
}

static void swap_comes_and_goes(void)
{
	struct err err = { "" };
	unsigned int before;
	char path[128];
	int id;

	if (begin()) {
		before = swap_areas();
		id = guardian_swap(1 << 20, &err);
		snprintf(path, sizeof(path), "%s/tain-swap-%d", getenv("TMPDIR") ?: "/var/tmp", getpid());
		if (id < 0) {
			test_skip("%s", err.text);
		} else {
			CHECK_EQ(swap_areas(), before + 1);
			CHECK_EQ(access(path, F_OK), 0);
		}
		CHECK_EQ(guardian_stop(&err), 0);
		CHECK_EQ(swap_areas(), before);
		CHECK(access(path, F_OK) < 0);
	}
	finish();
}

const struct test_case lab_guardian_tests[] = {
	TEST(changes_are_undone_when_asked),
	TEST(the_latest_goes_first),
	TEST(the_latest_goes_first_from_any_place),
	TEST(what_the_dead_left),
	TEST(refusals_change_nothing),
	TEST(killed_in_the_middle),
	TEST(swap_comes_and_goes),
	TEST_END,
};
