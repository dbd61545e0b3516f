/* SPDX-License-Identifier: MIT */
/* The tests of notifier/: this file lists the suites, tests/notifier_*.c hold them. */
#include "tests/notifier_env.h"

int main(int argc, char **argv)
{
	static const struct test_suite suites[] = {
		{ "register", notifier_register_tests, NULL, NULL },
		{ "range", notifier_range_tests, NULL, NULL },
		{ "race", notifier_race_tests, NULL, NULL },
		{ "mirror", notifier_mirror_tests, NULL, NULL },
		{ NULL, NULL, NULL, NULL },
	};

	return test_main("notifier", suites, argc, argv);
}
