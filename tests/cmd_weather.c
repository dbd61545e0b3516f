/* SPDX-License-Identifier: MIT */
/* Benchmarks of faults where something is missing, forbidden or interrupted: named, and nothing stays changed. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/cmd_env.h"
#include "tests/cmd_suites.h"

static bool read_file(const char *path, char *text, size_t bytes)
{
	FILE *f = fopen(path, "re");
	size_t n = f ? fread(text, 1, bytes - 1, f) : 0;

	text[n] = 0;
	if (f)
		fclose(f);
	return f != NULL;
}

/* The reason in the document's skips, or NULL. */
static const char *skip_of(json_t *doc, const char *what)
{
	json_t *skips = json_object_get(doc, "skips"), *one;
	size_t i;

	json_array_foreach(skips, i, one) if (!strcmp(json_text(one, "what"), what)) return json_text(one, "why");
	return NULL;
}

static void check_skip(json_t *doc, const char *what, const char *part)
{
	const char *why = skip_of(doc, what);

	if (CHECK_MSG(why, "%s is skipped by name", what))
		CHECK_CONTAINS(why, part);
}

/* --- something is missing or forbidden -------------------------------------------------- */

/* A user who may use KVM and nothing else: a copy of the device that is everybody's, in mounts of its own. */
static void not_root(void)
{
	const struct tain_setup setup = {
		.before = WORDS("unshare", "-m", "sh", "-c",
				"set -e; cp -a /dev/kvm kvm; chmod 666 kvm; mount --bind kvm /dev/kvm; "
				"exec setpriv --reuid 65534 --regid 65534 --clear-groups \"$0\" \"$@\""),
		.program = tain_path("tain"),
	};
	const struct tain_run *r;
	char uffd[8] = "";
	json_t *doc;

	if (!kvm_or_skip() || !program_or_skip("setpriv") || !program_or_skip("unshare"))
		return;
	read_file("/proc/sys/vm/unprivileged_userfaultfd", uffd, sizeof(uffd));
	if (geteuid() || uffd[0] != '0') {
		test_skip("needs root, and vm.unprivileged_userfaultfd=0");
		return;
	}
	chmod(tain_dir(), 0777);
	tain_copy_file(tain_program(), setup.program);
	if (TAIN_WITH(&setup, "run", "-q", "-e", "kvm", "hello")->status == 4) {
		test_skip("no device can be opened in %s", tain_dir());
		return;
	}
	r = TAIN_WITH(&setup, "bench", "fault", "-e", "kvm", "-b", "1M", "-i", "1", "--allow-system", "--cause",
		      "first_touch,unmerge,uffd_wp_vcpu,uffd_missing_thread", "--json", "r.json");
	CHECK_MSG(r->status == 0, "exit status %d; stderr '%s'", r->status, r->err.text);
	CHECK_CONTAINS(r->err.text, "tain: --allow-system: machine-wide changes need root\n");
	doc = tain_json_file("r.json");
	check_skip(doc, "unmerge", "it is a switch of the whole machine: machine-wide changes need root");
	check_skip(doc, "uffd_missing_thread", "not permitted; sysctl vm.unprivileged_userfaultfd=1");
	check_skip(doc, "uffd_wp_vcpu", "not permitted");
	CHECK(skip_of(doc, "first_touch") == NULL);
	CHECK(json_object_get(json_object_get(doc, "histograms"), "fault_first_touch") != NULL);
	r = TAIN_WITH(&setup, "bench", "fault", "-e", "kvm", "-u", "MISSING");
	CHECK_EQ(r->status, 4);
	CHECK_STR(r->err.text, "tain: userfaultfd: not permitted; sysctl vm.unprivileged_userfaultfd=1\n");
}

static void no_swap_and_no_leave(void)
{
	const struct tain_run *r;
	char swaps[512] = "";
	json_t *doc;

	if (!kvm_or_skip())
		return;
	test_own_machine(); /* nobody brings swap */
	r = TAIN("bench", "fault", "-e", "kvm", "-b", "1M", "-i", "1", "--cause", "unmerge,after_swap,thp", "--json",
		 "r.json");
	CHECK_EQ(r->status, 0);
	doc = tain_json_file("r.json");
	check_skip(doc, "unmerge", "--allow-system");
	check_skip(doc, "thp", "less than a huge page"); /* 1M */
	CHECK_CONTAINS(r->out.text, "\n  skipped: unmerge ");
	read_file("/proc/swaps", swaps, sizeof(swaps));
	if (tain_count(swaps, "\n") == 1)
		check_skip(doc, "after_swap", "there is no swap");
}

static void no_huge_pages(void)
{
	char pages[32] = "";
	const struct tain_run *r;

	if (!kvm_or_skip())
		return;
	test_own_machine();
	if (!read_file("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", pages, sizeof(pages)) ||
	    strcmp(pages, "0\n")) {
		test_skip("there are hugetlb pages, or there can be none");
		return;
	}
	r = TAIN("bench", "fault", "-e", "kvm", "-s", "anonymous_hugetlb_2mb", "-b", "4M", "--json", "r.json");
	CHECK_EQ(r->status, 4);
	CHECK_CONTAINS(r->err.text, "tain: not enough free 2 MiB pages: --allow-system ");
	check_skip(tain_json_file("r.json"), "anonymous_hugetlb_2mb", "not enough free 2 MiB pages");
}

