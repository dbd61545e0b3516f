/* SPDX-License-Identifier: MIT */
/*
 * What each operation means, when it is announced, when it is required, and what
 * is watched meanwhile. O1 to O4 are the arguments in lab/oracle.h.
 */
#include "lab/step.h"

#include <string.h>

#include "lab/trace.h"
#include "lib/alloc.h"
#include "lib/probe.h"
#include "lib/thread.h"
#include "vmm/engine.h"

static u64 off_of(const struct plan_step *s)
{
	return s->first * PAGE_SIZE;
}

static u64 len_of(const struct plan_step *s)
{
	return s->pages * PAGE_SIZE;
}

static void hold(const struct plan_step *s)
{
	if (s->hold_ns)
		thread_sleep_ns(s->hold_ns);
}

/* Watch the pages in limbo, if this host can still reach them. */
static int watch_limbo(struct oracle *o, const struct plan_step *s)
{
	return o->host->limbo == LIMBO_NONE ? 0 : oracle_snapshot(o, true, s->first, s->pages);
}

static int end_limbo(struct oracle *o)
{
	int ret = 0;

	if (o->host->limbo != LIMBO_NONE)
		ret = oracle_compare(o, true);
	return ret ?: o->host->ops->release(o->host);
}

/* Fresh memory stands in the range and zeros may be read; stamp it if the plan says so. */
static int renew(struct oracle *o, const struct plan_step *s)
{
	int ret;

	if (!s->restamp)
		return 0;
	ret = oracle_stamp(o, s->first, s->pages);
	if (!ret)
		oracle_require(o, s->first, s->pages);
	return ret;
}

/*
 *   host                        a guest that reads or writes the range sees
 *   announce g+1                g
 *   munmap                      g, until it returns
 *   require g+1 or zero         nothing: the access fails and is repeated; g is stale
 *   snapshot of limbo, hold     the same; a write that arrives in limbo is stale
 *   map fresh                   zeros
 *   stamp g+1, require g+1      zeros or g+1, then g+1
 *   compare, release limbo
 */
static int step_munmap(struct oracle *o, const struct plan_step *s)
{
	const struct host_ops *ops = o->host->ops;
	int ret;

	oracle_announce(o, s->first, s->pages);
	ret = ops->unmap(o->host, off_of(s), len_of(s));
	if (ret)
		return ret;
	oracle_require(o, s->first, s->pages);
	ret = watch_limbo(o, s);
	if (ret)
		return ret;
	hold(s);
	ret = ops->map(o->host, off_of(s), len_of(s));
	ret = ret ?: renew(o, s);
	return ret ?: end_limbo(o);
}

/*
 *   announce g+1                g
 *   mmap(MAP_FIXED)             g or zeros
 *   require g+1 or zero         zeros; g is stale
 *   snapshot of limbo, stamp,
 *   require g+1, hold           zeros or g+1, then g+1; a write that arrives in limbo is stale
 *   compare, release limbo
 */
static int step_remap(struct oracle *o, const struct plan_step *s)
{
	int ret;

	oracle_announce(o, s->first, s->pages);
	ret = o->host->ops->remap(o->host, off_of(s), len_of(s));
	if (ret)
		return ret;
	oracle_require(o, s->first, s->pages);
	ret = watch_limbo(o, s);
	ret = ret ?: renew(o, s);
	if (ret)
		return ret;
	hold(s);
	return end_limbo(o);
}

/*
 * Contents are kept (O2).
 *
 *   mprotect(READ)              g; writes until it returns
 *   snapshot of DATA            g; a write that arrives now is stale (O3)
 *   [mprotect(NONE)]            [nothing: accesses fail and are repeated]
 *   hold
 *   [mprotect(READ)]            g
 *   compare
 *   mprotect(READ | WRITE)      g
 *
 * The host cannot read what is PROT_NONE, so NONE lies inside a read-only phase.
 */
