/* SPDX-License-Identifier: MIT */
/*
 * What each operation means, when it is announced, when it is required, and what
 * is watched meanwhile. O1 to O4 are the arguments in lab/plan/oracle.h.
 */
#include "lab/plan/step_internal.h"

#include "lab/plan/trace.h"
#include "lib/probe.h"
#include "lib/rng.h"
#include "vmm/engine.h"

static int end_limbo(struct oracle *o)
{
	int ret = 0;

	if (o->host->limbo != LIMBO_NONE)
		ret = oracle_compare(o, true);
	return ret ?: o->host->ops->release(o->host);
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
int step_remap(struct oracle *o, const struct plan_step *s)
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
 *   [mprotect(NONE), mark]      [nothing: accesses fail and are repeated; a mark read is stale (O4)]
 *   hold
 *   [unmark, mprotect(READ)]    g
 *   compare
 *   mprotect(READ | WRITE)      g
 *
 * The host cannot read what is PROT_NONE, so NONE lies inside a read-only phase; it marks
 * what is there where it has another way to it.
 */
static int deny_all(struct oracle *o, const struct plan_step *s)
{
	const struct host_ops *ops = o->host->ops;
	int ret = ops->protect(o->host, off_of(s), len_of(s), TAIN_PROT_NONE);
	bool watched = o->host->limbo != LIMBO_NONE;

	if (!ret && watched)
		ret = oracle_mark(o, true, s->first, s->pages);
	if (ret)
		return ret;
	hold(s);
	if (watched)
		ret = oracle_unmark(o, true, s->first, s->pages);
	ret = ret ?: ops->protect(o->host, off_of(s), len_of(s), TAIN_PROT_READ);
	return ret ?: unwatch(o);
}

static int step_mprotect(struct oracle *o, const struct plan_step *s)
{
	const struct host_ops *ops = o->host->ops;
	int ret = s->deny ? watch(o, s) : 0; /* while the range is as it was */

	ret = ret ?: ops->protect(o->host, off_of(s), len_of(s), TAIN_PROT_READ);
	ret = ret ?: oracle_snapshot(o, false, s->first, s->pages);
	if (!ret && s->deny)
		ret = deny_all(o, s);
	else
		hold(s);
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

static int (*const step_fn[PLAN_OP_NR])(struct oracle *o, const struct plan_step *s) = {
	[PLAN_MUNMAP] = step_munmap,
	[PLAN_REMAP] = step_remap,
	[PLAN_MPROTECT] = step_mprotect,
	[PLAN_DONTNEED] = step_dontneed,
	[PLAN_MREMAP] = step_mremap,
	[PLAN_DONTUNMAP] = step_host,
	[PLAN_MREMAP_ONTO] = step_host,
	[PLAN_REMOVE] = step_host,
	[PLAN_PUNCH] = step_host,
	[PLAN_TRUNCATE] = step_host,
	[PLAN_GUARD] = step_host,
	[PLAN_FREE] = step_free,
	[PLAN_COLD] = step_host,
	[PLAN_PAGEOUT] = step_host,
	[PLAN_COLLAPSE] = step_collapse,
	[PLAN_SPLIT] = step_host,
	[PLAN_COMPACT] = step_host,
	[PLAN_MERGE] = step_merge,
	[PLAN_FORK] = step_fork,
	[PLAN_POPULATE] = step_host,
	[PLAN_MEMSLOT] = step_memslot,
	[PLAN_SLOTMOVE] = step_memslot,
	[PLAN_DIRTYLOG] = step_dirtylog,
	[PLAN_UFFD_MISSING] = step_uffd_missing,
	[PLAN_UFFD_MINOR] = step_uffd_minor,
	[PLAN_UFFD_WP] = step_uffd_wp,
	[PLAN_SUSPEND] = step_suspend,
	[PLAN_MEMSTATS] = step_memstats,
	[PLAN_MIGRATE] = step_migrate,
	[PLAN_BALLOON] = step_balloon,
	[PLAN_PLUG] = step_plug,
	[PLAN_RESTORE] = step_restore,
};

static bool plants_itself(enum plan_op op)
{
	return op == PLAN_DIRTYLOG || op == PLAN_UFFD_MINOR || op == PLAN_UFFD_WP || op == PLAN_FORK;
}

/* Is there memory beside DATA that KSM may take? */
static bool has_own(const struct oracle *o)
{
	struct vm_outside out;

	return o->vm && !vm_outside(o->vm, &out) && out.own_bytes;
}

static int carry_out(struct oracle *o, const struct plan_step *s)
{
	if (s->op == PLAN_MERGE && has_own(o))
		return step_merge_own(o, s);
	if (s->op < PLAN_HOST_NR && op_contents((enum host_op)s->op, o->host->backing) == OP_IMPOSSIBLE)
		return err_set(&o->why, -EOPNOTSUPP, "%s", op_table[s->op].not_why);
	return step_fn[s->op](o, s);
}

/*
 * The operation is over and has kept contents (O9):
 *
 *   announce g+1                g
 *   stamp g+1                   g or g+1, and each vCPU's own words as before
 *   require g+1                 g+1; g is stale: not the page that the host has there
 *
 * To half of the pages: a guest takes an announcement for the end of its words (O5), and
 * what the operation does to those is to be seen too.
 */
static int stamp_anew(struct oracle *o, const struct plan_step *s)
{
	u64 half = (s->pages + 1) / 2;
	u64 first = rng_mix(o->seed, s->index) & 1 ? s->first + s->pages - half : s->first;
	int ret;

	oracle_announce(o, first, half);
	ret = oracle_stamp(o, first, half);
	if (!ret)
		oracle_require(o, first, half);
	return ret;
}

/*
 * A lie, in checking builds: old contents come back when the operation is over, as if a
 * vCPU had kept its translation. A guest that looks must report them, on any engine.
 *
 *   announce g+1                g
 *   stamp g, require g+1        g, through a true translation: a violation all the same
 *   hold
 *   stamp g+1                   g or g+1, then g+1
 */
static int plant(struct oracle *o, const struct plan_step *s)
{
	int ret;

	oracle_announce(o, s->first, s->pages);
	ret = oracle_plant(o, s->first, s->pages);
	if (ret)
		return ret;
	oracle_promise(o, s->first, s->pages);
	hold(s);
	return oracle_stamp(o, s->first, s->pages);
}

static int run(struct oracle *o, const struct plan_step *s)
{
	u32 before = o->generation[s->first];
	int ret = carry_out(o, s);

	if (ret)
		return ret;
	if (CHECKING && s->plant && !plants_itself(s->op))
		return plant(o, s);
	/* What was announced is over, but for a collapse: that of the memory before it. */
	return s->restamp && (o->generation[s->first] == before || s->op == PLAN_COLLAPSE) ? stamp_anew(o, s) : 0;
}

int step_run(struct oracle *o, const struct plan_step *step)
{
	struct plan_step s = *step;
	int ret;

	if (s.op < PLAN_HOST_NR && op_table[s.op].whole) {
		s.first = 0;
		s.pages = o->pages;
	}
	o->why.text[0] = 0;
	oracle_begin(o, &s);
	probe3(op_begin, plan_op_name(s.op), s.first, s.pages);
	ret = run(o, &s);
	lab_trace(DONE, s.index, -ret, 0, 0);
	probe3(op_end, plan_op_name(s.op), s.first, ret);
	return ret;
}
