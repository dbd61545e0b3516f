/* SPDX-License-Identifier: MIT */
/* Tests of mmu/ and of the software engine on top of it. */
#include "tests/mmu_env.h"
#include "tests/mmu_soft.h"

#define SUITE(suite, cases)                                                                                            \
	{                                                                                                              \
		.name = suite, .tests = cases                                                                          \
	}

int main(int argc, char **argv)
{
	static const struct test_suite suites[] = {
		SUITE("format", mmu_format_tests),     SUITE("iter", mmu_iter_tests),
		SUITE("slots", mmu_slot_tests),	       SUITE("fault", mmu_fault_tests),
		SUITE("races", mmu_race_tests),	       SUITE("slot_races", mmu_slot_race_tests),
		SUITE("dirty", mmu_dirty_tests),       SUITE("requests", mmu_request_tests),
		SUITE("matrix", mmu_matrix_tests),     SUITE("age", mmu_age_tests),
		SUITE("random", mmu_random_tests),     SUITE("soft", mmu_soft_tests),
		SUITE("soft_run", mmu_soft_run_tests), SUITE(NULL, NULL),
	};

	return test_main("mmu", suites, argc, argv);
}
