/* SPDX-License-Identifier: MIT */
/* Rule K23: modes, requests, flushes that wait, kicks, and holding vCPUs for an audit. */
#include "tests/mmu_env.h"

static void vcpu_outside_is_not_waited_for(void)
{
	struct mmu_stats stats;
	struct env env;
	struct tv tv;
	u64 word;

	REQUIRE(env_init(&env));
	tv_init(&tv, &env, 0);
	CHECK(tv_read(&tv, 0, &word));
	mmu_flush_remote_tlbs(env.mmu);
	mmu_flush_remote_tlbs(env.mmu);
	mmu_get_stats(env.mmu, &stats);
	CHECK_EQ(stats.flush_waits, 0);
	CHECK_EQ(tv.flushed, 0);
	CHECK_EQ(tv.vcpu.flush_asked - tv.vcpu.flush_done, 1); /* it owed one already */
	CHECK_EQ(mmu_vcpu_enter(&tv.vcpu), 0);
	CHECK_EQ(tv.flushed, 1); /* one flush serves both */
	CHECK_EQ(tv.vcpu.flush_asked, tv.vcpu.flush_done);
	CHECK_EQ(tv.vcpu.requests, 0);
	mmu_vcpu_exit(&tv.vcpu);
	tv_fini(&tv);
	env_fini(&env);
}

static void kick_leaves_guest_mode(void)
{
	struct env env;
	struct tv tv;

	REQUIRE(env_init(&env));
	tv_init(&tv, &env, 0);
	mmu_kick(&tv.vcpu);
	mmu_kick(&tv.vcpu);
	CHECK_EQ(mmu_vcpu_enter(&tv.vcpu), MMU_REQ_KICK);
	CHECK_EQ(tv.vcpu.mode, MMU_OUTSIDE);
	CHECK_EQ(mmu_vcpu_enter(&tv.vcpu), 0);
	CHECK_EQ(mmu_vcpu_poll(&tv.vcpu), 0);
	CHECK_EQ(tv.vcpu.mode, MMU_IN_GUEST);
	mmu_kick(&tv.vcpu);
	CHECK_EQ(mmu_vcpu_poll(&tv.vcpu), MMU_REQ_KICK);
	CHECK_EQ(tv.vcpu.mode, MMU_OUTSIDE);
	/* A flush and a kick: the flush is served first, nothing is lost. */
	mmu_flush_remote_tlbs(env.mmu);
	mmu_kick(&tv.vcpu);
	CHECK_EQ(mmu_vcpu_enter(&tv.vcpu), MMU_REQ_KICK);
	CHECK_EQ(tv.flushed, 1);
	CHECK_EQ(tv.vcpu.requests, 0);
	tv_fini(&tv);
	env_fini(&env);
}

#if CHECKING

/*
 * K23-4: who owes a flush enters while somebody finds that he does.
 *
 *   requester                           vCPU, outside, owes a flush
 *   zap; its request is set
 *                                       mode = IN_GUEST; flushes; the walk finds nothing
 *   its mode is not OUTSIDE: ask it
 *     again, wait
 *                                       poll: flushes
 *   free the frame
 */
static void k23_who_owes_a_flush_enters(void)
{
	struct mmu_translation translation;
	struct race_gate owed;
	struct host host;
	struct env env;
	struct tv tv;
	u64 word;

	REQUIRE(env_init(&env));
	tv_init(&tv, &env, 0);
	CHECK(tv_read(&tv, 0, &word));
	mmu_flush_remote_tlbs(env.mmu);
	race_arm(&owed, "flush:owed", 1);
	host_start(&host, &env, 0, host_dontneed);
	race_wait(&owed);
	CHECK_EQ(mmu_vcpu_enter(&tv.vcpu), 0);
	CHECK_EQ(tv.flushed, 1);
	CHECK(!mmu_walk(&tv.vcpu, env_gpa(0), MM_READ, &translation));
	race_release(&owed);
	while (!(READ_ONCE(tv.vcpu.requests) & MMU_REQ_TLB_FLUSH))
		thread_yield();
	CHECK(!host_done(&host));
	CHECK_EQ(mmu_vcpu_poll(&tv.vcpu), 0);
	host_join(&host);
	race_disarm(&owed);
	CHECK_EQ(host.result, 0);
	CHECK_EQ(tv.flushed, 2);
	mmu_vcpu_exit(&tv.vcpu);
	CHECK_EQ(env_audit(&env, NULL), 0);
	tv_fini(&tv);
	env_fini(&env);
}

