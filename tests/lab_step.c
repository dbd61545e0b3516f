/* SPDX-License-Identifier: MIT */
/*
 * The oracle is sound: a guest that follows its half of the protocol reports
 * nothing, whatever step runs and wherever its own steps fall between the host's.
 * And it bites: a guest with a stale translation is found.
 *
 * The host is fake (tests/lab_fake.c) and everything runs on one thread: the guest's
 * steps are taken at points chosen by the test, all combinations for one step, random
 * ones for two steps in a row.
 */
#include <string.h>

#include "lab/step.h"
#include "lib/rng.h"
#include "tests/lab_suites.h"

#define MAX_POINTS 200
#define GUEST_STEPS 4
#define STRIDE (CHECKING ? 3 : 1) /* the release build tries every one of the four steps' places */
#define PAGE 1			  /* the guest's; steps cover it and the next one */

/* One guest's protocol: read a stamp, or write and read back. */
enum guest_kind { GUEST_READS, GUEST_WRITES };

struct sim {
	struct fake_host fake;
	struct oracle oracle;
	struct guest_page_rule rule[FAKE_PAGES];
	enum guest_kind kind;
	unsigned int stamp;  /* which stamp it reads */
	u64 at[GUEST_STEPS]; /* the host's point at or after which the guest takes step i */
	unsigned int next;   /* the guest's next step */
	u32 required, announced;
	u64 seen;
	u64 written;
	enum guest_violation_kind found;
};

static u64 *slot_of(struct sim *s)
{
	return &s->fake.data[PAGE][GUEST_WSLOT_OFFSET / sizeof(u64)];
}

/* Take one step. Return: false when the access fails now, to be repeated. */
static bool guest_read_step(struct sim *s)
{
	switch (s->next) {
	case 0:
		s->required = s->rule[PAGE].required;
		return true;
	case 1:
		if (s->fake.access[PAGE] == FAKE_NONE)
			return false;
		s->seen = s->fake.data[PAGE][(GUEST_STAMP_OFFSET + s->stamp * GUEST_STAMP_STRIDE) / sizeof(u64)];
		return true;
	default:
		s->announced = s->rule[PAGE].announced;
		s->found = oracle_judge(PAGE, s->required, s->seen, s->announced);
		return true;
	}
}

static bool guest_write_step(struct sim *s)
{
	switch (s->next) {
	case 0:
		s->required = s->rule[PAGE].required;
		return true;
	case 1:
		if (s->fake.access[PAGE] != FAKE_WRITE)
			return false;
		*slot_of(s) = s->written;
		return true;
	case 2:
		if (s->fake.access[PAGE] == FAKE_NONE)
			return false;
		s->seen = *slot_of(s);
		return true;
	default:
		s->announced = s->rule[PAGE].announced;
		if (s->announced == s->required >> 1 && s->seen != s->written)
			s->found = GUEST_VIOLATION_LOST;
		return true;
	}
}

static unsigned int guest_steps(const struct sim *s)
{
	return s->kind == GUEST_READS ? 3 : 4;
}

static void guest_acts(struct fake_host *fake)
{
	struct sim *s = container_of(fake, struct sim, fake);

	while (s->next < guest_steps(s) && s->at[s->next] <= fake->points) {
		if (!(s->kind == GUEST_READS ? guest_read_step(s) : guest_write_step(s)))
			return;
		s->next++;
	}
}

static bool sim_init(struct sim *s, enum host_backing backing)
{
	memset(s, 0, sizeof(*s));
	fake_host_init(&s->fake, backing);
	return CHECK_EQ(oracle_create(&s->oracle, &s->fake.host, s->rule, FAKE_PAGES, 1, 1, FAKE_PAGES, NULL), 0);
}

/* The state of the page before: stamped by a step, or left zero by one. */
static void sim_prepare(struct sim *s, bool stamped)
{
	struct plan_step first = { .op = PLAN_REMAP, .first = PAGE, .pages = 2, .restamp = stamped };

	s->fake.hook = NULL;
	CHECK_EQ(step_run(&s->oracle, &first), 0);
}

/* Run @n steps with the guest's steps at their points. Return: no violation of any kind. */
static bool sim_run(struct sim *s, const struct plan_step *steps, int n)
{
	s->fake.hook = guest_acts;
	s->fake.points = 0;
	s->next = 0;
	s->found = GUEST_VIOLATION_NONE;
	s->written++;
	for (int i = 0; i < n; i++)
		CHECK_EQ(step_run(&s->oracle, &steps[i]), 0);
	s->fake.points = MAX_POINTS;
	guest_acts(&s->fake); /* what is left of the guest comes after it all */
	return s->next == guest_steps(s) && s->found == GUEST_VIOLATION_NONE && !s->oracle.log.total;
}

