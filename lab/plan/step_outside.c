/* SPDX-License-Identifier: MIT */
/* Steps that are done to a VM in another process: it stands still, is asked, moves, shrinks, grows. O1 to O3:
 * lab/plan/oracle.h. */
#include <string.h>

#include "lab/plan/step_internal.h"
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
 * the guest's writes and not the host's. Under TCG it does not know all of those, and the
 * guest stands still from the first row to the last (vmm/qemu_migrate.c).
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

/*
 * Contents are kept (O2), through a file: the process that had them ends before another
 * reads it. Nothing is written here meanwhile.
 */
int step_restore(struct oracle *o, const struct plan_step *s)
{
	(void)s;
	return control(o, VM_RESTORE);
}

/*
 * The guest's driver gives pages that the other vCPUs go on using, as a driver never
 * would: to them it is a hole.
 *
 *   announce g+1                g
 *   inflate                     g or zeros
 *   require g+1 or zero         zeros; g is stale
 *   hold                        the same: a touched page is there again
 *   deflate                     the same
 *   [stamp g+1, require it]     [zeros or g+1, then g+1]
 */
int step_balloon(struct oracle *o, const struct plan_step *s)
{
	int ret;

	if (!o->vm)
		return err_set(&o->why, -EOPNOTSUPP, "there is no VM");
	oracle_announce(o, s->first, s->pages);
	ret = vm_balloon(o->vm, s->first, s->pages, &o->why);
	if (ret == -EOPNOTSUPP)
		return step_refused(o, s, true, ret);
	if (ret)
		return ret;
	oracle_require(o, s->first, s->pages);
	hold(s);
	ret = vm_balloon(o->vm, 0, 0, &o->why);
	return ret ?: renew(o, s);
}

/* Contents are kept (O2): what is merged is the memory of the Linux below the guest, which checks it. */
int step_merge_own(struct oracle *o, const struct plan_step *s)
{
	int ret = o->host->ops->begin(o->host, OP_MERGE, s->first * PAGE_SIZE, s->pages * PAGE_SIZE, &o->why);

	if (ret)
		return step_refused(o, s, false, ret);
	hold(s);
	return o->host->ops->end(o->host, &o->why);
}

/* Contents are kept (O2): memory beside DATA comes, is used, and goes. */
int step_plug(struct oracle *o, const struct plan_step *s)
{
	int ret = control(o, VM_PLUG);

	if (ret)
		return ret;
	hold(s);
	return control(o, VM_UNPLUG);
}

/* Contents are kept (O2): libvirt asks QEMU and the kernel how much memory it has. */
int step_memstats(struct oracle *o, const struct plan_step *s)
{
	(void)s;
	return control(o, VM_STATS);
}
