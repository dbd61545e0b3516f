/* SPDX-License-Identifier: MIT */
/*
 * What the files of mmu/ share.
 *
 * The protocol in one picture. A fault looks the host's page up without the mmu
 * lock; what it found may be void by the time it takes it:
 *
 *   fault                                       invalidation
 *   -----                                       ------------
 *   seq = invalidate_seq                        start: lock(write)
 *   look the page up in the mm                           in_progress++, widen the hull
 *   lock(read)                                           zap, flush, wait for vCPUs
 *   in_progress and gfn in hull? seq changed?          unlock
 *     yes: retry                                host clears its entries
 *     no: install                               end:   lock(write)
 *   unlock                                               seq++; in_progress--
 *                                                      unlock
 *
 * A fault that locks before start installs, and start's zap removes what it did.
 * One that locks between start and end meets in_progress. One that locks after
 * end meets a new seq, unless it also sampled after end and thus saw the new host.
 */
#ifndef MMU_MMU_INTERNAL_H
#define MMU_MMU_INTERNAL_H

#include "lib/atomic.h"
#include "lib/base.h"
#include "lib/counter.h"
#include "lib/lock.h"
#include "lib/membarrier.h"
#include "lib/mutant.h"
#include "lib/race.h"
#include "lib/srcu.h"
#include "lib/thread.h"
#include "mmu/format.h"
#include "mmu/mmu.h"
#include "mmu/trace.h"
#include "notifier/notifier.h"

/* Private to a slot update: the slot is on its way out, faults on it retry (rule K3). */
#define SLOT_INVALID BIT(31)

struct memslot {
	u32 id;
	u32 flags;
	gfn_t base;
	u64 npages;
	hva_t hva;
};

/* What of the mm a slot shows. */
struct slot_span {
	hva_t start, end;
	hva_t hull_end; /* the last end of this one and those before */
	gfn_t base;
};

/* Immutable once published. Sorted by base; no two overlap in gfns (they may in hva). */
struct memslots {
	u64 generation; /* grows with every publication; SLOTS_UPDATING while an update is under way */
	u32 nr;
	struct memslot slot[MMU_MAX_SLOTS];
	/* The same by hva, for sections; behind them one that starts and ends where no range does. */
	struct slot_span span[MMU_MAX_SLOTS + 1];
};
#define SLOTS_UPDATING BIT(63)

enum mmu_counter {
	MMU_NR_FAULTS,
	MMU_NR_RETRIES,
	MMU_NR_SPURIOUS,
	MMU_NR_TABLES,
	MMU_NR_TABLES_FREED,
	MMU_NR_MAPPED,
	MMU_NR_ZAPPED,
	MMU_NR_FLUSHES,
	MMU_NR_FLUSH_WAITS,
	MMU_NR_INVALIDATIONS,
	MMU_NR_COUNTERS
};

/* Sections that a thread has open and that nobody else counts; written by it alone. */
struct mmu_open {
	u64 nr;
} cacheline_aligned;
static_assert(sizeof(struct mmu_open) == CACHELINE, "thread_line is an offset in open");

#define MMU_NO_TABLE (~0ull)

enum mmu_poisoned { MMU_SOUND, MMU_POISONING, MMU_POISONED };

struct mmu {
	/* Constant from creation to destruction. */
	const struct mmu_format *format;
	struct mm_struct *mm;
	struct frame_arena *arena;
	u8 *arena_base;
	u64 *root;
	struct mmu_notifier notifier;
	struct counters counters;

	/*
	 * Sections open now, hit or not (rule K3): those in `open` of their threads, and while
	 * a slot update counts, in `active`. invalidate_lock guards that, and the pointer `slots` against it.
	 */
	struct mmu_open *open; /* by thread_line, constant */
	u32 updating;	       /* a slot update counts: be counted in active; written under slots_lock */

