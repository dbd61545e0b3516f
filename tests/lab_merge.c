/* SPDX-License-Identifier: MIT */
/* Merging results: sums are sums, histograms are exact, and the order and the levels make no difference. */
#include "tests/lab_merge.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lab/result/result.h"
#include "lib/rng.h"
#include "tests/lab_suites.h"

#define RUNS 5

void merge_fill(struct hist *hist, u64 nr)
{
	struct rng rng;

	rng_seed(&rng, nr);
	for (u64 i = 0; i < 300 * nr; i++) /* the first has none */
		hist_add_n(hist, rng_next(&rng) >> (rng_below(&rng, 43) + 18), 1 + rng_below(&rng, 3));
}

static void add_hist(json_t *doc, u64 nr)
{
	struct blocks blocks;
	struct hist hist;

	if (hist_init(&hist) || blocks_init(&blocks, 1))
		BUG("no memory");
	merge_fill(&hist, nr);
	blocks_add(&blocks, &hist);
	result_histogram(doc, "h", "ns", &hist);
	if (nr)
		result_blocks(doc, "h", &blocks, nr + 10);
	hist_destroy(&hist);
	blocks_destroy(&blocks);
}

json_t *merge_run(u64 nr)
{
	static const struct machine_identity id = {
		.engine = "soft", .mmu = "tain EPT", .host_mm = "tain mmap_sem", .cpu = "software"
	};
	json_t *doc = result_new("stress", &id, 100 + nr);
	char shard[24];

	snprintf(shard, sizeof(shard), "%llu/%d", (unsigned long long)nr + 1, RUNS);
	result_counts(doc, 1000000 + nr * 1000, 1000 + nr, 10 * nr);
	result_option_text(doc, "ops", "all");
	result_option_text(doc, "shard", shard);
	result_option_u64(doc, "campaign_seed", 77);
	result_host_op(doc, "munmap", nr + 1);
	if (nr % 2)
		result_host_op(doc, "remap", 5);
	result_skip(doc, "compact", nr < 3 ? "not here" : "not there");
	if (nr == 2)
		result_violation(doc, &(struct violation){ .kind = VIOLATION_STALE, .page = 7, .seed = 102 });
	result_status(doc, nr == 2);
	add_hist(doc, nr);
	return doc;
}

int merge_all(struct merge *m, json_t *const *docs, u32 nr, struct err *err)
{
	char file[16];
	int ret = merge_init(m);

	for (u32 i = 0; i < nr && !ret; i++) {
		json_t *copy = json_deep_copy(docs[i]);

		snprintf(file, sizeof(file), "r%u", i);
		ret = merge_add(m, copy, file, err);
		json_decref(copy);
	}
	return ret;
}

json_t *merge_saved(const struct merge *m)
{
	bool complete;
	json_t *doc = merge_document(m, &complete), *again;
	char *text = json_dumps(doc, JSON_REAL_PRECISION(12));

	again = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
	free(text);
	json_decref(doc);
	return again;
}

/* For json_decref(). */
static json_t *merged(json_t *const *docs, u32 nr)
{
	struct err err = { "" };
	struct merge m;
	json_t *doc;
	int ret = merge_all(&m, docs, nr, &err);

	CHECK_MSG(!ret, "%s", err.text);
	doc = merge_saved(&m);
	merge_destroy(&m);
	return doc;
}

static u64 count(json_t *object, const char *key)
{
	return (u64)json_integer_value(json_object_get(object, key));
}

static void counts_add_up(void)
{
	json_t *runs[RUNS], *doc, *ops, *part;

	for (u32 i = 0; i < RUNS; i++)
		runs[i] = merge_run(i);
	doc = merged(runs, RUNS);
	CHECK_STR(json_string_value(json_object_get(doc, "schema")), RESULT_SCHEMA);
	CHECK_STR(json_string_value(json_object_get(doc, "command")), "stress");
	CHECK_STR(json_string_value(json_object_get(doc, "mmu")), "tain EPT");
	CHECK_EQ(count(doc, "seed"), 0);
	CHECK_EQ(count(doc, "checked_accesses"), 5010);
	CHECK_EQ(count(doc, "faults"), 100);
	CHECK(json_real_value(json_object_get(doc, "elapsed_s")) == 0.00501);
	ops = json_object_get(doc, "host_ops");
	CHECK_EQ(count(ops, "munmap"), 15);
	CHECK_EQ(count(ops, "remap"), 10);
	CHECK_STR(json_string_value(json_object_get(json_object_get(doc, "options"), "ops")), "all");
	CHECK(!json_object_get(json_object_get(doc, "options"), "shard"));
	CHECK_EQ(count(json_object_get(doc, "options"), "campaign_seed"), 77);
	part = json_array_get(json_object_get(doc, "parts"), 3);
	CHECK_STR(json_string_value(json_object_get(part, "file")), "r3");
	CHECK_EQ(count(part, "seed"), 103);
	CHECK_EQ(count(part, "checked_accesses"), 1003);
	CHECK_STR(json_string_value(json_object_get(json_object_get(part, "options"), "shard")), "4/5");
	json_decref(doc);
	for (u32 i = 0; i < RUNS; i++)
		json_decref(runs[i]);
}

