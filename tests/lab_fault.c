/* SPDX-License-Identifier: MIT */
/*
 * Faults out of event streams. The streams were recorded, on a machine with kernel shadow
 * paging and on one with NPT (scripts/lane npt), and shortened.
 */
#include <stdio.h>
#include <string.h>

#include "tests/lab_fault.h"
#include "tests/lab_suites.h"

#define BASE STREAM_BASE
#define ZERO_PFN 0x3b34

struct fault stream_fault[STREAM_FAULTS];
u32 stream_nr_faults;

static void on_fault(const struct fault *f, void *arg)
{
	if (stream_nr_faults < STREAM_FAULTS)
		stream_fault[stream_nr_faults] = *f;
	stream_nr_faults++;
}

static hva_t hva_of(u64 gfn, void *arg)
{
	return gfn >= 0x100000 ? BASE + ((gfn - 0x100000) << PAGE_SHIFT) : 0;
}

/* A line: ns, tid, event, values in hexadecimal. */
static bool parse(const char *line, struct kvm_event_record *r)
{
	unsigned long long ns, v[KVM_EVENT_FIELDS] = { 0 };
	unsigned int tid;
	char name[40];

	if (sscanf(line, "%llu %u %39s %llx %llx %llx %llx", &ns, &tid, name, &v[0], &v[1], &v[2], &v[3]) < 3)
		return false;
	*r = (struct kvm_event_record){ .ns = ns, .tid = tid };
	memcpy(r->value, v, sizeof(v));
	while (r->event < KVM_EVENT_NR && strcmp(kvm_event_table[r->event].name, name))
		r->event++;
	return CHECK_MSG(r->event < KVM_EVENT_NR, "no event %s", name);
}

static void feed(struct fault_stream *s, const char *const *lines)
{
	struct kvm_event_record r;

	stream_nr_faults = 0;
	for (; *lines; lines++)
		if (parse(*lines, &r))
			CHECK_EQ(fault_stream_feed(s, &r), 0);
}

void stream_play(struct fault_stream *s, const char *const *lines)
{
	feed(s, lines);
	fault_stream_finish(s);
}

void stream_start(struct fault_stream *s, bool tdp)
{
	struct fault_stream_config config = { .tdp = tdp, .zero_pfn = ZERO_PFN, .hva = hva_of, .fault = on_fault };

	CHECK_EQ(fault_stream_init(s, &config), 0);
}

bool stream_played(struct fault_stream *s, bool tdp, const char *const *lines, unsigned int faults)
{
	stream_start(s, tdp);
	stream_play(s, lines);
	if (CHECK_EQ(stream_nr_faults, faults))
		return true;
	fault_stream_destroy(s);
	return false;
}

void stream_second_is(bool tdp, const char *const *lines, enum fault_cause cause, u32 by)
{
	struct fault_stream s;

	if (!stream_played(&s, tdp, lines, 2))
		return;
	CHECK_EQ(stream_fault[1].cause, cause);
	CHECK_EQ(stream_fault[1].by, by);
	fault_stream_destroy(&s);
}

/* --- shadow ---------------------------------------------------------------------------- */

static void shadow_prefetch(void)
{
	static const char *const lines[] = {
		"1000 848 kvm_mmu_pagetable_walk 10019d400 4",
		"7293 848 kvm_mmu_spte_requested 10019d 436f9f 1",
		"8640 848 kvm_mmu_set_spte 10019d 436f9fe67 1",
		"10870 848 kvm_mmu_set_spte 100198 43f0c2e47 1",
		"11972 848 kvm_mmu_set_spte 100199 439bc7e47 1",
		"23144 848 kvm_mmu_pagetable_walk 1004cb040 6",
		"28779 848 kvm_mmu_spte_requested 1004cb 460692 1",
		"29710 848 kvm_mmu_set_spte 1004cb 460692e67 1",
		NULL,
	};
	struct fault_stream s;

	if (!stream_played(&s, false, lines, 2))
		return;
	CHECK_EQ(fault_gpa(&stream_fault[0]), 0x10019d000);
	CHECK_EQ(stream_fault[0].hva, BASE + 0x19d000);
	CHECK_EQ(stream_fault[0].pfn, 0x436f9f);
	CHECK_EQ(stream_fault[0].ns, 7640);
	CHECK_EQ(stream_fault[0].page_ns, 6293);
	CHECK_EQ(stream_fault[0].prefetched, 2);
	CHECK_EQ(stream_fault[0].access, FAULT_READ);
	CHECK_EQ(stream_fault[0].cause, FAULT_NEW);
	CHECK_EQ(stream_fault[0].host, FAULT_HOST_NOTHING);
	CHECK_EQ(stream_fault[1].access, FAULT_WRITES);
	CHECK_EQ(stream_fault[1].prefetched, 0);
	CHECK_EQ(s.counts.attempts, 2);
	CHECK_EQ(s.counts.faults, 2);
	CHECK_EQ(s.counts.prefetched, 2);
	/* Prefetched pages have an entry, and no fault. */
	CHECK_EQ(s.pages.nr, 4);
	CHECK_EQ(fault_page_find(&s.pages, 0, 0x100198)->count, 0);
	CHECK_EQ(fault_page_find(&s.pages, 0, 0x10019d)->count, 1);
	fault_stream_destroy(&s);
}

