/* SPDX-License-Identifier: MIT */
/*
 * Plans: which host operation happens to which pages at step i. Step i is a pure
 * function of the plan, so one seed names a whole run and any step of it can be
 * computed without the steps before it.
 */
#ifndef LAB_PLAN_H
#define LAB_PLAN_H

#include "lab/op.h"
#include "lib/base.h"
#include "lib/err.h"

/* What a plan can hold: those operations of lab/op.h that lab/step.c has a meaning for, the first of them. */
enum plan_op {
	PLAN_MUNMAP = OP_MUNMAP,
	PLAN_REMAP = OP_REMAP,
	PLAN_MPROTECT = OP_MPROTECT,
	PLAN_DONTNEED = OP_DONTNEED,
	PLAN_MREMAP = OP_MREMAP,
	PLAN_HOST_NR, /* the others are done to the VM, and are not among "all": */
	PLAN_MEMSLOT = PLAN_HOST_NR,
	PLAN_DIRTYLOG,
	PLAN_OP_NR
};

#define PLAN_OPS_ALL (BIT(PLAN_HOST_NR) - 1)

struct plan_op_info {
	const char *name;
	const char *summary;
};

extern const struct plan_op_info plan_op_table[PLAN_OP_NR + 1]; /* name NULL ends it */

struct plan_step;

struct plan {
	u64 seed;
	u64 pages;		/* size of DATA */
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
	bool restamp; /* destroyed pages get stamps of their new generation; else they stay zero */
	bool fresh;   /* mremap: the pages do not come back, fresh memory takes their place */
	bool deny;    /* mprotect: no access at all, not read-only */
	bool plant; /* checking builds: puts old contents back when they are forbidden, so that the oracle must bite */
};

/* The defaults for a DATA of @pages pages. */
void plan_init(struct plan *plan, u64 seed, u64 pages, u32 ops);

/* Compute step @index. */
void plan_step(const struct plan *plan, u64 index, struct plan_step *step);

#define PLAN_WEIGHT_MAX 1000000

/*
 * Parse "munmap,remap", "munmap=3,remap" or "all"; @weight: of each operation, 1 where none is given, 0 where it is
 * not in the list. Named twice, the last weight counts.
 * Return: 0; -EINVAL with the nearest name, or that plans cannot hold it, in @err.
 */
int plan_parse_ops(const char *list, u32 *ops, u32 weight[PLAN_OP_NR], struct err *err);

#endif /* LAB_PLAN_H */
