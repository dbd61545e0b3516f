/* SPDX-License-Identifier: MIT */
/* Interval notifiers: the tree against a list, rules I1 to I7, and the mutants. */
#include "notifier/interval_tree.h"
#include "tests/notifier_env.h"

struct ival {
	struct mmu_interval_notifier sub;
	u32 hits, releases;
	bool refuses;
	u64 cur_seq;
};

static bool ival_invalidate(struct mmu_interval_notifier *sub, const struct mmu_notifier_range *range, u64 cur_seq)
{
	struct ival *v = container_of(sub, struct ival, sub);

	v->hits++;
	if (v->refuses && !range->blockable)
		return false;
	v->releases += range->event == MMU_NOTIFY_RELEASE;
	v->cur_seq = cur_seq;
	mmu_interval_set_seq(sub, cur_seq);
	return true;
}

static const struct mmu_interval_notifier_ops ival_ops = { .invalidate = ival_invalidate };

/* --- the tree ------------------------------------------------------------------------------- */

#define NODES 200u

static void tree_against_list(void)
{
	static struct mmu_interval_notifier node[NODES];
	struct mmu_interval_notifier *root = NULL;
	struct rng rng;
	s64 in = 0;

	rng_seed(&rng, 7);
	for (u32 turn = 0; turn < TEST_SCALE(20000u) && !test_failures(); turn++) {
		struct mmu_interval_notifier *n = &node[rng_below(&rng, NODES)], *found;
		hva_t start = rng_below(&rng, 500), last = start + rng_below(&rng, 20);
		u32 met = 0, expected = 0;

		if (itree_contains(n)) {
			itree_remove(&root, n);
			in--;
		} else {
			n->start = rng_below(&rng, 500);
			n->last = rng_below(&rng, 50) ? n->start + rng_below(&rng, 40) : ~0ull;
			itree_insert(&root, n);
			in++;
		}
		if (turn % 16)
			continue;
		CHECK_EQ(itree_check(root), in);
		for (u32 i = 0; i < NODES; i++)
			expected += itree_contains(&node[i]) && node[i].start <= last && node[i].last >= start;
		for (found = itree_first(root, start, last); found; found = itree_next(root, found, start, last)) {
			CHECK(found->start <= last && found->last >= start);
			met++;
		}
		CHECK_EQ(met, expected);
	}
}

/* --- the rules, one thread -------------------------------------------------------------------- */

