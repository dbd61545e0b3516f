/* SPDX-License-Identifier: MIT */
/* The machine's own switches, before and after a tain that may change them: see tests/cmd_env.h. */
#include <stdio.h>
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
	if (!geteuid() && !access(switches[0], W_OK))
		return true;
	test_skip("KSM cannot be switched here: not root, or the kernel has none");
	return false;
}