/* A read of a hole maps the page of zeros; the write that follows copies, which the fault itself has to wait for. */
static void shadow_zero_page_then_write(void)
{
	static const char *const lines[] = {
		"796159 9033 kvm_mmu_pagetable_walk 100329040 4",
		"796550 9033 kvm_mmu_spte_requested 100329 3b34 1",
		"796553 9033 kvm_mmu_set_spte 100329 3b34825 1",
		"796577 9033 kvm_mmu_pagetable_walk 100329040 7",
		"796593 9033 mm_page_alloc 518224 0",
		"796602 9033 kvm_unmap_hva_range 7fb840329000 7fb84032a000",
		"796628 9033 kvm_mmu_pagetable_walk 100329040 6",
		"796632 9033 kvm_mmu_spte_requested 100329 518224 1",
		"796633 9033 kvm_mmu_set_spte 100329 518224e67 1",
		NULL,
	};
	struct fault_stream s;

	if (!stream_played(&s, false, lines, 2))
		return;
	CHECK_EQ(stream_fault[0].host, FAULT_HOST_ZERO);
	CHECK_EQ(stream_fault[1].cause, FAULT_WRITE);
	CHECK_EQ(stream_fault[1].host, FAULT_HOST_COPIED);
	CHECK_EQ(stream_fault[1].retries, 1);
	CHECK_EQ(stream_fault[1].ns, 56);
	CHECK_EQ(s.counts.attempts, 3);
	CHECK_EQ(s.counts.retries, 1);
	CHECK_EQ(s.counts.invalidations, 1);
	fault_stream_destroy(&s);
}

/* Its own copy invalidates the page, too; what took it away before is still the cause. */
static void shadow_invalidated_then_copied(void)
{
	static const char *const lines[] = {
		"1000 7 kvm_mmu_pagetable_walk 100329040 4",
		"2000 7 kvm_mmu_spte_requested 100329 111 1",
		"3000 7 kvm_mmu_set_spte 100329 111e67 1",
		"4000 9 kvm_unmap_hva_range 7fb840200000 7fb840400000",
		"5000 7 kvm_mmu_pagetable_walk 100329040 6",
		"5100 7 mm_page_alloc 222 0",
		"5200 7 kvm_unmap_hva_range 7fb840329000 7fb84032a000",
		"5300 7 kvm_mmu_pagetable_walk 100329040 6",
		"5400 7 kvm_mmu_spte_requested 100329 222 1",
		"5500 7 kvm_mmu_set_spte 100329 222e67 1",
		NULL,
	};

	stream_second_is(false, lines, FAULT_INVALIDATED, 9);
	CHECK_EQ(stream_fault[1].host, FAULT_HOST_COPIED);
}

/*
 * An invalidation's event comes before it takes the mmu lock:
 *
 *   vCPU 7                    host 9
 *   walk
 *                             kvm_unmap_hva_range
 *   set_spte, under the lock
 *                             takes the lock, zaps
 *   walk: invalidated
 */
static void shadow_set_before_the_lock(void)
{
	static const char *const lines[] = {
		"1000 7 kvm_mmu_pagetable_walk 100001000 4",  "1500 9 kvm_unmap_hva_range 7fb840001000 7fb840002000",
		"2000 7 kvm_mmu_spte_requested 100001 111 1", "3000 7 kvm_mmu_set_spte 100001 111e67 1",
		"5000 7 kvm_mmu_pagetable_walk 100001000 4",  "5400 7 kvm_mmu_spte_requested 100001 111 1",
		"5500 7 kvm_mmu_set_spte 100001 111e67 1",    NULL,
	};

	stream_second_is(false, lines, FAULT_INVALIDATED, 9);
}