static void sequence(enum notifier_admission admission)
{
	struct mmu_notifier_subscriptions *subs;
	struct mmu_notifier_range outer, inner;
	struct ival v = { 0 }, w = { 0 }, x = { 0 };
	struct owner owner;
	u64 seq, again;

	owner_init_with(&owner, admission);
	CHECK_EQ(mmu_interval_notifier_insert(&v.sub, &owner.mm, 0x2000, 0x1000, &ival_ops), 0);
	CHECK_EQ(mmu_interval_notifier_insert(&v.sub, &owner.mm, 0x2000, 0x1000, &ival_ops), -EEXIST);
	subs = owner.mm.subscriptions;
	CHECK_EQ(subs->seq & 1, 0);
	CHECK_EQ(v.sub.seq & 1, 1);
	CHECK_EQ(mmu_interval_read_begin(&v.sub, &seq), 0);
	CHECK(!mmu_interval_read_retry(&v.sub, seq));

	/* One that meets nobody leaves the tree free (rule I1). */
	outer = owner_range(&owner, true);
	outer.start = 0x8000;
	outer.end = 0x9000;
	CHECK_EQ(mmu_notifier_invalidate_range_start(&outer), 0);
	CHECK_EQ(v.hits, 0);
	CHECK_EQ(subs->active, 1);
	CHECK_EQ(subs->seq & 1, 0);
	/* rule I5: inserted now, it may have been met. */
	CHECK_EQ(mmu_interval_notifier_insert(&w.sub, &owner.mm, 0x8000, 0x1000, &ival_ops), 0);
	CHECK_EQ(subs->seq & 1, 1);
	CHECK_EQ(w.sub.seq, subs->seq);
	/* ... and now the tree is frozen: deferred. */
	CHECK_EQ(mmu_interval_notifier_insert(&x.sub, &owner.mm, 0x2000, 0x1000, &ival_ops), 0);
	CHECK(!itree_contains(&x.sub));
	CHECK_EQ(x.sub.seq, subs->seq);
	inner = owner_range(&owner, true);
	CHECK_EQ(mmu_notifier_invalidate_range_start(&inner), 0);
	CHECK_EQ(v.hits, 1);
	CHECK_EQ(x.hits, 0);
	CHECK_EQ(v.cur_seq, subs->seq);
	CHECK(mmu_interval_read_retry(&v.sub, seq));
	CHECK(mmu_interval_check_retry(&v.sub, seq));
	mmu_notifier_invalidate_range_end(&inner);
	CHECK_EQ(subs->seq & 1, 1); /* the outer one is open */
	mmu_notifier_invalidate_range_end(&outer);
	CHECK_EQ(subs->seq & 1, 0);
	CHECK_EQ(subs->active, 0);
	CHECK(itree_contains(&x.sub));
	CHECK_EQ(itree_check(subs->itree), 3);
	CHECK_EQ(mmu_interval_read_begin(&v.sub, &again), 0);
	CHECK(again != seq);

	/* Exit tells all (rule N8). */
	owner.mm.users = 0;
	mmu_notifier_release(&owner.mm);
	CHECK_EQ(v.releases + w.releases + x.releases, 3);
	CHECK_EQ(mmu_interval_notifier_remove(&v.sub), 0);
	CHECK_EQ(mmu_interval_notifier_remove(&v.sub), -EINVAL);
	CHECK_EQ(mmu_interval_notifier_remove(&w.sub), 0);
	CHECK_EQ(mmu_interval_notifier_remove(&x.sub), 0);
	CHECK_EQ(owner.mm.count, 1);
	owner_fini(&owner);
}

static void sequences(void)
{
	sequence(NOTIFIER_ADMIT_MM_LOCK);
	sequence(NOTIFIER_ADMIT_SECTION);
}

static void arguments(void)
{
	static const struct mmu_interval_notifier_ops none = { 0 };
	struct ival v = { 0 };
	struct owner owner;
	u64 seq;

	owner_init(&owner);
	CHECK_EQ(mmu_interval_notifier_insert(NULL, &owner.mm, 0, 0x1000, &ival_ops), -EINVAL);
	CHECK_EQ(mmu_interval_notifier_insert(&v.sub, NULL, 0, 0x1000, &ival_ops), -EINVAL);
	CHECK_EQ(mmu_interval_notifier_insert(&v.sub, &owner.mm, 0, 0x1000, NULL), -EINVAL);
	CHECK_EQ(mmu_interval_notifier_insert(&v.sub, &owner.mm, 0, 0x1000, &none), -EINVAL);
	CHECK_EQ(mmu_interval_notifier_insert(&v.sub, &owner.mm, 0x1000, 0, &ival_ops), -EOVERFLOW);
	CHECK_EQ(mmu_interval_notifier_insert(&v.sub, &owner.mm, ~0ull, 2, &ival_ops), -EOVERFLOW);
	CHECK_EQ(mmu_interval_notifier_insert(&v.sub, &owner.mm, TAIN_TASK_SIZE, 0x1000, &ival_ops), -EINVAL);
	owner.take_all_locks = -EINTR;
	CHECK_EQ(mmu_interval_notifier_insert(&v.sub, &owner.mm, 0, 0x1000, &ival_ops), -EINTR);
	owner.take_all_locks = 0;
	owner.mm.users = 0;
	CHECK_EQ(mmu_interval_notifier_insert(&v.sub, &owner.mm, 0, 0x1000, &ival_ops), -EINVAL);
	CHECK_EQ(owner.mm.count, 1);
	CHECK_EQ(mmu_interval_notifier_remove(NULL), -EINVAL);
	CHECK_EQ(mmu_interval_notifier_remove(&v.sub), -EINVAL);
	CHECK_EQ(mmu_interval_read_begin(&v.sub, &seq), -EINVAL);
	owner_fini(&owner);
}

