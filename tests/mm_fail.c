/* SPDX-License-Identifier: MIT */
/*
 * Memory runs out at the 1st, 2nd ... allocation of each operation, of tain's own
 * structures and of frames, until the operation succeeds: each failure is -ENOMEM,
 * leaves everything as it was, and loses nothing.
 */
#include <string.h>

#include "tests/mm_env.h"

#if CHECKING

#define BEFORE "WWWWRRRR..XXNN..WWWW"
#define BEFORE_CONTENTS "abcdefgh..klmn..qrst"
#define WINDOW 20u

static int op_mmap(struct env *env)
{
	return mm_mmap(env->mm, env_addr(env, 2), 8 * PAGE_SIZE, TAIN_PROT_READ, TAIN_MAP_FIXED, NULL);
}

static int op_mmap_anywhere(struct env *env)
{
	hva_t out = 0;

	return mm_mmap(env->mm, 0, 8 * PAGE_SIZE, RW, 0, &out);
}

static int op_map_pfn(struct env *env)
{
	return mm_map_pfn(env->mm, env_addr(env, 8), env->reserved, 2 * PAGE_SIZE, RW);
}

static int op_munmap(struct env *env)
{
	return mm_munmap(env->mm, env_addr(env, 1), 12 * PAGE_SIZE);
}

static int op_munmap_middle(struct env *env)
{
	return mm_munmap(env->mm, env_addr(env, 1), 2 * PAGE_SIZE);
}

static int op_mprotect(struct env *env)
{
	return mm_mprotect(env->mm, env_addr(env, 1), 6 * PAGE_SIZE, TAIN_PROT_NONE);
}

static int op_move(struct env *env)
{
	return mm_mremap(env->mm, env_addr(env, 1), 3 * PAGE_SIZE, 3 * PAGE_SIZE,
			 TAIN_MREMAP_MAYMOVE | TAIN_MREMAP_FIXED, env_addr(env, 11), NULL);
}

/* To where no table is at any level, so that frames are needed. */
static int op_move_far(struct env *env)
{
	return mm_mremap(env->mm, env_addr(env, 1), 3 * PAGE_SIZE, 6 * PAGE_SIZE,
			 TAIN_MREMAP_MAYMOVE | TAIN_MREMAP_FIXED, (1ull << 45) - 2 * PAGE_SIZE, NULL);
}

static int op_grow_and_move(struct env *env)
{
	return mm_mremap(env->mm, env_addr(env, 0), 4 * PAGE_SIZE, 8 * PAGE_SIZE, TAIN_MREMAP_MAYMOVE, 0, NULL);
}

static int op_grow(struct env *env)
{
	return mm_mremap(env->mm, env_addr(env, 4), 4 * PAGE_SIZE, 6 * PAGE_SIZE, 0, 0, NULL);
}

static int op_shrink(struct env *env)
{
	return mm_mremap(env->mm, env_addr(env, 4), 4 * PAGE_SIZE, PAGE_SIZE, 0, 0, NULL);
}

static int op_dontneed(struct env *env)
{
	return mm_madvise(env->mm, env_addr(env, 0), 8 * PAGE_SIZE, TAIN_MADV_DONTNEED);
}

static const struct {
	const char *name;
	int (*fn)(struct env *env);
	bool needs_memory, needs_frames;
} operations[] = {
	{ "mmap", op_mmap, true, false },
	{ "mmap anywhere", op_mmap_anywhere, true, false },
	{ "map_pfn", op_map_pfn, true, false },
	{ "munmap", op_munmap, true, false },
	{ "munmap in the middle", op_munmap_middle, true, false },
	{ "mprotect", op_mprotect, true, false },
	{ "mremap", op_move, true, false },
	{ "mremap far", op_move_far, true, true },
	{ "mremap grow and move", op_grow_and_move, true, true },
	{ "mremap grow", op_grow, true, false },
	{ "mremap shrink", op_shrink, true, false },
	{ "dontneed", op_dontneed, false, false },
};

static void check_unchanged(struct env *env, const char *name, u64 n)
{
	char picture[ENV_TEXT], contents[ENV_TEXT];

	mm_check(env->mm);
	env_picture(env, WINDOW, picture);
	env_contents(env, WINDOW, contents);
	CHECK_MSG(!strcmp(picture, BEFORE), "%s, failure %llu: '%s'", name, (unsigned long long)n, picture);
	CHECK_MSG(!strcmp(contents, BEFORE_CONTENTS), "%s, failure %llu: '%s'", name, (unsigned long long)n, contents);
}

