/* SPDX-License-Identifier: MIT */
/* The benchmarks of the notifier layer: short runs, what they leave in the result, and what they refuse. */
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "lab/bench/notifier.h"
#include "lab/result/result.h"
#include "lab/bench/turns.h"
#include "lib/alloc.h"
#include "lib/thread.h"
#include "lib/time.h"
#include "mm/mm.h"
#include "tests/lab_suites.h"

/* --- figures --------------------------------------------------------------------------- */

static void figure_verdicts(void)
{
	static const struct {
		struct figure figure;
		bool met;
	} rows[] = {
		{ { .at_most = true, .bound = 2, .rounds = 3, .value = { 1, 9, 2 } }, true },
		{ { .at_most = true, .bound = 1.9, .rounds = 3, .value = { 1, 9, 2 } }, false },
		{ { .at_most = true, .bound = 2 }, false }, /* nothing measured reaches nothing */
		{ { .bound = 2, .rounds = 1, .value = { 3 } }, true },
		{ { .peer = "p", .at_most = true, .bound = 0.5, .rounds = 1, .value = { 3 }, .other = { 6 } }, true },
		{ { .peer = "p", .at_most = true, .bound = 0.5, .rounds = 1, .value = { 4 }, .other = { 6 } }, false },
		{ { .rounds = 1, .value = { 4 } }, true },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		CHECK_MSG(figure_met(&rows[i].figure) == rows[i].met, "row %zu: measure %g, bound %g", i,
			  figure_measure(&rows[i].figure), rows[i].figure.bound);
}

static void figure_document(void)
{
	struct figure f = { .name = "f", .unit = "ns", .at_most = true, .bound = 2 };
	json_t *doc = result_new("bench register", NULL, 1), *o;

	CHECK(!json_object_get(doc, "figures"));
	figure_skip(&f, "no %s", "peer");
	result_figure(doc, &f);
	f.skip[0] = 0;
	for (int i = 0; i < FIGURE_ROUNDS_MAX + 3; i++)
		figure_add(&f, 1, 0);
	CHECK_EQ(f.rounds, FIGURE_ROUNDS_MAX);
	result_figure(doc, &f);
	CHECK_EQ(json_array_size(json_object_get(doc, "figures")), 2);
	CHECK_EQ(json_array_size(json_object_get(doc, "skips")), 1);
	o = json_array_get(json_object_get(doc, "figures"), 0);
	CHECK(json_is_null(json_object_get(o, "met")));
	o = json_array_get(json_object_get(doc, "figures"), 1);
	CHECK(json_is_true(json_object_get(o, "met")));
	CHECK_EQ(json_array_size(json_object_get(o, "values")), FIGURE_ROUNDS_MAX);
	json_decref(doc);
}

/* --- register ---------------------------------------------------------------------------- */

static void register_counts(void)
{
	static const struct {
		const char *list;
		int ret;
		u32 nr, first, last;
	} rows[] = {
		{ "10", 0, 1, 10, 10 },
		{ "40000,10,1000", 0, 3, 10, 40000 },
		{ "7,7,7", 0, 1, 7, 7 },
		{ "1,2,3,4,5,6,7,8", 0, 8, 1, 8 },
		{ "1,2,3,4,5,6,7,8,9", -EINVAL, 0, 0, 0 },
		{ "", -EINVAL, 0, 0, 0 },
		{ "10,", -EINVAL, 0, 0, 0 },
		{ ",10", -EINVAL, 0, 0, 0 },
		{ "0", -EINVAL, 0, 0, 0 },
		{ "-1", -EINVAL, 0, 0, 0 },
		{ "ten", -EINVAL, 0, 0, 0 },
		{ "4000001", -EINVAL, 0, 0, 0 },
		{ "99999999999999999999999999999999", -EINVAL, 0, 0, 0 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct bench_register_config c = { .nr_counts = 0 };
		struct err err = { "" };

		CHECK_MSG(bench_register_counts(rows[i].list, &c, &err) == rows[i].ret, "'%s': %s", rows[i].list,
			  err.text);
		CHECK_EQ(err.text[0] != 0, rows[i].ret != 0);
		if (rows[i].ret)
			continue;
		CHECK_EQ(c.nr_counts, rows[i].nr);
		CHECK_EQ(c.counts[0], rows[i].first);
		CHECK_EQ(c.counts[c.nr_counts - 1], rows[i].last);
	}
}

/* Every sample has each of its parts, and no part is longer than the whole. */
static void check_times(const struct signal_times *t, enum signal_way way)
{
	for (int part = 0; part < SIGNAL_PARTS; part++) {
		CHECK_EQ(hist_count(&t->part[part]), hist_count(&t->part[SIGNAL_WHOLE]));
		CHECK(part == SIGNAL_COMPUTED || t->part[part].max <= t->part[SIGNAL_WHOLE].max);
	}
	CHECK_LE(t->slow, hist_count(&t->part[SIGNAL_WHOLE]));
	CHECK_LE(t->slow_before, t->slow);
	CHECK_LE(t->slow_absent, t->slow);
	CHECK(way != SIGNAL_FLAG || !t->slow_before);
}

/* How many came in time is the machine's business; but who registers nothing ends for its signal alone. */
static void check_signals(const struct signal_results *r, u32 tries)
{
	const struct signal_times *judged = r->times[SIGNAL_SAME_CPU];
	u64 rounds = hist_count(&judged[SIGNAL_BARE].part[SIGNAL_WHOLE]);

	CHECK_LE(hist_count(&judged[SIGNAL_SENT].part[SIGNAL_WHOLE]), tries);
	CHECK_GE(rounds, tries);
	CHECK_GE(r->late[SIGNAL_SAME_CPU] + hist_count(&judged[SIGNAL_SENT].part[SIGNAL_WHOLE]), rounds);
	for (int place = 0; place < SIGNAL_PLACES; place++) {
		bool skipped = place == SIGNAL_OTHER_CPU && r->no_other_cpu.text[0];
		u64 turns = r->late[place];

		for (enum signal_way way = 0; way < SIGNAL_WAYS; way++) {
			check_times(&r->times[place][way], way);
			turns += hist_count(&r->times[place][way].part[SIGNAL_WHOLE]);
		}
		CHECK_EQ(!turns, skipped);
		CHECK_EQ(!hist_count(&r->times[place][SIGNAL_BARE].part[SIGNAL_WHOLE]), skipped);
		CHECK_LE(turns, SIGNAL_WAYS * rounds);
	}
}

static void register_short(void)
{
	struct bench_register_config c = { .kinds = { true, true, true }, .rounds = 2, .signals = 3, .seed = 1 };
	struct bench_register_result *r = mem_zalloc(sizeof(*r));
	struct err err = { "" };
	int ret;

	REQUIRE(r);
	REQUIRE_EQ(bench_register_counts("3,800", &c, &err), 0);
	ret = bench_register_run(&c, r, &err);
	CHECK_MSG(!ret, "%s", err.text);
	for (u32 i = 0; i < c.nr_counts; i++)
		for (int kind = 0; kind < REGISTER_KIND_NR; kind++)
			for (int how = 0; how < REGISTER_HOW_NR; how++) {
				const struct figure *f = &r->cases[i][kind][how];

				if (how == REGISTER_KVM && f->skip[0])
					continue;
				CHECK_MSG(f->rounds == 2, "%s: %u rounds", f->name, f->rounds);
				CHECK_MSG(how == REGISTER_KVM || f->value[0] > 0, "%s takes no time", f->name);
			}
	for (int how = 0; how < REGISTER_VARIANTS; how++) {
		check_signals(&r->signals[how], c.signals);
		CHECK_CONTAINS(r->figure[REGISTER_FIGURE_HANDLED + how].name, register_how_table[how].name);
	}
	CHECK_CONTAINS(r->figure[REGISTER_FIGURE_PEER].skip, "40000");
	CHECK_CONTAINS(r->figure[REGISTER_FIGURE_SECTION].skip, "1000000");
	CHECK_CONTAINS(r->figure[REGISTER_FIGURE_SIGNAL].name, "800 VMAs");
	bench_register_destroy(r);
	mem_free(r);
}

static void stop_after_some(u64 done, u64 total, const char *what, void *arg)
{
	if (done >= 3)
		WRITE_ONCE(*(u32 *)arg, 1);
}

static void register_stops(void)
{
	struct bench_register_result *r = mem_zalloc(sizeof(*r));
	u32 stop = 0;
	struct bench_register_config c = {
		.counts = { 5 },
		.nr_counts = 1,
		.kinds = { true },
		.rounds = 9,
		.stop = &stop,
		.progress = stop_after_some,
		.arg = &stop,
	};
	struct err err = { "" };

	REQUIRE(r);
	CHECK_EQ(bench_register_run(&c, r, &err), -EINTR);
	CHECK_LT(r->cases[0][REGISTER_OWN][REGISTER_SECTION].rounds, 9);
	bench_register_destroy(r);
	mem_free(r);
}

#define SIGNALS 10

/* With registration made long, every signal but the late ones ends one, and the mm is as it was. */
static void interrupt(struct signal_results *results)
{
	struct mm_options options = { .mm_lock = "bits", .max_vmas = 70000 };
	struct frame_arena *arena;
	struct mm_struct *mm;
	struct bench_signals s;
	struct err err = { "" };
	struct rng rng;

	REQUIRE(!frame_arena_create(16 << 20, &arena));
	REQUIRE(!mm_create_with(arena, &options, &mm));
	for (u64 i = 0; i < TEST_SCALE(4000); i++)
		CHECK(!mm_mmap(mm, (1ull << 32) + 2 * i * PAGE_SIZE, PAGE_SIZE, TAIN_PROT_READ, TAIN_MAP_FIXED, NULL));
	REQUIRE(!signal_results_init(results));
	rng_seed(&rng, 1);
	s = (struct bench_signals){
		.mm = mm, .bytes = PAGE_SIZE, .tries = SIGNALS, .typical_ns = 20000, .rng = &rng, .results = results
	};
	CHECK_MSG(!bench_signals_run(&s, &err), "%s", err.text);
	CHECK(!thread_signal_pending());
	check_signals(results, SIGNALS);
	mmput(mm);
	frame_arena_destroy(arena);
}

static void register_signals(void)
{
	struct signal_results *results = mem_zalloc(sizeof(*results));
	cpu_set_t allowed;

	REQUIRE(results);
	REQUIRE(!sched_getaffinity(0, sizeof(allowed), &allowed));
	interrupt(results);
	CHECK_EQ(results->no_other_cpu.text[0] != 0, CPU_COUNT(&allowed) == 1);
	signal_results_destroy(results);
	mem_free(results);
}

/* Sender and registrar share what there is, and what another processor would add is left out by name. */
static void register_signals_one_processor(void)
{
	struct signal_results *results = mem_zalloc(sizeof(*results));
	cpu_set_t allowed, one;

	REQUIRE(results);
	REQUIRE(!sched_getaffinity(0, sizeof(allowed), &allowed));
	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	REQUIRE(!sched_setaffinity(0, sizeof(one), &one));
	interrupt(results);
	CHECK(!sched_setaffinity(0, sizeof(allowed), &allowed));
	CHECK_STR(results->no_other_cpu.text, "there is one processor");
	signal_results_destroy(results);
	mem_free(results);
}

static void peer_vmas_refuse(void)
{
	struct peer_vmas vmas = { .start = NULL };
	struct err why = { "" };

	CHECK_EQ(peer_vmas_add(&vmas, REGISTER_UNTOUCHED, 0x7fffffff, &why), -EOPNOTSUPP);
	CHECK_CONTAINS(why.text, "vm.max_map_count");
	CHECK_PTR_EQ(vmas.start, NULL);
	for (int kind = 0; kind < REGISTER_KIND_NR; kind++) {
		CHECK_EQ(peer_vmas_add(&vmas, kind, 11, &why), 0);
		peer_vmas_remove(&vmas);
		CHECK_PTR_EQ(vmas.start, NULL);
	}
}

/* Whatever another thread maps into a hole outlives the VMAs around it. */
static void peer_vmas_holes(void)
{
	struct peer_vmas vmas = { .start = NULL };
	struct err why = { "" };
	char *hole;

	REQUIRE_EQ(peer_vmas_add(&vmas, REGISTER_OWN, 11, &why), 0);
	CHECK_EQ(vmas.holes, 11);
	hole = mmap(vmas.start + 3 * PAGE_SIZE, PAGE_SIZE, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	CHECK_PTR_EQ(hole, vmas.start + 3 * PAGE_SIZE);
	*hole = 7;
	peer_vmas_remove(&vmas);
	CHECK_EQ(*hole, 7);
	CHECK_EQ(munmap(hole, PAGE_SIZE), 0);
}

/* --- turns ------------------------------------------------------------------------------- */

#define FAKE_LOOPS 100
#define FAKE_WITHOUT 2000
#define FAKE_FAST 10000
#define FAKE_SLOW 18000

/* Some turns have the core alone. */
struct fake_turns {
	u32 first, every; /* which: every 0: none */
	u32 asked;	  /* for the additions, twice a turn */
};

static bool fake_alone(const struct fake_turns *f)
{
	u32 turn = f->asked / 2;

	return f->every && turn >= f->first && !((turn - f->first) % f->every);
}

static u64 fake_pace(void *arg)
{
	struct fake_turns *f = arg;
	u64 pace = fake_alone(f) ? 1000 : 1400;

	f->asked++;
	return pace;
}

static u64 fake_without(void *arg, u32 loops)
{
	return FAKE_WITHOUT;
}

static u64 fake_with(void *arg, u32 loops)
{
	return fake_alone(arg) ? FAKE_FAST : FAKE_SLOW;
}

/* Nothing of time but TURNS_MIN turns, unless told otherwise. */
static struct turns_of fake_of(struct fake_turns *f)
{
	return (struct turns_of){
		.with = fake_with, .without = fake_without, .pace = fake_pace, .arg = f, .loops = FAKE_LOOPS
	};
}

/* A value is the fastest turn's, whatever its neighbours; the note says what those were. */
static void turns_and_their_note(void)
{
	struct fake_turns fake = { .first = 3, .every = 4 }, never = { .every = 0 };
	struct turns_of of = fake_of(&fake);
	struct figure f = { .rounds = 0 };
	char numbers[120];
	struct turns t;
	u32 pace = 0;
	double ns;

	REQUIRE_EQ(turns_init(&t, 2), 0);
	CHECK_EQ(turns_round(&t, &of, &pace, &ns), 0);
	CHECK_EQ(t.n, TURNS_MIN);
	CHECK_EQ(pace, 2000);
	CHECK(ns == cycles_to_ns_exact(FAKE_FAST - FAKE_WITHOUT) / FAKE_LOOPS);
	turns_note(&t, pace, 1, &f);
	CHECK_CONTAINS(f.note, "25.0 % of 64 turns ran at full speed");
	CHECK_CONTAINS(f.note, "those took 1.00 times their least (1.00 to 1.00)");

	of.arg = &never;
	CHECK_EQ(turns_round(&t, &of, &pace, &ns), 0);
	CHECK(ns == cycles_to_ns_exact(FAKE_SLOW - FAKE_WITHOUT) / FAKE_LOOPS);
	turns_note(&t, pace, 2, &f);
	snprintf(numbers, sizeof(numbers),
		 "12.5 %% of 128 turns ran at full speed, the middle one of them %.2f ns, of the others %.2f, of all "
		 "%.2f;",
		 cycles_to_ns_exact(FAKE_FAST - FAKE_WITHOUT) / FAKE_LOOPS / 2, ns / 2, ns / 2);
	CHECK_CONTAINS(f.note, numbers);
	CHECK_CONTAINS(f.note, "those took 1.20 times their least (1.00 to 1.40)");
	CHECK_EQ(turns_round(&t, &of, &pace, &ns), -ENOSPC);
	turns_destroy(&t);
}

/* Enough is a number of turns at full speed, counted anew when that turns out to be a higher one. */
static void turns_enough(void)
{
	struct fake_turns fake = { .first = 50, .every = 1 };
	struct turns_of of = fake_of(&fake);
	struct figure f = { .rounds = 0 };
	struct turns t;
	u32 pace = 0;
	double ns;

	REQUIRE_EQ(turns_init(&t, 1), 0);
	of.most_ns = 3600 * NSEC_PER_SEC;
	CHECK_EQ(turns_round(&t, &of, &pace, &ns), 0);
	CHECK_EQ(t.n, 50 + TURNS_FULL);
	turns_destroy(&t);

	/* None is: the room for a round ends it. */
	fake = (struct fake_turns){ .every = 0 };
	REQUIRE_EQ(turns_init(&t, 1), 0);
	CHECK_EQ(turns_round(&t, &of, &pace, &ns), 0);
	CHECK_EQ(t.n, TURNS_MAX);
	turns_note(&t, pace, 1, &f);
	CHECK_CONTAINS(f.note, "0.0 % of 32768 turns ran at full speed, the middle one of them - ns, of the others");
	turns_destroy(&t);
}

static void turns_leave_the_processors(void)
{
	struct turns_of of = { .with = fake_with, .without = fake_without, .loops = FAKE_LOOPS };
	struct fake_turns fake = { .every = 0 };
	cpu_set_t before, after, one;
	u32 pace = 0, stop = 1;
	struct turns t;
	double ns;

	of.arg = &fake;
	of.stop = &stop;
	REQUIRE_EQ(sched_getaffinity(0, sizeof(before), &before), 0);
	REQUIRE_EQ(turns_init(&t, FIGURE_ROUNDS_MAX + 1), 0);
	CHECK_EQ(turns_round(&t, &of, &pace, &ns), -EINTR);
	CHECK_EQ(t.n, 1);
	CHECK(pace > 0);
	REQUIRE_EQ(sched_getaffinity(0, sizeof(after), &after), 0);
	CHECK(CPU_EQUAL(&before, &after));

	/* Who may use one processor stays there. */
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &before)) {
			CPU_ZERO(&one);
			CPU_SET(cpu, &one);
		}
	stop = 0;
	REQUIRE_EQ(sched_setaffinity(0, sizeof(one), &one), 0);
	CHECK_EQ(turns_round(&t, &of, &pace, &ns), 0);
	CHECK_EQ(sched_getaffinity(0, sizeof(after), &after), 0);
	CHECK(CPU_EQUAL(&one, &after));
	CHECK_EQ(sched_setaffinity(0, sizeof(before), &before), 0);
	turns_destroy(&t);
}

/* --- invalidate ---------------------------------------------------------------------------- */

static void invalidate_short(void)
{
	struct bench_invalidate_config c = { .bytes = 17 * PAGE_SIZE, .rounds = 1 };
	struct bench_invalidate_result *r = mem_zalloc(sizeof(*r));
	struct err err = { "" };
	int ret;

	REQUIRE(r);
	ret = bench_invalidate_run(&c, r, &err);
	CHECK_MSG(!ret, "%s", err.text);
	CHECK_EQ(r->pages[0], 1);
	CHECK_EQ(r->pages[1], 16);
	CHECK_EQ(r->pages[2], 17);
	CHECK_EQ(r->pages[3], 0);
	for (int a = 0; a < INVALIDATE_ADMISSIONS; a++) {
		for (int what = 0; what < INVALIDATE_WHAT_NR; what++)
			for (u32 size = 0; size < 3; size++) {
				const struct figure *f = &r->cases[a][what][size];
				bool once = what == INVALIDATE_NOBODY || what == INVALIDATE_HOLE;

				CHECK_MSG(f->rounds == (once && size ? 0 : 1), "%s: %u rounds", f->name, f->rounds);
				/* Those two are differences of measurements, which may be 0. */
				CHECK_MSG(!f->rounds || what == INVALIDATE_NOBODY || what == INVALIDATE_SUBSCRIBERS ||
						  f->value[0] > 0,
					  "%s takes no time", f->name);
			}
		for (int i = 0; i < INVALIDATE_FIGURE_NR; i++)
			CHECK_MSG(r->figure[a][i].rounds == 1 && r->figure[a][i].bound > 0, "%s", r->figure[a][i].name);
		for (int i = INVALIDATE_FIGURE_NOBODY; i < INVALIDATE_FIGURE_LINEAR; i++)
			CHECK_CONTAINS(r->figure[a][i].note, " turns ran at full speed");
	}
	mem_free(r);
}

static void invalidate_refuses(void)
{
	static const u64 bytes[] = { 0, 1, PAGE_SIZE + 1, INVALIDATE_BYTES_MAX + PAGE_SIZE };
	struct bench_invalidate_result *r = mem_zalloc(sizeof(*r));

	REQUIRE(r);
	for (size_t i = 0; i < ARRAY_SIZE(bytes); i++) {
		struct bench_invalidate_config c = { .bytes = bytes[i], .rounds = 1 };
		struct err err = { "" };

		CHECK_EQ(bench_invalidate_run(&c, r, &err), -EINVAL);
		CHECK_CONTAINS(err.text, "must be pages");
	}
	mem_free(r);
}

const struct test_case lab_bench_notifier_tests[] = {
	TEST(figure_verdicts),
	TEST(figure_document),
	TEST(register_counts),
	TEST(register_short),
	TEST(register_stops),
	TEST(register_signals),
	TEST(register_signals_one_processor),
	TEST(peer_vmas_refuse),
	TEST(peer_vmas_holes),
	TEST(turns_and_their_note),
	TEST(turns_enough),
	TEST(turns_leave_the_processors),
	TEST(invalidate_short),
	TEST(invalidate_refuses),
	TEST_END,
};
