/* SPDX-License-Identifier: MIT */
/* The fault path, one thread: rights, contents, references, notes in the entry. */
#include "tests/mm_env.h"

static pte_t entry(struct env *env, hva_t addr)
{
	struct page *leaf = pt_leaf(env->mm, addr);

	return leaf ? pte_read(&pt_entries(leaf)[pt_index(addr, 1)]) : (pte_t){ 0 };
}

/* Every set of rights against every access, first touch and present. */
static void rights(void)
{
	struct env env;

	if (!env_init(&env, ENV_BASE_LEAF))
		return;
	for (int prot = 0; prot < 8; prot++) {
		for (int access = 1; access < 8; access++) {
			hva_t addr = env_addr(&env, 1);
			struct mm_fault fault = { 0 };
			int err = (prot & access) == access ? 0 : -EFAULT;

			CHECK_EQ(mm_mmap(env.mm, addr, PAGE_SIZE, prot, TAIN_MAP_FIXED, NULL), 0);
			for (int turn = 0; turn < 2; turn++) {
				CHECK_EQ(mm_fault_in(env.mm, addr + 123, access, &fault), err);
				if (err) {
					CHECK(pte_none(entry(&env, addr)));
					continue;
				}
				CHECK_EQ(fault.writable, !!(prot & MM_WRITE));
				CHECK_EQ(page_count(fault.page), 2);
				CHECK_EQ(*(u64 *)page_address(fault.page), 0);
				CHECK(entry(&env, addr).val & PTE_A);
				CHECK_EQ(!!(entry(&env, addr).val & PTE_D), !!(access & MM_WRITE));
				put_page(fault.page);
			}
			mm_check(env.mm);
		}
	}
	env_fini(&env);
}

/* Zeroed at first touch, although the frame was full of something else before. */
static void zeroed(void)
{
	struct env env;
	u64 v = 1;

	if (!env_init(&env, ENV_BASE_LEAF))
		return;
	CHECK_EQ(mm_mmap(env.mm, env.base, 4 * PAGE_SIZE, RW, TAIN_MAP_FIXED, NULL), 0);
	for (int turn = 0; turn < 3000; turn++) { /* longer than frames age */
		u64 page = turn % 4, word = turn % 512;

		CHECK_EQ(mm_read64(env.mm, env_addr(&env, page) + word * 8, &v), 0);
		CHECK_EQ(v, 0);
		CHECK_EQ(mm_write64(env.mm, env_addr(&env, page) + word * 8, ~0ull), 0);
		CHECK_EQ(mm_madvise(env.mm, env_addr(&env, page), PAGE_SIZE, TAIN_MADV_DONTNEED), 0);
	}
	env_fini(&env);
}

/* A page outlives its mapping as long as somebody holds it, and is told dirty. */
static void pinned_page(void)
{
	struct mm_fault fault;
	size_t free_bytes;
	struct env env;

	if (!env_init(&env, ENV_BASE_LEAF))
		return;
	CHECK_EQ(mm_mmap(env.mm, env.base, PAGE_SIZE, RW, TAIN_MAP_FIXED, NULL), 0);
	CHECK_EQ(mm_fault_in(env.mm, env.base, MM_WRITE, &fault), 0);
	*(u64 *)page_address(fault.page) = 42;
	CHECK_EQ(mm_munmap(env.mm, env.base, PAGE_SIZE), 0);
	CHECK_EQ(page_count(fault.page), 1);
	CHECK_EQ(*(u64 *)page_address(fault.page), 42);
	CHECK(fault.page->flags & PG_DIRTY);
	CHECK_EQ(fault.page->mapcount, 0);
	free_bytes = frame_arena_free_bytes(env.arena);
	put_page(fault.page);
	CHECK_EQ(frame_arena_free_bytes(env.arena), free_bytes + PAGE_SIZE);
	env_fini(&env);
}

/* Special mappings give the reserved frames themselves, in order, and take nothing from them. */
static void special(void)
{
	struct mm_fault fault;
	struct env env;

	if (!env_init(&env, ENV_BASE_LEAF))
		return;
	CHECK_EQ(mm_map_pfn(env.mm, env.base, env.reserved + 2, 8 * PAGE_SIZE, RW), 0);
	for (u64 i = 0; i < 8; i++) {
		for (int turn = 0; turn < 2; turn++) {
			CHECK_EQ(mm_fault_in(env.mm, env_addr(&env, i), MM_WRITE, &fault), 0);
			CHECK_EQ(page_to_pfn(fault.page), env.reserved + 2 + i);
			CHECK(fault.writable);
			put_page(fault.page);
			CHECK_EQ(page_count(fault.page), 1);
		}
	}
	mm_check(env.mm);
	CHECK_EQ(mm_munmap(env.mm, env.base, 8 * PAGE_SIZE), 0);
	for (u64 i = 0; i < ENV_WINDOW; i++)
		CHECK_EQ(page_count(pfn_to_page(env.arena, env.reserved + i)), 1);
	env_fini(&env);
}

