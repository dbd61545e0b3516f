/* SPDX-License-Identifier: MIT */
/* Comparing: verdicts on data whose truth is known, documents that are none. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lab/result/blocks.h"
#include "lab/result/compare.h"
#include "lab/result/result.h"
#include "lib/alloc.h"
#include "lib/rng.h"
#include "lib/time.h"
#include "tests/lab_suites.h"

static const struct compare_config config = { .confidence = COMPARE_CONFIDENCE,
					      .effect = COMPARE_EFFECT,
					      .controls = COMPARE_CONTROLS };

/* --- verdicts on data whose truth is known -------------------------------------------------------- */

#define MEASURES 20

/* About 1, by a factor of at most 1 + @spread; seldom three times as much. */
static double noise(struct rng *rng, double spread)
{
	double u = (double)(rng_next(rng) >> 11) / (double)BIT(53);
	double v = 1 + spread * (2 * u - 1);

	return rng_below(rng, 40) ? v : 3 * v;
}

/* @units of each side; every unit meets a phase of its own that all measures share. B is @factor times A. */
static void make_up(struct compare *c, struct rng *rng, bool paired, u32 units, double factor)
{
	compare_init(c, paired, 0);
	c->measure = mem_zalloc(MEASURES * sizeof(*c->measure));
	c->nr = c->room = MEASURES;
	for (u32 m = 0; m < MEASURES; m++) {
		snprintf(c->measure[m].name, sizeof(c->measure[m].name), "m%u", m);
		c->measure[m].resolution = 1;
	}
	for (u32 i = 0; i < units; i++) {
		double drift = paired ? 1 + 0.05 * i : 1, phase[] = { noise(rng, 0.05), noise(rng, 0.05) };

		for (u32 m = 0; m < MEASURES; m++)
			for (int side = 0; side < COMPARE_SIDES; side++)
				c->measure[m].value[side][c->measure[m].nr[side]++] =
					1000 * drift * phase[side] * noise(rng, 0.02) *
					(side == COMPARE_B && m < 2 ? factor : 1);
	}
}

static u32 false_verdicts(bool paired, u32 units, u32 tables, double confidence)
{
	struct compare_config loose = { .confidence = confidence, .effect = 1e-9, .controls = "" };
	struct compare c;
	struct rng rng;
	u32 wrong = 0;

	rng_seed(&rng, units);
	for (u32 i = 0; i < tables; i++) {
		make_up(&c, &rng, paired, units, 1);
		CHECK_EQ(compare_judge(&c, &loose), 0);
		wrong += compare_count(&c, COMPARE_FASTER) + compare_count(&c, COMPARE_SLOWER) > 0;
		compare_destroy(&c);
	}
	return wrong;
}

/* One table in ten may be wrong at 0.9, with twenty measures each; with the least effect counting as one. */
static void false_verdicts_are_as_rare_as_promised(void)
{
	u32 paired = false_verdicts(true, 8, TEST_SCALE(200), 0.9);
	u32 labels = false_verdicts(false, 5, TEST_SCALE(200), 0.9);

	CHECK_MSG(paired <= TEST_SCALE(200) * 15 / 100 + 2, "pairs: %u of %u", paired, TEST_SCALE(200));
	CHECK_MSG(labels <= TEST_SCALE(200) * 15 / 100 + 2, "labels: %u of %u", labels, TEST_SCALE(200));
}

static void check_verdicts(bool paired, u32 units, double factor, enum compare_verdict expected)
{
	struct compare c;
	struct rng rng;

	rng_seed(&rng, 7);
	make_up(&c, &rng, paired, units, factor);
	c.measure[1].more_is_better = true;
	CHECK_EQ(compare_judge(&c, &config), 0);
	CHECK_MSG(c.measure[0].verdict == expected, "factor %g: %s, %g to %g, p %g %s", factor,
		  compare_verdict_names[c.measure[0].verdict], c.measure[0].low, c.measure[0].high, c.measure[0].p,
		  c.measure[0].why);
	CHECK_MSG(c.measure[1].verdict == (expected == COMPARE_SLOWER ? COMPARE_FASTER : COMPARE_SLOWER),
		  "the rate: %s", compare_verdict_names[c.measure[1].verdict]);
	CHECK_EQ(compare_count(&c, COMPARE_SLOWER), 1);
	CHECK_EQ(compare_count(&c, COMPARE_FASTER), 1);
	compare_destroy(&c);
}

