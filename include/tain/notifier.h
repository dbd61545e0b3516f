/* SPDX-License-Identifier: MIT */
/*
 * mmu notifiers: how the owner of an address space tells its mirrors to let go.
 *
 * The names and meanings are the kernel's. A subscriber holds translations of an
 * address space; between the return of invalidate_range_start() and the call of
 * invalidate_range_end() it has none in the range and creates none (rule N5).
 *
 *   owner                                    subscriber
 *   -----                                    ----------
 *   mmu_notifier_invalidate_range_start() -> count++, drop translations, flush
 *   clear page table entries                 faults on the range retry
 *   mmu_notifier_invalidate_range_end()   -> seq++, count--
 *   free the pages
 */
#ifndef TAIN_NOTIFIER_H
#define TAIN_NOTIFIER_H

#include "tain/types.h"

struct notifier_mm; /* an address space, as far as notifiers know it */
struct mmu_notifier;

/* Why a section is opened; subscribers may ignore sections they know to be harmless. */
enum mmu_notifier_event {
	MMU_NOTIFY_UNMAP,	    /* munmap, or MAP_FIXED over a mapping; the VMA goes */
	MMU_NOTIFY_CLEAR,	    /* the VMA stays, its entries go: DONTNEED, mremap, reclaim */
	MMU_NOTIFY_PROTECTION_VMA,  /* mprotect: same pages, other rights for the whole VMA */
	MMU_NOTIFY_PROTECTION_PAGE, /* same pages, other rights for some entries */
	MMU_NOTIFY_RELEASE,	    /* the address space ends */
	MMU_NOTIFY_NR
};

struct mmu_notifier_range {
	struct notifier_mm *mm;
	hva_t start; /* page aligned, first byte */
	hva_t end;   /* page aligned, one past the last byte */
	enum mmu_notifier_event event;
	bool blockable; /* false: callbacks must not sleep and may return -EAGAIN (rule N6) */
};

/*
 * A subscriber's callbacks; any may be NULL, both of start and end or neither
 * being the usual choice.
 */
struct mmu_notifier_ops {
	/*
	 * The address space is going away (rule N8). Called once or twice, possibly
	 * at the same time from exit and unregister: must be idempotent. After it
	 * the subscriber never creates a translation again.
	 * Context: may sleep; called inside the notifier SRCU read section.
	 */
	void (*release)(struct mmu_notifier *subscription, struct notifier_mm *mm);

	/*
	 * Drop every translation in [range->start, range->end) and create none until
	 * the matching end. Sections nest and run in parallel.
	 * Context: may sleep if range->blockable; the caller holds locks of the mm, so
	 * the callback takes none of them.
	 * Return: 0; -EAGAIN only when !range->blockable. A subscriber that can fail
	 * must not implement invalidate_range_end (rule N6).
	 */
	int (*invalidate_range_start)(struct mmu_notifier *subscription, const struct mmu_notifier_range *range);

	/* The section is over; pages of the range may already be free. Context: as start. */
	void (*invalidate_range_end)(struct mmu_notifier *subscription, const struct mmu_notifier_range *range);
};

struct mmu_notifier {
	const struct mmu_notifier_ops *ops; /* set by the subscriber before registration, constant */
	/* The rest belongs to the notifier layer; zero before the first registration. */
	struct mmu_notifier *list_next;
	struct mmu_notifier **list_pprev;
	struct notifier_mm *mm;
	unsigned int users;
};

/*
 * Subscribe to an address space.
 * @subscription: lives until mmu_notifier_unregister() returned; ops set, the rest zero.
 * @mm: mm_users must be held above zero by the caller for the duration.
 * Context: sleeps; takes the mm's write lock and every lock under which a section
 * can run (rules N2, N3), so no section is open when the subscriber becomes visible.
 * Return: 0; -EINVAL for NULL or contradictory ops (an end without a start: it would
 * hear of the end of sections it never saw begin) or mm_users of zero; -EEXIST if the
 * subscription is registered already; -ENOMEM; -EINTR when a signal ended the taking of
 * all locks (nothing is published); -EDEADLK from a callback (a checker report too).
 * Source: rules N1 to N4.
 */
TAIN_API int mmu_notifier_register(struct mmu_notifier *subscription, struct notifier_mm *mm);

/*
 * End a subscription. Calls ->release if exit has not. After return no callback
 * runs and the memory may be reused.
 * Context: sleeps (waits for running callbacks of every mm); never from a callback,
 * nor holding a lock that a callback takes. Needs mm_count only, which it holds.
 * Return: 0; -EINVAL if it is not registered on this mm; -EDEADLK from a callback
 * (a checker report too).
 * Source: rule N9.
 */
TAIN_API int mmu_notifier_unregister(struct mmu_notifier *subscription, struct notifier_mm *mm);

#endif /* TAIN_NOTIFIER_H */
