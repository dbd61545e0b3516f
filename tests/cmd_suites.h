/* SPDX-License-Identifier: MIT */
/* The suites of tests/cmd_*.c. */
#ifndef TESTS_CMD_SUITES_H
#define TESTS_CMD_SUITES_H

#include "tests/test.h"

extern const struct test_case cmd_help_tests[], cmd_list_tests[], cmd_run_tests[], cmd_stress_tests[],
	cmd_bench_tests[], cmd_signal_tests[], cmd_terminal_tests[], cmd_mutant_tests[], cmd_bad_tests[],
	cmd_elf_tests[], cmd_limits_tests[], cmd_fuzz_tests[], cmd_plan_tests[];
extern const struct test_case cmd_compare_tests[], cmd_uffd_tests[];
extern const struct test_case cmd_matrix_tests[], cmd_boot_tests[], cmd_qemu_tests[], cmd_linux_tests[];
extern const struct test_case cmd_weather_tests[], cmd_storm_tests[], cmd_guardian_tests[];
extern const struct test_case cmd_trace_tests[], cmd_probe_tests[];
extern const struct test_case cmd_merge_tests[], cmd_fleet_tests[];

/* A run that takes long and needs no attention: started before the first test, looked at by its own. */
void heartbeat_begin(void);

#endif /* TESTS_CMD_SUITES_H */
