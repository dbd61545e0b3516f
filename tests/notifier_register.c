/* SPDX-License-Identifier: MIT */
/* Registration: every error, what it leaves behind, and the counts. */
#include <string.h>

#include "tests/notifier_env.h"

static void arguments(void)
{
	static const struct mmu_notifier_ops none = { 0 };
	static const struct mmu_notifier_ops half = { .invalidate_range_end = (void *)1 };
	struct mmu_notifier n = { .ops = &none };
	struct owner owner;

	owner_init(&owner);
	CHECK_EQ(mmu_notifier_register(NULL, &owner.mm), -EINVAL);
	CHECK_EQ(mmu_notifier_register(&n, NULL), -EINVAL);
	n.ops = NULL;
	CHECK_EQ(mmu_notifier_register(&n, &owner.mm), -EINVAL);
	n.ops = &half; /* the ends of sections it never saw begin */
	CHECK_EQ(mmu_notifier_register(&n, &owner.mm), -EINVAL);
	CHECK_EQ(mmu_notifier_unregister(NULL, &owner.mm), -EINVAL);
	CHECK_EQ(mmu_notifier_unregister(&n, NULL), -EINVAL);
	CHECK_EQ(mmu_notifier_unregister(&n, &owner.mm), -EINVAL);
	CHECK(!owner.mm.subscriptions);
	CHECK_EQ(owner.mm.count, 1);
	n.ops = &none; /* hears nothing, which is its right */
	CHECK_EQ(mmu_notifier_register(&n, &owner.mm), 0);
	CHECK_EQ(mmu_notifier_unregister(&n, &owner.mm), 0);
	owner_fini(&owner);
}

static void twice(void)
{
	struct owner owner, other;
	struct listener a;

	owner_init(&owner);
	owner_init(&other);
	listener_init(&a, 'A', &listener_ops);
	heard_reset();
	CHECK(!mm_has_notifiers(&owner.mm));
	CHECK_EQ(mmu_notifier_register(&a.notifier, &owner.mm), 0);
	CHECK(mm_has_notifiers(&owner.mm));
	CHECK_EQ(owner.mm.count, 2);
	CHECK_EQ(mmu_notifier_register(&a.notifier, &owner.mm), -EEXIST);
	CHECK_EQ(mmu_notifier_register(&a.notifier, &other.mm), -EEXIST);
	CHECK_EQ(mmu_notifier_unregister(&a.notifier, &other.mm), -EINVAL);
	CHECK_EQ(owner.mm.count, 2);
	CHECK_EQ(a.releases, 0);
	CHECK_EQ(mmu_notifier_unregister(&a.notifier, &owner.mm), 0);
	CHECK_EQ(mmu_notifier_unregister(&a.notifier, &owner.mm), -EINVAL);
	CHECK(!mm_has_notifiers(&owner.mm));
	CHECK_EQ(owner.mm.count, 1);
	CHECK_EQ(a.releases, 1);
	/* It may subscribe again, elsewhere too. */
	CHECK_EQ(mmu_notifier_register(&a.notifier, &other.mm), 0);
	CHECK_EQ(mmu_notifier_unregister(&a.notifier, &other.mm), 0);
	CHECK_STR(heard, "rA rA");
	owner_fini(&owner);
	owner_fini(&other);
}

/* rule N2: a signal while all locks are taken: nothing is published. */
static void interrupted(void)
{
	struct owner owner;
	struct listener a;

	owner_init(&owner);
	listener_init(&a, 'A', &listener_ops);
	owner.take_all_locks = -EINTR;
	CHECK_EQ(mmu_notifier_register(&a.notifier, &owner.mm), -EINTR);
	CHECK(!owner.mm.subscriptions);
	CHECK_EQ(owner.mm.count, 1);
	owner.take_all_locks = 0;
	CHECK_EQ(mmu_notifier_register(&a.notifier, &owner.mm), 0);
	CHECK_EQ(mmu_notifier_unregister(&a.notifier, &owner.mm), 0);
	owner.take_all_locks = -EINTR; /* with the list there already */
	CHECK_EQ(mmu_notifier_register(&a.notifier, &owner.mm), -EINTR);
	CHECK(!mm_has_notifiers(&owner.mm));
	CHECK_EQ(owner.mm.count, 1);
	owner_fini(&owner);
}

static void no_users(void)
{
	struct owner owner;
	struct listener a;

	owner_init(&owner);
	listener_init(&a, 'A', &listener_ops);
	owner.mm.users = 0;
	CHECK_EQ(mmu_notifier_register(&a.notifier, &owner.mm), -EINVAL);
	CHECK(!owner.mm.subscriptions);
	owner.mm.users = 1;
	CHECK_EQ(mmu_notifier_register(&a.notifier, &owner.mm), 0);
	CHECK_EQ(mmu_notifier_unregister(&a.notifier, &owner.mm), 0);
	owner_fini(&owner);
}

static void out_of_memory(void)
{
#if CHECKING
	struct owner owner;
	struct listener a;

	owner_init(&owner);
	listener_init(&a, 'A', &listener_ops);
	mem_fail_after(1);
	CHECK_EQ(mmu_notifier_register(&a.notifier, &owner.mm), -ENOMEM);
	CHECK(!owner.mm.subscriptions);
	CHECK_EQ(owner.mm.count, 1);
	mem_fail_after(1); /* nothing is allocated beside the list itself */
	CHECK_EQ(mmu_notifier_register(&a.notifier, &owner.mm), -ENOMEM);
	CHECK_EQ(mmu_notifier_register(&a.notifier, &owner.mm), 0);
	CHECK_EQ(mmu_notifier_unregister(&a.notifier, &owner.mm), 0);
	mem_fail_after(1);
	CHECK_EQ(mmu_notifier_register(&a.notifier, &owner.mm), 0);
	CHECK(!mem_failed());
	mem_fail_after(0);
	CHECK_EQ(mmu_notifier_unregister(&a.notifier, &owner.mm), 0);
	owner_fini(&owner);
#endif
}

