/* SPDX-License-Identifier: MIT */
/* The tests of lab/: this file lists the suites, tests/lab_*.c hold them. */
#include "tests/lab_suites.h"

int main(int argc, char **argv)
{
	static const struct test_suite suites[] = {
		{ "plan", lab_plan_tests, NULL, NULL },
		{ "oracle", lab_oracle_tests, NULL, NULL },
		{ "step", lab_step_tests, NULL, NULL },
		{ "step_refused", lab_step_refused_tests, NULL, NULL },
		{ "host", lab_host_tests, NULL, NULL },
		{ "result", lab_result_tests, NULL, NULL },
		{ "stress", lab_stress_tests, NULL, NULL },
		{ "mutant", lab_mutant_tests, NULL, NULL },
		{ "kvm", lab_kvm_tests, NULL, NULL },
		{ "bench", lab_bench_tests, NULL, NULL },
		{ "bench_notifier", lab_bench_notifier_tests, NULL, NULL },
		{ "bench_fault", lab_bench_fault_tests, NULL, NULL },
		{ "interference", lab_interference_tests, NULL, NULL },
		{ "compare", lab_compare_tests, NULL, NULL },
		{ "compare_stats", lab_compare_stats_tests, NULL, NULL },
		{ "shard", lab_shard_tests, NULL, NULL },
		{ "merge", lab_merge_tests, NULL, NULL },
		{ "merge_bad", lab_merge_bad_tests, NULL, NULL },
		{ "guardian", lab_guardian_tests, NULL, NULL },
		{ "host_ops", lab_host_ops_tests, NULL, NULL },
		{ "watch", lab_watch_tests, NULL, NULL },
		{ "uffd", lab_uffd_tests, NULL, NULL },
		{ "fault", lab_fault_tests, NULL, NULL },
		{ "fault_cause", lab_fault_cause_tests, NULL, NULL },
		{ "fault_page", lab_fault_page_tests, NULL, NULL },
		{ "process", lab_process_tests, NULL, NULL },
		{ "memory", lab_memory_tests, NULL, NULL },
		{ "plan_file", lab_plan_file_tests, NULL, NULL },
		{ "shrink", lab_shrink_tests, NULL, NULL },
		{ "matrix", lab_matrix_tests, NULL, NULL },
		{ "matrix_range", lab_matrix_range_tests, NULL, NULL },
		{ "vm_op", lab_vm_op_tests, NULL, NULL },
		{ "outside", lab_outside_tests, NULL, NULL },
		{ "bench_outside", lab_bench_outside_tests, NULL, NULL },
		{ "all_ops", lab_all_ops_tests, NULL, NULL },
		{ NULL, NULL, NULL, NULL },
	};

	return test_main("lab", suites, argc, argv);
}