static void shadow_two_vcpus_one_page(void)
{
	static const char *const lines[] = {
		"1000 7 kvm_mmu_pagetable_walk 100001000 4",  "1500 8 kvm_mmu_pagetable_walk 100001040 4",
		"2000 7 kvm_mmu_spte_requested 100001 111 1", "3000 7 kvm_mmu_set_spte 100001 111e67 1",
		"5000 8 kvm_mmu_spte_requested 100001 111 1", "5500 8 kvm_mmu_set_spte 100001 111e67 1",
		"6000 8 kvm_mmu_pagetable_walk 100001040 4",  "6100 8 kvm_mmu_spte_requested 100001 111 1",
		"6200 8 kvm_mmu_set_spte 100001 111e67 1",    NULL,
	};
	struct fault_stream s;

	if (!stream_played(&s, false, lines, 3))
		return;
	/* The next walk of a thread ends its fault before. */
	CHECK_EQ(stream_fault[0].tid, 8);
	CHECK_EQ(stream_fault[0].cause, FAULT_SPURIOUS);
	CHECK_EQ(stream_fault[1].tid, 7);
	CHECK_EQ(stream_fault[1].cause, FAULT_NEW);
	CHECK_EQ(stream_fault[2].cause, FAULT_UNTOLD);
	fault_stream_destroy(&s);
}

/* A guest that has not switched paging on: there is no walk, and no time. */
static void shadow_without_paging(void)
{
	static const char *const lines[] = {
		"1000 7 kvm_mmu_spte_requested 9f 111 1",
		"1100 7 kvm_mmu_set_spte 9f 111e67 1",
		"2000 7 kvm_mmu_spte_requested a0 112 1",
		"2100 7 kvm_mmu_set_spte a0 112e67 1",
		NULL,
	};
	struct fault_stream s;

	if (!stream_played(&s, false, lines, 2))
		return;
	CHECK(stream_fault[0].late && stream_fault[1].late);
	CHECK_EQ(fault_gpa(&stream_fault[1]), 0xa0000);
	CHECK_EQ(stream_fault[1].ns, 0);
	CHECK_EQ(s.counts.late, 2);
	CHECK_EQ(s.counts.attempts, 0);
	fault_stream_destroy(&s);
}

/* An access that the host does not allow, and KVM_RUN's -EFAULT; a walk that sets nothing. */
static void shadow_failed_and_unfinished(void)
{
	static const char *const lines[] = {
		"11912200 10444 kvm_mmu_pagetable_walk 1004ea048 4",
		"11930624 10444 kvm_userspace_exit 0 fffffff2",
		"12100121 10444 kvm_mmu_pagetable_walk 1004ea048 4",
		"12200000 10444 kvm_mmu_pagetable_walk 1004eb048 4",
		"12200100 10444 handle_mmio_page_fault feb00",
		"12300000 10444 kvm_mmu_pagetable_walk 1004ec048 4",
		"12300100 10444 kvm_userspace_exit 0 fffffffc",
		"12400000 10444 kvm_mmu_pagetable_walk 1004ec048 4",
		"12400100 10444 kvm_mmu_spte_requested 1004ec 111 1",
		"12400200 10444 kvm_mmu_set_spte 1004ec 111e67 1",
		NULL,
	};
	struct fault_stream s;

	if (!stream_played(&s, false, lines, 1))
		return;
	CHECK_EQ(s.counts.failed, 1);
	CHECK_EQ(s.counts.unfinished, 1);
	CHECK_EQ(s.counts.mmio, 1);
	/* A signal in the middle of a fault: it is the same one afterwards. */
	CHECK_EQ(stream_fault[0].retries, 1);
	CHECK_EQ(stream_fault[0].start_ns, 12300000);
	CHECK_EQ(s.counts.attempts,
		 s.counts.faults + s.counts.retries + s.counts.failed + s.counts.unfinished + s.counts.mmio);
	fault_stream_destroy(&s);
}

static void sleep_and_preemption(void)
{
	static const char *const lines[] = {
		"1000 7 kvm_mmu_pagetable_walk 100001000 4",
		"1100 7 sched_switch 7 2 0", /* asleep */
		"9100 5 sched_switch 5 0 7",
		"9200 7 sched_switch 7 100 5", /* preempted */
		"9500 5 sched_switch 5 1 7",
		"9600 7 rss_stat 2",
		"9700 7 mm_page_alloc 111 0",
		"9800 7 kvm_mmu_spte_requested 100001 111 1",
		"9900 7 kvm_mmu_set_spte 100001 111e67 1",
		"9950 7 sched_switch 7 2 0", /* after it: not its own */
		"19950 7 sched_switch 0 0 7",
		NULL,
	};
	struct fault_stream s;

	if (!stream_played(&s, false, lines, 1))
		return;
	CHECK_EQ(stream_fault[0].ns, 8900);
	CHECK_EQ(stream_fault[0].waited_ns, 8000);
	CHECK_EQ(stream_fault[0].preempted_ns, 300);
	CHECK_EQ(stream_fault[0].host, FAULT_HOST_SWAPPED);
	fault_stream_destroy(&s);
}

