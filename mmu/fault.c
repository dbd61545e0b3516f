/* SPDX-License-Identifier: MIT */
/*
 * The fault path. What makes it right is one question asked under the mmu lock:
 * is what the host said still so?
 *
 * A whole section inside a fault (catalogue 19; test k4_sequence_is_checked). Page p
 * is mapped in the host:
 *
 *   vCPU                                       host, unmapping p
 *   ----                                       -----------------
 *   seq = invalidate_seq            (rule K4)
 *   mm_fault_in() -> p
 *                                              start: in_progress++, zap (nothing there yet), flush
 *                                              clear the host's entry, free p
 *                                              end: seq++, in_progress--
 *   read_lock(mmu_lock)
 *   stale? seq has changed: retry
 *   read_unlock(mmu_lock)
 *
 * Without the question (mutant k4-no-seq-check) the vCPU maps a free frame. Asked
 * before the lock (k4-check-before-lock; test k4_check_is_under_the_lock), the whole
 * right column fits in between. With seq sampled after mm_fault_in()
 * (k4-snapshot-after-gup; test k4_sequence_is_sampled_first), the right column fits
 * between the two and goes unnoticed as well.
 *
 * A fault that ends inside a section (catalogue 19b; test
 * k4_section_under_way_is_respected):
 *
 *   vCPU                                       host, unmapping p
 *   ----                                       -----------------
 *   seq = invalidate_seq
 *   mm_fault_in() -> p
 *                                              start: in_progress++, zap (nothing there yet), flush
 *   read_lock(mmu_lock)
 *   stale? seq is the same, but a section of
 *   this gfn is in progress: retry
 *   read_unlock(mmu_lock)
 *                                              clear the host's entry, free p
 *                                              end: seq++, in_progress--
 *
 * Without in_progress (mutant k4-no-in-progress) the vCPU maps p just before it is freed.
 */
#include "lib/probe.h"
#include "mmu/mmu_internal.h"

struct fault {
	/* The question. */
	struct mmu_vcpu *vcpu;
	gfn_t gfn;
	enum mm_access access;
	/* Our side: read before the host was asked. */
	u64 seq;
	hva_t hva;
	/* The host's answer. */
	struct page *page;
	bool writable;
};

/* Both words are written under the lock alone; without it the answer is a hint, true or false. */
static bool fault_stale_hint(struct mmu *mmu, const struct fault *fault)
{
	if (mutant(MUTANT_K4_NO_SEQ_CHECK))
		return false;
	if (READ_ONCE(mmu->in_progress) && !mutant(MUTANT_K4_NO_IN_PROGRESS) &&
	    fault->gfn >= READ_ONCE(mmu->range_start) && fault->gfn < READ_ONCE(mmu->range_end))
		return true;
	smp_rmb(); /* pairs with section_close(): in_progress of before is seen with the seq of before or later */
	return READ_ONCE(mmu->invalidate_seq) != fault->seq;
}

/* rule K4. */
static bool fault_stale_locked(struct mmu *mmu, const struct fault *fault)
{
	lockdep_assert_held(&mmu->lock);
	return fault_stale_hint(mmu, fault);
}

/* The table below *sptep, made if need be; NULL with *ret when there is none to be had. */
static u64 *fault_descend(struct mmu *mmu, const struct fault *fault, u64 *sptep, unsigned int level, int *ret)
{
	const struct mmu_format *format = mmu->format;
	u64 old = smp_load_acquire(sptep); /* pairs with the cmpxchg below, on another vCPU */

	while (!spte_present(format, old)) {
		u64 *table;

		if (spte_frozen(format, old)) {
			*ret = MMU_FAULT_RETRY;
			return NULL;
		}
		table = table_alloc(mmu);
		if (!table) {
			*ret = -ENOMEM;
			return NULL;
		}
		race_point("mmu_fault:before_link");
		if (spte_try_change(mmu, sptep, fault->gfn, level, &old,
				    spte_make_table(format, table_pfn(mmu, table))))
			return table;
		table_free(mmu, table); /* another vCPU was first; nobody has seen ours */
	}
	BUG_ON(spte_leaf(format, old, level));
	return table_at(mmu, spte_pfn(format, old));
}

/* rule K10: another frame stands here. Somebody missed an invalidation. */
static int fault_conflict(struct mmu *mmu, const struct fault *fault, u64 old)
{
	const struct mmu_mismatch why = {
		.gfn = fault->gfn,
		.mirrored = spte_pfn(mmu->format, old),
		.host = page_to_pfn(fault->page),
		.rule = "a fault met another frame under a present entry (rule K10)",
	};

	return mmu_poison(mmu, &why);
}

static int fault_map_leaf(struct mmu *mmu, const struct fault *fault, u64 *sptep)
{
	const struct mmu_format *format = mmu->format;
	u64 old = smp_load_acquire(sptep);
	pfn_t pfn = page_to_pfn(fault->page);
	u64 new;

	do {
		if (spte_frozen(format, old))
			return MMU_FAULT_RETRY;
		new = spte_make_leaf(format, pfn, PT_LEVEL_4K, fault->writable) | spte_note(format, fault->access);
		if (spte_present(format, old)) {
			if (spte_pfn(format, old) != pfn)
				return fault_conflict(mmu, fault, old);
			if (spte_allows(format, old, fault->access))
				return MMU_FAULT_SPURIOUS;
			new |= old; /* rights only widen, notes stay */
		}
	} while (!spte_try_change(mmu, sptep, fault->gfn, PT_LEVEL_4K, &old, new));
	return MMU_FAULT_FIXED;
}

