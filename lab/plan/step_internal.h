/* SPDX-License-Identifier: MIT */
/*
 * Private to the steps:
 *
 *   lab/plan/step.c       the basic operations, which every host has
 *   lab/plan/step_host.c  the others of lab/host/op.h
 *   lab/plan/step_fork.c  a child with a guest of its own
 *   lab/plan/step_vm.c    memslots and dirty logs
 *   lab/plan/step_uffd.c  userfaultfd
 *   lab/plan/step_outside.c  a VM in another process stands still, moves, shrinks, grows
 */
#ifndef LAB_PLAN_STEP_INTERNAL_H
#define LAB_PLAN_STEP_INTERNAL_H

#include "lab/plan/step.h"
#include "lib/thread.h"

static inline u64 off_of(const struct plan_step *s)
{
	return s->first * PAGE_SIZE;
}

static inline u64 len_of(const struct plan_step *s)
{
	return s->pages * PAGE_SIZE;
}

static inline void hold(const struct plan_step *s)
{
	if (s->hold_ns)
		thread_sleep_ns(s->hold_ns);
}

/* Watch the pages in limbo, if this host can still reach them. */
static inline int watch_limbo(struct oracle *o, const struct plan_step *s)
{
	return o->host->limbo == LIMBO_NONE ? 0 : oracle_snapshot(o, true, s->first, s->pages);
}

/* Guests are about to lose the pages for a moment: reach them as if in limbo, where this host can. */
static inline int watch(struct oracle *o, const struct plan_step *s)
{
	int ret = o->host->ops->watch ? o->host->ops->watch(o->host, off_of(s), len_of(s)) : -EOPNOTSUPP;

	return ret == -EOPNOTSUPP ? 0 : ret;
}

static inline int unwatch(struct oracle *o)
{
	return o->host->limbo == LIMBO_NONE ? 0 : o->host->ops->unwatch(o->host);
}

/* Fresh memory stands in the range and zeros may be read; stamp it if the plan says so. */
static inline int renew(struct oracle *o, const struct plan_step *s)
{
	int ret;

	if (!s->restamp)
		return 0;
	ret = oracle_stamp(o, s->first, s->pages);
	if (!ret)
		oracle_require(o, s->first, s->pages);
	return ret;
}

/* The range stands as it did, but its contents were @announced to go: new stamps make that true. @ret: of the host. */
static inline int step_refused(struct oracle *o, const struct plan_step *s, bool announced, int ret)
{
	int again = announced ? oracle_stamp(o, s->first, s->pages) : 0;

	if (announced && !again)
		oracle_require(o, s->first, s->pages);
	return again ?: ret == -EOPNOTSUPP ? ret : STEP_REFUSED;
}

int step_remap(struct oracle *o, const struct plan_step *s);
int step_host(struct oracle *o, const struct plan_step *s);
int step_free(struct oracle *o, const struct plan_step *s);
int step_collapse(struct oracle *o, const struct plan_step *s);
int step_merge(struct oracle *o, const struct plan_step *s);
int step_merge_own(struct oracle *o, const struct plan_step *s);
int step_fork(struct oracle *o, const struct plan_step *s);
int step_memslot(struct oracle *o, const struct plan_step *s);
int step_dirtylog(struct oracle *o, const struct plan_step *s);
int step_uffd_missing(struct oracle *o, const struct plan_step *s);
int step_uffd_minor(struct oracle *o, const struct plan_step *s);
int step_uffd_wp(struct oracle *o, const struct plan_step *s);
int step_suspend(struct oracle *o, const struct plan_step *s);
int step_memstats(struct oracle *o, const struct plan_step *s);
int step_migrate(struct oracle *o, const struct plan_step *s);
int step_balloon(struct oracle *o, const struct plan_step *s);
int step_plug(struct oracle *o, const struct plan_step *s);
int step_restore(struct oracle *o, const struct plan_step *s);

#endif /* LAB_PLAN_STEP_INTERNAL_H */
