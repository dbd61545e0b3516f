/* SPDX-License-Identifier: MIT */
/*
 * From the kernel's events to faults: pure, so that it can be tested on recorded streams.
 *
 * Each thread's events are read as a small machine. What a fault looks like:
 *
 *   shadow                                  TDP (EPT, NPT)
 *   kvm_mmu_pagetable_walk   opens          kvm_page_fault           opens
 *     mm_page_alloc, rss_stat ...             fast_page_fault          closes, if it changed the entry
 *     what the host did                       mm_page_alloc, rss_stat ...
 *   kvm_mmu_spte_requested   gfn, frame     kvm_mmu_spte_requested   gfn, frame
 *   kvm_mmu_set_spte         closes         kvm_mmu_set_spte         closes
 *   kvm_mmu_set_spte ...     prefetched     kvm_entry                the guest runs
 *
 * Guests that have not switched paging on have no walk: their faults begin with
 * kvm_mmu_spte_requested, and their time is not known.
 *
 * A process that is forked (task_newtask without CLONE_THREAD) has memory of its own, and a VM
 * of its own if it runs a guest: its pages are told apart. Of its hvas nothing is known.
 *
 * One that opens again at the same address before it closed was retried: an
 * invalidation came between (rule K4). What never closes was no fault of the second MMU:
 * an emulated access, MMIO, or an access that the host did not allow.
 */
#ifndef LAB_TRACE_FAULT_STREAM_H
#define LAB_TRACE_FAULT_STREAM_H

#include "lab/trace/fault_page.h"
#include "lab/trace/kvm_event.h"
#include "lib/base.h"

/* What the second MMU lacked. */
#define FAULT_CAUSES(X)                                                                                                \
	X(NEW, "new", "no entry was seen before: first touch, or mapped before the trace began")                       \
	X(INVALIDATED, "invalidated", "the host took the page's mapping away (mmu notifier)")                          \
	X(ZAPPED, "zapped", "KVM dropped the entry itself: memslot change, dirty log, recovery of huge pages")         \
	X(WRITE, "write", "the entry was there, without the right: COW, dirty log, zero page, KSM")                    \
	X(SPURIOUS, "spurious", "another vCPU had set the entry when this fault came to it")                           \
	X(UNTOLD, "untold", "an entry was there, and no event says why it is gone, or of which VM it was")

/* What the host had to do for the page. */
#define FAULT_HOSTS(X)                                                                                                 \
	X(NOTHING, "nothing", "nothing that an event tells: the page was there, or came from hugetlb")                 \
	X(ALLOCATED, "allocated", "a new page")                                                                        \
	X(COPIED, "copied", "a new page in the place of another: copy on write")                                       \
	X(MAPPED, "mapped", "a page that was in memory already: page cache")                                           \
	X(SWAPPED, "swapped_in", "a page from swap")                                                                   \
	X(ZERO, "zero_page", "the shared page of zeros")

enum fault_cause {
#define X(id, name, text) FAULT_##id,
	FAULT_CAUSES(X)
#undef X
		FAULT_CAUSE_NR
};

enum fault_host {
#define X(id, name, text) FAULT_HOST_##id,
	FAULT_HOSTS(X)
#undef X
		FAULT_HOST_NR
};

struct fault_name {
	const char *name, *text;
};

extern const struct fault_name fault_cause_table[FAULT_CAUSE_NR], fault_host_table[FAULT_HOST_NR];

enum fault_access { FAULT_READ, FAULT_WRITES, FAULT_EXEC };
extern const char *const fault_access_names[];

struct fault {
	u64 start_ns;
	u64 addr; /* shadow: guest virtual; TDP: guest physical */
	u64 gfn, pfn;
	hva_t hva;     /* 0: unknown */
	u64 ns;	       /* from start to the entry's being set; with entered, to the guest's running again */
	u64 page_ns;   /* of it, until the host's page was known: KVM's way to it is in that, too */
	u64 waited_ns; /* of it, asleep: userfaultfd, I/O, a lock */
	u64 preempted_ns;
	u32 tid;
	u32 space; /* 0: of the process that is traced; else the pid of the one, forked by it, whose memory this is */
	u32 by;	   /* INVALIDATED: the thread that did it */
	u32 retries;
	u32 prefetched; /* entries that came with it */
	u8 level;	/* 1: 4 KiB, 2: 2 MiB, 3: 1 GiB */
	u8 access, cause, host;
	bool entered; /* ns ends at kvm_entry */
	bool late;    /* it has no walk, its start was not seen: ns and page_ns are 0 */
	bool fast;    /* fixed without the mmu lock; no frame is known */
};

static inline u64 fault_gpa(const struct fault *f)
{
	return f->gfn << PAGE_SHIFT;
}

struct fault_stream_config {
	bool tdp;     /* EPT or NPT; else shadow paging */
	bool ept;     /* kvm_page_fault has EPT's exit qualification, not a page fault's error code */
	u64 zero_pfn; /* of the shared page of zeros; 0: unknown */
	hva_t (*hva)(u64 gfn, void *arg); /* where that page of the traced process's guest is; 0: unknown */
	void (*fault)(const struct fault *f, void *arg);
	void *arg;
};

struct fault_stream_counts {
	u64 attempts; /* shadow: page table walks; TDP: kvm_page_fault */
	u64 faults;
	u64 late; /* of them, without a time */
	u64 retries;
	u64 mmio;
	u64 failed;	/* the host did not allow the access: KVM_RUN returned an error */
	u64 unfinished; /* opened and never closed: emulated accesses, faults that are the guest's own */
	u64 broken;	/* events were lost within */
	u64 prefetched;
	u64 invalidations; /* kvm_unmap_hva_range */
};

struct fault_thread;

struct fault_stream {
	struct fault_stream_config config;
	struct fault_stream_counts counts;
	struct fault_pages pages;
	struct invalidations invalid;
	struct fault_thread *threads;
	u32 nr_threads, max_threads;
	u64 enters;   /* kvm_entry events: does this kernel fire them? */
	bool several; /* the caller's: the traced process has had several VMs. No event says whose an entry is. */
};

/* Return: 0; -ENOMEM. */
int fault_stream_init(struct fault_stream *s, const struct fault_stream_config *config);
void fault_stream_destroy(struct fault_stream *s); /* fine on a zeroed one */

/* In order of time. Return: 0; -ENOMEM: the record is not in, and later causes may be wrong. */
int fault_stream_feed(struct fault_stream *s, const struct kvm_event_record *r);

/* Whose memory is that thread's? As struct fault has it; 0 also for threads of the kernel, and before its first event.
 */
u32 fault_stream_space(const struct fault_stream *s, u32 tid);

/* Events were lost here: what is open is given up. */
void fault_stream_gap(struct fault_stream *s);

/* No more will come: report what was complete. */
void fault_stream_finish(struct fault_stream *s);

#endif /* LAB_TRACE_FAULT_STREAM_H */
