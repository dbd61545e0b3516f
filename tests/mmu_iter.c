/* SPDX-License-Identifier: MIT */
/*
 * The iterator. Tables are drawn: each gfn mapped is listed, the visit of leaves
 * compared with a plain walk over all gfns of the list.
 */
#include "mmu/zap.h"
#include "tests/mmu_env.h"

#define L2 512ull
#define L3 (512 * 512ull)
#define L4 (512 * 512 * 512ull)

/* Map gfns to frame 1 by hand, with tables as needed. */
static void map(struct env *env, gfn_t gfn)
{
	u64 *table = env->mmu->root;
	unsigned int level;

	write_lock(&env->mmu->lock);
	for (level = 4; level > 1; level--) {
		u64 *sptep = &table[pt_index(gfn, level)];

		if (!spte_present(env->mmu->format, *sptep))
			spte_change_locked(
				env->mmu, sptep, gfn, level,
				spte_make_table(env->mmu->format, table_pfn(env->mmu, table_alloc(env->mmu))));
		table = table_at(env->mmu, spte_pfn(env->mmu->format, *sptep));
	}
	spte_change_locked(env->mmu, &table[pt_index(gfn, 1)], gfn, 1, spte_make_leaf(env->mmu->format, 1, 1, true));
	write_unlock(&env->mmu->lock);
}

static const gfn_t mapped[] = { 0,	  1,	       511,    512,	L3 - 1,
				L3,	  L3 + L2 + 7, L4 - 1, L4 + 42, 5 * L4 + L3 * 9,
				511 * L4, 512 * L4 - 1 };

static void map_all(struct env *env)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(mapped); i++)
		map(env, mapped[i]);
}

/* Visit leaves of [start, end) in order, each once; @every: yield after that many entries (0: never). */
static void visit(struct env *env, gfn_t start, gfn_t end, unsigned int every)
{
	unsigned int since = 0, yields = 0;
	struct pt_iter it;
	size_t i = 0;

	while (i < ARRAY_SIZE(mapped) && mapped[i] < start)
		i++;
	for_each_spte(&it, env->mmu, start, end)
	{
		if (every && ++since >= every && pt_iter_progressed(&it)) {
			since = 0;
			yields++;
			pt_iter_yielded(&it);
			continue;
		}
		if (!spte_leaf(env->mmu->format, it.old, it.level))
			continue;
		if (!CHECK_MSG(i < ARRAY_SIZE(mapped) && it.gfn == mapped[i],
			       "leaf %#llx visited in [%#llx, %#llx), number %zu", (unsigned long long)it.gfn,
			       (unsigned long long)start, (unsigned long long)end, i))
			return;
		i++;
	}
	if (i < ARRAY_SIZE(mapped))
		CHECK_MSG(mapped[i] >= end, "[%#llx, %#llx) yield every %u: %#llx was not visited",
			  (unsigned long long)start, (unsigned long long)end, every, (unsigned long long)mapped[i]);
	CHECK(!every || yields || end - start < 600);
}

static void visits_every_leaf_once(void)
{
	static const gfn_t points[] = { 0,	 1,	 2,  511,     512,     513,    L3 - 1,	     L3,
					L3 + L2, L4 - 1, L4, L4 + 42, L4 + 43, 6 * L4, 512 * L4 - 1, 512 * L4 };
	struct env env;
	size_t a, b;

	REQUIRE(env_init(&env));
	map_all(&env);
	for (a = 0; a < ARRAY_SIZE(points); a++) {
		for (b = a; b < ARRAY_SIZE(points); b++)
			visit(&env, points[a], points[b], 0);
	}
	visit(&env, 0, (gfn_t)-1, 0); /* an end past the format's is cut */
	visit(&env, (gfn_t)-2, (gfn_t)-1, 0);
	env_fini(&env);
}

/* rule K13: restarts at the root, loses nothing, and always gets on. */
static void yields_lose_nothing(void)
{
	struct env env;
	unsigned int every;

	REQUIRE(env_init(&env));
	map_all(&env);
	for (every = 1; every < 40; every++) {
		visit(&env, 0, 512 * L4, every);
		visit(&env, 511, L4 + 43, every);
	}
	env_fini(&env);
}

/* The loop's body removes the table it stands at: the iterator must not follow the old value. */
static void body_may_change_the_entry(void)
{
	unsigned int leaves = 0;
	struct env env;
	struct pt_iter it;

	REQUIRE(env_init(&env));
	map_all(&env);
	write_lock(&env.mmu->lock);
	for_each_spte(&it, env.mmu, 0, 512 * L4)
	{
		if (it.level == 4 && spte_present(env.mmu->format, it.old)) {
			spte_change_locked(env.mmu, it.sptep, it.gfn, 4,
					   spte_make_frozen(env.mmu->format, spte_pfn(env.mmu->format, it.old)));
			table_free_tree(env.mmu, table_at(env.mmu, spte_pfn(env.mmu->format, it.old)), 3);
			spte_change_locked(env.mmu, it.sptep, it.gfn, 4, 0);
		}
		leaves += spte_leaf(env.mmu->format, it.old, it.level);
	}
	write_unlock(&env.mmu->lock);
	CHECK_EQ(leaves, 0);
	env_fini(&env);
}

/* The zap over it: only the range goes, boundaries inside tables included. */
static void zap_takes_the_range_alone(void)
{
	static const struct {
		gfn_t start, end;
		u64 left;
	} table[] = {
		{ 512, L4, 7 }, /* takes 512, L3-1, L3, L3+L2+7, L4-1 */
		{ 1, 2, 6 },	{ 0, 1, 5 }, { L4, 512 * L4 - 1, 2 }, { 0, 512 * L4, 0 },
	};
	struct mmu_stats stats;
	struct env env;
	size_t i;

	REQUIRE(env_init(&env));
	map_all(&env);
	for (i = 0; i < ARRAY_SIZE(table); i++) {
		write_lock(&env.mmu->lock);
		CHECK(zap_range_locked(env.mmu, table[i].start, table[i].end, false, false));
		CHECK(!zap_range_locked(env.mmu, table[i].start, table[i].end, true, false));
		CHECK(zap_range_locked(env.mmu, table[i].start, table[i].end, false,
				       true)); /* what was owed stays owed */
		write_unlock(&env.mmu->lock);
		mmu_get_stats(env.mmu, &stats);
		CHECK_EQ(stats.mapped - stats.zapped, table[i].left);
	}
	env_fini(&env);
}

const struct test_case mmu_iter_tests[] = {
	TEST(visits_every_leaf_once),
	TEST(yields_lose_nothing),
	TEST(body_may_change_the_entry),
	TEST(zap_takes_the_range_alone),
	TEST_END,
};
