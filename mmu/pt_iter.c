/* SPDX-License-Identifier: MIT */
/* The iterator over the tables of a second MMU. */
#include "mmu/pt_iter.h"

static inline void iter_read(struct pt_iter *it)
{
	it->gfn = align_down(it->next, pt_pages(it->level));
	it->sptep = &it->table[it->level][pt_index(it->next, it->level)];
	/* Acquire: pairs with the cmpxchg that linked the table below, whose contents come next. */
	it->old = smp_load_acquire(it->sptep);
}

static inline bool step_down(struct pt_iter *it)
{
	/* Again, not it->old: the loop's body may have changed it. */
	u64 spte = smp_load_acquire(it->sptep);

	if (!spte_table(it->mmu->format, spte, it->level))
		return false;
	it->level--;
	it->table[it->level] = table_at(it->mmu, spte_pfn(it->mmu->format, spte));
	iter_read(it);
	return true;
}

/* To the next entry of the same table. True as well when that ends the walk. */
static inline bool step_side(struct pt_iter *it)
{
	gfn_t next = it->gfn + pt_pages(it->level);

	if (next >= it->end) {
		it->valid = false;
		return true;
	}
	if (!pt_index(next, it->level))
		return false;
	it->next = next;
	iter_read(it);
	return true;
}

static inline bool step_up(struct pt_iter *it)
{
	if (it->level == it->mmu->format->levels)
		return false;
	it->level++;
	it->gfn = align_down(it->gfn, pt_pages(it->level));
	return true;
}

static inline void iter_start(struct pt_iter *it, struct mmu *mmu, gfn_t start, gfn_t end)
{
	unsigned int root = mmu->format->levels;

	*it = (struct pt_iter){
		.mmu = mmu,
		.next = start,
		.yielded_at = (gfn_t)-1,
		.end = min(end, format_max_gfn(mmu->format)),
		.level = root,
	};
	it->table[root] = mmu->root;
	it->valid = it->next < it->end;
	if (it->valid)
		iter_read(it);
}

void pt_iter_start(struct pt_iter *it, struct mmu *mmu, gfn_t start, gfn_t end)
{
	iter_start(it, mmu, start, end);
}

void pt_iter_start_leaf(struct pt_iter *it, struct mmu *mmu, gfn_t start, gfn_t end)
{
	iter_start(it, mmu, start, end);
	while (it->valid && step_down(it))
		;
}

/*
 * After a yield (catalogue 27; mutant k13-iter-advance; test
 * k13_restart_skips_nothing): the loop stood at entry e inside the subtree of
 * root entry r0, not done with e.
 *
 *   right                                wrong
 *   -----                                -----
 *   next(): stand at r0, return          next(): stand at r0, step on to r1
 *   body: r0 is a table, nothing to do   r0's subtree from e on is never visited:
 *   next(): down, ... to e               its leaves survive the zap
 */
static inline void iter_next(struct pt_iter *it)
{
	if (it->yielded) {
		it->yielded = false;
		it->level = it->mmu->format->levels;
		iter_read(it);
		if (!mutant(MUTANT_K13_ITER_ADVANCE))
			return;
	} else if (step_down(it)) {
		return;
	}
	while (!step_side(it)) {
		if (!step_up(it)) {
			it->valid = false;
			return;
		}
	}
}

void pt_iter_next(struct pt_iter *it)
{
	iter_next(it);
}

void pt_iter_next_leaf(struct pt_iter *it)
{
	iter_next(it);
	while (it->valid && step_down(it))
		;
}