static int fault_map_locked(struct mmu *mmu, const struct fault *fault)
{
	u64 *table = mmu->root;
	unsigned int level;
	int ret = 0;

	for (level = mmu->format->levels; level > PT_LEVEL_4K; level--) {
		table = fault_descend(mmu, fault, &table[pt_index(fault->gfn, level)], level, &ret);
		if (!table)
			return ret;
	}
	return fault_map_leaf(mmu, fault, &table[pt_index(fault->gfn, PT_LEVEL_4K)]);
}

static int fault_install(struct mmu *mmu, const struct fault *fault)
{
	bool stale = fault_stale_hint(mmu, fault); /* spares the lock when there is no hope */
	int ret;

	if (stale)
		return MMU_FAULT_RETRY;
	race_point("mmu_fault:before_lock");
	read_lock(&mmu->lock);
	if (mmu->released)
		ret = -EFAULT;
	else if (!mutant(MUTANT_K4_CHECK_BEFORE_LOCK) && fault_stale_locked(mmu, fault))
		ret = MMU_FAULT_RETRY;
	else
		ret = fault_map_locked(mmu, fault);
	read_unlock(&mmu->lock);
	return ret;
}

/* Hostile mode: what a race forces once in a while happens to every seventh fault of a thread. */
static bool fault_hostile_retry(void)
{
#if PROVE
	static __thread u32 nth;

	return mmu_hostile && ++nth % 7 == 0;
#else
	return false;
#endif
}

/* Our side of the question: sequence, slot, address. Return: 0 or the fault's outcome. */
static int fault_prepare(struct mmu *mmu, struct fault *fault)
{
	const struct memslot *slot;

	/*
	 * rule K4: the sequence before everything else. Acquire: pairs with the
	 * release in section_close(); who sees the new count asks the new host.
	 */
	fault->seq = smp_load_acquire(&mmu->invalidate_seq);
	race_point("mmu_fault:after_snapshot");
	slot = slot_find(mmu_slots(mmu), fault->gfn);
	if (!slot)
		return MMU_FAULT_MMIO;
	if (slot->flags & SLOT_INVALID)
		return MMU_FAULT_RETRY;
	if (slot->flags & MMU_SLOT_READONLY && fault->access == MM_WRITE)
		return MMU_FAULT_MMIO;
	fault->hva = slot_hva(slot, fault->gfn);
	fault->writable = !(slot->flags & MMU_SLOT_READONLY);
	return 0;
}

static int fault_resolve(struct mmu *mmu, struct fault *fault)
{
	struct mm_fault host;
	int ret = fault_prepare(mmu, fault);

	if (ret)
		return ret;
	/* The guest executes what the host may read. */
	ret = mm_fault_in(mmu->mm, fault->hva, fault->access == MM_EXEC ? MM_READ : fault->access, &host);
	if (ret)
		return ret;
	race_point("mmu_fault:after_gup");
	if (mutant(MUTANT_K4_SNAPSHOT_AFTER_GUP))
		fault->seq = READ_ONCE(mmu->invalidate_seq);
	fault->page = host.page;
	fault->writable &= host.writable;
	ASSERT(fault->writable || fault->access != MM_WRITE);
	ret = fault_hostile_retry() ? MMU_FAULT_RETRY : fault_install(mmu, fault);
	/* The mirror keeps no reference: that the entry is gone before the page is rests on sections alone (rule N5).
	 */
	put_page(host.page);
	return ret;
}

int mmu_fault(struct mmu_vcpu *vcpu, gpa_t gpa, enum mm_access access)
{
	struct mmu *mmu = vcpu->mmu;
	struct fault fault = { .vcpu = vcpu, .gfn = gpa >> PAGE_SHIFT, .access = access };
	int idx, ret;

	ASSERT(READ_ONCE(vcpu->mode) == MMU_OUTSIDE);
	if (mmu_poisoned(mmu))
		return -EIO;
	probe3(fault_begin, vcpu->id, fault.gfn, access);
	/* Held across the sleep: a slot that goes waits for us before it is zapped (rule K3). */
	idx = srcu_read_lock(&mmu->srcu);
	ret = fault_resolve(mmu, &fault);
	srcu_read_unlock(&mmu->srcu, idx);

	mmu_count(mmu, MMU_NR_FAULTS);
	if (ret == MMU_FAULT_RETRY)
		mmu_count(mmu, MMU_NR_RETRIES);
	else if (ret == MMU_FAULT_SPURIOUS)
		mmu_count(mmu, MMU_NR_SPURIOUS);
	mmu_trace(fault, vcpu->id, fault.gfn, access, ret);
	probe3(fault_end, vcpu->id, fault.gfn, ret);
	return ret;
}
