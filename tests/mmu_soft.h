/* SPDX-License-Identifier: MIT */
/* What the tests of the software engine share. */
#ifndef TESTS_MMU_SOFT_H
#define TESTS_MMU_SOFT_H

#define GUEST_NATIVE
#include "guest/native.h"
#include "lib/thread.h"
#include "mmu/mmu_internal.h"
#include "tests/test.h"
#include "vmm/soft_internal.h"

#define DATA_HVA 0x20000000ull
#define DATA_PAGES 64ull
#define DATA_BYTES (DATA_PAGES << PAGE_SHIFT)
#define RW (TAIN_PROT_READ | TAIN_PROT_WRITE)

/* Two vCPUs, DATA_BYTES of data, 4 MiB of arena. */
extern const struct vm_config soft_small;

/* What the handler saw. */
struct seen {
	unsigned int count[VCPU_EXIT_CRASH + 1];
	struct vcpu_exit last; /* of any reason but text */
	char text[256];
	/* NULL: go on after text and kicks alone. */
	bool (*decide)(struct vcpu *vcpu, const struct vcpu_exit *exit, struct seen *seen);
	void *arg;
};

bool soft_handler(struct vcpu *vcpu, const struct vcpu_exit *exit, void *arg);
/* A VM with its data mapped; @entry may be NULL. */
struct vm *soft_make_vm(const struct vm_config *config, const struct guest_native_entry *entry);
int soft_run(struct vm *vm, u32 vcpu, struct seen *seen, struct err *err);

static inline u64 data_gpa(u64 page)
{
	return GUEST_DATA_GPA + (page << PAGE_SHIFT);
}

extern const struct test_case mmu_soft_tests[], mmu_soft_run_tests[];

#endif /* TESTS_MMU_SOFT_H */
