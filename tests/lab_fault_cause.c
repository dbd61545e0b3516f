/* SPDX-License-Identifier: MIT */
/* Why a fault came and what the host did for it: nothing is said that the events do not say. */
#include "tests/lab_fault.h"
#include "tests/lab_suites.h"

/*
 * A read has mapped the page of zeros; then its entry goes without an event, as when shadow
 * pages are dropped for a memslot change. The walk of the write says P=0: no right was missing.
 */
static void write_to_no_entry(void)
{
	static const char *const lines[] = {
		"1000 7 kvm_mmu_pagetable_walk 100329040 4",
		"2000 7 kvm_mmu_spte_requested 100329 3b34 1",
		"3000 7 kvm_mmu_set_spte 100329 3b34825 1",
		"4000 7 kvm_mmu_pagetable_walk 100329040 6",
		"5000 7 kvm_mmu_spte_requested 100329 1234 1",
		"6000 7 kvm_mmu_set_spte 100329 1234e67 1",
		NULL,
	};
	struct fault_stream s;

	if (!stream_played(&s, false, lines, 2))
		return;
	CHECK_EQ(stream_fault[1].access, FAULT_WRITES);
	CHECK_EQ(stream_fault[1].cause, FAULT_UNTOLD);
	fault_stream_destroy(&s);
}

/* A first touch whose thread has to reclaim a page far away first: nothing is copied. */
static void reclaim_is_no_copy(void)
{
	static const char *const lines[] = {
		"1000 7 kvm_mmu_pagetable_walk 100001000 6",
		"1100 7 kvm_unmap_hva_range 7fb880001000 7fb880002000",
		"1200 7 mm_page_alloc 111 0",
		"2000 7 kvm_mmu_spte_requested 100001 111 1",
		"3000 7 kvm_mmu_set_spte 100001 111e67 1",
		/* gfn 5 has no hva: what was unmapped may be that, or anything. */
		"5000 7 kvm_mmu_pagetable_walk 5000 6",
		"5100 7 kvm_unmap_hva_range 7fb880001000 7fb880002000",
		"5200 7 mm_page_alloc 112 0",
		"6000 7 kvm_mmu_spte_requested 5 112 1",
		"7000 7 kvm_mmu_set_spte 5 112e67 1",
		NULL,
	};
	struct fault_stream s;

	if (!stream_played(&s, false, lines, 2))
		return;
	CHECK_EQ(stream_fault[0].cause, FAULT_NEW);
	CHECK_EQ(stream_fault[0].host, FAULT_HOST_ALLOCATED);
	CHECK_EQ(stream_fault[1].host, FAULT_HOST_ALLOCATED);
	fault_stream_destroy(&s);
}

/* Its thread splits a huge page before it copies: two ranges of its own, and the other thread's is still the cause. */
static void split_and_copied(void)
{
	static const char *const lines[] = {
		"1000 7 kvm_mmu_pagetable_walk 100329040 4",
		"2000 7 kvm_mmu_spte_requested 100329 111 1",
		"3000 7 kvm_mmu_set_spte 100329 111e67 1",
		"4000 9 kvm_unmap_hva_range 7fb840329000 7fb84032a000",
		"5000 7 kvm_mmu_pagetable_walk 100329040 6",
		"5100 7 kvm_unmap_hva_range 7fb840200000 7fb840400000",
		"5150 7 mm_page_alloc 222 0",
		"5200 7 kvm_unmap_hva_range 7fb840329000 7fb84032a000",
		"5400 7 kvm_mmu_spte_requested 100329 222 1",
		"5500 7 kvm_mmu_set_spte 100329 222e67 1",
		NULL,
	};

	stream_second_is(false, lines, FAULT_INVALIDATED, 9);
	CHECK_EQ(stream_fault[1].host, FAULT_HOST_COPIED);
}

/* KVM drops a page's entry for a memslot change; that the host takes the page away afterwards is not why. */
static void zapped_then_invalidated(void)
{
	static const char *const lines[] = {
		"1000 1 kvm_page_fault 100001000 6",
		"1100 1 kvm_mmu_spte_requested 100001 39eb 1",
		"1200 1 kvm_mmu_set_spte 100001 39ebe67 1",
		"1300 1 kvm_entry",
		"2000 8 kvm_tdp_mmu_spte_changed 100001 39ebe67 0 1",
		"2500 9 kvm_unmap_hva_range 7fb840001000 7fb840002000",
		"3000 1 kvm_page_fault 100001000 6",
		"3100 1 kvm_mmu_spte_requested 100001 39ec 1",
		"3200 1 kvm_mmu_set_spte 100001 39ece67 1",
		"3300 1 kvm_entry",
		NULL,
	};

	stream_second_is(true, lines, FAULT_ZAPPED, 0);
}

