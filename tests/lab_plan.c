/* SPDX-License-Identifier: MIT */
/* Plans: determinism, bounds, coverage, names. */
#include <string.h>

#include "lab/plan/plan.h"
#include "tests/lab_suites.h"

static bool same(const struct plan_step *a, const struct plan_step *b)
{
	return a->index == b->index && a->op == b->op && a->first == b->first && a->pages == b->pages &&
	       a->hold_ns == b->hold_ns && a->restamp == b->restamp && a->fresh == b->fresh && a->deny == b->deny;
}

/* A step does not depend on those computed before it. */
static void step_is_a_pure_function(void)
{
	struct plan_step forwards[200], again;
	struct plan plan;

	plan_init(&plan, 42, 1000, PLAN_OPS_BASIC);
	for (u64 i = 0; i < ARRAY_SIZE(forwards); i++)
		plan_step(&plan, i, &forwards[i]);
	for (u64 i = ARRAY_SIZE(forwards); i-- > 0;) {
		plan_step(&plan, i, &again);
		if (!CHECK(same(&forwards[i], &again)))
			return;
	}
}

static void seeds_differ(void)
{
	struct plan_step a, b;
	struct plan one, other;
	int alike = 0;

	plan_init(&one, 1, 1000, PLAN_OPS_BASIC);
	plan_init(&other, 2, 1000, PLAN_OPS_BASIC);
	for (u64 i = 0; i < 100; i++) {
		plan_step(&one, i, &a);
		plan_step(&other, i, &b);
		alike += same(&a, &b);
	}
	CHECK_LT(alike, 5);
}

/* Known steps: the plan of an old seed must stay the same, or a report cannot be repeated. */
static void plan_is_stable(void)
{
	static const struct plan_step known[] = {
		{ 0, PLAN_MREMAP, 791, 7, 6476, false, false, true, false },
		{ 1000, PLAN_MPROTECT, 3548, 26, 38488, true, false, false, false },
		{ 2000, PLAN_MREMAP, 2010, 3, 27813, false, true, true, false },
		{ 3000, PLAN_REMAP, 932, 3, 22052, true, true, true, false },
	};
	struct plan plan;

	plan_init(&plan, 7, 4096, PLAN_OPS_BASIC);
	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		struct plan_step s;

		plan_step(&plan, known[i].index, &s);
		CHECK_MSG(same(&s, &known[i]), "step %llu: %s of %llu pages at %llu", (unsigned long long)s.index,
			  plan_op_name(s.op), (unsigned long long)s.pages, (unsigned long long)s.first);
	}
}

static void steps_stay_in_bounds(void)
{
	static const u64 sizes[] = { 1, 2, 3, 63, 64, 65, 1000, 16384, 16385, 100000, 1ull << 24 };

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct plan plan;

		plan_init(&plan, i, sizes[i], PLAN_OPS_BASIC);
		for (u64 j = 0; j < 2000; j++) {
			struct plan_step s;

			plan_step(&plan, j, &s);
			CHECK_GE(s.pages, 1);
			CHECK_LE(s.pages, plan.max_pages); /* what buffers are made for */
			CHECK_LE(s.first + s.pages, sizes[i]);
			CHECK_LE(s.hold_ns, plan.hold_ns);
			if (test_failures())
				return;
		}
	}
}