static void what_differs_is_found_among_what_does_not(void)
{
	check_verdicts(true, 24, 1.5, COMPARE_SLOWER);
	check_verdicts(true, 24, 0.6, COMPARE_FASTER);
	check_verdicts(false, 12, 1.5, COMPARE_SLOWER);
	check_verdicts(false, 12, 0.6, COMPARE_FASTER);
	check_verdicts(true, 40, 1.3, COMPARE_SLOWER);
	check_verdicts(false, 40, 0.7, COMPARE_FASTER);
}

/* --- documents -------------------------------------------------------------------------------------- */

static const struct machine_identity id = {
	.engine = "soft", .mmu = "tain EPT", .host_mm = "tain mmap_sem", .cpu = "software"
};

/* @name: @passes that measured about @ns; the i-th pass is @step ns slower than the one before. */
static void add_histogram(json_t *doc, const char *name, u64 ns, u32 passes, u64 step)
{
	struct blocks blocks;
	struct hist all, pass;

	CHECK_EQ(hist_init(&all), 0);
	CHECK_EQ(hist_init(&pass), 0);
	CHECK_EQ(blocks_init(&blocks, passes), 0);
	for (u32 i = 0; i < passes; i++) {
		hist_reset(&pass);
		for (u64 k = 0; k < 101; k++)
			hist_add(&pass, ns + i * step + k % 3);
		hist_merge(&all, &pass);
		blocks_add(&blocks, &pass);
	}
	result_histogram(doc, name, "ns", &all);
	if (passes)
		result_blocks(doc, name, &blocks, 1);
	blocks_destroy(&blocks);
	hist_destroy(&pass);
	hist_destroy(&all);
}

static json_t *document(u64 ns, u32 passes)
{
	json_t *doc = result_new("bench fault", &id, 1);

	result_counts(doc, (u64)passes * NSEC_PER_SEC, 0, 1000);
	result_option_u64(doc, "vcpus", 1);
	add_histogram(doc, "first_touch", ns, passes, 1);
	return doc;
}

static int take(struct compare *c, json_t *a, json_t *b, struct err *err)
{
	compare_init(c, false, COMPARE_PHASE_S);
	return compare_take(c, &a, &b, 1, err);
}

static void check_skip(const struct compare *c, size_t i, const char *what, const char *why)
{
	json_t *skip = json_array_get(c->skips, i);

	REQUIRE(skip);
	CHECK_STR(json_string_value(json_object_get(skip, "what")), what);
	CHECK_CONTAINS(json_string_value(json_object_get(skip, "why")), why);
}

static void two_documents(void)
{
	json_t *a = document(1000, 8), *b = document(1500, 8);
	struct err err = { "" };
	struct compare c;

	add_histogram(a, "host_fault", 2000, 8, 0);
	add_histogram(b, "host_fault", 2040, 8, 0);
	add_histogram(a, "only_a", 5, 8, 0);
	add_histogram(b, "only_b", 5, 8, 0);
	add_histogram(a, "empty", 5, 0, 0);
	add_histogram(b, "empty", 5, 8, 0);
	CHECK_EQ(take(&c, a, b, &err), 0);
	CHECK_EQ(c.nr, 4);
	CHECK_EQ(json_array_size(c.warnings), 0);
	CHECK_EQ(json_array_size(c.skips), 3);
	check_skip(&c, 0, "only_a", "not in every result of B");
	check_skip(&c, 1, "empty", "empty in A");
	check_skip(&c, 2, "only_b", "not in every result of A");
	CHECK_EQ(compare_judge(&c, &config), 0);
	CHECK_STR(c.measure[0].name, "first_touch");
	CHECK_STR(c.measure[0].quantity, "p50");
	CHECK_EQ(c.measure[0].verdict, COMPARE_SLOWER);
	CHECK_EQ(c.measure[2].verdict, COMPARE_CONTROL);
	/* The control moved by 2 %, which counts twice, and A by half a percent. */
	CHECK_MSG(c.measure[0].wobble > 0.04 && c.measure[0].wobble < 0.05, "wobble %g", c.measure[0].wobble);
	compare_destroy(&c);
	json_decref(a);
	json_decref(b);
}

/* The machine was half as fast for all of B: the control shows it, and nothing is said. */
static void what_the_machine_did_is_no_verdict(void)
{
	json_t *a = document(1000, 8), *b = document(1500, 8);
	struct err err = { "" };
	struct compare c;

	add_histogram(a, "host_fault", 2000, 8, 0);
	add_histogram(b, "host_fault", 3000, 8, 0); /* the median is one more */
	CHECK_EQ(take(&c, a, b, &err), 0);
	CHECK_EQ(compare_judge(&c, &config), 0);
	CHECK_EQ(c.measure[0].verdict, COMPARE_NOISY);
	CHECK_STR(c.measure[0].why, "the machine itself moved by 125.7 %");
	compare_destroy(&c);
	json_decref(a);
	json_decref(b);
}

