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
#include "lib/race.h"
#include "lib/srcu.h"
#include "lib/thread.h"
#include "tain/notifier.h"

/* How a newcomer is kept from meeting a section half way (rule N3); docs/notifier.md. */
enum notifier_admission {
	/* Registration takes every lock under which a section can run: O(VMAs). */
	NOTIFIER_ADMIT_MM_LOCK,
	/* Sections stand in a slot of their thread; registration publishes itself and waits for the open ones:
	   O(threads). */
	NOTIFIER_ADMIT_SECTION,
};

/* struct mmu_notifier_subscriptions.interested: what a section has to do. */
#define MN_LIST 1u  /* call those on the list */
#define MN_ITREE 2u /* those in the tree */
#define MN_EMM 4u   /* those on the EMM chain */
#define MN_LISTEN (MN_LIST | MN_ITREE | MN_EMM)
#define MN_COUNT 8u /* let registration find it: admission by section, constant */

/* Private to notifier/ but for the fast paths below. */
struct mmu_notifier_subscriptions {
	u32 interested;		     /* written under lock */
	struct srcu_struct sections; /* section admission: readers are sections that have no slot; made with the mm */
	struct mmu_notifier *first;  /* written under lock, walked under the notifier SRCU domain */
	struct emm_notifier *emm;    /* chain; written under lock, walked under the notifier SRCU domain */
	u32 emm_version;	     /* 0: no chain yet; written under lock */
	u32 has_itree;		     /* sections are counted in active; set once */
	u32 itree_ready;	     /* ... and none is open that was not; set once */

	/* Section admission: one get, or one EMM registration, at a time; guards emm_version. Held over the wait for
	   sections. */
	struct mutex register_mutex;

	struct spinlock lock; /* guards the links of the lists and all below */
	u64 born;	      /* last one given out */
	/* rule I1 */
	u64 seq;    /* odd: a section met an interval, the tree is frozen */
	u64 active; /* sections open */
	struct mmu_interval_notifier *itree;
	struct mmu_interval_notifier *deferred; /* to insert or remove when seq turns even */
	struct wait_queue wait;			/* for seq */
};

/* What the layer asks of the address space that embeds a struct notifier_mm. */
struct notifier_mm_ops {
	/*
	 * mmap_lock for write around registration. With section admission this one,
	 * unlock_for_write, take_all_locks and drop_all_locks are never called.
	 */
	void (*lock_for_write)(struct notifier_mm *mm);
	void (*unlock_for_write)(struct notifier_mm *mm);
	/* Does the calling thread hold it, for the _locked variants? NULL: nobody can tell, and nobody asks. */
	bool (*is_write_locked)(struct notifier_mm *mm);
	/*
	 * Every lock under which a section can run, in the order of rule N4.
	 * Return: 0, or with nothing left locked: -EINTR (a signal is pending), -ENOMEM, -EPERM.
	 */
	int (*take_all_locks)(struct notifier_mm *mm);
	void (*drop_all_locks)(struct notifier_mm *mm);
	/* mm_count reached zero: free the structure. May come on a thread of the SRCU callbacks, or of a barrier for
	 * them. */
	void (*free)(struct notifier_mm *mm);
	hva_t limit; /* addresses are below it; 0: any */
};

struct notifier_mm {
	const struct notifier_mm_ops *ops;
	struct mmu_notifier_subscriptions *subscriptions; /* rule N1: published once, freed with the mm */
	enum notifier_admission admission;		  /* constant */
	hva_t last;					  /* address; constant */
	s32 users;					  /* mm_users, atomic */
	s32 count;					  /* mm_count, atomic */
};

/* Both counts are one. Return: 0; -ENOMEM (section admission only: 64 KiB); -EINVAL for an unknown admission. */
int must_check notifier_mm_init(struct notifier_mm *mm, const struct notifier_mm_ops *ops,
				enum notifier_admission admission);
