/* SPDX-License-Identifier: MIT */
/*
 * One scripted interleaving per race of rules K1 to K13 (K3: mmu_slot_races.c). Each is
 * run twice: as the code stands it must pass; with the historical bug put back it must
 * be noticed, at the same place every time.
 */
#include "mm/frame.h"
#include "tests/mmu_env.h"

#if CHECKING

/*
 * K4-1 (catalogue 19, 19c, 19e): a whole section fits into a fault.
 *
 *   vCPU                                   host
 *   ----                                   ----
 *   seq, mm_fault_in() -> old frame
 *   [held at @where]
 *                                          munmap: start, clear, free, end; mmap, write
 *   lock, check, install
 *
 * Noticed by: the outcome, the audit, the content, and a write that lands in a free frame.
 */
static void section_inside_a_fault(const char *where, bool bug)
{
	struct race_gate gate;
	struct env env;
	struct tv tv;
	u64 word = 0;

	REQUIRE(env_init(&env));
	tv_init(&tv, &env, 0);
	CHECK_EQ(mm_write64(env.mm, env_hva(0), ENV_OLD), 0);
	race_arm(&gate, where, 1);
	tv_start(&tv, tv_fault_once);
	race_wait(&gate);
	env_replace(&env, 0, ENV_FRESH);
	race_release(&gate);
	tv_join(&tv);
	race_disarm(&gate);

	CHECK_EQ(tv.result, bug ? MMU_FAULT_FIXED : MMU_FAULT_RETRY);
	CHECK_EQ(env_audit(&env, NULL), bug);
	CHECK(tv_read(&tv, 0, &word));
	CHECK_EQ(word == ENV_FRESH, !bug);
	CHECK(tv_write(&tv, 0, 1));
	CHECK_EQ(frame_arena_verify(env.arena), bug);
	CHECK_EQ(env.corrupted, bug);
	tv_fini(&tv);
	env_fini(&env);
}

static void k4_sequence_is_checked(void)
{
	section_inside_a_fault("mmu_fault:before_lock", false);
	env_mutant("k4-no-seq-check");
	section_inside_a_fault("mmu_fault:before_lock", true);
}

static void k4_check_is_under_the_lock(void)
{
	section_inside_a_fault("mmu_fault:before_lock", false);
	env_mutant("k4-check-before-lock");
	section_inside_a_fault("mmu_fault:before_lock", true);
}

static void k4_sequence_is_sampled_first(void)
{
	section_inside_a_fault("mmu_fault:after_gup", false);
	env_mutant("k4-snapshot-after-gup");
	section_inside_a_fault("mmu_fault:after_gup", true);
}

/*
 * K4-2 (catalogue 19b): the fault ends inside the section, before the host clears.
 *
 *   vCPU                                   host (DONTNEED)
 *   ----                                   ----
 *   seq = n, mm_fault_in() -> old frame
 *                                          start: in_progress = 1, zap
 *   lock; seq is n still; in_progress!
 *   retry (wrong: install)
 *                                          clear, free, end: seq = n + 1
 */
static void fault_ends_inside_a_section(bool bug)
{
	struct race_gate fault, section;
	struct host host;
	struct env env;
	struct tv tv;

	REQUIRE(env_init(&env));
	tv_init(&tv, &env, 0);
	CHECK_EQ(mm_write64(env.mm, env_hva(0), ENV_OLD), 0);
	race_arm(&fault, "mmu_fault:before_lock", 1);
	race_arm(&section, "mm_unmap:after_start", 1);
	tv_start(&tv, tv_fault_once);
	race_wait(&fault);
	host_start(&host, &env, 0, host_dontneed);
	race_wait(&section);
	race_release(&fault);
	tv_join(&tv);
	CHECK_EQ(tv.result, bug ? MMU_FAULT_FIXED : MMU_FAULT_RETRY);
	race_release(&section);
	host_join(&host);
	race_disarm(&fault);
	race_disarm(&section);
	CHECK_EQ(env_audit(&env, NULL), bug);
	tv_fini(&tv);
	env_fini(&env);
}

