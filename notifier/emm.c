/* SPDX-License-Identifier: MIT */
/*
 * EMM, the rival of 2008: one callback for everything, a chain per address space, no
 * unregister. Beside mmu notifiers, fed by the same sections.
 * Source: Lameter's mails of March and April 2008, versions 1 and 3 (rules E1 to E5).
 *
 * What V1 loses (catalogue 1): it is admitted by the mm's write lock alone, and reclaim
 * opens its sections under other locks.
 *
 *   reclaim                              register B (V1)
 *   start: walks the chain, A            write lock; B is on the chain; unlock
 *                                        B faults on the page: it is still mapped
 *   clear the entry, free the page       B writes to a free page
 */
#include "notifier/notifier_internal.h"

static bool stops_at_first(const struct mmu_notifier_subscriptions *subs)
{
	return READ_ONCE(subs->emm_version) == EMM_V1 || mutant(MUTANT_E3_STOP_AT_FIRST);
}

/* Context: mn_srcu. @seen: only those born by then. */
static int walk(struct mmu_notifier_subscriptions *subs, struct notifier_mm *mm, struct emm_notifier *first, u64 seen,
		enum emm_operation op, hva_t start, hva_t end)
{
	int sum = 0;

	for (struct emm_notifier *e = first; e; e = srcu_dereference(e->next, &mn_srcu)) {
		int answer;

		if (e->born > seen)
			continue;
		mn_callback_enter();
		answer = e->callback(e, mm, op, start, end);
		mn_callback_leave();
		race_point("notifier:between_emm");
		if (answer && stops_at_first(subs))
			return answer; /* those behind it hear nothing */
		if (sum >= 0)
			sum = answer < 0 ? answer : sum + answer;
	}
	return sum;
}

/* The answers of start and end are nobody's: the mm cannot go back (rule E3). */
void mn_emm_start(struct mmu_notifier_subscriptions *subs, struct mmu_notifier_range *range)
{
	int idx = srcu_read_lock(&mn_srcu);
	struct emm_notifier *first = srcu_dereference(subs->emm, &mn_srcu);

	range->emm_seen = first ? first->born : 0;
	range->flags |= MN_IN_EMM;
	walk(subs, range->mm, first, range->emm_seen, emm_invalidate_start, range->start, range->end);
	srcu_read_unlock(&mn_srcu, idx);
}

void mn_emm_end(struct mmu_notifier_subscriptions *subs, struct mmu_notifier_range *range)
{
	int idx = srcu_read_lock(&mn_srcu);

	walk(subs, range->mm, srcu_dereference(subs->emm, &mn_srcu), range->emm_seen, emm_invalidate_end, range->start,
	     range->end);
	srcu_read_unlock(&mn_srcu, idx);
}

bool emm_notify_referenced(struct notifier_mm *mm, hva_t start, hva_t end, bool young)
{
	struct mmu_notifier_subscriptions *subs = READ_ONCE(mm->subscriptions);
	int idx, answer;

	if (!subs || !READ_ONCE(subs->emm))
		return young;
	if (young && READ_ONCE(subs->emm_version) == EMM_V1)
		return true;
	idx = srcu_read_lock(&mn_srcu);
	non_block_start();
	answer = walk(subs, mm, srcu_dereference(subs->emm, &mn_srcu), ~0ull, emm_referenced, start, end);
	non_block_end();
	srcu_read_unlock(&mn_srcu, idx);
	return young || answer > 0;
}

/*
 * rule E2: off the chain first, told after. Between the two a section misses a
 * subscriber that still has translations: what catalogue 5 was for mmu notifiers is
 * the design here. It counts on "a single process left": a walk that began before still
 * calls them after their release.
 */
struct emm_notifier *mn_emm_release(struct notifier_mm *mm)
{
	struct mmu_notifier_subscriptions *subs = mm->subscriptions;
	struct emm_notifier *e, *first = NULL;
	int idx;

	for (;;) {
		spin_lock(&subs->lock);
		e = subs->emm;
		if (e)
			WRITE_ONCE(subs->emm, e->next);
		mn_interest_locked(subs);
		spin_unlock(&subs->lock);
		if (!e)
			return first;
		first = first ?: e;
		idx = srcu_read_lock(&mn_srcu);
		mn_callback_enter();
		e->callback(e, mm, emm_release, 0, 0);
		mn_callback_leave();
		srcu_read_unlock(&mn_srcu, idx);
	}
}

void mn_emm_forget(struct emm_notifier *first)
{
	struct emm_notifier *next;

	for (struct emm_notifier *e = first; e; e = next) {
		next = e->next;
		e->next = NULL;
		smp_store_release(&e->state, MN_FREE); /* pairs with the exchange in emm_notifier_register() */
	}
}

/* --- register ------------------------------------------------------------------------------- */

static void chain_add_locked(struct mmu_notifier_subscriptions *subs, void *what)
{
	struct emm_notifier *e = what;

	e->born = ++subs->born;
	e->next = subs->emm;
	/* Pairs with the srcu_dereference() of walkers. V1 had a plain store here, V2 repaired that alone (rule E4). */
	smp_store_release(&subs->emm, e);
}

/* Others may have come in front meanwhile. */
static void chain_del_locked(struct mmu_notifier_subscriptions *subs, void *what)
{
	struct emm_notifier **link = &subs->emm;

	while (*link != what)
		link = &(*link)->next;
	WRITE_ONCE(*link, ((struct emm_notifier *)what)->next);
	mn_interest_locked(subs);
}

/* Context: the mm's write lock; or register_mutex, with admission by section. */
static int register_locked(struct emm_notifier *e, struct notifier_mm *mm, enum emm_version version)
{
	struct mn_newcomer newcomer = {
		.publish_locked = chain_add_locked,
		.retract_locked = chain_del_locked,
		.what = e,
		.careless = version == EMM_V1 || mutant(MUTANT_E4_NO_MM_LOCK),
	};
	struct mmu_notifier_subscriptions *subs = mm->subscriptions;
	u32 before = subs ? subs->emm_version : 0;
	int err;

	if (before && before != (u32)version)
		return -EINVAL;
	if (subs)
		WRITE_ONCE(subs->emm_version, version);
	err = mn_admit(mm, &newcomer);
	subs = mm->subscriptions;
	if (subs)
		WRITE_ONCE(subs->emm_version, err ? before : (u32)version);
	return err;
}

int emm_notifier_register(struct emm_notifier *e, struct notifier_mm *mm, enum emm_version version)
{
	unsigned int expected = MN_FREE;
	int err;

	if (!e || !mm || !e->callback || (version != EMM_V1 && version != EMM_V3))
		return -EINVAL;
	if (mn_in_callback() || mn_in_section())
		return -EDEADLK;
	if (!try_cmpxchg(&e->state, &expected, (unsigned int)MN_CHANGING))
		return -EEXIST;
	err = mn_mm_write_lock(mm);
	if (!err) {
		mn_register_lock(mm);
		err = register_locked(e, mm, version);
		mn_register_unlock(mm);
		mn_mm_write_unlock(mm);
	}
	mn_trace(EMM_REGISTER, e, mm, version, err);
	smp_store_release(&e->state, err ? MN_FREE : MN_REGISTERED); /* pairs with the exchange above */
	return err;
}
