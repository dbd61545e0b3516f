/* SPDX-License-Identifier: MIT */
/*
 * mm_lock, variant sorted: the pointers of all locks of a class, sorted by address so
 * that an object met twice stands next to itself, then locked in that order. The
 * objects keep no trace; the arrays may not be had.
 */
#include "lib/alloc.h"
#include "lib/thread.h"
#include "mm/mm_internal.h"

/* Signals are asked for once per so many steps of the sort: it has no objects to count. */
#define SORT_STEPS 64u

struct lock_array {
	struct rmap_lock **locks;
	u64 nr;	   /* in it */
	u64 taken; /* the first ones, held */
};

/* Under mm_all_locks.mutex. */
static struct lock_array arrays[RMAP_CLASSES];

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
static int sort(struct lock_array *a, bool killable)
{
	struct rmap_lock **from = a->locks, **to;
	int err = 0;

	if (a->nr < 2)
		return 0;
	to = mem_alloc(a->nr * sizeof(struct rmap_lock *));
	if (!to)
		return -ENOMEM;
	for (u64 run = 1; run < a->nr && !err; run *= 2) {
		struct rmap_lock **swap = from;

		for (u64 lo = 0; lo < a->nr && !err; lo += 2 * run)
			err = merge(from, to, lo, min(lo + run, a->nr), min(lo + 2 * run, a->nr), killable);
		from = to;
		to = swap;
	}
	a->locks = from;
	mem_free(to);
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
		rmap_lock_take(lock);
		a->locks[a->taken++] = lock;
	}
	return 0;
}

static void sorted_drop(struct mm_struct *mm)
{
	for (enum rmap_class class = RMAP_CLASSES; class -- > 0;) {
		struct lock_array *a = &arrays[class];

		while (a->taken) {
			struct rmap_lock *lock = a->locks[--a->taken];

			if (lock->taken) /* not, if a mutant has it twice */
				rmap_lock_give_back(lock);
		}
		mem_free(a->locks);
		*a = (struct lock_array){ 0 };
	}
}

static int take_class(struct mm_struct *mm, enum rmap_class class, bool killable)
{
	struct lock_array *a = &arrays[class];
	int err;

	a->locks = mem_alloc(max(mm->vmas.count, 1u) * sizeof(struct rmap_lock *));
	if (!a->locks)
		return -ENOMEM;
	err = for_each_rmap_lock(mm, class, killable, collect, a);
	if (!err)
		err = sort(a, killable);
	return err ? err : lock_array_take(a, killable);
}

static int sorted_take(struct mm_struct *mm, bool killable)
{
	int err = 0;

	for (enum rmap_class class = 0; class < RMAP_CLASSES && !err; class ++)
		err = take_class(mm, class, killable);
	if (err)
		sorted_drop(mm);
	return err;
}

const struct mm_lock_variant mm_lock_sorted = { .name = "sorted", .take = sorted_take, .drop = sorted_drop };
