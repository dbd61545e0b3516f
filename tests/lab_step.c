/* SPDX-License-Identifier: MIT */
/*
 * The oracle is sound: a guest that follows its half of the protocol reports
 * nothing, whatever step runs and wherever its own steps fall between the host's.
 * And it bites: a guest with a stale translation is found.
 *
 * The guest's steps (tests/lab_sim.h) are taken at points chosen by the test, all combinations for one
 * step of the host, random ones for two in a row.
 */
#include <string.h>

#include "lib/rng.h"
#include "lib/thread.h"
#include "tests/lab_sim.h"

/* One thread takes the steps of guest and host: to TSan, which is slow, one order of theirs is as good as another. */
#define STRIDE (TSAN ? 3 : 1)
/* Of four steps of the guest's the last two: the release build tries every place. */
static u64 last_stride(u64 points)
{
	return CHECKING ? 1 + points / 16 : STRIDE;
}

static bool every_read(struct sim *s, const struct plan_step *step, bool stamped)
{
	u64 points;

	sim_prepare(s, stamped);
	points = sim_count_points(s, step, 1) + 1;
	s->kind = GUEST_READS;
	for (s->stamp = 0; s->stamp < GUEST_STAMPS; s->stamp += TSAN ? 7 : 3)
		for (s->at[0] = 0; s->at[0] <= points; s->at[0] += STRIDE)
			for (s->at[1] = s->at[0]; s->at[1] <= points; s->at[1] += STRIDE)
				for (s->at[2] = s->at[1]; s->at[2] <= points; s->at[2] += last_stride(points)) {
					sim_prepare(s, stamped);
					if (!sim_run(s, step, 1))
						return sim_report(s, step);
				}
	return true;
}

static bool every_write(struct sim *s, const struct plan_step *step, bool stamped)
{
	u64 points;

	sim_prepare(s, stamped);
	points = sim_count_points(s, step, 1) + 1;
	s->kind = GUEST_WRITES;
	for (s->at[0] = 0; s->at[0] <= points; s->at[0] += STRIDE)
		for (s->at[1] = s->at[0]; s->at[1] <= points; s->at[1] += STRIDE)
			for (s->at[2] = s->at[1]; s->at[2] <= points; s->at[2] += last_stride(points))
				for (s->at[3] = s->at[2]; s->at[3] <= points; s->at[3] += last_stride(points)) {
					sim_prepare(s, stamped);
					if (!sim_run(s, step, 1))
						return sim_report(s, step);
				}
	return true;
}

/* One backing of them; each has a thread and a host of its own, so that all processors help. */
struct part {
	struct thread thread;
	enum host_backing backing;
	bool (*every)(struct sim *s, const struct plan_step *step, bool stamped);
	struct sim sim;
};

static void every_step(void *arg)
{
	struct part *p = arg;
	struct plan_step steps[MAX_STEPS];
	int n = sim_all_steps(steps, p->backing);

	if (!sim_init(&p->sim, p->backing))
		return;
	for (int i = 0; i < n && !test_failures(); i++) {
		p->every(&p->sim, &steps[i], true);
		p->every(&p->sim, &steps[i], false);
	}
	oracle_destroy(&p->sim.oracle);
}

static void every_interleaving(bool (*every)(struct sim *s, const struct plan_step *step, bool stamped))
{
	static struct part part[HOST_BACKING_NR];

	for (int i = 0; i < HOST_BACKING_NR; i++) {
		part[i] = (struct part){ .backing = i, .every = every };
		REQUIRE_EQ(thread_create(&part[i].thread, "every step", -1, every_step, &part[i]), 0);
	}
	for (int i = 0; i < HOST_BACKING_NR; i++)
		thread_join(&part[i].thread);
}

static void reads_are_never_blamed(void)
{
	every_interleaving(every_read);
}

static void writes_are_never_blamed(void)
{
	every_interleaving(every_write);
}

