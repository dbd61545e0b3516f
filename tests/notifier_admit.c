/* SPDX-License-Identifier: MIT */
/* Admission: a newcomer never misses a start that matters (rule N3), by mm_lock and by section. */
#include "tests/notifier_env.h"

#if CHECKING

/* A page, an entry that maps it, and a subscriber with at most one translation of it. */
struct toy {
	struct owner owner;
	struct mmu_notifier notifier;
	struct emm_notifier emm;
	u32 entry;		  /* present */
	u32 freed;		  /* the page is */
	u32 translation;	  /* of the subscriber */
	enum emm_version version; /* 0: an mmu notifier */
	struct owner other;	  /* in a section of it, if nested */
	bool nested;
};

static int toy_start(struct mmu_notifier *notifier, const struct mmu_notifier_range *range)
{
	WRITE_ONCE(container_of(notifier, struct toy, notifier)->translation, 0);
	return 0;
}

static const struct mmu_notifier_ops toy_ops = { .invalidate_range_start = toy_start };

static int toy_emm(struct emm_notifier *e, struct notifier_mm *mm, enum emm_operation op, hva_t start, hva_t end)
{
	WRITE_ONCE(container_of(e, struct toy, emm)->translation, 0);
	return 0;
}

static int nothing(struct emm_notifier *e, struct notifier_mm *mm, enum emm_operation op, hva_t start, hva_t end)
{
	return 0;
}

/* Reclaim: holds no mmap_lock, but a lock of the reverse map. */
static void toy_reclaim(void *arg)
{
	struct actor *a = arg;
	struct toy *t = a->arg;
	struct mmu_notifier_range range = owner_range(&t->owner, true), outer = owner_range(&t->other, true);

	down_read(&t->owner.rmap);
	if (t->nested)
		CHECK_EQ(mmu_notifier_invalidate_range_start(&outer), 0);
	a->result = mmu_notifier_invalidate_range_start(&range);
	race_point("test:in_section");
	WRITE_ONCE(t->entry, 0);
	WRITE_ONCE(t->freed, 1);
	mmu_notifier_invalidate_range_end(&range);
	if (t->nested)
		mmu_notifier_invalidate_range_end(&outer);
	up_read(&t->owner.rmap);
	act_done(a);
}

static void toy_register(void *arg)
{
	struct actor *a = arg;
	struct toy *t = a->arg;

	a->result = t->version ? emm_notifier_register(&t->emm, &t->owner.mm, t->version)
			       : mmu_notifier_register(&t->notifier, &t->owner.mm);
	WRITE_ONCE(t->translation, READ_ONCE(t->entry)); /* its first fault */
	act_done(a);
}

/*
 * Catalogue 1 (Arcangeli, 3 April 2008).
 *
 *   T1 reclaim (lock of the reverse map)  T2
 *   start: walks the list, A
 *                                         register B
 *                                           right: waits for T1
 *                                           mutant: is done; B faults, the entry is present
 *   entry = 0; the page is free; end
 *                                         right: B faults, the entry is gone
 *                                         mutant: B writes to a free page
 */
