/* SPDX-License-Identifier: MIT */
/* Pages held for a device. */
#include "tests/mm_env.h"

static void pin_refuses(void)
{
	static const struct {
		u64 page, offset;
		int prot, ret;
	} rows[] = {
		{ 0, 0, RW, 0 },
		{ 0, 0, TAIN_PROT_READ, 0 },
		{ 0, 0, TAIN_PROT_WRITE, 0 },
		{ 0, 0, TAIN_PROT_NONE, -EINVAL },
		{ 0, 0, RW | TAIN_PROT_EXEC, -EINVAL },
		{ 0, 0, -1, -EINVAL },
		{ 0, 8, RW, -EINVAL },
		{ 1, 0, TAIN_PROT_READ, 0 },
		{ 1, 0, RW, -EFAULT },
		{ 2, 0, TAIN_PROT_READ, -EFAULT },
		{ 3, 0, TAIN_PROT_READ, -EFAULT },
	};
	struct mm_pin pin;
	struct env env;

	if (!env_init(&env, ENV_BASE_LEAF))
		return;
	env_draw(&env, "WRN.", false);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		int ret = mm_pin(env.mm, env_addr(&env, rows[i].page) + rows[i].offset, rows[i].prot, &pin);

		CHECK_MSG(ret == rows[i].ret, "row %zu: %d, not %d", i, ret, rows[i].ret);
		if (!ret)
			mm_unpin(&pin);
	}
	CHECK_EQ(mm_pin(env.mm, env.base, RW, NULL), -EINVAL);
	CHECK_EQ(mm_pin(env.mm, TAIN_TASK_SIZE, RW, &pin), -EFAULT);
	env_fini(&env);
}

/* What the device holds is what was mapped, and is nobody else's until it lets go. */
static void pin_outlives_mapping(void)
{
	struct mm_pin old, new;
	struct env env;
	u64 word = 0;

	if (!env_init(&env, ENV_BASE_LEAF))
		return;
	CHECK_EQ(mm_mmap(env.mm, env.base, PAGE_SIZE, RW, TAIN_MAP_FIXED, NULL), 0);
	CHECK_EQ(mm_write64(env.mm, env.base, 1), 0);
	CHECK_EQ(mm_pin(env.mm, env.base, RW, &old), 0);
	CHECK_EQ(*(u64 *)old.data, 1);
	*(u64 *)old.data = 2; /* by the device */
	CHECK_EQ(mm_read64(env.mm, env.base, &word), 0);
	CHECK_EQ(word, 2);
	CHECK_EQ(mm_mmap(env.mm, env.base, PAGE_SIZE, RW, TAIN_MAP_FIXED, NULL), 0);
	CHECK_EQ(mm_pin(env.mm, env.base, RW, &new), 0);
	CHECK(new.page != old.page);
	CHECK_EQ(*(u64 *)new.data, 0);
	CHECK_EQ(*(u64 *)old.data, 2);
	mm_unpin(&old);
	CHECK_PTR_EQ(old.data, NULL);
	mm_unpin(&new);
	env_fini(&env);
}

const struct test_case mm_pin_tests[] = { TEST(pin_refuses), TEST(pin_outlives_mapping), TEST_END };
