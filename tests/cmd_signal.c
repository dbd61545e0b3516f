/* SPDX-License-Identifier: MIT */
/* Signals: what was measured is printed and written, and nothing stays behind. */
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "lab/machine/machine.h"
#include "tests/cmd_env.h"
#include "tests/cmd_suites.h"

static const char *const engines[] = { "soft", "kvm" };

/* A run with no end that is under way. */
static struct tain_run *begun(const char *engine, const char *stall, const char *json)
{
	const struct tain_setup setup = { .err_terminal = true };
	struct tain_run *r = tain_start(&setup, WORDS("stress", "-e", engine, "-v", "2", "-b", "1M", "-t", "1h",
						      "--stall", stall, "--seed", "61", "--json", json));

	tain_expect_work(r);
	return r;
}

static void check_stopped(struct tain_run *r, int sig)
{
	json_t *doc;

	tain_wait(r);
	CHECK_MSG(r->status == 128 + sig, "%s: exit status %d; stderr '%s'", r->name, r->status, r->err.text);
	CHECK_MSG(!r->killed, "%s: killed instead of ended", r->name);
	CHECK_CONTAINS(r->out.text, "\n  checked accesses ");
	CHECK_CONTAINS(r->out.text, "\n  violations                             0\n");
	CHECK_CONTAINS(r->out.text, "\nstopped; no violation so far\n");
	doc = tain_json_file("r.json");
	CHECK_EQ(json_u64(doc, "seed"), 61);
	CHECK_GT(json_u64(doc, "checked_accesses"), 0);
	CHECK_GT(json_object_size(json_object_get(doc, "host_ops")), 0);
	CHECK_EQ(json_array_size(json_object_get(doc, "violations")), 0);
	CHECK_EQ(tain_dir_files(), 1);
}

static void check_signal(int sig)
{
	for (size_t i = 0; i < ARRAY_SIZE(engines); i++) {
		struct tain_run *r;

		if (i && !kvm_or_skip())
			return;
		r = begun(engines[i], "20s", "r.json");
		kill(r->pid, sig);
		check_stopped(r, sig);
	}
}

static void sigint_prints_what_was_measured(void)
{
	check_signal(SIGINT);
}

static void sigterm_prints_what_was_measured(void)
{
	check_signal(SIGTERM);
}

static void sighup_prints_what_was_measured(void)
{
	check_signal(SIGHUP);
}

/* A terminal that closes may say so twice, by the kernel and by the shell: that is no impatience. */
static void a_second_hangup_changes_nothing(void)
{
	struct tain_run *r = begun("soft", "20s", "r.json");

	kill(r->pid, SIGHUP);
	kill(r->pid, SIGHUP);
	check_stopped(r, SIGHUP);
	r = begun("soft", "20s", "r.json");
	kill(r->pid, SIGINT);
	kill(r->pid,
	     SIGHUP); /* of two that are pending the lower number may be first, and the other is impatience then */
	tain_wait(r);
	CHECK_MSG(r->status == 130 || r->status == 129, "exit status %d", r->status);
}

/* As nohup leaves it. */
static void a_hangup_that_was_ignored_stays_so(void)
{
	const struct tain_setup setup = {
		.before = WORDS("sh", "-c", "trap '' HUP; exec \"$0\" \"$@\""),
		.err_terminal = true,
	};
	struct tain_run *r = tain_start(
		&setup, WORDS("stress", "-b", "1M", "-t", "1h", "--seed", "61", "--stall", "20s", "--json", "r.json"));
	unsigned int before;

	tain_expect_work(r);
	kill(r->pid, SIGHUP);
	before = tain_count(r->err.text, " accesses checked, ");
	tain_expect(r, &r->err, " accesses checked, ", before + 2); /* it goes on */
	kill(r->pid, SIGINT);
	check_stopped(r, SIGINT);
}

static void a_signal_leaves_the_document_on_stdout_whole(void)
{
	struct tain_run *r = begun("soft", "20s", "-");

	kill(r->pid, SIGINT);
	tain_wait(r);
	CHECK_EQ(r->status, 130);
	CHECK_EQ(json_u64(tain_json(r->out.text), "seed"), 61);
}

static void a_signal_ends_a_benchmark(void)
{
	const struct tain_setup setup = { .err_terminal = true };

	for (size_t i = 0; i < ARRAY_SIZE(engines); i++) {
		struct tain_run *r;
		json_t *doc;

		if (i && !kvm_or_skip())
			return;
		r = tain_start(&setup, WORDS("bench", "fault", "-e", engines[i], "-b", "1M", "-i", "10000", "--seed",
					     "62", "--json", "r.json"));
		tain_expect(r, &r->err, " measurements done", 1);
		kill(r->pid, SIGTERM);
		tain_wait(r);
		CHECK_EQ(r->status, 143);
		CHECK(!r->killed);
		CHECK_CONTAINS(r->out.text, "\n  cause "); /* with as many rows as it got to */
		doc = tain_json_file("r.json");
		CHECK_EQ(json_u64(doc, "seed"), 62);
		CHECK_EQ(json_u64(doc, "status"), 143);
		CHECK(json_is_object(json_object_get(doc, "histograms")));
	}
}