static void reclaim_meets_register(enum notifier_admission admission, enum emm_version version, const char *mutant_name,
				   bool caught)
{
	struct actor reclaim, comer;
	struct race_gate gate, published;
	struct toy t = { .notifier.ops = &toy_ops, .emm.callback = toy_emm, .entry = 1, .version = version };
	struct emm_notifier e = { .callback = nothing };
	struct listener a;

	owner_init_with(&t.owner, admission);
	listener_init(&a, '-', &listener_ops);
	REQUIRE_EQ(mmu_notifier_register(&a.notifier, &t.owner.mm), 0);
	if (version)
		REQUIRE_EQ(emm_notifier_register(&e, &t.owner.mm, version), 0);
	mutant_set(mutant_name);
	report_begin();
	race_arm(&gate, version ? "notifier:between_emm" : "notifier:between_starts", 1);
	race_arm(&published, "notifier:published", 1);
	REQUIRE(act(&reclaim, toy_reclaim, &t, NULL));
	race_wait(&gate);
	REQUIRE(act(&comer, toy_register, &t, NULL));
	if (admission == NOTIFIER_ADMIT_SECTION) {
		race_wait(&published);
		race_release(&published);
	}
	if (caught) {
		while (!is_done(&comer))
			thread_yield();
		CHECK_EQ(READ_ONCE(t.translation), 1);
	} else {
		while (admission == NOTIFIER_ADMIT_MM_LOCK && !rwsem_is_contended(&t.owner.rmap))
			thread_yield();
		thread_sleep_ns(2000000);
		CHECK(!is_done(&comer));
	}
	race_release(&gate);
	thread_join(&reclaim.thread);
	thread_join(&comer.thread);
	race_disarm(&gate);
	race_disarm(&published);
	mutant_set(NULL);
	/* The oracles: a translation of a free page; and the checker, where the rule is that the list stands still. */
	CHECK_EQ(t.translation && t.freed, caught);
	if (caught && admission == NOTIFIER_ADMIT_MM_LOCK && !version)
		CHECK_CONTAINS(report_end(), "visible in an open section (rule N3)");
	else
		CHECK_STR(report_end(), "");
	CHECK_EQ(comer.result, 0);
	CHECK_EQ(a.bad, 0);
	if (!version)
		CHECK_EQ(mmu_notifier_unregister(&t.notifier, &t.owner.mm), 0);
	CHECK_EQ(mmu_notifier_unregister(&a.notifier, &t.owner.mm), 0);
	t.owner.mm.users = 0;
	mmu_notifier_release(&t.owner.mm);
	owner_fini(&t.owner);
}

static void mm_lock_waits(void)
{
	reclaim_meets_register(NOTIFIER_ADMIT_MM_LOCK, 0, NULL, false);
	reclaim_meets_register(NOTIFIER_ADMIT_MM_LOCK, EMM_V3, NULL, false);
}

static void section_waits(void)
{
	reclaim_meets_register(NOTIFIER_ADMIT_SECTION, 0, NULL, false);
	reclaim_meets_register(NOTIFIER_ADMIT_SECTION, EMM_V3, NULL, false);
}

static void mutant_n3_no_mm_lock(void)
{
	reclaim_meets_register(NOTIFIER_ADMIT_MM_LOCK, 0, "n3-no-mm-lock", true);
}

static void mutant_n3_no_section_wait(void)
{
	reclaim_meets_register(NOTIFIER_ADMIT_SECTION, 0, "n3-no-section-wait", true);
}

static void mutant_e4_no_mm_lock(void)
{
	reclaim_meets_register(NOTIFIER_ADMIT_MM_LOCK, EMM_V3, "e4-no-mm-lock", true);
	reclaim_meets_register(NOTIFIER_ADMIT_SECTION, EMM_V3, "e4-no-mm-lock", true);
}

/* No mutant needed: so it was. */
static void emm_v1_loses(void)
{
	reclaim_meets_register(NOTIFIER_ADMIT_MM_LOCK, EMM_V1, NULL, true);
	reclaim_meets_register(NOTIFIER_ADMIT_SECTION, EMM_V1, NULL, true);
}

/*
 * The same without A: nobody listens, so T1 takes the inline path of a release build, and
 * stands in its thread's slot; or, inside a section of another address space, it is a
 * reader of the domain.
 */
