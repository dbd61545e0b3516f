/* SPDX-License-Identifier: MIT */
/* --allow-system: one tain at a time, whatever separates them, and nothing stays changed, whoever is killed. */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "lab/system/guardian.h"
#include "tests/cmd_env.h"
#include "tests/cmd_suites.h"

/* A run that changes nothing, and may. */
#define IDLE "stress", "-q", "-e", "soft", "-i", "1", "--time", "1h", "--ops", "munmap", "--allow-system"

/* The guardian of this process, or a skip. */
static bool guardian_or_skip(void)
{
	struct err err = { "" };

	if (!may_change_the_machine())
		return false;
	if (!guardian_start(&err))
		return true;
	test_skip("%s", err.text);
	return false;
}

/* While a run that is no test's has the machine, again. */
static int run_idle(const struct tain_setup *setup)
{
	const u64 end = clock_ns() + PUT_BACK_NS;
	int status;

	do
		status = TAIN_WITH(setup, IDLE)->status;
	while (status == 4 && clock_ns() < end);
	return status;
}

/*
 * Network namespaces have each a sysfs and abstract sockets, pid namespaces a procfs: two runs changed the machine,
 * and the second put back what the first had written.
 */
static void namespaces_have_one_machine(void)
{
	static const char *const splits[] = { "-n", "-nm", "-nmiu" };
	struct tain_setup setup = { NULL };
	const struct tain_run *r;

	if (!program_or_skip("unshare") || !guardian_or_skip())
		return;
	for (size_t i = 0; i < ARRAY_SIZE(splits); i++) {
		bool mounts = strchr(splits[i], 'm');

		setup.before = WORDS("unshare", splits[i], "sh", "-c",
				     mounts ? "mount -t sysfs s /sys && exec \"$0\" \"$@\"" : "exec \"$0\" \"$@\"");
		r = TAIN_WITH(&setup, IDLE);
		CHECK_MSG(r->status == 4, "unshare %s: exit status %d: %s", splits[i], r->status, r->err.text);
		CHECK_STR(r->err.text,
			  "tain: --allow-system: another tain changes this machine, or is putting it back\n");
	}
	guardian_stop(NULL);
	setup.before = WORDS("unshare", "-n");
	CHECK_EQ(run_idle(&setup), 0);
}

/* Status 4: the document says why. */
static void a_machine_that_is_taken_is_told(void)
{
	static const char *const commands[][5] = {
		{ "stress", "-e", "soft" },
		{ "matrix", "-e", "soft" },
		{ "bench", "fault", "-e", "soft" },
	};

	if (!guardian_or_skip())
		return;
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		const char *words[10] = { NULL };
		const struct tain_run *r;
		json_t *doc, *skip;
		size_t n = 0;

		for (; commands[i][n]; n++)
			words[n] = commands[i][n];
		memcpy(words + n, WORDS("--allow-system", "--json", "busy.json"), 3 * sizeof(*words));
		r = tain_run(NULL, words);
		CHECK_MSG(r->status == 4, "%s: exit status %d: %s", r->name, r->status, r->err.text);
		doc = tain_json_file("busy.json");
		if (!doc)
			continue;
		CHECK_EQ(json_u64(doc, "status"), 4);
		skip = json_array_get(json_object_get(doc, "skips"), 0);
		CHECK_STR(json_text(skip, "what"), "--allow-system");
		CHECK_STR(json_text(skip, "why"), "another tain changes this machine, or is putting it back");
	}
	guardian_stop(NULL);
}

/* What any user can bind or lock. */
static void nobody_else_can_take_it(void)
{
	static const char name[] = "tain-guardian";
	static const char *const places[] = { "/sys/kernel/mm/ksm", "/sys/kernel/mm/ksm/run" };
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), file[ARRAY_SIZE(places)];

	if (!may_change_the_machine())
		return;
	memcpy(address.sun_path + 1, name, sizeof(name));
	if (bind(fd, (struct sockaddr *)&address, offsetof(struct sockaddr_un, sun_path) + sizeof(name)))
		printf("%s is bound by another\n", name);
	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		file[i] = open(places[i], O_RDONLY | O_CLOEXEC);
		CHECK_EQ(flock(file[i], LOCK_EX | LOCK_NB), 0);
	}
	CHECK_EQ(run_idle(NULL), 0);
	for (size_t i = 0; i < ARRAY_SIZE(places); i++)
		close(file[i]);
	close(fd);
}

/* The guardian of @tain; 0: it has none yet, or no more. */
static pid_t guardian_of(pid_t tain)
{
	char path[64], text[512], *at;
	struct dirent *d;
	DIR *proc = opendir("/proc");
	pid_t found = 0;
	int ppid;
	FILE *f;

	while (proc && !found && (d = readdir(proc))) {
		snprintf(path, sizeof(path), "/proc/%.20s/stat", d->d_name);
		f = d->d_name[0] >= '1' && d->d_name[0] <= '9' ? fopen(path, "re") : NULL;
		if (!f)
			continue;
		at = fgets(text, sizeof(text), f) ? strstr(text, "(tain-guardian) ") : NULL;
		fclose(f);
		if (at && sscanf(at, "(tain-guardian) %*c %d", &ppid) == 1 && ppid == tain)
			found = atoi(d->d_name);
	}
	if (proc)
		closedir(proc);
	return found;
}

#define CHANGES                                                                                                        \
	"stress", "-q", "-e", "kvm", "-b", "4M", "--ops", "merge=9,pageout,munmap", "--allow-system", "--time", "10m", \
		"-i", "1000000000"