static void k4_section_under_way_is_respected(void)
{
	fault_ends_inside_a_section(false);
	env_mutant("k4-no-in-progress");
	fault_ends_inside_a_section(true);
}

/*
 * K2-1 (catalogue 19a): the fault begins inside the section.
 *
 *   vCPU                                   host (DONTNEED)
 *   ----                                   ----
 *                                          start: in_progress = 1 (wrong: seq = n + 1)
 *   seq; mm_fault_in() -> old frame, still mapped
 *                                          clear, free, end: seq = n + 1 (wrong: as it was); in_progress = 0
 *   lock; seq has changed: retry
 */
static void fault_begins_inside_a_section(bool bug)
{
	struct race_gate fault, section;
	struct host host;
	struct env env;
	struct tv tv;

	REQUIRE(env_init(&env));
	tv_init(&tv, &env, 0);
	CHECK_EQ(mm_write64(env.mm, env_hva(0), ENV_OLD), 0);
	race_arm(&fault, "mmu_fault:after_gup", 1);
	race_arm(&section, "mm_unmap:after_start", 1);
	host_start(&host, &env, 0, host_dontneed);
	race_wait(&section);
	tv_start(&tv, tv_fault_once);
	race_wait(&fault);
	race_release(&section);
	host_join(&host);
	race_release(&fault);
	tv_join(&tv);
	race_disarm(&fault);
	race_disarm(&section);
	CHECK_EQ(tv.result, bug ? MMU_FAULT_FIXED : MMU_FAULT_RETRY);
	CHECK_EQ(env_audit(&env, NULL), bug);
	tv_fini(&tv);
	env_fini(&env);
}

static void k2_sequence_grows_at_the_end(void)
{
	fault_begins_inside_a_section(false);
	env_mutant("k2-seq-at-start");
	fault_begins_inside_a_section(true);
}

/*
 * K12-1: a TLB entry outlives its zap. The vCPU is outside guest mode all the while:
 * nobody waits for it, it must flush before its next access.
 */
static void zap_without_flush(bool bug)
{
	struct mmu_mismatch m = { 0 };
	struct env env;
	struct tv tv;
	u64 word;

	REQUIRE(env_init(&env));
	tv_init(&tv, &env, 0);
	CHECK(tv_write(&tv, 0, ENV_OLD));
	env_replace(&env, 0, ENV_FRESH);
	CHECK_EQ(env_audit(&env, &m), bug);
	CHECK_EQ(m.tlb, bug);
	CHECK(tv_read(&tv, 0, &word));
	CHECK_EQ(word == ENV_FRESH, !bug);
	CHECK(tv_write(&tv, 0, 1));
	CHECK_EQ(frame_arena_verify(env.arena), bug);
	CHECK_EQ(tv.flushed > 0, !bug);
	tv_fini(&tv);
	env_fini(&env);
}

static void k12_zap_is_flushed(void)
{
	zap_without_flush(false);
	env_mutant("k12-no-flush");
	zap_without_flush(true);
}

/* Four pages mapped and cached, the zap of sixteen yields once among them: after the fourth, or inside. */
static void zap_that_yields(unsigned int batch, u64 mismatches)
{
	unsigned int saved = mmu_zap_batch;
	struct env env;
	struct tv tv;
	u64 page;

	REQUIRE(env_init(&env));
	tv_init(&tv, &env, 0);
	for (page = 0; page < 4; page++)
		CHECK(tv_write(&tv, page, ENV_OLD));
	mmu_zap_batch = batch;
	CHECK_EQ(mm_munmap(env.mm, ENV_HVA, 16 * PAGE_SIZE), 0);
	mmu_zap_batch = saved;
	CHECK_EQ(env_audit(&env, NULL), mismatches);
	tv_fini(&tv);
	env_fini(&env);
}

