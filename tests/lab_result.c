/* SPDX-License-Identifier: MIT */
/* Result documents have exactly the keys that docs/results.md promises. */
#include <string.h>

#include "lab/result/result.h"
#include "tests/lab_suites.h"

static const char *const keys[] = {
	"schema",     "version", "command",    "engine",    "host_mm",		"mmu",	  "cpu",     "kernel",
	"host",	      "seed",	 "status",     "elapsed_s", "checked_accesses", "faults", "options", "host_ops",
	"violations", "skips",	 "histograms",
};

static const struct machine_identity id = {
	.engine = "soft", .mmu = "tain EPT", .host_mm = "tain mmap_sem", .cpu = "software"
};

static void a_new_document_has_every_key(void)
{
	json_t *doc = result_new("stress", &id, 42);
	const char *key;
	json_t *value;
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		CHECK_MSG(json_object_get(doc, keys[i]), "no %s", keys[i]);
	json_object_foreach(doc, key, value)
	{
		CHECK_MSG(n < ARRAY_SIZE(keys) && !strcmp(key, keys[n]), "%s is not key %zu", key, n);
		n++;
	}
	CHECK_EQ(n, ARRAY_SIZE(keys));
	CHECK_STR(json_string_value(json_object_get(doc, "schema")), "tain.result/1");
	CHECK_STR(json_string_value(json_object_get(doc, "command")), "stress");
	CHECK_STR(json_string_value(json_object_get(doc, "mmu")), "tain EPT");
	CHECK_EQ(json_integer_value(json_object_get(doc, "seed")), 42);
	json_decref(doc);
}

static void without_a_machine(void)
{
	json_t *doc = result_new("bench figures", NULL, 1);

	CHECK(json_is_null(json_object_get(doc, "engine")));
	CHECK(json_is_string(json_object_get(doc, "kernel")));
	json_decref(doc);
}

static void counts_ops_skips_options(void)
{
	json_t *doc = result_new("stress", &id, ~0ull), *skip;

	result_counts(doc, 1500000000, 123, 45);
	result_host_op(doc, "munmap", 7);
	result_skip(doc, "memfd", "because");
	result_option_u64(doc, "vcpus", 2);
	result_option_text(doc, "ops", "all");
	result_option_text(doc, "mutant", NULL);
	result_option_text(doc, "path", "\xff\xfe"); /* no UTF-8 */
	CHECK_EQ(json_integer_value(json_object_get(doc, "seed")), INT64_MAX);
	CHECK(json_real_value(json_object_get(doc, "elapsed_s")) == 1.5);
	CHECK_EQ(json_integer_value(json_object_get(doc, "checked_accesses")), 123);
	CHECK_EQ(json_integer_value(json_object_get(doc, "faults")), 45);
	CHECK_EQ(json_integer_value(json_object_get(json_object_get(doc, "host_ops"), "munmap")), 7);
	skip = json_array_get(json_object_get(doc, "skips"), 0);
	CHECK_STR(json_string_value(json_object_get(skip, "what")), "memfd");
	CHECK_STR(json_string_value(json_object_get(skip, "why")), "because");
	CHECK(json_is_null(json_object_get(json_object_get(doc, "options"), "mutant")));
	CHECK(json_is_null(json_object_get(json_object_get(doc, "options"), "path")));
	result_faults_unknown(doc);
	CHECK(json_is_null(json_object_get(doc, "faults")));
	CHECK_STR(json_string_value(json_object_get(json_object_get(doc, "options"), "ops")), "all");
	json_decref(doc);
}

static void a_histogram(void)
{
	static const char *const parts[] = { "unit", "count", "min",   "p50", "p90",
					     "p99",  "p999",  "p9999", "max", "buckets" };
	json_t *doc = result_new("bench fault", &id, 1), *o;
	struct hist hist;
	const char *key;
	json_t *value;
	u64 sum = 0;

	REQUIRE_EQ(hist_init(&hist), 0);
	for (u64 i = 1; i <= 1000; i++)
		hist_add(&hist, i);
	hist_add(&hist, 1000000);
	result_histogram(doc, "first_touch", "ns", &hist);
	o = json_object_get(json_object_get(doc, "histograms"), "first_touch");
	CHECK_EQ(json_object_size(o), ARRAY_SIZE(parts));
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
		CHECK_MSG(json_object_get(o, parts[i]), "no %s", parts[i]);
	CHECK_EQ(json_integer_value(json_object_get(o, "count")), 1001);
	CHECK_EQ(json_integer_value(json_object_get(o, "min")), 1);
	CHECK_EQ(json_integer_value(json_object_get(o, "p50")), 501);
	CHECK_EQ(json_integer_value(json_object_get(o, "max")), 1000000);
	CHECK_EQ(json_integer_value(json_object_get(o, "p999")), 1000);
	CHECK(json_is_null(json_object_get(o, "p9999"))); /* none of them lies beyond */
	json_object_foreach(json_object_get(o, "buckets"), key, value) sum += json_integer_value(value);
	CHECK_EQ(sum, 1001);
	hist_destroy(&hist);
	json_decref(doc);
}

static void a_violation(void)
{
	struct violation v = {
		.kind = VIOLATION_STALE,
		.page = 12,
		.seen = guest_stamp(12, 4),
		.required = 5 << 1 | 1,
		.announced = 6,
		.vcpu = 1,
		.step = 99,
		.op = PLAN_REMAP,
		.seed = 7,
		.trace = (char *)"one\ntwo\n",
	};
	json_t *doc = result_new("stress", &id, 7), *o;

	result_violation(doc, &v);
	v.page = VIOLATION_NO_PAGE;
	v.vcpu = VIOLATION_NO_VCPU;
	v.step = VIOLATION_NO_STEP;
	v.trace = NULL;
	result_violation(doc, &v);
	o = json_array_get(json_object_get(doc, "violations"), 0);
	CHECK_STR(json_string_value(json_object_get(o, "kind")), "stale-read");
	CHECK_EQ(json_integer_value(json_object_get(o, "page")), 12);
	CHECK_EQ(json_integer_value(json_object_get(o, "generation_seen")), 4);
	CHECK_EQ(json_integer_value(json_object_get(o, "generation_required")), 5);
	CHECK_EQ(json_integer_value(json_object_get(o, "generation_announced")), 6);
	CHECK(json_is_true(json_object_get(o, "zero_allowed")));
	CHECK_STR(json_string_value(json_object_get(o, "operation")), "remap");
	CHECK_EQ(json_integer_value(json_object_get(o, "step")), 99);
	CHECK_EQ(json_array_size(json_object_get(o, "trace")), 2);
	CHECK_STR(json_string_value(json_array_get(json_object_get(o, "trace"), 1)), "two");
	o = json_array_get(json_object_get(doc, "violations"), 1);
	CHECK(json_is_null(json_object_get(o, "page")));
	CHECK(json_is_null(json_object_get(o, "vcpu")));
	CHECK(json_is_null(json_object_get(o, "step")));
	CHECK(json_is_null(json_object_get(o, "operation")));
	json_decref(doc);
}

const struct test_case lab_result_tests[] = {
	TEST(a_new_document_has_every_key),
	TEST(without_a_machine),
	TEST(counts_ops_skips_options),
	TEST(a_histogram),
	TEST(a_violation),
	TEST_END,
};
