/* SPDX-License-Identifier: MIT */
/* Rules K3, K12: slot updates against sections and faults, one scripted interleaving each. */
#include "tests/mmu_env.h"

#if CHECKING

static void add_slot(struct host *host)
{
	host->result = mmu_set_memslot(host->env->mmu, 5, 0x200, ENV_PAGES, ENV_HVA, 0);
}

/* A page that the mirror does not show. */
static bool without_slots(struct env *env, struct tv *tv)
{
	if (!env_init(env))
		return false;
	tv_init(tv, env, 0);
	CHECK_EQ(mmu_set_memslot(env->mmu, 0, 0, 0, 0, 0), 0);
	CHECK_EQ(mm_write64(env->mm, env_hva(0), ENV_OLD), 0);
	return true;
}

/*
 * K3-1 (catalogue 20): a slot appears between start and end. mmu/memslot.c has the timeline.
 * Noticed by: the audit of entries; the count of sections, which stops the VM.
 */
static void slot_appears_inside_a_section(bool bug)
{
	struct race_gate section;
	struct mmu_mismatch m;
	struct host host, adder;
	struct env env;
	struct tv tv;

	REQUIRE(without_slots(&env, &tv));
	race_arm(&section, "mm_unmap:after_start", 1);
	host_start(&host, &env, 0, host_dontneed);
	race_wait(&section);
	host_start(&adder, &env, 0, add_slot);
	if (bug) {
		host_join(&adder);
		CHECK_EQ(mmu_fault(&tv.vcpu, 0x200ull << PAGE_SHIFT, MM_READ), MMU_FAULT_FIXED);
	} else {
		CHECK(!host_done(&adder)); /* it cannot be, however long we wait */
		CHECK_EQ(mmu_fault(&tv.vcpu, 0x200ull << PAGE_SHIFT, MM_READ), MMU_FAULT_MMIO);
	}
	race_release(&section);
	host_join(&host);
	if (!bug)
		host_join(&adder);
	race_disarm(&section);
	CHECK_EQ(adder.result, 0);
	CHECK_EQ(mmu_get_poison(env.mmu, &m), bug);
	if (bug)
		CHECK_CONTAINS(m.rule, "rule K3");
	CHECK_EQ(env_audit(&env, NULL), bug ? 2 : 0);
	CHECK_EQ(mmu_fault(&tv.vcpu, 0x200ull << PAGE_SHIFT, MM_READ), bug ? -EIO : MMU_FAULT_FIXED);
	tv_fini(&tv);
	env_fini(&env);
}

static void k3_update_waits_for_sections(void)
{
	slot_appears_inside_a_section(false);
	env_mutant("k3-no-wait-active");
	slot_appears_inside_a_section(true);
}

/*
 * K3-4: a section counted by its thread as the update begins to look takes itself off again.
 *
 *   T1 section                          T2 slot update
 *   open[i]++
 *                                       updating = 1, barrier
 *   updating: open[i]--, active++
 *                                       open[i] is 0, active is not: wait
 *   start, clear, end; active--
 *                                       publish
 *
 * If the update @looks before that, it waits for open[i]. It may go on between the two
 * counts, for the section has not begun: its start meets the new array.
 */
static void section_meets_update(bool looks)
{
	struct race_gate open, section, updating;
	struct host host, adder;
	struct env env;
	struct tv tv;

	REQUIRE(without_slots(&env, &tv));
	race_arm(&open, "mmu_section:open", 1);
	race_arm(&section, "mm_unmap:after_start", 1);
	race_arm(&updating, "mmu_slots:updating", 1);
	host_start(&host, &env, 0, host_dontneed);
	race_wait(&open);
	host_start(&adder, &env, 0, add_slot);
	race_wait(&updating);
	if (looks) {
		race_release(&updating);
		CHECK(!host_done(&adder)); /* it cannot be, however long we wait */
	}
	race_release(&open);
	race_wait(&section);
	if (!looks) {
		CHECK_EQ(READ_ONCE(env.mmu->active), 1);
		race_release(&updating);
		CHECK(!host_done(&adder));
		CHECK_EQ(mmu_fault(&tv.vcpu, 0x200ull << PAGE_SHIFT, MM_READ), MMU_FAULT_MMIO);
	}
	race_release(&section);
	host_join(&host);
	host_join(&adder);
	race_disarm(&open);
	race_disarm(&section);
	race_disarm(&updating);
	CHECK_EQ(adder.result, 0);
	CHECK_EQ(env.mmu->active, 0);
	CHECK_EQ(env.mmu->updating, 0);
	CHECK_EQ(env_audit(&env, NULL), 0);
	tv_fini(&tv);
	env_fini(&env);
}

static void k3_section_meets_update(void)
{
	section_meets_update(false);
	section_meets_update(true);
}

