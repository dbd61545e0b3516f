/* SPDX-License-Identifier: MIT */
/* bench fault: every cause runs or says why not, and the faults it counts are those that KVM counts. */
#include <string.h>

#include "lab/bench/bench.h"
#include "lab/system/guardian.h"
#include "tests/lab_suites.h"

#define PAGES 1024ull /* two huge ones */
#define APART 8
#define TRIES 50

static struct bench_fault_result result;

static int run(const char *engine, const char *causes, u32 vcpus, const u32 *stop)
{
	struct bench_fault_config c;
	struct err err = { "" };
	int ret;

	bench_fault_config_init(&c, engine_find(engine));
	if (!CHECK_MSG(!bench_parse_causes(causes, &c.causes, &err), "%s", err.text))
		return -EINVAL;
	c.machine.vcpus = vcpus;
	c.machine.bytes = PAGES * PAGE_SIZE;
	c.machine.seed = 5;
	c.passes = 1;
	c.stop = stop;
	ret = bench_fault_run(&c, &result, &err);
	CHECK_MSG(!ret || ret == -EINTR, "bench fault of %s: %s", causes, err.text);
	return ret;
}

static void cause_lists(void)
{
	static const struct list_row rows[] = {
		{ "cow", BIT(BENCH_COW) },
		{ "cow,thp,cow", BIT(BENCH_COW) | BIT(BENCH_THP) },
		{ "all", BENCH_CAUSES_ALL },
		{ "", 0 },
		{ "cow,", 0 },
		{ "cov", 0 },
		{ "COW", 0 },
	};

	check_lists(rows, ARRAY_SIZE(rows), bench_parse_causes);
	for (int i = 0; i < BENCH_CAUSE_NR; i++)
		CHECK_MSG(bench_cause_table[i].name && bench_cause_table[i].summary, "cause %d has a name", i);
}

/* What was asked for was measured, in full, or is skipped with a reason. */
static void check_cause(enum bench_cause cause, bool measured)
{
	const struct bench_row *row = &result.row[cause][BENCH_APART], *host = &result.host[cause];
	const char *name = bench_cause_table[cause].name;
	struct bench_shares s;

	CHECK_MSG(row->ran != (result.skip[cause][0] != 0), "%s: ran %d, skipped '%s'", name, row->ran,
		  result.skip[cause]);
	if (measured)
		CHECK_MSG(row->ran, "%s: skipped: %s", name, result.skip[cause]);
	if (!row->ran)
		return;
	CHECK_GT(row->accesses, 0);
	CHECK_EQ(hist_count(&row->ns), row->accesses);
	CHECK_MSG(row->faults >= row->accesses, "%s: %llu faults in %llu accesses", name,
		  (unsigned long long)row->faults, (unsigned long long)row->accesses);
	bench_shares(&result, cause, &s);
	/* Timed alone, often enough, and no longer than all; what that is, the machine decides. */
	CHECK(!s.host_known || (host->ran && host->accesses >= BENCH_SHARES_SAMPLES));
	if (host->ran && !s.host_known && host->accesses >= BENCH_SHARES_SAMPLES)
		CHECK_GT(hist_percentile(&host->ns, 50), s.mmu);
	CHECK_EQ(s.overhead + s.host + s.mmu, hist_percentile(&row->ns, 50));
	if (host->ran)
		CHECK_EQ(host->accesses, row->accesses);
}

/* Those that need nothing of the machine but its kernel. */
#define CERTAIN                                                                                                        \
	(BIT(BENCH_HOST_PRESENT) | BIT(BENCH_FIRST_TOUCH) | BIT(BENCH_AFTER_DONTNEED) | BIT(BENCH_AFTER_REMAP) |       \
	 BIT(BENCH_ZERO_PAGE) | BIT(BENCH_ZERO_COW) | BIT(BENCH_COW) | BIT(BENCH_AFTER_PUNCH) | BIT(BENCH_MEMSLOT) |   \
	 BIT(BENCH_MEMSLOT_MOVE))

static void all_causes(void)
{
	if (!have_kvm())
		return;
	if (!run("kvm", "all", 1, NULL))
		for (int i = 0; i < BENCH_CAUSE_NR; i++)
			if (bench_cause_table[i].fault)
				check_cause(i, CERTAIN & BIT(i));
	CHECK_MSG((result.traced[BENCH_FIRST_TOUCH].faults != 0) != (result.no_trace[0] != 0),
		  "events of %llu faults; skipped '%s'", (unsigned long long)result.traced[BENCH_FIRST_TOUCH].faults,
		  result.no_trace);
	CHECK_CONTAINS(result.skip[BENCH_UNMERGE], "--allow-system");
	CHECK_CONTAINS(result.skip[BENCH_TAIN_HOST_FAULT], "Linux's");
	CHECK_GT(result.faults, 0);
	bench_fault_destroy(&result);
}

