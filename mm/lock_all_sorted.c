/* SPDX-License-Identifier: MIT */
/*
 * mm_lock, variant sorted: the pointers of all locks of a class, sorted by address so
 * that an object met twice stands next to itself, then taken in that order. The objects
 * keep no trace: who finds a round under way while he locks one object searches for it.
 * The arrays may not be had.
 */
#include "lib/alloc.h"
#include "lib/thread.h"
#include "mm/mm_internal.h"

/* Signals are asked for once per so many steps of the sort: it has no objects to count. */
#define SORT_STEPS 64u

struct lock_array {
	struct rmap_lock **locks; /* constant from the first taken on */
	u64 nr;			  /* in it */
	u64 taken;		  /* the first ones, in order and once each: held */
};

struct sorted_cookie {
	struct rcu_head rcu;
	struct lock_array arrays[RMAP_CLASSES];
	struct rmap_lock **scratch; /* of the sort */
};

/* Of the round. Written under mm_all_locks.mutex; read by those who lock one object, under RCU. */
static struct sorted_cookie *cookie;

static int collect(struct rmap_lock *lock, void *arg)
{
	struct lock_array *a = arg;

	/* Neighbours often share: spare the sort. */
	if (!a->nr || a->locks[a->nr - 1] != lock)
		a->locks[a->nr++] = lock;
	return 0;
}

static bool comes_before(struct rmap_lock *const *a, struct rmap_lock *const *b)
{
	return *a < *b;
}

static bool same(struct rmap_lock *const *a, struct rmap_lock *const *b)
{
	if (mutant(MUTANT_N4_COMPARE_SLOTS))
		return a == b; /* catalogue 3: where they stand, not what they are */
	return *a == *b;
}

/* Merge [lo, mid) and [mid, hi) of @from into @to. Return: 0; -EINTR. */
static int merge(struct rmap_lock **from, struct rmap_lock **to, u64 lo, u64 mid, u64 hi, bool killable)
{
	u64 a = lo, b = mid;

	for (u64 at = lo; at < hi; at++) {
		if (killable && at % SORT_STEPS == 0 && thread_signal_pending())
			return -EINTR;
		if (a < mid && (b == hi || !comes_before(&from[b], &from[a])))
			to[at] = from[a++];
		else
			to[at] = from[b++];
	}
	return 0;
}

/* Bottom up, so that it can end anywhere. */
static int sort(struct lock_array *a, struct rmap_lock ***scratch, bool killable)
{
	int err = 0;

	for (u64 run = 1; run < a->nr && !err; run *= 2) {
		struct rmap_lock **from = a->locks, **to = *scratch;

		for (u64 lo = 0; lo < a->nr && !err; lo += 2 * run)
			err = merge(from, to, lo, min(lo + run, a->nr), min(lo + 2 * run, a->nr), killable);
		a->locks = to;
		*scratch = from;
	}
	return err;
}

static int lock_array_take(struct lock_array *a, bool killable)
{
	for (u64 i = 0; i < a->nr; i++) {
		struct rmap_lock *lock = a->locks[i];

		if (killable && thread_signal_pending())
			return -EINTR;
		if (a->taken && same(&a->locks[a->taken - 1], &a->locks[i]))
			continue;
		if (!rmap_take_begin(lock))
			continue; /* a mutant's */
		a->locks[a->taken] = lock;
		/* Under sem: who takes it next sees it. Pairs with the acquire in taken_in(): who searches sees whole
		 * entries. */
		smp_store_release(&a->taken, a->taken + 1);
		rmap_take_end(lock);
	}
	return 0;
}

static int take_class(struct mm_struct *mm, enum rmap_class class, bool killable)
{
	struct lock_array *a = &cookie->arrays[class];
	int err = for_each_rmap_lock(mm, class, killable, collect, a);

	err = err ?: sort(a, &cookie->scratch, killable);
	return err ?: lock_array_take(a, killable);
}

static void cookie_free_now(struct sorted_cookie *c)
{
	for (enum rmap_class class = 0; class < RMAP_CLASSES; class ++)
		mem_free(c->arrays[class].locks);
	mem_free(c->scratch);
	mem_free(c);
}

static struct sorted_cookie *cookie_alloc(u32 vmas)
{
	size_t bytes = max(vmas, 1u) * sizeof(struct rmap_lock *);
	struct sorted_cookie *c = mem_zalloc(sizeof(*c));

	if (!c)
		return NULL;
	c->scratch = mem_alloc(bytes);
	for (enum rmap_class class = 0; class < RMAP_CLASSES; class ++)
		c->arrays[class].locks = mem_alloc(bytes);
	if (c->scratch && c->arrays[RMAP_I_MMAP].locks && c->arrays[RMAP_ANON_VMA].locks)
		return c;
	cookie_free_now(c);
	return NULL;
}

static int sorted_take(struct mm_struct *mm, bool killable)
{
	struct sorted_cookie *c = cookie_alloc(mm->vmas.count);
	int err = 0;

	if (!c)
		return -ENOMEM;
	rcu_assign_pointer(cookie, c);
	for (enum rmap_class class = 0; class < RMAP_CLASSES && !err; class ++)
		err = take_class(mm, class, killable);
	return err;
}

static bool taken_in(const struct lock_array *a, const struct rmap_lock *lock)
{
	u64 lo = 0, hi = smp_load_acquire(&a->taken); /* pairs with the release in lock_array_take() */

	while (lo < hi) {
		u64 mid = (lo + hi) / 2;

		if (a->locks[mid] == lock)
			return true;
		if (a->locks[mid] < lock)
			lo = mid + 1;
		else
			hi = mid;
	}
	return false;
}

static bool sorted_holds(const struct rmap_lock *lock, u64 round)
{
	const struct sorted_cookie *c = rcu_dereference(cookie);

	return c && (taken_in(&c->arrays[RMAP_ANON_VMA], lock) || taken_in(&c->arrays[RMAP_I_MMAP], lock));
}

static void cookie_free(struct rcu_head *head)
{
	cookie_free_now(container_of(head, struct sorted_cookie, rcu));
}

static struct rcu_head *sorted_forget(void)
{
	struct sorted_cookie *c = cookie;

	rcu_assign_pointer(cookie, NULL);
	return c ? &c->rcu : NULL;
}

const struct mm_lock_variant mm_lock_sorted = {
	.name = "sorted",
	.take = sorted_take,
	.holds = sorted_holds,
	.forget = sorted_forget,
	.free = cookie_free,
};
