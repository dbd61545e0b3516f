/* SPDX-License-Identifier: MIT */
/* Memory slots: what is refused, what is found, what moving and deleting leaves behind. */
#include "lib/alloc.h"
#include "lib/rng.h"
#include "tests/mmu_env.h"

#define MAX_GFN (1ull << 36)
#define TASK_PAGES (TAIN_TASK_SIZE >> PAGE_SHIFT)

static void bad_slots_are_refused(void)
{
	static const struct {
		const char *what;
		u32 id;
		gfn_t base;
		u64 npages;
		hva_t hva;
		u32 flags;
		int ret;
	} table[] = {
		{ "id", MMU_MAX_SLOTS, 0, 1, 0, 0, -EINVAL },
		{ "unknown flag", 1, 0, 1, 0, BIT(1), -EINVAL },
		{ "private flag", 1, 0, 1, 0, SLOT_INVALID, -EINVAL },
		{ "hva not aligned", 1, 0, 1, 1, 0, -EINVAL },
		{ "hva past the end", 1, 0, 1, TAIN_TASK_SIZE, 0, -EINVAL },
		{ "hva + bytes past the end", 1, 0, 2, TAIN_TASK_SIZE - PAGE_SIZE, 0, -EINVAL },
		{ "bytes overflow", 1, 0, 1ull << 52, 0, 0, -EINVAL },
		{ "more pages than addresses", 1, 0, TASK_PAGES + 1, 0, 0, -EINVAL },
		{ "gfn past the format", 1, MAX_GFN, 1, 0, 0, -EINVAL },
		{ "gfn + pages past the format", 1, MAX_GFN - 1, 2, 0, 0, -EINVAL },
		{ "gfn + pages overflow", 1, 1, (u64)-1, 0, 0, -EINVAL },
		{ "delete of none", 1, 0, 0, 0, 0, -ENOENT },
		{ "overlap below", 1, ENV_GFN - 1, 2, 0, 0, -EEXIST },
		{ "overlap inside", 1, ENV_GFN + 1, 1, 0, 0, -EEXIST },
		{ "overlap above", 1, ENV_GFN + ENV_PAGES - 1, 5, 0, 0, -EEXIST },
		{ "overlap around", 1, ENV_GFN - 1, ENV_PAGES + 2, 0, 0, -EEXIST },
		{ "the same slot again", 0, ENV_GFN, ENV_PAGES, ENV_HVA, 0, 0 },
		{ "just below", 1, ENV_GFN - 1, 1, ENV_HVA, 0, 0 },
		{ "just above", 2, ENV_GFN + ENV_PAGES, 1, ENV_HVA, 0, 0 },
		{ "the last page of both", 3, MAX_GFN - 1, 1, TAIN_TASK_SIZE - PAGE_SIZE, 0, 0 },
		{ "moved over itself", 2, ENV_GFN + ENV_PAGES + 1, 1, ENV_HVA, 0, 0 },
		{ "moved over another", 2, ENV_GFN, 1, ENV_HVA, 0, -EEXIST },
		{ "delete", 3, 0, 0, 0, 0, 0 },
		{ "delete twice", 3, 0, 0, 0, 0, -ENOENT },
	};
	struct env env;
	size_t i;

	REQUIRE(env_init(&env));
	for (i = 0; i < ARRAY_SIZE(table); i++) {
		int ret = mmu_set_memslot(env.mmu, table[i].id, table[i].base, table[i].npages, table[i].hva,
					  table[i].flags);

		CHECK_MSG(ret == table[i].ret, "%s: returned %d, expected %d", table[i].what, ret, table[i].ret);
	}
	env_fini(&env);
}

/* Lookup against a plain search, after every change of a random sequence. */
static void lookup_finds_the_slot(void)
{
	struct memslots slots = { 0 };
	struct env env;
	unsigned int step;
	u32 seed = 12345;

	REQUIRE(env_init(&env));
	for (step = 0; step < 60; step++) {
		u32 id = 1 + (seed = seed * 1103515245 + 12345) / 65536 % 10;
		gfn_t base = (seed = seed * 1103515245 + 12345) / 65536 % 200;
		gfn_t gfn;
		int ret;

		ret = mmu_set_memslot(env.mmu, id, base, (seed >> 20) % 20, ENV_HVA, 0);
		CHECK(ret == 0 || ret == -EEXIST || ret == -ENOENT);
		slots = *env.mmu->slots;
		for (gfn = 0; gfn < 230; gfn++) {
			const struct memslot *found = slot_find(&slots, gfn), *expected = NULL;
			u32 i;

			for (i = 0; i < slots.nr; i++) {
				if (gfn >= slots.slot[i].base && gfn < slots.slot[i].base + slots.slot[i].npages)
					expected = &slots.slot[i];
				CHECK(!i || slots.slot[i - 1].base + slots.slot[i - 1].npages <= slots.slot[i].base);
			}
			if (!CHECK_PTR_EQ(found, expected))
				return;
		}
		CHECK(!(slots.generation & SLOTS_UPDATING));
	}
	env_fini(&env);
}

