/* SPDX-License-Identifier: MIT */
/* tain run --engine qemu: the same command, in a libvirt domain; and that nothing of it stays, however it ends. */
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/cmd_env.h"
#include "tests/cmd_suites.h"
#include "vmm/engine.h"

static bool qemu_or_skip(void)
{
	struct err why = { "" };

	if (!engine_find("qemu")->probe(&why))
		return true;
	test_skip("%s", why.text);
	return false;
}

/* The QEMU that runs, whose domain the tain @pid named, and that has @word on its command line; NULL: any. 0: none. */
static pid_t qemu_with(pid_t pid, const char *word)
{
	char path[300], text[4096], name[64];
	DIR *dir = opendir("/proc");
	struct dirent *e;
	struct stat ns;
	bool named, has;
	pid_t found = 0;
	size_t n;
	FILE *f;

	CHECK(pid > 0 && !stat("/proc/self/ns/pid", &ns));
	snprintf(name, sizeof(name), "guest=tain-%llu-%d-", (unsigned long long)ns.st_ino, pid);
	while (!found && (e = readdir(dir)) != NULL) {
		snprintf(path, sizeof(path), "/proc/%s/cmdline", e->d_name);
		f = atoi(e->d_name) > 0 ? fopen(path, "re") : NULL;
		if (!f)
			continue;
		n = fread(text, 1, sizeof(text) - 1, f);
		fclose(f);
		text[n] = '\0';
		named = false;
		has = !word;
		for (size_t at = 0; at < n; at += strlen(text + at) + 1) {
			named |= !strncmp(text + at, name, strlen(name));
			has |= word && !strcmp(text + at, word);
		}
		if (named && has)
			found = atoi(e->d_name);
	}
	closedir(dir);
	return found;
}

static bool has_domain(pid_t pid)
{
	return qemu_with(pid, NULL) != 0;
}

/* Its end takes libvirt a moment; the test's watchdog is the limit. */
static void wait_no_domain(pid_t pid)
{
	while (has_domain(pid))
		tain_pause(20);
}

static void hello(void)
{
	static const char *const machines[] = { "microvm", "pc", "q35" };

	if (!qemu_or_skip())
		return;
	for (size_t i = 0; i < ARRAY_SIZE(machines); i++) {
		const struct tain_run *r = TAIN("run", "-e", "qemu", "--accel", "tcg", "--machine", machines[i],
						"--seed", "7", "hello", "--", "a", "exit=3");

		CHECK_EQ(r->status, 3);
		CHECK_STR(r->out.text, "hello from vcpu 0 of 1: a exit=3\n");
		CHECK_CONTAINS(r->err.text, "tain run: engine qemu, MMU QEMU TCG, host mm Linux ");
	}
}

static void hello_under_kvm(void)
{
	const struct tain_run *r;

	if (!qemu_or_skip() || !kvm_or_skip())
		return;
	r = TAIN("run", "-e", "qemu", "--accel", "kvm", "-v", "3", "hello");
	CHECK_EQ(r->status, 0);
	CHECK_EQ(tain_count(r->out.text, " of 3\n"), 3);
	CHECK_CONTAINS(r->err.text, "tain run: engine qemu, MMU KVM ");
}

/* Firmware takes seconds where CPL0 is emulated, and is the same for every build. */
static void firmware_under_kvm(void)
{
	if (!test_prove_or_skip() || !qemu_or_skip() || !kvm_or_skip())
		return;
	for (const char *const *machine = WORDS("pc", "q35"); *machine; machine++) {
		const struct tain_run *r =
			TAIN("run", "-e", "qemu", "--accel", "kvm", "--machine", *machine, "hello", "--", "exit=3");

		CHECK_EQ(r->status, 3);
		CHECK_STR(r->out.text, "hello from vcpu 0 of 1: exit=3\n");
		CHECK_CONTAINS(r->err.text, "tain run: engine qemu, MMU KVM ");
	}
}

static void an_elf_file_of_the_users(void)
{
	const char *elf = tain_tree_file("guest/test/probe.elf");
	const struct tain_run *r;

	if (!elf || !qemu_or_skip())
		return;
	r = TAIN("run", "-q", "-e", "qemu", "--accel", "tcg", elf, "--", "do=9"); /* PROBE_INVALID_OPCODE */
	CHECK_EQ(r->status, 128 + 6);
	CHECK_CONTAINS(r->out.text, "guest: exception 6 (invalid opcode)");
}

