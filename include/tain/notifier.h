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
 *
 * Three kinds of subscriber, side by side:
 *   struct mmu_notifier            the whole address space, a list
 *   struct mmu_interval_notifier   one range, a tree and a sequence count
 *   struct emm_notifier            Lameter's rival of 2008: one callback, a chain
 *
 * docs/notifier.md says which calls exclude which. Every function: 0 or -errno; calls
 * that the contract forbids are an -errno too, and a report of the checking builds. -EINTR:
 * a signal is pending for the calling thread, of which its handler tells us (tain/signal.h).
 */
#ifndef TAIN_NOTIFIER_H
#define TAIN_NOTIFIER_H

#include "tain/signal.h"
#include "tain/types.h"

struct notifier_mm; /* an address space, as far as notifiers know it */
struct mmu_notifier;
struct mmu_interval_notifier;
struct emm_notifier;

/* Why a section is opened; subscribers may ignore sections they know to be harmless. Never a bit mask. */
enum mmu_notifier_event {
	MMU_NOTIFY_UNMAP,	    /* munmap, or MAP_FIXED over a mapping; the VMA goes */
	MMU_NOTIFY_CLEAR,	    /* the VMA stays, its entries go: DONTNEED, mremap, reclaim */
	MMU_NOTIFY_PROTECTION_VMA,  /* mprotect: same pages, other rights for the whole VMA */
	MMU_NOTIFY_PROTECTION_PAGE, /* same pages, other rights for some entries */
	MMU_NOTIFY_RELEASE,	    /* the address space ends */
	MMU_NOTIFY_SOFT_DIRTY,	    /* entries are write-protected to learn who writes; same pages */
	MMU_NOTIFY_MIGRATE,	    /* the contents move to other frames */
	MMU_NOTIFY_EXCLUSIVE,	    /* the pages become private to a device, range->owner */
	MMU_NOTIFY_NR
};

/* One section. One object per open section: what it carries from start to end is in it. */
struct mmu_notifier_range {
	struct notifier_mm *mm;
	hva_t start; /* page aligned, first byte */
	hva_t end;   /* page aligned, one past the last byte */
	enum mmu_notifier_event event;
	bool blockable;	   /* false: callbacks must not sleep and may return -EAGAIN (rule N6) */
	const void *owner; /* MIGRATE and EXCLUSIVE: who asked, so that it may skip its own section; else NULL */
	/* The rest belongs to the notifier layer: zero before the first start; may be copied until end. */
	uint64_t seen;	   /* the youngest subscription whose start was called; 0: none */
	uint64_t emm_seen; /* the same of the EMM chain */
	int32_t sections;  /* section admission: what the end gives back */
	uint32_t flags;	   /* 0: not open */
};

/*
 * A subscriber's callbacks; any may be NULL, both of start and end or neither
 * being the usual choice. Each returns to its caller: of a thread that ends in one
 * (pthread_exit, cancellation) the locks of the mm stay held, and subscribers hear of
 * no end of its section. From then on, on this mm:
 *   wait for ever   the operations of mm.h and the last mmput(); mmu_interval_read_begin() and
 *                   remove, of an interval that the section met; with admission by mm_lock
 *                   also register, get, the first interval's insert, EMM's register
 *   go on           unregister, put, later inserts; with admission by section also those
 *                   that register
 */
struct mmu_notifier_ops {
	/*
	 * The address space is going away (rule N8). Called once or twice, possibly
	 * at the same time from exit and unregister: must be idempotent. After it
	 * the subscriber never creates a translation again.
	 * Context: may sleep; called inside the notifier SRCU read section: it may
	 * mmu_notifier_put() itself, and wait for no callback.
	 */
	void (*release)(struct mmu_notifier *subscription, struct notifier_mm *mm);

	/*
	 * Drop every translation in [range->start, range->end) and create none until
	 * the matching end. Sections nest and run in parallel.
	 * Context: may sleep if range->blockable; the caller holds locks of the mm, so
	 * the callback takes none of them, allocates no memory that may have to be
	 * reclaimed (rule I7), and drops no last reference to the mm.
	 * Return: 0; -EAGAIN only when !range->blockable. A subscriber that can fail
	 * must not implement invalidate_range_end (rule N6).
	 */
	int (*invalidate_range_start)(struct mmu_notifier *subscription, const struct mmu_notifier_range *range);

	/*
	 * The section is over; pages of the range may already be free. Only called
	 * if start was; not called at all if the subscription ended meanwhile (rule N7).
	 * Context: as start.
	 */
	void (*invalidate_range_end)(struct mmu_notifier *subscription, const struct mmu_notifier_range *range);