static void populate(void)
{
	struct mm_stats stats;
	struct env env;

	if (!env_init(&env, ENV_BASE_LEAF))
		return;
	env_draw(&env, "WWRRNNXX", false);
	CHECK_EQ(mm_populate(env.mm, env.base, 8 * PAGE_SIZE), 0);
	mm_get_stats(env.mm, &stats);
	CHECK_EQ(stats.first_touches, 6);
	CHECK_EQ(stats.faults, 6);
	CHECK(!env_page(&env, env_addr(&env, 4)));
	CHECK(entry(&env, env_addr(&env, 1)).val & PTE_D);
	CHECK(!(entry(&env, env_addr(&env, 2)).val & PTE_D));
	CHECK_EQ(mm_mmap(env.mm, env_addr(&env, 8), 4 * PAGE_SIZE, RW, TAIN_MAP_FIXED | TAIN_MAP_POPULATE, NULL), 0);
	CHECK(env_page(&env, env_addr(&env, 11)));
	CHECK_EQ(mm_populate(env.mm, env.base, 8 * PAGE_SIZE), 0); /* once more does nothing */
	mm_get_stats(env.mm, &stats);
	CHECK_EQ(stats.first_touches, 10);
	CHECK_EQ(stats.spurious, 6);
	env_fini(&env);
}

/* Page tables come with the first touch and go with the last VMA that needs them. */
static void tables(void)
{
	struct mm_stats stats;
	struct env env;

	if (!env_init(&env, ENV_BASE_ROOT))
		return;
	env_draw(&env, "WWWWWWWW", true); /* over the border of two tables at each of three levels */
	mm_get_stats(env.mm, &stats);
	CHECK_EQ(stats.tables - stats.tables_freed, 1 + 6);
	CHECK_EQ(mm_munmap(env.mm, env_addr(&env, 5), 3 * PAGE_SIZE), 0);
	mm_get_stats(env.mm, &stats);
	CHECK_EQ(stats.tables - stats.tables_freed, 1 + 6); /* page 4 still needs them */
	CHECK_EQ(mm_munmap(env.mm, env_addr(&env, 4), PAGE_SIZE), 0);
	mm_get_stats(env.mm, &stats);
	CHECK_EQ(stats.tables - stats.tables_freed, 1 + 3);
	CHECK_EQ(mm_munmap(env.mm, 0, TAIN_TASK_SIZE), 0);
	mm_get_stats(env.mm, &stats);
	CHECK_EQ(stats.tables - stats.tables_freed, 1); /* the root */
	CHECK_EQ(stats.zapped, 8);
	env_fini(&env);
}

/* One notifier section per operation that clears entries, none for one that meets nothing. */
static void sections(void)
{
	struct mm_stats stats;
	struct env env;

	if (!env_init(&env, ENV_BASE_LEAF))
		return;
	env_draw(&env, "WWWW", true);
#define SECTIONS(call, expected)                                                                                       \
	({                                                                                                             \
		struct mm_stats sections_before;                                                                       \
                                                                                                                       \
		mm_get_stats(env.mm, &sections_before);                                                                \
		CHECK_EQ(call, 0);                                                                                     \
		mm_get_stats(env.mm, &stats);                                                                          \
		CHECK_EQ(stats.sections - sections_before.sections, expected);                                         \
	})
	SECTIONS(mm_mmap(env.mm, env_addr(&env, 8), PAGE_SIZE, RW, TAIN_MAP_FIXED, NULL), 0);
	SECTIONS(mm_mmap(env.mm, env_addr(&env, 0), PAGE_SIZE, RW, TAIN_MAP_FIXED, NULL), 1);
	SECTIONS(mm_munmap(env.mm, env_addr(&env, 10), PAGE_SIZE), 0);
	SECTIONS(mm_munmap(env.mm, env_addr(&env, 3), PAGE_SIZE), 1);
	SECTIONS(mm_mprotect(env.mm, env_addr(&env, 0), 2 * PAGE_SIZE, TAIN_PROT_READ), 1);
	SECTIONS(mm_madvise(env.mm, env_addr(&env, 0), 3 * PAGE_SIZE, TAIN_MADV_DONTNEED), 1);
	SECTIONS(mm_mremap(env.mm, env_addr(&env, 0), 2 * PAGE_SIZE, 2 * PAGE_SIZE,
			   TAIN_MREMAP_MAYMOVE | TAIN_MREMAP_FIXED, env_addr(&env, 12), NULL),
		 1);
	SECTIONS(mm_mremap(env.mm, env_addr(&env, 2), PAGE_SIZE, PAGE_SIZE, TAIN_MREMAP_MAYMOVE | TAIN_MREMAP_FIXED,
			   env_addr(&env, 12), NULL),
		 2); /* one for what was there */
	SECTIONS(mm_mremap(env.mm, env_addr(&env, 12), PAGE_SIZE, PAGE_SIZE, 0, 0, NULL), 0);
	env_fini(&env);
}

const struct test_case mm_fault_tests[] = { TEST(rights),   TEST(zeroed), TEST(pinned_page), TEST(special),
					    TEST(populate), TEST(tables), TEST(sections),    TEST_END };