/* What a section hits, one slot after the other. */
static unsigned int hits_by_search(const struct memslots *slots, hva_t start, hva_t end, gfn_t *first, gfn_t *last_end)
{
	unsigned int hits = 0;

	for (u32 i = 0; i < slots->nr; i++) {
		const struct memslot *slot = &slots->slot[i];

		first[i] = last_end[i] = 0;
		for (gfn_t gfn = slot->base; gfn < slot->base + slot->npages; gfn++) {
			if (slot_hva(slot, gfn) >= end || slot_hva(slot, gfn) + PAGE_SIZE <= start)
				continue;
			if (!last_end[i])
				first[i] = gfn;
			last_end[i] = gfn + 1;
		}
		hits += last_end[i] > 0;
	}
	return hits;
}

static bool sections_hit_as_searched(const struct memslots *slots, hva_t start, hva_t end)
{
	gfn_t first[MMU_MAX_SLOTS], last_end[MMU_MAX_SLOTS], from, to;
	unsigned int expected = hits_by_search(slots, start, end, first, last_end), hits = 0;

	for_each_span(s, slots, start, end)
	{
		if (!span_clip(s, start, end, &from, &to))
			continue;
		hits++;
		for (u32 i = 0; i < slots->nr; i++)
			if (slots->slot[i].base == s->base && (first[i] != from || last_end[i] != to))
				return CHECK_MSG(false, "%#llx..%#llx: gfns %llu..%llu, expected %llu..%llu",
						 (unsigned long long)start, (unsigned long long)end,
						 (unsigned long long)from, (unsigned long long)to,
						 (unsigned long long)first[i], (unsigned long long)last_end[i]);
	}
	return CHECK_EQ(hits, expected) && CHECK_EQ(!slots_touched(slots, start, end), !expected);
}

/* Slots of any size over the same memory, from none to all there can be, and ranges of any bytes in it. */
static void sections_hit_their_slots(void)
{
	struct rng rng;
	struct env env;
	bool ok = true;

	REQUIRE(env_init(&env));
	rng_seed(&rng, 7);
	for (u32 step = 0; step < 3 * MMU_MAX_SLOTS && ok; step++) {
		u32 id = rng_below(&rng, MMU_MAX_SLOTS);
		u64 npages = step > 2 * MMU_MAX_SLOTS ? 0 : 1 + rng_below(&rng, rng_below(&rng, 4) ? 3 : 90);
		int ret = mmu_set_memslot(env.mmu, id, id * 100, npages, env_hva(rng_below(&rng, 100)), 0);

		CHECK(ret == 0 || ret == -ENOENT);
		for (u32 i = 0; i < 60 && ok; i++) {
			hva_t start = ENV_HVA - PAGE_SIZE + rng_below(&rng, 200 * PAGE_SIZE);

			ok = sections_hit_as_searched(env.mmu->slots, start,
						      start + 1 + rng_below(&rng, (i % 3 ? 3 : 200) * PAGE_SIZE));
		}
	}
	ok = ok && sections_hit_as_searched(env.mmu->slots, 0, TAIN_TASK_SIZE);
	CHECK(ok);
	env_fini(&env);
}

static void clipping(void)
{
	const struct slot_span span = { .start = 0x20000, .end = 0x2a000, .base = 100 };
	static const struct {
		hva_t start, end;
		bool hit;
		gfn_t first, end_gfn;
	} table[] = {
		{ 0x20000, 0x2a000, true, 100, 110 }, { 0x0, 0x100000, true, 100, 110 },
		{ 0x0, 0x20000, false, 0, 0 },	      { 0x2a000, 0x30000, false, 0, 0 },
		{ 0x21000, 0x22000, true, 101, 102 }, { 0x29000, 0x50000, true, 109, 110 },
		{ 0x10000, 0x21000, true, 100, 101 },
	};
	gfn_t first, end;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(table); i++) {
		bool hit = span_clip(&span, table[i].start, table[i].end, &first, &end);

		CHECK_MSG(hit == table[i].hit, "row %zu", i);
		if (hit)
			CHECK_MSG(first == table[i].first && end == table[i].end_gfn, "row %zu: [%llu, %llu)", i,
				  (unsigned long long)first, (unsigned long long)end);
	}
}

static void all_slots_can_be_used(void)
{
	struct env env;
	u32 id;

	REQUIRE(env_init(&env));
	for (id = 1; id < MMU_MAX_SLOTS; id++)
		CHECK_EQ(mmu_set_memslot(env.mmu, id, (MMU_MAX_SLOTS - id) * 4, 3, ENV_HVA, 0), 0);
	CHECK_EQ(env.mmu->slots->nr, MMU_MAX_SLOTS);
	env_fini(&env);
}

