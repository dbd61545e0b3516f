/* SPDX-License-Identifier: MIT */
/*
 * Subscriptions with a count: one per mm and ops, made by the first get, freed after
 * the last put without anybody waiting (rule N10).
 *
 *   put (the last)                       walker
 *   lock; users--; unlink; unlock        stands on it, goes on
 *   call_srcu                            leaves
 *     ... grace period ...
 *     free_notifier; mmdrop
 *   synchronize: after the last of these
 */
#include "notifier/notifier_internal.h"

static_assert(sizeof(((struct mmu_notifier *)0)->rcu) == sizeof(struct rcu_head),
	      "the public header holds an rcu_head");

/* Return: 1 and the subscription; 0: there is none; -EOVERFLOW. */
static int find(const struct mmu_notifier_ops *ops, struct notifier_mm *mm, struct mmu_notifier **found)
{
	struct mmu_notifier_subscriptions *subs = mm->subscriptions;
	int ret = 0;

	if (!subs)
		return 0;
	spin_lock(&subs->lock);
	for (struct mmu_notifier *s = subs->first; s; s = s->list_next) {
		if (s->ops != ops || s->state != MN_GOT)
			continue;
		ret = s->users == UINT32_MAX ? -EOVERFLOW : 1;
		if (ret > 0) {
			s->users++;
			*found = s;
		}
		break;
	}
	spin_unlock(&subs->lock);
	return ret;
}

/* Context: the write lock with admission by mm_lock, else none. */
static int make(const struct mmu_notifier_ops *ops, struct notifier_mm *mm, struct mmu_notifier **out)
{
	struct mmu_notifier *subscription = NULL;
	int ret = ops->alloc_notifier(mm, &subscription);

	if (ret < 0)
		return ret;
	/* One in use is not ours to change, nor to free. */
	if (ret || !subscription || READ_ONCE(subscription->state) != MN_FREE) {
		check_report("alloc_notifier answers %d and %s", ret,
			     !subscription				 ? "none"
			     : READ_ONCE(subscription->state) == MN_FREE ? "a subscription"
									 : "a subscription that is in use");
		return -EINVAL;
	}
	subscription->ops = ops;
	*out = subscription;
	return 0;
}

/* Return: 0; 1: somebody was faster, and the one that was made is not needed; -errno, nor is it then. */
static int find_or_register(struct mmu_notifier *made, struct notifier_mm *mm, struct mmu_notifier **out)
{
	int ret = mutant(MUTANT_N10_NO_SECOND_LOOK) ? 0 : find(made->ops, mm, out);

	if (!ret) {
		ret = mn_register_locked(made, mm, MN_GOT);
		if (!ret)
			*out = made;
	}
	return ret;
}

static int get_checks(const struct mmu_notifier_ops *ops, struct notifier_mm *mm, struct mmu_notifier **out)
{
	if (!mm || !out || !mn_ops_ok(ops) || !ops->alloc_notifier)
		return -EINVAL;
	return mn_in_callback() || mn_in_section() ? -EDEADLK : 0;
}

/*
 * Context: the write lock, with admission by mm_lock. By section two first gets may meet:
 *
 *   get                                  get, of the same ops
 *   find: none
 *   alloc_notifier                       find: none
 *                                        alloc_notifier
 *                                        find: none; register
 *   find: the other's
 *   free_notifier of its own, unused
 *
 * Who waits for sections holds the mutex: a second get needs the first one's subscription
 * admitted. It is not held over alloc_notifier, which may get on another mm.
 */
static int get(const struct mmu_notifier_ops *ops, struct notifier_mm *mm, struct mmu_notifier **subscription)
{
	struct mmu_notifier *made;
	int ret;

	mn_register_lock(mm);
	ret = find(ops, mm, subscription);
	mn_register_unlock(mm);
	if (ret)
		return ret < 0 ? ret : 0;
	ret = make(ops, mm, &made);
	if (ret)
		return ret;
	mn_register_lock(mm);
	ret = find_or_register(made, mm, subscription);
	mn_register_unlock(mm);
	if (ret)
		ops->free_notifier(made);
	return ret < 0 ? ret : 0;
}

int mmu_notifier_get_locked(const struct mmu_notifier_ops *ops, struct notifier_mm *mm,
			    struct mmu_notifier **subscription)
{
	int err = get_checks(ops, mm, subscription);

	err = err ?: mn_mm_check_write_locked(mm);
	return err ?: get(ops, mm, subscription);
}

int mmu_notifier_get(const struct mmu_notifier_ops *ops, struct notifier_mm *mm, struct mmu_notifier **subscription)
{
	int err = get_checks(ops, mm, subscription);

	err = err ?: mn_mm_write_lock(mm);
	if (err)
		return err;
	err = get(ops, mm, subscription);
	mn_mm_write_unlock(mm);
	return err;
}

static void free_after_grace(struct rcu_head *head)
{
	struct mmu_notifier *subscription = container_of((void *)head, struct mmu_notifier, rcu);
	struct notifier_mm *mm = subscription->mm;
	int idx;

	race_point("notifier:before_free_notifier");
	idx = srcu_read_lock(&mn_srcu);
	mn_callback_enter();
	subscription->ops->free_notifier(subscription);
	mn_callback_leave();
	srcu_read_unlock(&mn_srcu, idx);
	notifier_mm_drop(mm);
}

int mmu_notifier_put(struct mmu_notifier *subscription)
{
	struct mmu_notifier_subscriptions *subs;
	bool last;

	if (!subscription || READ_ONCE(subscription->state) != MN_GOT)
		return -EINVAL;
	subs = subscription->mm->subscriptions;
	spin_lock(&subs->lock);
	last = !--subscription->users;
	if (last) {
		WRITE_ONCE(subscription->state, MN_CHANGING); /* no get finds it any more */
		mn_list_del_locked(subs, subscription);
	}
	spin_unlock(&subs->lock);
	if (last)
		call_srcu(&mn_srcu, (struct rcu_head *)subscription->rcu, free_after_grace);
	return 0;
}

int mmu_notifier_synchronize(void)
{
	if (mn_in_callback())
		return -EDEADLK;
	if (mutant(MUTANT_N10_SYNCHRONIZE_SRCU))
		synchronize_srcu(&mn_srcu); /* the grace period is over, the callbacks are not */
	else
		srcu_barrier(&mn_srcu);
	return 0;
}