	/*
	 * Forget that [start, end) was accessed, flush so that the next access is
	 * noted, and say whether it was (rule N11).
	 * Context: atomic, under the page-table lock: the subscriber's lock nests in
	 * it. In no section. Same for the next three.
	 */
	bool (*clear_flush_young)(struct mmu_notifier *subscription, struct notifier_mm *mm, hva_t start, hva_t end);

	/* The same without a flush: accesses through a TLB may go unnoted for a while. */
	bool (*clear_young)(struct mmu_notifier *subscription, struct notifier_mm *mm, hva_t start, hva_t end);

	/* Was it accessed? Changes nothing. */
	bool (*test_young)(struct mmu_notifier *subscription, struct notifier_mm *mm, hva_t start, hva_t end);

	/*
	 * For a device that walks the page tables of the mm itself: drop what its
	 * TLB holds of [start, end), before it returns (rule N13). Excludes
	 * invalidate_range_start and _end.
	 */
	void (*arch_invalidate_secondary_tlbs)(struct mmu_notifier *subscription, struct notifier_mm *mm, hva_t start,
					       hva_t end);

	/*
	 * For mmu_notifier_get(): make a zeroed subscription in a structure of your own.
	 * Context: may sleep; by mm_lock under the mm's write lock, by section under no lock of
	 * tain's, and two gets may each call it: the slower one's goes to free_notifier unused.
	 * Return: 0; -errno, passed on.
	 */
	int (*alloc_notifier)(struct notifier_mm *mm, struct mmu_notifier **subscription);

	/*
	 * The last mmu_notifier_put() is over and no callback runs, or it was never needed: free it.
	 * Context: a thread of tain's, or mmu_notifier_get(); must not wait.
	 */
	void (*free_notifier)(struct mmu_notifier *subscription);
};

struct mmu_notifier {
	const struct mmu_notifier_ops *ops; /* set by the subscriber before registration, constant */
	/* The rest belongs to the notifier layer; zero before the first registration. */
	struct mmu_notifier *list_next;
	struct mmu_notifier **list_pprev;
	struct notifier_mm *mm;
	uint64_t born; /* in the order of publication, per mm, from 1 */
	uint32_t state;
	uint32_t users; /* gets not put yet */
	void *rcu[2];
};

/*
 * Subscribe to an address space.
 * @subscription: lives until mmu_notifier_unregister() returned; ops set, the rest zero.
 * @mm: mm_users must be held above zero by the caller for the duration.
 * Context: sleeps. Admission by mm_lock: takes the mm's write lock and every lock
 * under which a section can run (rules N2, N3), so no section is open when the
 * subscriber becomes visible. Admission by section: takes none of them, publishes, and
 * waits for the sections that were open; callbacks may come before it returns, even
 * if it fails, so the subscriber must be ready, and hold no translation, until then.
 * Never in a section or a callback, nor holding a lock taken in one.
 * Return: 0; -EINVAL for NULL or contradictory ops (an end without a start: it would
 * hear of the end of sections it never saw begin; arch_invalidate_secondary_tlbs beside
 * one of them; half of alloc_notifier and free_notifier) or mm_users of zero; -EEXIST if
 * the subscription is registered already; -ENOMEM; -EINTR when a signal was pending
 * while locks were taken or sections waited for (nothing stays published; where
 * something was, it returns when no callback runs); -EPERM when
 * the mm is too large for a caller without the privilege; -EDEADLK from a callback, in
 * a section, or where it would take the mm's write lock and the thread holds it (a checker
 * report too).
 * Pairs: mmu_notifier_unregister(). Source: rules N1 to N4; section: docs/notifier.md.
 */
TAIN_API int mmu_notifier_register(struct mmu_notifier *subscription, struct notifier_mm *mm);

/*
 * The same for who holds the mm's write lock: mmap_write_lock() (tain/mm.h).
 * Return: as above, and -EINVAL if the thread does not hold it (a checker report too).
 */
TAIN_API int mmu_notifier_register_locked(struct mmu_notifier *subscription, struct notifier_mm *mm);

/*
 * End a subscription. Calls ->release if exit has not. After return no callback
 * runs and the memory may be reused.
 * Context: sleeps (waits for running callbacks of every mm); never from a callback,
 * nor holding a lock that a callback takes. Needs mm_count only, which it holds.
 * Return: 0; -EINVAL if it is not registered on this mm, or came by mmu_notifier_get();
 * -EDEADLK from a callback (a checker report too).
 * Pairs: mmu_notifier_register(). Source: rule N9.
 */