/*
 * K3-2: a fault that found the slot valid installs after it was marked. The update
 * waits for it, and the zap that follows takes its entry along.
 */
static void delete_slot(struct host *host)
{
	host->result = mmu_set_memslot(host->env->mmu, 0, 0, 0, 0, 0);
}

static void k3_delete_waits_for_faults(void)
{
	struct race_gate fault;
	struct mmu_stats stats;
	struct host host;
	struct env env;
	struct tv tv;

	REQUIRE(env_init(&env));
	tv_init(&tv, &env, 0);
	race_arm(&fault, "mmu_fault:before_lock", 1);
	tv_start(&tv, tv_fault_once);
	race_wait(&fault);
	host_start(&host, &env, 0, delete_slot);
	CHECK(!host_done(&host));
	race_release(&fault);
	tv_join(&tv);
	host_join(&host);
	race_disarm(&fault);
	CHECK_EQ(tv.result, MMU_FAULT_FIXED);
	CHECK_EQ(host.result, 0);
	mmu_get_stats(env.mmu, &stats);
	CHECK_EQ(stats.mapped, 1);
	CHECK_EQ(stats.zapped, 1);
	CHECK_EQ(env_audit(&env, NULL), 0);
	tv_fini(&tv);
	env_fini(&env);
}

/* K3-3: between mark and end of the update the slot's faults retry. */
static void k3_fault_on_a_leaving_slot_retries(void)
{
	struct race_gate marked;
	struct host host;
	struct env env;
	struct tv tv;

	REQUIRE(env_init(&env));
	tv_init(&tv, &env, 0);
	race_arm(&marked, "memslot:marked", 1);
	host_start(&host, &env, 0, delete_slot);
	race_wait(&marked);
	CHECK_EQ(mmu_fault(&tv.vcpu, env_gpa(0), MM_READ), MMU_FAULT_RETRY);
	CHECK(env.mmu->slots->generation & SLOTS_UPDATING);
	race_release(&marked);
	host_join(&host);
	race_disarm(&marked);
	CHECK_EQ(mmu_fault(&tv.vcpu, env_gpa(0), MM_READ), MMU_FAULT_MMIO);
	tv_fini(&tv);
	env_fini(&env);
}

static void section(struct env *env)
{
	struct host host;

	host_start(&host, env, 0, host_dontneed);
	host_join(&host);
	CHECK_EQ(host.result, 0);
}

/*
 * K12-3: a zap starts at the leaf table of the one before, unless that has gone. The slot covers the table whole.
 *
 *   section                             slot update
 *   zap in table t; remember t
 *                                       delete the slot: t is unlinked (wrong: stays remembered), freed
 *                                       add it again; a fault maps p in table u
 *   zap: finds u (wrong: looks into t)
 *   free p
 */
static void slot_comes_back(bool bug)
{
	const gpa_t gpa = (gpa_t)PT_ENTRIES << PAGE_SHIFT;
	struct mmu_mismatch m;
	struct env env;
	struct tv tv;

	REQUIRE(env_init(&env));
	tv_init(&tv, &env, 0);
	CHECK_EQ(mmu_set_memslot(env.mmu, 0, 0, 0, 0, 0), 0);
	for (int turn = 0; turn < 2; turn++) {
		CHECK_EQ(mmu_set_memslot(env.mmu, 1, PT_ENTRIES, PT_ENTRIES, ENV_HVA, 0), 0);
		CHECK_EQ(mm_write64(env.mm, env_hva(0), ENV_OLD), 0);
		CHECK_EQ(mmu_fault(&tv.vcpu, gpa, MM_READ), MMU_FAULT_FIXED);
		section(&env);
		if (turn)
			break;
		CHECK_EQ(env_audit(&env, NULL), 0);
		CHECK_EQ(mmu_set_memslot(env.mmu, 1, 0, 0, 0, 0), 0);
	}
	CHECK_EQ(env_audit(&env, &m), bug);
	if (bug)
		CHECK_EQ(m.gfn, PT_ENTRIES);
	CHECK_EQ(env.corrupted, 0);
	tv_fini(&tv);
	env_fini(&env);
}

static void k12_zap_finds_the_new_table(void)
{
	slot_comes_back(false);
	env_mutant("k12-stale-table");
	slot_comes_back(true);
}

const struct test_case mmu_slot_race_tests[] = {
	TEST(k3_update_waits_for_sections),	  TEST(k3_section_meets_update),     TEST(k3_delete_waits_for_faults),
	TEST(k3_fault_on_a_leaving_slot_retries), TEST(k12_zap_finds_the_new_table), TEST_END,
};

#else
const struct test_case mmu_slot_race_tests[] = { TEST_END };
#endif
