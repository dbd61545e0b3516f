/* SPDX-License-Identifier: MIT */
/*
 * The kernel's events that a guest's faults are read from, and one of them as recorded.
 * Which of them a kernel fires depends on its second MMU; what is missing is named, not guessed.
 */
#ifndef LAB_TRACE_KVM_EVENT_H
#define LAB_TRACE_KVM_EVENT_H

#include "lib/base.h"

#define KVM_EVENT_FIELDS 4

/* X(id, system, name, filter, fields by name, up to KVM_EVENT_FIELDS) */
#define KVM_EVENTS(X)                                                                                                  \
	X(WALK, "kvmmmu", "kvm_mmu_pagetable_walk", NULL, "addr", "pferr")                                             \
	X(REQUESTED, "kvmmmu", "kvm_mmu_spte_requested", NULL, "gfn", "pfn", "level")                                  \
	X(SET_SPTE, "kvmmmu", "kvm_mmu_set_spte", NULL, "gfn", "spte", "level")                                        \
	X(PAGE_FAULT, "kvm", "kvm_page_fault", NULL, "fault_address", "error_code")                                    \
	X(ENTRY, "kvm", "kvm_entry", NULL)                                                                             \
	X(TDP_SPTE, "kvmmmu", "kvm_tdp_mmu_spte_changed", NULL, "gfn", "old_spte", "new_spte", "level")                \
	X(FAST_FAULT, "kvmmmu", "fast_page_fault", NULL, "cr2_or_gpa", "old_spte", "new_spte")                         \
	X(MMIO_FAULT, "kvmmmu", "handle_mmio_page_fault", NULL, "gfn")                                                 \
	X(USERSPACE_EXIT, "kvm", "kvm_userspace_exit", NULL, "reason", "errno")                                        \
	X(UNMAP_HVA, "kvm", "kvm_unmap_hva_range", NULL, "start", "end")                                               \
	X(PAGE_ALLOC, "kmem", "mm_page_alloc", "migratetype == 1", "pfn", "order")                                     \
	X(RSS_STAT, "kmem", "rss_stat", "curr == 1", "member")                                                         \
	X(SWITCH, "sched", "sched_switch", NULL, "prev_pid", "prev_state", "next_pid")                                 \
	X(NEW_TASK, "task", "task_newtask", NULL, "pid", "clone_flags")

enum kvm_event {
#define X(id, ...) KVM_EVENT_##id,
	KVM_EVENTS(X)
#undef X
		KVM_EVENT_NR
};

struct kvm_event_desc {
	const char *system, *name;
	const char *filter; /* in the kernel's words: the rest is not recorded; NULL: all of it is */
	const char *field[KVM_EVENT_FIELDS];
};

extern const struct kvm_event_desc kvm_event_table[KVM_EVENT_NR];

struct kvm_event_record {
	u64 ns;	   /* CLOCK_MONOTONIC */
	u64 order; /* in which it was read: a clock may be coarse */
	u32 tid;
	u32 event; /* enum kvm_event */
	u64 value[KVM_EVENT_FIELDS];
};

#endif /* LAB_TRACE_KVM_EVENT_H */
