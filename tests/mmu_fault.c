/* SPDX-License-Identifier: MIT */
/* The fault path without races: every outcome, rights, notes, failures. */
#include "lib/alloc.h"
#include "mm/frame.h"
#include "tests/mmu_env.h"

/* The leaf of a page, or 0. */
static u64 leaf(struct env *env, u64 page)
{
	u64 *table = env->mmu->root;
	unsigned int level;
	u64 spte = 0;

	for (level = 4; level; level--) {
		spte = table[pt_index(ENV_GFN + page, level)];
		if (!spte_present(env->mmu->format, spte))
			return 0;
		table = table_at(env->mmu, spte_pfn(env->mmu->format, spte));
	}
	return spte;
}

/*
 * Each outcome of mmu_fault(), from a state set up by the rows before. Pages:
 * 0 RW, 1 read-only, 2 PROT_NONE, 3 unmapped, 4 RW behind a read-only slot.
 */
static void outcomes(void)
{
	static const struct {
		const char *what;
		gfn_t gfn;
		enum mm_access access;
		int ret;
	} table[] = {
		{ "no slot", ENV_GFN - 1, MM_READ, MMU_FAULT_MMIO },
		{ "no slot, past the format", 1ull << 40, MM_READ, MMU_FAULT_MMIO },
		{ "first read", ENV_GFN, MM_READ, MMU_FAULT_FIXED },
		{ "again", ENV_GFN, MM_READ, MMU_FAULT_SPURIOUS },
		{ "write: the read mapped it writable", ENV_GFN, MM_WRITE, MMU_FAULT_SPURIOUS },
		{ "execute", ENV_GFN, MM_EXEC, MMU_FAULT_SPURIOUS },
		{ "read of read-only memory", ENV_GFN + 1, MM_READ, MMU_FAULT_FIXED },
		{ "write to read-only memory", ENV_GFN + 1, MM_WRITE, -EFAULT },
		{ "read of PROT_NONE", ENV_GFN + 2, MM_READ, -EFAULT },
		{ "unmapped", ENV_GFN + 3, MM_WRITE, -EFAULT },
		{ "read through a read-only slot", 0x10, MM_READ, MMU_FAULT_FIXED },
		{ "write through a read-only slot", 0x10, MM_WRITE, MMU_FAULT_MMIO },
		{ "the same page through the other slot", ENV_GFN + 4, MM_WRITE, MMU_FAULT_FIXED },
		{ "first write", ENV_GFN + 5, MM_WRITE, MMU_FAULT_FIXED },
		{ "first execute", ENV_GFN + 6, MM_EXEC, MMU_FAULT_FIXED },
	};
	struct mmu_stats stats;
	struct env env;
	struct tv tv;
	size_t i;

	REQUIRE(env_init(&env));
	tv_init(&tv, &env, 0);
	CHECK_EQ(mm_mprotect(env.mm, env_hva(1), PAGE_SIZE, TAIN_PROT_READ), 0);
	CHECK_EQ(mm_mprotect(env.mm, env_hva(2), PAGE_SIZE, TAIN_PROT_NONE), 0);
	CHECK_EQ(mm_munmap(env.mm, env_hva(3), PAGE_SIZE), 0);
	CHECK_EQ(mmu_set_memslot(env.mmu, 1, 0x10, 1, env_hva(4), MMU_SLOT_READONLY), 0);
	for (i = 0; i < ARRAY_SIZE(table); i++) {
		int ret = mmu_fault(&tv.vcpu, table[i].gfn << PAGE_SHIFT, table[i].access);

		CHECK_MSG(ret == table[i].ret, "%s: outcome %d, expected %d", table[i].what, ret, table[i].ret);
	}
	mmu_get_stats(env.mmu, &stats);
	CHECK_EQ(stats.faults, ARRAY_SIZE(table));
	CHECK_EQ(stats.spurious, 3);
	CHECK_EQ(stats.mapped, 6);
	CHECK_EQ(stats.retries, 0);
	CHECK_EQ(env_audit(&env, NULL), 0);
	tv_fini(&tv);
	env_fini(&env);
}