static void time_ends_it(void)
{
	const struct tain_run *r;

	if (!qemu_or_skip())
		return;
	r = TAIN("run", "-q", "-e", "qemu", "--accel", "tcg", "-t", "100ms", "random");
	CHECK_EQ(r->status, 124);
	CHECK_CONTAINS(r->err.text, "tain: the guest did not end within 0.1 s\n");
}

static struct tain_run *endless(pid_t *pid)
{
	struct tain_run *r = tain_start(NULL, WORDS("run", "-e", "qemu", "--accel", "tcg", "stride"));

	tain_expect(r, &r->err, "engine qemu", 1);
	*pid = r->pid;
	while (!has_domain(*pid) && !tain_has_ended(r))
		tain_pause(20);
	return r;
}

static void a_signal_takes_the_domain_down(void)
{
	static const int signals[] = { SIGINT, SIGHUP };
	struct tain_run *r;
	pid_t pid;

	if (!qemu_or_skip())
		return;
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
		r = endless(&pid);
		kill(pid, signals[i]);
		tain_wait(r);
		CHECK_EQ(r->status, 128 + signals[i]);
		CHECK(!has_domain(pid));
	}
}

/* Nobody waits for libvirt then. */
static void a_second_signal_takes_qemu_down_too(void)
{
	struct tain_run *r;
	pid_t pid;

	if (!qemu_or_skip())
		return;
	r = endless(&pid);
	kill(pid, SIGINT);
	kill(pid, SIGTERM);
	tain_wait(r);
	CHECK_MSG(r->status == 130 || r->status == 143, "exit status %d", r->status);
	wait_no_domain(pid);
}

static void a_killed_tain_leaves_no_domain(void)
{
	struct tain_run *r;
	pid_t pid;

	if (!qemu_or_skip())
		return;
	r = endless(&pid);
	kill(pid, SIGKILL);
	tain_wait(r);
	wait_no_domain(pid);
	CHECK(!has_domain(pid));
}

/* libvirt binds what it restores to no connection: the next tain takes it. */
static void a_killed_tain_leaves_no_restored_domain(void)
{
	struct tain_run *r;
	pid_t pid;

	if (!qemu_or_skip())
		return;
	r = tain_start(NULL, WORDS("stress", "-e", "qemu", "--accel", "tcg", "--ops", "restore", "-d", "60000000"));
	pid = r->pid;
	while (!qemu_with(pid, "-incoming") && !tain_has_ended(r))
		tain_pause(20);
	CHECK(!tain_has_ended(r));
	kill(pid, SIGKILL);
	tain_wait(r);
	while (has_domain(pid) && !test_failures()) {
		TAIN("run", "-q", "-e", "qemu", "--accel", "tcg", "hello");
		tain_pause(20);
	}
}

/* With guests and host at work. */
static struct tain_run *stress_at_work(const char *backing)
{
	static const struct tain_setup setup = { .err_terminal = true };
	struct tain_run *r = tain_start(&setup, WORDS("stress", "-e", "qemu", "--accel", "tcg", "-s", backing, "--ops",
						      "punch,suspend,memstats", "--time", "1h", "--json", "r.json"));

	tain_expect_work(r);
	return r;
}

/* What QEMU said last is part of the line, whoever notices first that it has gone. */
static void a_qemu_that_dies_under_stress(void)
{
	struct tain_run *r;
	pid_t qemu, pid;

	if (!qemu_or_skip())
		return;
	r = stress_at_work("memfd");
	pid = r->pid;
	qemu = qemu_with(pid, NULL);
	if (CHECK(qemu))
		kill(qemu, SIGTERM);
	tain_wait(r);
	CHECK_EQ(r->status, 1);
	CHECK_CONTAINS(r->err.text, "ended before its guest: ");
	CHECK_CONTAINS(r->err.text, "terminating on signal 15");
	CHECK(!has_domain(pid));
}

/* Its next page is one too many. */
static void a_qemu_that_the_oom_killer_takes(void)
{
	char path[160], text[16];
	const char *dir;
	struct tain_run *r;
	FILE *f;

	if (!qemu_or_skip())
		return;
	dir = test_memory_group(PAGE_SIZE);
	if (!dir)
		return;
	r = stress_at_work("memfd");
	snprintf(path, sizeof(path), "%s/cgroup.procs", dir);
	snprintf(text, sizeof(text), "%d", qemu_with(r->pid, NULL));
	f = fopen(path, "we");
	if (CHECK(f)) {
		CHECK(fputs(text, f) >= 0);
		CHECK_EQ(fclose(f), 0);
	}
	tain_wait(r);
	CHECK_EQ(r->status, 1);
	CHECK_CONTAINS(r->err.text, "ended before its guest: ");
	CHECK_CONTAINS(r->err.text, "the OOM killer has ended ");
}

