/* SPDX-License-Identifier: MIT */
/* Steps that are done to a VM in another process: it stands still, is asked, moves. O2, O3: lab/oracle.h. */
#include <string.h>

#include "lab/step_internal.h"
#include "lib/alloc.h"
#include "vmm/engine.h"

static int control(struct oracle *o, enum vm_control what)
{
	return o->vm ? vm_control(o->vm, what, &o->why) : err_set(&o->why, -EOPNOTSUPP, "there is no VM");
}

static void report_written(struct oracle *o, const struct plan_step *s, const u64 *written)
{
	for (u64 page = s->first; page < s->first + s->pages; page++)
		if (written[page / 64] >> page % 64 & 1)
			oracle_report(o, VIOLATION_STALE_WRITE, page, VIOLATION_NO_VCPU, 0, 0,
				      "written while the VM was suspended");
}

/*
 * Contents are kept (O2).
 *
 *   suspend                     runs, until it returns
 *   snapshot of the slots
 *   hold                        stands still
 *   look again                  a word that has changed was written by a vCPU that still ran
 *   resume                      runs
 */
int step_suspend(struct oracle *o, const struct plan_step *s)
{
	u64 *written = mem_zalloc((o->pages + 63) / 64 * sizeof(*written));
	int ret, resume;

	if (!written)
		return -ENOMEM;
	ret = control(o, VM_SUSPEND);
	if (!ret) {
		ret = oracle_snapshot(o, false, s->first, s->pages);
		hold(s);
		ret = ret ?: oracle_written(o, written);
		if (!ret)
			report_written(o, s, written);
		resume = control(o, VM_RESUME);
		ret = ret ?: resume;
	}
	mem_free(written);
	return ret;
}

/*
 * Contents are kept (O2). Nothing is written here until it returns: QEMU's dirty log knows
 * the guest's writes and not the host's.
 *
 *   host                        first QEMU              second QEMU
 *   migrate                     g; every word the guest writes is sent after it
 *                               stands still            all of it has come
 *   (returns)                                           g, and each vCPU's last words
 */
int step_migrate(struct oracle *o, const struct plan_step *s)
{
	(void)s;
	return control(o, VM_MIGRATE);
}

/* Contents are kept (O2): libvirt asks QEMU and the kernel how much memory it has. */
int step_memstats(struct oracle *o, const struct plan_step *s)
{
	(void)s;
	return control(o, VM_STATS);
}
