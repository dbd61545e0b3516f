/* SPDX-License-Identifier: MIT */
/* Bad input: what each call refuses, and that it changed nothing. */
#include <string.h>

#include "tests/mm_env.h"

#define P PAGE_SIZE
#define TOP TAIN_TASK_SIZE

struct bad_range {
	const char *name;
	hva_t addr;
	size_t len;
};

/* Refused with -EINVAL by everything that takes a range. */
static const struct bad_range bad_ranges[] = {
	{ "empty", 0x1000, 0 },
	{ "address not aligned", 0x1001, P },
	{ "length not aligned", 0x1000, P + 1 },
	{ "less than a page", 0x1000, 1 },
	{ "at the end", TOP, P },
	{ "past the end", TOP - P, 2 * P },
	{ "behind the end", TOP + P, P },
	{ "kernel half", 0xffff800000000000ull, P },
	{ "wraps", 0xfffffffffffff000ull, 2 * P },
	{ "length wraps", 0x1000, 0xfffffffffffff000ull },
	{ "longer than all", 0, TOP + P },
};

static void ranges(void)
{
	struct env env;

	if (!env_init(&env, ENV_BASE_LEAF))
		return;
	env_draw(&env, "WRNP", true);
	for (unsigned int i = 0; i < ARRAY_SIZE(bad_ranges); i++) {
		const struct bad_range *b = &bad_ranges[i];
		hva_t out = 0x77;

#define REFUSED(call)                                                                                                  \
	({                                                                                                             \
		int refused = (call);                                                                                  \
                                                                                                                       \
		CHECK_MSG(refused == -EINVAL, "%s: %s is %d", b->name, #call, refused);                                \
	})
		REFUSED(mm_mmap(env.mm, b->addr, b->len, RW, TAIN_MAP_FIXED, &out));
		REFUSED(mm_mmap(env.mm, b->addr, b->len, RW, TAIN_MAP_FIXED_NOREPLACE, &out));
		REFUSED(mm_munmap(env.mm, b->addr, b->len));
		REFUSED(mm_mprotect(env.mm, b->addr, b->len, RW));
		REFUSED(mm_madvise(env.mm, b->addr, b->len, TAIN_MADV_DONTNEED));
		REFUSED(mm_populate(env.mm, b->addr, b->len));
		REFUSED(mm_map_pfn(env.mm, b->addr, env.reserved, b->len, RW));
		REFUSED(mm_mremap(env.mm, b->addr, b->len, P, 0, 0, &out));
		REFUSED(mm_mremap(env.mm, env_addr(&env, 0), P, b->len, TAIN_MREMAP_MAYMOVE | TAIN_MREMAP_FIXED,
				  b->addr, &out));
		CHECK_EQ(out, 0x77);
	}
	env_fini(&env);
}

static void arguments(void)
{
	char picture[ENV_TEXT], contents[ENV_TEXT];
	struct mm_fault fault;
	struct env env;
	hva_t out, a;
	u64 v;

	if (!env_init(&env, ENV_BASE_LEAF))
		return;
	env_draw(&env, "WRNP", true);
	a = env_addr(&env, 0);
	CHECK_EQ(mm_mmap(env.mm, 0, P, 8, 0, &out), -EINVAL);
	CHECK_EQ(mm_mmap(env.mm, 0, P, -1, 0, &out), -EINVAL);
	CHECK_EQ(mm_mmap(env.mm, 0, P, RW, 0x40000000, &out), -EINVAL);
	CHECK_EQ(mm_mmap(env.mm, 0, P, RW, 0, NULL), -EINVAL); /* nobody would know where */
	CHECK_EQ(mm_mmap(env.mm, 1, P, RW, 0, &out), -EINVAL);
	CHECK_EQ(mm_mmap(env.mm, 0, TOP, RW, 0, &out), -ENOMEM); /* not all of it is free */
	CHECK_EQ(mm_mprotect(env.mm, a, P, 8), -EINVAL);
	CHECK_EQ(mm_mprotect(env.mm, a, P, -1), -EINVAL);
	CHECK_EQ(mm_madvise(env.mm, a, P, 0), -EINVAL);
	CHECK_EQ(mm_madvise(env.mm, a, P, 8), -EINVAL);
	CHECK_EQ(mm_mremap(env.mm, a, P, P, 4, 0, &out), -EINVAL);
	CHECK_EQ(mm_mremap(env.mm, a, P, P, TAIN_MREMAP_FIXED, a + 8 * P, &out), -EINVAL);
	CHECK_EQ(mm_mremap(env.mm, a, P, 0, 0, 0, &out), -EINVAL);
	CHECK_EQ(mm_mremap(env.mm, a, P, TOP, TAIN_MREMAP_MAYMOVE, 0, &out), -ENOMEM);
	CHECK_EQ(mm_map_pfn(env.mm, a + 8 * P, env.reserved, P, 8), -EINVAL);
	CHECK_EQ(mm_map_pfn(env.mm, a + 8 * P, env.reserved + ENV_WINDOW, P, RW), -EINVAL); /* not reserved */
	CHECK_EQ(mm_map_pfn(env.mm, a + 8 * P, env.reserved + ENV_WINDOW - 1, 2 * P, RW), -EINVAL);
	CHECK_EQ(mm_map_pfn(env.mm, a + 8 * P, ~0ull, P, RW), -EINVAL);
	CHECK_EQ(mm_map_pfn(env.mm, a + 8 * P, 1, ~0ull & PAGE_MASK, RW), -EINVAL);
	CHECK_EQ(mm_populate(env.mm, a, 5 * P), -EFAULT);
	CHECK_EQ(mm_populate(env.mm, a, 4 * P), 0); /* no rights are no hole */
	CHECK_EQ(mm_read64(env.mm, a + 4, &v), -EINVAL);
	CHECK_EQ(mm_write64(env.mm, a + 1, 0), -EINVAL);
	CHECK_EQ(mm_read64(env.mm, TOP, &v), -EFAULT);
	CHECK_EQ(mm_read64(env.mm, ~7ull, &v), -EFAULT);
	CHECK_EQ(mm_fault_in(env.mm, TOP, MM_READ, &fault), -EFAULT);
	CHECK_EQ(mm_fault_in(env.mm, a, 0, &fault), -EFAULT);
	CHECK_EQ(mm_fault_in(env.mm, a, MM_EXEC, &fault), -EFAULT);
	mm_audit_begin(env.mm);
	CHECK(!mm_audit_lookup(env.mm, TOP, NULL));
	CHECK(!mm_audit_lookup(env.mm, ~0ull, NULL));
	mm_audit_end(env.mm);
	env_picture(&env, 6, picture);
	env_contents(&env, 6, contents);
	CHECK_STR(picture, "WRNP..");
	CHECK_STR(contents, "abcd..");
	env_fini(&env);
}

/* Copies that run into something have moved what came before it. */
static void copies(void)
{
	u8 out[3 * P], in[3 * P];
	struct env env;

	if (!env_init(&env, ENV_BASE_LEAF))
		return;
	env_draw(&env, "WW.WR", true);
	for (unsigned int i = 0; i < sizeof(in); i++)
		in[i] = (u8)(i * 7 + 1);
	CHECK_EQ(mm_copy_to(env.mm, env_addr(&env, 0) + 13, in, 2 * P - 13), 0);
	CHECK_EQ(mm_copy_from(env.mm, out, env_addr(&env, 0) + 13, 2 * P - 13), 0);
	CHECK(!memcmp(in, out, 2 * P - 13));
	CHECK_EQ(mm_copy_to(env.mm, env_addr(&env, 0), in, 3 * P), -EFAULT);
	memset(out, 0, sizeof(out));
	CHECK_EQ(mm_copy_from(env.mm, out, env_addr(&env, 0), 3 * P), -EFAULT);
	CHECK(!memcmp(in, out, 2 * P));
	CHECK_EQ(out[2 * P], 0);
	CHECK_EQ(mm_copy_to(env.mm, env_addr(&env, 3), in, 2 * P), -EFAULT); /* the second is read only */
	CHECK_EQ(mm_copy_from(env.mm, out, env_addr(&env, 3), 2 * P), 0);
	CHECK(!memcmp(in, out, P));
	CHECK_EQ(out[P], 'e');
	CHECK_EQ(mm_copy_to(env.mm, env_addr(&env, 2), in, 0), 0);
	CHECK_EQ(mm_copy_from(env.mm, out, TOP - 4, 8), -EFAULT);
	CHECK_EQ(mm_copy_from(env.mm, out, ~0ull - 3, 8), -EFAULT);
	env_fini(&env);
}

static void creation(void)
{
	struct frame_arena *arena;
	struct mm_struct *mm;

	REQUIRE_EQ(frame_arena_create(1ul << 20, &arena), 0);
	CHECK_EQ(mm_create(arena, "no_such", &mm), -EINVAL);
	CHECK_EQ(mm_create(arena, NULL, &mm), -EINVAL);
	CHECK_EQ(mm_create(NULL, "mmap_sem", &mm), -EINVAL);
	CHECK_EQ(mm_create(arena, "mmap_sem", NULL), -EINVAL);
	for (const char *const *name = mm_policy_names(); *name; name++) {
		REQUIRE_EQ(mm_create(arena, *name, &mm), 0);
		mmput(mm);
	}
	mmput(NULL);
	mmdrop(NULL);
	frame_arena_destroy(arena);
	frame_arena_destroy(NULL);
}

const struct test_case mm_bad_tests[] = { TEST(ranges), TEST(arguments), TEST(copies), TEST(creation), TEST_END };