/* Exit releases everybody while listed, newest first, and who unregisters after is not released again. */
static void release_at_exit(void)
{
	struct owner owner;
	struct listener a, b;

	owner_init(&owner);
	listener_init(&a, 'A', &listener_ops);
	listener_init(&b, 'B', &listener_ops);
	CHECK_EQ(mmu_notifier_register(&a.notifier, &owner.mm), 0);
	CHECK_EQ(mmu_notifier_register(&b.notifier, &owner.mm), 0);
	CHECK_EQ(owner.mm.count, 3);
	heard_reset();
	owner.mm.users = 0;
	mmu_notifier_release(&owner.mm);
	CHECK_STR(heard, "rB rA");
	CHECK(!mm_has_notifiers(&owner.mm));
	CHECK_EQ(owner.mm.count, 3);	 /* still theirs */
	mmu_notifier_release(&owner.mm); /* nobody is left to tell */
	CHECK_EQ(mmu_notifier_unregister(&a.notifier, &owner.mm), 0);
	notifier_mm_drop(&owner.mm); /* the owner's own */
	CHECK_EQ(owner.freed, 0);
	CHECK_EQ(mmu_notifier_unregister(&b.notifier, &owner.mm), 0); /* the last count: the structure goes */
	CHECK_EQ(owner.freed, 1);
	CHECK_EQ(a.releases, 1);
	CHECK_EQ(b.releases, 1);
}

struct stranger {
	struct mmu_notifier *subscription;
	struct notifier_mm *wrong;
	u32 stop;
	u64 accepted;
	struct thread thread;
};

static void names_the_wrong_mm(void *arg)
{
	struct stranger *s = arg;

	while (!READ_ONCE(s->stop))
		s->accepted += mmu_notifier_unregister(s->subscription, s->wrong) != -EINVAL;
}

/* Who names the wrong mm is refused, and is in nobody's way who names the right one. */
static void beside_the_wrong_mm(void)
{
	struct owner owner, other;
	struct listener a;
	struct stranger s = { .subscription = &a.notifier, .wrong = &other.mm };

	owner_init(&owner);
	owner_init(&other);
	listener_init(&a, 'A', &listener_ops);
	REQUIRE_EQ(thread_create(&s.thread, "stranger", -1, names_the_wrong_mm, &s), 0);
	for (int i = 0; i < 2000; i++) {
		CHECK_EQ(mmu_notifier_register(&a.notifier, &owner.mm), 0);
		CHECK_EQ(mmu_notifier_unregister(&a.notifier, &owner.mm), 0);
	}
	WRITE_ONCE(s.stop, 1);
	thread_join(&s.thread);
	CHECK_EQ(s.accepted, 0);
	CHECK_EQ(a.releases, 2000);
	owner_fini(&owner);
	owner_fini(&other);
}

static int from_callback[3];
static struct mmu_interval_notifier beside; /* on the same mm */

static bool not_called(struct mmu_interval_notifier *subscription, const struct mmu_notifier_range *range, u64 seq)
{
	CHECK(false);
	return true;
}

static const struct mmu_interval_notifier_ops never_met = { .invalidate = not_called };

static void register_and_unregister(struct listener *l, const struct mmu_notifier_range *range)
{
	struct listener other;
	u64 seq;

	listener_init(&other, 'X', &listener_ops);
	from_callback[0] = mmu_notifier_register(&other.notifier, range->mm);
	from_callback[1] = mmu_notifier_unregister(&l->notifier, range->mm);
	from_callback[2] = mmu_interval_read_begin(&beside, &seq);
}

/* What would wait for the callback it is called from is refused, and reported where there is a checker. */
static void from_a_callback(void)
{
	struct mmu_notifier_range range;
	struct owner owner;
	struct listener a;

	owner_init(&owner);
	listener_init(&a, 'A', &listener_ops);
	a.in_start = register_and_unregister;
	CHECK_EQ(mmu_notifier_register(&a.notifier, &owner.mm), 0);
	REQUIRE_EQ(mmu_interval_notifier_insert(&beside, &owner.mm, 0, 0x1000, &never_met), 0);
	range = owner_range(&owner, true);
#if CHECKING
	report_begin();
#endif
	down_read(&owner.lock);
	CHECK_EQ(mmu_notifier_invalidate_range_start(&range), 0);
	mmu_notifier_invalidate_range_end(&range);
	up_read(&owner.lock);
#if CHECKING
	CHECK_CONTAINS(report_end(), "mmu_notifier_callback");
#endif
	CHECK_EQ(from_callback[0], -EDEADLK);
	CHECK_EQ(from_callback[1], -EDEADLK);
	CHECK_EQ(from_callback[2], -EDEADLK);
	CHECK_EQ(mmu_interval_notifier_remove(&beside), 0);
	CHECK_EQ(mmu_notifier_unregister(&a.notifier, &owner.mm), 0);
	owner_fini(&owner);
}

const struct test_case notifier_register_tests[] = {
	TEST(arguments),       TEST(twice),	      TEST(interrupted),	 TEST(no_users), TEST(out_of_memory),
	TEST(release_at_exit), TEST(from_a_callback), TEST(beside_the_wrong_mm), TEST_END
};
