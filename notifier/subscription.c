/* SPDX-License-Identifier: MIT */
/*
 * Subscriptions: the address space, register, unregister, release at exit.
 *
 * Which lock protects the list: registration adds to it by admission (admission.c),
 * so what a section sees from start to end are the same subscribers, less those that
 * leave. Leaving takes no lock of the address space; it needs the SRCU domain instead.
 */
#include "notifier/notifier_internal.h"

static DEFINE_LOCK_CLASS(subscriptions_class, "mmu_notifier_subscriptions");
static DEFINE_LOCK_CLASS(register_class, "mmu_notifier_register");
static DEFINE_LOCK_CLASS(callback_class, "mmu_notifier_callback");
static DEFINE_LOCK_CLASS(section_class, "mmu_notifier_section");

struct srcu_struct mn_srcu;
static bool srcu_ready; /* constant after the program's start */

struct lock_map mn_callback_map = LOCK_MAP_INIT(&callback_class);
struct lock_map mn_section_map = LOCK_MAP_INIT(&section_class);
struct mn_slot mn_slots[THREAD_MAX + 1] = { { .word = MN_HEARD } };

/*
 * A thread that ends in a section never closes it; nor does it change an entry any more,
 * and that is all that registration waits for. Its subscribers hear of no end (rule N7
 * lets them). The checker has reported the pseudo-lock as held. Readers of
 * subs->sections are lib/srcu.c's to forget.
 */
static void leave_sections(void)
{
	struct mn_slot *slot = mn_slot_own();

	if (likely(!slot->word && !slot->more))
		return;
	slot->more = 0;
	smp_store_release(&slot->word, 0); /* C, pairs with the acquire in slot_is_old() */
}

/* One domain for the life of the program: it can be made before any thread asks for it, and never ends. */
__attribute__((constructor)) static void srcu_make(void)
{
	static struct thread_leave_hook hook = { .fn = leave_sections };

	srcu_ready = !init_srcu_struct(&mn_srcu);
	thread_at_leave(&hook);
}

/* The checker reports a recursion once in a run; these are reported each time. */
bool mn_in_callback(void)
{
	if (unlikely(srcu_ready && srcu_read_lock_held(&mn_srcu))) {
		check_report("what waits for callbacks, or may reclaim, is called from one (mmu_notifier_callback)");
		return true;
	}
	lock_map_acquire(&mn_callback_map);
	lock_map_release(&mn_callback_map);
	return false;
}

bool mn_in_section(void)
{
	const struct mn_slot *slot = mn_slot_own();

	if (unlikely(slot->word || slot->more)) {
		check_report("what waits for sections is called in one (mmu_notifier_section)");
		return true;
	}
	lock_map_acquire(&mn_section_map);
	lock_map_release(&mn_section_map);
	return false;
}

#if CHECKING
void mmu_notifier_might_reclaim(void)
{
	mn_in_callback();
}
#endif

/* --- the address space -------------------------------------------------------- */

struct mmu_notifier_subscriptions *mn_subscriptions_alloc(void)
{
	struct mmu_notifier_subscriptions *subs = srcu_ready ? mem_zalloc(sizeof(*subs)) : NULL;

	if (!subs)
		return NULL;
	spin_lock_init(&subs->lock, &subscriptions_class);
	mutex_init(&subs->register_mutex, &register_class);
	init_waitqueue(&subs->wait);
	subs->seq = 2; /* rule I2: a subscriber's is odd, and one less than this at most */
	return subs;
}

int notifier_mm_init(struct notifier_mm *mm, const struct notifier_mm_ops *ops, enum notifier_admission admission)
{
	struct mmu_notifier_subscriptions *subs = NULL;

	if (admission != NOTIFIER_ADMIT_MM_LOCK && admission != NOTIFIER_ADMIT_SECTION)
		return -EINVAL;
	if (admission == NOTIFIER_ADMIT_SECTION) {
		subs = mn_subscriptions_alloc();
		if (!subs)
			return -ENOMEM;
		if (init_srcu_struct(&subs->sections)) {
			mem_free(subs);
			return -ENOMEM;
		}
		subs->interested = MN_COUNT; /* before anybody comes */
	}
	*mm = (struct notifier_mm){
		.ops = ops,
		.subscriptions = subs,
		.admission = admission,
		.last = ops->limit - 1, /* without a limit the highest there is */
		.users = 1,
		.count = 1,
	};
	return 0;
}

void notifier_mm_destroy(struct notifier_mm *mm)
{
	struct mmu_notifier_subscriptions *subs = mm->subscriptions;

	ASSERT(mm->count == 0);
	mm->subscriptions = NULL;
	if (!subs)
		return;
	ASSERT(!subs->first && !subs->itree && !subs->deferred); /* each holds a count */
	cleanup_srcu_struct(&subs->sections);
	mem_free(subs);
}

