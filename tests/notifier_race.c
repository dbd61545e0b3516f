/* SPDX-License-Identifier: MIT */
/* Exact interleavings of registration, release and sections, by race points; each with its timeline. */
#include "tests/notifier_env.h"

#if CHECKING

/*
 *   T1 section                          T2
 *   start: in the callback of A
 *                                       unregister A: release, unlink, waits
 *   callback returns
 *                                       returns: A's memory is free
 */
static void unregister_waits_for_callback(void)
{
	struct actor section, leaver;
	struct race_gate gate;
	struct owner owner;
	struct listener a;

	owner_init(&owner);
	listener_init(&a, '-', &listener_ops);
	CHECK_EQ(mmu_notifier_register(&a.notifier, &owner.mm), 0);
	race_arm(&gate, "notifier:between_starts", 1); /* inside the walk, on A */
	if (!act(&section, do_section, &owner, NULL))
		return;
	race_wait(&gate);
	if (!act(&leaver, do_unregister, &a.notifier, &owner.mm))
		return;
	while (mm_has_notifiers(&owner.mm)) /* until it is unlinked */
		thread_yield();
	CHECK(!is_done(&leaver)); /* the walker stands on A: nobody may be told that it is gone */
	CHECK_EQ(READ_ONCE(a.releases), 1);
	race_release(&gate);
	thread_join(&leaver.thread);
	thread_join(&section.thread);
	race_disarm(&gate);
	CHECK_EQ(leaver.result, 0);
	CHECK_EQ(a.bad, 0);
	owner_fini(&owner);
}

/*
 *   T1 exit                             T2
 *   release callback of A
 *                                       unregister A: still listed: release callback again
 *                                       unlink; waits for T1
 *   unlink: A is gone already
 *   waits for walkers                   returns
 */
static void release_meets_unregister(void)
{
	struct actor exit_actor, leaver;
	struct race_gate gate;
	struct owner owner;
	struct listener a;

	owner_init(&owner);
	listener_init(&a, '-', &listener_ops);
	CHECK_EQ(mmu_notifier_register(&a.notifier, &owner.mm), 0);
	owner.mm.users = 0;
	race_arm(&gate, "notifier:release_before_unlink", 1);
	if (!act(&exit_actor, do_release, &owner.mm, NULL))
		return;
	race_wait(&gate);
	CHECK_EQ(READ_ONCE(a.releases), 1);
	if (!act(&leaver, do_unregister, &a.notifier, &owner.mm))
		return;
	while (mm_has_notifiers(&owner.mm))
		thread_yield();
	CHECK(!is_done(&leaver));
	race_release(&gate);
	thread_join(&leaver.thread);
	thread_join(&exit_actor.thread);
	race_disarm(&gate);
	CHECK_EQ(leaver.result, 0);
	CHECK_EQ(a.releases, 2); /* both, while listed: release is idempotent (rule N9) */
	owner_fini(&owner);
}

/*
 *   T1 unregister A                     T2 exit
 *   release callback
 *                                       release callback; unlink all
 *   unlink: nothing left to do          waits for walkers
 */
static void unregister_meets_release(void)
{
	struct actor exit_actor, leaver;
	struct race_gate gate;
	struct owner owner;
	struct listener a, b;

	owner_init(&owner);
	listener_init(&a, '-', &listener_ops);
	listener_init(&b, '-', &listener_ops);
	CHECK_EQ(mmu_notifier_register(&a.notifier, &owner.mm), 0);
	CHECK_EQ(mmu_notifier_register(&b.notifier, &owner.mm), 0);
	owner.mm.users = 0;
	race_arm(&gate, "notifier:unregister_before_unlink", 1);
	if (!act(&leaver, do_unregister, &a.notifier, &owner.mm))
		return;
	race_wait(&gate);
	if (!act(&exit_actor, do_release, &owner.mm, NULL))
		return;
	thread_join(&exit_actor.thread); /* T1 is in no callback: exit need not wait for it */
	CHECK_EQ(a.releases, 2);
	CHECK_EQ(b.releases, 1);
	CHECK(!mm_has_notifiers(&owner.mm));
	race_release(&gate);
	thread_join(&leaver.thread);
	race_disarm(&gate);
	CHECK_EQ(leaver.result, 0);
	CHECK_EQ(mmu_notifier_unregister(&b.notifier, &owner.mm), 0);
	CHECK_EQ(b.releases, 1);
	owner_fini(&owner);
}

/*
 * rule N3: "missing an end is fine, missing a start is never fine".
 *
 *   T1 section (lock for reading)       T2
 *   start: A is told
 *                                       register B: waits for the lock
 *   end: A is told; unlock
 *                                       B is visible: it heard nothing of this section
 */
static void registration_waits_for_section(void)
{
	struct actor section, comer;
	struct race_gate gate;
	struct owner owner;
	struct listener a, b;

	owner_init(&owner);
	listener_init(&a, '-', &listener_ops);
	listener_init(&b, '-', &listener_ops);
	CHECK_EQ(mmu_notifier_register(&a.notifier, &owner.mm), 0);
	race_arm(&gate, "notifier:between_starts", 1);
	if (!act(&section, do_section, &owner, NULL))
		return;
	race_wait(&gate);
	if (!act(&comer, do_register, &b.notifier, &owner.mm))
		return;
	while (!rwsem_is_contended(&owner.lock)) /* until it waits for the section */
		thread_yield();
	CHECK(!is_done(&comer));
	race_release(&gate);
	thread_join(&section.thread);
	thread_join(&comer.thread);
	race_disarm(&gate);
	CHECK_EQ(comer.result, 0);
	CHECK_EQ(a.starts, 1);
	CHECK_EQ(a.ends, 1);
	CHECK_EQ(b.starts, 0);
	CHECK_EQ(b.ends, 0);
	CHECK_EQ(mmu_notifier_unregister(&a.notifier, &owner.mm), 0);
	CHECK_EQ(mmu_notifier_unregister(&b.notifier, &owner.mm), 0);
	owner_fini(&owner);
}

