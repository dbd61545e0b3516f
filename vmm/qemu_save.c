/* SPDX-License-Identifier: MIT */
/*
 * A snapshot that ends the process it was taken of: the domain is saved to a file and
 * restored from it, in another QEMU. All that the guest had goes through that file.
 *
 *   save       the domain stands still, QEMU writes it down and ends
 *   restore    a second QEMU, paused, has read it; the domain is who it was
 *   the second's RAM mapped here
 *   resume
 *
 * What libvirt restores it does not bind to a connection: of a tain that is killed from
 * then on the next tain's sweep takes the domain.
 */
#include <stdio.h>
#include <string.h>

#include "vmm/qemu_internal.h"

static int restore(struct vm *vm, const char *path, struct err *err)
{
	struct qemu_vm *q = to_qemu(vm);
	struct qemu_domain next = { .pidfd = -1, .ram = -1, .console = -1 };
	int ret;

	memcpy(next.name, q->domain.name, sizeof(next.name));
	memcpy(next.uuid, q->domain.uuid, sizeof(next.uuid));
	ret = qemu_domain_start(vm, &next, NULL, path, err);
	if (!ret) {
		ret = qemu_take_over(vm, &next, err);
		if (ret)
			qemu_domain_end(q, &next);
	}
	if (ret) { /* there is no way back */
		ret = qemu_add_gone(q, ret == -EOPNOTSUPP ? -EIO : ret, err);
		q->unrestored = *err;
		return ret;
	}
	next.name[0] = '\0'; /* its log is the new one's too */
	/* And so is what libvirt knows it by: who destroyed that destroyed the new one. What is left has a pidfd. */
	virt->virDomainFree(next.handle);
	next.handle = NULL;
	qemu_domain_end(q, &next);
	return virt->virDomainResume(q->domain.handle) ? qemu_add_gone(q, virt_error(err, q->domain.name), err) : 0;
}

int qemu_save_restore(struct vm *vm, struct err *err)
{
	char dir[QEMU_DIR_BYTES] = "", path[QEMU_DIR_BYTES + 16];
	struct qemu_vm *q = to_qemu(vm);
	struct err own = { "" };
	int ret;

	err = err ?: &own;
	ret = qemu_make_dir(dir, err);
	if (ret)
		return ret;
	snprintf(path, sizeof(path), "%s/saved", dir);
	/* A QEMU that ends while this is odd has not died: see look() in vmm/qemu.c. */
	fetch_add(&q->moves, 1);
	if (virt->virDomainSaveFlags(q->domain.handle, path, NULL, VIR_DOMAIN_SAVE_PAUSED))
		ret = qemu_add_gone(q, virt_error(err, "save"), err);
	else
		ret = restore(vm, path, err);
	fetch_add(&q->moves, 1);
	qemu_remove_dir(dir);
	return ret;
}