static void alike_too_few_and_too_short(void)
{
	json_t *a = document(100000, 8), *b = document(100001, 8), *few = document(100000, 4);
	struct err err = { "" };
	struct compare c;

	CHECK_EQ(take(&c, a, b, &err), 0);
	CHECK_EQ(compare_judge(&c, &config), 0);
	CHECK_EQ(c.measure[0].verdict, COMPARE_SAME);
	compare_destroy(&c);
	CHECK_EQ(take(&c, a, few, &err), 0);
	CHECK_EQ(compare_judge(&c, &config), 0);
	CHECK_EQ(c.measure[0].nr[COMPARE_B], 4);
	CHECK_EQ(c.measure[0].verdict, COMPARE_SAME);
	compare_destroy(&c);
	/* Eight passes in three seconds: three units. */
	result_counts(b, 3 * NSEC_PER_SEC, 0, 1);
	CHECK_EQ(take(&c, b, few, &err), 0);
	CHECK_EQ(c.measure[0].nr[COMPARE_A], 3);
	CHECK_EQ(compare_judge(&c, &config), 0);
	CHECK_EQ(c.measure[0].verdict, COMPARE_NOISY);
	CHECK_STR(c.measure[0].why, "3 and 4 passes of 1 s; 5 of each are needed");
	compare_destroy(&c);
	json_decref(a);
	json_decref(b);
	json_decref(few);
}

static void warnings_name_what_differs(void)
{
	static const struct machine_identity shadow = { .engine = "kvm", .mmu = "KVM kernel shadow" };
	json_t *a = document(1000, 5), *b = result_new("bench fault", &shadow, 1);
	struct err err = { "" };
	struct compare c;

	add_histogram(b, "first_touch", 1000, 5, 0);
	result_option_u64(b, "vcpus", 2);
	CHECK_EQ(take(&c, a, b, &err), 0);
	CHECK_EQ(json_array_size(c.warnings), 5);
	CHECK_STR(json_string_value(json_array_get(c.warnings, 0)), "engine differs: A \"soft\", B \"kvm\"");
	CHECK_STR(json_string_value(json_array_get(c.warnings, 1)),
		  "mmu differs: A \"tain EPT\", B \"KVM kernel shadow\"");
	CHECK_STR(json_string_value(json_array_get(c.warnings, 4)), "option vcpus differs: A 1, B 2");
	compare_destroy(&c);
	json_object_del(json_object_get(a, "options"), "vcpus");
	CHECK_EQ(take(&c, a, b, &err), 0);
	CHECK_STR(json_string_value(json_array_get(c.warnings, 4)), "option vcpus differs: A nothing, B 2");
	compare_destroy(&c);
	json_object_set_new(b, "elapsed_s", json_real(-1));
	CHECK_EQ(take(&c, a, b, &err), -EINVAL);
	CHECK_STR(err.text, "B: 'elapsed_s' is no time");
	compare_destroy(&c);
	json_decref(a);
	json_decref(b);
}

static void documents_with_nothing_to_compare(void)
{
	json_t *a = document(1000, 5), *none = result_new("stress", &id, 1), *odd = document(1000, 0);
	struct err err = { "" };
	struct compare c;

	CHECK_EQ(take(&c, none, none, &err), -ENOENT);
	CHECK_STR(err.text, "A and B have nothing to compare: no histogram, no figure");
	compare_destroy(&c);
	CHECK_EQ(take(&c, a, none, &err), -ENOENT);
	CHECK_STR(err.text, "A and B have nothing to compare in common: first_touch: not in every result of B");
	compare_destroy(&c);
	CHECK_EQ(take(&c, a, odd, &err), -ENOENT);
	CHECK_STR(err.text, "A and B have nothing to compare in common: first_touch: empty in B");
	compare_destroy(&c);
	json_decref(a);
	json_decref(none);
	json_decref(odd);
}