/* A part whose faults nobody counted makes the sum unknown, not smaller; merging the sum again keeps that. */
static void faults_stay_unknown(void)
{
	json_t *runs[] = { merge_run(0), merge_run(1) }, *once, *third = merge_run(2), *twice;

	result_faults_unknown(runs[1]);
	once = merged(runs, 2);
	CHECK(json_is_null(json_object_get(once, "faults")));
	CHECK(json_is_integer(json_object_get(json_array_get(json_object_get(once, "parts"), 0), "faults")));
	CHECK(json_is_null(json_object_get(json_array_get(json_object_get(once, "parts"), 1), "faults")));
	twice = merged((json_t *[]){ once, third }, 2);
	CHECK(json_is_null(json_object_get(twice, "faults")));
	CHECK_EQ(count(twice, "checked_accesses"), 1000 + 1001 + 1002);
	json_decref(twice);
	json_decref(once);
	json_decref(third);
	json_decref(runs[0]);
	json_decref(runs[1]);
}

static void violations_and_skips_keep_their_part(void)
{
	json_t *runs[RUNS], *doc, *v, *skips;

	for (u32 i = 0; i < RUNS; i++)
		runs[i] = merge_run(i);
	doc = merged(runs, RUNS);
	CHECK_EQ(json_array_size(json_object_get(doc, "violations")), 1);
	v = json_array_get(json_object_get(doc, "violations"), 0);
	CHECK_EQ(count(v, "part"), 2);
	CHECK_EQ(count(v, "page"), 7);
	skips = json_object_get(doc, "skips");
	CHECK_EQ(json_array_size(skips), 2);
	v = json_array_get(skips, 1);
	CHECK_STR(json_string_value(json_object_get(v, "why")), "not there");
	v = json_object_get(v, "parts");
	CHECK_EQ(json_array_size(v), 2);
	CHECK_EQ(json_integer_value(json_array_get(v, 0)), 3);
	CHECK_EQ(json_integer_value(json_array_get(v, 1)), 4);
	json_decref(doc);
	for (u32 i = 0; i < RUNS; i++)
		json_decref(runs[i]);
}

/* As if one run had seen all samples: each bucket, each percentile, both ends. */
static void histograms_merge_exactly(void)
{
	json_t *runs[RUNS], *doc, *whole = merge_run(0), *h;
	struct hist hist;

	REQUIRE(!hist_init(&hist));
	for (u32 i = 0; i < RUNS; i++) {
		runs[i] = merge_run(i);
		merge_fill(&hist, i);
	}
	doc = merged(runs, RUNS);
	result_histogram(whole, "h", "ns", &hist);
	h = json_object_get(json_object_get(doc, "histograms"), "h");
	CHECK_EQ(json_array_size(json_object_get(h, "blocks")), RUNS - 1);
	CHECK_EQ(count(h, "resolution"), RUNS + 9);
	json_object_del(h, "blocks");
	json_object_del(h, "resolution");
	CHECK(json_equal(h, json_object_get(json_object_get(whole, "histograms"), "h")));
	CHECK_EQ(count(h, "count"), hist_count(&hist));
	hist_destroy(&hist);
	json_decref(doc);
	json_decref(whole);
	for (u32 i = 0; i < RUNS; i++)
		json_decref(runs[i]);
}

/* But for the names of files, which are those of the first level. */
static void check_same(json_t *a, json_t *b, const char *what)
{
	json_t *part;
	size_t i;

	for (int side = 0; side < 2; side++) {
		json_array_foreach(json_object_get(side ? a : b, "parts"), i, part)
			json_object_set_new(part, "file", json_null());
		json_object_del(side ? a : b, "warnings"); /* they name files */
	}
	CHECK_MSG(json_equal(a, b), "%s differ", what);
	json_decref(b);
}

static void levels_make_no_difference(void)
{
	json_t *runs[RUNS], *all, *two, *three, *one;

	for (u32 i = 0; i < RUNS; i++)
		runs[i] = merge_run(i);
	all = merged(runs, RUNS);
	two = merged(runs, 2);
	three = merged(runs + 2, 3);
	one = merged(runs + 4, 1);
	check_same(all, merged((json_t *[]){ two, three }, 2), "(01)(234) and 01234");
	check_same(all, merged((json_t *[]){ runs[0], runs[1], three }, 3), "01(234) and 01234");
	check_same(all, merged((json_t *[]){ two, runs[2], runs[3], one }, 4), "(01)23(4) and 01234");
	check_same(all, merged((json_t *[]){ all }, 1), "(01234) and 01234");
	json_decref(all);
	json_decref(two);
	json_decref(three);
	json_decref(one);
	for (u32 i = 0; i < RUNS; i++)
		json_decref(runs[i]);
}

