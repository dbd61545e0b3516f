/* SPDX-License-Identifier: MIT */
/* Leaving and callbacks: mutants of the catalogue with their scripts; bad input; what is called under a ptl. */
#include "tests/notifier_env.h"

#if CHECKING

/*
 * Catalogue 6.
 *
 *   T1 section                          T2
 *   start: walks, stands on A
 *                                       unregister A
 *                                         right: waits for T1
 *                                         mutant: returns; A is freed
 *   looks at A for the next one
 */
static void leave_meets_walk(const char *mutant_name, bool caught)
{
	struct actor section, leaver;
	struct race_gate gate;
	struct owner owner;
	struct listener a;

	owner_init(&owner);
	listener_init(&a, '-', &listener_ops);
	REQUIRE_EQ(mmu_notifier_register(&a.notifier, &owner.mm), 0);
	mutant_set(mutant_name);
	race_arm(&gate, "notifier:between_starts", 1);
	REQUIRE(act(&section, do_section, &owner, NULL));
	race_wait(&gate);
	REQUIRE(act(&leaver, do_unregister, &a.notifier, &owner.mm));
	while (mm_has_notifiers(&owner.mm) || (caught && !is_done(&leaver)))
		thread_yield();
	if (!caught)
		thread_sleep_ns(2000000);
	CHECK_EQ(is_done(&leaver), caught); /* the oracle: given back while a walker stands on it */
	race_release(&gate);
	thread_join(&section.thread);
	thread_join(&leaver.thread);
	race_disarm(&gate);
	mutant_set(NULL);
	CHECK_EQ(leaver.result, 0);
	owner_fini(&owner);
}

static void unregister_waits(void)
{
	leave_meets_walk(NULL, false);
}

static void mutant_n9_no_synchronize(void)
{
	leave_meets_walk("n9-no-synchronize", true);
}

/*
 * Catalogue 5, the other half: exit unlinks after release, but does not wait.
 *
 *   T1 reclaim                          T2 exit
 *   start: in the callback of A
 *                                       release A; unlink
 *                                         right: waits for T1
 *                                         mutant: frees pages and tables under T1
 */
static void exit_meets_walk(const char *mutant_name, bool caught)
{
	struct actor section, leaver;
	struct race_gate gate;
	struct owner owner;
	struct listener a;

	owner_init(&owner);
	listener_init(&a, '-', &listener_ops);
	REQUIRE_EQ(mmu_notifier_register(&a.notifier, &owner.mm), 0);
	mutant_set(mutant_name);
	race_arm(&gate, "notifier:between_starts", 1);
	REQUIRE(act(&section, do_section, &owner, NULL));
	race_wait(&gate);
	owner.mm.users = 0;
	REQUIRE(act(&leaver, do_release, &owner.mm, NULL));
	while (mm_has_notifiers(&owner.mm) || (caught && !is_done(&leaver)))
		thread_yield();
	if (!caught)
		thread_sleep_ns(2000000);
	CHECK_EQ(is_done(&leaver), caught);
	race_release(&gate);
	thread_join(&section.thread);
	thread_join(&leaver.thread);
	race_disarm(&gate);
	mutant_set(NULL);
	CHECK_EQ(mmu_notifier_unregister(&a.notifier, &owner.mm), 0);
	owner_fini(&owner);
}

static void exit_waits(void)
{
	exit_meets_walk(NULL, false);
}

static void mutant_n8_no_synchronize(void)
{
	exit_meets_walk("n8-no-synchronize", true);
}

/*
 * Catalogue 5, its sibling. The list is C, A.
 *
 *   T1 unregister C                     T2 exit
 *   release C
 *                                       release C, A; unlink both
 *   unlink C: right: it is gone
 *   mutant: first = A again
 */