static void two_steps_in_a_row(void)
{
	struct plan_step steps[MAX_STEPS], pair[2];
	static struct sim s;
	struct rng rng;

	rng_seed(&rng, 11);
	for (int backing = 0; backing < HOST_BACKING_NR; backing++) {
		int n = sim_all_steps(steps, backing);

		if (!sim_init(&s, backing))
			return;
		for (int i = 0; i < TEST_SCALE(100000) && !test_failures(); i++) {
			pair[0] = steps[rng_below(&rng, n)];
			pair[1] = steps[rng_below(&rng, n)];
			s.kind = rng_below(&rng, 2) ? GUEST_READS : GUEST_WRITES;
			s.stamp = rng_below(&rng, GUEST_STAMPS);
			s.at[0] = rng_below(&rng, 70);
			for (int j = 1; j < GUEST_STEPS; j++)
				s.at[j] = s.at[j - 1] + rng_below(&rng, 30);
			if (!sim_run(&s, pair, 2))
				sim_report(&s, &pair[1]);
		}
		oracle_destroy(&s.oracle);
	}
}

/* Generations wrap: 2^24 of them, and the 31 bits of `required`. */
static void generations_wrap(void)
{
	static const u32 starts[] = { 0xfffffc, 0x7ffffffc, 0xfffffffc };
	struct plan_step step = { .op = PLAN_REMAP, .first = PAGE, .pages = 2, .restamp = true };
	static struct sim s;

	for (size_t i = 0; i < ARRAY_SIZE(starts); i++) {
		if (!sim_init(&s, HOST_ANONYMOUS))
			return;
		s.oracle.generation[PAGE] = starts[i];
		s.oracle.generation[PAGE + 1] = starts[i];
		sim_prepare(&s, true);
		for (int j = 0; j < 8; j++) {
			every_read(&s, &step, true);
			every_read(&s, &step, false);
		}
		oracle_destroy(&s.oracle);
	}
}

/* --- it bites ---------------------------------------------------------------------- */

/*
 * A stale translation reaches the page that stood there before the step. @when: the
 * guest acts at that point of the host.
 */
struct stale {
	struct sim sim;
	u64 old[PAGE_SIZE / sizeof(u64)]; /* a page that was freed keeps its contents here */
	bool write;
	u64 when;
	bool acted;
	enum guest_violation_kind found;
};

static u64 *stale_page(struct stale *t)
{
	struct host *host = &t->sim.fake.host;

	if (host->limbo == LIMBO_MEM)
		return t->sim.fake.data[PAGE];
	if (host->limbo != LIMBO_NONE)
		return t->sim.fake.limbo[PAGE];
	return t->sim.fake.access[PAGE] == FAKE_READ ? t->sim.fake.data[PAGE] : t->old;
}

static void stale_guest_acts(struct fake_host *fake)
{
	struct stale *t = container_of(container_of(fake, struct sim, fake), struct stale, sim);
	u64 *page = stale_page(t);
	u32 required;

	if (t->acted || fake->points < t->when)
		return;
	t->acted = true;
	if (t->write) {
		page[GUEST_WSLOT_OFFSET / sizeof(u64)] = 0xbad;
		return;
	}
	required = t->sim.rule[PAGE].required;
	t->found = oracle_judge(PAGE, required, page[0], t->sim.rule[PAGE].announced);
}

/* At how many of the points of @step, or after it, the stale guest is found. */
static u64 stale_finds(struct stale *t, enum host_backing backing, const struct plan_step *step, bool write)
{
	u64 points, found = 0;

	if (!sim_init(&t->sim, backing))
		return 0;
	points = sim_count_points(&t->sim, step, 1);
	oracle_destroy(&t->sim.oracle);
	for (u64 when = 1; when <= points + 1; when++) {
		if (!sim_init(&t->sim, backing))
			return 0;
		memcpy(t->old, t->sim.fake.data[PAGE], PAGE_SIZE);
		t->sim.fake.hook = stale_guest_acts;
		t->sim.fake.points = 0;
		t->when = when;
		t->write = write;
		t->acted = false;
		t->found = GUEST_VIOLATION_NONE;
		CHECK_EQ(step_run(&t->sim.oracle, step), 0);
		t->sim.fake.points = MAX_POINTS;
		stale_guest_acts(&t->sim.fake);
		found += t->found == GUEST_VIOLATION_STALE || t->sim.oracle.log.total;
		if (t->sim.oracle.log.total)
			CHECK_EQ(t->sim.oracle.log.record[0].kind, VIOLATION_STALE_WRITE);
		oracle_destroy(&t->sim.oracle);
	}
	return found;
}