TAIN_API int mmu_notifier_unregister(struct mmu_notifier *subscription, struct notifier_mm *mm);

/*
 * Find the subscription with these ops on this mm and count one more user, or make
 * one with ops->alloc_notifier and register it (rule N10).
 * @subscription: receives it; the caller's until mmu_notifier_put().
 * Context: as mmu_notifier_register().
 * Return: 0; -EINVAL if alloc_notifier or free_notifier is missing, or the former says 0
 * and gives none, or one in use, or says more than 0 (a checker report too; what it gave is not freed); -EOVERFLOW at
 * UINT32_MAX users; the -errno that alloc_notifier returned; what mmu_notifier_register() returns
 * (what was allocated went to free_notifier then).
 * Pairs: mmu_notifier_put().
 */
TAIN_API int mmu_notifier_get(const struct mmu_notifier_ops *ops, struct notifier_mm *mm,
			      struct mmu_notifier **subscription);

/* The same for who holds the mm's write lock, as mmu_notifier_register_locked(). */
TAIN_API int mmu_notifier_get_locked(const struct mmu_notifier_ops *ops, struct notifier_mm *mm,
				     struct mmu_notifier **subscription);

/*
 * Give back one get. The last one ends the subscription: free_notifier is called once
 * no callback runs. Never calls ->release: every translation must be gone before.
 * Context: any thread, also inside ->release; takes a spinlock.
 * Return: 0; -EINVAL if it came by no mmu_notifier_get().
 * Pairs: mmu_notifier_get(). Source: rule N10.
 */
TAIN_API int mmu_notifier_put(struct mmu_notifier *subscription);

/*
 * Wait until every free_notifier owed for puts so far has returned: before the code
 * they run is unloaded.
 * Context: sleeps; never from a callback or free_notifier. Where no thread is to be had for
 * them, they run in here, under the caller's locks.
 * Return: 0; -EDEADLK from a callback (a checker report too).
 * Pairs: mmu_notifier_put(). Source: rule N10. It waits for callbacks, not merely for a grace period: after the
 * latter they are still to come.
 */
TAIN_API int mmu_notifier_synchronize(void);

/* --- interval notifiers ------------------------------------------------------------ */

struct mmu_interval_notifier_ops {
	/*
	 * The range of the section meets ours. Under the lock that guards the
	 * translations: mmu_interval_set_seq(subscription, cur_seq), always, then
	 * drop those in the range.
	 * Context: as invalidate_range_start. With MMU_NOTIFY_RELEASE: drop all, for ever.
	 * Return: true; false only when !range->blockable, before anything was changed.
	 */
	bool (*invalidate)(struct mmu_interval_notifier *subscription, const struct mmu_notifier_range *range,
			   uint64_t cur_seq);
};

struct mmu_interval_notifier {
	/* All belongs to the notifier layer; zero before the first insert. */
	const struct mmu_interval_notifier_ops *ops;
	struct notifier_mm *mm;
	hva_t start, last; /* inclusive */
	struct mmu_interval_notifier *left, *right;
	hva_t max_last; /* of the subtree */
	int32_t height; /* of the subtree; 0: not in the tree */
	uint32_t state;
	struct mmu_interval_notifier *deferred_next;
	bool deferred;
	uint64_t seq; /* odd, always (rule I2) */
};

/*
 * Subscribe to [start, start + length) of an address space.
 * @subscription: zeroed; lives until mmu_interval_notifier_remove() returned.
 * Takes effect at once for mmu_interval_read_begin(): while sections are open that may
 * have met it, that waits (rule I5).
 * Context: sleeps; as mmu_notifier_register(), the first time on an mm, else one spinlock.
 * Return: 0; -EINVAL for NULL, no ->invalidate, mm_users of zero, or a range past the end
 * of the mm; -EOVERFLOW for a length of zero or a range that wraps; -EEXIST if inserted
 * already; -ENOMEM, -EINTR, -EPERM, -EDEADLK as mmu_notifier_register().
 * Pairs: mmu_interval_notifier_remove(). Source: rule I5.
 */
TAIN_API int mmu_interval_notifier_insert(struct mmu_interval_notifier *subscription, struct notifier_mm *mm,
					  hva_t start, uint64_t length, const struct mmu_interval_notifier_ops *ops);

/* The same for who holds the mm's write lock, as mmu_notifier_register_locked(). */
TAIN_API int mmu_interval_notifier_insert_locked(struct mmu_interval_notifier *subscription, struct notifier_mm *mm,
						 hva_t start, uint64_t length,
						 const struct mmu_interval_notifier_ops *ops);