/* K12-2 (catalogue 28). */
static void k12_flush_survives_a_yield(void)
{
	unsigned int batch;

	for (batch = 1; batch < 24; batch++)
		zap_that_yields(batch, 0);
	env_mutant("k12-flush-lost-on-yield");
	zap_that_yields(5, 4); /* four leaves, yield: the rest is empty, nothing more to flush */
}

/* K13-1 (catalogue 27). After two leaves the rest of the root entry is skipped. */
static void k13_restart_skips_nothing(void)
{
	unsigned int batch;

	for (batch = 1; batch < 24; batch++)
		zap_that_yields(batch, 0);
	env_mutant("k13-iter-advance");
	zap_that_yields(3, 2);
}

static u32 sleeps;

static void note_sleep(const char *text)
{
	CHECK_CONTAINS(text, "inside a section that may not block");
	sleeps++;
}

/* K13-2 (catalogue 18): the oom reaper zaps more than a batch, and must not be made to wait. */
static void oom_reaper(bool bug)
{
	struct mmu_notifier_range range = { .start = env_hva(0), .end = env_hva(16), .event = MMU_NOTIFY_CLEAR };
	unsigned int saved = mmu_zap_batch;
	struct env env;
	struct tv tv;
	u64 page;

	REQUIRE(env_init(&env));
	tv_init(&tv, &env, 0);
	for (page = 0; page < 16; page++)
		CHECK(tv_write(&tv, page, ENV_OLD));
	range.mm = mm_notifier(env.mm);
	sleeps = 0;
	mmu_zap_batch = 8;
	lockdep_set_report(note_sleep);
	mm_audit_begin(env.mm); /* some lock under which a section may be opened */
	CHECK_EQ(mmu_notifier_invalidate_range_start(&range), 0);
	CHECK_EQ(sleeps != 0, bug);
	mmu_notifier_invalidate_range_end(&range);
	mm_audit_end(env.mm);
	lockdep_set_report(NULL);
	mmu_zap_batch = saved;
	tv_fini(&tv);
	env_fini(&env);
}

static void k13_oom_does_not_yield(void)
{
	oom_reaper(false);
	env_mutant("n6-callback-sleeps");
	oom_reaper(true);
}

/* K11-1: two faults link the same table; the loser frees its own and goes on in the winner's. */
static void k11_loser_frees_its_table(void)
{
	struct race_gate link;
	struct mmu_stats stats;
	struct env env;
	struct tv a, b;

	REQUIRE(env_init(&env));
	tv_init(&a, &env, 0);
	tv_init(&b, &env, 1);
	a.page = 1;
	race_arm(&link, "mmu_fault:before_link", 1);
	tv_start(&a, tv_fault_once);
	race_wait(&link);
	CHECK_EQ(mmu_fault(&b.vcpu, env_gpa(0), MM_READ), MMU_FAULT_FIXED);
	race_release(&link);
	tv_join(&a);
	race_disarm(&link);
	CHECK_EQ(a.result, MMU_FAULT_FIXED);
	mmu_get_stats(env.mmu, &stats);
	CHECK_EQ(stats.tables, 4);
	CHECK_EQ(stats.mapped, 2);
	CHECK_EQ(env_audit(&env, NULL), 0);
	tv_fini(&b);
	tv_fini(&a);
	env_fini(&env);
}

const struct test_case mmu_race_tests[] = {
	TEST(k4_sequence_is_checked),
	TEST(k4_check_is_under_the_lock),
	TEST(k4_sequence_is_sampled_first),
	TEST(k4_section_under_way_is_respected),
	TEST(k2_sequence_grows_at_the_end),
	TEST(k12_zap_is_flushed),
	TEST(k12_flush_survives_a_yield),
	TEST(k13_restart_skips_nothing),
	TEST(k13_oom_does_not_yield),
	TEST(k11_loser_frees_its_table),
	TEST_END,
};

#else
const struct test_case mmu_race_tests[] = { TEST_END };
#endif