/* rule K8, and the processor's notes: what a leaf looks like after each access. */
static void rights_and_notes_in_entries(void)
{
	const struct mmu_format *f = &mmu_format_ept;
	struct env env;
	struct tv tv;
	u64 word;

	REQUIRE(env_init(&env));
	tv_init(&tv, &env, 0);
	CHECK(tv_read(&tv, 0, &word));
	CHECK(spte_writable(f, leaf(&env, 0)) && spte_accessed(f, leaf(&env, 0)) && !spte_dirty(f, leaf(&env, 0)));
	CHECK(!tv.tlb[ENV_GFN % TV_TLB].writable); /* the first write has to walk */
	CHECK(tv_write(&tv, 0, 1));
	CHECK(spte_dirty(f, leaf(&env, 0)) && tv.tlb[ENV_GFN % TV_TLB].writable);

	/* Narrowed by the host: gone, then read-only. Widened: only by the next write. */
	CHECK_EQ(mm_mprotect(env.mm, env_hva(0), PAGE_SIZE, TAIN_PROT_READ), 0);
	CHECK_EQ(leaf(&env, 0), 0);
	CHECK(tv_read(&tv, 0, &word));
	CHECK_EQ(word, 1);
	CHECK(!spte_writable(f, leaf(&env, 0)) && !(leaf(&env, 0) & f->host_writable));
	CHECK(!tv_write(&tv, 0, 2));
	CHECK_EQ(tv.result, -EFAULT);
	CHECK_EQ(mm_mprotect(env.mm, env_hva(0), PAGE_SIZE, ENV_RW), 0);
	CHECK(tv_write(&tv, 0, 3));
	CHECK(spte_writable(f, leaf(&env, 0)) && spte_dirty(f, leaf(&env, 0)));
	CHECK(tv_read(&tv, 0, &word));
	CHECK_EQ(word, 3);
	CHECK_EQ(env_audit(&env, NULL), 0);
	tv_fini(&tv);
	env_fini(&env);
}

/* A leaf made read-only widens in place when the host allows more: same frame, no zap. */
static void widening(void)
{
	const struct mmu_format *f = &mmu_format_ept;
	struct mmu_stats stats;
	struct env env;
	struct tv tv;
	u64 *table, old;
	unsigned int level;

	REQUIRE(env_init(&env));
	tv_init(&tv, &env, 0);
	CHECK_EQ(mmu_fault(&tv.vcpu, env_gpa(0), MM_READ), MMU_FAULT_FIXED);
	/* Take the rights away by hand, as a write-protecting mirror would. */
	for (table = env.mmu->root, level = 4; level > 1; level--)
		table = table_at(env.mmu, spte_pfn(f, table[pt_index(ENV_GFN, level)]));
	old = table[pt_index(ENV_GFN, 1)];
	table[pt_index(ENV_GFN, 1)] = old & ~(f->write | f->mmu_writable | f->host_writable);
	CHECK_EQ(mmu_fault(&tv.vcpu, env_gpa(0), MM_READ), MMU_FAULT_SPURIOUS);
	CHECK_EQ(mmu_fault(&tv.vcpu, env_gpa(0), MM_WRITE), MMU_FAULT_FIXED);
	CHECK_EQ(leaf(&env, 0), old | f->dirty);
	mmu_get_stats(env.mmu, &stats);
	CHECK_EQ(stats.mapped, 1);
	CHECK_EQ(stats.zapped, 0);
	tv_fini(&tv);
	env_fini(&env);
}