#if CHECKING
static void do_read_begin(void *arg)
{
	struct actor *a = arg;

	a->result = mmu_interval_read_begin(a->arg, a->arg2);
	act_done(a);
}

static void do_remove(void *arg)
{
	struct actor *a = arg;

	a->result = mmu_interval_notifier_remove(a->arg);
	act_done(a);
}

/* rule I3: a driver waits for the section that met it; a signal ends the wait. rule I6: so does removal, for good. */
static void waits(void)
{
	struct actor reader, leaver;
	struct mmu_notifier_range range;
	struct ival v = { 0 };
	struct owner owner;
	u64 seq = 0;

	owner_init(&owner);
	REQUIRE_EQ(mmu_interval_notifier_insert(&v.sub, &owner.mm, 0x2000, 0x1000, &ival_ops), 0);
	range = owner_range(&owner, true);
	CHECK_EQ(mmu_notifier_invalidate_range_start(&range), 0);
	REQUIRE(act(&reader, do_read_begin, &v.sub, &seq));
	thread_sleep_ns(2000000);
	CHECK(!is_done(&reader));
	thread_signal_send(&reader.thread);
	thread_join(&reader.thread);
	CHECK_EQ(reader.result, -EINTR);
	REQUIRE(act(&reader, do_read_begin, &v.sub, &seq));
	while (!READ_ONCE(owner.mm.subscriptions->wait.waiters))
		thread_yield();
	REQUIRE(act(&leaver, do_remove, &v.sub, NULL));
	thread_sleep_ns(2000000);
	CHECK(!is_done(&leaver));
	report_begin();
	CHECK_EQ(mmu_interval_notifier_remove(&v.sub), -EDEADLK); /* in a section of our own */
	report_end();
	mmu_notifier_invalidate_range_end(&range);
	thread_join(&reader.thread);
	thread_join(&leaver.thread);
	CHECK_EQ(leaver.result, 0);
	CHECK(!itree_contains(&v.sub));
	owner_fini(&owner);
}

/* A section that must not block, refused by an interval: closed at once (rule N6). */
static void refusal(void)
{
	struct mmu_notifier_range range;
	struct ival v = { .refuses = true }, w = { 0 };
	struct owner owner;
	struct listener a;
	u64 seq;

	owner_init(&owner);
	listener_init(&a, 'A', &listener_ops);
	REQUIRE_EQ(mmu_notifier_register(&a.notifier, &owner.mm), 0);
	REQUIRE_EQ(mmu_interval_notifier_insert(&w.sub, &owner.mm, 0x1000, 0x1000, &ival_ops), 0);
	REQUIRE_EQ(mmu_interval_notifier_insert(&v.sub, &owner.mm, 0x2000, 0x1000, &ival_ops), 0);
	range = owner_range(&owner, false);
	CHECK_EQ(mmu_notifier_invalidate_range_start(&range), -EAGAIN);
	CHECK_EQ(v.hits, 1);
	CHECK_EQ(w.hits, 1);
	CHECK_EQ(a.starts, 0);
	CHECK_EQ(owner.mm.subscriptions->active, 0);
	CHECK_EQ(mmu_interval_read_begin(&w.sub, &seq), 0);
	CHECK_EQ(mmu_interval_notifier_remove(&v.sub), 0);
	CHECK_EQ(mmu_interval_notifier_remove(&w.sub), 0);
	CHECK_EQ(mmu_notifier_unregister(&a.notifier, &owner.mm), 0);
	owner_fini(&owner);
}

/*
 * Catalogue 9, upstream as of 6.12.
 *
 *   T1 oom reaper                       T2 driver
 *   start: intervals: active = 1, seq odd
 *   start: the list refuses: -EAGAIN
 *   right: active = 0; mutant: active stays 1
 *                                       read_begin: mutant: waits for ever, through any number of sections
 */
