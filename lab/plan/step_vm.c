/* SPDX-License-Identifier: MIT */
/* Steps that are done to the VM: memslots that go, come and move, and dirty logs. O2 to O4: lab/plan/oracle.h. */
#include <string.h>

#include "lab/plan/step_internal.h"
#include "lib/alloc.h"
#include "vmm/engine.h"

static u64 range_pages(const struct oracle *o)
{
	return host_range_bytes(o->host) / PAGE_SIZE;
}

/*
 * The memslot of the step's range of DATA goes and comes back, or moves elsewhere in the
 * guest and back; contents are kept (O2).
 *
 *   delete or move the memslot  g, until it returns
 *   snapshot of DATA, mark      nothing: accesses find no memory, and are repeated, or
 *                               done for the guest once this is over (machine_mmio());
 *                               a mark read (O4), or a write (O3), is stale
 *   hold, compare, unmark       the same
 *   add it, or move it back     g
 *
 * All of that range of DATA is away; the step's pages are what is watched. The marks are in
 * pages that the host maps and no guest can reach, as if they were in limbo.
 */
int step_memslot(struct oracle *o, const struct plan_step *s)
{
	u32 range = (u32)(s->first / range_pages(o));
	int ret;

	if (!o->vm)
		return err_set(&o->why, -EOPNOTSUPP, "there is no VM");
	ret = vm_show_range(o->vm, range, s->op == PLAN_SLOTMOVE ? VM_MOVE : VM_HIDE, &o->why);
	ret = ret ?: oracle_snapshot(o, false, s->first, s->pages);
	ret = ret ?: oracle_mark(o, false, s->first, s->pages);
	if (ret)
		return ret;
	hold(s);
	ret = oracle_compare(o, false);
	ret = ret ?: oracle_unmark(o, false, s->first, s->pages);
	return ret ?: vm_show_range(o->vm, range, VM_SHOW, &o->why);
}

/* Pages that were written and are not in the log. */
static void report_lost_dirty(struct oracle *o, const struct plan_step *s, const u64 *written, const u64 *logged)
{
	u64 base = s->first / range_pages(o) * range_pages(o); /* the log is of one range */

	for (u64 page = s->first; page < s->first + s->pages; page++)
		if (written[page / 64] >> page % 64 & 1 && !(logged[(page - base) / 64] >> (page - base) % 64 & 1))
			oracle_report(o, VIOLATION_LOST_DIRTY, page, VIOLATION_NO_VCPU, 0, 0,
				      "written after one look at the log and before the next, which has no bit for it");
}

/*
 * Contents are kept (O2). Each vCPU writes its own slots, the host none.
 *
 *   host                        guest
 *   log on, read it (R1)        a write that lands from now on needs an entry that R1 has
 *                               made read-only, or that is made after: it sets the bit
 *   snapshot of the slots
 *   hold                        writes w
 *   look again: who wrote?      w was written after the snapshot, so after R1
 *   read the log (R2)           w landed before R2: its bit is there, or it was lost
 *   log off
 */
static int log_and_look(struct oracle *o, const struct plan_step *s, u64 *written, u64 *logged)
{
	int ret = vm_dirty_log(o->vm, (u32)(s->first / range_pages(o)), VM_DIRTY_READ, logged, &o->why);

	ret = ret ?: oracle_snapshot(o, false, s->first, s->pages);
	if (ret)
		return ret;
	hold(s);
	ret = oracle_written(o, written);
	ret = ret ?: vm_dirty_log(o->vm, (u32)(s->first / range_pages(o)), VM_DIRTY_READ, logged, &o->why);
	if (CHECKING && s->plant) /* a log that forgets */
		memset(logged, 0, (o->pages + 63) / 64 * sizeof(*logged));
	if (!ret)
		report_lost_dirty(o, s, written, logged);
	return ret;
}

int step_dirtylog(struct oracle *o, const struct plan_step *s)
{
	size_t words = (o->pages + 63) / 64;
	u64 *written, *logged;
	int ret, stop;

	if (!o->vm)
		return err_set(&o->why, -EOPNOTSUPP, "there is no VM");
	ret = vm_dirty_log(o->vm, (u32)(s->first / range_pages(o)), VM_DIRTY_START, NULL, &o->why);
	if (ret)
		return ret;
	written = mem_zalloc(words * sizeof(*written));
	logged = mem_zalloc(words * sizeof(*logged));
	ret = written && logged ? log_and_look(o, s, written, logged) : -ENOMEM;
	mem_free(written);
	mem_free(logged);
	stop = vm_dirty_log(o->vm, (u32)(s->first / range_pages(o)), VM_DIRTY_STOP, NULL, &o->why);
	return ret ?: stop;
}
