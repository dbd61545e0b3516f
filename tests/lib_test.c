/* SPDX-License-Identifier: MIT */
/* The tests of lib/: this file lists the suites, tests/lib_*.c hold them. */
#include "tests/lib_suites.h"

int main(int argc, char **argv)
{
	static const struct test_suite suites[] = {
		{ "base", lib_base_tests, NULL, NULL },
		{ "lock", lib_lock_tests, NULL, NULL },
		{ "check", lib_check_tests, NULL, NULL },
		{ "wait", lib_wait_tests, NULL, NULL },
		{ "rcu", lib_rcu_tests, NULL, NULL },
		{ "srcu", lib_srcu_tests, NULL, NULL },
		{ "hist", lib_hist_tests, NULL, NULL },
		{ "option", lib_option_tests, NULL, NULL },
		{ "trace", lib_trace_tests, NULL, NULL },
		{ "race", lib_race_tests, NULL, NULL },
		{ "json", lib_json_tests, NULL, NULL },
		{ "cgroup", lib_cgroup_tests, NULL, NULL },
		{ NULL, NULL, NULL, NULL },
	};

	return test_main("lib", suites, argc, argv);
}