static void unheard_meets_register(bool nested, const char *mutant_name)
{
	struct toy t = { .notifier.ops = &toy_ops, .entry = 1, .nested = nested };
	struct actor reclaim, comer;
	struct race_gate gate;

	owner_init_with(&t.owner, NOTIFIER_ADMIT_SECTION);
	owner_init_with(&t.other, NOTIFIER_ADMIT_SECTION);
	mutant_set(mutant_name);
	race_arm(&gate, "test:in_section", 1);
	REQUIRE(act(&reclaim, toy_reclaim, &t, NULL));
	race_wait(&gate);
	REQUIRE(act(&comer, toy_register, &t, NULL));
	while (mutant_name && !is_done(&comer))
		thread_yield();
	while (!mm_has_notifiers(&t.owner.mm))
		thread_yield();
	thread_sleep_ns(2000000);
	CHECK_EQ(is_done(&comer), mutant_name != NULL);
	race_release(&gate);
	thread_join(&reclaim.thread);
	thread_join(&comer.thread);
	race_disarm(&gate);
	mutant_set(NULL);
	CHECK_EQ(t.translation && t.freed, mutant_name != NULL);
	CHECK_EQ(comer.result, 0);
	CHECK_EQ(mmu_notifier_unregister(&t.notifier, &t.owner.mm), 0);
	owner_fini(&t.owner);
	owner_fini(&t.other);
}

static void unheard_section_is_waited_for(void)
{
	unheard_meets_register(false, NULL);
	unheard_meets_register(true, NULL);
}

static void unheard_mutant_n3_no_section_wait(void)
{
	unheard_meets_register(false, "n3-no-section-wait");
	unheard_meets_register(true, "n3-no-section-wait");
}

/*
 * Between the slot and the look at who listens.
 *
 *   T1 section                          T2 register
 *   start: slot = this mm
 *                                       publish B; barrier; slot taken: wait
 *   somebody listens: out of the slot, and in
 *     again with a ticket not older than T2's  (may return now: B is told of T1)
 *   start of B; entry = 0; end of B
 */
static void unheard_section_looks_again(void)
{
	struct toy t = { .entry = 1 };
	struct race_gate gate, inside;
	struct actor reclaim, comer;
	struct listener b;

	owner_init_with(&t.owner, NOTIFIER_ADMIT_SECTION);
	listener_init(&b, '-', &listener_ops);
	race_arm(&gate, "notifier:quick_in_slot", 1);
	race_arm(&inside, "test:in_section", 1);
	REQUIRE(act(&reclaim, toy_reclaim, &t, NULL));
	race_wait(&gate);
	REQUIRE(act(&comer, do_register, &b.notifier, &t.owner.mm));
	while (!mm_has_notifiers(&t.owner.mm))
		thread_yield();
	thread_sleep_ns(2000000);
	CHECK(!is_done(&comer));
	CHECK_EQ(b.starts, 0);
	race_release(&gate);
	race_wait(&inside);
	CHECK_EQ(b.starts, 1);
	CHECK_EQ(READ_ONCE(t.entry), 1);
	race_release(&inside);
	thread_join(&reclaim.thread);
	thread_join(&comer.thread);
	race_disarm(&gate);
	race_disarm(&inside);
	CHECK_EQ(comer.result, 0);
	CHECK_EQ(b.ends, 1);
	CHECK_EQ(b.bad, 0);
	CHECK_EQ(mmu_notifier_unregister(&b.notifier, &t.owner.mm), 0);
	owner_fini(&t.owner);
}

/*
 *   T1 section                          T2                      main
 *   start: A
 *                                       register B: visible,
 *                                       waits for T1
 *                                                               a section of its own: start, end at B and A
 *   end: A, not B
 *                                       returns, or -EINTR
 */