/* The page learns what the processor noted when its leaf goes. */
static void notes_reach_the_page(void)
{
	struct env env;
	struct tv tv;
	unsigned int write;

	REQUIRE(env_init(&env));
	tv_init(&tv, &env, 0);
	for (write = 0; write < 2; write++) {
		struct mm_fault host;
		u64 word;

		CHECK(tv_read(&tv, write, &word));
		CHECK_EQ(mm_fault_in(env.mm, env_hva(write), MM_READ, &host), 0);
		if (write)
			CHECK(tv_write(&tv, write, 1));
		CHECK(!(host.page->flags & PG_DIRTY));
		CHECK_EQ(mm_munmap(env.mm, env_hva(write), PAGE_SIZE), 0);
		CHECK(host.page->flags & PG_ACCESSED);
		CHECK_EQ(!!(host.page->flags & PG_DIRTY), write);
		put_page(host.page);
	}
	tv_fini(&tv);
	env_fini(&env);
}

/* rule K10: another frame under a present leaf is a missed invalidation. The VM is stopped, tain is not. */
static void poisoned_vm_answers_eio(void)
{
	const struct mmu_format *f = &mmu_format_ept;
	struct mmu_mismatch m, found;
	struct env env;
	struct tv tv;
	u64 *table, old;
	unsigned int level;

	REQUIRE(env_init(&env));
	tv_init(&tv, &env, 0);
	CHECK(!mmu_get_poison(env.mmu, &m));
	CHECK_EQ(mmu_fault(&tv.vcpu, env_gpa(0), MM_READ), MMU_FAULT_FIXED);
	CHECK_EQ(mmu_fault(&tv.vcpu, env_gpa(1), MM_READ), MMU_FAULT_FIXED);
	for (table = env.mmu->root, level = 4; level > 1; level--)
		table = table_at(env.mmu, spte_pfn(f, table[pt_index(ENV_GFN, level)]));
	old = table[pt_index(ENV_GFN, 1)];
	table[pt_index(ENV_GFN, 1)] = leaf(&env, 1);
	CHECK_EQ(env_audit(&env, &found), 1);
	CHECK_EQ(found.gfn, ENV_GFN);
	CHECK_EQ(found.mirrored, spte_pfn(f, leaf(&env, 1)));
	CHECK_EQ(found.host, spte_pfn(f, old));
	CHECK(!found.tlb && !found.rights);

	CHECK_EQ(mmu_fault(&tv.vcpu, env_gpa(0), MM_WRITE), -EIO);
	CHECK_EQ(mmu_fault(&tv.vcpu, env_gpa(5), MM_WRITE), -EIO);
	CHECK(mmu_get_poison(env.mmu, &m));
	CHECK_EQ(m.gfn, ENV_GFN);
	CHECK_EQ(m.host, spte_pfn(f, old));
	CHECK_CONTAINS(m.rule, "rule K10");
	table[pt_index(ENV_GFN, 1)] = old;
	CHECK_EQ(env_audit(&env, NULL), 1); /* the poison itself */
	tv_fini(&tv);
	env_fini(&env);
}

/* What the exact audit tells apart. */
static void audit_tells_what_is_wrong(void)
{
	const struct mmu_format *f = &mmu_format_ept;
	struct mmu_mismatch m;
	struct env env;
	struct tv tv;
	u64 *table, old, word;
	unsigned int level;

	REQUIRE(env_init(&env));
	tv_init(&tv, &env, 3);
	CHECK_EQ(mm_mprotect(env.mm, env_hva(0), PAGE_SIZE, TAIN_PROT_READ), 0);
	CHECK(tv_read(&tv, 0, &word));
	for (table = env.mmu->root, level = 4; level > 1; level--)
		table = table_at(env.mmu, spte_pfn(f, table[pt_index(ENV_GFN, level)]));
	old = table[pt_index(ENV_GFN, 1)];
	CHECK_EQ(env_audit(&env, NULL), 0);

	table[pt_index(ENV_GFN, 1)] = old | f->host_writable | f->mmu_writable | f->write;
	CHECK_EQ(env_audit(&env, &m), 1);
	CHECK(m.rights && !m.tlb && m.host == m.mirrored);

	table[pt_index(ENV_GFN, 1)] = 0; /* the TLB alone has it, the host agrees: a flush was missed */
	CHECK_EQ(env_audit(&env, &m), 1);
	CHECK(m.tlb && !m.rights && m.vcpu == 3);
	table[pt_index(ENV_GFN, 1)] = old;

	tv.tlb[ENV_GFN % TV_TLB].writable = true;
	CHECK_EQ(env_audit(&env, &m), 1);
	CHECK(m.tlb && m.rights);

	mmu_flush_remote_tlbs(env.mmu); /* outside: not waited for; pending: not blamed */
	CHECK_EQ(env_audit(&env, NULL), 0);
	CHECK_EQ(tv.flushed, 0);
	CHECK(tv_read(&tv, 1, &word));
	CHECK_EQ(tv.flushed, 1);
	tv_fini(&tv);
	env_fini(&env);
}