	/*
	 * mmu_lock. For reading: faults, which install by cmpxchg. For writing:
	 * everything that removes or narrows. Guards the tables against removal,
	 * and the words below, written only under it for writing.
	 */
	struct rwlock lock cacheline_aligned;
	u64 invalidate_seq; /* sections that ended; read without the lock first (rule K4) */
	u64 in_progress;    /* sections open now that hit a slot */
	gfn_t range_start;  /* hull of their gfns, valid while in_progress */
	gfn_t range_end;
	bool released; /* the mm is gone: never map again (rule N8) */
	/* Zappers' alone: the leaf table they were in last. */
	u64 zap_index; /* its first gfn >> PT_INDEX_BITS, or MMU_NO_TABLE */
	u64 *zap_table;

	struct spinlock invalidate_lock cacheline_aligned;
	u64 active;
	struct wait_queue active_wait; /* slot updates wait for active == 0 */

	struct mutex slots_lock; /* one slot update or audit at a time */
	struct memslots *slots;	 /* read under srcu */
	struct srcu_struct srcu; /* readers: faults, sections, flushes */

	struct mutex vcpu_lock;	      /* guards the list of vCPUs; an audit holds it while it holds them */
	struct mmu_vcpu *vcpus;	      /* read under srcu */
	struct wait_queue audit_wait; /* vCPUs sleep here while an audit holds them outside */

	struct mmu_audit *audit; /* the one under way; written under vcpu_lock */

	u32 poisoned;		       /* enum mmu_poisoned; anything but SOUND: this VM answers -EIO */
	struct mmu_mismatch poisoning; /* why; written by who made it POISONING, constant once POISONED */
};

/* --- memslot.c ----------------------------------------------------------- */

int mmu_slots_init(struct mmu *mmu);
void mmu_slots_destroy(struct mmu *mmu);
/* The slot of @gfn, or NULL. */
const struct memslot *slot_find(const struct memslots *slots, gfn_t gfn);

/* The first in the order of hva that may end behind @start, or the one behind them all. A few are looked at in turn. */
static inline const struct slot_span *spans_from(const struct memslots *slots, hva_t start)
{
	const struct slot_span *s = slots->span;

	for (u32 nr = slots->nr, half; unlikely(nr > 8); nr = half) {
		half = nr / 2;
		if (s[half].hull_end <= start) {
			s += half + 1;
			half = nr - half - 1;
		}
	}
	while (s->hull_end <= start)
		s++;
	return s;
}

/* Those that may touch [start, end) of the mm; span_clip() knows. */
#define for_each_span(s, slots, range_start, range_end)                                                                \
	for (const struct slot_span *s = spans_from(slots, range_start); s->start < (range_end); s++)

/* Does [start, end) of the mm touch the slot? If so say which gfns that is. */
static inline bool span_clip(const struct slot_span *s, hva_t start, hva_t end, gfn_t *first, gfn_t *last_end)
{
	start = max(start, s->start);
	end = min(end, s->end);
	if (start >= end)
		return false;
	*first = s->base + ((start - s->start) >> PAGE_SHIFT);
	*last_end = s->base + ((align_up(end, PAGE_SIZE) - s->start) >> PAGE_SHIFT);
	return true;
}

/* The first that touches it, or NULL. */
static inline const struct slot_span *slots_touched(const struct memslots *slots, hva_t start, hva_t end)
{
	for_each_span(s, slots, start, end)
	{
		if (s->end > start)
			return s;
	}
	return NULL;
}

/* Those that are counted under the lock: a slot update asks for it, or the thread has no line. */
void section_enter_counted(struct mmu *mmu);
void section_leave_counted(struct mmu *mmu);

static inline struct mmu_open *open_self(const struct mmu *mmu)
{
	return (struct mmu_open *)((char *)mmu->open + thread_line);
}

/* Sections: count them, so that slots stand still from the first start to the last end (rule K3; memslot.c). */
static inline void mmu_section_enter(struct mmu *mmu)
{
	struct mmu_open *open = open_self(mmu);

	if (likely(thread_line)) {
		WRITE_ONCE(open->nr, open->nr + 1);
		race_point("mmu_section:open");
		smp_mb_light();				       /* B */
		if (likely(!smp_load_acquire(&mmu->updating))) /* pairs with C */
			return;
		smp_store_release(&open->nr, open->nr - 1);
	}
	section_enter_counted(mmu);
}

