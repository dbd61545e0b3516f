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
		{ "admit", notifier_admit_tests, NULL, NULL },
		{ "leave", notifier_leave_tests, NULL, NULL },
		{ "locked", notifier_locked_tests, NULL, NULL },
		{ "get", notifier_get_tests, NULL, NULL },
		{ "interval", notifier_interval_tests, NULL, NULL },
		{ "emm", notifier_emm_tests, NULL, NULL },
		{ "mutant", notifier_mutant_tests, NULL, NULL },
		{ "stress", notifier_stress_tests, NULL, NULL },
		{ NULL, NULL, NULL, NULL },
	};

	return test_main("notifier", suites, argc, argv);
}
