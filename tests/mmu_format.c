/* SPDX-License-Identifier: MIT */
/*
 * Entry formats. legal() is compared, over every combination of attribute bits at
 * every level, with an oracle written from the manual's field positions alone.
 */
#include "mmu/ept_x86.h"
#include "tests/mmu_env.h"

#include <stdio.h>

#define F (&mmu_format_ept)

/* An entry taken apart by bit positions; nothing here comes from mmu/. */
struct ept_fields {
	unsigned int read : 1, write : 1, exec : 1, memtype : 3, ipat : 1, large : 1, accessed : 1, dirty : 1;
	unsigned int exec_user : 1, bit11 : 1;
	u64 frame;
	unsigned int high, host_w, mmu_w, frozen;
};

static struct ept_fields ept_parse(u64 e)
{
	return (struct ept_fields){
		.read = e >> 0 & 1,
		.write = e >> 1 & 1,
		.exec = e >> 2 & 1,
		.memtype = e >> 3 & 7,
		.ipat = e >> 6 & 1,
		.large = e >> 7 & 1,
		.accessed = e >> 8 & 1,
		.dirty = e >> 9 & 1,
		.exec_user = e >> 10 & 1,
		.bit11 = e >> 11 & 1,
		.frame = e >> 12 & 0xffffffffffull,
		.high = (unsigned int)(e >> 52 & 0xfff) & ~0xe0u, /* 52..63 without tain's 57, 58, 59 */
		.host_w = e >> 57 & 1,
		.mmu_w = e >> 58 & 1,
		.frozen = e >> 59 & 1,
	};
}

/* NULL: legal. Otherwise the rule that is broken. */
static const char *oracle_leaf(struct ept_fields f, unsigned int level)
{
	static const u64 reserved_frame_bits[] = { 0, 0, 0x1ff, 0x3ffff };

	if (level == 4)
		return "no 512 GiB pages";
	if (level == 1 && f.large)
		return "large bit at level 1";
	if (f.memtype != 6 || !f.ipat)
		return "memory is write-back, the guest's PAT ignored";
	if (f.frame & reserved_frame_bits[level])
		return "misaligned large frame";
	if (f.write && !f.mmu_w)
		return "W without MMUW";
	if (f.mmu_w && !f.host_w)
		return "MMUW without HostW";
	return NULL;
}

static const char *oracle(u64 entry, unsigned int level)
{
	struct ept_fields f = ept_parse(entry);
	bool present = f.read || f.write || f.exec;

	if (f.high || f.exec_user || f.bit11)
		return "unknown bits";
	if (!present) {
		bool rest = f.memtype || f.ipat || f.large || f.accessed || f.dirty || f.host_w || f.mmu_w;

		if (!entry || (f.frozen && !rest))
			return NULL;
		return "junk in a non-present entry";
	}
	if (f.frozen)
		return "frozen but present";
	if (!f.read)
		return "write or execute without read";
	if (level == 1 || f.large)
		return oracle_leaf(f, level);
	if (!f.write || !f.exec)
		return "a table restricts rights";
	if (f.memtype || f.ipat || f.dirty || f.host_w || f.mmu_w)
		return "leaf attributes in a table entry";
	return NULL;
}

static void describe(u64 entry, char *text, size_t bytes)
{
	static const char *const names[64] = {
		[0] = "R",   [1] = "W",	   [2] = "X",	   [3] = "mt0",	  [4] = "mt1",
		[5] = "mt2", [6] = "IPAT", [7] = "PS",	   [8] = "A",	  [9] = "D",
		[10] = "XU", [11] = "b11", [57] = "HostW", [58] = "MMUW", [59] = "frozen"
	};
	unsigned int bit;
	size_t used = 0;

	text[0] = 0;
	for (bit = 0; bit < 64 && used + 16 < bytes; bit++) {
		if (entry >> bit & 1)
			used += (size_t)(names[bit] ? snprintf(text + used, bytes - used, "%s ", names[bit])
						    : snprintf(text + used, bytes - used, "b%u ", bit));
	}
}

/* Every attribute bit, both kinds of frame misalignment, and a stray high bit on each side of tain's own. */
static const u8 counted_bits[] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 57, 58, 59, 12, 21, 52, 63 };

static u64 spread(u32 count)
{
	u64 entry = 1ull << 30; /* a frame aligned at every level */
	size_t i;

	for (i = 0; i < sizeof(counted_bits); i++) {
		if (count >> i & 1)
			entry |= 1ull << counted_bits[i];
	}
	return entry;
}

