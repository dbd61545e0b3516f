/* SPDX-License-Identifier: MIT */
/*
 * The page walker that a processor has in hardware: no lock of tain's, tables kept
 * alive by RCU, accessed and dirty noted in the leaf by cmpxchg.
 */
#include "mmu/pt_iter.h"

/*
 * Note the access in the leaf, as it was found or not at all: a bit set in an entry
 * that was zapped meanwhile would be set in somebody else's. Return: may the access go on?
 */
static bool note_access(struct mmu *mmu, u64 *sptep, u64 *spte, unsigned int level, enum mm_access access)
{
	const struct mmu_format *format = mmu->format;

	for (;;) {
		u64 noted = *spte | spte_note(format, access);

		if (!spte_leaf(format, *spte, level) || !spte_allows(format, *spte, access))
			return false;
		if (*spte == noted)
			return true;
		if (try_cmpxchg(sptep, spte, noted)) {
			*spte = noted;
			return true;
		}
	}
}

bool mmu_walk(struct mmu_vcpu *vcpu, gpa_t gpa, enum mm_access access, struct mmu_translation *out)
{
	struct mmu *mmu = vcpu->mmu;
	gfn_t gfn = gpa >> PAGE_SHIFT;
	unsigned int level;
	u64 *sptep;
	u64 spte;
	bool found;

	ASSERT(READ_ONCE(vcpu->mode) == MMU_IN_GUEST);
	if (gfn >= format_max_gfn(mmu->format))
		return false;
	rcu_read_lock();
	sptep = pt_find(mmu, gfn, &spte, &level);
	found = note_access(mmu, sptep, &spte, level, access);
	rcu_read_unlock();
	race_point("walk:after_walk");
	if (!found)
		return false;
	out->pfn = spte_pfn(mmu->format, spte) + (gfn & (pt_pages(level) - 1));
	out->host = mmu->arena_base + (out->pfn << PAGE_SHIFT);
	/* Not before it is dirty: the first write must come by here to note it. */
	out->writable = spte_writable(mmu->format, spte) && spte_dirty(mmu->format, spte);
	return true;
}