void notifier_mm_grab(struct notifier_mm *mm)
{
	s32 old = fetch_add(&mm->count, 1);

	ASSERT(old > 0); /* invariant MN4: who may call holds one */
	(void)old;
}

void notifier_mm_drop(struct notifier_mm *mm)
{
	s32 old = fetch_add(&mm->count, -1);

	ASSERT(old > 0);
	if (old == 1)
		mm->ops->free(mm);
}

/* --- the list ------------------------------------------------------------------- */

void mn_interest_locked(struct mmu_notifier_subscriptions *subs)
{
	u32 interested = subs->interested & MN_COUNT;

	interested |= subs->first ? MN_LIST : 0;
	interested |= subs->has_itree ? MN_ITREE : 0;
	interested |= subs->emm ? MN_EMM : 0;
	WRITE_ONCE(subs->interested, interested); /* without anybody sections are as cheap as before the first came */
}

static void list_add_locked(struct mmu_notifier_subscriptions *subs, void *what)
{
	struct mmu_notifier *subscription = what, *first = subs->first;

	lockdep_assert_held(&subs->lock);
	subscription->born = ++subs->born;
	subscription->list_next = first;
	WRITE_ONCE(subscription->list_pprev, &subs->first);
	if (first)
		WRITE_ONCE(first->list_pprev, &subscription->list_next);
	/* Pairs with the load-acquire in mn_first(). */
	smp_store_release(&subs->first, subscription);
}

/* list_next stays: a walker may stand here. */
void mn_list_del_locked(struct mmu_notifier_subscriptions *subs, struct mmu_notifier *subscription)
{
	struct mmu_notifier *next = subscription->list_next;
	struct mmu_notifier **pprev = subscription->list_pprev;

	lockdep_assert_held(&subs->lock);
	if (!pprev)
		return; /* exit was faster (rule N9) */
	WRITE_ONCE(*pprev, next);
	if (next)
		WRITE_ONCE(next->list_pprev, pprev);
	if (!mutant(MUTANT_N9_NO_LISTED_TEST))
		WRITE_ONCE(subscription->list_pprev, NULL);
	mn_interest_locked(subs);
}

static void list_retract_locked(struct mmu_notifier_subscriptions *subs, void *what)
{
	mn_list_del_locked(subs, what);
}

/* --- register ---------------------------------------------------------------------- */

bool mn_ops_ok(const struct mmu_notifier_ops *ops)
{
	if (!ops || (ops->invalidate_range_end && !ops->invalidate_range_start))
		return false;
	if (ops->arch_invalidate_secondary_tlbs && (ops->invalidate_range_start || ops->invalidate_range_end))
		return false; /* rule N2: told twice, and once too early */
	return !ops->alloc_notifier == !ops->free_notifier;
}

int mn_register_locked(struct mmu_notifier *subscription, struct notifier_mm *mm, enum mn_state state)
{
	struct mn_newcomer newcomer = {
		.publish_locked = list_add_locked,
		.retract_locked = list_retract_locked,
		.what = subscription,
		.careless = mm->admission == NOTIFIER_ADMIT_SECTION ? mutant(MUTANT_N3_NO_SECTION_WAIT)
								    : mutant(MUTANT_N3_NO_MM_LOCK),
	};
	unsigned int expected = MN_FREE;
	int err;

	if (!try_cmpxchg(&subscription->state, &expected, (unsigned int)MN_CHANGING))
		return -EEXIST;
	/* Before it is visible: callbacks may come at once. */
	notifier_mm_grab(mm);
	WRITE_ONCE(subscription->mm, mm);
	subscription->users = 1;
	err = mn_admit(mm, &newcomer);
	mn_trace(REGISTER, subscription, mm, err, 0);
	if (err) {
		WRITE_ONCE(subscription->mm, NULL);
		subscription->list_next = NULL;
		notifier_mm_drop(mm); /* not the last: the caller has mm_users */
	}
	smp_store_release(&subscription->state, err ? MN_FREE : state); /* pairs with the exchanges */
	return err;
}

static int register_checks(struct mmu_notifier *subscription, struct notifier_mm *mm)
{
	if (!subscription || !mm || !mn_ops_ok(subscription->ops))
		return -EINVAL;
	return mn_in_callback() || mn_in_section() ? -EDEADLK : 0;
}

int mmu_notifier_register_locked(struct mmu_notifier *subscription, struct notifier_mm *mm)
{
	int err = register_checks(subscription, mm);

	err = err ?: mn_mm_check_write_locked(mm);
	return err ?: mn_register_locked(subscription, mm, MN_REGISTERED);
}

