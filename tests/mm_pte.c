/* SPDX-License-Identifier: MIT */
/* Page table entries, exhaustively: an integer counts through all rights and software bits. */
#include "tests/mm_env.h"

static void values(void)
{
	for (int prot = 0; prot < 8; prot++) {
		for (u64 bits = 0; bits < 8; bits++) {
			u64 soft = (bits & 1 ? PTE_A : 0) | (bits & 2 ? PTE_D : 0) | (bits & 4 ? PTE_SPECIAL : 0);
			pfn_t pfn = bits * 0x123456789 & 0xffffffffff;
			pte_t pte = { pte_make(pfn, prot).val | soft };

			CHECK(!pte_none(pte));
			CHECK(pte.val & (PTE_P | PTE_PROTNONE));
			CHECK_EQ(pte_pfn(pte), pfn);
			CHECK_EQ(pte_prot(pte), prot);
			CHECK_EQ(pte_special(pte), !!(bits & 4));
			CHECK_EQ(pte_write(pte), !!(prot & TAIN_PROT_WRITE));
			CHECK_EQ(!(pte.val & PTE_P), !prot); /* what nobody may touch, the processor must not */
			for (int access = 1; access < 8; access++)
				CHECK_EQ(pte_allows(pte, access), (prot & access) == access);
			for (int other = 0; other < 8; other++) {
				pte_t changed = pte_modify(pte, other);

				CHECK_EQ(pte_prot(changed), other);
				CHECK_EQ(pte_pfn(changed), pfn);
				CHECK_EQ(changed.val & (PTE_A | PTE_D | PTE_SPECIAL), soft);
				CHECK_EQ(pte_modify(changed, prot).val, pte.val);
			}
		}
	}
}

static void levels(void)
{
	CHECK_EQ(pt_span(1), PAGE_SIZE);
	CHECK_EQ(pt_span(2), 2ull << 20);
	CHECK_EQ(pt_span(3), 1ull << 30);
	CHECK_EQ(pt_span(4), 1ull << 39);
	CHECK_EQ(pt_span(4) * 256, TAIN_TASK_SIZE);
	for (unsigned int level = 1; level <= PT_LEVELS; level++) {
		CHECK_EQ(pt_index(0, level), 0);
		CHECK_EQ(pt_index(5 * pt_span(level), level), 5);
		CHECK_EQ(pt_index(5 * pt_span(level) - 1, level), 4);
	}
	CHECK_EQ(pt_index(TAIN_TASK_SIZE - 1, 4), 255);
	CHECK(pte_none((pte_t){ 0 }));
	CHECK(!pte_none(pte_make(0, 0))); /* frame 0 without rights is a page too */
}

static void touch(void)
{
	pte_t pte = pte_make(7, RW);

	CHECK_EQ(pte_touch(pte, MM_READ).val, pte.val | PTE_A);
	CHECK_EQ(pte_touch(pte, MM_WRITE).val, pte.val | PTE_A | PTE_D);
	CHECK_EQ(pte_touch(pte, MM_READ | MM_WRITE).val, pte.val | PTE_A | PTE_D);
	CHECK_EQ(pte_touch(pte, MM_EXEC).val, pte.val | PTE_A);
}

const struct test_case mm_pte_tests[] = { TEST(values), TEST(levels), TEST(touch), TEST_END };
