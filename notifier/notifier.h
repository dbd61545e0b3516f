/* SPDX-License-Identifier: MIT */
/*
 * The owner's side of notifier/: what an address space embeds and calls. The layer
 * knows no VMA and no vCPU, only this.
 */
#ifndef NOTIFIER_NOTIFIER_H
#define NOTIFIER_NOTIFIER_H

#include "lib/atomic.h"
#include "lib/base.h"
#include "lib/lock.h"
#include "tain/notifier.h"

/* Private to notifier/ but for the test of emptiness below. */
struct mmu_notifier_subscriptions {
	struct mmu_notifier *first; /* written under lock, walked under the notifier SRCU domain */
	struct spinlock lock;	    /* guards the links of the list */
};

/* What the layer asks of the address space that embeds a struct notifier_mm. */
struct notifier_mm_ops {
	/* mmap_lock for write around registration. */
	void (*lock_for_write)(struct notifier_mm *mm);
	void (*unlock_for_write)(struct notifier_mm *mm);
	/* Every lock under which a section can run, in the order of rule N4. 0 or -EINTR, with nothing left locked. */
	int (*take_all_locks)(struct notifier_mm *mm);
	void (*drop_all_locks)(struct notifier_mm *mm);
	/* mm_count reached zero: free the structure. */
	void (*free)(struct notifier_mm *mm);
};

struct notifier_mm {
	const struct notifier_mm_ops *ops;
	struct mmu_notifier_subscriptions *subscriptions; /* rule N1: published once, freed with the mm */
	s32 users;					  /* mm_users, atomic */
	s32 count;					  /* mm_count, atomic */
};

void notifier_mm_init(struct notifier_mm *mm, const struct notifier_mm_ops *ops); /* both counts are one */
void notifier_mm_destroy(struct notifier_mm *mm); /* mm_count is zero: free the subscriptions */

/* mm_count. The last drop calls ops->free. */
void notifier_mm_grab(struct notifier_mm *mm);
void notifier_mm_drop(struct notifier_mm *mm);

/* Any subscriber? Needs no barrier under any lock of a section: none can come meanwhile (rule N3). */
static inline bool mm_has_notifiers(const struct notifier_mm *mm)
{
	const struct mmu_notifier_subscriptions *subs = READ_ONCE(mm->subscriptions);

	return subs && READ_ONCE(subs->first);
}

int mn_range_start(const struct mmu_notifier_range *range);
void mn_range_end(const struct mmu_notifier_range *range);
void mn_release(struct notifier_mm *mm);

/*
 * Open a section on range (rule N5). A blockable one always succeeds.
 * Return: 0; -EAGAIN only if !range->blockable: then no entry may be touched and
 * end must not be called (rule N6).
 */
static inline int mmu_notifier_invalidate_range_start(const struct mmu_notifier_range *range)
{
	return mm_has_notifiers(range->mm) ? mn_range_start(range) : 0;
}

static inline void mmu_notifier_invalidate_range_end(const struct mmu_notifier_range *range)
{
	if (mm_has_notifiers(range->mm))
		mn_range_end(range);
}

/*
 * First act of exit (rule N8). Waits for running callbacks even if nobody is listed
 * any more: who unregisters at this moment may still be in one.
 * Context: mm_users is zero, no lock held; sleeps.
 */
static inline void mmu_notifier_release(struct notifier_mm *mm)
{
	if (READ_ONCE(mm->subscriptions))
		mn_release(mm);
}

#endif /* NOTIFIER_NOTIFIER_H */
