/* SPDX-License-Identifier: MIT */
/*
 * Aging (rule N11). The host asks under its page-table lock, so mmu_lock nests inside
 * that one, and nobody here takes a page-table lock under mmu_lock: faults ask the host
 * before they lock.
 */
#include "mmu/pt_iter.h"

/* Note that it was not accessed, unless somebody takes the entry away meanwhile. */
static void spte_make_old(struct mmu *mmu, const struct pt_iter *it)
{
	const struct mmu_format *format = mmu->format;
	u64 old = it->old;

	while (spte_leaf(format, old, it->level) && spte_accessed(format, old)) {
		if (spte_try_change(mmu, it->sptep, it->gfn, it->level, &old, old & ~format->accessed))
			break;
	}
}

static bool age_gfns(struct mmu *mmu, gfn_t start, gfn_t end, bool clear)
{
	bool young = false;
	struct pt_iter it;

	for_each_spte(&it, mmu, start, end)
	{
		if (!spte_leaf(mmu->format, it.old, it.level) || !spte_accessed(mmu->format, it.old))
			continue;
		young = true;
		if (!clear)
			break;
		spte_make_old(mmu, &it);
	}
	return young;
}

bool mmu_age(struct mmu *mmu, hva_t start, hva_t end, bool clear, bool flush)
{
	int idx = srcu_read_lock(&mmu->srcu);
	const struct memslots *slots = mmu_slots(mmu);
	gfn_t first, last_end;
	bool young = false;

	read_lock(&mmu->lock);
	for_each_span(s, slots, start, end)
	{
		if (span_clip(s, start, end, &first, &last_end))
			young |= age_gfns(mmu, first, last_end, clear);
	}
	/* Or a TLB goes on serving the page, and nobody notes it. */
	if (young && flush)
		mmu_flush_remote_tlbs(mmu);
	read_unlock(&mmu->lock);
	srcu_read_unlock(&mmu->srcu, idx);
	return young;
}
