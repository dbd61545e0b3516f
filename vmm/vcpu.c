/* SPDX-License-Identifier: MIT */
/* vCPUs as every engine sees them. */
#include "lib/atomic.h"
#include "vmm/vmm_internal.h"

u32 vcpu_id(const struct vcpu *vcpu)
{
	return vcpu->id;
}

int vcpu_run(struct vcpu *vcpu, vcpu_exit_fn *fn, void *arg, struct err *err)
{
	struct vm *vm = vcpu->vm;
	int ret;

	if (!vm->loaded)
		return err_set(err, -EINVAL, "vCPU %u has no guest to run; load one first", vcpu->id);
	if (xchg(&vcpu->running, 1))
		return err_set(err, -EBUSY, "vCPU %u is running already", vcpu->id);
	vcpu->fn = fn;
	vcpu->arg = arg;
	ret = vm->engine->vcpu_run(vcpu, fn, arg, err);
	smp_store_release(&vcpu->running, 0); /* pairs with the xchg: the next run sees what this one left */
	return ret;
}

void vcpu_kick(struct vcpu *vcpu)
{
	vcpu->vm->engine->vcpu_kick(vcpu);
}
