/* SPDX-License-Identifier: MIT */
/* A control group that leaves little memory: what is refused, and what is told of a child that its OOM killer took. */
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lab/result/compare.h"
#include "lab/machine/machine.h"
#include "tests/lab_suites.h"

#define LIMIT (256ull << 20)
#define TOO_MUCH (2 * LIMIT)

static bool little_memory(void)
{
	return test_memory_group(LIMIT) && test_enter_group();
}

static void check_told(const char *text)
{
	CHECK_CONTAINS(text, " was killed by the OOM killer: /sys/fs/cgroup/");
	CHECK_CONTAINS(text, " allows 256 MiB: raise it, or use less");
}

static void too_much_is_refused(void)
{
	struct machine_config config = { .engine = engine_find("soft"), .vcpus = 1, .bytes = TOO_MUCH };
	struct cgroup_room limit;
	struct err err = { "" };

	if (!little_memory())
		return;
	CHECK_LE(machine_available_bytes(&limit), LIMIT);
	CHECK_EQ(limit.limit, LIMIT);
	CHECK_EQ(machine_check(&config, &err), -EINVAL);
	CHECK_CONTAINS(err.text, "512.0 MiB, and what goes with it, is more than what is left, ");
	config.bytes = 4 << 20;
	CHECK_EQ(machine_check(&config, &err), 0);
	config.beside_bytes = TOO_MUCH;
	CHECK_EQ(machine_check(&config, &err), -EINVAL);
}

/* In the child; the kernel touches it all. */
static void take_too_much(void *unused)
{
	syscall(SYS_mmap, 0, TOO_MUCH, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
}

static void nothing(void *unused)
{
}

static void a_forked_child(void)
{
	struct host host = { .backing = HOST_ANONYMOUS, .bytes = 64 << 10 };
	struct host_child child = { .born = take_too_much, .ends = nothing };
	struct err why = { "" };

	if (!little_memory())
		return;
	REQUIRE_EQ(host_create(&host, &why), 0);
	host.child = &child;
	CHECK_EQ(host.ops->begin(&host, OP_FORK, 0, host.bytes, &why), 0);
	CHECK_EQ(host.ops->end(&host, &why), -ECHILD);
	check_told(why.text);
	/* The next one is not taken for another's. */
	child.born = nothing;
	CHECK_EQ(host.ops->begin(&host, OP_FORK, 0, host.bytes, &why), 0);
	CHECK_EQ(host.ops->end(&host, &why), 0);
	host.child = NULL;
	host_destroy(&host);
}

/* Itself, and below a shell that lives on. */
static void a_command_of_compare(void)
{
	/* The first to go: a sanitized test program is larger than what they get. */
	static const char *const commands[] = {
		"echo 1000 >/proc/self/oom_score_adj; exec dd if=/dev/zero of=/dev/null bs=512M count=1 #",
		"(echo 1000 >/proc/self/oom_score_adj; exec dd if=/dev/zero of=/dev/null bs=512M count=1); exit $? #",
	};
	json_t *made[COMPARE_SIDES] = { NULL }, **docs[COMPARE_SIDES] = { &made[0], &made[1] };
	struct err err = { "" };

	if (!little_memory())
		return;
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		struct compare_run_config config = { .command = { commands[i], commands[i] }, .rounds = 1 };

		CHECK_EQ(compare_run(&config, docs, &err), -EIO);
		check_told(err.text);
	}
}

const struct test_case lab_memory_tests[] = {
	TEST(too_much_is_refused),
	TEST(a_forked_child),
	TEST(a_command_of_compare),
	TEST_END,
};
