/* SPDX-License-Identifier: MIT */
/* Merging what does not go together, or is not what it says: one line, and nothing worse. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lab/result/result.h"
#include "lib/alloc.h"
#include "lib/rng.h"
#include "tests/lab_merge.h"
#include "tests/lab_suites.h"

/* A run, and what somebody made of it: the key at @path ("histograms/h/count") becomes @json; NULL: goes. */
static json_t *edited(u64 nr, const char *path, const char *json)
{
	json_t *doc = merge_run(nr), *at = doc, *value;
	char key[64];
	size_t len;

	for (; (len = strcspn(path, "/")), path[len]; path += len + 1) {
		snprintf(key, sizeof(key), "%.*s", (int)len, path);
		at = json_is_array(at) ? json_array_get(at, (size_t)atoi(key)) : json_object_get(at, key);
	}
	value = json ? json_loads(json, JSON_DECODE_ANY, NULL) : NULL;
	if (value)
		json_object_set_new(at, path, value);
	else
		json_object_del(at, path);
	return doc;
}

/* @doc as the second of two; dropped. */
static void check_second(json_t *doc, int expected, const char *says)
{
	json_t *runs[] = { merge_run(1), doc };
	struct err err = { "" };
	struct merge m;
	int ret = merge_all(&m, runs, 2, &err);

	CHECK_MSG(ret == expected, "'%s': %d, '%s'", says, ret, err.text);
	CHECK_STR(err.text, says);
	merge_destroy(&m);
	json_decref(runs[0]);
	json_decref(runs[1]);
}

static void what_does_not_go_together(void)
{
	check_second(merge_run(1), -EEXIST, "r1 holds the same run as r0: give each once");
	check_second(edited(2, "command", "\"bench fault\""), -EINVAL,
		     "r1 is a result of 'bench fault', those before it of 'stress': merge each kind alone");
	check_second(edited(2, "command", "\"matrix\""), -EINVAL,
		     "r1: results of 'matrix' cannot be added up; tain compare sets two side by side");
	check_second(edited(2, "command", NULL), -EINVAL, "r1 is no result: it does not say of which command");
	check_second(edited(2, "mmu", "\"KVM EPT\""), -EINVAL,
		     "r1: its times are of mmu 'KVM EPT', those before it of 'tain EPT': merge those of one mmu");
	check_second(edited(2, "engine", "\"kvm\""), -EINVAL,
		     "r1: its times are of engine 'kvm', those before it of 'soft': merge those of one engine");
	check_second(edited(2, "histograms/h/unit", "\"instructions\""), -EINVAL,
		     "r1: histogram 'h' is in instructions, that of the others in ns: merge those of one unit");
	/* without times, stress on several MMUs is one campaign */
	check_second(edited(0, "mmu", "\"KVM EPT\""), 0, "");
}

static void what_is_not_what_it_says(void)
{
	check_second(edited(2, "faults", "-1"), -EINVAL, "r1: 'faults' is no count");
	check_second(edited(2, "faults", "1.5"), -EINVAL, "r1: 'faults' is no count");
	check_second(edited(2, "faults", NULL), -EINVAL, "r1: 'faults' is missing");
	check_second(edited(2, "elapsed_s", "-0.1"), -EINVAL, "r1: 'elapsed_s' is no time");
	check_second(edited(2, "cpu", "7"), -EINVAL, "r1: 'cpu' is no text");
	check_second(edited(2, "status", "\"0\""), -EINVAL, "r1: 'status' is no exit status");
	check_second(edited(2, "options", "[]"), -EINVAL, "r1: 'options' must be an object");
	check_second(edited(2, "host_ops", "[]"), -EINVAL, "r1: 'host_ops' must be an object");
	check_second(edited(2, "host_ops/munmap", "\"3\""), -EINVAL, "r1: 'munmap' is no count");
	check_second(edited(2, "violations", "{}"), -EINVAL, "r1: 'violations' must be an array");
	check_second(edited(2, "violations/0/kind", NULL), -EINVAL,
		     "r1: violation 0 has no kind, or another file's part");
	check_second(edited(2, "violations/0/part", "1"), -EINVAL,
		     "r1: violation 0 has no kind, or another file's part");
	check_second(edited(2, "skips/0/why", "null"), -EINVAL, "r1: skip 0 has no 'what' or no 'why'");
	check_second(edited(2, "skips/0/parts", "[-1]"), -EINVAL, "r1: skip 0 is of another file's part");
	check_second(edited(2, "parts", "[]"), -EINVAL, "r1: 'parts' must be an array of at least one");
	check_second(edited(2, "parts", "[7]"), -EINVAL, "r1: part 0: 'seed' is missing");
	check_second(edited(2, "checked_accesses", "9223372036854775807"), -EOVERFLOW,
		     "r1: with its checked_accesses the sum does not fit in a result");
}