static void unlink_meets_unlink(const char *mutant_name, bool caught)
{
	struct actor exit_actor, leaver;
	struct race_gate gate;
	struct owner owner;
	struct listener a, c;

	owner_init(&owner);
	listener_init(&a, '-', &listener_ops);
	listener_init(&c, '-', &listener_ops);
	REQUIRE_EQ(mmu_notifier_register(&a.notifier, &owner.mm), 0);
	REQUIRE_EQ(mmu_notifier_register(&c.notifier, &owner.mm), 0);
	mutant_set(mutant_name);
	owner.mm.users = 0;
	race_arm(&gate, "notifier:unregister_before_unlink", 1);
	REQUIRE(act(&leaver, do_unregister, &c.notifier, &owner.mm));
	race_wait(&gate);
	REQUIRE(act(&exit_actor, do_release, &owner.mm, NULL));
	thread_join(&exit_actor.thread);
	CHECK(!mm_has_notifiers(&owner.mm));
	race_release(&gate);
	thread_join(&leaver.thread);
	race_disarm(&gate);
	CHECK_EQ(mm_has_notifiers(&owner.mm), caught); /* A, which exit has let go, is back */
	CHECK_EQ(mmu_notifier_unregister(&a.notifier, &owner.mm), 0);
	mutant_set(NULL);
	CHECK_EQ(a.releases, caught ? 2 : 1);
	CHECK_EQ(c.releases, 2);
	owner.mm.subscriptions->first = NULL;
	owner_fini(&owner);
}

static void unlinked_once(void)
{
	unlink_meets_unlink(NULL, false);
}

static void mutant_n9_no_listed_test(void)
{
	unlink_meets_unlink("n9-no-listed-test", true);
}

/* --- what subscribers did wrong ---------------------------------------------------------- */

static u32 exit_owed;

/* Catalogue 17: the subscriber holds a user of the mm and lets it go where it must not. */
static void put_last_user(struct listener *l, const struct mmu_notifier_range *range)
{
	if (!mutant(MUTANT_N8_MMPUT_IN_CALLBACK)) {
		exit_owed = 1; /* right: somebody else does it, later */
		return;
	}
	range->mm->users = 0;
	mmu_notifier_release(range->mm);
}

static void last_user(const char *mutant_name, bool caught)
{
	struct mmu_notifier_range range;
	struct owner owner;
	struct listener a;

	owner_init(&owner);
	listener_init(&a, 'A', &listener_ops);
	a.in_start = put_last_user;
	REQUIRE_EQ(mmu_notifier_register(&a.notifier, &owner.mm), 0);
	exit_owed = 0;
	mutant_set(mutant_name);
	report_begin();
	range = owner_range(&owner, true);
	CHECK_EQ(mmu_notifier_invalidate_range_start(&range), 0);
	mmu_notifier_invalidate_range_end(&range);
	if (exit_owed) {
		owner.mm.users = 0;
		mmu_notifier_release(&owner.mm);
	}
	mutant_set(NULL);
	if (caught)
		CHECK_CONTAINS(report_end(), "mmu_notifier_callback");
	else
		CHECK_STR(report_end(), "");
	CHECK_EQ(a.releases, 1);
	CHECK_EQ(mmu_notifier_unregister(&a.notifier, &owner.mm), 0);
	owner_fini(&owner);
}

static void mutant_n8_mmput_in_callback(void)
{
	last_user(NULL, false);
	last_user("n8-mmput-in-callback", true);
}

static DEFINE_LOCK_CLASS(driver_class, "test driver");
static struct mutex driver_lock = MUTEX_INIT(&driver_class);

/* Catalogue 18. */
static void lock_of_driver(struct listener *l, const struct mmu_notifier_range *range)
{
	l->answer = 0;
	if (range->blockable || mutant(MUTANT_N6_CALLBACK_SLEEPS))
		mutex_lock(&driver_lock);
	else if (!mutex_trylock(&driver_lock)) {
		l->answer = -EAGAIN;
		return;
	}
	mutex_unlock(&driver_lock);
}

static void oom(const char *mutant_name, bool caught)
{
	struct mmu_notifier_range range;
	struct owner owner;
	struct listener a;

	owner_init(&owner);
	listener_init(&a, 'A', &listener_ops_no_end);
	a.in_start = lock_of_driver;
	REQUIRE_EQ(mmu_notifier_register(&a.notifier, &owner.mm), 0);
	mutant_set(mutant_name);
	report_begin();
	range = owner_range(&owner, false);
	CHECK_EQ(mmu_notifier_invalidate_range_start(&range), 0);
	mmu_notifier_invalidate_range_end(&range);
	mutant_set(NULL);
	if (caught)
		CHECK_CONTAINS(report_end(), "inside a section that may not block");
	else
		CHECK_STR(report_end(), "");
	CHECK_EQ(mmu_notifier_unregister(&a.notifier, &owner.mm), 0);
	owner_fini(&owner);
}