/* The same on a real address space: registration against DONTNEED, which holds mmap_lock for reading. */
static void do_dontneed(void *arg)
{
	struct actor *a = arg;

	a->result = mm_madvise(a->arg, MIRROR_BASE, 8 * PAGE_SIZE, TAIN_MADV_DONTNEED);
}

static void registration_waits_for_dontneed(void)
{
	struct actor dropper, comer;
	struct mirror_env env;
	struct race_gate gate;
	struct listener b;

	if (!mirror_env_init(&env))
		return;
	listener_init(&b, '-', &listener_ops);
	race_arm(&gate, "mm_unmap:after_start", 1);
	if (!act(&dropper, do_dontneed, env.mm, NULL))
		return;
	race_wait(&gate);
	if (!act(&comer, do_register, &b.notifier, mm_notifier(env.mm)))
		return;
	while (!rwsem_is_contended(&env.mm->mmap_lock))
		thread_yield();
	CHECK(!is_done(&comer));
	race_release(&gate);
	thread_join(&dropper.thread);
	thread_join(&comer.thread);
	race_disarm(&gate);
	CHECK_EQ(dropper.result, 0);
	CHECK_EQ(comer.result, 0);
	CHECK_EQ(b.starts + b.ends, 0);
	CHECK_EQ(mmu_notifier_unregister(&b.notifier, mm_notifier(env.mm)), 0);
	mirror_env_fini(&env);
}

/* --- comings and goings beside sections, at random -------------------------------------- */

#define SECTIONS 2u
#define COMERS 3u

struct crowd {
	struct owner owner;
	u32 stop;
};

struct comer {
	struct actor actor;
	struct crowd *crowd;
	u64 rounds;
};

static void come_and_go(void *arg)
{
	struct comer *c = ((struct actor *)arg)->arg;

	do {
		struct listener l;

		listener_init(&l, '-', &listener_ops);
		CHECK_EQ(mmu_notifier_register(&l.notifier, &c->crowd->owner.mm), 0);
		thread_yield();
		CHECK_EQ(mmu_notifier_unregister(&l.notifier, &c->crowd->owner.mm), 0);
		/* No end without its start; and nothing is in a callback any more, for l is on our stack. */
		if (!CHECK_EQ(l.bad, 0) || !CHECK_EQ(l.releases, 1) || !CHECK_GE(l.open, 0))
			break;
		WRITE_ONCE(c->rounds, c->rounds + 1);
	} while (!READ_ONCE(c->crowd->stop));
}

static void sections(void *arg)
{
	struct crowd *crowd = ((struct actor *)arg)->arg;
	struct mmu_notifier_range outer = owner_range(&crowd->owner, true), inner = outer;

	for (u32 turn = 0; turn < TEST_SCALE(100000u); turn++) {
		down_read(&crowd->owner.lock);
		CHECK_EQ(mmu_notifier_invalidate_range_start(&outer), 0);
		CHECK_EQ(mmu_notifier_invalidate_range_start(&inner), 0);
		mmu_notifier_invalidate_range_end(&inner);
		mmu_notifier_invalidate_range_end(&outer);
		up_read(&crowd->owner.lock);
	}
}

static void crowd_of(enum notifier_admission admission)
{
	struct comer comers[COMERS];
	struct actor actors[SECTIONS];
	struct crowd crowd = { 0 };

	owner_init_with(&crowd.owner, admission);
	race_delays(3, 5);
	for (u32 i = 0; i < COMERS; i++) {
		comers[i] = (struct comer){ .crowd = &crowd };
		if (!act(&comers[i].actor, come_and_go, &comers[i], NULL))
			return;
	}
	while (!READ_ONCE(comers[0].rounds)) /* nothing is proved before they come and go */
		thread_yield();
	for (u32 i = 0; i < SECTIONS; i++) {
		if (!act(&actors[i], sections, &crowd, NULL))
			return;
	}
	for (u32 i = 0; i < SECTIONS; i++)
		thread_join(&actors[i].thread);
	WRITE_ONCE(crowd.stop, 1);
	for (u32 i = 0; i < COMERS; i++) {
		thread_join(&comers[i].actor.thread);
		CHECK_GT(comers[i].rounds, 0);
	}
	owner_fini(&crowd.owner);
}

static void crowd_at_random(void)
{
	crowd_of(NOTIFIER_ADMIT_MM_LOCK);
}

static void crowd_at_random_by_section(void)
{
	crowd_of(NOTIFIER_ADMIT_SECTION);
}

const struct test_case notifier_race_tests[] = {
	TEST(unregister_waits_for_callback),   TEST(release_meets_unregister),
	TEST(unregister_meets_release),	       TEST(registration_waits_for_section),
	TEST(registration_waits_for_dontneed), TEST(crowd_at_random),
	TEST(crowd_at_random_by_section),      TEST_END
};
#else
const struct test_case notifier_race_tests[] = { TEST_END };
#endif