/* Invalidated twice before it faults: the first took the entry away. */
static void invalidated_twice(void)
{
	static const char *const lines[] = {
		"1000 1 kvm_page_fault 100001000 6",
		"1100 1 kvm_mmu_spte_requested 100001 39eb 1",
		"1200 1 kvm_mmu_set_spte 100001 39ebe67 1",
		"1300 1 kvm_entry",
		"2000 8 kvm_unmap_hva_range 7fb840001000 7fb840002000",
		"2100 8 kvm_tdp_mmu_spte_changed 100001 39ebe67 0 1",
		"2500 9 kvm_unmap_hva_range 7fb840001000 7fb840002000",
		"3000 1 kvm_page_fault 100001000 6",
		"3100 1 kvm_mmu_spte_requested 100001 39ec 1",
		"3200 1 kvm_mmu_set_spte 100001 39ece67 1",
		"3300 1 kvm_entry",
		NULL,
	};

	stream_second_is(true, lines, FAULT_INVALIDATED, 8);
}

/* Its entry was there before the trace began, and went before its eyes. Where the hva is unknown nobody can say why. */
static void mapped_before_the_trace(void)
{
	static const char *const lines[] = {
		"1000 8 kvm_unmap_hva_range 7fb840001000 7fb840002000",
		"1100 8 kvm_tdp_mmu_spte_changed 100001 39ebe67 0 1",
		"1200 8 kvm_tdp_mmu_spte_changed 100002 39ece67 0 1",
		"1300 8 kvm_tdp_mmu_spte_changed 5 39ede67 0 1",
		"3000 1 kvm_page_fault 100001000 6",
		"3100 1 kvm_mmu_spte_requested 100001 39ec 1",
		"3200 1 kvm_mmu_set_spte 100001 39ece67 1",
		"4000 1 kvm_page_fault 100002000 6",
		"4100 1 kvm_mmu_spte_requested 100002 39ec 1",
		"4200 1 kvm_mmu_set_spte 100002 39ece67 1",
		"5000 1 kvm_page_fault 5000 6",
		"5100 1 kvm_mmu_spte_requested 5 39ed 1",
		"5200 1 kvm_mmu_set_spte 5 39ede67 1",
		NULL,
	};
	struct fault_stream s;

	if (!stream_played(&s, true, lines, 3))
		return;
	CHECK_EQ(stream_fault[0].cause, FAULT_INVALIDATED);
	CHECK_EQ(stream_fault[0].by, 8);
	CHECK_EQ(stream_fault[1].cause, FAULT_ZAPPED);
	CHECK_EQ(stream_fault[2].cause, FAULT_UNTOLD);
	fault_stream_destroy(&s);
}

/* One page of a huge one is invalidated, and takes the whole entry with it: all its pages fault for that. */
static void neighbour_in_a_huge_page(void)
{
	static const char *const tdp[] = {
		"1000 1 kvm_page_fault 100201000 6",
		"1100 1 kvm_mmu_spte_requested 100201 40001 2",
		"1200 1 kvm_mmu_set_spte 100200 40000ee7 2",
		"1300 1 kvm_entry",
		"2000 9 kvm_unmap_hva_range 7fb840205000 7fb840206000",
		"2100 9 kvm_tdp_mmu_spte_changed 100200 40000ee7 0 2",
		"3000 1 kvm_page_fault 100210000 6",
		"3100 1 kvm_mmu_spte_requested 100210 51234 1",
		"3200 1 kvm_mmu_set_spte 100210 51234e67 1",
		"3300 1 kvm_entry",
		NULL,
	};
	static const char *const shadow[] = {
		"1000 1 kvm_mmu_pagetable_walk 100201000 6",
		"1100 1 kvm_mmu_spte_requested 100201 40001 2",
		"1200 1 kvm_mmu_set_spte 100200 40000ee7 2",
		"2000 9 kvm_unmap_hva_range 7fb840205000 7fb840206000",
		"3000 1 kvm_mmu_pagetable_walk 100210000 6",
		/* Its own, elsewhere in the huge page, after the other's and before it in memory. */
		"3050 1 kvm_unmap_hva_range 7fb840202000 7fb840203000",
		"3100 1 kvm_mmu_spte_requested 100210 51234 1",
		"3200 1 kvm_mmu_set_spte 100210 51234e67 1",
		NULL,
	};
	struct fault_stream s;

	for (int i = 0; i < 2; i++) {
		if (!stream_played(&s, !i, i ? shadow : tdp, 2))
			return;
		CHECK_EQ(stream_fault[0].level, 2);
		CHECK_EQ(stream_fault[1].cause, FAULT_INVALIDATED);
		CHECK_EQ(stream_fault[1].by, 9);
		fault_stream_destroy(&s);
	}
}

