/* SPDX-License-Identifier: MIT */
/* bench interference: each disturber works and is undone; what must show in KVM's counters shows. */
#include <stdio.h>
#include <string.h>

#include "lab/system/guardian.h"
#include "lab/bench/interference.h"
#include "lib/time.h"
#include "tests/lab_suites.h"

static struct interference_result result;

static bool two_processors(void)
{
	struct err why = { "" };
	struct machine_config config = { .engine = engine_find("kvm"), .vcpus = 1, .bytes = PAGE_SIZE };
	static struct machine m;

	if (!have_kvm())
		return false;
	config.image.name = "touch";
	if (!CHECK(!machine_create(&m, &config, &why)))
		return false;
	machine_destroy(&m);
	if (m.cpus < 2)
		test_skip("one processor");
	return m.cpus >= 2;
}

static int run(u32 disturbers, const char *cpus, u32 rounds, const u32 *stop, struct err *err)
{
	const struct interference_config c = {
		.machine = { .engine = engine_find("kvm"), .bytes = 1 << 20, .cpus = cpus },
		.disturbers = disturbers,
		.rounds = rounds,
		.phase_ns = 50 * NSEC_PER_MSEC,
		.stall_ns = NSEC_PER_MSEC,
		.pause_ns = 100 * NSEC_PER_USEC,
		.stop = stop,
	};

	return interference_run(&c, &result, err);
}

static void disturber_lists(void)
{
	static const struct list_row rows[] = {
		{ "munmap", BIT(DISTURB_MUNMAP) },
		{ "ksm,compact", BIT(DISTURB_KSM) | BIT(DISTURB_COMPACT) },
		{ "all", DISTURB_ALL },
		{ "", 0 },
		{ "munmap,", 0 },
		{ "mumap", 0 },
	};

	check_lists(rows, ARRAY_SIZE(rows), disturber_parse);
}

/* Samples, their stalls and its rounds belong together. */
static void check_row(enum disturber kind, enum interference_guest guest, u32 rounds)
{
	const struct interference_row *row = &result.row[kind][guest];
	const char *name = disturber_table[kind].name;

	if (!CHECK_MSG(row->ran, "%s: %s", name, result.skip[kind]))
		return;
	CHECK_GT(row->work, 0);
	CHECK_EQ(row->p50.rounds, rounds);
	CHECK_EQ(row->p99.rounds, rounds);
	for (int phase = 0; phase < INTERFERENCE_PHASE_NR; phase++) {
		const struct interference_side *s = &row->side[phase];

		CHECK_GT(hist_count(&s->ns), 0);
		CHECK_EQ(hist_count(&s->ns) % 256, 0); /* whole passes */
		CHECK_LE(s->stalls, hist_count(&s->ns));
		CHECK_EQ(s->stalls != 0, hist_max(&s->ns) >= NSEC_PER_MSEC);
		CHECK_LE(s->stalled_ns, s->guest_ns);
		if (guest == INTERFERENCE_FAULTING)
			CHECK_GE(s->faults, hist_count(&s->ns));
	}
}

/* What takes no switch of the machine. A warm guest faults where its entries are taken away or made read-only. */
static void disturbers_at_work(void)
{
	const u32 disturbers = BIT(DISTURB_MUNMAP) | BIT(DISTURB_MEMSLOT) | BIT(DISTURB_DIRTY_LOG);
	struct err err = { "" };
	int ret;

	if (!two_processors())
		return;
	ret = run(disturbers, NULL, 2, NULL, &err);
	if (CHECK_MSG(!ret, "%s", err.text))
		for (int kind = 0; kind < DISTURB_NR; kind++)
			for (int guest = 0; guest < INTERFERENCE_GUEST_NR && disturbers & BIT(kind); guest++)
				check_row(kind, guest, 2);
	CHECK_GT(result.row[DISTURB_DIRTY_LOG][INTERFERENCE_WARM].side[INTERFERENCE_DISTURBED].faults, 0);
	CHECK(!result.row[DISTURB_KSM][INTERFERENCE_WARM].ran);
	CHECK_EQ(result.skip[DISTURB_KSM][0], 0); /* was not asked for */
	interference_destroy(&result);
}

static void system_ones_are_skipped(void)
{
	struct err err = { "" };

	if (!two_processors())
		return;
	CHECK_MSG(!run(BIT(DISTURB_KSM) | BIT(DISTURB_COMPACT) | BIT(DISTURB_KHUGEPAGED), NULL, 1, NULL, &err), "%s",
		  err.text);
	CHECK_CONTAINS(result.skip[DISTURB_KSM], "--allow-system");
	CHECK_CONTAINS(result.skip[DISTURB_COMPACT], "--allow-system");
	CHECK_CONTAINS(result.skip[DISTURB_KHUGEPAGED], "--allow-system");
	interference_destroy(&result);
}

static void read_switches(char *text, size_t bytes)
{
	static const char *const paths[] = {
		"/sys/kernel/mm/ksm/run",
		"/sys/kernel/mm/ksm/pages_to_scan",
		"/sys/kernel/mm/transparent_hugepage/enabled",
		"/sys/kernel/mm/transparent_hugepage/khugepaged/pages_to_scan",
		"/sys/kernel/mm/transparent_hugepage/khugepaged/scan_sleep_millisecs",
		"/sys/kernel/mm/transparent_hugepage/khugepaged/alloc_sleep_millisecs",
	};
	size_t n = 0;

	text[0] = 0;
	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		FILE *f = fopen(paths[i], "re");

		if (f)
			n += fread(text + n, 1, bytes - 1 - n, f);
		text[n] = 0;
		if (f)
			fclose(f);
	}
}

/* They do their work or say why not, and every switch is as it was. */
static void system_ones_are_undone(void)
{
	char before[512], after[512];
	struct err err = { "" };

	if (!two_processors())
		return;
	test_own_machine();
	if (guardian_start(&err)) {
		test_skip("%s", err.text);
		return;
	}
	read_switches(before, sizeof(before));
	CHECK_MSG(!run(BIT(DISTURB_KSM) | BIT(DISTURB_KHUGEPAGED), NULL, 1, NULL, &err), "%s", err.text);
	for (int kind = DISTURB_KSM; kind <= DISTURB_KHUGEPAGED; kind++)
		CHECK(result.skip[kind][0] || result.row[kind][0].ran || result.row[kind][1].ran);
	interference_destroy(&result);
	read_switches(after, sizeof(after));
	CHECK_STR(after, before);
	CHECK_MSG(!guardian_stop(&err), "%s", err.text);
}

static void one_processor(void)
{
	struct err err = { "" };

	if (!two_processors())
		return;
	CHECK_EQ(run(BIT(DISTURB_MUNMAP), test_cpu(), 1, NULL, &err), -EOPNOTSUPP);
	CHECK_CONTAINS(err.text, "two processors");
	CHECK(!result.ran);
	interference_destroy(&result);
}

static void told_to_stop(void)
{
	struct err err = { "" };
	u32 stop = 1;

	if (!two_processors())
		return;
	CHECK_EQ(run(DISTURB_ALL, NULL, 1, &stop, &err), -EINTR);
	interference_destroy(&result);
}

const struct test_case lab_interference_tests[] = {
	TEST(disturber_lists),
	TEST(disturbers_at_work),
	TEST(system_ones_are_skipped),
	TEST(system_ones_are_undone),
	TEST(one_processor),
	TEST(told_to_stop),
	TEST_END,
};