/* The file that is QEMU's memory, which has a name. */
static bool truncate_memory(pid_t qemu)
{
	char dir[32], path[320], target[512];
	struct dirent *e;
	bool done = false;
	ssize_t n;
	DIR *d;

	snprintf(dir, sizeof(dir), "/proc/%d/fd", qemu);
	d = opendir(dir);
	while (d && !done && (e = readdir(d)) != NULL) {
		snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
		n = readlink(path, target, sizeof(target) - 1);
		target[n > 0 ? n : 0] = '\0';
		done = strstr(target, "/ram/") && strstr(target, "-tain-") && !truncate(path, 1 << 20);
	}
	if (d)
		closedir(d);
	return done;
}

/* Under tain's own eyes, which are mapped there: a line instead of a SIGBUS, and no violation. */
static void memory_that_is_truncated(void)
{
	struct tain_run *r;
	json_t *doc;
	pid_t pid;

	if (!qemu_or_skip())
		return;
	r = stress_at_work("file_shared");
	pid = r->pid;
	CHECK(truncate_memory(qemu_with(pid, NULL)));
	tain_wait(r);
	CHECK_EQ(r->status, 1);
	CHECK_CONTAINS(r->err.text, ": the file behind the guest's memory was truncated");
	CHECK(!has_domain(pid));
	doc = tain_json_file("r.json");
	if (doc)
		CHECK_EQ(json_array_size(json_object_get(doc, "violations")), 0);
}

static void two_at_once(void)
{
	struct tain_run *r[2];

	if (!qemu_or_skip())
		return;
	for (int i = 0; i < 2; i++)
		r[i] = tain_start(NULL,
				  WORDS("run", "-q", "-e", "qemu", "--accel", "tcg", "counter", "--", "passes=100"));
	for (int i = 0; i < 2; i++) {
		tain_wait(r[i]);
		CHECK_EQ(r[i]->status, 0);
		CHECK_STR(r[i]->out.text, "counter: vcpu 0: total 1600\n");
	}
}

/* Every time that was measured stands in the table and, under the name that docs/results.md gives it, in the document.
 */
static void bench_outside(void)
{
	const struct tain_run *r;
	json_t *doc, *hist;

	check_refused(TAIN("bench", "outside", "--ops", "pnuch"), 2,
		      "unknown operation 'pnuch', did you mean 'punch'?; `tain list outside` names them");
	if (!qemu_or_skip())
		return;
	r = TAIN("bench", "outside", "--accel", "tcg", "-b", "1M", "-i", "2", "--ops", "punch,suspend,plug", "--seed",
		 "5", "--json", "r.json");
	CHECK_EQ(r->status, 0);
	CHECK_CONTAINS(r->out.text, "1 vCPU, 1 MiB memfd, machine microvm, 2 passes\n");
	CHECK_CONTAINS(r->out.text, "\n  resume  ");
	CHECK_CONTAINS(r->out.text, "\n  skipped: plug  ");
	doc = tain_json_file("r.json");
	CHECK_STR(json_text(doc, "command"), "bench outside");
	CHECK(json_is_null(json_object_get(doc, "faults")));
	CHECK_EQ(json_u64(json_object_get(doc, "host_ops"), "suspend"), 40);
	hist = json_object_get(doc, "histograms");
	check_keys(hist, WORDS("stall_none", "gap_none", "after_none", "call_punch", "stall_punch", "gap_punch",
			       "after_punch", "call_suspend", "call_resume", "stall_suspend", "gap_suspend",
			       "after_suspend"));
	CHECK_EQ(json_u64(json_object_get(hist, "call_resume"), "count"), 40);
	CHECK_EQ(json_u64(json_object_get(hist, "after_punch"), "count"), 2 * (256 / 8 - 1));
	CHECK_EQ(json_array_size(json_object_get(json_object_get(hist, "stall_punch"), "blocks")), 2);
	r = TAIN("bench", "outside", "--accel", "tcg", "-b", "1M", "-i", "1", "--ops", "plug");
	CHECK_EQ(r->status, 4);
}