/* rule K3: a deleted slot is zapped before the call returns, its tables are freed, TLBs hold nothing. */
static void delete_leaves_nothing(void)
{
	struct mmu_stats before, after;
	struct env env;
	struct tv tv;
	u64 word, page;

	REQUIRE(env_init(&env));
	tv_init(&tv, &env, 0);
	mmu_get_stats(env.mmu, &before);
	/* 1 GiB aligned, so that whole tables lie inside. */
	CHECK_EQ(mmu_set_memslot(env.mmu, 0, 0x40000, ENV_PAGES, ENV_HVA, 0), 0);
	CHECK_EQ(mmu_set_memslot(env.mmu, 1, 1ull << 27, 1ull << 19, ENV_HVA, 0), 0);
	for (page = 0; page < ENV_PAGES; page++) {
		u64 one = page;

		while (mmu_vcpu_enter(&tv.vcpu))
			;
		CHECK(tv_access(&tv, (BIT(27) + page) << PAGE_SHIFT, true, &one));
		mmu_vcpu_exit(&tv.vcpu);
	}
	mmu_get_stats(env.mmu, &after);
	CHECK_EQ(after.tables, before.tables + 3);
	CHECK_EQ(after.mapped, ENV_PAGES);
	CHECK_EQ(env_audit(&env, NULL), 0);
	CHECK_EQ(mmu_set_memslot(env.mmu, 1, 0, 0, 0, 0), 0);
	mmu_get_stats(env.mmu, &after);
	CHECK_EQ(after.tables, before.tables + 1); /* the 512 GiB table reaches beyond the slot */
	CHECK_EQ(after.mapped - after.zapped, 0);
	CHECK_EQ(env_audit(&env, NULL), 0);
	while (mmu_vcpu_enter(&tv.vcpu))
		;
	CHECK(!tv_access(&tv, BIT(27) << PAGE_SHIFT, false, &word));
	CHECK_EQ(tv.result, MMU_FAULT_MMIO);
	tv_fini(&tv);
	env_fini(&env);
}

/* A moved slot answers at its new place with the same memory, at the old place not at all. */
static void move_takes_the_memory_along(void)
{
	struct env env;
	struct tv tv;
	u64 word = 0;

	REQUIRE(env_init(&env));
	tv_init(&tv, &env, 0);
	CHECK(tv_write(&tv, 5, 0x1234));
	CHECK_EQ(mmu_set_memslot(env.mmu, 0, 0x5000, ENV_PAGES, ENV_HVA, 0), 0);
	CHECK_EQ(env_audit(&env, NULL), 0);
	CHECK(!tv_read(&tv, 5, &word));
	CHECK_EQ(tv.result, MMU_FAULT_MMIO);
	while (mmu_vcpu_enter(&tv.vcpu))
		;
	CHECK(tv_access(&tv, 0x5005ull << PAGE_SHIFT, false, &word));
	mmu_vcpu_exit(&tv.vcpu);
	CHECK_EQ(word, 0x1234);
	/* Same place, other memory. */
	CHECK_EQ(mmu_set_memslot(env.mmu, 0, 0x5000, ENV_PAGES - 6, env_hva(6), 0), 0);
	while (mmu_vcpu_enter(&tv.vcpu))
		;
	CHECK(tv_access(&tv, 0x5005ull << PAGE_SHIFT, false, &word));
	mmu_vcpu_exit(&tv.vcpu);
	CHECK_EQ(word, 0);
	tv_fini(&tv);
	env_fini(&env);
}

static void nth_allocation_fails(void)
{
#if CHECKING
	struct env env;
	u64 n;

	REQUIRE(env_init(&env));
	for (n = 1;; n++) {
		u64 generation = env.mmu->slots->generation, outstanding = mem_outstanding();
		int ret;

		mem_fail_after(n);
		ret = mmu_set_memslot(env.mmu, 0, 0x9000, ENV_PAGES, ENV_HVA, 0);
		mem_fail_after(0);
		CHECK_EQ(mem_outstanding(), outstanding);
		if (!ret)
			break;
		CHECK_EQ(ret, -ENOMEM);
		CHECK_EQ(env.mmu->slots->generation, generation);
		CHECK_EQ(slot_find(env.mmu->slots, ENV_GFN) != NULL, 1);
	}
	CHECK_EQ(n, 3); /* the marked array and the new one */
	env_fini(&env);
#endif
}

const struct test_case mmu_slot_tests[] = {
	TEST(bad_slots_are_refused),
	TEST(lookup_finds_the_slot),
	TEST(sections_hit_their_slots),
	TEST(clipping),
	TEST(all_slots_can_be_used),
	TEST(delete_leaves_nothing),
	TEST(move_takes_the_memory_along),
	TEST(nth_allocation_fails),
	TEST_END,
};