/* A thread's first page, and a forked process's: both have a gfn 0x100001, and a VM each. */
static void forked_process(void)
{
	static const char *const lines[] = {
		"900 6 task_newtask 7 10000", /* CLONE_THREAD; the values are hexadecimal */
		"1000 7 kvm_mmu_pagetable_walk 100001000 4",
		"1100 7 kvm_mmu_spte_requested 100001 3b34 1",
		"1200 7 kvm_mmu_set_spte 100001 3b34825 1",
		"1300 7 task_newtask 14 0",
		"1400 20 task_newtask 15 10000",
		"2000 21 kvm_mmu_pagetable_walk 100001000 6",
		"2100 21 kvm_mmu_spte_requested 100001 222 1",
		"2200 21 kvm_mmu_set_spte 100001 222e67 1",
		/* What it does to its memory is nothing to the other's. */
		"3000 20 kvm_unmap_hva_range 7fb840001000 7fb840002000",
		"4000 7 kvm_mmu_pagetable_walk 100001000 4",
		"4100 7 kvm_mmu_spte_requested 100001 3b34 1",
		"4200 7 kvm_mmu_set_spte 100001 3b34825 1",
		/* A later thread of the process has the number. */
		"5000 7 task_newtask 15 10000",
		"6000 21 kvm_mmu_pagetable_walk 100001000 4",
		"6100 21 kvm_mmu_spte_requested 100001 3b34 1",
		"6200 21 kvm_mmu_set_spte 100001 3b34825 1",
		NULL,
	};
	static const struct {
		u32 space;
		enum fault_cause cause;
		hva_t hva;
	} expected[] = {
		{ 0, FAULT_NEW, STREAM_BASE + PAGE_SIZE },
		{ 20, FAULT_NEW, 0 },
		{ 0, FAULT_UNTOLD, STREAM_BASE + PAGE_SIZE },
		{ 0, FAULT_UNTOLD, STREAM_BASE + PAGE_SIZE },
	};
	struct fault_stream s;

	stream_start(&s, false);
	stream_play(&s, lines);
	CHECK_EQ(stream_nr_faults, ARRAY_SIZE(expected));
	for (u32 i = 0; i < ARRAY_SIZE(expected); i++) {
		const struct fault *f = NULL;

		/* In the order of their starts; a fault is reported when its thread's next begins. */
		for (u32 k = 0; k < min(stream_nr_faults, (u32)STREAM_FAULTS); k++)
			if (stream_fault[k].start_ns == (u64[]){ 1000, 2000, 4000, 6000 }[i])
				f = &stream_fault[k];
		if (!CHECK_MSG(f, "fault %u is there", i))
			continue;
		CHECK_EQ(f->space, expected[i].space);
		CHECK_EQ(f->cause, expected[i].cause);
		CHECK_EQ(f->hva, expected[i].hva);
	}
	CHECK_EQ(fault_page_find(&s.pages, 0, 0x100001)->count, 3);
	CHECK_EQ(fault_page_find(&s.pages, 20, 0x100001)->count, 1);
	CHECK_EQ(fault_page_space(fault_page_find(&s.pages, 20, 0x100001)), 20);
	CHECK_EQ(fault_page_gfn(fault_page_find(&s.pages, 20, 0x100001)), 0x100001);
	CHECK_EQ(s.counts.invalidations, 1);
	fault_stream_destroy(&s);
}

/* Two VMs in one process: what was seen of a gfn may be the other's. */
static void several_vms(void)
{
	static const char *const lines[] = {
		"1000 7 kvm_mmu_pagetable_walk 100001000 4",
		"1100 7 kvm_mmu_spte_requested 100001 3b34 1",
		"1200 7 kvm_mmu_set_spte 100001 3b34825 1",
		"1300 9 kvm_unmap_hva_range 7fb840001000 7fb840002000",
		"2000 8 kvm_mmu_pagetable_walk 100001000 6",
		"2100 8 kvm_mmu_spte_requested 100001 222 1",
		"2200 8 kvm_mmu_set_spte 100001 222825 1",
		"3000 8 kvm_mmu_pagetable_walk 100001000 7",
		"3100 8 kvm_mmu_spte_requested 100001 222 1",
		"3200 8 kvm_mmu_set_spte 100001 222e67 1",
		NULL,
	};
	struct fault_stream s;
	u32 seen[FAULT_CAUSE_NR] = { 0 };

	stream_start(&s, false);
	s.several = true;
	stream_play(&s, lines);
	REQUIRE_EQ(stream_nr_faults, 3);
	for (u32 i = 0; i < 3; i++)
		seen[stream_fault[i].cause]++;
	CHECK_EQ(seen[FAULT_NEW], 1);
	CHECK_EQ(seen[FAULT_UNTOLD], 1);
	CHECK_EQ(seen[FAULT_WRITE], 1);
	fault_stream_destroy(&s);
}

const struct test_case lab_fault_cause_tests[] = {
	TEST(write_to_no_entry),
	TEST(reclaim_is_no_copy),
	TEST(split_and_copied),
	TEST(zapped_then_invalidated),
	TEST(invalidated_twice),
	TEST(mapped_before_the_trace),
	TEST(neighbour_in_a_huge_page),
	TEST(forked_process),
	TEST(several_vms),
	TEST_END,
};
