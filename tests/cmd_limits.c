/* SPDX-License-Identifier: MIT */
/* Machines that lack something: /dev/kvm, /proc, space, file descriptors, a stdout. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/cmd_env.h"
#include "tests/cmd_suites.h"

/* Sanitizers want /proc, address space and large stacks for themselves. */
static const bool sanitized = CHECKING && !PROVE;

/* tain after some lines of shell, in mounts of its own. */
#define MOUNTED(lines) WORDS("unshare", "-m", "sh", "-c", "set -e; " lines "; exec \"$0\" \"$@\"")
#define SHELL(lines) WORDS("sh", "-c", lines "; exec \"$0\" \"$@\"")

static bool mounts_or_skip(void)
{
	const struct tain_setup probe = { .before = WORDS("unshare", "-m"), .program = "true" };

	if (!program_or_skip("unshare"))
		return false;
	if (TAIN_WITH(&probe, "x")->status) {
		test_skip("no mount namespace without root");
		return false;
	}
	return true;
}

/* --- without /dev/kvm ----------------------------------------------------------------------- */

/* Everything that asks for it says why not, with 4; a document says the same. */
static void check_without_kvm(const struct tain_setup *setup, const char *why)
{
	char line[128];
	json_t *skip;

	snprintf(line, sizeof(line), "engine kvm cannot run here: %s...", why);
	check_refused(TAIN_WITH(setup, "run", "-e", "kvm", "hello"), 4, line);
	check_refused(TAIN_WITH(setup, "stress", "--engine=kvm"), 4, line);
	check_refused(TAIN_WITH(setup, "bench", "fault", "-e", "kvm"), 4, line);
	check_refused(TAIN_WITH(setup, "bench", "interference"), 4, line);
	CHECK_EQ(TAIN_WITH(setup, "stress", "-e", "kvm", "--json", "r.json")->status, 4);
	skip = json_array_get(json_object_get(tain_json_file("r.json"), "skips"), 0);
	CHECK_STR(json_text(skip, "what"), "kvm");
	CHECK_CONTAINS(json_text(skip, "why"), why);
	unlink(tain_path("r.json"));
	/* And what does not ask for it runs. */
	CHECK_EQ(TAIN_WITH(setup, "run", "-q", "hello", "--", "exit=6")->status, 6);
	CHECK_EQ(TAIN_WITH(setup, "doctor")->status, 0);
	CHECK_CONTAINS(TAIN_WITH(setup, "doctor")->out.text, "engine kvm       missing  ");
	CHECK_CONTAINS(TAIN_WITH(setup, "list", "engines")->out.text, why);
}

static void no_kvm_device(void)
{
	const struct tain_setup setup = { .before = MOUNTED("mount -t tmpfs none /dev") };

	if (mounts_or_skip())
		check_without_kvm(&setup, "/dev/kvm does not exist: load KVM ");
}

static void another_device_in_its_place(void)
{
	const struct tain_setup setup = { .before = MOUNTED("mount --bind /dev/null /dev/kvm") };

	if (access("/dev/kvm", F_OK)) {
		test_skip("there is no /dev/kvm to cover");
		return;
	}
	if (mounts_or_skip())
		check_without_kvm(&setup, "/dev/kvm is not the KVM device: ");
}

static void kvm_is_not_permitted(void)
{
	const struct tain_setup setup = { .before = WORDS("setpriv", "--reuid", "65534", "--regid", "65534",
							  "--clear-groups"),
					  .program = tain_path("tain") };
	struct stat st;
	const struct tain_run *r;

	if (geteuid() || stat("/dev/kvm", &st) || st.st_mode & 06) {
		test_skip("needs root, and a /dev/kvm that is not everybody's");
		return;
	}
	if (!program_or_skip("setpriv"))
		return;
	chmod(tain_dir(), 0755);
	tain_copy_file(tain_program(), setup.program);
	r = TAIN_WITH(&setup, "run", "-e", "kvm", "hello");
	CHECK_EQ(r->status, 4);
	CHECK_STR(r->out.text, "");
	CHECK_STR(
		r->err.text,
		!st.st_gid || (st.st_mode & 060) != 060
			? "tain: engine kvm cannot run here: /dev/kvm: permission denied, and it has no group to join: "
			  "run as root, or chgrp kvm and chmod g+rw it\n"
			: "tain: engine kvm cannot run here: /dev/kvm: permission denied: join its group "
			  "(usermod -aG kvm $USER, log in again)\n");
	CHECK_EQ(TAIN_WITH(&setup, "run", "-q", "hello")->status, 0);
	/* A directory of somebody else's. */
	r = TAIN_WITH(&setup, "stress", "--json", "r.json");
	CHECK_EQ(r->status, 2);
	CHECK_STR(r->err.text, "tain: --json: cannot write to .: Permission denied\n");
	CHECK_EQ(tain_dir_files(), 1);
}

