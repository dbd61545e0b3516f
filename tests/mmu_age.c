/* SPDX-License-Identifier: MIT */
/* Aging through the host: what the guest used is young, once. */
#include "tests/mmu_env.h"

static u64 young(struct env *env, u64 pages)
{
	u64 count = 99;

	CHECK_EQ(mm_test_young(env->mm, env_hva(0), pages * PAGE_SIZE, &count), 0);
	return count;
}

static u64 clear(struct env *env, u64 pages, bool flush)
{
	u64 count = 99;

	CHECK_EQ(mm_clear_young(env->mm, env_hva(0), pages * PAGE_SIZE, flush, &count), 0);
	return count;
}

static void young_once(void)
{
	struct env env;
	struct tv tv;
	u64 word;

	REQUIRE(env_init(&env));
	tv_init(&tv, &env, 0);
	CHECK(tv_write(&tv, 0, 1) || tv_write(&tv, 0, 1));
	CHECK(tv_read(&tv, 1, &word) || tv_read(&tv, 1, &word));
	CHECK_EQ(young(&env, 4), 2);
	CHECK_EQ(young(&env, 4), 2); /* asking changes nothing */
	CHECK_EQ(clear(&env, 1, true), 1);
	CHECK_EQ(young(&env, 4), 1);
	CHECK_EQ(clear(&env, 4, true), 1);
	CHECK_EQ(young(&env, 4), 0);
	CHECK_EQ(env_audit(&env, NULL), 0);
	/* The TLB was flushed: the next use is noted in the entry, and is not a fault. */
	CHECK(tv_read(&tv, 0, &word));
	CHECK_EQ(word, 1);
	CHECK_EQ(young(&env, 4), 1);
	CHECK_EQ(env_audit(&env, NULL), 0);
	tv_fini(&tv);
	env_fini(&env);
}

/* Without a flush a use through a TLB may go unnoted. */
static void no_flush(void)
{
	struct env env;
	struct tv tv;
	u64 word;
	u32 flushed;

	REQUIRE(env_init(&env));
	tv_init(&tv, &env, 0);
	CHECK(tv_read(&tv, 0, &word) || tv_read(&tv, 0, &word));
	flushed = tv.flushed;
	CHECK_EQ(clear(&env, 1, false), 1);
	CHECK(tv_read(&tv, 0, &word));
	CHECK_EQ(tv.flushed, flushed);
	CHECK_EQ(young(&env, 1), 0);
	CHECK_EQ(env_audit(&env, NULL), 0);
	tv_fini(&tv);
	env_fini(&env);
}

const struct test_case mmu_age_tests[] = { TEST(young_once), TEST(no_flush), TEST_END };
