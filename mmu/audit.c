/* SPDX-License-Identifier: MIT */
/*
 * The exact audit. With the mm held still, every entry of the second MMU must map
 * the page that the host maps, with no more rights; with the vCPUs held outside
 * guest mode, every TLB entry must be backed by an entry of the second MMU.
 *
 * It is exact because no section is open (each runs under a lock of the mm that the
 * audit holds) and no slot changes. Faults in flight may install during the audit;
 * what they install they looked up when the mm was what it is now, or they retry.
 * A vCPU asleep in mm_fault_in() waits for our lock, outside guest mode: it needs
 * no holding, and its TLB is read like any other. A TLB with a flush pending is
 * skipped: it is emptied before its next use.
 */
#include "mmu/pt_iter.h"

struct mmu_audit {
	void (*report)(const struct mmu_mismatch *m, void *arg);
	void *arg;
	u64 mismatches;
};

static void audit_report(struct mmu_audit *audit, const struct mmu_mismatch *m)
{
	audit->mismatches++;
	if (audit->report)
		audit->report(m, audit->arg);
}

/* Is gfn backed by pfn with at least these rights now? If not, *m says why. */
static bool host_agrees(struct mmu *mmu, gfn_t gfn, pfn_t pfn, bool writable, struct mmu_mismatch *m)
{
	const struct memslot *slot = slot_find(mmu->slots, gfn);
	bool host_writable = false;
	struct page *page = slot ? mm_audit_lookup(mmu->mm, slot_hva(slot, gfn), &host_writable) : NULL;

	*m = (struct mmu_mismatch){ .gfn = gfn, .mirrored = pfn, .host = page ? page_to_pfn(page) : (pfn_t)-1 };
	if (m->host != pfn)
		return false;
	m->rights = writable && (!host_writable || slot->flags & MMU_SLOT_READONLY);
	return !m->rights;
}

static void audit_tables(struct mmu *mmu, struct mmu_audit *audit)
{
	const struct mmu_format *format = mmu->format;
	struct mmu_mismatch m;
	struct pt_iter it;
	u64 i;

	for_each_spte(&it, mmu, 0, format_max_gfn(format))
	{
		if (!spte_leaf(format, it.old, it.level))
			continue;
		for (i = 0; i < pt_pages(it.level); i++) {
			if (!host_agrees(mmu, it.gfn + i, spte_pfn(format, it.old) + i, spte_writable(format, it.old),
					 &m))
				audit_report(audit, &m);
		}
	}
}

/* The leaf that maps gfn, or 0. */
static u64 leaf_of(struct mmu *mmu, gfn_t gfn, unsigned int *level)
{
	struct pt_iter it;

	for_each_spte(&it, mmu, gfn, gfn + 1)
	{
		*level = it.level;
		if (spte_leaf(mmu->format, it.old, it.level))
			return it.old;
	}
	return 0;
}

bool mmu_audit_translation(struct mmu_vcpu *vcpu, gfn_t gfn, pfn_t pfn, bool writable)
{
	struct mmu *mmu = vcpu->mmu;
	const struct mmu_format *format = mmu->format;
	struct mmu_mismatch m;
	unsigned int level = 0;
	u64 leaf = leaf_of(mmu, gfn, &level);
	bool agrees = host_agrees(mmu, gfn, pfn, writable, &m);

	m.tlb = true;
	m.vcpu = vcpu->id;
	/* The host may agree by chance, with the same frame back in place: the flush was missed all the same. */
	if (!leaf || spte_pfn(format, leaf) + (gfn & (pt_pages(level) - 1)) != pfn) {
		agrees = false;
	} else if (writable && !(spte_writable(format, leaf) && spte_dirty(format, leaf))) {
		m.rights = true;
		agrees = false;
	}
	if (!agrees)
		audit_report(mmu->audit, &m);
	return agrees;
}

static void audit_tlbs_locked(struct mmu *mmu)
{
	struct mmu_vcpu *vcpu;

	mmu_pause_vcpus_locked(mmu);
	for (vcpu = mmu->vcpus; vcpu; vcpu = vcpu->next) {
		if (!(READ_ONCE(vcpu->requests) & MMU_REQ_TLB_FLUSH) && vcpu->ops->tlb_audit)
			vcpu->ops->tlb_audit(vcpu);
	}
	mmu_resume_vcpus_locked(mmu);
}

u64 mmu_audit(struct mmu *mmu, void (*report)(const struct mmu_mismatch *m, void *arg), void *arg)
{
	struct mmu_audit audit = { .report = report, .arg = arg };
	struct mmu_mismatch poison;

	mutex_lock(&mmu->slots_lock); /* slots and tables stay */
	mm_audit_begin(mmu->mm);
	mutex_lock(&mmu->vcpu_lock);
	mmu->audit = &audit;
	audit_tables(mmu, &audit);
	audit_tlbs_locked(mmu);
	mmu->audit = NULL;
	mutex_unlock(&mmu->vcpu_lock);
	mm_audit_end(mmu->mm);
	mutex_unlock(&mmu->slots_lock);
	/* A VM that poisoned itself has met a mismatch on its own; its entry may be gone by now. */
	if (mmu_get_poison(mmu, &poison))
		audit_report(&audit, &poison);
	return audit.mismatches;
}
