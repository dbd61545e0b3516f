/* SPDX-License-Identifier: MIT */
/*
 * End-to-end tests of the command, which they run as people and scripts do. The tain of
 * this program's own build is tested (build/VARIANT/tain), or the one TAIN_BIN names.
 */
#include "tests/cmd_env.h"
#include "tests/cmd_suites.h"

/* clang-format off */
#define SUITE(name) { #name, cmd_##name##_tests, cmd_env_setup, cmd_env_teardown }
/* clang-format on */

int main(int argc, char **argv)
{
	/* clang-format off */
	static const struct test_suite suites[] = {
		SUITE(help),
		SUITE(list),
		SUITE(bad),
		SUITE(elf),
		SUITE(boot),
		SUITE(limits),
		SUITE(run),
		SUITE(stress),
		SUITE(bench),
		SUITE(weather),
		SUITE(guardian),
		SUITE(storm),
		SUITE(compare),
		SUITE(merge),
		SUITE(fleet),
		SUITE(signal),
		SUITE(terminal),
		SUITE(mutant),
		SUITE(plan),
		SUITE(fuzz),
		SUITE(uffd),
		SUITE(matrix),
		SUITE(qemu),
		SUITE(linux),
		SUITE(trace),
		SUITE(probe),
		{ NULL, NULL, NULL, NULL },
	};
	/* clang-format on */

	if (argc < 2)
		heartbeat_begin();
	return test_main("cmd", suites, argc, argv);
}
