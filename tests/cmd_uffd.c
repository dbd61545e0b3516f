/* SPDX-License-Identifier: MIT */
/* tain uffd-check against the handler in examples/: the good one passes, the wrong ones are told. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/thread.h"
#include "tests/cmd_env.h"
#include "tests/cmd_suites.h"

static char program[512], where[512], snapshot[512];

/* Build and start the handler. Return: NULL: skipped, or the check has failed. */
static struct tain_run *handler(const char *wrong)
{
	const char *source = tain_tree_file("examples/uffd-handler/uffd-handler.c");
	struct tain_setup compiler = { .program = "cc" }, setup = { .program = program };
	int fd = (int)syscall(SYS_userfaultfd, 0);
	struct tain_run *r;
	struct stat st;

	if (fd < 0) {
		test_skip("userfaultfd: %s", strerror(errno));
		return NULL;
	}
	close(fd);
	if (!source || !program_or_skip("cc"))
		return NULL;
	snprintf(program, sizeof(program), "%s", tain_path("uffd-handler"));
	snprintf(where, sizeof(where), "%s", tain_path("socket"));
	snprintf(snapshot, sizeof(snapshot), "%s", tain_path("snapshot"));
	if (!CHECK_EQ(tain_run(&compiler, WORDS("-O2", "-Wall", "-Werror", source, "-o", program))->status, 0))
		return NULL;
	r = tain_start(&setup, wrong ? WORDS(where, snapshot, wrong) : WORDS(where, snapshot));
	while (stat(where, &st)) /* the test's watchdog is the limit */
		thread_sleep_ns(NSEC_PER_MSEC);
	return r;
}

static void good_passes(void)
{
	const struct tain_run *r;
	json_t *doc;

	if (!handler(NULL))
		return;
	r = TAIN("uffd-check", where, "--snapshot", snapshot, "-b", "4M", "-t", "20s", "--limit", "5m", "-n", "2",
		 "--json", tain_path("result"), "--seed", "7");
	CHECK_EQ(r->status, 0);
	CHECK_CONTAINS(r->out.text, "uffd-check: 0 violations\n");
	doc = tain_json_file("result");
	if (!doc)
		return;
	CHECK_STR(json_text(doc, "command"), "uffd-check");
	CHECK_EQ(json_u64(doc, "seed"), 7);
	CHECK_GT(json_u64(doc, "checked_accesses"), 0);
	CHECK_GT(json_u64(doc, "faults"), 0);
	CHECK_GT(json_u64(json_object_get(doc, "host_ops"), "remove"), 0);
	CHECK_EQ(json_array_size(json_object_get(doc, "violations")), 0);
	CHECK_EQ(json_u64(json_object_get(json_object_get(doc, "histograms"), "handler"), "count"),
		 json_u64(doc, "faults"));
}

static void ignored_remove_is_told(void)
{
	const struct tain_run *r;

	if (!handler("--wrong=remove"))
		return;
	r = TAIN("uffd-check", where, "--snapshot", snapshot, "-b", "4M", "-t", "5m", "--limit", "5m");
	CHECK_EQ(r->status, 1);
	CHECK_CONTAINS(r->out.text, "was removed, must hold zeros, holds the snapshot's content; history: #");
}

static void given_up_is_told(void)
{
	const struct tain_run *r;

	if (!handler("--wrong=again"))
		return;
	r = TAIN("uffd-check", where, "--snapshot", snapshot, "-b", "64M", "-t", "5m", "--limit", "1s");
	CHECK_EQ(r->status, 1);
	CHECK_CONTAINS(r->out.text, "violation (stuck): page ");
	CHECK_CONTAINS(r->out.text, " got no answer for 1000 ms; history: ");
}

/* Begin a check that takes a while, and wait until its threads are at it. */
static struct tain_run *check_begun(const char *ops, const char *limit)
{
	const struct tain_setup terminal = { .err_terminal = true };
	struct tain_run *r = tain_start(&terminal, WORDS("uffd-check", where, "--snapshot", snapshot, "-b", "128M",
							 "-t", "5m", "--limit", limit, "-n", "1", "--ops", ops));