/* --- nowhere to write ------------------------------------------------------------------------ */

static void stdout_is_full(void)
{
	static const char says[] = "tain: cannot write to standard output: No space left on device\n";
	const struct tain_setup setup = { .out_path = "/dev/full" };
	const struct tain_run *r;

	for (const char *const *word = WORDS("version", "doctor", "--help"); *word; word++) {
		r = TAIN_WITH(&setup, *word);
		CHECK_EQ(r->status, 1);
		CHECK_STR(r->err.text, says);
	}
	CHECK_STR(TAIN_WITH(&setup, "list", "engines")->err.text, says);
	/* More than fits into a buffer: the reason has been lost when the end is reached. */
	r = TAIN_WITH(&setup, "man");
	CHECK_EQ(r->status, 1);
	CHECK_STR(r->err.text, "tain: cannot write to standard output: no space, or nobody reads\n");
	r = TAIN_WITH(&setup, "stress", "-q", "-i", "5", "--json", "-");
	CHECK_EQ(r->status, 2);
	CHECK_CONTAINS(r->err.text, "\ntain: cannot write standard output: No space left on device\n");
	CHECK_EQ(tain_count(r->err.text, "\n"), 2); /* the seed, and that */
}

static void stdout_is_closed(void)
{
	const struct tain_setup setup = { .out_closed = true };

	CHECK_EQ(TAIN_WITH(&setup, "run", "-q", "hello")->status, 1);
	CHECK_EQ(TAIN_WITH(&setup, "list", "guests")->status, 1);
	CHECK_EQ(TAIN_WITH(&setup, "stress", "-i", "5")->status, 1);
	CHECK_CONTAINS(TAIN_WITH(&setup, "run", "hello")->err.text, "tain: cannot write to standard output: ");
	CHECK_EQ(TAIN_WITH(&setup, "stress", "-i", "5", "--json", "r.json")->status, 1);
	CHECK(tain_json_file("r.json")); /* its place was another */
	if (kvm_or_skip())
		CHECK_EQ(TAIN_WITH(&setup, "run", "-q", "-e", "kvm", "hello")->status, 1);
}

/* No stream at all: nothing to say it to, and nothing to crash about. */
static void all_streams_are_closed(void)
{
	const struct tain_setup setup = { .before = SHELL("exec <&- >&- 2>&-") };

	CHECK_EQ(TAIN_WITH(&setup, "run", "hello")->status, 1);
	CHECK_EQ(TAIN_WITH(&setup, "stress", "-e", "nothing")->status, 2);
	CHECK_EQ(TAIN_WITH(&setup, "stress", "-i", "5", "--json", "r.json")->status, 1);
	CHECK(tain_json_file("r.json"));
}

static void the_document_finds_no_space(void)
{
	const struct tain_run *r = TAIN("stress", "-i", "5", "--json", "/dev/full");

	CHECK_EQ(r->status, 2);
	CHECK_CONTAINS(r->out.text, "\n  violations                             0\n");
	CHECK_STR(r->err.text, "tain: cannot write /dev/full: No space left on device\n");
	CHECK_EQ(TAIN("bench", "fault", "-q", "-b", "64K", "-i", "1", "--json", "/dev/full")->status, 2);
	CHECK_EQ(TAIN("doctor", "-q", "--json", "/dev/full")->status, 2);
}

/* On a disk that is really full the old document stays, and no piece of the new one. */
static void a_full_disk(void)
{
	const struct tain_setup setup = {
		.before = WORDS("unshare", "-m", "sh", "-c",
				"set -e; mkdir d; mount -t tmpfs -o size=8k none d; echo old >d/r.json; "
				"cat /dev/zero >d/fill 2>&- || :; s=0; \"$0\" \"$@\" || s=$?; cat d/r.json; ls -A d; "
				"umount d; rmdir d; exit $s")
	};
	const struct tain_run *r;

	if (!mounts_or_skip())
		return;
	r = TAIN_WITH(&setup, "stress", "-q", "--seed", "1", "-i", "5", "--json", "d/r.json");
	CHECK_EQ(r->status, 2);
	CHECK_STR(r->err.text, "tain: cannot write d/r.json: No space left on device\n");
	CHECK_CONTAINS(r->out.text, "seed 1\nold\nfill\nr.json\n");
	CHECK_EQ(tain_dir_files(), 0);
}

static void a_read_only_disk(void)
{
	const struct tain_setup setup = { .before = MOUNTED("mount -t tmpfs -o ro none .; cd .; cd \"$PWD\"") };

	if (mounts_or_skip())
		check_refused(TAIN_WITH(&setup, "stress", "--json", "r.json"), 2,
			      "--json: cannot write to .: Read-only file system");
}

