/* SPDX-License-Identifier: MIT */
/* Plans: see lab/plan/plan.h. */
#include "lab/plan/plan.h"

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

#define PLAN_FOLLOWED 16 /* steps: about one split for each collapse, where "all" are done */
#define PLAN_DEFAULT_PAGES 64
#define PLAN_DEFAULT_HOLD_NS 60000

static u64 granule_of(u64 pages)
{
	return max((u64)1, pages / PLAN_MAX_GRANULES);
}

/* What plans do to the VM, and how often "all" means an operation. */
static const struct {
	const char *name;
	const char *summary;
} vm_ops[] = {
	[PLAN_MEMSLOT - PLAN_HOST_NR] = { "memslot", "take the memslot away for a moment" },
	[PLAN_SLOTMOVE - PLAN_HOST_NR] = { "slotmove", "move the memslot elsewhere in the guest for a moment" },
	[PLAN_DIRTYLOG - PLAN_HOST_NR] = { "dirtylog", "log writes for a moment: none may be missing (engine kvm)" },
	[PLAN_UFFD_MISSING -
		PLAN_HOST_NR] = { "uffd_missing", "drop the contents; userfaultfd brings the new ones (engine kvm)" },
	[PLAN_UFFD_MINOR - PLAN_HOST_NR] = { "uffd_minor",
					     "drop page-table entries; userfaultfd maps the pages again (engine kvm)" },
	[PLAN_UFFD_WP -
		PLAN_HOST_NR] = { "uffd_wp", "protect by userfaultfd: no write before it allows one (engine kvm)" },
	[PLAN_SUSPEND - PLAN_HOST_NR] = { "suspend", "the VM stands still for a moment (engine qemu)" },
	[PLAN_MEMSTATS - PLAN_HOST_NR] = { "memstats", "ask for the VM's memory statistics (engine qemu)" },
	[PLAN_MIGRATE -
		PLAN_HOST_NR] = { "migrate",
				  "the VM moves to a second process: under KVM while it runs, under TCG suspended; "
				  "by name only (engine qemu)" },
	[PLAN_BALLOON - PLAN_HOST_NR] = { "balloon",
					  "the guest gives its pages away for a moment, by its balloon (engine qemu)" },
	[PLAN_PLUG - PLAN_HOST_NR] = { "plug", "a memory device is plugged in for a moment; machines pc and q35, by "
					       "name only (engine qemu)" },
	[PLAN_RESTORE - PLAN_HOST_NR] = { "restore", "the VM is saved to a file, ended, and restored from it, by name "
						     "only (engine qemu)" },
};

/* Against each other; those that take a thousand times as long come the rarer. */
#define OFTEN 50

static const u8 rare[PLAN_OP_NR] = {
	[PLAN_TRUNCATE] = 10, [PLAN_PAGEOUT] = 10, [PLAN_COLLAPSE] = 10, [PLAN_COMPACT] = 1,   [PLAN_MERGE] = 1,
	[PLAN_FORK] = 10,     [PLAN_MEMSLOT] = 20, [PLAN_SLOTMOVE] = 20, [PLAN_DIRTYLOG] = 20, [PLAN_SUSPEND] = 5,
	[PLAN_MEMSTATS] = 2,  [PLAN_MIGRATE] = 1,  [PLAN_BALLOON] = 5,	 [PLAN_PLUG] = 1,      [PLAN_RESTORE] = 1,
};

const char *plan_op_name(enum plan_op op)
{
	return op < PLAN_HOST_NR ? op_table[op].name : vm_ops[op - PLAN_HOST_NR].name;
}

const char *plan_op_summary(enum plan_op op)
{
	return op < PLAN_HOST_NR ? op_table[op].summary : vm_ops[op - PLAN_HOST_NR].summary;
}

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

/* Nothing collapses but a whole huge page. */
static bool has_huge(const struct plan *plan)
{
	return plan->pages / max(plan->ranges, 1u) % PLAN_HUGE_PAGES == 0 && plan->granule <= PLAN_HUGE_PAGES;
}

