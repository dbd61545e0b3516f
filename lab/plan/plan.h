/* SPDX-License-Identifier: MIT */
/*
 * Plans: which host operation happens to which pages at step i. Step i is a pure
 * function of the plan, so one seed names a whole run and any step of it can be
 * computed without the steps before it.
 */
#ifndef LAB_PLAN_PLAN_H
#define LAB_PLAN_PLAN_H

#include "lab/host/op.h"
#include "lib/base.h"
#include "lib/err.h"

/* What a plan can hold: the operations of lab/host/op.h, under their numbers, and what is done to the VM. */
enum plan_op {
	PLAN_MUNMAP = OP_MUNMAP,
	PLAN_REMAP = OP_REMAP,
	PLAN_MPROTECT = OP_MPROTECT,
	PLAN_DONTNEED = OP_DONTNEED,
	PLAN_MREMAP = OP_MREMAP,
	PLAN_BASIC_NR, /* those before are what every host has */
	PLAN_DONTUNMAP = OP_DONTUNMAP,
	PLAN_MREMAP_ONTO = OP_MREMAP_ONTO,
	PLAN_REMOVE = OP_REMOVE,
	PLAN_PUNCH = OP_PUNCH,
	PLAN_TRUNCATE = OP_TRUNCATE,
	PLAN_GUARD = OP_GUARD,
	PLAN_FREE = OP_FREE,
	PLAN_COLD = OP_COLD,
	PLAN_PAGEOUT = OP_PAGEOUT,
	PLAN_COLLAPSE = OP_COLLAPSE,
	PLAN_SPLIT = OP_SPLIT,
	PLAN_COMPACT = OP_COMPACT,
	PLAN_MERGE = OP_MERGE,
	PLAN_FORK = OP_FORK,
	PLAN_POPULATE = OP_POPULATE,
	PLAN_HOST_NR = OP_NR,
	PLAN_MEMSLOT = PLAN_HOST_NR,
	PLAN_SLOTMOVE,
	PLAN_DIRTYLOG,
	PLAN_UFFD_MISSING,
	PLAN_UFFD_MINOR,
	PLAN_UFFD_WP,
	PLAN_SUSPEND,
	PLAN_MEMSTATS,
	PLAN_MIGRATE,
	PLAN_BALLOON,
	PLAN_PLUG,
	PLAN_RESTORE,
	PLAN_OP_NR
};

#define PLAN_HUGE_PAGES 512ull

#define PLAN_OPS_BASIC ((u32)(BIT(PLAN_BASIC_NR) - 1))
#define PLAN_OPS_ALL ((u32)(BIT(PLAN_OP_NR) - 1))

const char *plan_op_name(enum plan_op op);
const char *plan_op_summary(enum plan_op op);

struct plan_step;

struct plan {
	u64 seed;
	u64 pages;		/* size of DATA */
	u64 granule;		/* steps begin and end at multiples of so many pages; 0 is 1 */
	u32 ranges;		/* of equal size that DATA consists of, a step in one of them; 0 is 1 */
	u32 ops;		/* BIT(enum plan_op), not empty */
	u64 max_pages;		/* longest range of one step, in pages; at least 1 */
	u64 hold_ns;		/* longest hold of one step */
	u32 weight[PLAN_OP_NR]; /* how often an operation comes, against the others; plan_init() makes them 1 */
	/* If there is a list, its steps are the plan, again and again from the first; the rest is for those without. */
	const struct plan_step *list; /* the caller's, for as long as the plan */
	u64 nr;
};

struct plan_step {
	u64 index;
	enum plan_op op;
	u64 first;    /* first page */
	u64 pages;    /* how many, at least 1 */
	u64 hold_ns;  /* how long the intermediate state lasts */
	bool restamp; /* destroyed pages get stamps again, else they stay zero; of those kept, half get new ones */
	bool fresh;   /* mremap: the pages do not come back, fresh memory takes their place; others: docs/results.md */
	bool deny;    /* mprotect: no access at all, not read-only */
	bool plant; /* checking builds: puts old contents back when they are forbidden, so that the oracle must bite */
};

/* The defaults for a DATA of @pages pages. */
void plan_init(struct plan *plan, u64 seed, u64 pages, u32 ops);

/* Pages of the longest range that a step may replace: what buffers are made for. */
u64 plan_longest(const struct plan *plan);

/* Compute step @index. */
void plan_step(const struct plan *plan, u64 index, struct plan_step *step);

#define PLAN_WEIGHT_MAX 1000000

/* What a list of operations says. */
struct plan_ops {
	u32 set;		/* BIT(enum plan_op) */
	u32 named;		/* of these, those that were not only meant by "all" */
	u32 weight[PLAN_OP_NR]; /* 0 of what is not in the list */
};

/*
 * Parse "munmap,remap", "munmap=3,remap" or "all". An operation without a number has the weight 1; those that only
 * "all" means come the rarer, the longer they take. Named twice, the last weight counts.
 * Return: 0; -EINVAL with the nearest name in @err.
 */
int plan_parse_ops(const char *list, struct plan_ops *ops, struct err *err);

#endif /* LAB_PLAN_PLAN_H */
