/* SPDX-License-Identifier: MIT */
/* The suites of tests/lab_*.c, and the fake host they share. */
#ifndef TESTS_LAB_SUITES_H
#define TESTS_LAB_SUITES_H

#include "lab/host/host.h"
#include "tests/test.h"

extern const struct test_case lab_plan_tests[], lab_oracle_tests[], lab_step_tests[], lab_step_refused_tests[],
	lab_host_tests[], lab_result_tests[], lab_stress_tests[], lab_mutant_tests[], lab_kvm_tests[],
	lab_bench_tests[], lab_bench_notifier_tests[];
extern const struct test_case lab_guardian_tests[], lab_host_ops_tests[];
extern const struct test_case lab_all_ops_tests[], lab_compare_tests[], lab_compare_stats_tests[];
extern const struct test_case lab_watch_tests[], lab_uffd_tests[];
extern const struct test_case lab_matrix_range_tests[];
extern const struct test_case lab_matrix_tests[], lab_merge_tests[], lab_merge_bad_tests[], lab_shard_tests[];
extern const struct test_case lab_bench_fault_tests[], lab_interference_tests[];
extern const struct test_case lab_plan_file_tests[], lab_shrink_tests[], lab_vm_op_tests[], lab_outside_tests[];
extern const struct test_case lab_bench_outside_tests[];
extern const struct test_case lab_fault_tests[], lab_fault_page_tests[], lab_process_tests[], lab_memory_tests[];
extern const struct test_case lab_fault_cause_tests[];

/*
 * A host of a few pages in plain memory, which calls a hook at every point where a
 * guest could do something: before and after each operation and each word written.
 */
#define FAKE_PAGES 4

enum fake_access { FAKE_NONE, FAKE_READ, FAKE_WRITE };

struct fake_host {
	struct host host;
	u64 data[FAKE_PAGES][PAGE_SIZE / sizeof(u64)];
	u64 limbo[FAKE_PAGES][PAGE_SIZE / sizeof(u64)];
	enum fake_access access[FAKE_PAGES];
	/* A vCPU with a stale translation still reaches limbo, or what is protected. */
	u64 (*stale)[PAGE_SIZE / sizeof(u64)];
	bool keep_limbo; /* unmap and remap leave the old pages in limbo, as a memfd does */
	u64 points;	 /* hooks so far */
	void (*hook)(struct fake_host *fake);
	void *arg;
	const char *fail_op; /* this operation fails with -ENOMEM; "unsupported:NAME" with -EOPNOTSUPP */
};

void fake_host_init(struct fake_host *fake, enum host_backing backing);

/* --- lab_env.c --------------------------------------------------------------------- */

/* Does engine kvm run here? Otherwise the test has been skipped with the reason. */
bool have_kvm(void);

/* Words as an option takes them, and what they mean; 0: they are refused, with text. */
struct list_row {
	const char *list;
	u32 set;
};

void check_lists(const struct list_row *rows, size_t nr, int (*parse)(const char *list, u32 *set, struct err *err));

#endif /* TESTS_LAB_SUITES_H */