/* Pages @first and on, and how many, in granules of one range of DATA. */
static void pick_place(const struct plan *plan, struct rng *rng, struct plan_step *step)
{
	u32 ranges = max(plan->ranges, 1u);
	u64 each = plan->pages / ranges, granule = max(granule_of(plan->pages), max(plan->granule, (u64)1));
	u64 granules = each / granule, longest = max((u64)1, min(plan->max_pages, each) / granule);
	u64 n = pick_length(rng, longest);

	if (step->op == PLAN_MERGE) /* a page by itself has none to be merged with */
		n = max(n, min((u64)2, longest));
	step->first = rng_below(rng, granules - n + 1) * granule;
	step->pages = n * granule;
	if (ranges > 1)
		step->first += rng_below(rng, ranges) * each;
	if (step->op == PLAN_COLLAPSE && has_huge(plan)) {
		step->first = align_down(step->first, PLAN_HUGE_PAGES);
		step->pages = PLAN_HUGE_PAGES;
	}
}

static void begin_step(const struct plan *plan, u64 index, struct rng *rng, struct plan_step *step)
{
	rng_seed(rng, rng_mix(plan->seed, index));
	*step = (struct plan_step){ .index = index, .op = pick_op(plan, rng_next(rng)) };
	pick_place(plan, rng, step);
}

/* A huge page is where a step not long ago made one: a split goes there, as far into it as it would into DATA. */
static void follow_collapse(const struct plan *plan, struct plan_step *step)
{
	struct plan_step before;
	struct rng rng;

	for (u64 back = 1; back <= min(step->index, (u64)PLAN_FOLLOWED); back++) {
		begin_step(plan, step->index - back, &rng, &before);
		if (before.op != PLAN_COLLAPSE)
			continue;
		step->pages = min(step->pages, PLAN_HUGE_PAGES);
		step->first = before.first + min(step->first % PLAN_HUGE_PAGES, PLAN_HUGE_PAGES - step->pages);
		return;
	}
}

u64 plan_longest(const struct plan *plan)
{
	bool whole = plan->ops & BIT(PLAN_COLLAPSE) && has_huge(plan);

	return max(plan->max_pages, whole ? PLAN_HUGE_PAGES : (u64)1);
}

void plan_step(const struct plan *plan, u64 index, struct plan_step *step)
{
	struct rng rng;

	if (plan->list) {
		*step = plan->list[index % plan->nr];
		step->index = index;
		return;
	}
	begin_step(plan, index, &rng, step);
	if (step->op == PLAN_SPLIT && plan->ops & BIT(PLAN_COLLAPSE) && has_huge(plan))
		follow_collapse(plan, step);
	step->hold_ns = rng_below(&rng, plan->hold_ns + 1);
	step->restamp = rng_below(&rng, 4) != 0;
	step->fresh = rng_below(&rng, 2);
	step->deny = rng_below(&rng, 2);
}

/* --- lists of operations -------------------------------------------------------------- */

static int find_op(const char *name, struct plan_ops *ops, u32 *found, struct err *err)
{
	int ret;

	for (unsigned int op = PLAN_HOST_NR; op < PLAN_OP_NR; op++)
		if (!strcmp(name, plan_op_name(op))) {
			*found = BIT(op);
			ops->named |= *found;
			return 0;
		}
	ret = op_parse_list(name, found, err);
	if (ret)
		return ret;
	if (*found == OP_ALL)
		*found = PLAN_OPS_ALL;
	else
		ops->named |= *found;
	return 0;
}

/* One word of the list, "munmap" or "munmap=3", which ends at @len. */
static int parse_op(const char *word, size_t len, struct plan_ops *ops, struct err *err)
{
	const char *equals = memchr(word, '=', len);
	size_t name = equals ? (size_t)(equals - word) : len;
	char text[64];
	u32 found = 0;
	u64 n = 0;
	int ret;

	snprintf(text, sizeof(text), "%.*s", (int)name, word);
	ret = find_op(text, ops, &found, err);
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
	ops->set |= found;
	for (unsigned int op = 0; op < PLAN_OP_NR; op++)
		if (found & BIT(op))
			ops->weight[op] = n ? (u32)n : found != PLAN_OPS_ALL ? 1 : rare[op] ?: OFTEN;
	return 0;
}

int plan_parse_ops(const char *list, struct plan_ops *ops, struct err *err)
{
	*ops = (struct plan_ops){ .set = 0 };
	for (;; list++) {
		size_t len = strcspn(list, ",");
		int ret = parse_op(list, len, ops, err);

		list += len;
		if (ret || !*list)
			return ret;
	}
}
