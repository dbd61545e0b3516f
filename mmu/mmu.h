/* SPDX-License-Identifier: MIT */
/*
 * The door to mmu/: one VM's second MMU. It maps gpa to frames in tables of its
 * own, subscribes to the mm behind its memslots, and lets go when that changes.
 *
 * tests/mmu_matrix.c draws which of these may run beside which.
 */
#ifndef MMU_MMU_H
#define MMU_MMU_H

#include "lib/base.h"
#include "mm/mm.h"

struct mmu;

/* Requests a vCPU serves before its next guest access (rule K23). */
#define MMU_REQ_TLB_FLUSH BIT(0)
#define MMU_REQ_KICK BIT(1)  /* leave guest mode for the owner's sake; set through mmu_kick() */
#define MMU_REQ_AUDIT BIT(2) /* stay outside guest mode while this is set: an auditor reads the TLB */

enum mmu_vcpu_mode { MMU_OUTSIDE, MMU_IN_GUEST };

struct mmu_vcpu;
struct mmu_vcpu_ops {
	/* Drop every cached translation. Context: the vCPU's own thread, in guest mode: no locks. */
	void (*tlb_flush)(struct mmu_vcpu *vcpu);
	/*
	 * Call mmu_audit_translation() for each cached translation; return the number
	 * that failed. Context: the auditor's thread; the vCPU is held outside guest mode.
	 */
	unsigned int (*tlb_audit)(struct mmu_vcpu *vcpu);
};

/* What the second MMU knows of a vCPU; embedded in the engine's vCPU. */
struct mmu_vcpu {
	struct mmu *mmu;
	const struct mmu_vcpu_ops *ops;
	u32 id;
	u32 mode;	       /* enum mmu_vcpu_mode; written by the vCPU; K23 */
	u32 requests;	       /* atomic bits; polled by the guest's accessor */
	u64 flush_asked;       /* tickets: a waiter is done when flush_done >= its ticket, or mode is OUTSIDE */
	u64 flush_done;	       /* written by the vCPU */
	struct mmu_vcpu *next; /* list of the mmu's vCPUs; under mmu's vcpu lock, read under its SRCU */
} cacheline_aligned;

/* Outcome of mmu_fault(); negative is -errno. */
enum mmu_fault_result {
	MMU_FAULT_FIXED,    /* an entry was installed or widened */
	MMU_FAULT_SPURIOUS, /* the entry allows the access already */
	MMU_FAULT_RETRY,    /* an invalidation raced; enter the guest and try again */
	MMU_FAULT_MMIO,	    /* no memslot, or a write to a read-only one */
};

struct mmu_translation {
	pfn_t pfn;
	void *host;    /* address of the page in the arena */
	bool writable; /* a write may be cached now: writable and dirty */
};

struct mmu_stats {
	u64 faults, retries, spurious, tables, mapped, zapped, flushes, flush_waits, invalidations;
};

/*
 * Create the second MMU of one VM over @mm and subscribe to it.
 * @format: "ept". Lifetime of @mm: held (mmgrab) until mmu_destroy().
 * Context: sleeps. Return: 0; -EINVAL (unknown format); -ENOMEM; -EINTR.
 */
int mmu_create(struct mm_struct *mm, const char *format, struct mmu **mmu);

/* Unsubscribe, free all tables. No vCPU may be left. Context: sleeps; no lock of the mm held. */
void mmu_destroy(struct mmu *mmu);

const char *mmu_format(const struct mmu *mmu); /* "EPT", ... */

#define MMU_MAX_SLOTS 64
#define MMU_SLOT_READONLY BIT(0)

/*
 * Add, move or (npages 0) delete slot @id: gfns [base, base + npages) are backed by
 * hva.. of the mm. When it returns nothing of an old slot is mapped or cached.
 * Context: sleeps until no section is open and faults on the old slots are over
 * (rule K3): no lock of the mm held, not from a notifier callback. Takes slots_lock, mmu_lock.
 * Return: 0; -EINVAL (unaligned, overflow, id, flags); -EEXIST (overlaps another
 * slot); -ENOENT (delete of none); -ENOMEM (nothing has changed).
 */