void notifier_mm_destroy(struct notifier_mm *mm); /* mm_count is zero: free the subscriptions */

/* mm_count. The last drop calls ops->free. */
void notifier_mm_grab(struct notifier_mm *mm);
void notifier_mm_drop(struct notifier_mm *mm);

/*
 * Any subscriber? Admission by mm_lock: needs no barrier under any lock of a section,
 * for none can come meanwhile (rule N3). By section: a hint, one may come at any time.
 */
static inline bool mm_has_notifiers(const struct notifier_mm *mm)
{
	const struct mmu_notifier_subscriptions *subs = READ_ONCE(mm->subscriptions);

	return subs && (READ_ONCE(subs->interested) & MN_LISTEN);
}

/* struct mmu_notifier_range.flags: open, and what takes part in it. */
#define MN_OPEN 1u
#define MN_IN_ITREE 2u
#define MN_IN_LIST 4u
#define MN_IN_EMM 8u
#define MN_SLOT 16u    /* it is the one in its thread's slot */
#define MN_COUNTED 32u /* not in a slot, but a reader of subscriptions->sections */
#define MN_REFUSED 64u /* somebody cannot start now: closed again before start returns */
#define MN_QUICK 128u  /* checking builds: in the slot, nobody to call. In a release build these leave 0 */

/*
 * The section that a thread has open; further ones of the same thread are only counted.
 * Written by its thread. Slot 0 looks taken: threads without thread_line are only counted.
 */
struct mn_slot {
	uintptr_t word; /* its address space; MN_HEARD: somebody listened. 0: none */
	u64 ticket;	/* of subs->sections, drawn before; only with MN_HEARD, only by section */
	u32 more;	/* sections beyond; its thread alone looks */
} cacheline_aligned;
static_assert(sizeof(struct mn_slot) == CACHELINE, "thread_line is an offset in mn_slots");
#define MN_HEARD 1ul
extern struct mn_slot mn_slots[THREAD_MAX + 1] link_hidden; /* by thread_line */

static inline struct mn_slot *mn_slot_self(void)
{
	return (struct mn_slot *)((char *)mn_slots + thread_line);
}

int mn_range_start(struct mmu_notifier_range *range);
void mn_range_end(struct mmu_notifier_range *range);
void mn_release(struct notifier_mm *mm);
bool mn_clear_flush_young(struct notifier_mm *mm, hva_t start, hva_t end);
bool mn_clear_young(struct notifier_mm *mm, hva_t start, hva_t end);
bool mn_test_young(struct notifier_mm *mm, hva_t start, hva_t end);
void mn_secondary_tlbs(struct notifier_mm *mm, hva_t start, hva_t end);

/*
 * A section that nobody wants to hear of: two stores, of which it keeps no note; admission.c
 * has the argument. Return: false: somebody does, or the slot is taken.
 */
static inline bool mn_quick_start(const struct notifier_mm *mm, const struct mmu_notifier_subscriptions *subs)
{
	struct mn_slot *slot = mn_slot_self();

	if (unlikely(slot->word))
		return false;
	WRITE_ONCE(slot->word, (uintptr_t)mm);
	race_point("notifier:quick_in_slot");
	smp_mb_light(); /* B, pairs with A in srcu_advance() */
	if (likely(READ_ONCE(subs->interested) == MN_COUNT))
		return true;
	smp_store_release(&slot->word, 0);
	return false;
}

/* Of a section that left no flags: it stands in the slot, or was none, as by mm_lock without subscribers. */
static inline void mn_quick_end(const struct notifier_mm *mm)
{
	struct mn_slot *slot = mn_slot_self();

	if (likely(slot->word == (uintptr_t)mm))
		smp_store_release(&slot->word, 0); /* C, pairs with the acquire in slot_is_old() */
}

