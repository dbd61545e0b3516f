/* SPDX-License-Identifier: MIT */
/* Plans: see lab/plan.h. */
#include "lab/plan.h"

#include "lib/rng.h"

/*
 * Each step may leave borders between mappings. Ranges start and end on multiples
 * of a granule, so that a large DATA never has more mappings than this, far below
 * Linux's limit of 65,530 per process.
 */
#define PLAN_MAX_GRANULES 16384

#define PLAN_DEFAULT_PAGES 64
#define PLAN_DEFAULT_HOLD_NS 60000

void plan_init(struct plan *plan, u64 seed, u64 pages, u32 ops)
{
	*plan = (struct plan){
		.seed = seed,
		.pages = pages,
		.ops = ops,
		.max_pages = min(pages, (u64)PLAN_DEFAULT_PAGES),
		.hold_ns = PLAN_DEFAULT_HOLD_NS,
	};
}

static enum plan_op pick_op(u32 ops, u64 random)
{
	unsigned int n = random % __builtin_popcount(ops);

	for (unsigned int op = 0; op < PLAN_OP_NR; op++)
		if (ops & BIT(op) && !n--)
			return op;
	BUG("a plan without operations");
}

/* Short ranges and long ones alike: the length's logarithm is uniform. */
static u64 pick_length(struct rng *rng, u64 longest)
{
	unsigned int bits = 64 - __builtin_clzll(longest);
	u64 bound = 1ull << rng_below(rng, bits);

	return min(bound + rng_below(rng, bound), longest);
}

void plan_step(const struct plan *plan, u64 index, struct plan_step *step)
{
	u64 granule = max((u64)1, plan->pages / PLAN_MAX_GRANULES);
	u64 granules = plan->pages / granule;
	struct rng rng;
	u64 n;

	rng_seed(&rng, rng_mix(plan->seed, index));
	*step = (struct plan_step){ .index = index, .op = pick_op(plan->ops, rng_next(&rng)) };
	n = pick_length(&rng, max((u64)1, min(plan->max_pages, plan->pages) / granule));
	step->first = rng_below(&rng, granules - n + 1) * granule;
	step->pages = n * granule;
	step->hold_ns = rng_below(&rng, plan->hold_ns + 1);
	step->restamp = rng_below(&rng, 4) != 0;
	step->fresh = rng_below(&rng, 2);
	step->deny = rng_below(&rng, 2);
}

int plan_parse_ops(const char *list, u32 *ops, struct err *err)
{
	u32 beyond;
	int ret = op_parse_list(list, ops, err);

	if (ret)
		return ret;
	if (*ops == OP_ALL)
		*ops = PLAN_OPS_ALL;
	beyond = *ops & ~(u32)PLAN_OPS_ALL;
	if (!beyond)
		return 0;
	return err_set(err, -EINVAL, "operation '%s' has no place in a plan; `tain matrix --ops %s` does it",
		       op_table[__builtin_ctz(beyond)].name, op_table[__builtin_ctz(beyond)].name);
}
