/* SPDX-License-Identifier: MIT */
/*
 * The iterator over the tables of a second MMU, and the straight way down to one gfn.
 * Nobody else indexes a table but faults, which make tables on their way (fault.c), zaps in one
 * leaf table (zap.h), and who frees tables (table.c).
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

/*
 * Straight down to where the way of @gfn ends: a leaf, or an entry that is not present.
 * *spte: as it was read, *level: its level. Context: mmu lock, or RCU reader.
 */
static inline u64 *pt_find(const struct mmu *mmu, gfn_t gfn, u64 *spte, unsigned int *level)
{
	const struct mmu_format *format = mmu->format;
	u64 *table = mmu->root, *sptep;
	unsigned int at;

	for (at = format->levels;; at--) {
		sptep = &table[pt_index(gfn, at)];
		/* Acquire: pairs with the cmpxchg in spte_try_change(), which linked the table below. */
		*spte = smp_load_acquire(sptep);
		if (at == PT_LEVEL_4K || !spte_table(format, *spte, at))
			break;
		table = spte_table_at(mmu, *spte);
	}
	*level = at;
	return sptep;
}

#endif /* MMU_PT_ITER_H */