/* --- TDP ---------------------------------------------------------------------------------- */

/* First the page of zeros; then a write that finds it, which KVM cannot fix fast; the host copies. */
static void tdp_zero_page_then_write(void)
{
	static const char *const lines[] = {
		"99705000 108 kvm_page_fault 1000c7048 100000004",
		"99775280 108 kvm_mmu_spte_requested 1000c7 3b34 1",
		"99786160 108 kvm_tdp_mmu_spte_changed 1000c7 0 3b34825 1",
		"99790360 108 kvm_mmu_set_spte 1000c7 3b34825 1",
		"99804050 108 kvm_entry",
		"99880570 108 kvm_page_fault 1000c7048 100000007",
		"99908070 108 fast_page_fault 1000c7048 3b34825 3b34825",
		"99986670 108 mm_page_alloc 39eb 0",
		"100012940 108 kvm_unmap_hva_range 7fb8400c7000 7fb8400c8000",
		"100035230 108 kvm_tdp_mmu_spte_changed 1000c7 3b34825 0 1",
		"100149260 108 kvm_entry",
		"100231660 108 kvm_page_fault 1000c7048 100000006",
		"100261440 108 kvm_mmu_spte_requested 1000c7 39eb 1",
		"100274740 108 kvm_tdp_mmu_spte_changed 1000c7 0 39ebe67 1",
		"100280110 108 kvm_mmu_set_spte 1000c7 39ebe67 1",
		"100294700 108 kvm_entry",
		NULL,
	};
	struct fault_stream s;

	if (!stream_played(&s, true, lines, 2))
		return;
	CHECK_EQ(fault_gpa(&stream_fault[0]), 0x1000c7000);
	CHECK_EQ(stream_fault[0].cause, FAULT_NEW);
	CHECK_EQ(stream_fault[0].host, FAULT_HOST_ZERO);
	CHECK_EQ(stream_fault[0].ns, 99804050 - 99705000);
	CHECK_EQ(stream_fault[0].page_ns, 99775280 - 99705000);
	CHECK(stream_fault[0].entered);
	CHECK_EQ(stream_fault[0].prefetched, 0);
	CHECK_EQ(stream_fault[1].cause, FAULT_WRITE);
	CHECK_EQ(stream_fault[1].host, FAULT_HOST_COPIED);
	CHECK_EQ(stream_fault[1].retries, 1);
	CHECK_EQ(stream_fault[1].ns, 100294700 - 99880570);
	fault_stream_destroy(&s);
}

static void tdp_fast_and_zapped(void)
{
	static const char *const lines[] = {
		"1000 108 kvm_page_fault 1000c7048 4",
		"1100 108 kvm_mmu_spte_requested 1000c7 39eb 1",
		"1200 108 kvm_mmu_set_spte 1000c7 39ebe67 1",
		"1300 108 kvm_entry",
		"2000 100 kvm_tdp_mmu_spte_changed 1000c7 39ebe67 39eb825 1", /* a dirty log write-protects */
		"3000 108 kvm_page_fault 1000c7048 7",
		"3100 108 fast_page_fault 1000c7048 39eb825 39ebe67",
		"3300 108 kvm_entry",
		"4000 100 kvm_tdp_mmu_spte_changed 1000c7 39ebe67 0 1", /* the memslot goes */
		"5000 108 kvm_page_fault 1000c7048 4",
		"5100 108 kvm_mmu_spte_requested 1000c7 39eb 1",
		"5200 108 kvm_mmu_set_spte 1000c7 39ebe67 1",
		"5300 108 kvm_entry",
		NULL,
	};
	struct fault_stream s;

	if (!stream_played(&s, true, lines, 3))
		return;
	CHECK(stream_fault[1].fast);
	CHECK_EQ(stream_fault[1].cause, FAULT_WRITE);
	CHECK_EQ(stream_fault[1].ns, 300);
	CHECK_EQ(stream_fault[2].cause, FAULT_ZAPPED);
	CHECK_EQ(fault_page_find(&s.pages, 0, 0x1000c7)->count, 3);
	fault_stream_destroy(&s);
}