static void mutant_n6_callback_sleeps(void)
{
	oom(NULL, false);
	oom("n6-callback-sleeps", true);
}

/* rule I7: a callback that allocates what may have to be reclaimed. */
static void allocates(struct listener *l, const struct mmu_notifier_range *range)
{
	mmu_notifier_might_reclaim();
}

static void callback_that_reclaims(void)
{
	struct mmu_notifier_range range;
	struct owner owner;
	struct listener a;

	owner_init(&owner);
	listener_init(&a, 'A', &listener_ops);
	REQUIRE_EQ(mmu_notifier_register(&a.notifier, &owner.mm), 0);
	report_begin();
	range = owner_range(&owner, true);
	mmu_notifier_might_reclaim();
	CHECK_EQ(mmu_notifier_invalidate_range_start(&range), 0);
	mmu_notifier_might_reclaim(); /* the owner's own allocations in a section are fine */
	mmu_notifier_invalidate_range_end(&range);
	CHECK_STR(report_end(), "");
	/* Directly; under a lock that a callback takes, the order of the pseudo-lock shows it. */
	a.in_start = allocates;
	report_begin();
	CHECK_EQ(mmu_notifier_invalidate_range_start(&range), 0);
	mmu_notifier_invalidate_range_end(&range);
	CHECK_CONTAINS(report_end(), "mmu_notifier_callback");
	CHECK_EQ(mmu_notifier_unregister(&a.notifier, &owner.mm), 0);
	owner_fini(&owner);
}

/* The same through mm/: its allocator that may wait, under a lock that a callback takes. */
static void callback_lock_over_allocation(void)
{
	struct mirror_env env;
	struct page *page;

	if (!mirror_env_init(&env))
		return;
	CHECK_EQ(mirror_fault(&env, 0, true), 0);
	report_begin();
	CHECK_EQ(mm_munmap(env.mm, mirror_addr(0), PAGE_SIZE), 0); /* its callback takes mirror.lock */
	page = frame_alloc_wait(env.arena, 0);
	CHECK_STR(report_end(), "");
	put_page(page);
	report_begin();
	mutex_lock(&env.mirror.lock);
	page = frame_alloc_wait(env.arena, 0);
	mutex_unlock(&env.mirror.lock);
	CHECK_CONTAINS(report_end(), "lock order inversion");
	put_page(page);
	mirror_env_fini(&env);
}

/* --- bad input --------------------------------------------------------------------------------- */

static void ranges(void)
{
	static const struct {
		hva_t start, end;
	} bad[] = { { 0x3000, 0x3000 }, { 0x3000, 0x1000 }, { 0x1000, TAIN_TASK_SIZE + PAGE_SIZE }, { ~0ull, 0 } };
	struct mmu_notifier_range range;
	struct owner owner;
	struct listener a;

	owner_init(&owner);
	listener_init(&a, 'A', &listener_ops);
	REQUIRE_EQ(mmu_notifier_register(&a.notifier, &owner.mm), 0);
	for (u32 i = 0; i < ARRAY_SIZE(bad); i++) {
		report_begin();
		range = owner_range(&owner, true);
		range.start = bad[i].start;
		range.end = bad[i].end;
		CHECK_EQ(mmu_notifier_invalidate_range_start(&range), -EINVAL);
		CHECK_CONTAINS(report_end(), "a section over");
		report_begin();
		mmu_notifier_invalidate_range_end(&range); /* it is not open */
		CHECK_CONTAINS(report_end(), "not open");
	}
	CHECK_EQ(a.starts + a.ends, 0);
	range = owner_range(&owner, true);
	CHECK_EQ(mmu_notifier_invalidate_range_start(&range), 0);
	mmu_notifier_invalidate_range_end(&range);
	report_begin();
	mmu_notifier_invalidate_range_end(&range); /* twice */
	CHECK_CONTAINS(report_end(), "not open");
	CHECK_EQ(a.starts, 1);
	CHECK_EQ(a.ends, 1);
	/* A blockable start that fails: reported, and the section is open all the same. */
	a.answer = -EAGAIN;
	report_begin();
	CHECK_EQ(mmu_notifier_invalidate_range_start(&range), 0);
	CHECK_CONTAINS(report_end(), "MN1");
	a.answer = 0;
	a.open++;
	mmu_notifier_invalidate_range_end(&range);
	CHECK_EQ(mmu_notifier_unregister(&a.notifier, &owner.mm), 0);
	owner_fini(&owner);
}