static void ends_follow_starts(bool interrupt)
{
	struct actor section, comer;
	struct mmu_notifier_range range;
	struct race_gate gate, published;
	struct owner owner;
	struct listener a, b;

	owner_init_with(&owner, NOTIFIER_ADMIT_SECTION);
	listener_init(&a, '-', &listener_ops);
	listener_init(&b, '-', &listener_ops);
	REQUIRE_EQ(mmu_notifier_register(&a.notifier, &owner.mm), 0);
	race_arm(&gate, "test:in_section", 1); /* not in a callback: an interrupted newcomer waits for those */
	race_arm(&published, "notifier:published", 1);
	REQUIRE(act(&section, do_section, &owner, NULL));
	race_wait(&gate);
	REQUIRE(act(&comer, do_register, &b.notifier, &owner.mm));
	race_wait(&published);
	race_release(&published);
	range = owner_range(&owner, true);
	CHECK_EQ(mmu_notifier_invalidate_range_start(&range), 0);
	CHECK_EQ(b.starts, 1);
	mmu_notifier_invalidate_range_end(&range);
	CHECK_EQ(b.ends, 1);
	CHECK(!is_done(&comer));
	if (interrupt) {
		thread_signal_send(&comer.thread);
		while (!is_done(&comer))
			thread_yield();
		CHECK_EQ(comer.result, -EINTR);
		CHECK_EQ(owner.mm.count, 2);
		CHECK(!b.notifier.mm);
		CHECK_EQ(mmu_notifier_unregister(&b.notifier, &owner.mm), -EINVAL);
	}
	race_release(&gate);
	thread_join(&section.thread);
	thread_join(&comer.thread);
	race_disarm(&gate);
	race_disarm(&published);
	CHECK_EQ(a.starts, 2);
	CHECK_EQ(a.ends, 2);
	CHECK_EQ(b.starts, 1);
	CHECK_EQ(b.ends, 1);
	CHECK_EQ(b.bad, 0);
	if (interrupt)
		CHECK_EQ(mmu_notifier_register(&b.notifier, &owner.mm), 0); /* nothing of it is left */
	CHECK_EQ(mmu_notifier_unregister(&b.notifier, &owner.mm), 0);
	CHECK_EQ(mmu_notifier_unregister(&a.notifier, &owner.mm), 0);
	owner_fini(&owner);
}

static void section_ends_follow_starts(void)
{
	ends_follow_starts(false);
}

static void section_interrupted(void)
{
	ends_follow_starts(true);
}

/* Who has a section open would wait for itself. */
static void in_a_section(void)
{
	struct mmu_notifier_range range;
	struct mmu_interval_notifier ival = { 0 };
	struct emm_notifier e = { .callback = toy_emm };
	struct owner owner;
	struct listener a;
	u64 seq;

	owner_init_with(&owner, NOTIFIER_ADMIT_SECTION);
	listener_init(&a, 'A', &listener_ops);
	range = owner_range(&owner, true);
	CHECK_EQ(mmu_notifier_invalidate_range_start(&range), 0);
	report_begin();
	CHECK_EQ(mmu_notifier_register(&a.notifier, &owner.mm), -EDEADLK);
	CHECK_CONTAINS(report_end(), "mmu_notifier_section");
	report_begin();
	CHECK_EQ(emm_notifier_register(&e, &owner.mm, EMM_V3), -EDEADLK);
	CHECK_EQ(mmu_interval_read_begin(&ival, &seq), -EINVAL);
	CHECK_EQ(mmu_interval_notifier_remove(&ival), -EDEADLK);
	report_end();
	mmu_notifier_invalidate_range_end(&range);
	owner_fini(&owner);
}

static void init_fails(void)
{
	static const struct notifier_mm_ops none = { 0 };
	struct notifier_mm mm;

	CHECK_EQ(notifier_mm_init(&mm, &none, (enum notifier_admission)7), -EINVAL);
	for (u32 n = 1; n <= 2; n++) {
		mem_fail_after(n);
		CHECK_EQ(notifier_mm_init(&mm, &none, NOTIFIER_ADMIT_SECTION), -ENOMEM);
	}
	mem_fail_after(0);
}

#endif /* CHECKING */

/* The wait is for who was there, not for who comes: a stream of sections does not hold it up. */
static void stream(void *arg)
{
	struct actor *a = arg;
	struct owner *owner = a->arg;

	while (!READ_ONCE(*(u32 *)a->arg2)) {
		struct mmu_notifier_range range = owner_range(owner, true);

		CHECK_EQ(mmu_notifier_invalidate_range_start(&range), 0);
		mmu_notifier_invalidate_range_end(&range);
		act_done(a);
	}
}

