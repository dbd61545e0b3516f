/* SPDX-License-Identifier: MIT */
/*
 * Interval notifiers at random: threads that insert, remove and fault against threads that
 * open sections. Every rule has its witness:
 *
 *   I1  at the end nothing is open, the sequence is even, nothing is deferred, the tree holds what was inserted
 *   I2  a subscription's sequence is odd, in callbacks and after read_begin
 *   I3, I4, I5  under the driver's lock no translation is of a page that was taken away
 *   I6  after remove no callback runs and nobody writes to the memory
 *   I7  the checker, in checking builds
 */
#include <string.h>

#include "lib/time.h"
#include "notifier/interval_tree.h"
#include "tests/notifier_env.h"

#define PAGES 32u
#define DRIVERS 2u
#define HOSTS 2u
#define IVALS 4u /* of each driver */
#define BASE 0x100000ull

struct ival {
	struct mmu_interval_notifier sub;
	struct world *world;
	struct mutex lock; /* guards the rest */
	bool listening;	   /* a callback may run */
	u32 first, nr;	   /* pages */
	u64 translation[PAGES];
};

struct world {
	struct owner owner;
	struct spinlock pte_lock; /* guards the next two */
	u64 pte[PAGES];		  /* the page's number; 0: none */
	u64 pages_made;
	struct ival ival[DRIVERS][IVALS];
	u32 stop;
	/* Both sides have had so many turns, or the time is up: enough. Constant. */
	u32 turns;
	u64 deadline;
	/* Atomic. */
	u32 stale, after_remove, written, even;
	u32 faults, retries, sections, refused;
};

struct player {
	struct thread thread;
	struct world *w;
	u32 id;
};

static DEFINE_LOCK_CLASS(driver_class, "test interval driver");
static DEFINE_LOCK_CLASS(pte_class, "test interval ptes");

static u32 found(struct world *w)
{
	return READ_ONCE(w->stale) + READ_ONCE(w->after_remove) + READ_ONCE(w->written) + READ_ONCE(w->even);
}

/* The host's side of a fault: the page that is there, or a new one. */
static u64 look_up(struct world *w, u32 page)
{
	u64 number;

	spin_lock(&w->pte_lock);
	if (!w->pte[page])
		w->pte[page] = ++w->pages_made;
	number = w->pte[page];
	spin_unlock(&w->pte_lock);
	return number;
}

/* Context: the driver's lock. Is every translation of a page that is still there? */
static void audit_locked(struct ival *v)
{
	struct world *w = v->world;

	spin_lock(&w->pte_lock);
	for (u32 page = v->first; page < v->first + v->nr; page++)
		if (v->translation[page] && v->translation[page] != w->pte[page])
			fetch_add(&w->stale, 1);
	spin_unlock(&w->pte_lock);
}

static bool invalidate(struct mmu_interval_notifier *sub, const struct mmu_notifier_range *range, u64 cur_seq)
{
	struct ival *v = container_of(sub, struct ival, sub);
	struct world *w = v->world;

	if (range->blockable)
		mutex_lock(&v->lock);
	else if (!mutex_trylock(&v->lock))
		return false;
	if (!v->listening)
		fetch_add(&w->after_remove, 1);
	if (!(cur_seq & 1) || cur_seq != READ_ONCE(w->owner.mm.subscriptions->seq))
		fetch_add(&w->even, 1);
	audit_locked(v);
	mmu_interval_set_seq(sub, cur_seq);
	for (u32 page = v->first; page < v->first + v->nr; page++)
		if (BASE + page * PAGE_SIZE >= range->start && BASE + page * PAGE_SIZE < range->end)
			v->translation[page] = 0;
	mutex_unlock(&v->lock);
	return true;
}

static const struct mmu_interval_notifier_ops ops = { .invalidate = invalidate };

/* --- a driver -------------------------------------------------------------------------------- */

static void insert(struct ival *v, struct rng *rng)
{
	int err;

	v->first = (u32)rng_below(rng, PAGES);
	v->nr = 1 + (u32)rng_below(rng, min(PAGES - v->first, 4u));
	mutex_lock(&v->lock);
	v->listening = true;
	mutex_unlock(&v->lock);
	err = mmu_interval_notifier_insert(&v->sub, &v->world->owner.mm, BASE + v->first * PAGE_SIZE, v->nr * PAGE_SIZE,
					   &ops);
	CHECK_EQ(err, 0);
}