/* Every page of a small DATA, every operation, both values of every parameter. */
static void steps_cover_everything(void)
{
	u64 ops[PLAN_OP_NR] = { 0 }, pages[64] = { 0 }, restamp[2] = { 0 }, fresh[2] = { 0 }, deny[2] = { 0 };
	u64 longest = 0, shortest = ~0ull;
	struct plan plan;

	plan_init(&plan, 3, ARRAY_SIZE(pages), PLAN_OPS_BASIC);
	for (u64 i = 0; i < 5000; i++) {
		struct plan_step s;

		plan_step(&plan, i, &s);
		ops[s.op]++;
		for (u64 p = s.first; p < s.first + s.pages; p++)
			pages[p]++;
		restamp[s.restamp]++;
		fresh[s.fresh]++;
		deny[s.deny]++;
		longest = max(longest, s.pages);
		shortest = min(shortest, s.pages);
	}
	for (int op = 0; op < PLAN_BASIC_NR; op++)
		CHECK_MSG(ops[op] > 800 && ops[op] < 1200, "%s: %llu of 5000", plan_op_name(op),
			  (unsigned long long)ops[op]);
	for (size_t p = 0; p < ARRAY_SIZE(pages); p++)
		CHECK_MSG(pages[p] > 50, "page %zu: %llu times", p, (unsigned long long)pages[p]);
	for (int i = 0; i < 2; i++) {
		CHECK_GT(restamp[i], 500);
		CHECK_GT(fresh[i], 500);
		CHECK_GT(deny[i], 500);
	}
	CHECK_EQ(longest, 64);
	CHECK_EQ(shortest, 1);
}

static void only_chosen_operations(void)
{
	for (unsigned int op = 0; op < PLAN_BASIC_NR; op++) {
		struct plan plan;

		plan_init(&plan, op, 100, BIT(op));
		for (u64 i = 0; i < 100; i++) {
			struct plan_step s;

			plan_step(&plan, i, &s);
			CHECK_EQ(s.op, op);
		}
	}
}

