/* SPDX-License-Identifier: MIT */
/* get, put, synchronize (rule N10). */
#include "tests/notifier_env.h"

struct counted {
	struct mmu_notifier notifier;
	u32 *freed;
};

static u32 allocated, freed;
static int alloc_answer;

static int counted_alloc(struct notifier_mm *mm, struct mmu_notifier **out)
{
	struct counted *c = alloc_answer ? NULL : mem_zalloc(sizeof(*c));

	if (!c)
		return alloc_answer ?: -ENOMEM;
	allocated++;
	*out = &c->notifier;
	return 0;
}

static void counted_free(struct mmu_notifier *notifier)
{
	fetch_add(&freed, 1);
	mem_free(container_of(notifier, struct counted, notifier));
}

static void counted_release(struct mmu_notifier *notifier, struct notifier_mm *mm)
{
	CHECK_EQ(mmu_notifier_put(notifier), 0); /* allowed here */
}

static const struct mmu_notifier_ops counted_ops = { .alloc_notifier = counted_alloc, .free_notifier = counted_free };
static const struct mmu_notifier_ops other_ops = { .alloc_notifier = counted_alloc, .free_notifier = counted_free };
static const struct mmu_notifier_ops release_ops = { .release = counted_release,
						     .alloc_notifier = counted_alloc,
						     .free_notifier = counted_free };

static void get_start(struct owner *owner, enum notifier_admission admission)
{
	allocated = freed = 0;
	alloc_answer = 0;
	owner_init_with(owner, admission);
}

static struct mmu_notifier *given;

static int give(struct notifier_mm *mm, struct mmu_notifier **out)
{
	*out = given;
	return alloc_answer;
}

static void refuse(const struct mmu_notifier_ops *ops, struct owner *owner, const char *why)
{
	struct mmu_notifier *a = NULL;

#if CHECKING
	report_begin();
#endif
	CHECK_EQ(mmu_notifier_get(ops, &owner->mm, &a), -EINVAL);
#if CHECKING
	CHECK_CONTAINS(report_end(), why);
#endif
	CHECK_PTR_EQ(a, NULL);
	CHECK_EQ(freed, 0);
}

/* What alloc_notifier must not do: each an error, and nobody's subscription is changed or freed. */
static void bad_alloc(void)
{
	static const struct mmu_notifier_ops giving_ops = { .alloc_notifier = give, .free_notifier = counted_free };
	struct mmu_notifier used = { .ops = &giving_ops };
	static const struct mmu_notifier_ops none = { 0 };
	struct owner owner, other;

	for (int admission = NOTIFIER_ADMIT_MM_LOCK; admission <= NOTIFIER_ADMIT_SECTION; admission++) {
		get_start(&owner, admission);
		owner_init(&other);
		given = NULL;
		refuse(&giving_ops, &owner, "answers 0 and none");
		used.ops = &none;
		CHECK_EQ(mmu_notifier_register(&used, &other.mm), 0);
		given = &used;
		refuse(&giving_ops, &owner, "answers 0 and a subscription that is in use");
		CHECK_PTR_EQ(used.ops, &none);
		CHECK_EQ(mmu_notifier_unregister(&used, &other.mm), 0);
		alloc_answer = 7;
		refuse(&giving_ops, &owner, "answers 7");
		CHECK(!mm_has_notifiers(&owner.mm));
		CHECK_EQ(owner.mm.count, 1);
		owner_fini(&other);
		owner_fini(&owner);
	}
}

static void counts(enum notifier_admission admission)
{
	struct mmu_notifier *a, *b, *c, *d;
	struct owner owner;

	get_start(&owner, admission);
	REQUIRE_EQ(mmu_notifier_get(&counted_ops, &owner.mm, &a), 0);
	REQUIRE_EQ(mmu_notifier_get(&counted_ops, &owner.mm, &b), 0);
	REQUIRE_EQ(mmu_notifier_get(&other_ops, &owner.mm, &c), 0);
	CHECK_PTR_EQ(a, b);
	CHECK(a != c);
	CHECK_EQ(allocated, 2);
	CHECK_EQ(a->users, 2);
	CHECK_EQ(owner.mm.count, 3);
	a->users = UINT32_MAX;
	CHECK_EQ(mmu_notifier_get(&counted_ops, &owner.mm, &d), -EOVERFLOW);
	a->users = 2;
	/* What came by get does not go by unregister. */
	CHECK_EQ(mmu_notifier_unregister(a, &owner.mm), -EINVAL);
	CHECK_EQ(mmu_notifier_put(a), 0);
	CHECK_EQ(mmu_notifier_synchronize(), 0);
	CHECK_EQ(freed, 0);
	CHECK_EQ(mmu_notifier_put(a), 0);
	CHECK_EQ(mmu_notifier_put(c), 0);
	CHECK(!mm_has_notifiers(&owner.mm));
	CHECK_EQ(mmu_notifier_synchronize(), 0);
	CHECK_EQ(freed, 2);
	CHECK_EQ(owner.mm.count, 1);
	owner_fini(&owner);
}