/*
 * End it. After return no callback runs and the memory may be reused.
 * Context: sleeps: waits for the sections that are open if one of them met an interval.
 * Never from a callback or in a section, nor holding a lock that is taken in one. No
 * signal ends the wait.
 * Return: 0; -EINVAL if it is not inserted; -EDEADLK (a checker report too).
 * Pairs: mmu_interval_notifier_insert(). Source: rule I6.
 */
TAIN_API int mmu_interval_notifier_remove(struct mmu_interval_notifier *subscription);

/*
 * Before looking the pages up: wait until no section meets the interval, and sample
 * its sequence (rules I3, I4).
 *
 *   again:
 *     mmu_interval_read_begin(s, &seq)
 *     look the pages up, no lock of the driver held
 *     lock the driver's lock
 *     if (mmu_interval_read_retry(s, seq)) { unlock; goto again; }
 *     use them
 *     unlock
 *
 * Context: sleeps; in no callback, in no section, holding no lock that is taken in one. Not
 * beside mmu_interval_notifier_remove() of the same interval.
 * Return: 0; -EINTR when a signal is pending and it had to wait; -EDEADLK in a callback or
 * a section; -EINVAL if not inserted.
 * Pairs: mmu_interval_read_retry().
 */
TAIN_API int mmu_interval_read_begin(struct mmu_interval_notifier *subscription, uint64_t *seq);

/*
 * In invalidate(), before the translations go.
 * Context: the lock under which mmu_interval_read_retry() is called is held.
 */
static inline void mmu_interval_set_seq(struct mmu_interval_notifier *subscription, uint64_t cur_seq)
{
	__atomic_store_n(&subscription->seq, cur_seq, __ATOMIC_RELAXED);
}

/* Did a section meet the interval since? Context: the driver's lock, as above. True: do not use what was found. */
static inline bool mmu_interval_read_retry(const struct mmu_interval_notifier *subscription, uint64_t seq)
{
	return __atomic_load_n(&subscription->seq, __ATOMIC_RELAXED) != seq;
}

/* The same without the lock, to give up early: true is certain, false says nothing. */
static inline bool mmu_interval_check_retry(const struct mmu_interval_notifier *subscription, uint64_t seq)
{
	return mmu_interval_read_retry(subscription, seq);
}

/* --- EMM ---------------------------------------------------------------------------- */

enum emm_operation {
	emm_release,	      /* the address space ends; one thread is left */
	emm_invalidate_start, /* as invalidate_range_start */
	emm_invalidate_end,
	emm_referenced, /* was [start, end) accessed? Positive: yes. May forget it */
};

/* Which of Lameter's proposals the chain of an mm follows (rules E3, E4). */
enum emm_version {
	/* The walk stops at the first answer other than zero; registration by the mm's write lock alone. */
	EMM_V1 = 1,
	/* The walk never stops, the first error is kept, positive answers add up; admitted as mmu notifiers are. */
	EMM_V3 = 3,
};

struct emm_notifier {
	/* Context: as the operation's counterpart in struct mmu_notifier_ops. Set by the subscriber. */
	int (*callback)(struct emm_notifier *e, struct notifier_mm *mm, enum emm_operation op, hva_t start, hva_t end);
	/* The rest belongs to the notifier layer. */
	struct emm_notifier *next;
	uint64_t born;
	uint32_t state;
};

/*
 * Put @e at the head of the chain. It stays until emm_release: there is no unregister (rule E1).
 * A section that another thread has open may still call it after that (rule E2). So its memory
 * lives until the last mmput() has returned; from then on none does, and it may be freed, or
 * registered again.
 * @version: of the chain; all on one mm agree.
 * EMM_V1 has two known holes, kept for study: a subscriber behind one that answers
 * other than zero hears nothing (catalogue 2), and a section open under the locks of
 * reclaim meets the newcomer half way (catalogue 1).
 * Context: EMM_V3 as mmu_notifier_register(); EMM_V1 takes the mm's write lock.
 * Return: 0; -EINVAL for NULL, no callback, an unknown version or one other than the
 * chain's, or mm_users of zero; -EEXIST; -ENOMEM; EMM_V3 also -EINTR, -EPERM, -EDEADLK.
 * Pairs: none; the last mmput() ends it. Source: rules E1 to E5.
 */
TAIN_API int emm_notifier_register(struct emm_notifier *e, struct notifier_mm *mm, enum emm_version version);

#endif /* TAIN_NOTIFIER_H */