/*
 * K23-5: outside, and asked for nothing yet, is not owing.
 *
 *   vCPU                                requester
 *   reads; its TLB has the page; out
 *                                       zap; mutant: "it is outside, it will flush": free the frame
 *   in; polls: nothing asked
 *   reads through its TLB
 */
static void outside_and_not_asked(bool bug)
{
	struct host host;
	struct env env;
	struct tv tv;
	u64 word;

	REQUIRE(env_init(&env));
	tv_init(&tv, &env, 0);
	CHECK_EQ(mm_write64(env.mm, env_hva(0), ENV_OLD), 0);
	CHECK(tv_read(&tv, 0, &word));
	CHECK_EQ(word, ENV_OLD);
	host_start(&host, &env, 0, host_dontneed);
	host_join(&host);
	CHECK_EQ(host.result, 0);
	CHECK_EQ(!(tv.vcpu.requests & MMU_REQ_TLB_FLUSH), bug);
	CHECK(tv_read(&tv, 0, &word));
	CHECK_EQ(word != 0, bug);
	tv_fini(&tv);
	env_fini(&env);
}

static void k23_who_was_not_asked_owes_nothing(void)
{
	outside_and_not_asked(false);
	env_mutant("k23-owed-unasked");
	outside_and_not_asked(true);
}

static void tv_write_once(struct tv *tv)
{
	tv->result = tv_write(tv, tv->page, tv->word) ? 0 : -1;
}

/*
 * K23-1: the vCPU has polled and holds a translation; the host frees the frame.
 *
 *   vCPU (in guest mode)                   host
 *   ----                                   ----
 *   requests == 0, TLB hit -> old frame
 *   [held before the access]
 *                                          munmap: zap, request, wait (wrong: no wait)
 *                                          free the frame
 *   write
 *
 * Right: the host stands in the wait until the vCPU has written and polled or left.
 */
static void access_beside_a_flush(bool bug)
{
	struct race_gate access, wait;
	struct mmu_stats stats;
	struct host host;
	struct env env;
	struct tv tv;

	REQUIRE(env_init(&env));
	tv_init(&tv, &env, 0);
	CHECK(tv_write(&tv, 0, ENV_OLD));
	tv.word = ENV_FRESH;
	race_arm(&access, "tv:before_access", 1);
	tv_start(&tv, tv_write_once);
	race_wait(&access);
	race_arm(&wait, "flush:before_wait", 1);
	host_start(&host, &env, 0, host_munmap);
	if (bug) {
		host_join(&host);
	} else {
		race_wait(&wait);
		race_release(&wait);
		CHECK(!host_done(&host));
	}
	race_release(&access);
	tv_join(&tv);
	if (!bug)
		host_join(&host);
	race_disarm(&access);
	race_disarm(&wait);
	CHECK_EQ(tv.result, 0);
	CHECK_EQ(frame_arena_verify(env.arena), bug);
	mmu_get_stats(env.mmu, &stats);
	CHECK_EQ(stats.flush_waits, !bug);
	tv_fini(&tv);
	env_fini(&env);
}

static void k23_flush_waits_for_the_guest(void)
{
	access_beside_a_flush(false);
	env_mutant("k23-no-wait");
	access_beside_a_flush(true);
}

/*
 * K23-2: the walk has read the entry, the zap comes, the translation reaches the TLB
 * after it. It must be gone before the host frees the frame.
 */