/*
 * Open a section on range (rule N5). A blockable one always succeeds.
 * @range: one object per open section, kept (or copied) until end.
 * Context: one of the locks of take_all_locks is held (admission by mm_lock), any or
 * none (by section). Sleeps if blockable. The same thread closes it, before it ends: else
 * its subscribers hear of no end (rule N7), and registration takes it for over (a checker
 * report).
 * Return: 0; -EAGAIN only if !range->blockable: then no entry may be touched and
 * end must not be called (rule N6); -EINVAL for an empty, reversed or too long range
 * if anybody listens (a checker report too).
 */
static inline int mmu_notifier_invalidate_range_start(struct mmu_notifier_range *range)
{
	const struct notifier_mm *mm = range->mm;
	const struct mmu_notifier_subscriptions *subs = READ_ONCE(mm->subscriptions);
	u32 interested;

	if (CHECKING) /* these check every section */
		return mn_range_start(range);
	if (!subs)
		return 0;
	interested = READ_ONCE(subs->interested);
	if (likely(interested == MN_COUNT) ? mn_quick_start(mm, subs) : !interested)
		return 0;
	return mn_range_start(range);
}

/*
 * Close it. One that is not open is a checker report, and ignored; but for one of an
 * address space of which the same thread has another open that nobody hears of.
 */
static inline void mmu_notifier_invalidate_range_end(struct mmu_notifier_range *range)
{
	/* start said whether somebody hears, whoever came or went since */
	if (CHECKING || unlikely(range->flags))
		mn_range_end(range);
	else
		mn_quick_end(range->mm);
}

/*
 * First act of exit (rule N8). Waits for running callbacks even if nobody is listed
 * any more: who unregisters at this moment may still be in one.
 * Context: mm_users is zero, no lock held; sleeps. From a callback (catalogue 17) it
 * would wait for its caller for ever: a checker report.
 */
static inline void mmu_notifier_release(struct notifier_mm *mm)
{
	if (READ_ONCE(mm->subscriptions))
		mn_release(mm);
}

/*
 * Aging (rule N11): was [start, end) accessed by any subscriber, and forget it. All
 * are asked. Context: the page-table lock is held; atomic; in no section.
 */
static inline bool mmu_notifier_clear_flush_young(struct notifier_mm *mm, hva_t start, hva_t end)
{
	return mm_has_notifiers(mm) && mn_clear_flush_young(mm, start, end);
}

/* The same without a flush of the subscribers' TLBs. */
static inline bool mmu_notifier_clear_young(struct notifier_mm *mm, hva_t start, hva_t end)
{
	return mm_has_notifiers(mm) && mn_clear_young(mm, start, end);
}

/* The same without forgetting; stops at the first that says yes. */
static inline bool mmu_notifier_test_young(struct notifier_mm *mm, hva_t start, hva_t end)
{
	return mm_has_notifiers(mm) && mn_test_young(mm, start, end);
}

/*
 * The entries of [start, end) have changed: devices that walk the page table drop what
 * they hold of them (rule N13). Context: the page-table lock is held, the entry is
 * cleared, and neither is its page free nor a new entry visible yet; atomic.
 */
static inline void mmu_notifier_arch_invalidate_secondary_tlbs(struct notifier_mm *mm, hva_t start, hva_t end)
{
	if (mm_has_notifiers(mm))
		mn_secondary_tlbs(mm, start, end);
}

/*
 * For allocators whose memory may have to be reclaimed: reclaim opens sections and
 * calls callbacks, so none may come from a callback or under a lock that one takes
 * (rule I7). Nothing in a release build.
 */
#if CHECKING
void mmu_notifier_might_reclaim(void);
#else
static inline void mmu_notifier_might_reclaim(void)
{
}
#endif

/* EMM (rule E3): was [start, end) accessed? @young: the caller knows that already; V1 does not ask then. */
bool emm_notify_referenced(struct notifier_mm *mm, hva_t start, hva_t end, bool young);

#endif /* NOTIFIER_NOTIFIER_H */
