/* SPDX-License-Identifier: MIT */
/* The suites of tests/lib_*.c. */
#ifndef TESTS_LIB_SUITES_H
#define TESTS_LIB_SUITES_H

#include "tests/test.h"

extern const struct test_case lib_base_tests[], lib_lock_tests[], lib_check_tests[], lib_wait_tests[], lib_rcu_tests[],
	lib_srcu_tests[], lib_hist_tests[], lib_option_tests[], lib_trace_tests[], lib_race_tests[], lib_json_tests[],
	lib_cgroup_tests[];

#endif /* TESTS_LIB_SUITES_H */