int mmu_notifier_register(struct mmu_notifier *subscription, struct notifier_mm *mm)
{
	int err = register_checks(subscription, mm);

	err = err ?: mn_mm_write_lock(mm);
	if (err)
		return err;
	err = mn_register_locked(subscription, mm, MN_REGISTERED);
	mn_mm_write_unlock(mm);
	return err;
}

/* --- unregister, release -------------------------------------------------------------- */

static void call_release(struct mmu_notifier *subscription, struct notifier_mm *mm)
{
	if (!subscription->ops->release)
		return;
	mn_callback_enter();
	subscription->ops->release(subscription, mm);
	mn_callback_leave();
}

int mmu_notifier_unregister(struct mmu_notifier *subscription, struct notifier_mm *mm)
{
	struct mmu_notifier_subscriptions *subs;
	unsigned int expected = MN_REGISTERED;

	if (!subscription || !mm)
		return -EINVAL;
	if (mn_in_callback())
		return -EDEADLK;
	/* Asked before it is claimed: who names the wrong mm is in nobody's way who names the right one. */
	if (READ_ONCE(subscription->mm) != mm ||
	    !try_cmpxchg(&subscription->state, &expected, (unsigned int)MN_CHANGING))
		return -EINVAL;
	if (unlikely(subscription->mm != mm)) { /* registered anew meanwhile, elsewhere */
		smp_store_release(&subscription->state, MN_REGISTERED);
		return -EINVAL;
	}
	subs = mm->subscriptions;
	mn_trace(UNREGISTER, subscription, mm, 0, 0);
	/*
	 * Exit may be doing the same: release is called while still listed, by one or by
	 * both, so no section misses a subscriber that still has translations (rule N9).
	 */
	if (mn_listed(subscription)) {
		int idx = srcu_read_lock(&mn_srcu);

		call_release(subscription, mm);
		srcu_read_unlock(&mn_srcu, idx);
		race_point("notifier:unregister_before_unlink");
		spin_lock(&subs->lock);
		mn_list_del_locked(subs, subscription);
		spin_unlock(&subs->lock);
	}
	/* Always: exit may have unlinked it, and a walker may still be on it. */
	if (!mutant(MUTANT_N9_NO_SYNCHRONIZE))
		synchronize_srcu(&mn_srcu);
	WRITE_ONCE(subscription->mm, NULL);
	subscription->list_next = NULL;
	subscription->list_pprev = NULL;
	smp_store_release(&subscription->state, MN_FREE); /* pairs with the exchange in mn_register_locked() */
	notifier_mm_drop(mm);
	return 0;
}

static void unlink_all(struct mmu_notifier_subscriptions *subs)
{
	spin_lock(&subs->lock);
	while (subs->first)
		mn_list_del_locked(subs, subs->first);
	spin_unlock(&subs->lock);
}

/*
 * Rule N8.
 *
 *   exit                                       reclaim, truncate (rmap locks only)
 *   ----                                       -----------------
 *   srcu_read_lock
 *   release of each, still listed              start: they hear of it
 *     -> no translation, and none ever again   clear an entry, end, free the page
 *   unlink                                     start: nobody listed, nobody has anything
 *   srcu_read_unlock; synchronize_srcu         (walks that began before are over)
 *   only now: unmap, free
 */
void mn_release(struct notifier_mm *mm)
{
	struct mmu_notifier_subscriptions *subs = READ_ONCE(mm->subscriptions);
	bool in_callback = CHECKING && mn_in_callback();
	struct emm_notifier *released;
	struct mmu_notifier *first;
	int idx;

	if (!in_callback)
		lockdep_assert_none_held();
	mn_trace(RELEASE, mm, 0, 0, 0);
	if (READ_ONCE(subs->has_itree))
		mn_itree_release(mm);
	idx = srcu_read_lock(&mn_srcu);
	first = mn_first(subs);
	if (mutant(MUTANT_N8_UNLINK_BEFORE_RELEASE)) {
		unlink_all(subs);
		race_point("notifier:release_after_unlink");
	}
	for (struct mmu_notifier *s = first; s; s = mn_next(s))
		call_release(s, mm);
	race_point("notifier:release_before_unlink");
	unlink_all(subs);
	srcu_read_unlock(&mn_srcu, idx);
	released = mn_emm_release(mm);
	/* From a callback it would wait for ever (catalogue 17); reported above, so that a test may go on. */
	if (in_callback)
		return;
	if (!mutant(MUTANT_N8_NO_SYNCHRONIZE))
		synchronize_srcu(&mn_srcu);
	mn_emm_forget(released);
}
