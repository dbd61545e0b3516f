/* SPDX-License-Identifier: MIT */
/*
 * Aging: which pages were used since somebody last asked, by the processor of the host
 * or by a mirror. Mirrors are asked under the page-table lock and in no section (rule
 * N11): a mirror's lock nests inside it, and who holds that one takes no page-table lock.
 */
#include "mm/mm_internal.h"

enum aging { AGE_TEST, AGE_CLEAR, AGE_CLEAR_FLUSH };

struct age_walk {
	struct mm_struct *mm;
	enum aging how;
	u64 young;
};

static bool mirrors_young(const struct age_walk *walk, hva_t addr, bool young)
{
	struct notifier_mm *notifier = &walk->mm->notifier;
	hva_t end = addr + PAGE_SIZE;

	switch (walk->how) {
	case AGE_TEST:
		return young || mmu_notifier_test_young(notifier, addr, end);
	case AGE_CLEAR:
		young |= mmu_notifier_clear_young(notifier, addr, end);
		break;
	case AGE_CLEAR_FLUSH:
		young |= mmu_notifier_clear_flush_young(notifier, addr, end);
		break;
	}
	young |= emm_notify_referenced(notifier, addr, end, young);
	return young;
}

static void age_leaf(struct page *leaf, hva_t addr, hva_t end, void *arg)
{
	struct age_walk *walk = arg;

	spin_lock(&leaf->ptl);
	for (; addr < end; addr += PAGE_SIZE) {
		pte_t pte = pte_read(&pt_entries(leaf)[pt_index(addr, 1)]);

		if (pte_none(pte) || pte_special(pte))
			continue;
		if (walk->how != AGE_TEST && pte_young(pte))
			pte_set_locked(leaf, addr, pte_mkold(pte));
		walk->young += mirrors_young(walk, addr, pte_young(pte));
	}
	spin_unlock(&leaf->ptl);
}

static int age(struct mm_struct *mm, hva_t addr, size_t len, enum aging how, u64 *young)
{
	struct mm_range range = { mm, addr, addr + len };
	struct age_walk walk = { .mm = mm, .how = how };

	if (!range_ok(addr, len) || !young)
		return -EINVAL;
	mm->policy->read_begin(&range);
	if (mm->root) /* not after exit */
		pt_for_each_leaf(mm, addr, addr + len, age_leaf, &walk);
	mm->policy->read_end(&range);
	*young = walk.young;
	return 0;
}

int mm_clear_young(struct mm_struct *mm, hva_t addr, size_t len, bool flush, u64 *young)
{
	return age(mm, addr, len, flush ? AGE_CLEAR_FLUSH : AGE_CLEAR, young);
}

int mm_test_young(struct mm_struct *mm, hva_t addr, size_t len, u64 *young)
{
	return age(mm, addr, len, AGE_TEST, young);
}
