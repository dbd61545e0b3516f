/* SPDX-License-Identifier: MIT */
/* The engine `qemu` of a tain that was built without libvirt's headers. */
#include "vmm/vmm_internal.h"

struct qemu_config qemu_config = { .accel = "auto", .backing = "memfd" };

static int absent_probe(struct err *why)
{
	return err_set(
		why, -EOPNOTSUPP,
		"this tain was built without libvirt: apt-get install libvirt-dev libxml2-dev, make clean, make");
}

static int absent_create(struct vm *vm, const struct vm_config *config, struct err *err)
{
	(void)vm;
	(void)config;
	return absent_probe(err);
}

const struct engine engine_qemu = {
	.name = "qemu",
	.summary = "a libvirt domain: QEMU's process, KVM's second MMU or TCG",
	.needs = "libvirt and QEMU",
	.outside = true,
	.probe = absent_probe,
	.create = absent_create,
};