static void hole(const char *mutant_name, bool caught)
{
	struct mmu_notifier_range range;
	struct actor reader;
	struct ival v = { 0 };
	struct owner owner;
	struct listener a;
	u64 seq;

	owner_init(&owner);
	listener_init(&a, 'A', &listener_ops_no_end);
	REQUIRE_EQ(mmu_notifier_register(&a.notifier, &owner.mm), 0);
	REQUIRE_EQ(mmu_interval_notifier_insert(&v.sub, &owner.mm, 0x2000, 0x1000, &ival_ops), 0);
	a.answer = -EAGAIN;
	mutant_set(mutant_name);
	range = owner_range(&owner, false);
	CHECK_EQ(mmu_notifier_invalidate_range_start(&range), -EAGAIN);
	mutant_set(NULL);
	CHECK_EQ(owner.mm.subscriptions->active, caught);
	a.answer = 0;
	for (u32 i = 0; i < 5; i++) {
		CHECK_EQ(mmu_notifier_invalidate_range_start(&range), 0);
		mmu_notifier_invalidate_range_end(&range);
	}
	CHECK_EQ(owner.mm.subscriptions->active, caught);
	REQUIRE(act(&reader, do_read_begin, &v.sub, &seq));
	if (caught) {
		thread_sleep_ns(20000000);
		CHECK(!is_done(&reader)); /* the bounded wait, and the count above, are the oracle */
		thread_signal_send(&reader.thread);
	}
	thread_join(&reader.thread);
	CHECK_EQ(reader.result, caught ? -EINTR : 0);
	if (caught)
		mn_itree_end(owner.mm.subscriptions); /* what nobody did */
	CHECK_EQ(mmu_interval_notifier_remove(&v.sub), 0);
	CHECK_EQ(mmu_notifier_unregister(&a.notifier, &owner.mm), 0);
	owner_fini(&owner);
}

static void refused_by_list(void)
{
	hole(NULL, false);
}

static void mutant_n6_no_interval_unwind(void)
{
	hole("n6-no-interval-unwind", true);
}

static bool is_deferred(struct mmu_interval_notifier *sub, struct owner *owner)
{
	bool deferred;

	spin_lock(&owner->mm.subscriptions->lock);
	deferred = sub->deferred;
	spin_unlock(&owner->mm.subscriptions->lock);
	return deferred;
}

static void do_end(void *arg)
{
	struct actor *a = arg;

	mn_itree_end(a->arg); /* of a section whose thread is main */
	act_done(a);
}

/*
 * Catalogue 7: the timeline above seq_left() in notifier/interval.c. The oracle ages the
 * notifier instead of freeing it: once remove has returned it changes no more.
 */
static void end_meets_remove(const char *mutant_name, bool caught)
{
	struct mmu_interval_notifier aged;
	struct mmu_notifier_range range;
	struct actor end, leaver;
	struct race_gate gate;
	struct ival v = { 0 };
	struct owner owner;

	owner_init(&owner);
	REQUIRE_EQ(mmu_interval_notifier_insert(&v.sub, &owner.mm, 0x2000, 0x1000, &ival_ops), 0);
	range = owner_range(&owner, true);
	CHECK_EQ(mmu_notifier_invalidate_range_start(&range), 0);
	mutant_set(mutant_name);
	REQUIRE(act(&leaver, do_remove, &v.sub, NULL));
	while (!is_deferred(&v.sub, &owner))
		thread_yield();
	race_arm(&gate, "notifier:interval_seq_even", 1);
	REQUIRE(act(&end, do_end, owner.mm.subscriptions, NULL));
	race_wait(&gate);
	wake_up_all(&owner.mm.subscriptions->wait); /* any other wake-up of the queue */
	if (caught) {
		thread_join(&leaver.thread);
		aged = v.sub;
	} else {
		thread_sleep_ns(2000000);
		CHECK(!is_done(&leaver));
	}
	race_release(&gate);
	thread_join(&end.thread);
	if (!caught) {
		thread_join(&leaver.thread);
		aged = v.sub;
	}
	race_disarm(&gate);
	mutant_set(NULL);
	CHECK_EQ(aged.height != v.sub.height || aged.deferred != v.sub.deferred, caught);
	range.flags &= ~MN_IN_ITREE; /* do_end() has been */
	mmu_notifier_invalidate_range_end(&range);
	owner_fini(&owner);
}