static void counts_and_frees(void)
{
	counts(NOTIFIER_ADMIT_MM_LOCK);
	counts(NOTIFIER_ADMIT_SECTION);
}

static void refuses(void)
{
	static const struct mmu_notifier_ops half = { .alloc_notifier = counted_alloc };
	struct mmu_notifier *a, plain = { .ops = &half };
	struct owner owner;

	get_start(&owner, NOTIFIER_ADMIT_MM_LOCK);
	CHECK_EQ(mmu_notifier_get(NULL, &owner.mm, &a), -EINVAL);
	CHECK_EQ(mmu_notifier_get(&counted_ops, NULL, &a), -EINVAL);
	CHECK_EQ(mmu_notifier_get(&counted_ops, &owner.mm, NULL), -EINVAL);
	CHECK_EQ(mmu_notifier_get(&half, &owner.mm, &a), -EINVAL);
	CHECK_EQ(mmu_notifier_register(&plain, &owner.mm), -EINVAL);
	CHECK_EQ(mmu_notifier_put(NULL), -EINVAL);
	CHECK_EQ(mmu_notifier_put(&plain), -EINVAL);
	alloc_answer = -ENODEV;
	CHECK_EQ(mmu_notifier_get(&counted_ops, &owner.mm, &a), -ENODEV);
	alloc_answer = 0;
	owner.take_all_locks = -EINTR; /* what was made goes to free_notifier */
	CHECK_EQ(mmu_notifier_get(&counted_ops, &owner.mm, &a), -EINTR);
	CHECK_EQ(allocated, 1);
	CHECK_EQ(freed, 1);
	owner.take_all_locks = -EPERM;
	CHECK_EQ(mmu_notifier_get(&counted_ops, &owner.mm, &a), -EPERM);
	CHECK_EQ(freed, 2);
	CHECK_EQ(owner.mm.count, 1);
	owner_fini(&owner);
}

static void put_in_release(void)
{
	struct mmu_notifier *a;
	struct owner owner;

	get_start(&owner, NOTIFIER_ADMIT_MM_LOCK);
	REQUIRE_EQ(mmu_notifier_get(&release_ops, &owner.mm, &a), 0);
	owner.mm.users = 0;
	mmu_notifier_release(&owner.mm);
	CHECK_EQ(mmu_notifier_synchronize(), 0);
	CHECK_EQ(freed, 1);
	CHECK_EQ(owner.mm.count, 1);
	owner_fini(&owner);
}

#if CHECKING
static void do_synchronize(void *arg)
{
	struct actor *a = arg;

	a->result = mmu_notifier_synchronize();
	act_done(a);
}

/*
 *   main                      the thread of callbacks
 *   put: the last
 *                             grace period over; about to call free_notifier
 *   synchronize
 *     right: waits            free_notifier
 *     mutant: a grace period, and returns: the code of free_notifier is unloaded under it
 */
static void synchronize_meets_free(const char *mutant_name, bool caught)
{
	struct mmu_notifier *a;
	struct race_gate gate;
	struct actor waiter;
	struct owner owner;

	get_start(&owner, NOTIFIER_ADMIT_MM_LOCK);
	REQUIRE_EQ(mmu_notifier_get(&counted_ops, &owner.mm, &a), 0);
	race_arm(&gate, "notifier:before_free_notifier", 1);
	CHECK_EQ(mmu_notifier_put(a), 0);
	race_wait(&gate);
	mutant_set(mutant_name);
	REQUIRE(act(&waiter, do_synchronize, NULL, NULL));
	if (caught) {
		thread_join(&waiter.thread);
		CHECK_EQ(READ_ONCE(freed), 0); /* the oracle: still to come */
		race_release(&gate);
	} else {
		thread_sleep_ns(5000000);
		CHECK(!is_done(&waiter));
		race_release(&gate);
		thread_join(&waiter.thread);
		CHECK_EQ(READ_ONCE(freed), 1);
	}
	race_disarm(&gate);
	mutant_set(NULL);
	CHECK_EQ(waiter.result, 0);
	CHECK_EQ(mmu_notifier_synchronize(), 0);
	CHECK_EQ(freed, 1);
	owner_fini(&owner);
}

static void synchronize_waits(void)
{
	synchronize_meets_free(NULL, false);
}

static void mutant_n10_synchronize_srcu(void)
{
	synchronize_meets_free("n10-synchronize-srcu", true);
}
#endif

const struct test_case notifier_get_tests[] = { TEST(bad_alloc),
						TEST(counts_and_frees),
						TEST(refuses),
						TEST(put_in_release),
#if CHECKING
						TEST(synchronize_waits),
						TEST(mutant_n10_synchronize_srcu),
#endif
						TEST_END };