/* Nothing of it needs locked memory. */
static void nothing_may_be_locked(void)
{
	const struct tain_setup setup = { .before = WORDS("prlimit", "--memlock=0") };
	const struct tain_run *r;

	if (!kvm_or_skip() || !program_or_skip("prlimit"))
		return;
	CHECK_EQ(TAIN_WITH(&setup, "bench", "fault", "-q", "-e", "kvm", "-b", "1M", "-i", "1")->status, 0);
	r = TAIN_WITH(&setup, "bench", "interference", "-q", "-b", "1M", "-i", "1", "-t", "20ms", "--disturber",
		      "munmap");
	CHECK_MSG(!r->status || strstr(r->err.text, "it takes two processors"), "status %d: %s", r->status,
		  r->err.text);
}

/* --- bad words ---------------------------------------------------------------------------- */

static void words_that_are_refused(void)
{
	check_refused(TAIN("bench", "fault", "--cause", "cov"), 2,
		      "unknown cause 'cov', did you mean 'cow'?; `tain list causes` names them");
	check_refused(TAIN("bench", "fault", "--cause", ""), 2,
		      "empty name in the list of causes; `tain list causes` names them");
	if (!kvm_or_skip())
		return;
	check_refused(TAIN("bench", "fault", "-e", "kvm", "-u", "WP", "--cause", "cow"), 2,
		      "-u measures one cause alone: without --cause");
	check_refused(TAIN("bench", "interference", "--disturber", "mumap"), 2,
		      "unknown disturber 'mumap', did you mean 'munmap'?; `tain list disturbers` names them");
	check_refused(TAIN("bench", "interference", "-b", "0"), 2, "a guest memory of 0 bytes;...");
	check_refused(TAIN("bench", "interference", "--cpus", test_cpu()), 4, "it takes two processors: ...");
	CHECK_EQ(TAIN("bench", "interference", "-q", "--disturber", "ksm", "-i", "1", "-t", "1ms")->status, 4);
}

/* --- interference ---------------------------------------------------------------------------- */

static void interference_document(void)
{
	json_t *doc, *list, *one;
	const struct tain_run *r;
	size_t i;

	if (!kvm_or_skip())
		return;
	r = TAIN("bench", "interference", "-b", "1M", "-i", "2", "-t", "20ms", "--disturber", "munmap,dirty_log,ksm",
		 "--seed", "5", "--json", "r.json");
	if (r->status == 4) {
		test_skip("one processor");
		return;
	}
	CHECK_EQ(r->status, 0);
	CHECK_CONTAINS(r->out.text, "\n  munmap, warm guest, ");
	CHECK_CONTAINS(r->out.text, "\n  dirty_log, faulting guest, ");
	CHECK_CONTAINS(r->out.text, "\n  skipped: ksm ");
	doc = tain_json_file("r.json");
	CHECK_STR(json_text(doc, "command"), "bench interference");
	check_skip(doc, "ksm", "--allow-system");
	list = json_object_get(doc, "interference");
	CHECK_EQ(json_array_size(list), 4);
	json_array_foreach(list, i, one)
	{
		check_keys(one, WORDS("disturber", "guest", "work", "work_ns", "p50_ratios", "p99_ratios", "quiet",
				      "disturbed"));
		CHECK_EQ(json_array_size(json_object_get(one, "p50_ratios")), 2);
		check_keys(json_object_get(one, "quiet"),
			   WORDS("accesses", "guest_ns", "stalls", "stalled_ns", "longest_ns", "faults"));
	}
	CHECK_EQ(json_object_size(json_object_get(doc, "histograms")), 8);
	CHECK_EQ(json_u64(json_object_get(json_object_get(doc, "histograms"), "munmap_warm_quiet"), "count"),
		 json_u64(json_object_get(json_array_get(list, 0), "quiet"), "accesses"));
}

/* --- interrupted ------------------------------------------------------------------------------ */

/* Begin what changes the machine, and end it by @sig when it has: all is as before, at once or by the guardian. */
static bool interrupt(int sig, const struct machine_state *before, const char *const *words)
{
	struct tain_run *r = tain_start(NULL, words);
	struct machine_state now;
	bool changed = false;
	size_t i;

	while (!changed && !tain_has_ended(r)) {
		read_machine(&now);
		changed = !same_machine(before, &now, &i);
		tain_pause(changed ? 0 : 1);
	}
	kill(r->pid, sig);
	tain_wait(r);
	check_machine(before);
	if (!changed && !strstr(r->err.text, "another tain")) { /* one that is ending, and not a test's */
		test_skip("nothing was changed: %s", r->err.text);
		return true;
	}
	return r->status == 128 + sig;
}

static void interrupted(int sig, const char *const *words)
{
	struct machine_state before;

	if (!may_change_the_machine())
		return;
	read_machine(&before);
	while (!interrupt(sig, &before, words) &&
	       !test_failures()) /* it was over before the signal; the watchdog is the limit */
		;
}

static void a_signal_restores_after_faults(void)
{
	interrupted(SIGINT, WORDS("bench", "fault", "-e", "kvm", "-b", "4M", "-i", "10000", "--allow-system", "--cause",
				  "unmerge,after_swap"));
}

static void a_kill_restores_after_faults(void)
{
	interrupted(SIGKILL, WORDS("bench", "fault", "-e", "kvm", "-b", "4M", "-i", "10000", "--allow-system",
				   "--cause", "unmerge,after_swap"));
}

static void a_signal_restores_after_interference(void)
{
	interrupted(SIGINT, WORDS("bench", "interference", "-b", "4M", "-i", "16", "-t", "1s", "--allow-system",
				  "--disturber", "ksm,khugepaged"));
}

const struct test_case cmd_weather_tests[] = {
	TEST(not_root),
	TEST(no_swap_and_no_leave),
	TEST(no_huge_pages),
	TEST(nothing_may_be_locked),
	TEST(words_that_are_refused),
	TEST(interference_document),
	TEST(a_signal_restores_after_faults),
	TEST(a_kill_restores_after_faults),
	TEST(a_signal_restores_after_interference),
	TEST_END,
};
