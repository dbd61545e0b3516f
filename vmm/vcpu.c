/* SPDX-License-Identifier: MIT */
/* vCPUs as every engine sees them: running, kicking, ports. */
#include "lib/atomic.h"
#include "vmm/vmm_internal.h"

#include <string.h>

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

static bool port_exit(struct vcpu *vcpu, const void *data, u32 bytes)
{
	struct vcpu_exit exit = { .reason = VCPU_EXIT_DONE };

	memcpy(&exit.code, data, min(bytes, (u32)sizeof(exit.code))); /* the low bytes come first */
	vcpu_report(vcpu, &exit);
	return false;
}

bool vm_port_out(struct vcpu *vcpu, u32 port, const void *data, u32 bytes, u32 count)
{
	struct vcpu_exit exit = { .reason = VCPU_EXIT_TEXT, .data = data, .bytes = (size_t)bytes * count };

	if (port == GUEST_PORT_EXIT && count)
		return port_exit(vcpu, data, bytes);
	if ((port == GUEST_PORT_TEXT || port == GUEST_PORT_BYTES) && bytes == 1)
		return vcpu_report(vcpu, &exit);
	exit = (struct vcpu_exit){ .reason = VCPU_EXIT_CRASH };
	err_set(&exit.err, 0, "the guest wrote %u bytes, %u times, to port %#x; nothing is there", bytes, count, port);
	return vcpu_report(vcpu, &exit);
}