static void bad_histograms(void)
{
	static const struct {
		const char *path, *json, *says;
	} cases[] = {
		{ "histograms", "[]", "r1: 'histograms' must be an object" },
		{ "histograms/h", "[]", "r1: histogram 'h': 'unit' is missing" },
		{ "histograms/h/count", "1", "r1: histogram 'h': 'count' is 1, its buckets hold 1202" },
		{ "histograms/h/min", "4398046511104",
		  "r1: histogram 'h': 'min' and 'max' are not in the outermost buckets" },
		{ "histograms/h/max", "3", "r1: histogram 'h': 'min' and 'max' are not in the outermost buckets" },
		{ "histograms/h/buckets/2049", "1", "r1: histogram 'h': '2049' is no bucket with a count" },
		{ "histograms/h/buckets/01", "1", "r1: histogram 'h': '01' is no bucket with a count" },
		{ "histograms/h/buckets/x", "1", "r1: histogram 'h': 'x' is no bucket with a count" },
		{ "histograms/h/buckets/99999999999999999999999", "1",
		  "r1: histogram 'h': '99999999999999999999999' is no bucket with a count" },
		{ "histograms/h/buckets/5", "0", "r1: histogram 'h': '5' is no bucket with a count" },
		{ "histograms/h/buckets/5", "9223372036854775807", "r1: histogram 'h': '5' is no bucket with a count" },
		{ "histograms/h/blocks", "[{\"count\": 1, \"p50\": 1}]", "r1: histogram 'h': 'p99' is missing" },
		{ "histograms/h/resolution", "0.5", "r1: histogram 'h': 'resolution' is no count" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		check_second(edited(2, cases[i].path, cases[i].json), -EINVAL, cases[i].says);
}

/* Merged results are believed no more than others. */
static void a_merged_result_that_was_edited(void)
{
	json_t *runs[] = { merge_run(2), merge_run(3) }, *doc, *copy;
	struct err err = { "" };
	struct merge m;

	CHECK_EQ(merge_all(&m, runs, 2, &err), 0);
	doc = merge_saved(&m);
	merge_destroy(&m);
	copy = json_deep_copy(doc);
	json_object_set_new(copy, "faults", json_integer(49));
	check_second(copy, -EINVAL, "r1: its parts have 50 faults, it says 49: merge the parts anew");
	copy = json_deep_copy(doc);
	json_object_del(json_array_get(json_object_get(copy, "parts"), 1), "id");
	check_second(copy, -EINVAL, "r1: a part without an id");
	copy = json_deep_copy(doc);
	json_array_append(json_object_get(copy, "parts"), json_array_get(json_object_get(copy, "parts"), 0));
	check_second(copy, -EEXIST, "r1 holds the same run as r1: give each once");
	check_second(doc, 0, "");
	json_decref(runs[0]);
	json_decref(runs[1]);
}

static void check_warned(json_t *doc, const char *says)
{
	json_t *runs[] = { merge_run(0), doc }, *out, *warnings, *line;
	struct err err = { "" };
	bool is_complete, said = false;
	struct merge m;
	size_t i;

	CHECK_MSG(!merge_all(&m, runs, 2, &err), "%s", err.text);
	out = merge_document(&m, &is_complete);
	warnings = json_object_get(out, "warnings");
	json_array_foreach(warnings, i, line) said |= !strcmp(json_string_value(line), says);
	CHECK_MSG(said, "no warning '%s', the first is '%s'", says, json_string_value(json_array_get(warnings, 0)));
	CHECK(!is_complete);
	json_decref(out);
	merge_destroy(&m);
	json_decref(runs[0]);
	json_decref(runs[1]);
}

/* @doc: after run 0, which is shard 1 of 5. */
static void what_is_warned_of(void)
{
	check_warned(edited(1, "cpu", "\"other\""), "cpu differs: software in r0, other in r1");
	check_warned(edited(1, "host_mm", "null"), "host_mm differs: tain mmap_sem in r0, null in r1");
	check_warned(edited(1, "options/ops", "\"fork\""), "option ops differs: all in r0, fork in r1");
	check_warned(merge_run(3), "3 of 5 shards of seed 77 are missing: 2, 3, 5");
	check_warned(edited(1, "options/shard", "\"1/5\""),
		     "shard 1/5 of seed 77 is there twice, r0 and r1: both count");
	check_warned(edited(1, "options/shard", "\"2/20\""),
		     "19 of 20 shards of seed 77 are missing: 1, 3, 4, 5, 6, 7, 8, 9 ...");
	check_warned(edited(1, "status", "4"), "1 of 2 parts ran nothing, the first of them r1: see what was skipped");
	check_warned(edited(1, "status", "143"),
		     "1 of 2 parts were ended by a signal, the first of them r1: what they found counts");
}

/* Without memory at any point: -ENOMEM, and all is given back. */
static void memory_runs_out(void)
{
#if CHECKING
	json_t *run = merge_run(2);
	int ret = -ENOMEM;

	for (u64 n = 1; ret; n++) {
		struct err err = { "" };
		struct merge m;

		mem_fail_after(n);
		ret = merge_all(&m, &run, 1, &err);
		mem_fail_after(0);
		CHECK_MSG(!ret || ret == -ENOMEM, "allocation %llu: %d, '%s'", (unsigned long long)n, ret, err.text);
		merge_destroy(&m);
		REQUIRE(n < 100);
	}
	json_decref(run);
#else
	test_skip("only a checking build can let allocations fail");
#endif
}

/* --- at random -------------------------------------------------------------------------- */

static json_t *hostile_value(struct rng *rng)
{
	static const char *const values[] = {
		"null",
		"true",
		"-1",
		"0",
		"9223372036854775807",
		"1e308",
		"\"\"",
		"\"ns\"",
		"\"1/2\"",
		"[]",
		"{}",
		"[1, {}]",
		"{\"1\": 1}",
		"\"\\u001b[2J\"",
		"\"65536/65536\"",
	};

	return json_loads(values[rng_below(rng, ARRAY_SIZE(values))], JSON_DECODE_ANY, NULL);
}

/* Somewhere in @at something else, or nothing. */
static void spoil(json_t *at, struct rng *rng)
{
	u64 n = json_is_object(at) ? json_object_size(at) : json_array_size(at), i = n ? rng_below(rng, n) : 0;
	void *iter = json_object_iter(at);
	json_t *child;

	if (!n)
		return;
	for (u64 k = 0; k < i && iter; k++)
		iter = json_object_iter_next(at, iter);
	child = iter ? json_object_iter_value(iter) : json_array_get(at, i);
	if ((json_is_object(child) || json_is_array(child)) && rng_below(rng, 4))
		spoil(child, rng);
	else if (!iter)
		json_array_set_new(at, i, hostile_value(rng));
	else if (rng_below(rng, 3))
		json_object_iter_set_new(at, iter, hostile_value(rng));
	else
		json_object_del(at, json_object_iter_key(iter));
}

/* Whatever is in a file: refused with a line, or merged into what merges again. */
static void spoiled_results(void)
{
	const char *given = getenv("TEST_SEED");
	u64 seed = given ? strtoull(given, NULL, 0) : 20261121, taken = 0;
	json_t *whole, *runs[] = { merge_run(1), merge_run(2), merge_run(3) };
	struct err err = { "" };
	struct merge m;

	CHECK_EQ(merge_all(&m, runs, 3, &err), 0);
	whole = merge_saved(&m);
	merge_destroy(&m);
	for (u64 i = 0; i < TEST_SCALE(800) && !test_failures(); i++) {
		json_t *docs[] = { merge_run(0), json_deep_copy(i % 2 ? whole : runs[1]) }, *again;
		struct rng rng;
		int ret;

		rng_seed(&rng, rng_mix(seed, i));
		for (u64 k = rng_below(&rng, 3) + 1; k; k--)
			spoil(docs[1], &rng);
		err.text[0] = 0;
		ret = merge_all(&m, docs, 2, &err);
		CHECK_MSG(!ret == !err.text[0], "seed %llu, turn %llu: %d, '%s'", (unsigned long long)seed,
			  (unsigned long long)i, ret, err.text);
		if (!ret) {
			taken++;
			again = merge_saved(&m);
			merge_destroy(&m);
			CHECK_MSG(!merge_all(&m, &again, 1, &err), "seed %llu, turn %llu: merged, and then '%s'",
				  (unsigned long long)seed, (unsigned long long)i, err.text);
			json_decref(again);
		}
		merge_destroy(&m);
		json_decref(docs[0]);
		json_decref(docs[1]);
	}
	CHECK_GT(taken, 0);
	json_decref(whole);
	for (size_t i = 0; i < ARRAY_SIZE(runs); i++)
		json_decref(runs[i]);
}

const struct test_case lab_merge_bad_tests[] = {
	TEST(what_does_not_go_together),
	TEST(what_is_not_what_it_says),
	TEST(bad_histograms),
	TEST(a_merged_result_that_was_edited),
	TEST(what_is_warned_of),
	TEST(memory_runs_out),
	TEST(spoiled_results),
	TEST_END,
};