static inline void mmu_section_leave(struct mmu *mmu)
{
	struct mmu_open *open = open_self(mmu);

	/* Of the first line, of threads without one, it is 0. Release: pairs with the acquire of the update. */
	if (likely(open->nr))
		smp_store_release(&open->nr, open->nr - 1);
	else
		section_leave_counted(mmu);
}

static inline hva_t slot_hva(const struct memslot *slot, gfn_t gfn)
{
	return slot->hva + ((gfn - slot->base) << PAGE_SHIFT);
}

static inline const struct memslots *mmu_slots(struct mmu *mmu)
{
	return srcu_dereference(mmu->slots, &mmu->srcu);
}

/* --- table.c ------------------------------------------------------------- */

/* A new table, empty; NULL when the arena is full. */
u64 *table_alloc(struct mmu *mmu);
void table_free(struct mmu *mmu, u64 *table);
/* Free @table, which maps @level, and all below it. Nobody else may reach it. */
void table_free_tree(struct mmu *mmu, u64 *table, unsigned int level);
pfn_t table_pfn(const struct mmu *mmu, const u64 *table);

static inline u64 *table_at(const struct mmu *mmu, pfn_t pfn)
{
	return (u64 *)(mmu->arena_base + (pfn << PAGE_SHIFT));
}

/* The table that a present entry points to. */
static inline u64 *spte_table_at(const struct mmu *mmu, u64 spte)
{
	return (u64 *)(mmu->arena_base + spte_address(mmu->format, spte));
}

/*
 * Write an entry that others may write at the same time. Return: true; false if it
 * was not *old any more (*old receives what it is).
 */
bool spte_try_change(struct mmu *mmu, u64 *sptep, gfn_t gfn, unsigned int level, u64 *old, u64 new);

/* --- zap.c, beside zap.h --------------------------------------------------- */

/*
 * Empty [start, end) and free the tables that lie in it whole. No fault may install
 * there meanwhile. Context: sleeps; takes the mmu lock.
 */
void zap_slot(struct mmu *mmu, gfn_t start, gfn_t end);

/* --- flush.c ------------------------------------------------------------- */

/* mmu_flush_remote_tlbs(), by a reader of mmu->srcu. */
void mmu_flush_remote_tlbs_srcu(struct mmu *mmu);
/* Hold every vCPU outside guest mode until mmu_resume_vcpus_locked(). Context: vcpu_lock held; sleeps. */
void mmu_pause_vcpus_locked(struct mmu *mmu);
void mmu_resume_vcpus_locked(struct mmu *mmu);

/* --- age.c --------------------------------------------------------------- */

/*
 * Was a page of [start, end) accessed? @clear: forget it. @flush: and see to it that the
 * next access is noted. Context: the host's page-table lock; takes the mmu lock for reading.
 */
bool mmu_age(struct mmu *mmu, hva_t start, hva_t end, bool clear, bool flush);

/* --- notify.c ------------------------------------------------------------ */

extern const struct mmu_notifier_ops mmu_notifier_callbacks;

/* --- mmu.c --------------------------------------------------------------- */

static inline void mmu_count(struct mmu *mmu, enum mmu_counter counter)
{
	counter_add(&mmu->counters, counter, 1);
}

/*
 * This VM's state is wrong: remember the first reason, answer -EIO from now on.
 * @why: its rule says what is broken. Return: -EIO.
 */
int mmu_poison(struct mmu *mmu, const struct mmu_mismatch *why);

static inline bool mmu_poisoned(const struct mmu *mmu)
{
	return READ_ONCE(mmu->poisoned) != MMU_SOUND;
}

/* Hostile mode of the prove build; tests of exact outcomes turn it off. */
#if PROVE
extern bool mmu_hostile;
#else
#define mmu_hostile false
#endif

/* Entries that a zap visits between two yields. */
#if CHECKING
extern unsigned int mmu_zap_batch;
#else
#define mmu_zap_batch 4096u
#endif

#endif /* MMU_MMU_INTERNAL_H */