	tain_expect(r, &r->err, "tain uffd-check: ", 1);
	return r;
}

#define KILLS 20 /* on a busy machine it may be through before it is killed */

static void killed_is_told(void)
{
	struct tain_run *h, *r = NULL;

	for (int i = 0; i < KILLS && !test_failures() && (!r || !r->status); i++) {
		h = handler(NULL);
		if (!h)
			return;
		r = check_begun("remove,unmap,remap,fork", "5m");
		kill(h->pid, SIGKILL);
		tain_wait(r);
		tain_wait(h);
		unlink(where);
	}
	CHECK_EQ(r->status, 1);
	CHECK_CONTAINS(r->out.text, "violation (dead): page ");
	CHECK_CONTAINS(r->out.text, "the handler has ended");
	CHECK_CONTAINS(r->out.text, "uffd-check: 1 violation\n");
}

/*
 * It lives and answers nothing. What the mutator unmaps is mapped and registered anew when it was freed:
 *
 *   watcher                               mutator
 *                                         munmap() waits until UNMAP is read
 *   rescue(): unregister, read UNMAP
 *                                         mmap(), UFFDIO_REGISTER, ended
 *   all_ended()
 *   unmap_all(): nobody may read UNMAP    must not wait for the handler
 */
static void stopped_is_told(void)
{
	struct tain_run *h, *r = NULL;

	for (int i = 0; i < KILLS && !test_failures() && (!r || !r->status); i++) {
		h = handler(NULL);
		if (!h)
			return;
		r = check_begun("unmap", "200ms");
		kill(h->pid, SIGSTOP);
		tain_wait(r);
		kill(h->pid, SIGKILL);
		tain_wait(h);
		unlink(where);
	}
	CHECK_EQ(r->status, 1);
	CHECK_CONTAINS(r->out.text, "violation (stuck): page ");
	CHECK_CONTAINS(r->out.text, "uffd-check: 1 violation\n");
}

static void signal_ends_it(void)
{
	struct tain_run *r = NULL;

	if (!handler(NULL))
		return;
	for (int i = 0; i < KILLS && !test_failures() && (!r || !r->status); i++) {
		r = check_begun("remove,unmap,remap,fork", "5m");
		kill(r->pid, SIGINT);
		tain_wait(r);
	}
	CHECK_EQ(r->status, 130);
}

static void refuses(void)
{
	check_refused(TAIN("uffd-check", "s"), 2, "--snapshot FILE is needed: the file that the handler answers from");
	check_refused(TAIN("uffd-check", "s", "--snapshot", "x", "--ops", "remove,unmaps"), 2,
		      "unknown operation 'unmaps', did you mean 'unmap'?");
	check_refused(TAIN("uffd-check", "s", "--snapshot", "/nowhere/x", "-b", "1M"), 2,
		      "cannot create /nowhere/x: No such file or directory");
}

/* A file of the test's directory holds @text and nothing else. */
static void check_file(const char *name, const char *text)
{
	char holds[64] = "";
	FILE *f = fopen(tain_path(name), "r");

	if (f) {
		holds[fread(holds, 1, sizeof(holds) - 1, f)] = 0;
		fclose(f);
	}
	CHECK_STR(holds, text);
}

/* Nobody listens: what stood there stands there, and nothing else does. */
static void unreached_changes_nothing(void)
{
	static const char no_handler[] = "cannot connect to nobody: No such file or directory";
	int fd = (int)syscall(SYS_userfaultfd, 0);
	const struct tain_run *r;

	if (fd < 0) {
		test_skip("userfaultfd: %s", strerror(errno));
		return;
	}
	close(fd);
	r = TAIN("uffd-check", "nobody", "--snapshot", "s", "-b", "1M");
	CHECK_EQ(r->status, 2);
	CHECK_CONTAINS(r->err.text, no_handler);
	CHECK_EQ(tain_dir_files(), 0);
	tain_write_file("s", "mine\n", 5);
	r = TAIN("uffd-check", "nobody", "--snapshot", "s", "-b", "1M", "--force");
	CHECK_EQ(r->status, 2);
	CHECK_CONTAINS(r->err.text, no_handler);
	check_file("s", "mine\n");
	CHECK_EQ(tain_dir_files(), 1);
}

