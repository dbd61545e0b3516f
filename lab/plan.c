/* SPDX-License-Identifier: MIT */
/* Plans: see lab/plan.h. */
#include "lab/plan.h"

#include <string.h>

#include "lib/option.h"
#include "lib/rng.h"

/*
 * Each step may leave borders between mappings. Ranges start and end on multiples
 * of a granule, so that a large DATA never has more mappings than this, far below
 * Linux's limit of 65,530 per process.
 */
#define PLAN_MAX_GRANULES 16384

#define PLAN_DEFAULT_PAGES 64
#define PLAN_DEFAULT_HOLD_NS 60000

const struct plan_op_info plan_op_table[PLAN_OP_NR + 1] = {
	[PLAN_MUNMAP] = { "munmap", "unmap, leave a hole for a moment, map fresh memory" },
	[PLAN_REMAP] = { "remap", "map fresh memory over the old with MAP_FIXED" },
	[PLAN_MPROTECT] = { "mprotect", "take the right to write or all rights away for a moment" },
	[PLAN_DONTNEED] = { "dontneed", "drop the contents with MADV_DONTNEED" },
	[PLAN_MREMAP] = { "mremap", "move pages away and back, or away for good" },
};

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

static int parse_op(const char *word, size_t len, u32 *ops, struct err *err)
{
	const char *names[PLAN_OP_NR + 2] = { 0 };
	const char *near;
	char text[32];

	if (len == strlen("all") && !strncmp(word, "all", len)) {
		*ops |= PLAN_OPS_ALL;
		return 0;
	}
	for (unsigned int op = 0; op < PLAN_OP_NR; op++) {
		names[op] = plan_op_table[op].name;
		if (strlen(names[op]) == len && !strncmp(word, names[op], len)) {
			*ops |= BIT(op);
			return 0;
		}
	}
	if (!len)
		return err_set(err, -EINVAL, "empty name in the list of operations; `tain list ops` names them");
	names[PLAN_OP_NR] = "all";
	len = min(len, sizeof(text) - 1);
	memcpy(text, word, len);
	text[len] = 0;
	near = option_nearest(text, names);
	return err_set(err, -EINVAL, "unknown operation '%s'%s%s%s; `tain list ops` names them", text,
		       near ? ", did you mean '" : "", near ?: "", near ? "'?" : "");
}

int plan_parse_ops(const char *list, u32 *ops, struct err *err)
{
	const char *word = list;
	size_t len;
	int ret;

	*ops = 0;
	for (;;) {
		len = strcspn(word, ",");
		ret = parse_op(word, len, ops, err);
		if (ret || !word[len])
			return ret;
		word += len + 1;
	}
}
