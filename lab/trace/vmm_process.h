/* SPDX-License-Identifier: MIT */
/*
 * Another process that runs guests with KVM, looked at from outside: what it is, its
 * mappings, and where its memslots are. Nothing of it is changed.
 */
#ifndef LAB_TRACE_VMM_PROCESS_H
#define LAB_TRACE_VMM_PROCESS_H

#include <sys/types.h>

#include "lib/base.h"
#include "lib/err.h"

/* Neighbouring VMAs over the same object, whatever their rights. */
struct vmm_area {
	hva_t start, end;
	u64 dev, ino, offset;
	bool shared;
	bool readable;	     /* some of it: the rest may be a reservation of address space */
	const char *backing; /* as in lab/host/op.h where that knows it; "shared_hugetlb", "device", "special" */
	char name[64];	     /* as in /proc/PID/maps; the end of a long one */
};

struct vmm_process {
	pid_t pid;
	int pidfd;
	int pagemap; /* -1: not readable, pagemap_error says why */
	int pagemap_error;
	u32 vms, vcpus; /* the most it had at a time, as far as was seen; a VM of two descriptors is one */
	char comm[32];
	struct vmm_area *area; /* by address */
	u32 nr_areas, max_areas;
};

/*
 * Return: 0; -ENOENT (no such process, or it ended), -EINVAL (a thread, or no user of KVM),
 * -EACCES (another user's), -errno with one line in @err. vmm_process_close() in any case.
 */
int vmm_process_open(struct vmm_process *p, pid_t pid, struct err *err);
/* When it began, in the kernel's ticks: with its pid it is that process and no later one. Return: 0: there is none. */
u64 vmm_process_start(pid_t pid);

void vmm_process_close(struct vmm_process *p);

bool vmm_process_ended(const struct vmm_process *p);

/* Count its VMs and vCPUs anew. Return: 0; -ENOENT, -EACCES: the old counts stand. */
int vmm_process_vms(struct vmm_process *p);

/* Read its mappings anew. Return: 0; -errno, the old ones stand. */
int vmm_process_areas(struct vmm_process *p);
/* Return: NULL: nothing is mapped there. */
const struct vmm_area *vmm_process_area(const struct vmm_process *p, hva_t hva);

/* Its threads, and those of the kernel that change memory behind its back, as a list for set_event_pid. */
int vmm_process_tids(const struct vmm_process *p, char *list, size_t bytes);

/* Name of a thread: "?" if it is gone. */
void vmm_thread_name(u32 tid, char *name, size_t bytes);

/* The mappings from a text like /proc/PID/maps. For tests. */
int vmm_areas_parse(struct vmm_process *p, const char *text);

/* --- vmm_slot.c: the memslots, guessed from frames and proved by a second page ----------------- */

/*
 * Linux tells nobody the memslots of a process. But a fault's event has the gfn and its
 * frame, and pagemap has the frames of each page of the process: where they meet is the
 * page's hva, and hva - gpa is the same in the whole slot.
 */
struct vmm_slot {
	u64 first, last; /* gfn, as far as pages were seen */
	s64 delta;	 /* hva - gpa, in pages */
	u64 matched;	 /* pages whose frame was the same on both sides; one alone may be an accident */
	u64 refuted;	 /* pages between first and last that were found elsewhere */
	bool sure;
};

#define VMM_SLOTS 256

struct vmm_slots {
	struct vmm_slot slot[VMM_SLOTS];
	u32 nr;
	u64 missed;		 /* searches for a page that found none, as where the host moves pages all the time */
	u64 looked, found;	 /* pages that were to be learned from, and those of them whose frame was found */
	u64 start_ns, search_ns; /* since when it is in use, and how much of that was searching */
};

struct vmm_page {
	u64 gfn, pfn; /* the first of @pages that one entry maps */
	u64 pages;
	bool found;
};

/* Learn from the @page's that faulted just now; found says which had their place confirmed. Reorders @page. */
void vmm_slots_learn(struct vmm_slots *slots, const struct vmm_process *p, struct vmm_page *page, u32 nr);

/* Return: 0: unknown. */
hva_t vmm_slots_hva(const struct vmm_slots *slots, u64 gfn);
/* Do enough pages agree on its place? */
bool vmm_slot_sure(const struct vmm_slot *slot);
/* Of how many slots is that so? The others are candidates. */
u32 vmm_slots_sure(const struct vmm_slots *slots);

#endif /* LAB_TRACE_VMM_PROCESS_H */