static void a_signal_ends_the_figures(void)
{
	struct tain_run *r = tain_start(NULL, WORDS("bench", "figures", "-b", "1M", "-i", "16"));

	tain_expect(r, &r->out, "seed ", 1);
	kill(r->pid, SIGINT);
	tain_wait(r);
	CHECK_EQ(r->status, 130);
	CHECK(!r->killed);
}

/* Pages that the process has in memory. */
static u64 resident_pages(pid_t pid)
{
	unsigned long long pages = 0;
	char path[32];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/statm", pid);
	file = fopen(path, "re");
	if (!file || fscanf(file, "%*u %llu", &pages) != 1)
		pages = 0;
	if (file)
		fclose(file);
	return pages;
}

/* Before there is anything to print: while a large memory is prepared. */
static void a_signal_ends_the_preparation(void)
{
	struct cgroup_room limit;
	struct tain_run *r;

	if (machine_available_bytes(&limit) < 4ull << 30) {
		test_skip("too little memory");
		return;
	}
	r = tain_start(NULL, WORDS("stress", "-b", "1G", "-t", "1m"));
	while (resident_pages(r->pid) < 200 << 8 && !r->out.bytes && !tain_has_ended(r))
		tain_pause(10);
	kill(r->pid, SIGINT);
	tain_wait(r);
	CHECK_EQ(r->status, 130);
	CHECK(!r->killed);
	if (!r->out.bytes) /* a fast machine was through already */
		CHECK_STR(r->err.text, "tain: stopped before the guest ran: its memory was not prepared yet\n");
}

/* The second signal does not wait for the first one's work; the last word is its own or the first one's. */
static void a_second_signal_ends_at_once(void)
{
	struct tain_run *r = begun("soft", "20s", "r.json");

	kill(r->pid, SIGINT);
	kill(r->pid, SIGTERM);
	tain_wait(r);
	CHECK_MSG(r->status == 143 || r->status == 130, "exit status %d", r->status);
	CHECK(!r->killed);
}

/* Stopped for longer than a stall may last: nobody could make progress, and nobody is blamed. */
static void a_stopped_process_is_no_stall(void)
{
	struct tain_run *r = begun("soft", "1s", "r.json");
	unsigned int before;

	kill(r->pid, SIGSTOP);
	tain_pause(1500);
	before = tain_count(r->err.text, " accesses checked, ");
	kill(r->pid, SIGCONT);
	tain_expect(r, &r->err, " accesses checked, ", before + 3); /* time enough to blame somebody */
	kill(r->pid, SIGINT);
	check_stopped(r, SIGINT);
}

/* Files of tain's in shared memory. */
static unsigned int shm_files(void)
{
	DIR *dir = opendir("/dev/shm");
	struct dirent *entry;
	unsigned int n = 0;

	while (dir && (entry = readdir(dir)) != NULL)
		n += strstr(entry->d_name, "tain") != NULL;
	if (dir)
		closedir(dir);
	return n;
}

static void check_kill(const char *engine, const char *backing)
{
	const struct tain_setup setup = { .group = true, .err_terminal = true };
	struct tain_run *r = tain_start(
		&setup, WORDS("stress", "-e", engine, "-s", backing, "-t", "1h", "--seed", "63", "--json", "r.json"));
	pid_t group = r->pid;

	tain_expect_work(r);
	kill(r->pid, SIGKILL);
	tain_wait(r);
	CHECK_EQ(r->status, 128 + SIGKILL);
	CHECK_EQ(tain_dir_files(), 0);
	/* What it has started is in its group, and ends with it; the test's watchdog is the limit. */
	while (!kill(-group, 0))
		tain_pause(10);
	CHECK_EQ(errno, ESRCH);
}

static void a_kill_leaves_nothing(void)
{
	unsigned int before = shm_files();

	check_kill("soft", "anonymous");
	if (kvm_or_skip()) {
		check_kill("kvm", "anonymous");
		check_kill("kvm", "memfd");
	}
	CHECK_EQ(shm_files(), before);
}

/* The reader goes away: no crash, no complaint, the usual end. */
static void a_reader_that_leaves(void)
{
	const struct tain_setup setup = { .before = WORDS("sh", "-c", "\"$0\" \"$@\" | head -n 1") };
	const struct tain_run *r = TAIN_WITH(&setup, "stress", "-i", "50", "-d", "3000", "--seed", "31");

	CHECK_EQ(r->status, 0);
	CHECK_EQ(tain_count(r->out.text, "\n"), 1);
	check_heartbeats(r, "stress");
}

const struct test_case cmd_signal_tests[] = {
	TEST(sigint_prints_what_was_measured),
	TEST(sigterm_prints_what_was_measured),
	TEST(sighup_prints_what_was_measured),
	TEST(a_second_hangup_changes_nothing),
	TEST(a_hangup_that_was_ignored_stays_so),
	TEST(a_signal_leaves_the_document_on_stdout_whole),
	TEST(a_signal_ends_a_benchmark),
	TEST(a_signal_ends_the_figures),
	TEST(a_signal_ends_the_preparation),
	TEST(a_second_signal_ends_at_once),
	TEST(a_stopped_process_is_no_stall),
	TEST(a_kill_leaves_nothing),
	TEST(a_reader_that_leaves),
	TEST_END,
};