static void stale_reads_are_found(void)
{
	static const struct {
		enum host_backing backing;
		struct plan_step step;
	} cases[] = {
		{ HOST_ANONYMOUS, { .op = PLAN_MUNMAP, .first = PAGE, .pages = 1, .restamp = true } },
		{ HOST_ANONYMOUS, { .op = PLAN_MUNMAP, .first = PAGE, .pages = 1 } },
		{ HOST_ANONYMOUS, { .op = PLAN_REMAP, .first = PAGE, .pages = 1, .restamp = true } },
		{ HOST_ANONYMOUS, { .op = PLAN_REMAP, .first = PAGE, .pages = 1 } },
		{ HOST_ANONYMOUS, { .op = PLAN_DONTNEED, .first = PAGE, .pages = 1, .restamp = true } },
		{ HOST_ANONYMOUS, { .op = PLAN_MREMAP, .first = PAGE, .pages = 1, .restamp = true, .fresh = true } },
		{ HOST_ANONYMOUS, { .op = PLAN_MREMAP, .first = PAGE, .pages = 1 } },
		{ HOST_MEMFD, { .op = PLAN_MUNMAP, .first = PAGE, .pages = 1, .restamp = true } },
		{ HOST_MEMFD, { .op = PLAN_REMAP, .first = PAGE, .pages = 1 } },
		{ HOST_MEMFD, { .op = PLAN_MREMAP, .first = PAGE, .pages = 1 } },
		{ HOST_ANONYMOUS, { .op = PLAN_DONTUNMAP, .first = PAGE, .pages = 1 } },
		{ HOST_ANONYMOUS, { .op = PLAN_MREMAP_ONTO, .first = PAGE, .pages = 1, .restamp = true } },
		{ HOST_ANONYMOUS, { .op = PLAN_GUARD, .first = PAGE, .pages = 1 } },
		{ HOST_ANONYMOUS, { .op = PLAN_MERGE, .first = PAGE, .pages = 1 } },
		{ HOST_MEMFD_PRIVATE, { .op = PLAN_MERGE, .first = PAGE, .pages = 1, .restamp = true } },
		{ HOST_MEMFD, { .op = PLAN_REMOVE, .first = PAGE, .pages = 1 } },
		{ HOST_MEMFD, { .op = PLAN_PUNCH, .first = PAGE, .pages = 1, .restamp = true } },
		{ HOST_MEMFD, { .op = PLAN_TRUNCATE, .first = PAGE, .pages = 1 } },
		{ HOST_MEMFD_PRIVATE, { .op = PLAN_TRUNCATE, .first = PAGE, .pages = 1, .restamp = true } },
		/* contents are kept, in the same frame, and nobody may read them for a moment */
		{ HOST_MEMFD, { .op = PLAN_GUARD, .first = PAGE, .pages = 1 } },
		{ HOST_MEMFD, { .op = PLAN_MPROTECT, .first = PAGE, .pages = 1, .deny = true } },
		{ HOST_ANONYMOUS, { .op = PLAN_MPROTECT, .first = PAGE, .pages = 1, .deny = true } },
		/* contents are kept, in another frame */
		{ HOST_ANONYMOUS, { .op = PLAN_PAGEOUT, .first = PAGE, .pages = 1, .restamp = true } },
		{ HOST_ANONYMOUS, { .op = PLAN_COMPACT, .first = PAGE, .pages = 1, .restamp = true } },
		{ HOST_MEMFD, { .op = PLAN_COLLAPSE, .first = PAGE, .pages = 1, .restamp = true } },
		{ HOST_MEMFD, { .op = PLAN_SPLIT, .first = PAGE, .pages = 1, .restamp = true } },
		{ HOST_MEMFD, { .op = PLAN_COLD, .first = PAGE, .pages = 1, .restamp = true } },
		{ HOST_MEMFD, { .op = PLAN_DONTNEED, .first = PAGE, .pages = 1, .restamp = true } },
		{ HOST_MEMFD_PRIVATE, { .op = PLAN_POPULATE, .first = PAGE, .pages = 1, .restamp = true } },
	};
	static struct stale t;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		CHECK_MSG(stale_finds(&t, cases[i].backing, &cases[i].step, false) > 0, "%s on %s: never found",
			  plan_op_name(cases[i].step.op), host_backing_table[cases[i].backing].name);
}

