/* SPDX-License-Identifier: MIT */
/*
 * What is called under the page-table lock, in no section: aging (rule N11) and the
 * TLBs of devices that walk the page table (rule N13). No section means that a
 * newcomer may miss one: it has no translation yet, so there is nothing to miss.
 *
 * The subscriber's lock nests in the page-table lock here. The checker learns that
 * from the first call, and finds whoever takes them the other way round.
 */
#include "notifier/notifier_internal.h"

#define ASK_ALL(op, stop_at_first)                                                                                     \
	({                                                                                                             \
		struct mmu_notifier_subscriptions *ask_subs = READ_ONCE(mm->subscriptions);                            \
		int ask_idx = srcu_read_lock(&mn_srcu);                                                                \
		bool ask_young = false;                                                                                \
                                                                                                                       \
		for (struct mmu_notifier *s = mn_first(ask_subs); s && !(ask_young && (stop_at_first));                \
		     s = mn_next(s)) {                                                                                 \
			if (!s->ops->op)                                                                               \
				continue;                                                                              \
			mn_atomic_enter();                                                                             \
			ask_young |= s->ops->op(s, mm, start, end);                                                    \
			mn_atomic_leave();                                                                             \
		}                                                                                                      \
		srcu_read_unlock(&mn_srcu, ask_idx);                                                                   \
		ask_young;                                                                                             \
	})

bool mn_clear_flush_young(struct notifier_mm *mm, hva_t start, hva_t end)
{
	return ASK_ALL(clear_flush_young, false);
}

bool mn_clear_young(struct notifier_mm *mm, hva_t start, hva_t end)
{
	return ASK_ALL(clear_young, false);
}

bool mn_test_young(struct notifier_mm *mm, hva_t start, hva_t end)
{
	return ASK_ALL(test_young, true);
}

void mn_secondary_tlbs(struct notifier_mm *mm, hva_t start, hva_t end)
{
	struct mmu_notifier_subscriptions *subs = READ_ONCE(mm->subscriptions);
	int idx = srcu_read_lock(&mn_srcu);

	for (struct mmu_notifier *s = mn_first(subs); s; s = mn_next(s)) {
		if (!s->ops->arch_invalidate_secondary_tlbs)
			continue;
		mn_atomic_enter();
		s->ops->arch_invalidate_secondary_tlbs(s, mm, start, end);
		mn_atomic_leave();
	}
	srcu_read_unlock(&mn_srcu, idx);
}