/* Somebody listens on socket `deaf` and accepts nobody, with a full queue. Return: how many @fds, to close. */
static int full_queue(int *fds, int room)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int n = 0, ret = -1;

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", tain_path("deaf"));
	fds[n] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK_MSG(!bind(fds[n], (struct sockaddr *)&address, sizeof(address)) && !listen(fds[n], 0), "%s: %s",
		  address.sun_path, strerror(errno));
	for (n = 1; n < room && (n == 1 || !ret); n++) {
		fds[n] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		ret = connect(fds[n], (struct sockaddr *)&address, sizeof(address));
	}
	CHECK_MSG(ret && errno == EAGAIN, "connection %d: %s", n - 1, ret ? strerror(errno) : "there was room");
	return n;
}

/* The wait for it ends, by the limit or a signal, and the file goes. */
static void never_accepted_is_told(void)
{
	int fd = (int)syscall(SYS_userfaultfd, 0), fds[8], nr;
	struct tain_run *r;

	if (fd < 0) {
		test_skip("userfaultfd: %s", strerror(errno));
		return;
	}
	close(fd);
	nr = full_queue(fds, ARRAY_SIZE(fds));
	r = tain_start(NULL, WORDS("uffd-check", "deaf", "--snapshot", "s", "-b", "1M", "--limit", "200ms"));
	tain_wait(r);
	CHECK_EQ(r->status, 1);
	CHECK_STR(r->err.text, "tain: cannot connect to deaf: whoever listens accepted nobody for 200 ms\n");
	r = tain_start(NULL, WORDS("uffd-check", "deaf", "--snapshot", "s", "-b", "1M", "--limit", "5m"));
	tain_expect(r, &r->out, "seed ", 1);
	kill(r->pid, SIGINT);
	tain_wait(r);
	CHECK_EQ(r->status, 130);
	CHECK_STR(r->err.text, "");
	CHECK_EQ(tain_dir_files(), 1);
	while (nr--)
		close(fds[nr]);
}

/* Refused with @text, and the only file of the directory is the one that was there. */
static void check_kept(const struct tain_run *r, const char *text)
{
	char line[160];

	snprintf(line, sizeof(line), "tain: %s\n", text);
	CHECK_EQ(r->status, 2);
	CHECK_STR(r->err.text, line);
	CHECK_EQ(tain_dir_files(), 1);
}

static void others_files_are_safe(void)
{
	struct tain_setup small = { .before = WORDS("sh", "-c", "ulimit -f 64; exec \"$0\" \"$@\"") };

	tain_write_file("s", "mine\n", 5);
	check_kept(TAIN("uffd-check", "nobody", "--snapshot", "s", "-b", "1M"),
		   "s is there, and is not the snapshot of 1048576 bytes: another name, or --force to replace it");
	/* No room for it. */
	check_kept(TAIN_WITH(&small, "uffd-check", "nobody", "--snapshot", "s", "-b", "4M", "--force"),
		   "cannot create s: File too large");
	check_kept(TAIN_WITH(&small, "uffd-check", "nobody", "--snapshot", "t", "-b", "4M"),
		   "cannot create t: File too large");
	check_file("s", "mine\n");
	check_kept(TAIN("uffd-check", "nobody", "--snapshot", ".", "-b", "1M", "--force"),
		   ". is no regular file, which a snapshot has to be");
}