static void k23_walk_beside_a_zap(void)
{
	struct race_gate walk, wait;
	struct host host;
	struct env env;
	struct tv tv;
	u64 word;

	REQUIRE(env_init(&env));
	tv_init(&tv, &env, 0);
	CHECK_EQ(mm_write64(env.mm, env_hva(0), ENV_OLD), 0);
	CHECK_EQ(mmu_fault(&tv.vcpu, env_gpa(0), MM_WRITE), MMU_FAULT_FIXED);
	tv.word = ENV_OLD;
	race_arm(&walk, "walk:after_walk", 1);
	race_arm(&wait, "flush:before_wait", 1);
	tv_start(&tv, tv_write_once);
	race_wait(&walk);
	host_start(&host, &env, 0, host_replace);
	race_wait(&wait);
	race_release(&walk);
	tv_join(&tv); /* it leaves the guest, its TLB full */
	CHECK(tv.tlb[ENV_GFN % TV_TLB].valid);
	race_release(&wait);
	host_join(&host);
	race_disarm(&walk);
	race_disarm(&wait);
	CHECK_EQ(frame_arena_verify(env.arena), 0);
	CHECK(tv_read(&tv, 0, &word));
	CHECK_EQ(word, ENV_FRESH);
	CHECK_EQ(tv.flushed, 1);
	tv_fini(&tv);
	env_fini(&env);
}

static void tv_poll_until_stopped(struct tv *tv)
{
	unsigned int i;
	u64 word;

	while (!READ_ONCE(tv->stop)) {
		while (mmu_vcpu_enter(&tv->vcpu))
			WRITE_ONCE(tv->kicked, tv->kicked + 1);
		for (i = 0; i < 64 && !READ_ONCE(tv->stop); i++) {
			if (!CHECK(tv_access(tv, env_gpa(tv->page), false, &word)))
				return;
		}
		WRITE_ONCE(tv->word, 1);
		mmu_vcpu_exit(&tv->vcpu);
		thread_sleep_ns(1000);
	}
}

static void host_flush(struct host *host)
{
	mmu_flush_remote_tlbs(host->env->mmu);
}

/* K23-3: several requesters at once, several vCPUs in guest mode: every one gets its flush. */
static void k23_flushes_from_everywhere(void)
{
	struct host host[2];
	struct tv tv[2];
	struct env env;
	unsigned int i, round;

	REQUIRE(env_init(&env));
	for (i = 0; i < 2; i++) {
		tv_init(&tv[i], &env, i);
		tv[i].page = i;
		tv_start(&tv[i], tv_poll_until_stopped);
	}
	for (i = 0; i < 2; i++) {
		while (!READ_ONCE(tv[i].word))
			thread_yield(); /* until both are under way */
	}
	for (round = 0; round < TEST_SCALE(40u); round++) {
		u64 before[2];

		for (i = 0; i < 2; i++)
			before[i] = READ_ONCE(tv[i].vcpu.flush_asked);
		for (i = 0; i < 2; i++)
			host_start(&host[i], &env, 0, host_flush);
		for (i = 0; i < 2; i++)
			host_join(&host[i]);
		/* Each asked, or found it outside and asked before. */
		for (i = 0; i < 2; i++)
			CHECK_LE(READ_ONCE(tv[i].vcpu.flush_asked), before[i] + 2);
	}
	for (i = 0; i < 2; i++) {
		WRITE_ONCE(tv[i].stop, 1);
		tv_join(&tv[i]);
		CHECK_GT(tv[i].flushed, 0);
		tv_fini(&tv[i]);
	}
	env_fini(&env);
}

static void host_protect(struct host *host)
{
	host->result = mm_mprotect(host->env->mm, env_hva(host->page), PAGE_SIZE, TAIN_PROT_READ);
}

static void tv_read_once(struct tv *tv)
{
	tv->result = tv_read(tv, tv->page, &tv->word) ? 0 : -1;
}

static void host_audit(struct host *host)
{
	host->result = (int)env_audit(host->env, NULL);
}

/*
 * K23-4: an audit comes while a vCPU sleeps in mm_fault_in() for the very lock that
 * the audit takes. It is outside guest mode, so the audit goes on.
 */