static void nth_frame_fails(void)
{
#if CHECKING
	struct mmu_stats stats;
	struct env env;
	struct tv tv;
	u64 n;
	int ret;

	REQUIRE(env_init(&env));
	tv_init(&tv, &env, 0);
	for (n = 1;; n++) {
		frame_fail_after(n);
		ret = mmu_fault(&tv.vcpu, env_gpa(n), MM_WRITE);
		frame_fail_after(0);
		CHECK_EQ(env_audit(&env, NULL), 0);
		if (ret == MMU_FAULT_FIXED)
			break;
		if (!CHECK_EQ(ret, -ENOMEM))
			break;
	}
	CHECK_GT(n, 4); /* the page, its host tables, three of ours */
	mmu_get_stats(env.mmu, &stats);
	CHECK_EQ(stats.tables, 4);
	CHECK_EQ(stats.mapped, 1);
	tv_fini(&tv);
	env_fini(&env);
#endif
}

static void nth_allocation_of_create_fails(void)
{
#if CHECKING
	u64 n, kind, outstanding;
	struct mmu *mmu;
	struct env env;
	int ret;

	REQUIRE(env_init(&env));
	outstanding = mem_outstanding();
	for (kind = 0; kind < 2; kind++) {
		for (n = 1;; n++) {
			size_t frames = frame_arena_free_bytes(env.arena);

			if (kind)
				frame_fail_after(n);
			else
				mem_fail_after(n);
			ret = mmu_create(env.mm, "ept", &mmu);
			mem_fail_after(0);
			frame_fail_after(0);
			if (!ret)
				break;
			CHECK_EQ(ret, -ENOMEM);
			CHECK_EQ(mem_outstanding(), outstanding);
			CHECK_EQ(frame_arena_free_bytes(env.arena), frames);
		}
		CHECK_GE(n, kind ? 2 : 5);
		mmu_destroy(mmu);
		CHECK_EQ(mem_outstanding(), outstanding);
	}
	CHECK_EQ(mmu_create(env.mm, "npt", &mmu), -EINVAL);
	CHECK_STR(mmu_format(env.mmu), "EPT");
	env_fini(&env);
#endif
}

/* rule N8: after the mm's end nothing is mapped and nothing comes back. */
static void release_is_the_end(void)
{
	struct mmu_stats stats;
	struct env env;
	struct tv tv;
	u64 word;

	REQUIRE(env_init(&env));
	tv_init(&tv, &env, 0);
	CHECK(tv_write(&tv, 0, 1));
	mmgrab(env.mm);
	mmput(env.mm);
	mmu_get_stats(env.mmu, &stats);
	CHECK_EQ(stats.mapped - stats.zapped, 0);
	CHECK(!tv_read(&tv, 0, &word));
	CHECK_EQ(tv.result, -EFAULT);
	tv_fini(&tv);
	mmu_destroy(env.mmu);
	mmdrop(env.mm);
	frame_arena_destroy(env.arena);
}

const struct test_case mmu_fault_tests[] = {
	TEST(outcomes),
	TEST(rights_and_notes_in_entries),
	TEST(widening),
	TEST(notes_reach_the_page),
	TEST(poisoned_vm_answers_eio),
	TEST(audit_tells_what_is_wrong),
	TEST(nth_frame_fails),
	TEST(nth_allocation_of_create_fails),
	TEST(release_is_the_end),
	TEST_END,
};