static int step_mprotect(struct oracle *o, const struct plan_step *s)
{
	const struct host_ops *ops = o->host->ops;
	int ret;

	ret = ops->protect(o->host, off_of(s), len_of(s), TAIN_PROT_READ);
	ret = ret ?: oracle_snapshot(o, false, s->first, s->pages);
	if (!ret && s->deny)
		ret = ops->protect(o->host, off_of(s), len_of(s), TAIN_PROT_NONE);
	if (ret)
		return ret;
	hold(s);
	if (s->deny)
		ret = ops->protect(o->host, off_of(s), len_of(s), TAIN_PROT_READ);
	ret = ret ?: oracle_compare(o, false);
	return ret ?: ops->protect(o->host, off_of(s), len_of(s), TAIN_PROT_READ | TAIN_PROT_WRITE);
}

/*
 * Where DONTNEED destroys contents:
 *
 *   announce g+1                g
 *   madvise(DONTNEED)           g or zeros
 *   require g+1 or zero         zeros; g is stale
 *   stamp g+1, require g+1      zeros or g+1, then g+1
 *   hold
 *
 * Shared memory keeps them: nothing is announced, every stamp must stay (O2).
 */
static int step_dontneed(struct oracle *o, const struct plan_step *s)
{
	bool keeps = host_backing_table[o->host->backing].keeps;
	int ret;

	if (!keeps)
		oracle_announce(o, s->first, s->pages);
	ret = o->host->ops->dontneed(o->host, off_of(s), len_of(s));
	if (!ret && !keeps) {
		oracle_require(o, s->first, s->pages);
		ret = renew(o, s);
	}
	if (!ret)
		hold(s);
	return ret;
}

/*
 * Away and back; contents are kept (O2).
 *
 *   mremap to the quarantine    g, until it returns
 *   snapshot of limbo, mark     nothing: accesses fail and are repeated; a mark read
 *                               (O4), or a write that arrives in limbo (O3), is stale
 *   hold, compare, unmark       the same
 *   mremap back                 g
 */
static int step_mremap_back(struct oracle *o, const struct plan_step *s)
{
	const struct host_ops *ops = o->host->ops;
	int ret;

	ret = ops->move_away(o->host, off_of(s), len_of(s));
	ret = ret ?: watch_limbo(o, s);
	ret = ret ?: oracle_mark(o, true, s->first, s->pages);
	if (ret)
		return ret;
	hold(s);
	ret = oracle_compare(o, true);
	ret = ret ?: oracle_unmark(o, true, s->first, s->pages);
	return ret ?: ops->move_back(o->host);
}

/* Away for good: as munmap, and the old pages stay in the quarantine until the comparison. */
static int step_mremap_fresh(struct oracle *o, const struct plan_step *s)
{
	const struct host_ops *ops = o->host->ops;
	int ret;

	oracle_announce(o, s->first, s->pages);
	ret = ops->move_away(o->host, off_of(s), len_of(s));
	if (ret)
		return ret;
	oracle_require(o, s->first, s->pages);
	ret = watch_limbo(o, s);
	ret = ret ?: ops->map(o->host, off_of(s), len_of(s));
	ret = ret ?: renew(o, s);
	if (ret)
		return ret;
	hold(s);
	return end_limbo(o);
}

static int step_mremap(struct oracle *o, const struct plan_step *s)
{
	return s->fresh ? step_mremap_fresh(o, s) : step_mremap_back(o, s);
}

/*
 * DATA's memslot goes and comes back; contents are kept (O2).
 *
 *   delete the memslot          g, until it returns
 *   snapshot of DATA, mark      nothing: accesses find no memory, and are repeated, or
 *                               done for the guest once this is over (machine_mmio());
 *                               a mark read (O4), or a write (O3), is stale
 *   hold, compare, unmark       the same
 *   add it again                g
 *
 * All of DATA is away; the range is what is watched. The marks are in pages that the
 * host maps and no guest can reach, as if they were in limbo.
 */