/* On tain's own mm the causes of Linux's are skipped by name, and nothing of them is measured. */
static void causes_on_soft(void)
{
	if (!run("soft", "cow,first_touch,uffd_wp_vcpu", 1, NULL)) {
		CHECK_CONTAINS(result.skip[BENCH_COW], "--engine kvm");
		CHECK_CONTAINS(result.skip[BENCH_UFFD_WP_VCPU], "--engine kvm");
		CHECK_EQ(result.skip[BENCH_FIRST_TOUCH][0], 0);
		CHECK(result.row[BENCH_FIRST_TOUCH][BENCH_RANDOM].ran);
		CHECK(!result.row[BENCH_FIRST_TOUCH][BENCH_APART].ran);
		CHECK(!result.row[BENCH_PRESENT][BENCH_SEQUENTIAL].ran);
	}
	bench_fault_destroy(&result);
}

/*
 * Faults that tain makes against those that KVM counts (pf_taken). Pages apart: KVM's
 * mapping of neighbours serves no second access, so they are equal. Every page in turn,
 * with the host's page present: KVM maps a group of at most APART at a fault, so they are
 * between a group's and a page's number. Where a fault makes the host replace the page
 * (COW), the host's change invalidates the fault under way (rule K4), which comes again:
 * two, or more when vCPUs meet.
 *
 * Others may change this process's memory too (compaction, a swapping machine), which
 * makes faults come again; so one run of a few must be exact.
 */
static void faults_are_kvms(void)
{
	static const enum bench_cause exact[] = { BENCH_HOST_PRESENT, BENCH_FIRST_TOUCH, BENCH_AFTER_DONTNEED,
						  BENCH_AFTER_REMAP,  BENCH_ZERO_PAGE,	 BENCH_AFTER_PUNCH,
						  BENCH_WRITE_PROTECT };
	bool equal = false;

	if (!have_kvm())
		return;
	for (int i = 0; i < TRIES && !equal && !test_failures(); i++) {
		if (run("kvm",
			"host_present,first_touch,after_dontneed,after_remap,zero_page,after_punch,"
			"write_protect,cow",
			1, NULL))
			break;
		equal = true;
		for (size_t j = 0; j < ARRAY_SIZE(exact); j++) {
			const struct bench_row *row = &result.row[exact[j]][BENCH_APART];

			if (exact[j] == BENCH_WRITE_PROTECT && !row->ran) {
				CHECK_CONTAINS(result.skip[exact[j]], "PML");
				continue;
			}
			CHECK_EQ(row->accesses, PAGES / APART);
			CHECK_GE(row->faults, row->accesses);
			equal &= row->faults == row->accesses;
		}
		CHECK_GE(result.row[BENCH_COW][BENCH_APART].faults, PAGES / APART);
		CHECK_GE(result.row[BENCH_HOST_PRESENT][BENCH_SEQUENTIAL].faults, PAGES / APART);
		CHECK_EQ(result.row[BENCH_FIRST_TOUCH][BENCH_SEQUENTIAL].accesses, PAGES);
		equal &= result.row[BENCH_FIRST_TOUCH][BENCH_SEQUENTIAL].faults == PAGES;
		equal &= result.row[BENCH_HOST_PRESENT][BENCH_SEQUENTIAL].faults <= PAGES;
		bench_fault_destroy(&result);
	}
	CHECK_MSG(equal, "KVM counted other faults than were made in %d runs", TRIES);
}

/* Machine-wide ones where they are allowed; the guardian puts everything back. */
static void system_causes(void)
{
	struct err err = { "" };

	if (!have_kvm())
		return;
	test_own_machine();
	if (guardian_start(&err)) {
		test_skip("%s", err.text);
		return;
	}
	if (!run("kvm", "after_swap,unmerge,thp", 1, NULL)) {
		check_cause(BENCH_AFTER_SWAP, false);
		check_cause(BENCH_UNMERGE, false);
		check_cause(BENCH_THP, false);
	}
	bench_fault_destroy(&result);
	CHECK_MSG(!guardian_stop(&err), "%s", err.text);
}

static void stops_at_once(void)
{
	u32 stop = 1;

	if (!have_kvm())
		return;
	CHECK_EQ(run("kvm", "cow,first_touch", 1, &stop), -EINTR);
	CHECK(!result.row[BENCH_COW][BENCH_APART].ran);
	bench_fault_destroy(&result);
}

const struct test_case lab_bench_fault_tests[] = {
	TEST(cause_lists),   TEST(all_causes), TEST(causes_on_soft), TEST(faults_are_kvms), TEST(system_causes),
	TEST(stops_at_once), TEST_END,
};