static void stale_writes_are_found(void)
{
	static const struct {
		enum host_backing backing;
		struct plan_step step;
	} cases[] = {
		{ HOST_ANONYMOUS, { .op = PLAN_MPROTECT, .first = PAGE, .pages = 1 } },
		{ HOST_ANONYMOUS, { .op = PLAN_MREMAP, .first = PAGE, .pages = 1, .fresh = true } },
		{ HOST_ANONYMOUS, { .op = PLAN_MREMAP, .first = PAGE, .pages = 1 } },
		{ HOST_MEMFD, { .op = PLAN_MUNMAP, .first = PAGE, .pages = 1, .restamp = true } },
		{ HOST_MEMFD, { .op = PLAN_REMAP, .first = PAGE, .pages = 1, .restamp = true } },
		{ HOST_MEMFD, { .op = PLAN_MPROTECT, .first = PAGE, .pages = 1 } },
		{ HOST_MEMFD, { .op = PLAN_GUARD, .first = PAGE, .pages = 1 } },
		{ HOST_ANONYMOUS, { .op = PLAN_DONTUNMAP, .first = PAGE, .pages = 1 } },
		{ HOST_MEMFD, { .op = PLAN_MREMAP_ONTO, .first = PAGE, .pages = 1, .restamp = true } },
		{ HOST_ANONYMOUS, { .op = PLAN_MERGE, .first = PAGE, .pages = 1, .restamp = true } },
		{ HOST_MEMFD_PRIVATE, { .op = PLAN_MERGE, .first = PAGE, .pages = 1 } },
	};
	static struct stale t;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		CHECK_MSG(stale_finds(&t, cases[i].backing, &cases[i].step, true) > 0, "%s on %s: never found",
			  plan_op_name(cases[i].step.op), host_backing_table[cases[i].backing].name);
}

/* Two pages are one frame still, and may be written: a guest's word is in both. */
static void unparted_guest_acts(struct fake_host *fake)
{
	if (fake->host.op_len && fake->access[PAGE] == FAKE_WRITE)
		fake->data[PAGE][GUEST_WSLOT_OFFSET / sizeof(u64)] =
			fake->data[PAGE + 1][GUEST_WSLOT_OFFSET / sizeof(u64)] = 0x101;
}

static void merged_pages_that_are_not_parted_are_found(void)
{
	static const enum host_backing backings[] = { HOST_ANONYMOUS, HOST_MEMFD_PRIVATE };
	struct plan_step step = { .op = PLAN_MERGE, .first = PAGE, .pages = 2, .restamp = true };
	static struct sim s;

	for (size_t i = 0; i < ARRAY_SIZE(backings); i++) {
		if (!sim_init(&s, backings[i]))
			return;
		s.fake.hook = unparted_guest_acts;
		CHECK_EQ(step_run(&s.oracle, &step), 0);
		CHECK_GT(s.oracle.log.total, 0);
		if (s.oracle.log.total) {
			CHECK_EQ(s.oracle.log.record[0].kind, VIOLATION_STALE_WRITE);
			CHECK_EQ(s.oracle.log.record[0].page, PAGE + 1);
			CHECK_EQ(s.oracle.log.record[0].seen, 0x101);
			CHECK_CONTAINS(s.oracle.log.record[0].text, "one write is in two pages");
		}
		oracle_destroy(&s.oracle);
	}
}

const struct test_case lab_step_tests[] = {
	TEST(reads_are_never_blamed),
	TEST(writes_are_never_blamed),
	TEST(two_steps_in_a_row),
	TEST(generations_wrap),
	TEST(stale_reads_are_found),
	TEST(stale_writes_are_found),
	TEST(merged_pages_that_are_not_parted_are_found),
	TEST_END,
};