/* Documents come from files: nothing in them is trusted. */
static void blocks_that_are_none(void)
{
	static const char *const bad[] = { "{}", "{\"p50\": \"x\"}", "{\"p50\": -1, \"p99\": 1}", "7", "null" };
	struct err err = { "" };
	struct compare c;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		json_t *a = document(1000, 5), *block = json_loads(bad[i], JSON_DECODE_ANY, NULL);
		json_t *h = json_object_get(json_object_get(a, "histograms"), "first_touch");

		json_array_set_new(json_object_get(h, "blocks"), 2, block);
		CHECK_EQ(take(&c, a, a, &err), -EINVAL);
		CHECK_STR(err.text, "first_touch: its p50 is no number, or a negative one");
		compare_destroy(&c);
		for (u32 more = 0; more < STATS_UNITS_MAX; more++)
			json_array_append_new(json_object_get(h, "blocks"), json_pack("{si}", "p50", 1));
		json_array_remove(json_object_get(h, "blocks"), 2);
		CHECK_EQ(take(&c, a, a, &err), -EINVAL);
		CHECK_STR(err.text, "first_touch: more than 64 values of p50");
		compare_destroy(&c);
		json_decref(a);
	}
}

/* Passes of 99 samples have a median and no p99; documents of an older tain have their maximum there. */
static void too_few_for_p99(void)
{
	json_t *a = document(1000, 8), *b = document(1500, 8), *h, *block;
	struct err err = { "" };
	struct compare c;
	size_t i;

	for (int old = 0; old < 2; old++) {
		h = json_object_get(json_object_get(b, "histograms"), "first_touch");
		json_array_foreach(json_object_get(h, "blocks"), i, block)
		{
			json_object_set_new(block, "count", json_integer(old ? 99 : 101));
			json_object_set_new(block, "p99", old ? json_integer(1500) : json_null());
		}
		CHECK_EQ(take(&c, a, b, &err), 0);
		CHECK_EQ(c.nr, 1);
		CHECK_STR(c.measure[0].quantity, "p50");
		check_skip(&c, 0, "first_touch p99", "a pass has fewer than 100 samples");
		compare_destroy(&c);
		/* A whole run of few, against itself: its rates can still be compared. */
		json_object_set_new(h, "p99", old ? json_integer(1500) : json_null());
		json_object_set_new(h, "count", json_integer(old ? 99 : 808));
		compare_init(&c, true, 0);
		CHECK_EQ(compare_take(&c, &a, &b, 1, &err), 0);
		CHECK_EQ(c.nr, 2);
		check_skip(&c, 0, "first_touch p99", "a run has fewer than 100 samples");
		compare_destroy(&c);
	}
	json_decref(a);
	json_decref(b);
}

static void figures_by_round(void)
{
	json_t *a = result_new("bench figures", &id, 1), *b = json_deep_copy(a);
	struct err err = { "" };
	struct compare c;

	json_object_set_new(a, "figures",
			    json_pack("[{ss, ss, sb, s[fffff]}, {ss, s[]}, {ss, s[n]}]", "name", "rate", "unit",
				      "faults/s", "at_most", 0, "values", 1e6, 1.1e6, 1.2e6, 1.1e6, 1.0e6, "name",
				      "absent", "values", "name", "missing", "values"));
	json_object_set_new(b, "figures",
			    json_pack("[{ss, ss, sb, s[fffff]}]", "name", "rate", "unit", "faults/s", "at_most", 0,
				      "values", 2e6, 2.1e6, 2.2e6, 2.1e6, 2.0e6));
	result_counts(a, 60 * NSEC_PER_SEC, 0, 0);
	result_counts(b, 60 * NSEC_PER_SEC, 0, 0);
	CHECK_EQ(take(&c, a, b, &err), 0);
	CHECK_EQ(c.nr, 1);
	CHECK_EQ(json_array_size(c.skips), 2);
	CHECK_EQ(compare_judge(&c, &config), 0);
	CHECK_EQ(c.measure[0].verdict, COMPARE_FASTER);
	CHECK(c.measure[0].more_is_better);
	compare_destroy(&c);
	json_object_set_new(json_array_get(json_object_get(b, "figures"), 0), "unit", json_string("us"));
	CHECK_EQ(take(&c, a, b, &err), -ENOENT);
	CHECK_CONTAINS(err.text, "rate: the units differ");
	compare_destroy(&c);
	json_decref(a);
	json_decref(b);
}

/* --- files and commands ---------------------------------------------------------------------------- */

/* A file with @text; unlink() it. Valid until the next. */
static const char *file(const char *text)
{
	static char path[40];
	int fd;

	strcpy(path, "/tmp/tain-test-compare.XXXXXX");
	fd = mkstemp(path);
	CHECK_MSG(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text), "%s", path);
	close(fd);
	return path;
}

static void check_load(const char *text, int expected, const char *says)
{
	const char *path = file(text);
	struct err err = { "" };
	json_t *doc = NULL;

	CHECK_MSG(result_load(path, &doc, &err) == expected, "'%s'", text);
	CHECK_CONTAINS(err.text, says);
	CHECK_CONTAINS(err.text, expected ? path : "");
	CHECK_EQ(doc != NULL, !expected);
	json_decref(doc);
	unlink(path);
}

