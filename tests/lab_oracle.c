/* SPDX-License-Identifier: MIT */
/* The oracle's parts: judging a word, collecting reports, verifying, the log. */
#include <string.h>

#include "lab/plan/oracle.h"
#include "lab/plan/trace.h"
#include "lib/alloc.h"
#include "tests/lab_suites.h"

static void judging(void)
{
	static const struct {
		const char *name;
		u64 page;
		u32 required; /* with the flag */
		u64 seen;
		u32 announced;
		int expected;
	} cases[] = {
		{ "the one", 3, 5 << 1, 0, 5, GUEST_VIOLATION_ZERO },
		{ "zero, allowed", 3, 5 << 1 | 1, 0, 5, GUEST_VIOLATION_NONE },
		{ "zero, an operation under way", 3, 5 << 1, 0, 6, GUEST_VIOLATION_NONE },
		{ "no stamp", 3, 5 << 1, 0x1234, 5, GUEST_VIOLATION_CORRUPT },
		{ "poison", 3, 5 << 1, 0xdeadf4a3e5dead00ull, 5, GUEST_VIOLATION_CORRUPT },
	};
	static const struct {
		u32 low, generation, high;
		int expected;
	} generations[] = {
		{ 5, 5, 5, GUEST_VIOLATION_NONE },
		{ 5, 6, 6, GUEST_VIOLATION_NONE },
		{ 5, 4, 5, GUEST_VIOLATION_STALE },
		{ 5, 6, 5, GUEST_VIOLATION_STALE }, /* a mark */
		{ 5, 4, 6, GUEST_VIOLATION_STALE },
		{ 0xffffff, 0xffffff, 0x1000001, GUEST_VIOLATION_NONE }, /* over the wrap */
		{ 0xffffff, 0x1000000, 0x1000001, GUEST_VIOLATION_NONE },
		{ 0xffffff, 0x1000001, 0x1000001, GUEST_VIOLATION_NONE },
		{ 0xffffff, 0xfffffe, 0x1000001, GUEST_VIOLATION_STALE },
		{ 0xffffff, 0x1000002, 0x1000001, GUEST_VIOLATION_STALE },
		{ 0x7fffffff, 0x80000000, 0x80000000, GUEST_VIOLATION_NONE }, /* required keeps 31 bits */
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		CHECK_MSG((int)oracle_judge(cases[i].page, cases[i].required, cases[i].seen, cases[i].announced) ==
				  cases[i].expected,
			  "%s", cases[i].name);
	for (size_t i = 0; i < ARRAY_SIZE(generations); i++) {
		u64 seen = guest_stamp(3, generations[i].generation);

		CHECK_MSG((int)oracle_judge(3, generations[i].low << 1, seen, generations[i].high) ==
				  generations[i].expected,
			  "%#x in %#x..%#x", generations[i].generation, generations[i].low, generations[i].high);
		CHECK_EQ(oracle_judge(4, generations[i].low << 1, seen, generations[i].high), GUEST_VIOLATION_FOREIGN);
	}
}

struct fixture {
	struct fake_host fake;
	struct guest_page_rule rule[FAKE_PAGES];
	struct guest_vcpu vcpu[2];
	struct oracle oracle;
};

static struct fixture *fixture_create(void)
{
	struct fixture *f = mem_alloc_aligned(PAGE_SIZE, sizeof(*f));

	if (!CHECK(f))
		return NULL;
	fake_host_init(&f->fake, HOST_ANONYMOUS);
	if (CHECK_EQ(oracle_create(&f->oracle, &f->fake.host, f->rule, FAKE_PAGES, 2, 99, FAKE_PAGES, NULL), 0))
		return f;
	mem_free(f);
	return NULL;
}

static void fixture_destroy(struct fixture *f)
{
	oracle_destroy(&f->oracle);
	mem_free(f);
}

/* After creation every stamp of every page is there and required. */
static void begins_stamped(void)
{
	struct fixture *f = fixture_create();

	if (!f)
		return;
	for (u64 page = 0; page < FAKE_PAGES; page++) {
		CHECK_EQ(f->rule[page].required, 1 << 1);
		CHECK_EQ(f->rule[page].announced, 1);
		for (int i = 0; i < GUEST_STAMPS; i++)
			CHECK_EQ(f->fake.data[page][i * GUEST_STAMP_STRIDE / sizeof(u64)], guest_stamp(page, 1));
	}
	CHECK_EQ(oracle_verify(&f->oracle), 0);
	CHECK_EQ(f->oracle.log.total, 0);
	fixture_destroy(f);
}

static void guest_says(struct guest_vcpu *gv, u32 kind, u64 page)
{
	struct guest_violation *v = &gv->violation[gv->violations % GUEST_VIOLATION_RING];

	if (gv->violations < GUEST_VIOLATION_RING)
		*v = (struct guest_violation){
			.kind = kind, .page = page, .seen = guest_stamp(page, 1), .required = 4, .announced = 2
		};
	gv->violations++;
}

static void reports_are_collected(void)
{
	struct plan_step step = { .index = 17, .op = PLAN_MPROTECT, .first = 2, .pages = 1 };
	struct fixture *f = fixture_create();
	const struct violation *v;

	if (!f)
		return;
	v = f->oracle.log.record;
	oracle_begin(&f->oracle, &step);
	guest_says(&f->vcpu[1], GUEST_VIOLATION_STALE, 2);
	guest_says(&f->vcpu[1], GUEST_VIOLATION_LOST, 0);
	guest_says(&f->vcpu[1], 77, 1ull << 60);
	for (int i = 0; i < 2; i++) /* the second time there is nothing new */
		for (u32 n = 0; n < 2; n++)
			oracle_collect(&f->oracle, n, &f->vcpu[n]);
	CHECK_EQ(f->oracle.log.total, 3);
	CHECK_EQ(v[0].kind, VIOLATION_STALE);
	CHECK_EQ(v[0].vcpu, 1);
	CHECK_EQ(v[0].page, 2);
	CHECK_EQ(v[0].required, 4);
	CHECK_EQ(v[0].announced, 2);
	CHECK_EQ(v[0].seed, 99);
	CHECK_EQ(v[0].step, 17);
	CHECK_EQ(v[0].op, PLAN_MPROTECT);
	CHECK_EQ(v[1].kind, VIOLATION_LOST);
	CHECK_EQ(v[1].step, VIOLATION_NO_STEP);
	CHECK_EQ(v[2].kind, VIOLATION_CORRUPT); /* a guest may say what it likes */
	fixture_destroy(f);
}

/* A guest that reports more than its ring holds: all are counted, the first are kept. */
static void reports_overflow(void)
{
	struct fixture *f = fixture_create();

	if (!f)
		return;
	for (int i = 0; i < 1000; i++)
		guest_says(&f->vcpu[0], GUEST_VIOLATION_STALE, 0);
	oracle_collect(&f->oracle, 0, &f->vcpu[0]);
	CHECK_EQ(f->oracle.log.total, 1000);
	CHECK_EQ(f->oracle.log.nr, VIOLATION_RECORDS);
	guest_says(&f->vcpu[0], GUEST_VIOLATION_STALE, 0);
	oracle_collect(&f->oracle, 0, &f->vcpu[0]);
	CHECK_EQ(f->oracle.log.total, 1001);
	fixture_destroy(f);
}

/* However many are found together, each has what the host did before them. */
static void records_show_the_operation(void)
{
	struct plan_step step = { .index = 4711, .op = PLAN_REMAP, .first = 0, .pages = FAKE_PAGES };
	struct fixture *f = fixture_create();

	if (!f)
		return;
	trace_set(true);
	for (int round = 0; round < 2; round++) {
		step.index += (u64)round;
		oracle_begin(&f->oracle, &step);
		oracle_announce(&f->oracle, 0, FAKE_PAGES);
		for (int i = 0; i < VIOLATION_RECORDS / 2; i++)
			guest_says(&f->vcpu[round], GUEST_VIOLATION_STALE, 0);
		oracle_collect(&f->oracle, (u32)round, &f->vcpu[round]);
		violation_trace(&f->oracle.log);
	}
	trace_set(false);
	REQUIRE_EQ(f->oracle.log.nr, VIOLATION_RECORDS);
	for (u32 i = 0; i < f->oracle.log.nr; i++) {
		const char *trace = f->oracle.log.record[i].trace;

		CHECK_CONTAINS(trace, "lab:lab_step             step 4711 op 1 first 0 ");
		CHECK_CONTAINS(trace, "lab:lab_announce ");
		CHECK_CONTAINS(trace, "lab:lab_violation ");
	}
	CHECK_CONTAINS(f->oracle.log.record[f->oracle.log.nr - 1].trace, "step 4712 op 1 ");
	fixture_destroy(f);
}

static void verify_finds_what_is_wrong(void)
{
	struct fixture *f = fixture_create();

	if (!f)
		return;
	f->fake.data[1][0] = guest_stamp(1, 0);
	f->fake.data[2][7 * GUEST_STAMP_STRIDE / sizeof(u64)] = 0;
	f->fake.data[2][6 * GUEST_STAMP_STRIDE / sizeof(u64)] = 0;
	f->fake.data[3][3 * GUEST_STAMP_STRIDE / sizeof(u64)] = guest_stamp(2, 1);
	CHECK_EQ(oracle_verify(&f->oracle), 0);
	CHECK_EQ(f->oracle.log.total, 3); /* one a page */
	for (int i = 0; i < 3; i++) {
		CHECK_EQ(f->oracle.log.record[i].kind, VIOLATION_CONTENT);
		CHECK_EQ(f->oracle.log.record[i].page, i + 1);
	}
	fixture_destroy(f);
}

/* Each allocation fails once: an error, nothing kept. */
static void out_of_memory(void)
{
#if CHECKING
	struct guest_page_rule rule[FAKE_PAGES];
	static struct fake_host fake;
	struct oracle o;
	bool failed = true;
	int ret;

	for (u64 n = 1; failed && n < 20; n++) {
		fake_host_init(&fake, HOST_ANONYMOUS);
		mem_fail_after(n);
		ret = oracle_create(&o, &fake.host, rule, FAKE_PAGES, 1, 1, 1, NULL);
		failed = mem_failed();
		mem_fail_after(0);
		CHECK_EQ(ret, failed ? -ENOMEM : 0);
		if (!ret)
			oracle_destroy(&o);
	}
	CHECK(!failed);
#else
	test_skip("needs a checking build");
#endif
}

static void every_kind_has_a_name(void)
{
	for (int kind = VIOLATION_STALE; kind < VIOLATION_KIND_NR; kind++) {
		CHECK(strcmp(violation_name(kind), "unknown"));
		CHECK(*violation_summary(kind));
		for (int other = VIOLATION_STALE; other < kind; other++)
			CHECK(strcmp(violation_name(kind), violation_name(other)));
	}
	CHECK_STR(violation_name(VIOLATION_KIND_NR), "unknown");
}

const struct test_case lab_oracle_tests[] = {
	TEST(judging),
	TEST(begins_stamped),
	TEST(reports_are_collected),
	TEST(reports_overflow),
	TEST(records_show_the_operation),
	TEST(verify_finds_what_is_wrong),
	TEST(out_of_memory),
	TEST(every_kind_has_a_name),
	TEST_END,
};
