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
	fetch_add(&allocated, 1);
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

static void do_get(void *arg)
{
	struct actor *a = arg;
	struct mmu_notifier *got;
	struct owner *owner = a->arg;

	a->result = mmu_notifier_get(&counted_ops, &owner->mm, &got);
	if (!a->result)
		a->result = mmu_notifier_put(got);
	act_done(a);
}

static int no_emm(struct emm_notifier *e, struct notifier_mm *mm, enum emm_operation op, hva_t start, hva_t end)
{
	return 0;
}

static void do_emm(void *arg)
{
	struct actor *a = arg;
	struct owner *owner = a->arg;

	a->result = emm_notifier_register(a->arg2, &owner->mm, EMM_V3);
	act_done(a);
}

/*
 *   main                get, or EMM's register, on A     the same two on B
 *   a section of A
 *                       published; waits for it
 *                                                        done: B has no section
 *   its end
 *                       done
 */
static void one_mm_does_not_wait_for_another(bool emm)
{
	struct emm_notifier e[2] = { { .callback = no_emm }, { .callback = no_emm } };
	struct actor waiter, get, reg;
	struct mmu_notifier_range range;
	struct owner a, b;

	get_start(&a, NOTIFIER_ADMIT_SECTION);
	owner_init_with(&b, NOTIFIER_ADMIT_SECTION);
	range = owner_range(&a, true);
	CHECK_EQ(mmu_notifier_invalidate_range_start(&range), 0);
	REQUIRE(act(&waiter, emm ? do_emm : do_get, &a, &e[0]));
	while (!mm_has_notifiers(&a.mm))
		thread_yield();
	REQUIRE(act(&get, do_get, &b, NULL));
	REQUIRE(act(&reg, do_emm, &b, &e[1]));
	thread_join(&get.thread);
	thread_join(&reg.thread);
	CHECK(!is_done(&waiter));
	mmu_notifier_invalidate_range_end(&range);
	thread_join(&waiter.thread);
	CHECK_EQ(get.result | reg.result | waiter.result, 0);
	CHECK_EQ(mmu_notifier_synchronize(), 0);
	a.mm.users = b.mm.users = 0;
	mmu_notifier_release(&a.mm);
	mmu_notifier_release(&b.mm);
	owner_fini(&b);
	owner_fini(&a);
}

static void two_spaces(void)
{
	one_mm_does_not_wait_for_another(false);
	one_mm_does_not_wait_for_another(true);
}

static struct owner *inner;

/* A subscription that needs one on another address space, as of a device shared by both. */
static int alloc_both(struct notifier_mm *mm, struct mmu_notifier **out)
{
	struct mmu_notifier *other;
	int err = mmu_notifier_get(&counted_ops, &inner->mm, &other);

	err = err ?: mmu_notifier_put(other);
	return err ?: counted_alloc(mm, out);
}

static void get_in_alloc(void)
{
	static const struct mmu_notifier_ops both_ops = { .alloc_notifier = alloc_both, .free_notifier = counted_free };
	struct mmu_notifier *got;
	struct owner a, b;

	get_start(&a, NOTIFIER_ADMIT_SECTION);
	owner_init_with(&b, NOTIFIER_ADMIT_SECTION);
	inner = &b;
	REQUIRE_EQ(mmu_notifier_get(&both_ops, &a.mm, &got), 0);
	CHECK_EQ(mmu_notifier_put(got), 0);
	/* On the same one as well. */
	inner = &a;
	REQUIRE_EQ(mmu_notifier_get(&both_ops, &a.mm, &got), 0);
	CHECK_EQ(mmu_notifier_put(got), 0);
	CHECK_EQ(mmu_notifier_synchronize(), 0);
	CHECK_EQ(freed, allocated);
	owner_fini(&b);
	owner_fini(&a);
}

static const struct mmu_notifier_ops met_ops;
static struct mmu_notifier *faster;

/* The first of two gets is here when the second comes, and is done. */
static int alloc_met(struct notifier_mm *mm, struct mmu_notifier **out)
{
	static bool second;
	int err = 0;

	if (!second) {
		second = true;
		err = mmu_notifier_get(&met_ops, mm, &faster);
		second = false;
	}
	return err ?: counted_alloc(mm, out);
}

static const struct mmu_notifier_ops met_ops = { .alloc_notifier = alloc_met, .free_notifier = counted_free };

/* The timeline of notifier/get.c. */
static void gets_meet(const char *mutant_name, bool caught)
{
	struct mmu_notifier *got;
	struct owner owner;

	get_start(&owner, NOTIFIER_ADMIT_SECTION);
	mutant_set(mutant_name);
	REQUIRE_EQ(mmu_notifier_get(&met_ops, &owner.mm, &got), 0);
	mutant_set(NULL);
	CHECK_EQ(got != faster, caught); /* the oracle */
	CHECK_EQ(allocated, 2);
	CHECK_EQ(READ_ONCE(freed), caught ? 0 : 1);
	CHECK_EQ(mmu_notifier_put(got), 0);
	CHECK_EQ(mmu_notifier_put(faster), 0);
	CHECK_EQ(mmu_notifier_synchronize(), 0);
	CHECK_EQ(freed, 2);
	CHECK(!mm_has_notifiers(&owner.mm));
	owner_fini(&owner);
}

static void first_gets_meet(void)
{
	gets_meet(NULL, false);
}

#if CHECKING
static void mutant_n10_no_second_look(void)
{
	gets_meet("n10-no-second-look", true);
}

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
						TEST(two_spaces),
						TEST(get_in_alloc),
						TEST(first_gets_meet),
#if CHECKING
						TEST(synchronize_waits),
						TEST(mutant_n10_synchronize_srcu),
						TEST(mutant_n10_no_second_look),
#endif
						TEST_END };