static void a_directory_that_is_gone(void)
{
	const struct tain_setup setup = { .before = SHELL("mkdir d; cd d; rmdir ../d") };

	CHECK_EQ(TAIN_WITH(&setup, "run", "-q", "hello")->status, 0);
	CHECK_EQ(TAIN_WITH(&setup, "stress", "-q", "-i", "5")->status, 0);
	CHECK_EQ(TAIN_WITH(&setup, "stress", "-q", "-i", "5", "--json", "r.json")->status, 2);
}

/* What /sys would tell is not told to be missing in the kernel. */
static void no_sysfs(void)
{
	const struct tain_setup setup = { .before = MOUNTED("mount -t tmpfs none /sys") };
	const struct tain_run *r;

	if (!mounts_or_skip() || !kvm_or_skip())
		return;
	r = TAIN_WITH(&setup, "matrix", "--tap", "--ops", "dontneed,merge", "-s",
		      "anonymous,anonymous_thp,anonymous_hugetlb_2mb");
	CHECK_EQ(r->status, 0);
	CHECK_CONTAINS(r->out.text, "KSM: not readable at /sys/kernel/mm/ksm/run: No such file or directory");
	CHECK_CONTAINS(r->out.text, "transparent huge pages: not readable at /sys/kernel/mm/transparent_hugepage/");
	CHECK_CONTAINS(r->out.text, "2 MiB hugetlb pages: not readable at /sys/kernel/mm/hugepages/");
	CHECK_MSG(!strstr(r->out.text, "this kernel has no"), "'%s'", r->out.text);
}

/* --- limits --------------------------------------------------------------------------------------- */

static void no_proc(void)
{
	const struct tain_setup setup = { .before = MOUNTED("mount -t tmpfs none /proc") };
	const struct tain_setup no_events = { .before = MOUNTED(
						      "mount -t tmpfs none /sys/kernel && mount -t tmpfs none /proc") };
	const struct tain_run *r;

	if (sanitized) {
		test_skip("sanitizers need /proc");
		return;
	}
	if (!mounts_or_skip())
		return;
	CHECK_EQ(TAIN_WITH(&setup, "run", "-q", "hello")->status, 0);
	CHECK_EQ(TAIN_WITH(&setup, "stress", "-q", "-i", "5")->status, 0);
	CHECK_EQ(TAIN_WITH(&setup, "doctor")->status, 0);
	check_refused(TAIN_WITH(&setup, "stress", "-b", "1000T"), 2,
		      "1024000.0 GiB, and what goes with it, is more than the ...");
	if (!kvm_or_skip())
		return;
	CHECK_EQ(TAIN_WITH(&setup, "stress", "-q", "-e", "kvm", "-i", "5")->status, 0);
	/* A tracefs of tain's own hangs nowhere: it is found through /proc. */
	r = TAIN_WITH(&no_events, "matrix", "--ops", "munmap", "-s", "anonymous");
	CHECK_EQ(r->status, 0);
	CHECK_CONTAINS(r->out.text, "ranges: no tracefs: ");
}

/* What a limit forbids is a line, not a crash. */
static void check_limit(const char *limit, const char *const *words)
{
	const struct tain_setup setup = { .before = WORDS("sh", "-c", limit) };
	const struct tain_run *r = tain_run(&setup, words);

	CHECK_MSG(r->status == 0 || r->status == 1 || r->status == 2 || r->status == 4, "%s, %s: exit status %d", limit,
		  r->name, r->status);
	CHECK_MSG(!r->status || strstr(r->err.text, "tain: "), "%s, %s: exit status %d, and stderr '%s'", limit,
		  r->name, r->status, r->err.text);
}

static void check_limits(const char *const *limits)
{
	for (; *limits; limits++) {
		check_limit(*limits, WORDS("run", "-b", "1M", "hello"));
		check_limit(*limits, WORDS("run", "-b", "1M", "-e", "kvm", "hello"));
		check_limit(*limits, WORDS("stress", "-q", "-i", "5", "-b", "1M", "--json", "/dev/null"));
		check_limit(*limits, WORDS("stress", "-q", "-i", "5", "-b", "1M", "-e", "kvm", "-s", "memfd"));
		check_limit(*limits, WORDS("bench", "fault", "-q", "-b", "64K", "-i", "1"));
		check_limit(*limits, WORDS("version"));
	}
}

#define LIMIT(what) "ulimit " what "; exec \"$0\" \"$@\""

static void few_files_and_no_locked_memory(void)
{
	check_limits(WORDS(LIMIT("-n 4"), LIMIT("-n 5"), LIMIT("-n 7"), LIMIT("-l 0")));
}