/* Remove it. Its memory is ours then: it stays as we find it, also after whoever is at work on the tree is done. */
static void forget(struct ival *v)
{
	struct mmu_notifier_subscriptions *subs = v->world->owner.mm.subscriptions;
	struct mmu_interval_notifier mine;

	mutex_lock(&v->lock);
	memset(v->translation, 0, sizeof(v->translation));
	mutex_unlock(&v->lock);
	CHECK_EQ(mmu_interval_notifier_remove(&v->sub), 0);
	mine = v->sub;
	race_point("test:removed");
	mutex_lock(&v->lock);
	v->listening = false;
	mutex_unlock(&v->lock);
	spin_lock(&subs->lock);
	if (memcmp(&v->sub, &mine, sizeof(mine)) != 0)
		fetch_add(&v->world->written, 1);
	spin_unlock(&subs->lock);
}

static void fault(struct ival *v, struct rng *rng)
{
	u32 page = v->first + (u32)rng_below(rng, v->nr);
	bool interrupt = !rng_below(rng, 64);
	struct world *w = v->world;
	u64 seq, number;
	int err;

	if (interrupt)
		thread_signal_note();
	err = mmu_interval_read_begin(&v->sub, &seq);
	if (interrupt)
		thread_signal_clear();
	CHECK(!err || (err == -EINTR && interrupt));
	if (err)
		return;
	if (!(seq & 1))
		fetch_add(&w->even, 1);
	number = look_up(w, page);
	race_point("test:looked_up");
	mutex_lock(&v->lock);
	if (mmu_interval_read_retry(&v->sub, seq)) {
		fetch_add(&w->retries, 1);
	} else {
		v->translation[page] = number;
		fetch_add(&w->faults, 1);
	}
	audit_locked(v);
	mutex_unlock(&v->lock);
}

static bool enough(struct world *w, u32 turn)
{
	if (found(w))
		return true;
	if (turn % 256 == 255)
		thread_yield();
	if (turn >= w->turns && READ_ONCE(w->sections) >= w->turns)
		return true;
	/* A slow machine does less, but something. */
	return clock_ns() > w->deadline && READ_ONCE(w->sections) && READ_ONCE(w->faults);
}

static void drive(void *arg)
{
	struct player *p = arg;
	bool in[IVALS] = { false };
	struct rng rng;

	rng_seed(&rng, p->id);
	for (u32 turn = 0; !enough(p->w, turn); turn++) {
		u32 i = (u32)rng_below(&rng, IVALS);
		struct ival *v = &p->w->ival[p->id][i];

		if (!in[i]) {
			insert(v, &rng);
			in[i] = true;
		} else if (!rng_below(&rng, 2)) {
			forget(v);
			in[i] = false;
		}
		if (in[i])
			fault(v, &rng);
	}
	for (u32 i = 0; i < IVALS; i++)
		if (!in[i])
			insert(&p->w->ival[p->id][i], &rng); /* all are there when the address space ends */
}

/* --- a host ---------------------------------------------------------------------------------- */

static void one_section(struct world *w, struct rng *rng)
{
	u32 first = (u32)rng_below(rng, PAGES), nr = 1 + (u32)rng_below(rng, min(PAGES - first, 8u));
	struct mmu_notifier_range range = owner_range(&w->owner, rng_below(rng, 8) != 0);

	range.start = BASE + first * PAGE_SIZE;
	range.end = range.start + nr * PAGE_SIZE;
	down_read(&w->owner.lock);
	if (mmu_notifier_invalidate_range_start(&range)) {
		CHECK(!range.blockable);
		fetch_add(&w->refused, 1);
	} else {
		if (!rng_below(rng, 4))
			thread_yield();
		race_point("test:section_open");
		spin_lock(&w->pte_lock);
		memset(&w->pte[first], 0, nr * sizeof(w->pte[0]));
		spin_unlock(&w->pte_lock);
		mmu_notifier_invalidate_range_end(&range);
		fetch_add(&w->sections, 1);
	}
	up_read(&w->owner.lock);
}

static void host(void *arg)
{
	struct player *p = arg;
	struct rng rng;

	rng_seed(&rng, 100 + p->id);
	while (!READ_ONCE(p->w->stop)) {
		one_section(p->w, &rng);
		if (!rng_below(&rng, 8))
			thread_yield(); /* let nothing be open for a moment */
	}
}