/* Start @words; return when the machine is changed, or when it is over. */
static struct tain_run *start_changes(const struct machine_state *before, const char *const *words)
{
	struct tain_run *r = tain_start(NULL, words);
	struct machine_state now;
	size_t i;

	do
		read_machine(&now);
	while (same_machine(before, &now, &i) && !tain_has_ended(r));
	return r;
}

/* Unguarded, tain would leave everything changed if it were killed next. */
static void a_killed_guardian_ends_the_run(void)
{
	struct machine_state before;
	struct tain_run *r;
	pid_t guardian;

	if (!guardian_or_skip())
		return;
	guardian_stop(NULL);
	read_machine(&before);
	r = start_changes(&before, WORDS(CHANGES, "--json", "r.json"));
	guardian = guardian_of(r->pid);
	if (CHECK_GT(guardian, 0))
		kill(guardian, SIGKILL);
	tain_wait(r);
	CHECK_MSG(r->status == 1, "exit status %d: %s", r->status, r->err.text);
	CHECK_CONTAINS(r->err.text, "tain: --allow-system: the guardian process was killed, so the run was ended; all "
				    "is put back\n");
	CHECK_EQ(json_u64(tain_json_file("r.json"), "status"), 1);
	check_machine(&before);
}

/* As a container's end does it. Return: false: the machine was not changed at that moment. */
static bool kill_both(const struct machine_state *before)
{
	struct tain_run *r = start_changes(before, WORDS(CHANGES));
	pid_t guardian = guardian_of(r->pid);
	struct machine_state now;
	size_t i;

	kill(r->pid, SIGSTOP); /* it would put things back itself */
	if (guardian)
		kill(guardian, SIGKILL);
	kill(r->pid, SIGKILL);
	tain_wait(r);
	read_machine(&now);
	return !same_machine(before, &now, &i);
}

static void the_next_run_puts_back(void)
{
	struct machine_state before;
	const struct tain_run *r;
	bool changed = false;

	if (!guardian_or_skip())
		return;
	guardian_stop(NULL);
	read_machine(&before);
	for (int i = 0; i < 20 && !changed && !test_failures(); i++)
		changed = kill_both(&before);
	if (!CHECK_MSG(changed, "something of the machine was changed"))
		return;
	r = TAIN("doctor", "-q");
	CHECK_CONTAINS(r->out.text, "left changed     missing  changed by a tain that was killed with its guardian: ");
	CHECK_CONTAINS(r->out.text, "repair: sudo tain stress -q -i 1 --ops munmap --allow-system ");
	do
		r = TAIN("stress", "-q", "-i", "1", "--ops", "munmap", "--allow-system");
	while (r->status == 4); /* another's, or a child of the dead one; the watchdog is the limit */
	CHECK_EQ(r->status, 0);
	CHECK_STR(r->err.text,
		  "tain: --allow-system: put back what a tain had changed that was killed with its guardian\n");
	check_machine(&before);
	r = TAIN("doctor");
	CHECK_CONTAINS(r->out.text, "left changed     ok       nothing of the machine stands changed by a killed tain");
}

static u64 merged_here(void)
{
	unsigned long long n = 0;
	FILE *f = fopen("/proc/self/ksm_merging_pages", "re");

	if (f && fscanf(f, "%llu", &n) != 1)
		n = 0;
	if (f)
		fclose(f);
	return n;
}

static bool ksm_is_at_rest(void)
{
	static const char *const files[] = { "/sys/kernel/mm/ksm/run", "/sys/kernel/mm/ksm/pages_shared",
					     "/sys/kernel/mm/ksm/ksm_zero_pages" };
	bool rest = !access("/proc/self/ksm_merging_pages", R_OK);

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		FILE *f = fopen(files[i], "re");

		rest &= !f || fgetc(f) == '0';
		if (f)
			fclose(f);
	}
	return rest;
}

/* KSM looks at every process while it is on. */
static void others_pages_are_not_left_merged(void)
{
	static const int signals[] = { SIGINT, SIGKILL };
	const size_t bytes = 4 << 20;
	struct machine_state before;
	struct tain_run *r;
	void *at;

	if (!guardian_or_skip())
		return;
	guardian_stop(NULL);
	if (!ksm_is_at_rest()) {
		test_skip("something is merged already, or the kernel does not tell");
		return;
	}
	at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	REQUIRE(at != MAP_FAILED);
	madvise(at, bytes, MADV_NOHUGEPAGE);
	memset(at, 0x5a, bytes);
	CHECK_EQ(madvise(at, bytes, MADV_MERGEABLE), 0);
	read_machine(&before);
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
		r = tain_start(NULL, WORDS(CHANGES));
		while (!merged_here() && !tain_has_ended(r))
			tain_pause(1);
		CHECK_MSG(!tain_has_ended(r), "pages of this process were merged: %s", r->err.text);
		kill(r->pid, signals[i]);
		tain_wait(r);
		check_machine(&before);
		for (u64 end = clock_ns() + PUT_BACK_NS; merged_here() && clock_ns() < end;)
			tain_pause(10);
		CHECK_EQ(merged_here(), 0);
	}
	munmap(at, bytes);
}

const struct test_case cmd_guardian_tests[] = {
	TEST(namespaces_have_one_machine),
	TEST(a_machine_that_is_taken_is_told),
	TEST(nobody_else_can_take_it),
	TEST(a_killed_guardian_ends_the_run),
	TEST(the_next_run_puts_back),
	TEST(others_pages_are_not_left_merged),
	TEST_END,
};