/* Nobody tells tain how many faults another process's VM took: that is not 0. */
static void faults_are_not_known(void)
{
	json_t *doc, *shares, *one;
	const struct tain_run *r;
	const char *name;

	if (!qemu_or_skip())
		return;
	r = TAIN("stress", "-e", "qemu", "--accel", "tcg", "--ops", "punch", "-t", "200ms", "--json", "r.json");
	CHECK_EQ(r->status, 0);
	CHECK_CONTAINS(r->out.text, "\n  second-MMU faults                      -\n");
	CHECK(json_is_null(json_object_get(tain_json_file("r.json"), "faults")));
	r = TAIN("bench", "fault", "-e", "qemu", "--accel", "tcg", "-b", "1M", "-i", "1", "--cause", "after_punch",
		 "--json", "r.json");
	CHECK_EQ(r->status, 0);
	doc = tain_json_file("r.json");
	CHECK(json_is_null(json_object_get(doc, "faults")));
	shares = json_object_get(doc, "shares");
	CHECK(json_object_get(shares, "after_punch") != NULL);
	json_object_foreach(shares, name, one)
		CHECK_MSG(json_is_null(json_object_get(one, "faults")), "%s: its faults are counted", name);
	CHECK_CONTAINS(r->out.text, "         -\n");
}

/* Every figure is measured; whether its bound is reached, this machine's load decides. */
static void figures(void)
{
	const struct tain_setup nowhere = { .env = WORDS("LIBVIRT_DEFAULT_URI=test:///default") };
	const struct tain_run *r;
	json_t *doc, *f;
	size_t i;

	check_refused(TAIN("bench", "figures", "-e", "kvm"), 2,
		      "-e: 'kvm'; the figures of soft and kvm come without it, those of qemu with -e qemu");
	if (!qemu_or_skip() || !kvm_or_skip())
		return;
	r = TAIN_WITH(&nowhere, "bench", "figures", "-e", "qemu");
	CHECK_EQ(r->status, 4);
	CHECK_EQ(tain_count(r->out.text, "    not measured: test:///default: libvirt's driver TEST runs no QEMU"), 3);
	r = TAIN("bench", "figures", "-e", "qemu", "-i", "1", "-b", "1M", "--json", "r.json");
	CHECK_MSG(r->status == 0 || r->status == 1, "exit status %d; stderr '%s'", r->status, r->err.text);
	doc = tain_json_file("r.json");
	CHECK_EQ(json_array_size(json_object_get(doc, "figures")), 3);
	json_array_foreach(json_object_get(doc, "figures"), i, f)
	{
		CHECK_CONTAINS(r->out.text, json_text(f, "name"));
		CHECK_MSG(json_real_value(json_array_get(json_object_get(f, "values"), 0)) > 0, "%s was measured",
			  json_text(f, "name"));
	}
}

static void refusals(void)
{
	static const struct {
		const char *option, *value;
		int status;
		const char *text;
	} cases[] = {
		{ "--machine", "isapc", 2,
		  "machine 'isapc'; microvm, pc or q35, or a version of the last two, are possible" },
		{ "--accel", "hvf", 2, "accelerator 'hvf'; kvm, tcg or auto are possible" },
		{ "--connect", "test:///default", 4,
		  "engine qemu cannot run here: test:///default: libvirt's driver TEST runs no QEMU; use a qemu: URI" },
		{ "--connect", "nonsense", 4, "engine qemu cannot run here: nonsense: ..." },
		{ "--connect", "qemu+unix:///system?socket=/nowhere", 4,
		  "engine qemu cannot run here: qemu+unix:///system?socket=/nowhere: ..." },
		{ "--connect", "qemu+ssh://nobody@host.invalid/system", 4,
		  "engine qemu cannot run here: qemu+ssh://nobody@host.invalid/system: ..." },
		{ "--machine", "pc-q35-0.1", 2, "machine pc-q35-0.1 with ..." },
		{ "-s", "anonymous", 4, "engine qemu: backing anonymous; its memory is shared: memfd or file_shared" },
	};

	if (!qemu_or_skip())
		return;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		check_refused(TAIN("run", "-e", "qemu", cases[i].option, cases[i].value, "hello"), cases[i].status,
			      cases[i].text);
}

const struct test_case cmd_qemu_tests[] = {
	TEST(hello),
	TEST(hello_under_kvm),
	TEST(firmware_under_kvm),
	TEST(an_elf_file_of_the_users),
	TEST(time_ends_it),
	TEST(a_signal_takes_the_domain_down),
	TEST(a_second_signal_takes_qemu_down_too),
	TEST(a_killed_tain_leaves_no_domain),
	TEST(a_killed_tain_leaves_no_restored_domain),
	TEST(a_qemu_that_dies_under_stress),
	TEST(a_qemu_that_the_oom_killer_takes),
	TEST(memory_that_is_truncated),
	TEST(two_at_once),
	TEST(bench_outside),
	TEST(faults_are_not_known),
	TEST(figures),
	TEST(refusals),
	TEST_END,
};