static void files_that_are_no_results(void)
{
	struct err err = { "" };
	json_t *doc;

	check_load("", -EINVAL, " is not JSON: line 1: ");
	check_load("{\n\"schema\": }", -EINVAL, " is not JSON: line 2: ");
	check_load("[]", -EINVAL, " is no result: it has no schema");
	check_load("{\"schema\": 7}", -EINVAL, " is no result: it has no schema");
	check_load("{\"schema\": \"tain.doctor/1\"}", -EINVAL, " has the schema 'tain.doctor/1', not 'tain.result/1'");
	check_load("{\"schema\": \"tain.result/1\"}", 0, "");
	CHECK_EQ(result_load("/nonexistent", &doc, &err), -ENOENT);
	CHECK_STR(err.text, "cannot read /nonexistent: No such file or directory");
	CHECK_EQ(result_load("/tmp", &doc, &err), -EISDIR);
	CHECK_STR(err.text, "cannot read /tmp: Is a directory");
}

/* @a, @b: shell; "$0" is the file to write. */
static int run(const char *a, const char *b, u32 rounds, u64 timeout_ns, const u32 *stop, struct err *err,
	       json_t **docs[COMPARE_SIDES])
{
	struct compare_run_config c = {
		.command = { a, b }, .rounds = rounds, .seed = 1, .timeout_ns = timeout_ns, .stop = stop
	};

	return compare_run(&c, docs, err);
}

static void check_run(const char *a, u64 timeout_ns, const u32 *stop, int expected, const char *says)
{
	json_t *made[COMPARE_SIDES][2] = { { NULL } };
	json_t **docs[COMPARE_SIDES] = { made[0], made[1] };
	struct err err = { "" };

	CHECK_MSG(run(a, a, 2, timeout_ns, stop, &err, docs) == expected, "%s: %s", a, err.text);
	CHECK_CONTAINS(err.text, says);
	for (int i = 0; i < 4; i++)
		json_decref(made[i / 2][i % 2]);
}

static void commands_in_turn(void)
{
	json_t *doc = document(1000, 1);
	char *text = json_dumps(doc, 0);
	const char *path = file(text);
	json_t *made[COMPARE_SIDES][8] = { { NULL } };
	json_t **docs[COMPARE_SIDES] = { made[0], made[1] };
	struct err err = { "" };
	char command[128];
	struct compare c;

	snprintf(command, sizeof(command), "f() { cp %s \"$2\"; }; f", path);
	CHECK_MSG(!run(command, command, 8, 0, NULL, &err, docs), "%s", err.text);
	compare_init(&c, true, 0);
	CHECK_EQ(compare_take(&c, made[0], made[1], 8, &err), 0);
	CHECK_EQ(c.nr, 3); /* p50, p99, faults/s */
	CHECK_EQ(compare_judge(&c, &config), 0);
	CHECK_EQ(compare_count(&c, COMPARE_SAME), 3);
	compare_destroy(&c);
	for (int i = 0; i < 16; i++)
		json_decref(made[i / 8][i % 8]);
	unlink(path);
	free(text);
	json_decref(doc);
}

static void commands_that_fail(void)
{
	u32 stop = 1;

	check_run("echo too bad >&2; exit 3 #", 0, NULL, -EIO, " ended with status 3: too bad");
	check_run("kill -9 $$ #", 0, NULL, -EIO, " was killed by signal 9");
	check_run("true", 0, NULL, -EINVAL, " wrote no result: does it take --json?");
	check_run("f() { echo x >\"$2\"; }; f", 0, NULL, -EINVAL, " is not JSON");
	check_run("sleep 100 #", 50 * NSEC_PER_MSEC, NULL, -ETIMEDOUT, " has not ended within 0 s");
	check_run("sleep 100 #", 0, &stop, -EINTR, "stopped");
}

const struct test_case lab_compare_tests[] = {
	TEST(false_verdicts_are_as_rare_as_promised),
	TEST(what_differs_is_found_among_what_does_not),
	TEST(two_documents),
	TEST(what_the_machine_did_is_no_verdict),
	TEST(alike_too_few_and_too_short),
	TEST(warnings_name_what_differs),
	TEST(documents_with_nothing_to_compare),
	TEST(blocks_that_are_none),
	TEST(too_few_for_p99),
	TEST(figures_by_round),
	TEST(files_that_are_no_results),
	TEST(commands_in_turn),
	TEST(commands_that_fail),
	TEST_END,
};
