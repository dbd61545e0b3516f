/* SPDX-License-Identifier: MIT */
/*
 * The iterator over the tables of a second MMU. Nobody but it and the two paths
 * that follow one gfn down (walk.c, fault.c) indexes a table.
 *
 * It visits, parents first, every entry that overlaps [start, end), present or
 * not. Whoever drops the mmu lock in the loop sets `yielded` and goes on with
 * `continue`: next() then starts again at the root and stops there, for the entry
 * it stood at has not been worked on (rule K13).
 */
#ifndef MMU_PT_ITER_H
#define MMU_PT_ITER_H

#include "mmu/mmu_internal.h"

struct pt_iter {
	/* Where the iterator stands. */
	u64 *sptep;
	u64 old;   /* *sptep as it was read */
	gfn_t gfn; /* first gfn that the entry covers; may lie before start */
	unsigned int level;
	bool valid;

	bool yielded;
	gfn_t next; /* everything in [start, next) has been visited */
	gfn_t yielded_at;

	gfn_t end;
	struct mmu *mmu;
	u64 *table[PT_LEVELS_MAX + 1]; /* by level: the path from the root */
};

void pt_iter_start(struct pt_iter *it, struct mmu *mmu, gfn_t start, gfn_t end);
void pt_iter_next(struct pt_iter *it);

/* Has the loop moved on since it last yielded? If not it must not yield again. */
static inline bool pt_iter_progressed(const struct pt_iter *it)
{
	return it->next != it->yielded_at;
}

static inline void pt_iter_yielded(struct pt_iter *it)
{
	it->yielded = true;
	it->yielded_at = it->next;
}

/* The same without stopping at tables. */
void pt_iter_start_leaf(struct pt_iter *it, struct mmu *mmu, gfn_t start, gfn_t end);
void pt_iter_next_leaf(struct pt_iter *it);

#define for_each_spte(it, mmu, start, end) for (pt_iter_start(it, mmu, start, end); (it)->valid; pt_iter_next(it))

#define for_each_leaf_spte(it, mmu, start, end)                                                                        \
	for (pt_iter_start_leaf(it, mmu, start, end); (it)->valid; pt_iter_next_leaf(it))

#endif /* MMU_PT_ITER_H */