static int step_memslot(struct oracle *o, const struct plan_step *s)
{
	int ret;

	if (!o->vm)
		return -EOPNOTSUPP;
	ret = vm_show_data(o->vm, false, NULL);
	ret = ret ?: oracle_snapshot(o, false, s->first, s->pages);
	ret = ret ?: oracle_mark(o, false, s->first, s->pages);
	if (ret)
		return ret;
	hold(s);
	ret = oracle_compare(o, false);
	ret = ret ?: oracle_unmark(o, false, s->first, s->pages);
	return ret ?: vm_show_data(o->vm, true, NULL);
}

/* Pages that were written and are not in the log. */
static void report_lost_dirty(struct oracle *o, const struct plan_step *s, const u64 *written, const u64 *logged)
{
	for (u64 page = s->first; page < s->first + s->pages; page++)
		if ((written[page / 64] & ~logged[page / 64]) >> page % 64 & 1)
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
	int ret = vm_dirty_log(o->vm, VM_DIRTY_READ, logged, NULL);

	ret = ret ?: oracle_snapshot(o, false, s->first, s->pages);
	if (ret)
		return ret;
	hold(s);
	ret = oracle_written(o, written);
	ret = ret ?: vm_dirty_log(o->vm, VM_DIRTY_READ, logged, NULL);
	if (CHECKING && s->plant) /* a log that forgets */
		memset(logged, 0, (o->pages + 63) / 64 * sizeof(*logged));
	if (!ret)
		report_lost_dirty(o, s, written, logged);
	return ret;
}

static int step_dirtylog(struct oracle *o, const struct plan_step *s)
{
	size_t words = (o->pages + 63) / 64;
	u64 *written, *logged;
	int ret, stop;

	if (!o->vm)
		return -EOPNOTSUPP;
	ret = vm_dirty_log(o->vm, VM_DIRTY_START, NULL, NULL);
	if (ret)
		return ret;
	written = mem_zalloc(words * sizeof(*written));
	logged = mem_zalloc(words * sizeof(*logged));
	ret = written && logged ? log_and_look(o, s, written, logged) : -ENOMEM;
	mem_free(written);
	mem_free(logged);
	stop = vm_dirty_log(o->vm, VM_DIRTY_STOP, NULL, NULL);
	return ret ?: stop;
}

/*
 * A lie, in checking builds: old contents come back when they are forbidden, as if a
 * copy had been kept. A guest that looks must report them, on any engine.
 *
 *   announce g+1                g
 *   mmap(MAP_FIXED)             g or zeros
 *   require g+1 or zero         zeros
 *   stamp g                     g, through a true translation: a violation all the same
 *   hold
 *   stamp g+1, require g+1      g+1
 */
static int step_planted(struct oracle *o, const struct plan_step *s)
{
	int ret;

	oracle_announce(o, s->first, s->pages);
	ret = o->host->ops->remap(o->host, off_of(s), len_of(s));
	if (ret)
		return ret;
	oracle_require(o, s->first, s->pages);
	ret = oracle_plant(o, s->first, s->pages);
	if (ret)
		return ret;
	hold(s);
	ret = oracle_stamp(o, s->first, s->pages);
	oracle_require(o, s->first, s->pages);
	return ret ?: o->host->ops->release(o->host);
}

static int (*const step_fn[PLAN_OP_NR])(struct oracle *o, const struct plan_step *s) = {
	[PLAN_MUNMAP] = step_munmap,	 [PLAN_REMAP] = step_remap,   [PLAN_MPROTECT] = step_mprotect,
	[PLAN_DONTNEED] = step_dontneed, [PLAN_MREMAP] = step_mremap, [PLAN_MEMSLOT] = step_memslot,
	[PLAN_DIRTYLOG] = step_dirtylog,
};

int step_run(struct oracle *o, const struct plan_step *step)
{
	int ret;

	oracle_begin(o, step);
	probe3(op_begin, plan_op_table[step->op].name, step->first, step->pages);
	ret = (CHECKING && step->plant && step->op != PLAN_DIRTYLOG ? step_planted : step_fn[step->op])(o, step);
	lab_trace(DONE, step->index, -ret, 0, 0);
	probe3(op_end, plan_op_table[step->op].name, step->first, ret);
	return ret;
}
