/* SPDX-License-Identifier: MIT */
/* What is done to a running domain as a whole, through libvirt. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/qemu_internal.h"

void qemu_look_outside(struct vm *vm, struct vm_outside *to)
{
	const struct qemu_vm *q = to_qemu(vm);
	const struct qemu_layout *l = &q->layout;

	*to = (struct vm_outside){
		.pidfd = q->domain.pidfd,
		.ram = q->domain.ram,
		.pid = q->domain.pid,
		.data_offset = qemu_in_ram(l, l->data_offset),
		.data_hva = q->domain.hva + qemu_in_ram(l, l->data_offset),
		.own_hva = l->ram_start ? q->domain.below : q->domain.hva,
		.own_private = l->ram_start,
		.own_bytes = qemu_config.under_linux ? GUEST_SHARED_GPA : 0,
		.kvm = q->kvm,
		.lost = READ_ONCE(q->lost),
		.downtime_ns = q->downtime_ns,
	};
}

static int ask_stats(struct qemu_vm *q, struct err *err)
{
	virDomainMemoryStatStruct stat[VIR_DOMAIN_MEMORY_STAT_NR];
	int n = virt->virDomainMemoryStats(q->domain.handle, stat, VIR_DOMAIN_MEMORY_STAT_NR, 0);

	if (n < 0)
		return virt_error(err, "memory statistics");
	for (int i = 0; i < n; i++)
		if (stat[i].tag == VIR_DOMAIN_MEMORY_STAT_RSS && stat[i].val)
			return 0;
	return err_set(err, -EIO, "memory statistics: QEMU has no resident memory");
}

/* What libvirt said of a call that failed because libvirtd itself is not there any more says so least of all. */
int qemu_add_gone(const struct qemu_vm *q, int ret, struct err *err)
{
	char text[sizeof(err->text)];

	if (!ret || !err || virt->virConnectIsAlive(q->connection) == 1)
		return ret;
	snprintf(text, sizeof(text), "%s", err->text);
	return err_set(err, ret, "%.240s; libvirtd has gone, was restarted, or hangs", text);
}

static int control(struct vm *vm, enum vm_control what, struct err *err)
{
	struct qemu_vm *q = to_qemu(vm);

	switch (what) {
	case VM_SUSPEND:
		return virt->virDomainSuspend(q->domain.handle) ? virt_error(err, "suspend") : 0;
	case VM_RESUME:
		return virt->virDomainResume(q->domain.handle) ? virt_error(err, "resume") : 0;
	case VM_STATUS:
		return qemu_tell(&q->domain, "{\"execute\":\"query-status\"}", err);
	case VM_MIGRATE:
		return qemu_migrate(vm, err);
	case VM_PLUG:
		return qemu_plug(vm, err);
	case VM_UNPLUG:
		return qemu_unplug(vm, err);
	case VM_STATS:
		return ask_stats(q, err);
	default:
		return err_set(err, -EOPNOTSUPP, "engine qemu has no such control");
	}
}

int qemu_control(struct vm *vm, enum vm_control what, struct err *err)
{
	if (what == VM_RESTORE) /* says it by itself, in time for those who wait for the domain */
		return qemu_save_restore(vm, err);
	return qemu_add_gone(to_qemu(vm), control(vm, what, err), err);
}

int qemu_give(struct vm *vm, u64 first, u64 pages, struct err *err)
{
	return qemu_add_gone(to_qemu(vm), qemu_balloon(vm, first, pages, err), err);
}
