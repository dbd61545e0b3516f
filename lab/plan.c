/* SPDX-License-Identifier: MIT */
/* Plans: see lab/plan.h. */
#include "lab/plan.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/rng.h"

/*
 * Each step may leave borders between mappings. Ranges start and end on multiples
 * of a granule, so that a large DATA never has more mappings than this, far below
 * Linux's limit of 65,530 per process.
 */
#define PLAN_MAX_GRANULES 16384

#define PLAN_DEFAULT_PAGES 64
#define PLAN_DEFAULT_HOLD_NS 60000

static u64 granule_of(u64 pages)
{
	return max((u64)1, pages / PLAN_MAX_GRANULES);
}

const struct plan_op_info plan_op_table[PLAN_OP_NR + 1] = {
	[PLAN_MUNMAP] = { "munmap", "unmap, leave a hole for a moment, map fresh memory" },
	[PLAN_REMAP] = { "remap", "map fresh memory over the old with MAP_FIXED" },
	[PLAN_MPROTECT] = { "mprotect", "take the right to write or all rights away for a moment" },
	[PLAN_DONTNEED] = { "dontneed", "drop the contents with MADV_DONTNEED" },
	[PLAN_MREMAP] = { "mremap", "move pages away and back, or away for good" },
	[PLAN_MEMSLOT] = { "memslot", "take the memslot away for a moment" },
	[PLAN_DIRTYLOG] = { "dirtylog", "log writes for a moment: none may be missing (engine kvm)" },
};

void plan_init(struct plan *plan, u64 seed, u64 pages, u32 ops)
{
	*plan = (struct plan){
		.seed = seed,
		.pages = pages,
		.ops = ops,
		.max_pages = max(min(pages, (u64)PLAN_DEFAULT_PAGES), granule_of(pages)),
		.hold_ns = PLAN_DEFAULT_HOLD_NS,
	};
	for (unsigned int op = 0; op < PLAN_OP_NR; op++)
		plan->weight[op] = 1;
}

static enum plan_op pick_op(const struct plan *plan, u64 random)
{
	u64 sum = 0;

	for (unsigned int op = 0; op < PLAN_OP_NR; op++)
		sum += plan->ops & BIT(op) ? plan->weight[op] : 0;
	BUG_ON(!sum); /* a plan without operations */
	random %= sum;
	for (unsigned int op = 0;; op++) {
		u64 weight = plan->ops & BIT(op) ? plan->weight[op] : 0;

		if (random < weight)
			return op;
		random -= weight;
	}
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
	u64 granule = granule_of(plan->pages);
	u64 granules = plan->pages / granule;
	struct rng rng;
	u64 n;

	if (plan->list) {
		*step = plan->list[index % plan->nr];
		step->index = index;
		return;
	}
	rng_seed(&rng, rng_mix(plan->seed, index));
	*step = (struct plan_step){ .index = index, .op = pick_op(plan, rng_next(&rng)) };
	n = pick_length(&rng, max((u64)1, min(plan->max_pages, plan->pages) / granule));
	step->first = rng_below(&rng, granules - n + 1) * granule;
	step->pages = n * granule;
	step->hold_ns = rng_below(&rng, plan->hold_ns + 1);
	step->restamp = rng_below(&rng, 4) != 0;
	step->fresh = rng_below(&rng, 2);
	step->deny = rng_below(&rng, 2);
}

static int parse_host_op(const char *word, u32 *found, struct err *err)
{
	u32 beyond;
	int ret = op_parse_list(word, found, err);

	if (ret)
		return ret;
	if (*found == OP_ALL)
		*found = PLAN_OPS_ALL;
	beyond = *found & ~(u32)PLAN_OPS_ALL;
	if (!beyond)
		return 0;
	return err_set(err, -EINVAL, "operation '%s' has no place in a plan; `tain matrix --ops %s` does it",
		       op_table[__builtin_ctz(beyond)].name, op_table[__builtin_ctz(beyond)].name);
}

/* One word of the list, "munmap" or "munmap=3", which ends at @len. */
static int parse_op(const char *word, size_t len, u32 *ops, u32 weight[PLAN_OP_NR], struct err *err)
{
	const char *equals = memchr(word, '=', len);
	size_t name = equals ? (size_t)(equals - word) : len;
	char text[64];
	u32 found;
	u64 n = 1;
	int ret;

	snprintf(text, sizeof(text), "%.*s", (int)name, word);
	found = 0;
	for (unsigned int op = PLAN_HOST_NR; op < PLAN_OP_NR; op++)
		found |= strcmp(text, plan_op_table[op].name) ? 0 : BIT(op);
	ret = found ? 0 : parse_host_op(text, &found, err);
	if (ret)
		return ret;
	if (equals) {
		char *end;

		snprintf(text, sizeof(text), "%.*s", (int)(len - name - 1), equals + 1);
		n = strtoul(text, &end, 10);
		if (!isdigit((unsigned char)*text) || *end || !n || n > PLAN_WEIGHT_MAX)
			return err_set(err, -EINVAL, "weight '%s' of %.*s; 1 to %d are possible", text, (int)name, word,
				       PLAN_WEIGHT_MAX);
	}
	*ops |= found;
	for (unsigned int op = 0; op < PLAN_OP_NR; op++)
		if (found & BIT(op))
			weight[op] = (u32)n;
	return 0;
}

int plan_parse_ops(const char *list, u32 *ops, u32 weight[PLAN_OP_NR], struct err *err)
{
	*ops = 0;
	memset(weight, 0, PLAN_OP_NR * sizeof(*weight));
	for (;; list++) {
		size_t len = strcspn(list, ",");
		int ret = parse_op(list, len, ops, weight, err);

		list += len;
		if (ret || !*list)
			return ret;
	}
}
