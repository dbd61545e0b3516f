/* SPDX-License-Identifier: MIT */
/* The tests of mm/: this file lists the suites, tests/mm_*.c hold them. */
#include "tests/mm_env.h"

int main(int argc, char **argv)
{
	static const struct test_suite suites[] = {
		{ "frame", mm_frame_tests, NULL, NULL },    { "buddy", mm_buddy_tests, NULL, NULL },
		{ "vma", mm_vma_tests, NULL, NULL },	    { "pte", mm_pte_tests, NULL, NULL },
		{ "op", mm_op_tests, NULL, NULL },	    { "bad", mm_bad_tests, NULL, NULL },
		{ "model", mm_model_tests, NULL, NULL },    { "fail", mm_fail_tests, NULL, NULL },
		{ "fault", mm_fault_tests, NULL, NULL },    { "race", mm_race_tests, NULL, NULL },
		{ "thread", mm_thread_tests, NULL, NULL },  { "life", mm_life_tests, NULL, NULL },
		{ "rmap", mm_rmap_tests, NULL, NULL },	    { "lock_all", mm_lock_all_tests, NULL, NULL },
		{ "file", mm_file_tests, NULL, NULL },	    { "pin", mm_pin_tests, NULL, NULL },
		{ "mutants", mm_mutant_tests, NULL, NULL }, { NULL, NULL, NULL, NULL },
	};

	return test_main("mm", suites, argc, argv);
}