int mmu_set_memslot(struct mmu *mmu, u32 id, gfn_t base, u64 npages, hva_t hva, u32 flags);

/* Make @vcpu one of the VM's, its TLB empty. @vcpu: the caller's, until mmu_vcpu_remove() returned. Context: sleeps. */
void mmu_vcpu_add(struct mmu *mmu, struct mmu_vcpu *vcpu, u32 id, const struct mmu_vcpu_ops *ops);
/* Context: outside guest mode; sleeps until nobody looks at it any more. */
void mmu_vcpu_remove(struct mmu_vcpu *vcpu);

/*
 * Enter guest mode, serving TLB_FLUSH and AUDIT first. In guest mode the thread
 * takes no lock and polls before every access: flushes wait for it under mmu_lock.
 * Context: the vCPU's own thread, as the next two; may sleep while an audit lasts.
 * Return: 0; MMU_REQ_KICK: kicked, guest mode was not entered.
 */
u32 mmu_vcpu_enter(struct mmu_vcpu *vcpu);
void mmu_vcpu_exit(struct mmu_vcpu *vcpu);

/* At a poll: serve what is pending and stay in guest mode. Return: 0; MMU_REQ_KICK: kicked, guest mode was left. */
u32 mmu_vcpu_poll(struct mmu_vcpu *vcpu);

/* Ask the vCPU to leave guest mode at its next access. Does not wait. Any context. */
void mmu_kick(struct mmu_vcpu *vcpu);

/*
 * The page walker the processor has: in guest mode, look gpa up, set accessed (and
 * dirty for a write). Return: true and *out, or false: call mmu_fault() outside guest mode.
 */
bool mmu_walk(struct mmu_vcpu *vcpu, gpa_t gpa, enum mm_access access, struct mmu_translation *out);

/*
 * Resolve a failed walk (rules K4, K5, K10).
 * Context: outside guest mode; sleeps. Return: enum mmu_fault_result, or -EFAULT
 * (the mm does not allow it), -ENOMEM, -EIO (this VM is poisoned).
 */
int mmu_fault(struct mmu_vcpu *vcpu, gpa_t gpa, enum mm_access access);

/*
 * Flush every vCPU's TLB and wait until none can use an old translation (rules K12, K23).
 * Context: any but guest mode; under mmu_lock too. Waits for vCPUs to poll or leave.
 */
void mmu_flush_remote_tlbs(struct mmu *mmu);

struct mmu_mismatch {
	gfn_t gfn;
	pfn_t mirrored;
	pfn_t host;	  /* (pfn_t)-1: not mapped */
	bool tlb;	  /* found in a TLB; else in the tables */
	bool rights;	  /* same page, more rights than its backing gives */
	u32 vcpu;	  /* whose TLB */
	const char *rule; /* the VM stopped itself: what it found broken; else NULL */
};

/*
 * The exact audit: with the mm held still, compare every entry of the second MMU
 * with the host's page tables, and every TLB with both.
 * @report: called for each mismatch, under the audit's locks; may be NULL.
 * Context: sleeps; takes slots_lock, mmap_lock, vcpu_lock; not from guest mode.
 * Return: how many mismatches; what poisoned the VM counts as one.
 */
u64 mmu_audit(struct mmu *mmu, void (*report)(const struct mmu_mismatch *m, void *arg), void *arg);

/* For tlb_audit callbacks: is this cached translation backed by the tables and the host? Reports and returns false if
 * not. */
bool mmu_audit_translation(struct mmu_vcpu *vcpu, gfn_t gfn, pfn_t pfn, bool writable);

/* Has this VM poisoned itself? If so *m says what it met first. */
bool mmu_get_poison(struct mmu *mmu, struct mmu_mismatch *m);

void mmu_get_stats(struct mmu *mmu, struct mmu_stats *stats);

#endif /* MMU_MMU_H */