static void remove_waits_under_lock(void)
{
	end_meets_remove(NULL, false);
}

static void mutant_i6_wait_unlocked(void)
{
	end_meets_remove("i6-wait-unlocked", true);
}

/*
 * rule I5.
 *
 *   T1 section                          T2 driver
 *   start: meets nobody
 *                                       insert; read_begin
 *                                         right: waits for T1
 *                                         mutant: looks the page up: still there
 *   entry = 0; the page is free; end
 *                                       mutant: read_retry says nothing; uses it
 */
static void insert_in_section(const char *mutant_name, bool caught)
{
	struct ival v = { 0 }, w = { 0 };
	struct mmu_notifier_range range;
	struct actor reader;
	struct owner owner;
	bool entry = true;
	u64 seq = 0;

	owner_init(&owner);
	REQUIRE_EQ(mmu_interval_notifier_insert(&w.sub, &owner.mm, 0x9000, 0x1000, &ival_ops), 0);
	range = owner_range(&owner, true);
	CHECK_EQ(mmu_notifier_invalidate_range_start(&range), 0);
	mutant_set(mutant_name);
	CHECK_EQ(mmu_interval_notifier_insert(&v.sub, &owner.mm, 0x2000, 0x1000, &ival_ops), 0);
	mutant_set(NULL);
	REQUIRE(act(&reader, do_read_begin, &v.sub, &seq));
	thread_sleep_ns(5000000);
	if (caught)
		thread_join(&reader.thread); /* the driver has found the entry: it is true still */
	CHECK_EQ(is_done(&reader), caught);
	entry = false;
	mmu_notifier_invalidate_range_end(&range);
	if (!caught)
		thread_join(&reader.thread);
	CHECK(!mmu_interval_read_retry(&v.sub, seq)); /* so it uses what it found: right, or a free page */
	CHECK(!entry);
	CHECK_EQ(mmu_interval_notifier_remove(&v.sub), 0);
	CHECK_EQ(mmu_interval_notifier_remove(&w.sub), 0);
	owner_fini(&owner);
}

static void inserted_in_section(void)
{
	insert_in_section(NULL, false);
}

static void mutant_i5_insert_not_busy(void)
{
	insert_in_section("i5-insert-not-busy", true);
}

/*
 * The caller must not (docs/notifier.md), and is told so.
 *
 *   reader                     remover
 *   ------                     -------
 *   read_begin: is inserted
 *                              remove, to its end
 *   it belongs to no mm
 */
static void read_begin_meets_remove(void)
{
	struct actor reader;
	struct race_gate gate;
	struct ival v = { 0 };
	struct owner owner;
	u64 seq;

	owner_init(&owner);
	REQUIRE_EQ(mmu_interval_notifier_insert(&v.sub, &owner.mm, 0x1000, 0x1000, &ival_ops), 0);
	report_begin();
	race_arm(&gate, "notifier:read_begin_inserted", 1);
	REQUIRE(act(&reader, do_read_begin, &v.sub, &seq));
	race_wait(&gate);
	CHECK_EQ(mmu_interval_notifier_remove(&v.sub), 0);
	race_release(&gate);
	thread_join(&reader.thread);
	race_disarm(&gate);
	CHECK_CONTAINS(report_end(), "meets the remove");
	CHECK_EQ(reader.result, -EINVAL);
	owner_fini(&owner);
}
#endif

const struct test_case notifier_interval_tests[] = { TEST(tree_against_list),
						     TEST(sequences),
						     TEST(arguments),
#if CHECKING
						     TEST(waits),
						     TEST(refusal),
						     TEST(refused_by_list),
						     TEST(mutant_n6_no_interval_unwind),
						     TEST(remove_waits_under_lock),
						     TEST(mutant_i6_wait_unlocked),
						     TEST(inserted_in_section),
						     TEST(read_begin_meets_remove),
						     TEST(mutant_i5_insert_not_busy),
#endif
						     TEST_END };