/* --- all of them ------------------------------------------------------------------------------- */

static struct world world; /* large */

static void end_of_world(struct world *w)
{
	struct mmu_notifier_subscriptions *subs = w->owner.mm.subscriptions;

	CHECK_EQ(subs->active, 0);
	CHECK_EQ(subs->seq & 1, 0);
	CHECK(!subs->deferred);
	CHECK_EQ(itree_check(subs->itree), DRIVERS * IVALS);
	w->owner.mm.users = 0;
	mmu_notifier_release(&w->owner.mm);
	for (u32 i = 0; i < DRIVERS * IVALS; i++)
		forget(&w->ival[i / IVALS][i % IVALS]);
	CHECK(!subs->itree);
	owner_fini(&w->owner);
}

/* Return: what was found wrong. */
static u32 play(enum notifier_admission admission, u32 turns, u64 ns)
{
	struct player hosts[HOSTS], drivers[DRIVERS];
	struct world *w = &world;

	memset(w, 0, sizeof(*w));
	w->turns = turns;
	w->deadline = clock_ns() + ns;
	owner_init_with(&w->owner, admission);
	spin_lock_init(&w->pte_lock, &pte_class);
	for (u32 i = 0; i < DRIVERS * IVALS; i++) {
		w->ival[i / IVALS][i % IVALS].world = w;
		mutex_init(&w->ival[i / IVALS][i % IVALS].lock, &driver_class);
	}
	for (u32 i = 0; i < HOSTS; i++) {
		hosts[i] = (struct player){ .w = w, .id = i };
		CHECK_EQ(thread_create(&hosts[i].thread, "host", -1, host, &hosts[i]), 0);
	}
	for (u32 i = 0; i < DRIVERS; i++) {
		drivers[i] = (struct player){ .w = w, .id = i };
		CHECK_EQ(thread_create(&drivers[i].thread, "driver", -1, drive, &drivers[i]), 0);
	}
	for (u32 i = 0; i < DRIVERS; i++)
		thread_join(&drivers[i].thread);
	WRITE_ONCE(w->stop, 1);
	for (u32 i = 0; i < HOSTS; i++)
		thread_join(&hosts[i].thread);
	end_of_world(w);
	return found(w);
}

static void clean(enum notifier_admission admission)
{
	u32 bad = play(admission, TEST_SCALE(4000u), 10 * NSEC_PER_SEC);

	CHECK_MSG(!bad, "%u stale, %u calls after remove, %u writes after remove, %u even sequences", world.stale,
		  world.after_remove, world.written, world.even);
	CHECK_GT(world.faults, 0);
	CHECK_GT(world.sections, 0);
}

static void intervals_at_random(void)
{
	clean(NOTIFIER_ADMIT_MM_LOCK);
	clean(NOTIFIER_ADMIT_SECTION);
}

#if CHECKING
static void intervals_with_delays(void)
{
	race_delays(5, 50);
	clean(NOTIFIER_ADMIT_MM_LOCK);
	race_delays(0, 0);
}

/* The window is made wide: with any number of processors a small part of the time is enough. */
static void caught(const char *mutant_name, const char *window, const char *until, u32 *oracle)
{
	mutant_set(mutant_name);
	race_stretch(window, until, 500, NSEC_PER_MSEC);
	play(NOTIFIER_ADMIT_MM_LOCK, UINT32_MAX, 250 * NSEC_PER_SEC);
	race_stretch(NULL, NULL, 0, 0);
	mutant_set(NULL);
	CHECK_MSG(*oracle, "%s: not found by %u sections and %u faults", mutant_name, world.sections, world.faults);
}

static void mutant_i5_insert_not_busy(void)
{
	caught("i5-insert-not-busy", "test:section_open", "test:looked_up", &world.stale);
}

static void mutant_i6_wait_unlocked(void)
{
	if (TSAN) {
		test_skip("a race of data: this build finds it first");
		return;
	}
	caught("i6-wait-unlocked", "notifier:interval_seq_even", "test:removed", &world.written);
}

const struct test_case notifier_stress_tests[] = { TEST(intervals_at_random), TEST(intervals_with_delays),
						   TEST(mutant_i5_insert_not_busy), TEST(mutant_i6_wait_unlocked),
						   TEST_END };
#else
const struct test_case notifier_stress_tests[] = { TEST(intervals_at_random), TEST_END };
#endif