/* The exit qualification of an EPT violation: bits 0-2 what was asked, 3-5 what the entry allowed. */
static void ept_qualification(void)
{
	static const struct {
		const char *fault;
		enum fault_access access;
		enum fault_cause cause;
	} table[] = {
		{ "1000 1 kvm_page_fault 100001000 181", FAULT_READ, FAULT_NEW },
		{ "1000 1 kvm_page_fault 100001000 182", FAULT_WRITES, FAULT_NEW },
		{ "1000 1 kvm_page_fault 100001000 184", FAULT_EXEC, FAULT_NEW },
		{ "1000 1 kvm_page_fault 100001000 1aa", FAULT_WRITES, FAULT_WRITE },
	};
	struct fault_stream_config config = { .tdp = true, .ept = true, .hva = hva_of, .fault = on_fault };
	struct fault_stream s;

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		const char *lines[] = { table[i].fault, "1100 1 kvm_mmu_spte_requested 100001 39eb 1",
					"1200 1 kvm_mmu_set_spte 100001 39ebe67 1", NULL };

		CHECK_EQ(fault_stream_init(&s, &config), 0);
		stream_play(&s, lines);
		CHECK_EQ(stream_nr_faults, 1);
		CHECK_EQ(stream_fault[0].access, table[i].access);
		CHECK_EQ(stream_fault[0].cause, table[i].cause);
		CHECK(!stream_fault[0].entered); /* no kvm_entry yet: to the entry's being set */
		CHECK_EQ(stream_fault[0].ns, 200);
		fault_stream_destroy(&s);
	}
}

static void huge_pages(void)
{
	static const char *const lines[] = {
		"1000 1 kvm_page_fault 100201000 6",
		"1100 1 kvm_mmu_spte_requested 100201 40000 2",
		"1200 1 kvm_mmu_set_spte 100200 40000ee7 2",
		"1300 1 kvm_entry",
		"2000 9 kvm_unmap_hva_range 7fb840200000 7fb840400000",
		"3000 1 kvm_page_fault 1003ff000 6",
		"3100 1 kvm_mmu_spte_requested 1003ff 51234 1",
		"3200 1 kvm_mmu_set_spte 1003ff 51234e67 1",
		"3300 1 kvm_entry",
		NULL,
	};
	struct fault_stream s;

	if (!stream_played(&s, true, lines, 2))
		return;
	CHECK_EQ(stream_fault[0].level, 2);
	CHECK_EQ(stream_fault[1].level, 1);
	CHECK_EQ(stream_fault[1].cause, FAULT_INVALIDATED);
	CHECK_EQ(fault_page_level(fault_page_find(&s.pages, 0, 0x1003ff)), 1);
	CHECK_EQ(fault_page_level(fault_page_find(&s.pages, 0, 0x1003fe)), 2);
	fault_stream_destroy(&s);
}

/* --- both ---------------------------------------------------------------------------------- */

/* Events were lost: what is open is given up, and never reported half. */
static void gap_breaks_what_is_open(void)
{
	static const char *const before[] = { "1000 7 kvm_mmu_pagetable_walk 100001000 4", NULL };
	static const char *const after[] = { "9000 7 kvm_mmu_spte_requested 100001 111 1",
					     "9100 7 kvm_mmu_set_spte 100001 111e67 1", NULL };
	struct fault_stream s;

	stream_start(&s, false);
	feed(&s, before);
	fault_stream_gap(&s);
	stream_play(&s, after);
	CHECK_EQ(s.counts.broken, 1);
	REQUIRE_EQ(stream_nr_faults, 1);
	CHECK(stream_fault[0].late); /* the fault is sure, its time is not */
	CHECK_EQ(stream_fault[0].ns, 0);
	fault_stream_destroy(&s);
}

const struct test_case lab_fault_tests[] = {
	TEST(shadow_prefetch),
	TEST(shadow_zero_page_then_write),
	TEST(shadow_invalidated_then_copied),
	TEST(shadow_set_before_the_lock),
	TEST(shadow_two_vcpus_one_page),
	TEST(shadow_without_paging),
	TEST(shadow_failed_and_unfinished),
	TEST(sleep_and_preemption),
	TEST(tdp_zero_page_then_write),
	TEST(tdp_fast_and_zapped),
	TEST(ept_qualification),
	TEST(huge_pages),
	TEST(gap_breaks_what_is_open),
	TEST_END,
};