static void section_stream(void)
{
	struct actor streams[3];
	struct owner owner;
	u32 stop = 0;

	owner_init_with(&owner, NOTIFIER_ADMIT_SECTION);
	for (u32 i = 0; i < ARRAY_SIZE(streams); i++)
		REQUIRE(act(&streams[i], stream, &owner, &stop));
	while (!is_done(&streams[0]))
		thread_yield();
	for (u32 turn = 0; turn < TEST_SCALE(200u); turn++) {
		struct listener l;

		listener_init(&l, '-', &listener_ops);
		CHECK_EQ(mmu_notifier_register(&l.notifier, &owner.mm), 0);
		CHECK_EQ(mmu_notifier_unregister(&l.notifier, &owner.mm), 0);
		CHECK_EQ(l.bad, 0);
	}
	WRITE_ONCE(stop, 1);
	for (u32 i = 0; i < ARRAY_SIZE(streams); i++)
		thread_join(&streams[i].thread);
	owner_fini(&owner);
}

/*
 * Sections of one thread that overlap, nested or not, and nobody listens to the first (in a
 * release build: the inline path). Registration waits for that one, in the slot of the
 * thread, and not for the second, which hears.
 */
static void section_overlap(void)
{
	struct mmu_notifier_range first, second;
	struct actor comer;
	struct owner owner;
	struct listener a, self;
	u64 before;

	owner_init_with(&owner, NOTIFIER_ADMIT_SECTION);
	listener_init(&a, '-', &listener_ops);
	listener_init(&self, '-', &listener_ops);
	for (u32 turn = 0; turn < 3; turn++) {
		first = second = owner_range(&owner, true);
		CHECK_EQ(mmu_notifier_invalidate_range_start(&first), 0);
		if (!CHECKING) /* with a checker: test in_a_section */
			CHECK_EQ(mmu_notifier_register(&self.notifier, &owner.mm), -EDEADLK);
		before = READ_ONCE(owner.mm.subscriptions->sections.ticket);
		REQUIRE(act(&comer, do_register, &a.notifier, &owner.mm));
		/* Published, and the ticket drawn: between the two a section would hear and be waited for. */
		while (smp_load_acquire(&owner.mm.subscriptions->sections.ticket) == before)
			thread_yield();
		CHECK(mm_has_notifiers(&owner.mm));
		/* Opened after it was published: this one hears. */
		CHECK_EQ(mmu_notifier_invalidate_range_start(&second), 0);
		CHECK_EQ(a.starts, turn + 1);
		if (turn == 1) {
			mmu_notifier_invalidate_range_end(&second);
			thread_sleep_ns(1000000);
			CHECK(!is_done(&comer));
			mmu_notifier_invalidate_range_end(&first);
			thread_join(&comer.thread);
		} else {
			mmu_notifier_invalidate_range_end(&first);
			thread_join(&comer.thread);
			mmu_notifier_invalidate_range_end(&second);
		}
		CHECK_EQ(comer.result, 0);
		CHECK_EQ(a.ends, turn + 1);
		CHECK_EQ(mmu_notifier_unregister(&a.notifier, &owner.mm), 0);
		CHECK(!mm_has_notifiers(&owner.mm));
	}
	CHECK_EQ(a.bad, 0);
	owner_fini(&owner);
}

const struct test_case notifier_admit_tests[] = {
#if CHECKING
	TEST(mm_lock_waits),
	TEST(section_waits),
	TEST(mutant_n3_no_mm_lock),
	TEST(mutant_n3_no_section_wait),
	TEST(mutant_e4_no_mm_lock),
	TEST(emm_v1_loses),
	TEST(unheard_section_is_waited_for),
	TEST(unheard_mutant_n3_no_section_wait),
	TEST(unheard_section_looks_again),
	TEST(section_ends_follow_starts),
	TEST(section_interrupted),
	TEST(in_a_section),
	TEST(init_fails),
#endif
	TEST(section_stream),
	TEST(section_overlap),
	TEST_END
};