/* More passes than a result holds: neighbours share a block, and tain compare takes it. */
static void many_passes_share_blocks(void)
{
	enum { MANY = 100 };
	json_t *runs[MANY], *doc, *h;

	for (u32 i = 0; i < MANY; i++)
		runs[i] = merge_run(1 + i % 4);
	for (u32 i = 0; i < MANY; i++)
		json_object_set_new(runs[i], "seed", json_integer(i)); /* none twice */
	doc = merged(runs, MANY);
	h = json_object_get(json_object_get(doc, "histograms"), "h");
	CHECK_EQ(json_array_size(json_object_get(h, "blocks")), BLOCKS_SHOWN);
	CHECK_EQ(json_array_size(json_object_get(doc, "parts")), MANY);
	json_decref(doc);
	/* one that does not tell its passes: nobody can say what a unit of all of them is */
	json_object_del(json_object_get(json_object_get(runs[3], "histograms"), "h"), "blocks");
	doc = merged(runs, MANY);
	h = json_object_get(json_object_get(doc, "histograms"), "h");
	CHECK(h && !json_object_get(h, "blocks"));
	json_decref(doc);
	for (u32 i = 0; i < MANY; i++)
		json_decref(runs[i]);
}

/* What one run alone can say stays with it, also through another merge. */
static void other_keys_stay_with_their_part(void)
{
	json_t *run = merge_run(1), *doc, *again, *own;

	json_object_set_new(run, "shares", json_pack("{s{si}}", "cow", "host", 7));
	json_object_set_new(run, "plan", json_string("/tmp/p.json"));
	doc = merged(&run, 1);
	CHECK(!json_object_get(doc, "shares"));
	again = merged(&doc, 1);
	own = json_object_get(json_array_get(json_object_get(again, "parts"), 0), "own");
	CHECK_EQ(json_object_size(own), 2);
	CHECK_STR(json_string_value(json_object_get(own, "plan")), "/tmp/p.json");
	CHECK(json_equal(json_object_get(own, "shares"), json_object_get(run, "shares")));
	json_decref(run);
	json_decref(doc);
	json_decref(again);
}

static void check_outcome(json_int_t a, json_int_t b, const char *kind, enum merge_outcome expected, bool complete)
{
	json_t *runs[2] = { merge_run(0), merge_run(1) }, *doc;
	struct err err = { "" };
	bool is_complete;
	struct merge m;

	json_object_set_new(json_object_get(runs[0], "options"), "shard", json_string("1/2"));
	json_object_set_new(json_object_get(runs[1], "options"), "shard", json_string("2/2"));
	json_object_set_new(runs[0], "status", json_integer(a));
	json_object_set_new(runs[1], "status", b < 0 ? json_null() : json_integer(b));
	if (kind)
		json_array_append_new(json_object_get(runs[1], "violations"), json_pack("{ss}", "kind", kind));
	CHECK_EQ(merge_all(&m, runs, 2, &err), 0);
	doc = merge_document(&m, &is_complete);
	CHECK_MSG(merge_outcome(&m) == expected && is_complete == complete, "%lld and %lld, %s: outcome %d, %scomplete",
		  (long long)a, (long long)b, kind ?: "no violation", merge_outcome(&m), is_complete ? "" : "in");
	json_decref(doc);
	merge_destroy(&m);
	json_decref(runs[0]);
	json_decref(runs[1]);
}

static void the_gravest_outcome_counts(void)
{
	check_outcome(0, 0, NULL, MERGE_PASSED, true);
	check_outcome(0, -1, NULL, MERGE_PASSED, true); /* of a tain that did not say yet */
	check_outcome(0, -1, "stale-read", MERGE_FAILED, true);
	check_outcome(0, -1, "stall", MERGE_STALLED, true);
	check_outcome(0, 1, NULL, MERGE_FAILED, true);
	check_outcome(0, 2, NULL, MERGE_FAILED, true);
	check_outcome(124, 0, NULL, MERGE_STALLED, true);
	check_outcome(124, 1, NULL, MERGE_FAILED, true);
	check_outcome(4, 0, NULL, MERGE_PASSED, false);
	check_outcome(4, 4, NULL, MERGE_NOTHING_RAN, false);
	check_outcome(143, 0, NULL, MERGE_PASSED, false);
	check_outcome(143, 4, "lost-write", MERGE_FAILED, false);
}

const struct test_case lab_merge_tests[] = {
	TEST(counts_add_up),
	TEST(faults_stay_unknown),
	TEST(violations_and_skips_keep_their_part),
	TEST(histograms_merge_exactly),
	TEST(levels_make_no_difference),
	TEST(many_passes_share_blocks),
	TEST(other_keys_stay_with_their_part),
	TEST(the_gravest_outcome_counts),
	TEST_END,
};