/* The others of lab/op.h, where there are such: on one backing of each kind. */
static int host_steps(struct plan_step *steps, enum host_backing backing)
{
	int n = 0;

	if (backing != HOST_ANONYMOUS && backing != HOST_MEMFD && backing != HOST_MEMFD_PRIVATE)
		return 0;
	for (int op = PLAN_BASIC_NR; op < PLAN_HOST_NR; op++) {
		enum op_contents contents = op_contents((enum host_op)op, backing);

		for (int bits = 0; bits < 4 && contents != OP_IMPOSSIBLE; bits++) {
			struct plan_step s = { .op = op, .first = PAGE, .pages = 2 };

			s.restamp = bits & 1;
			s.fresh = bits & 2;
			if ((s.fresh && op != PLAN_MERGE) || (s.restamp && contents == OP_KEEPS && !s.fresh))
				continue;
			steps[n++] = s;
		}
	}
	return n;
}

/* Every kind of step. */
static int all_steps(struct plan_step *steps, enum host_backing backing)
{
	int n = host_steps(steps, backing);

	for (int op = 0; op < PLAN_BASIC_NR; op++)
		for (int bits = 0; bits < 8; bits++) {
			struct plan_step s = { .op = op, .first = PAGE, .pages = 2 };

			s.restamp = bits & 1;
			s.fresh = bits & 2;
			s.deny = bits & 4;
			/* leave out what differs in nothing */
			if ((s.deny && op != PLAN_MPROTECT) || (s.fresh && op != PLAN_MREMAP) ||
			    (s.restamp && (op == PLAN_MPROTECT || (op == PLAN_MREMAP && !s.fresh))))
				continue;
			steps[n++] = s;
		}
	return n;
}

static bool sim_report(struct sim *s, const struct plan_step *step)
{
	return CHECK_MSG(false,
			 "%s restamp %d fresh %d deny %d: guest at %llu %llu %llu %llu found %d, host %llu violations",
			 plan_op_name(step->op), step->restamp, step->fresh, step->deny, (unsigned long long)s->at[0],
			 (unsigned long long)s->at[1], (unsigned long long)s->at[2], (unsigned long long)s->at[3],
			 (int)s->found, (unsigned long long)s->oracle.log.total);
}

/* How many points the host passes in @steps. */
static u64 count_points(struct sim *s, const struct plan_step *steps, int n)
{
	s->kind = GUEST_READS;
	s->at[0] = s->at[1] = s->at[2] = MAX_POINTS;
	s->fake.hook = NULL;
	s->fake.points = 0;
	for (int i = 0; i < n; i++)
		CHECK_EQ(step_run(&s->oracle, &steps[i]), 0);
	return s->fake.points;
}