/* For a handler that opens it before it listens. What is there already is not written again. */
static void snapshot_alone(void)
{
	struct stat first, again;

	CHECK_EQ(TAIN("uffd-check", "--snapshot", "s", "-b", "1M")->status, 0);
	CHECK_EQ(stat(tain_path("s"), &first), 0);
	CHECK_EQ(first.st_size, 1 << 20);
	CHECK_EQ(TAIN("uffd-check", "--snapshot", "s", "-b", "1M")->status, 0);
	CHECK_EQ(stat(tain_path("s"), &again), 0);
	CHECK_EQ(first.st_ino, again.st_ino);
	CHECK_EQ(first.st_mtim.tv_nsec, again.st_mtim.tv_nsec);
	check_kept(TAIN("uffd-check", "--snapshot", "s", "-b", "2M"),
		   "s is there, and is not the snapshot of 2097152 bytes: another name, or --force to replace it");
	CHECK_EQ(TAIN("uffd-check", "--snapshot", "s", "-b", "2M", "--force")->status, 0);
	CHECK_EQ(stat(tain_path("s"), &again), 0);
	CHECK_EQ(again.st_size, 2 << 20);
	CHECK_EQ(tain_dir_files(), 1);
}

/* A handler that answers has the new file, and nothing of the old one is left. */
static void force_replaces(void)
{
	unsigned int files;

	if (!handler(NULL))
		return;
	tain_write_file("snapshot", "mine\n", 5);
	files = tain_dir_files();
	CHECK_EQ(TAIN("uffd-check", where, "--snapshot", snapshot, "-b", "1M", "-t", "1s", "--limit", "5m", "--force")
			 ->status,
		 0);
	CHECK_EQ(tain_dir_files(), files);
	CHECK_EQ(TAIN("uffd-check", "--snapshot", snapshot, "-b", "1M")->status, 0);
}

static void bench_times_faults(void)
{
	static const struct {
		const char *mode, *placement, *histogram;
	} cases[] = {
		{ "MISSING", "vcpu", "uffd_missing" },
		{ "MINOR", "same-cpu", "uffd_minor" },
		{ "WP", "thread", "uffd_wp" },
	};
	int fd = (int)syscall(SYS_userfaultfd, 0);

	if (fd < 0) {
		test_skip("userfaultfd: %s", strerror(errno));
		return;
	}
	close(fd);
	if (!kvm_or_skip())
		return;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct tain_run *r =
			TAIN("bench", "fault", "-e", "kvm", "-u", cases[i].mode, "--placement", cases[i].placement,
			     "--window", "4", "-b", "1M", "-i", "2", "--json", tain_path("result"));
		json_t *doc;

		CHECK_EQ(r->status, 0);
		CHECK_CONTAINS(r->out.text, "4 pages (fault-around)");
		doc = tain_json_file("result");
		if (!doc)
			return;
		/* Two passes over 256 pages; a fault brings four in. */
		CHECK_EQ(json_u64(json_object_get(json_object_get(doc, "histograms"), cases[i].histogram), "count"),
			 512);
		CHECK_GE(json_u64(doc, "faults"), 128);
		CHECK_STR(json_text(json_object_get(doc, "options"), "placement"), cases[i].placement);
	}
}

static void bench_refuses(void)
{
	check_refused(TAIN("bench", "fault", "-u", "MISSING"), 2, "-u needs engine kvm: userfaultfd is Linux's");
	if (!kvm_or_skip())
		return;
	check_refused(TAIN("bench", "fault", "-e", "kvm", "-u", "missing"), 2,
		      "unknown mode 'missing' of userfaultfd; MISSING, MINOR and WP are");
	check_refused(TAIN("bench", "fault", "-e", "kvm", "-u", "WP", "--window", "3"), 2,
		      "a window of 3 pages; a power of two is possible");
	check_refused(TAIN("bench", "fault", "-e", "kvm", "-u", "MINOR", "-s", "anonymous"), 2,
		      "-u MINOR is measured on memfd memory: without -s anonymous");
	check_refused(TAIN("bench", "fault", "-e", "kvm", "--window", "4"), 2, "--window: only with --uffd");
}

const struct test_case cmd_uffd_tests[] = {
	TEST(good_passes),
	TEST(ignored_remove_is_told),
	TEST(given_up_is_told),
	TEST(killed_is_told),
	TEST(stopped_is_told),
	TEST(signal_ends_it),
	TEST(refuses),
	TEST(unreached_changes_nothing),
	TEST(never_accepted_is_told),
	TEST(others_files_are_safe),
	TEST(snapshot_alone),
	TEST(force_replaces),
	TEST(bench_times_faults),
	TEST(bench_refuses),
	TEST_END,
};
