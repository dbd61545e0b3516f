/* SPDX-License-Identifier: MIT */
/*
 * The operations that lab/host/op.h describes well enough for one meaning: what the range
 * holds afterwards, and whether it can be reached meanwhile. O1 to O4: lab/plan/oracle.h.
 */
#include <string.h>

#include "lab/plan/step_internal.h"
#include "lib/time.h"

#define PART_NS NSEC_PER_MSEC /* after a merge, for guests to part the pages */

static int begin(struct oracle *o, const struct plan_step *s)
{
	return o->host->ops->begin(o->host, (enum host_op)s->op, off_of(s), len_of(s), &o->why);
}

static int end(struct oracle *o)
{
	return o->host->ops->end(o->host, &o->why);
}

/*
 * Contents stay and cannot be reached for a moment (O2). Where the host has another way to them:
 *
 *   begin                       g, until it returns
 *   snapshot, mark, there       nothing: accesses fail and are repeated; a mark read (O4),
 *                               or a write (O3), is stale
 *   hold, compare, unmark       the same
 *   end                         g
 */
static int step_absent(struct oracle *o, const struct plan_step *s)
{
	int ret = watch(o, s), again;
	bool watched = o->host->limbo != LIMBO_NONE;

	if (ret)
		return ret;
	ret = begin(o, s);
	if (ret) {
		again = unwatch(o);
		return again ?: step_refused(o, s, false, ret);
	}
	ret = watch_limbo(o, s);
	if (!ret && watched)
		ret = oracle_mark(o, true, s->first, s->pages);
	if (ret)
		return ret;
	hold(s);
	if (watched)
		ret = oracle_compare(o, true) ?: oracle_unmark(o, true, s->first, s->pages);
	ret = ret ?: end(o);
	return ret ?: unwatch(o);
}

/*
 * Where contents stay nothing is announced (O2). Where they go:
 *
 *   announce g+1                g
 *   begin                       g, or zeros
 *   require g+1 or zero         zeros, or nothing (absent): the access fails and is repeated
 *   snapshot of limbo           a write that arrives in limbo is stale (O3)
 *   [stamp g+1, require it]     [zeros or g+1, then g+1]
 *   hold, compare limbo
 *   end
 *   [absent: stamp, require]    [zeros or g+1, then g+1]
 */
int step_host(struct oracle *o, const struct plan_step *s)
{
	const struct op_info *info = &op_table[s->op];
	bool destroys = op_contents((enum host_op)s->op, o->host->backing) != OP_KEEPS;
	int ret;

	if (!destroys && info->absent)
		return step_absent(o, s);
	if (destroys)
		oracle_announce(o, s->first, s->pages);
	ret = begin(o, s);
	if (ret)
		return step_refused(o, s, destroys, ret);
	if (destroys)
		oracle_require(o, s->first, s->pages);
	ret = watch_limbo(o, s);
	if (!ret && destroys && !info->absent)
		ret = renew(o, s);
	if (ret)
		return ret;
	hold(s);
	if (o->host->limbo != LIMBO_NONE)
		ret = oracle_compare(o, true);
	ret = ret ?: end(o);
	if (!ret && destroys && info->absent)
		ret = renew(o, s);
	return ret;
}

/*
 * The kernel may take a page at any time from now on, until somebody writes to it:
 *
 *   announce g+1                g
 *   madvise(FREE)               g, or zeros
 *   hold                        g, or zeros; required is g still, so both are right
 *   stamp g+1                   the first word makes the page stay: g or zeros, or g+1
 *   require g+1                 g+1
 *
 * A guest's word from before is forgotten (O5): announced is not its generation.
 */
int step_free(struct oracle *o, const struct plan_step *s)
{
	int ret;

	oracle_announce(o, s->first, s->pages);
	ret = begin(o, s);
	if (ret)
		return step_refused(o, s, true, ret);
	hold(s);
	ret = end(o);
	ret = ret ?: oracle_stamp(o, s->first, s->pages);
	if (!ret)
		oracle_require(o, s->first, s->pages);
	return ret;
}

/*
 * What other steps have left in several pieces of its file, or of none, the kernel does not gather. With fresh a whole
 * huge page is mapped anew first, in one piece and with a page everywhere; of another process's it is one.
 *
 *   remap, as step_remap()      g or zeros, then zeros, then g+1 if it is stamped
 *   [populate]                  [zeros: a block that is all hole is not gathered either]
 *   collapse, hold              what was there (O2)
 */
int step_collapse(struct oracle *o, const struct plan_step *s)
{
	struct host *host = o->host;
	int ret = 0;

	if (s->fresh && s->pages >= PLAN_HUGE_PAGES && !host->mm && !host->vm) {
		ret = step_remap(o, s);
		ret = ret ?: host->ops->populate(host, off_of(s), len_of(s));
	}
	return ret ?: step_host(o, s);
}

/*
 * Merged pages that guests wrote to meanwhile: each has its own words and no other's. A vCPU
 * never writes a word twice, so one that is in two pages was written to a frame that they shared.
 */
static int look_at_words(struct oracle *o, const struct plan_step *s)
{
	int ret = oracle_snapshot(o, false, s->first, s->pages);

	for (u64 i = 0; i < s->pages * o->vcpus && !ret; i++)
		for (u64 j = i + o->vcpus; o->slots[i] && j < s->pages * o->vcpus; j += o->vcpus)
			if (o->slots[i] == o->slots[j])
				oracle_report(o, VIOLATION_STALE_WRITE, s->first + j / o->vcpus, (u32)(j % o->vcpus),
					      o->slots[j], 0, "one write is in two pages that KSM had merged");
	return ret;
}

/*
 * KSM merges pages that are equal and that it found unchanged twice. No two stamped pages are
 * equal, and guests write all the time. So the range is made of zeros, each a page of its own,
 * and nobody writes to it until KSM has merged:
 *
 *   host                        guest
 *   announce g+1                g
 *   dontneed, populate          g or zeros
 *   require g+1 or zero         zeros; a page that is written to is not merged
 *   mprotect(READ), snapshot    zeros; a write that arrives now is stale (O3)
 *   KSM merges                  the same, and each page is in another frame by now
 *   compare
 *   mprotect(READ | WRITE)      zeros; a write parts its page from the others
 *   hold, look at the words     the same
 *   unmerge, stamp, require     zeros or g+1, then g+1
 */
int step_merge(struct oracle *o, const struct plan_step *s)
{
	const struct host_ops *ops = o->host->ops;
	int ret, begun;

	oracle_announce(o, s->first, s->pages);
	ret = ops->dontneed(o->host, off_of(s), len_of(s));
	if (ret)
		return ret;
	oracle_require(o, s->first, s->pages);
	ret = ops->populate(o->host, off_of(s), len_of(s));
	ret = ret ?: ops->protect(o->host, off_of(s), len_of(s), TAIN_PROT_READ);
	ret = ret ?: oracle_snapshot(o, false, s->first, s->pages);
	if (ret)
		return ret;
	begun = begin(o, s);
	ret = oracle_compare(o, false);
	ret = ret ?: ops->protect(o->host, off_of(s), len_of(s), TAIN_PROT_READ | TAIN_PROT_WRITE);
	if (ret)
		return ret;
	if (begun)
		return step_refused(o, s, true, begun);
	hold(s);
	if (o->host->merge_ns) /* who waited for it all that time writes now */
		thread_sleep_ns(PART_NS);
	ret = look_at_words(o, s) ?: end(o);
	return ret ?: renew(o, s);
}
