/* SPDX-License-Identifier: MIT */
/* --allow-system: one tain at a time, whatever separates them, and nothing stays changed, whoever is killed. */
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "lab/guardian.h"
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
	CHECK_EQ(run_idle(&setup), 0);
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

const struct test_case cmd_guardian_tests[] = {
	TEST(namespaces_have_one_machine),
	TEST(nobody_else_can_take_it),
	TEST_END,
};
