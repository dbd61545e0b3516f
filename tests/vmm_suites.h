/* SPDX-License-Identifier: MIT */
/* The suites of tests/vmm_*.c. */
#ifndef TESTS_VMM_SUITES_H
#define TESTS_VMM_SUITES_H

#include "tests/test.h"

extern const struct test_case vmm_elf_tests[], vmm_console_tests[], vmm_guest_tests[], vmm_stamp_tests[],
	vmm_soft_tests[], vmm_kvm_tests[], vmm_kvm_exit_tests[], vmm_qemu_tests[], vmm_domain_tests[], vmm_log_tests[],
	vmm_lost_tests[];

#endif /* TESTS_VMM_SUITES_H */