static void each(hva_t base, void (*fail_after)(u64 n), bool (*failed)(void), bool frames)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(operations); i++) {
		bool needs = frames ? operations[i].needs_frames : operations[i].needs_memory;
		struct env env;

		if (!env_init(&env, base))
			return;
		env_draw(&env, BEFORE, true);
		for (u64 n = 1; n < 1000; n++) {
			bool hit;
			int err;

			rcu_barrier(); /* or a failing frame allocation would wait for it, and succeed */
			fail_after(n);
			err = operations[i].fn(&env);
			hit = failed();
			fail_after(0);
			if (!err) {
				CHECK(!hit);
				CHECK_MSG(n > 1 || !needs, "%s allocates nothing", operations[i].name);
				break;
			}
			CHECK_MSG(err == -ENOMEM && hit, "%s, failure %llu: error %d", operations[i].name,
				  (unsigned long long)n, err);
			check_unchanged(&env, operations[i].name, n);
		}
		mm_check(env.mm);
		env_fini(&env);
	}
}

static void own_memory(void)
{
	each(ENV_BASE_LEAF, mem_fail_after, mem_failed, false);
	each(ENV_BASE_ROOT, mem_fail_after, mem_failed, false);
}

static void frames(void)
{
	each(ENV_BASE_LEAF, frame_fail_after, frame_failed, true);
	each(ENV_BASE_ROOT, frame_fail_after, frame_failed, true);
}

static void faults(void)
{
	struct mm_fault fault;
	struct env env;

	if (!env_init(&env, ENV_BASE_ROOT))
		return;
	CHECK_EQ(mm_mmap(env.mm, env.base, 8 * PAGE_SIZE, RW, TAIN_MAP_FIXED, NULL), 0);
	for (u64 n = 1; n < 10; n++) {
		int err;

		frame_fail_after(n);
		err = mm_fault_in(env.mm, env_addr(&env, 4), MM_WRITE, &fault);
		frame_fail_after(0);
		if (!err) {
			CHECK_GT(n, 3); /* each failure leaves one table more, for the next to find */
			put_page(fault.page);
			break;
		}
		CHECK_EQ(err, -ENOMEM);
		mm_check(env.mm);
	}
	frame_fail_after(1);
	CHECK_EQ(mm_populate(env.mm, env.base, 8 * PAGE_SIZE), -ENOMEM);
	CHECK_EQ(mm_populate(env.mm, env.base, 8 * PAGE_SIZE), 0);
	frame_fail_after(1);
	CHECK_EQ(mm_mmap(env.mm, env_addr(&env, 8), PAGE_SIZE, RW, TAIN_MAP_FIXED | TAIN_MAP_POPULATE, NULL), -ENOMEM);
	CHECK(vma_lookup(env.mm, env_addr(&env, 8))); /* as documented: what mm_populate() says; the mapping is there */
	env_fini(&env);
}

static void creation(void)
{
	struct frame_arena *arena;
	struct mm_struct *mm;

	REQUIRE_EQ(frame_arena_create(1ul << 20, &arena), 0);
	for (u64 n = 1; n < 20; n++) {
		int err;

		mem_fail_after(n);
		err = mm_create(arena, "mmap_sem", &mm);
		if (!err) {
			CHECK(!mem_failed());
			mem_fail_after(0);
			mmput(mm);
			break;
		}
		CHECK_EQ(err, -ENOMEM);
	}
	frame_fail_after(1);
	CHECK_EQ(mm_create(arena, "mmap_sem", &mm), -ENOMEM);
	CHECK_EQ(frame_arena_free_bytes(arena), 1ul << 20);
	frame_arena_destroy(arena);
}

/* A real shortage: an arena filled to the last frame refuses, and serves again when something is given back. */
static void arena_full(void)
{
	struct env env;
	u64 got = 0;
	hva_t base;

	if (!env_init(&env, ENV_BASE_LEAF))
		return;
	base = env.base;
	CHECK_EQ(mm_mmap(env.mm, base, 2 * ENV_ARENA_BYTES, RW, TAIN_MAP_FIXED, NULL), 0);
	while (!mm_write64(env.mm, base + got * PAGE_SIZE, got + 1))
		got++;
	CHECK_GT(got, (ENV_ARENA_BYTES >> PAGE_SHIFT) - ENV_WINDOW - 32);
	CHECK_EQ(mm_write64(env.mm, base + got * PAGE_SIZE, 1), -ENOMEM);
	CHECK_EQ(env_word(&env, base + (got - 1) * PAGE_SIZE), got);
	mm_check(env.mm);
	/* Tables come back after a grace period only: a fault that needs one of them waits. */
	CHECK_EQ(mm_munmap(env.mm, base, 512 * PAGE_SIZE), 0);
	CHECK_EQ(mm_write64(env.mm, base + got * PAGE_SIZE, 1), 0);
	env_fini(&env);
}

const struct test_case mm_fail_tests[] = { TEST(own_memory), TEST(frames),     TEST(faults),
					   TEST(creation),   TEST(arena_full), TEST_END };
#else
const struct test_case mm_fail_tests[] = { TEST_END };
#endif