static void little_address_space_and_small_files(void)
{
	if (sanitized)
		test_skip("sanitizers take address space, and files for it");
	else
		check_limits(WORDS(LIMIT("-v 30000"), LIMIT("-v 50000"), LIMIT("-v 200000"), LIMIT("-f 0")));
}

/* Threads have their own; 64 KiB are what main() gets. */
static void small_stacks(void)
{
	const struct tain_setup setup = { .before = WORDS("sh", "-c", LIMIT("-s 64")) };

	if (sanitized) {
		test_skip("sanitizers take stack");
		return;
	}
	CHECK_EQ(TAIN_WITH(&setup, "stress", "-q", "-v", "2", "-i", "20")->status, 0);
	CHECK_EQ(TAIN_WITH(&setup, "bench", "fault", "-q", "-b", "64K", "-i", "1")->status, 0);
	CHECK_EQ(TAIN_WITH(&setup, "doctor")->status, 0);
}

/* --- a container's memory ------------------------------------------------------------------------- */

static void little_memory_in_a_container(void)
{
	const char *dir = test_memory_group(256 << 20);
	struct tain_setup setup = { .before = NULL };
	const struct tain_run *r;
	char enter[200];

	if (!dir)
		return;
	snprintf(enter, sizeof(enter), "echo $$ >%s/cgroup.procs && exec \"$0\" \"$@\"", dir);
	setup.before = WORDS("sh", "-c", enter);
	check_refused(TAIN_WITH(&setup, "stress", "-b", "512M"), 2,
		      "512.0 MiB, and what goes with it, is more than what is left, ...");
	r = TAIN_WITH(&setup, "run", "-b", "512M", "hello");
	CHECK_CONTAINS(r->err.text, " of the 256.0 MiB that /sys/fs/cgroup/");
	CHECK_CONTAINS(r->err.text, " allows: raise it, or give less\n");
	CHECK_EQ(TAIN_WITH(&setup, "stress", "-q", "-b", "4M", "-i", "5")->status, 0);
	r = TAIN_WITH(&setup, "doctor");
	CHECK_CONTAINS(r->out.text, " MiB available, for /sys/fs/cgroup/");
	CHECK_CONTAINS(r->out.text, " allows 256 MiB\n");
}

/* --- company ---------------------------------------------------------------------------------------- */

/* Several at once, and all of them write the same document: it is one of theirs, whole. */
static void several_at_once(void)
{
	struct tain_run *r[4];
	u64 seed;

	for (size_t i = 0; i < ARRAY_SIZE(r); i++) {
		char word[8];

		snprintf(word, sizeof(word), "%zu", 91 + i);
		r[i] = tain_start(NULL, WORDS("stress", "-b", "256K", "-v", "2", "-i", "30", "-d", "1000", "--seed",
					      word, "--json", "r.json"));
	}
	for (size_t i = 0; i < ARRAY_SIZE(r); i++) {
		tain_wait(r[i]);
		CHECK_EQ(r[i]->status, 0);
		CHECK_CONTAINS(r[i]->out.text, "\npassed\n");
	}
	seed = json_u64(tain_json_file("r.json"), "seed");
	CHECK_MSG(seed >= 91 && seed <= 94, "seed %llu", (unsigned long long)seed);
	CHECK_EQ(tain_dir_files(), 1);
}

static void an_empty_environment(void)
{
	const struct tain_setup setup = { .before = WORDS("env", "-i", "ASAN_OPTIONS=exitcode=99",
							  "TSAN_OPTIONS=exitcode=99:atexit_sleep_ms=0") };

	CHECK_EQ(TAIN_WITH(&setup, "run", "-q", "hello")->status, 0);
	CHECK_EQ(TAIN_WITH(&setup, "stress", "-i", "5")->status, 0);
	CHECK_EQ(TAIN_WITH(&setup, "doctor")->status, 0);
}

const struct test_case cmd_limits_tests[] = {
	TEST(no_kvm_device),
	TEST(another_device_in_its_place),
	TEST(kvm_is_not_permitted),
	TEST(stdout_is_full),
	TEST(stdout_is_closed),
	TEST(all_streams_are_closed),
	TEST(the_document_finds_no_space),
	TEST(a_full_disk),
	TEST(a_read_only_disk),
	TEST(a_directory_that_is_gone),
	TEST(no_sysfs),
	TEST(no_proc),
	TEST(few_files_and_no_locked_memory),
	TEST(little_address_space_and_small_files),
	TEST(small_stacks),
	TEST(little_memory_in_a_container),
	TEST(several_at_once),
	TEST(an_empty_environment),
	TEST_END,
};
