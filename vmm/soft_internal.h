/* SPDX-License-Identifier: MIT */
/* What the files of the soft engine share. */
#ifndef VMM_SOFT_INTERNAL_H
#define VMM_SOFT_INTERNAL_H

#include "mmu/mmu.h"
#include "vmm/vmm_internal.h"

#include <setjmp.h>

struct soft_vm {
	struct frame_arena *arena;
	struct mmu *mmu;
	char mmu_label[16];
	const struct guest_native_entry *entry; /* what vCPUs run; constant once loaded */
};

/* Entries filled since the last flush are remembered up to here; beyond, a flush sweeps the TLB. */
#define SOFT_TLB_FILLED 128

/* Everything belongs to the thread that runs the vCPU, but for mmu and what an audit reads while it holds the vCPU. */
struct soft_vcpu {
	struct vcpu vcpu;
	struct guest_native native;
	u16 filled[SOFT_TLB_FILLED];
	u32 nr_filled; /* may exceed SOFT_TLB_FILLED */
	u32 fills;
	u32 retries; /* in a row */
	int error;   /* what ended the run, with text in *err */
	struct err *err;
	jmp_buf stop; /* leaves the guest, from outside guest mode */
	struct mmu_vcpu mmu;
};

static inline struct soft_vcpu *to_soft(struct vcpu *vcpu)
{
	return container_of(vcpu, struct soft_vcpu, vcpu);
}

static inline struct soft_vm *soft_vm(const struct vm *vm)
{
	return vm->priv;
}

int soft_vcpu_create(struct vm *vm, u32 id, struct vcpu **vcpu, struct err *err);
void soft_vcpu_destroy(struct vcpu *vcpu);
int soft_vcpu_run(struct vcpu *vcpu, vcpu_exit_fn *fn, void *arg, struct err *err);
void soft_vcpu_kick(struct vcpu *vcpu);

#endif /* VMM_SOFT_INTERNAL_H */