static bool every_read(struct sim *s, const struct plan_step *step, bool stamped)
{
	u64 points;

	sim_prepare(s, stamped);
	points = count_points(s, step, 1) + 1;
	s->kind = GUEST_READS;
	for (s->stamp = 0; s->stamp < GUEST_STAMPS; s->stamp += TSAN ? 7 : 3)
		for (s->at[0] = 0; s->at[0] <= points; s->at[0]++)
			for (s->at[1] = s->at[0]; s->at[1] <= points; s->at[1]++)
				for (s->at[2] = s->at[1]; s->at[2] <= points; s->at[2]++) {
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
	points = count_points(s, step, 1) + 1;
	s->kind = GUEST_WRITES;
	for (s->at[0] = 0; s->at[0] <= points; s->at[0]++)
		for (s->at[1] = s->at[0]; s->at[1] <= points; s->at[1]++)
			for (s->at[2] = s->at[1]; s->at[2] <= points; s->at[2] += STRIDE)
				for (s->at[3] = s->at[2]; s->at[3] <= points; s->at[3] += STRIDE) {
					sim_prepare(s, stamped);
					if (!sim_run(s, step, 1))
						return sim_report(s, step);
				}
	return true;
}

static void every_interleaving(bool (*every)(struct sim *s, const struct plan_step *step, bool stamped))
{
	struct plan_step steps[64];
	static struct sim s;

	for (int backing = 0; backing < HOST_BACKING_NR; backing++) {
		int n = all_steps(steps, backing);

		if (!sim_init(&s, backing))
			return;
		for (int i = 0; i < n && !test_failures(); i++) {
			every(&s, &steps[i], true);
			every(&s, &steps[i], false);
		}
		oracle_destroy(&s.oracle);
	}
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
	struct plan_step steps[64], pair[2];
	static struct sim s;
	struct rng rng;

	rng_seed(&rng, 11);
	for (int backing = 0; backing < HOST_BACKING_NR; backing++) {
		int n = all_steps(steps, backing);

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

/* How many of the points of @step let the stale guest be found. */
static u64 stale_finds(struct stale *t, enum host_backing backing, const struct plan_step *step, bool write)
{
	u64 points, found = 0;

	if (!sim_init(&t->sim, backing))
		return 0;
	points = count_points(&t->sim, step, 1);
	oracle_destroy(&t->sim.oracle);
	for (u64 when = 1; when <= points; when++) {
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
		{ HOST_ANONYMOUS, { .op = PLAN_MERGE, .first = PAGE, .pages = 1, .fresh = true } },
		{ HOST_MEMFD, { .op = PLAN_REMOVE, .first = PAGE, .pages = 1 } },
		{ HOST_MEMFD, { .op = PLAN_PUNCH, .first = PAGE, .pages = 1, .restamp = true } },
		{ HOST_MEMFD, { .op = PLAN_TRUNCATE, .first = PAGE, .pages = 1 } },
		{ HOST_MEMFD_PRIVATE, { .op = PLAN_TRUNCATE, .first = PAGE, .pages = 1, .restamp = true } },
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
		{ HOST_ANONYMOUS, { .op = PLAN_DONTUNMAP, .first = PAGE, .pages = 1 } },
		{ HOST_MEMFD, { .op = PLAN_MREMAP_ONTO, .first = PAGE, .pages = 1, .restamp = true } },
	};
	static struct stale t;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		CHECK_MSG(stale_finds(&t, cases[i].backing, &cases[i].step, true) > 0, "%s on %s: never found",
			  plan_op_name(cases[i].step.op), host_backing_table[cases[i].backing].name);
}

/* --- refusals ------------------------------------------------------------------------ */

static void an_operation_the_host_lacks(void)
{
	struct plan_step step = { .op = PLAN_REMAP, .first = PAGE, .pages = 2, .restamp = true };
	static struct sim s;

	if (!sim_init(&s, HOST_ANONYMOUS))
		return;
	s.fake.fail_op = "unsupported:remap";
	CHECK_EQ(step_run(&s.oracle, &step), -EOPNOTSUPP);
	/* nothing happened, and every stamp is still right */
	CHECK_EQ(oracle_verify(&s.oracle), 0);
	CHECK_EQ(s.oracle.log.total, 0);
	oracle_destroy(&s.oracle);
}

static void an_operation_that_fails(void)
{
	static const char *const ops[] = { "map", "remap", "unmap", "protect", "dontneed", "move_away" };
	struct plan_step steps[64];
	int n = all_steps(steps, HOST_SHMEM), failed; /* the basic ones */
	static struct sim s;

	for (size_t op = 0; op < ARRAY_SIZE(ops); op++) {
		failed = 0;
		for (int i = 0; i < n; i++) {
			if (!sim_init(&s, HOST_ANONYMOUS))
				return;
			s.fake.fail_op = ops[op];
			failed += step_run(&s.oracle, &steps[i]) == -ENOMEM;
			CHECK_EQ(s.oracle.log.total, 0);
			oracle_destroy(&s.oracle);
		}
		CHECK_MSG(failed > 0, "no step passes the error of %s on", ops[op]);
	}
}

/* What the kernel refuses has not happened, and the run goes on: contents and rules agree, whatever was announced. */
static void what_the_kernel_refuses(void)
{
	static const enum host_backing backings[] = { HOST_ANONYMOUS, HOST_MEMFD, HOST_MEMFD_PRIVATE };
	struct plan_step steps[64];
	static struct sim s;

	for (size_t b = 0; b < ARRAY_SIZE(backings); b++) {
		int n = host_steps(steps, backings[b]);

		for (int i = 0; i < n; i++) {
			if (!sim_init(&s, backings[b]))
				return;
			s.fake.fail_op = op_table[steps[i].op].name;
			CHECK_EQ(step_run(&s.oracle, &steps[i]), STEP_REFUSED);
			CHECK_CONTAINS(s.oracle.why.text, "the fake host refuses ");
			CHECK_EQ(oracle_verify(&s.oracle), 0);
			CHECK_EQ(s.oracle.log.total, 0);
			s.fake.fail_op = NULL;
			CHECK_EQ(step_run(&s.oracle, &steps[i]), 0);
			CHECK_EQ(oracle_verify(&s.oracle), 0);
			CHECK_EQ(s.oracle.log.total, 0);
			oracle_destroy(&s.oracle);
		}
	}
}

/* No kernel does it: the reason is in the table. */
static void what_is_impossible(void)
{
	struct plan_step step = { .op = PLAN_PUNCH, .first = PAGE, .pages = 1 };
	static struct sim s;

	if (!sim_init(&s, HOST_ANONYMOUS))
		return;
	CHECK_EQ(step_run(&s.oracle, &step), -EOPNOTSUPP);
	CHECK_STR(s.oracle.why.text, op_table[PLAN_PUNCH].not_why);
	CHECK_EQ(oracle_verify(&s.oracle), 0);
	CHECK_EQ(s.oracle.log.total, 0);
	oracle_destroy(&s.oracle);
}

const struct test_case lab_step_tests[] = {
	TEST(reads_are_never_blamed),
	TEST(writes_are_never_blamed),
	TEST(two_steps_in_a_row),
	TEST(generations_wrap),
	TEST(stale_reads_are_found),
	TEST(stale_writes_are_found),
	TEST(an_operation_the_host_lacks),
	TEST(an_operation_that_fails),
	TEST(what_the_kernel_refuses),
	TEST(what_is_impossible),
	TEST_END,
};
