/* SPDX-License-Identifier: MIT */
/*
 * The subscriber's side of the notifier. Start and end of a section look for its slots
 * among their spans. A range that hits none touches neither the mmu lock nor the counters
 * (rules K1, K2). Start and end see the same slots, so both hit or neither (rule K3).
 */
#include "mmu/zap.h"

static inline void section_open(struct mmu *mmu, const struct mmu_notifier_range *range)
{
	u64 others = mmu->in_progress;

	if (!others) {
		WRITE_ONCE(mmu->range_start, (gfn_t)-1);
		WRITE_ONCE(mmu->range_end, 0);
	}
	WRITE_ONCE(mmu->in_progress, others + 1);
	if (mutant(MUTANT_K2_SEQ_AT_START))
		smp_store_release(&mmu->invalidate_seq, mmu->invalidate_seq + 1);
	mmu_trace(invalidate_start, range->start, range->end, mmu->in_progress, mmu->invalidate_seq);
}

static inline bool section_zap(struct mmu *mmu, gfn_t start, gfn_t end, bool may_block, bool flush)
{
	/* One hull for all open sections: too wide costs a retry, too narrow a guest's memory. */
	WRITE_ONCE(mmu->range_start, mmu_hostile ? 0 : min(mmu->range_start, start));
	WRITE_ONCE(mmu->range_end, mmu_hostile ? (gfn_t)-1 : max(mmu->range_end, end));
	may_block |= mutant(MUTANT_N6_CALLBACK_SLEEPS); /* catalogue 18; rule K13 */
	return zap_range_locked(mmu, start, end, may_block, flush);
}

/*
 * The count of ended sections grows here, not at start (catalogue 19a; mutant
 * k2-seq-at-start; test k2_sequence_grows_at_the_end):
 *
 *   vCPU                                       host, unmapping p
 *   ----                                       -----------------
 *                                              start: in_progress++ (wrong: seq++), zap, flush
 *   seq = invalidate_seq
 *   mm_fault_in() -> p, still mapped
 *                                              clear the host's entry, free p
 *                                              end: seq++, in_progress-- (wrong: no seq++)
 *   read_lock(mmu_lock)
 *   stale? seq has changed: retry (wrong: maps p)
 *
 * And it grows before in_progress falls: a reader without the lock sees one or the other.
 */
static inline void section_close(struct mmu *mmu, const struct mmu_notifier_range *range)
{
	if (!mmu->in_progress) {
		/* An end without its start: slots changed in between (catalogue 20). */
		mmu_poison(mmu, &(struct mmu_mismatch){ .rule = "a section ended that never began (rule K3)" });
		return;
	}
	/* Release: pairs with the acquire in fault_prepare(). */
	if (!mutant(MUTANT_K2_SEQ_AT_START))
		smp_store_release(&mmu->invalidate_seq, mmu->invalidate_seq + 1);
	smp_wmb(); /* pairs with the smp_rmb() in fault_stale_hint() */
	WRITE_ONCE(mmu->in_progress, mmu->in_progress - 1);
	mmu_trace(invalidate_end, range->start, range->end, mmu->in_progress, mmu->invalidate_seq);
}

/* @s: the first that is touched. */
static inline void section_start(struct mmu *mmu, const struct slot_span *s, const struct mmu_notifier_range *range)
{
	hva_t from = range->start, to = range->end;
	bool flush = false;
	gfn_t start, end;

	write_lock(&mmu->lock);
	section_open(mmu, range);
	do {
		if (span_clip(s, from, to, &start, &end))
			flush = section_zap(mmu, start, end, range->blockable, flush);
	} while ((++s)->start < to);
	race_point("invalidate:after_zap");
	if (flush)
		mmu_flush_remote_tlbs_srcu(mmu);
	write_unlock(&mmu->lock);
}

static int invalidate_range_start(struct mmu_notifier *subscription, const struct mmu_notifier_range *range)
{
	struct mmu *mmu = container_of(subscription, struct mmu, notifier);
	const struct slot_span *touched;
	int idx;

	mmu_count(mmu, MMU_NR_INVALIDATIONS);
	mmu_section_enter(mmu);
	idx = srcu_read_lock(&mmu->srcu);
	touched = slots_touched(mmu_slots(mmu), range->start, range->end);
	if (touched)
		section_start(mmu, touched, range);
	srcu_read_unlock(&mmu->srcu, idx);
	return 0;
}

static void invalidate_range_end(struct mmu_notifier *subscription, const struct mmu_notifier_range *range)
{
	struct mmu *mmu = container_of(subscription, struct mmu, notifier);
	int idx = srcu_read_lock(&mmu->srcu);
	bool touched = slots_touched(mmu_slots(mmu), range->start, range->end);

	srcu_read_unlock(&mmu->srcu, idx);
	if (touched) {
		write_lock(&mmu->lock);
		section_close(mmu, range);
		race_point("invalidate:after_zap");
		write_unlock(&mmu->lock);
	}
	mmu_section_leave(mmu);
}

/* rule N8: everything goes and nothing comes back. Twice does no harm. */
static void release(struct mmu_notifier *subscription, struct notifier_mm *mm)
{
	struct mmu *mmu = container_of(subscription, struct mmu, notifier);

	write_lock(&mmu->lock);
	mmu->released = true;
	if (zap_tables_locked(mmu, 0, format_max_gfn(mmu->format), true, false))
		mmu_flush_remote_tlbs(mmu);
	write_unlock(&mmu->lock);
}

static bool clear_flush_young(struct mmu_notifier *subscription, struct notifier_mm *mm, hva_t start, hva_t end)
{
	return mmu_age(container_of(subscription, struct mmu, notifier), start, end, true, true);
}

static bool clear_young(struct mmu_notifier *subscription, struct notifier_mm *mm, hva_t start, hva_t end)
{
	return mmu_age(container_of(subscription, struct mmu, notifier), start, end, true, false);
}

static bool test_young(struct mmu_notifier *subscription, struct notifier_mm *mm, hva_t start, hva_t end)
{
	return mmu_age(container_of(subscription, struct mmu, notifier), start, end, false, false);
}

const struct mmu_notifier_ops mmu_notifier_callbacks = {
	.release = release,
	.invalidate_range_start = invalidate_range_start,
	.invalidate_range_end = invalidate_range_end,
	.clear_flush_young = clear_flush_young,
	.clear_young = clear_young,
	.test_young = test_young,
};