static void operations_are_parsed(void)
{
	static const struct {
		const char *list;
		int ret;
		u32 ops;
		const char *says;
	} cases[] = {
		{ "all", 0, PLAN_OPS_ALL, "" },
		{ "munmap", 0, BIT(PLAN_MUNMAP), "" },
		{ "mremap,munmap", 0, BIT(PLAN_MREMAP) | BIT(PLAN_MUNMAP), "" },
		{ "munmap,munmap", 0, BIT(PLAN_MUNMAP), "" },
		{ "munmap,all", 0, PLAN_OPS_ALL, "" },
		{ "", -EINVAL, 0, "empty name" },
		{ "munmap,", -EINVAL, 0, "empty name" },
		{ ",munmap", -EINVAL, 0, "empty name" },
		{ "munmpa", -EINVAL, 0, "did you mean 'munmap'?" },
		{ "remap,mrotect", -EINVAL, 0, "did you mean 'mprotect'?" },
		{ "xyzzy", -EINVAL, 0, "unknown operation 'xyzzy'" },
		{ "munmap=3,remap", 0, BIT(PLAN_MUNMAP) | BIT(PLAN_REMAP), "" },
		{ "all,remap=100", 0, PLAN_OPS_ALL, "" },
		{ "munmap=", -EINVAL, 0, "weight '' of munmap; 1 to 1000000 are possible" },
		{ "munmap=0", -EINVAL, 0, "weight '0' of munmap" },
		{ "munmap=-1", -EINVAL, 0, "weight '-1' of munmap" },
		{ "munmap=1000001", -EINVAL, 0, "weight '1000001' of munmap" },
		{ "remap,munmap=2x", -EINVAL, 0, "weight '2x' of munmap" },
		{ "=3", -EINVAL, 0, "empty name" },
		{ "munmpa=3", -EINVAL, 0, "did you mean 'munmap'?" },
		{ "memslot=2,dirtylog", 0, BIT(PLAN_MEMSLOT) | BIT(PLAN_DIRTYLOG), "" },
		{ "remap,punch", 0, BIT(PLAN_REMAP) | BIT(PLAN_PUNCH), "" },
		{ "uffd_mp", -EINVAL, 0, "unknown operation 'uffd_mp'" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct err err = { "" };
		struct plan_ops ops;

		CHECK_EQ(plan_parse_ops(cases[i].list, &ops, &err), cases[i].ret);
		if (!cases[i].ret)
			CHECK_EQ(ops.set, cases[i].ops);
		CHECK_CONTAINS(err.text, cases[i].says);
	}
}

static void weights_are_kept(void)
{
	u64 seen[PLAN_OP_NR] = { 0 };
	struct plan_step s;
	struct plan_ops ops;
	struct plan plan;

	plan_init(&plan, 5, 100, PLAN_OPS_BASIC);
	REQUIRE_EQ(plan_parse_ops("all=2,munmap=30,mremap=6", &ops, NULL), 0);
	memcpy(plan.weight, ops.weight, sizeof(plan.weight));
	CHECK_EQ(ops.named, BIT(PLAN_MUNMAP) | BIT(PLAN_MREMAP));
	for (u64 i = 0; i < 4200; i++) {
		plan_step(&plan, i, &s);
		seen[s.op]++;
	}
	/* of 42: the seed is fixed, so this passes always or never */
	CHECK_MSG(seen[PLAN_MUNMAP] > 2800 && seen[PLAN_MUNMAP] < 3200, "%llu", (unsigned long long)seen[PLAN_MUNMAP]);
	CHECK_MSG(seen[PLAN_MREMAP] > 500 && seen[PLAN_MREMAP] < 700, "%llu", (unsigned long long)seen[PLAN_MREMAP]);
	CHECK_MSG(seen[PLAN_REMAP] > 130 && seen[PLAN_REMAP] < 270, "%llu", (unsigned long long)seen[PLAN_REMAP]);
}

/*
 * A split is worth most where a step not long ago made a huge page: there it goes, and
 * nothing leaves a range of DATA or outgrows what buffers are made for.
 */
static void splits_follow_collapses(void)
{
	u64 followed = 0, splits = 0;
	struct plan_step recent[16] = { { .index = 0 } }, s;
	struct plan plan;

	plan_init(&plan, 21, 4096, PLAN_OPS_ALL);
	plan.ranges = 2;
	for (u64 i = 0; i < 20000; i++) {
		const struct plan_step *last = NULL;

		plan_step(&plan, i, &s);
		CHECK_GE(s.pages, 1);
		CHECK_LE(s.pages, plan_longest(&plan));
		CHECK_EQ(s.first / 2048, (s.first + s.pages - 1) / 2048);
		for (u64 back = 1; back <= min(i, (u64)16) && !last; back++)
			if (recent[(i - back) % 16].op == PLAN_COLLAPSE)
				last = &recent[(i - back) % 16];
		splits += s.op == PLAN_SPLIT;
		if (s.op == PLAN_SPLIT && last) {
			followed++;
			CHECK_EQ(s.first / PLAN_HUGE_PAGES, last->first / PLAN_HUGE_PAGES);
			CHECK_EQ((s.first + s.pages - 1) / PLAN_HUGE_PAGES, last->first / PLAN_HUGE_PAGES);
		}
		recent[i % 16] = s;
		if (test_failures())
			return;
	}
	/* the seed is fixed, so this passes always or never */
	CHECK_MSG(followed > splits / 4 && followed < splits, "%llu of %llu splits", (unsigned long long)followed,
		  (unsigned long long)splits);
}

/* Without a collapse, or room for one, a split goes anywhere, and no buffer grows. */
static void nothing_to_follow(void)
{
	struct plan plan;

	plan_init(&plan, 21, 4096, BIT(PLAN_SPLIT) | BIT(PLAN_REMAP));
	CHECK_EQ(plan_longest(&plan), plan.max_pages);
	plan_init(&plan, 21, 256, PLAN_OPS_ALL);
	CHECK_EQ(plan_longest(&plan), plan.max_pages);
	plan_init(&plan, 21, 4096, PLAN_OPS_ALL);
	CHECK_EQ(plan_longest(&plan), PLAN_HUGE_PAGES);
}

/* A list is the plan, from the first again after the last. */
static void a_list_is_the_plan(void)
{
	const struct plan_step list[] = {
		{ .index = 17, .op = PLAN_REMAP, .first = 3, .pages = 2, .restamp = true },
		{ .index = 90, .op = PLAN_MREMAP, .first = 1, .pages = 1, .fresh = true },
	};
	struct plan_step s;
	struct plan plan;

	plan_init(&plan, 5, 100, PLAN_OPS_BASIC);
	plan.list = list;
	plan.nr = ARRAY_SIZE(list);
	for (u64 i = 0; i < 7; i++) {
		struct plan_step expected = list[i % 2];

		expected.index = i;
		plan_step(&plan, i, &s);
		CHECK(same(&s, &expected));
	}
}

/* What takes long comes more rarely, but only where nobody asked for it. */
static void all_is_weighted(void)
{
	struct plan_ops ops;

	REQUIRE_EQ(plan_parse_ops("all", &ops, NULL), 0);
	CHECK_EQ(ops.named, 0);
	CHECK_GT(ops.weight[PLAN_MUNMAP], ops.weight[PLAN_FORK]);
	CHECK_GT(ops.weight[PLAN_FORK], ops.weight[PLAN_COMPACT]);
	CHECK_GT(ops.weight[PLAN_COMPACT], 0);
	REQUIRE_EQ(plan_parse_ops("fork,munmap", &ops, NULL), 0);
	CHECK_EQ(ops.weight[PLAN_MUNMAP], ops.weight[PLAN_FORK]);
	REQUIRE_EQ(plan_parse_ops("all=3", &ops, NULL), 0);
	CHECK_EQ(ops.weight[PLAN_MUNMAP], ops.weight[PLAN_FORK]);
}

/* A step lies in one range, at multiples of the granule, and every range and every granule has its turn. */
static void steps_stay_in_their_range(void)
{
	static const struct {
		u64 pages, granule;
		u32 ranges;
	} cases[] = { { 1024, 1, 1 }, { 1024, 1, 4 }, { 12, 1, 3 }, { 16, 1, 16 }, { 4096, 512, 2 }, { 2048, 512, 4 } };

	for (size_t c = 0; c < ARRAY_SIZE(cases); c++) {
		u64 each = cases[c].pages / cases[c].ranges, seen = 0;
		struct plan_step s;
		struct plan plan;

		plan_init(&plan, c, cases[c].pages, PLAN_OPS_ALL);
		plan.granule = cases[c].granule;
		plan.ranges = cases[c].ranges;
		plan.max_pages = max(plan.max_pages, plan.granule);
		for (u64 i = 0; i < 2000 && !test_failures(); i++) {
			plan_step(&plan, i, &s);
			CHECK_GE(s.pages, 1);
			CHECK_EQ(s.first / each, (s.first + s.pages - 1) / each);
			CHECK_LT(s.first / each, plan.ranges);
			CHECK_EQ((s.first | s.pages) % plan.granule, 0);
			seen |= 1ull << s.first / each;
		}
		CHECK_EQ(seen, (1ull << cases[c].ranges) - 1);
	}
}

/* Each operation has a name of its own, and its name parses to it. */
static void names_are_complete(void)
{
	for (int op = 0; op < PLAN_OP_NR; op++) {
		struct plan_ops ops;

		REQUIRE(plan_op_name(op) && plan_op_summary(op));
		CHECK_EQ(plan_parse_ops(plan_op_name(op), &ops, NULL), 0);
		CHECK_EQ(ops.set, BIT(op));
		CHECK_EQ(ops.named, BIT(op));
		CHECK_EQ(ops.weight[op], 1);
		if (op < PLAN_HOST_NR)
			CHECK_STR(plan_op_name(op), op_table[op].name);
	}
}

const struct test_case lab_plan_tests[] = {
	TEST(step_is_a_pure_function),	 TEST(seeds_differ),	       TEST(plan_is_stable),
	TEST(steps_stay_in_bounds),	 TEST(steps_cover_everything), TEST(only_chosen_operations),
	TEST(operations_are_parsed),	 TEST(weights_are_kept),       TEST(splits_follow_collapses),
	TEST(nothing_to_follow),	 TEST(a_list_is_the_plan),     TEST(all_is_weighted),
	TEST(steps_stay_in_their_range), TEST(names_are_complete),     TEST_END,
};