static void legality_is_exact(void)
{
	u64 legal = 0;
	char text[128];
	u32 count;

	for (count = 0; count < 1u << sizeof(counted_bits); count++) {
		unsigned int level;
		u64 entry = spread(count);

		for (level = 1; level <= 4; level++) {
			const char *broken = oracle(entry, level);

			legal += !broken;
			if (ept_legal(entry, level) == !broken)
				continue;
			describe(entry, text, sizeof(text));
			CHECK_MSG(false, "level %u, %s: legal() says %d, the oracle says %s", level, text,
				  ept_legal(entry, level), broken ? broken : "legal");
			return;
		}
	}
	/*
	 * leaf: X, A, D free, W/MMUW/HostW in 4 ways: 32, with frame bits 12 and 21 free
	 * at level 1 (x4), 21 free at level 2 (x2); tables: A, 12, 21 at levels 2 to 4;
	 * frozen: 12, 21 at four levels; a frame alone is junk.
	 */
	CHECK_EQ(legal, 32 * 4 + 32 * 2 + 32 + 3 * 8 + 4 * 4);
	CHECK(ept_legal(0, 1));
	CHECK(!ept_legal(PAGE_SIZE, 1));
}

static void made_entries_are_legal(void)
{
	unsigned int level, writable;

	for (level = 1; level <= 4; level++) {
		pfn_t pfn = 3ull << 18;

		if (level > 1)
			CHECK(spte_table(F, spte_make_table(F, pfn), level) &&
			      ept_legal(spte_make_table(F, pfn), level));
		CHECK(ept_legal(spte_make_frozen(F, pfn), level));
		CHECK(!spte_present(F, spte_make_frozen(F, pfn)) && spte_frozen(F, spte_make_frozen(F, pfn)));
		CHECK_EQ(spte_pfn(F, spte_make_frozen(F, pfn)), pfn);
		for (writable = 0; level < 4 && writable < 2; writable++) {
			u64 leaf = spte_make_leaf(F, pfn, level, writable);

			CHECK_EQ(oracle(leaf, level) == NULL, true);
			CHECK(ept_legal(leaf | spte_note(F, MM_WRITE), level));
			CHECK(spte_leaf(F, leaf, level) && !spte_table(F, leaf, level) && !spte_frozen(F, leaf));
			CHECK_EQ(spte_pfn(F, leaf), pfn);
			CHECK_EQ(spte_writable(F, leaf), writable);
			CHECK(!spte_accessed(F, leaf) && !spte_dirty(F, leaf));
		}
	}
}

static void rights_and_notes(void)
{
	u64 ro = spte_make_leaf(F, 7, 1, false), rw = spte_make_leaf(F, 7, 1, true);
	static const struct {
		const char *name;
		unsigned int rights;
		bool ro, rw, dirties;
	} table[] = {
		{ "read", MM_READ, true, true, false },
		{ "write", MM_WRITE, false, true, true },
		{ "execute", MM_EXEC, true, true, false },
		{ "read and write", MM_READ | MM_WRITE, false, true, true },
		{ "all", MM_READ | MM_WRITE | MM_EXEC, false, true, true },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(table); i++) {
		u64 note = spte_note(F, table[i].rights);

		CHECK_MSG(spte_allows(F, ro, table[i].rights) == table[i].ro, "%s of a read-only leaf", table[i].name);
		CHECK_MSG(spte_allows(F, rw, table[i].rights) == table[i].rw, "%s of a writable leaf", table[i].name);
		CHECK_MSG(!spte_allows(F, 0, table[i].rights), "%s of nothing", table[i].name);
		CHECK_MSG(spte_accessed(F, note) && spte_dirty(F, note) == table[i].dirties, "notes of %s",
			  table[i].name);
	}
}

static void indexes_cover_the_address(void)
{
	gfn_t gfn = 1ull << 27 | 2ull << 18 | 3ull << 9 | 4;

	CHECK_EQ(pt_index(gfn, 4), 1);
	CHECK_EQ(pt_index(gfn, 3), 2);
	CHECK_EQ(pt_index(gfn, 2), 3);
	CHECK_EQ(pt_index(gfn, 1), 4);
	CHECK_EQ(pt_pages(1), 1);
	CHECK_EQ(pt_pages(2), 512);
	CHECK_EQ(pt_pages(3), 512 * 512);
	CHECK_EQ(format_max_gfn(F), 1ull << 36);
}

const struct test_case mmu_format_tests[] = {
	TEST(legality_is_exact),
	TEST(made_entries_are_legal),
	TEST(rights_and_notes),
	TEST(indexes_cover_the_address),
	TEST_END,
};
