/* SPDX-License-Identifier: MIT */
/* From creation to exit: counts, what comes back, who is late. */
#include "tests/mm_env.h"

static void counts(void)
{
	struct mm_fault fault;
	struct env env;

	if (!env_init(&env, ENV_BASE_ROOT))
		return;
	CHECK_PTR_EQ(mm_arena(env.mm), env.arena);
	env_draw(&env, "WWRRNNPP", true);
	mmget(env.mm);
	mmput(env.mm);
	CHECK_EQ(mm_fault_in(env.mm, env.base, MM_READ, &fault), 0); /* one user is left */
	put_page(fault.page);
	mmgrab(env.mm);
	mmput(env.mm); /* exit: all memory goes, the structure stays */
	CHECK_EQ(frame_arena_free_bytes(env.arena), env.free_bytes);
	CHECK_EQ(mm_fault_in(env.mm, env.base, MM_READ, &fault), -EFAULT);
	mm_audit_begin(env.mm);
	CHECK(!mm_audit_lookup(env.mm, env.base, NULL));
	mm_audit_end(env.mm);
	mmdrop(env.mm);
	env.mm = NULL;
	env_fini(&env);
}

/* A page held over exit is the last thing to come back. */
static void page_outlives_mm(void)
{
	struct mm_fault fault;
	struct env env;

	if (!env_init(&env, ENV_BASE_LEAF))
		return;
	CHECK_EQ(mm_mmap(env.mm, env.base, PAGE_SIZE, RW, TAIN_MAP_FIXED, NULL), 0);
	CHECK_EQ(mm_fault_in(env.mm, env.base, MM_WRITE, &fault), 0);
	mmput(env.mm);
	env.mm = NULL;
	CHECK_EQ(frame_arena_free_bytes(env.arena), env.free_bytes - PAGE_SIZE);
	put_page(fault.page);
	env_fini(&env);
}

static void several_share_an_arena(void)
{
	struct mm_struct *mm[8];
	struct env env;
	u64 v;

	if (!env_init(&env, ENV_BASE_LEAF))
		return;
	for (u64 i = 0; i < ARRAY_SIZE(mm); i++) {
		REQUIRE_EQ(mm_create(env.arena, "mmap_sem", &mm[i]), 0);
		CHECK_EQ(mm_mmap(mm[i], env.base, 8 * PAGE_SIZE, RW, TAIN_MAP_FIXED | TAIN_MAP_POPULATE, NULL), 0);
		CHECK_EQ(mm_write64(mm[i], env.base, i), 0);
	}
	for (u64 i = 0; i < ARRAY_SIZE(mm); i++) {
		CHECK_EQ(mm_read64(mm[i], env.base, &v), 0);
		CHECK_EQ(v, i);
		mm_check(mm[i]);
		mmput(mm[i]);
	}
	env_fini(&env);
}

struct late {
	struct thread thread;
	struct env *env;
	u64 found;
};

static void fault_until_refused(void *arg)
{
	struct late *late = arg;
	struct mm_fault fault;
	int err = 0;

	for (u64 i = 0; !err; i++) {
		err = mm_fault_in(late->env->mm, env_addr(late->env, i % 16), MM_WRITE, &fault);
		if (!err) {
			WRITE_ONCE(late->found, late->found + 1);
			put_page(fault.page);
		}
	}
	CHECK_EQ(err, -EFAULT);
	mmdrop(late->env->mm);
}

/*
 *   T1 (holds mm_count)                 main
 *   fault: mmap_lock for reading
 *                                       last mmput: release; waits for mmap_lock
 *   install; unlock
 *                                       unmaps that page too; frees the tables
 *   fault: no VMA: -EFAULT
 */
static void late_faults(void)
{
	for (int turn = 0; turn < TEST_SCALE(40); turn++) {
		struct late late[2];
		struct env env;

		if (!env_init(&env, ENV_BASE_ROOT))
			return;
		CHECK_EQ(mm_mmap(env.mm, env.base, 16 * PAGE_SIZE, RW, TAIN_MAP_FIXED, NULL), 0);
		for (unsigned int i = 0; i < ARRAY_SIZE(late); i++) {
			late[i] = (struct late){ .env = &env };
			mmgrab(env.mm);
			REQUIRE_EQ(thread_create(&late[i].thread, "late", -1, fault_until_refused, &late[i]), 0);
		}
		while (!READ_ONCE(late[0].found))
			thread_yield();
		mmput(env.mm);
		for (unsigned int i = 0; i < ARRAY_SIZE(late); i++)
			thread_join(&late[i].thread);
		env.mm = NULL;
		env_fini(&env);
	}
}

const struct test_case mm_life_tests[] = { TEST(counts), TEST(page_outlives_mm), TEST(several_share_an_arena),
					   TEST(late_faults), TEST_END };
