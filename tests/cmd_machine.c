/* SPDX-License-Identifier: MIT */
/* The machine's own switches, before and after a tain that may change them: see tests/cmd_env.h. */
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/thread.h"
#include "lib/time.h"
#include "tests/cmd_env.h"

static const char *const switches[MACHINE_SWITCHES] = {
	"/sys/kernel/mm/ksm/run",
	"/sys/kernel/mm/ksm/pages_to_scan",
	"/sys/kernel/mm/ksm/sleep_millisecs",
	"/proc/sys/vm/nr_hugepages",
	"/proc/swaps",
	"/sys/kernel/mm/transparent_hugepage/enabled",
};

void read_machine(struct machine_state *s)
{
	for (size_t i = 0; i < ARRAY_SIZE(switches); i++) {
		FILE *f = fopen(switches[i], "r");
		size_t n = f ? fread(s->text[i], 1, sizeof(s->text[i]) - 1, f) : 0;

		s->text[i][n] = '\0';
		if (f)
			fclose(f);
	}
}

bool same_machine(const struct machine_state *a, const struct machine_state *b, size_t *differs)
{
	for (*differs = 0; *differs < ARRAY_SIZE(switches); (*differs)++)
		if (strcmp(a->text[*differs], b->text[*differs]))
			return false;
	return true;
}

void check_machine(const struct machine_state *before)
{
	struct machine_state now;
	u64 end = clock_ns() + PUT_BACK_NS;
	size_t i = 0;
	bool same;

	do {
		read_machine(&now);
		same = same_machine(before, &now, &i);
		if (!same)
			thread_sleep_ns(10 * NSEC_PER_MSEC);
	} while (!same && clock_ns() < end);
	if (same)
		i = 0; /* none differs: any will do to be named */
	CHECK_MSG(same, "%s: '%s', and was '%s'", switches[i], now.text[i], before->text[i]);
}

bool may_change_the_machine(void)
{
	if (!kvm_or_skip())
		return false;
	if (!geteuid() && !access(switches[0], W_OK)) {
		test_own_machine();
		return true;
	}
	test_skip("KSM cannot be switched here: not root, or the kernel has none");
	return false;
}

/* --- killed in the middle --------------------------------------------------------------------- */

#define KILLS 20 /* a machine that is changed for a moment only may be missed, or seen when it is over */

/* Processes that run this program's tain, and were not started by this program: its guardian, its children. */
static unsigned int left_over(void)
{
	char path[64], exe[256], text[512], *want = realpath(tain_program(), NULL), *at;
	unsigned int n = 0;
	struct dirent *d;
	DIR *proc = opendir("/proc");
	int ppid;

	while (proc && (d = readdir(proc)) != NULL) {
		ssize_t bytes;
		FILE *f;

		snprintf(path, sizeof(path), "/proc/%.20s/exe", d->d_name);
		bytes = readlink(path, exe, sizeof(exe) - 1);
		exe[bytes > 0 ? bytes : 0] = 0;
		snprintf(path, sizeof(path), "/proc/%.20s/stat", d->d_name);
		f = bytes > 0 && want && !strcmp(exe, want) ? fopen(path, "re") : NULL;
		if (!f)
			continue;
		at = fgets(text, sizeof(text), f) ? strrchr(text, ')') : NULL;
		fclose(f);
		n += at && sscanf(at, ") %*c %d", &ppid) == 1 && ppid != getpid();
	}
	if (proc)
		closedir(proc);
	free(want);
	return n;
}

/* Kill a run when it has changed the machine. Return: false: it was over already. */
static bool kill_when_changed(const struct machine_state *before, const char *const *words)
{
	struct tain_run *r = tain_start(NULL, words);
	struct machine_state now;
	unsigned int others;
	bool changed = false;
	size_t i;

	while (!changed && !tain_has_ended(r)) {
		read_machine(&now);
		changed = !same_machine(before, &now, &i);
	}
	others = left_over();
	kill(r->pid, SIGKILL);
	tain_wait(r);
	if (!changed || r->status != 128 + SIGKILL)
		return false;
	CHECK_GT(others, 0); /* its guardian, at least */
	return true;
}

void kill_in_the_middle(const char *const *words)
{
	struct machine_state before;
	bool killed = false;

	read_machine(&before);
	for (int i = 0; i < KILLS && !killed && !test_failures(); i++)
		killed = kill_when_changed(&before, words);
	CHECK_MSG(killed, "something of the machine was changed");
	check_machine(&before);
	/* PR_SET_PDEATHSIG ends a child; its guest had a VM of its own. The test's watchdog is the limit. */
	while (left_over())
		thread_sleep_ns(10 * NSEC_PER_MSEC);
}