#endif

/* --- under the page-table lock -------------------------------------------------------------------- */

struct aged {
	struct mmu_notifier notifier;
	bool young;
	u32 asked, tlbs;
};

static bool aged_clear(struct mmu_notifier *n, struct notifier_mm *mm, hva_t start, hva_t end)
{
	struct aged *a = container_of(n, struct aged, notifier);
	bool young = a->young;

	a->asked++;
	a->young = false;
	return young;
}

static bool aged_test(struct mmu_notifier *n, struct notifier_mm *mm, hva_t start, hva_t end)
{
	struct aged *a = container_of(n, struct aged, notifier);

	a->asked++;
	return a->young;
}

static void aged_tlbs(struct mmu_notifier *n, struct notifier_mm *mm, hva_t start, hva_t end)
{
	container_of(n, struct aged, notifier)->tlbs++;
}

static void aging(void)
{
	static const struct mmu_notifier_ops ops = { .clear_flush_young = aged_clear,
						     .clear_young = aged_clear,
						     .test_young = aged_test };
	static const struct mmu_notifier_ops device_ops = { .arch_invalidate_secondary_tlbs = aged_tlbs };
	struct mmu_notifier_ops both = device_ops;
	struct aged a = { .notifier.ops = &ops }, b = a, device = { .notifier.ops = &device_ops };
	struct mmu_notifier bad = { .ops = &both };
	struct owner owner;

	both.invalidate_range_start = listener_ops.invalidate_range_start;
	owner_init(&owner);
	CHECK(!mmu_notifier_clear_flush_young(&owner.mm, 0, 0x1000));
	mmu_notifier_arch_invalidate_secondary_tlbs(&owner.mm, 0, 0x1000);
	CHECK_EQ(mmu_notifier_register(&bad, &owner.mm), -EINVAL); /* rule N2 */
	CHECK_EQ(mmu_notifier_register(&a.notifier, &owner.mm), 0);
	CHECK_EQ(mmu_notifier_register(&device.notifier, &owner.mm), 0);
	CHECK_EQ(mmu_notifier_register(&b.notifier, &owner.mm), 0);
	a.young = b.young = true;
	CHECK(mmu_notifier_test_young(&owner.mm, 0, 0x1000));
	CHECK_EQ(b.asked, 1);
	CHECK_EQ(a.asked, 0); /* stops at the first */
	CHECK(mmu_notifier_clear_young(&owner.mm, 0, 0x1000));
	CHECK_EQ(a.asked, 1); /* all are asked */
	CHECK(!a.young && !b.young);
	CHECK(!mmu_notifier_clear_flush_young(&owner.mm, 0, 0x1000));
	CHECK(!mmu_notifier_test_young(&owner.mm, 0, 0x1000));
	CHECK_EQ(a.asked, 3);
	mmu_notifier_arch_invalidate_secondary_tlbs(&owner.mm, 0, 0x1000);
	CHECK_EQ(device.tlbs, 1);
	CHECK_EQ(mmu_notifier_unregister(&a.notifier, &owner.mm), 0);
	CHECK_EQ(mmu_notifier_unregister(&b.notifier, &owner.mm), 0);
	CHECK_EQ(mmu_notifier_unregister(&device.notifier, &owner.mm), 0);
	owner_fini(&owner);
}

const struct test_case notifier_mutant_tests[] = { TEST(aging),
#if CHECKING
						   TEST(unregister_waits),
						   TEST(mutant_n9_no_synchronize),
						   TEST(exit_waits),
						   TEST(mutant_n8_no_synchronize),
						   TEST(unlinked_once),
						   TEST(mutant_n9_no_listed_test),
						   TEST(mutant_n8_mmput_in_callback),
						   TEST(mutant_n6_callback_sleeps),
						   TEST(callback_that_reclaims),
						   TEST(callback_lock_over_allocation),
						   TEST(ranges),
#endif
						   TEST_END };
