/* SPDX-License-Identifier: MIT */
/* Rule K9: what the processor notes in an entry while the host takes it away. */
#include "mm/frame.h"
#include "tests/mmu_env.h"

#if CHECKING

static void tv_write_once(struct tv *tv)
{
	tv->result = tv_write(tv, tv->page, tv->word) ? 0 : -1;
}

/*
 * K9-1 (catalogue 32): the processor notes a write between the zapper's read and its
 * store. The page must learn of it.
 *
 *   vCPU                                   host
 *   ----                                   ----
 *                                          old = *spte: W, not D
 *   walk for a write: sets D
 *                                          *spte = 0 (right: xchg), page told of old
 */
static void dirty_bit_between_read_and_store(bool bug)
{
	struct race_gate zapper;
	struct mm_fault page;
	struct host host;
	struct env env;
	struct tv tv;
	u64 word;

	REQUIRE(env_init(&env));
	tv_init(&tv, &env, 0);
	CHECK(tv_read(&tv, 0, &word));
	CHECK_EQ(mm_fault_in(env.mm, env_hva(0), MM_READ, &page), 0);
	if (bug)
		race_arm(&zapper, "spte:plain_store", 1);
	else
		tv_write_once(&tv);
	host_start(&host, &env, 0, host_munmap);
	if (bug) {
		race_wait(&zapper);
		tv_start(&tv, tv_write_once);
		tv_join(&tv);
		race_release(&zapper);
		race_disarm(&zapper);
	}
	host_join(&host);
	CHECK_EQ(tv.result, 0);
	CHECK_EQ(!(page.page->flags & PG_DIRTY), bug);
	put_page(page.page);
	tv_fini(&tv);
	env_fini(&env);
}

static void k9_dirty_bit_is_not_lost(void)
{
	dirty_bit_between_read_and_store(false);
	env_mutant("k9-plain-store");
	dirty_bit_between_read_and_store(true);
}

const struct test_case mmu_dirty_tests[] = {
	TEST(k9_dirty_bit_is_not_lost),
	TEST_END,
};

#else
const struct test_case mmu_dirty_tests[] = { TEST_END };
#endif