static void audit_beside_a_sleeping_fault(void)
{
	struct race_gate section;
	struct host host, audit;
	struct env env;
	struct tv tv;

	REQUIRE(env_init(&env));
	tv_init(&tv, &env, 0);
	CHECK_EQ(mm_write64(env.mm, env_hva(0), 1), 0);
	race_arm(&section, "mm_mprotect:after_start", 1);
	host_start(&host, &env, 0, host_protect); /* holds mmap_lock for writing */
	race_wait(&section);
	tv_start(&tv, tv_read_once); /* will sleep in the fault */
	host_start(&audit, &env, 0, host_audit);
	race_release(&section);
	host_join(&host);
	host_join(&audit);
	tv_join(&tv);
	race_disarm(&section);
	CHECK_EQ(audit.result, 0);
	CHECK_EQ(tv.result, 0);
	CHECK_EQ(tv.word, 1);
	tv_fini(&tv);
	env_fini(&env);
}

/* An audit holds vCPUs that run, and lets them go; kicks and flushes meanwhile are not lost. */
static void audit_holds_and_releases(void)
{
	unsigned int i, round;
	struct tv tv[2];
	struct env env;

	REQUIRE(env_init(&env));
	for (i = 0; i < 2; i++) {
		tv_init(&tv[i], &env, i);
		tv[i].page = i;
		tv_start(&tv[i], tv_poll_until_stopped);
	}
	for (round = 0; round < TEST_SCALE(100u); round++) {
		mmu_kick(&tv[round % 2].vcpu);
		while (!READ_ONCE(tv[round % 2].kicked)) /* once, so that both are under way */
			thread_yield();
		CHECK_EQ(env_audit(&env, NULL), 0);
		mmu_flush_remote_tlbs(env.mmu);
	}
	for (i = 0; i < 2; i++) {
		WRITE_ONCE(tv[i].stop, 1);
		tv_join(&tv[i]);
		CHECK_GT(tv[i].kicked, 0);
		CHECK_EQ(tv[i].vcpu.requests & MMU_REQ_AUDIT, 0);
		tv_fini(&tv[i]);
	}
	env_fini(&env);
}

/* vCPUs come and go while others flush. */
static void tv_come_and_go(struct tv *tv)
{
	struct env *env = tv->env;
	unsigned int i;
	u64 word;

	for (i = 0; i < TEST_SCALE(100u); i++) {
		struct tv guest;

		tv_init(&guest, env, 7);
		if (!CHECK(tv_read(&guest, i % ENV_PAGES, &word)))
			break;
		tv_fini(&guest);
	}
}

static void vcpus_come_and_go(void)
{
	struct env env;
	struct tv tv;
	unsigned int i;

	REQUIRE(env_init(&env));
	tv_init(&tv, &env, 0);
	tv_start(&tv, tv_come_and_go);
	for (i = 0; i < TEST_SCALE(300u); i++) {
		mmu_flush_remote_tlbs(env.mmu);
		if (i % 16 == 0)
			CHECK_EQ(env_audit(&env, NULL), 0);
	}
	tv_join(&tv);
	CHECK_PTR_EQ(env.mmu->vcpus, &tv.vcpu);
	tv_fini(&tv);
	CHECK_PTR_EQ(env.mmu->vcpus, NULL);
	env_fini(&env);
}

#endif /* CHECKING */

const struct test_case mmu_request_tests[] = {
	TEST(vcpu_outside_is_not_waited_for),
	TEST(kick_leaves_guest_mode),
#if CHECKING
	TEST(k23_flush_waits_for_the_guest),
	TEST(k23_walk_beside_a_zap),
	TEST(k23_flushes_from_everywhere),
	TEST(k23_who_owes_a_flush_enters),
	TEST(k23_who_was_not_asked_owes_nothing),
	TEST(audit_beside_a_sleeping_fault),
	TEST(audit_holds_and_releases),
	TEST(vcpus_come_and_go),
#endif
	TEST_END,
};
