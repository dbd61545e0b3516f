/* SPDX-License-Identifier: MIT */
/* The tests of vmm/ and guest/: this file lists the suites, tests/vmm_*.c hold them. */
#include "tests/vmm_suites.h"

int main(int argc, char **argv)
{
	static const struct test_suite suites[] = {
		{ "elf", vmm_elf_tests, NULL, NULL },		{ "console", vmm_console_tests, NULL, NULL },
		{ "guest", vmm_guest_tests, NULL, NULL },	{ "stamp", vmm_stamp_tests, NULL, NULL },
		{ "soft", vmm_soft_tests, NULL, NULL },		{ "kvm", vmm_kvm_tests, NULL, NULL },
		{ "kvm_exit", vmm_kvm_exit_tests, NULL, NULL }, { "domain", vmm_domain_tests, NULL, NULL },
		{ "log", vmm_log_tests, NULL, NULL },		{ "lost", vmm_lost_tests, NULL, NULL },
		{ "qemu", vmm_qemu_tests, NULL, NULL },		{ NULL, NULL, NULL, NULL },
	};

	return test_main("vmm", suites, argc, argv);
}
