/* SPDX-License-Identifier: MIT */
/* Trace the faults of a running VMM: events in, faults and their sums out. */
#ifndef LAB_TRACE_FAULT_TRACE_H
#define LAB_TRACE_FAULT_TRACE_H

#include "lab/trace/fault_stream.h"
#include "lab/trace/tracer.h"
#include "lab/trace/vmm_process.h"
#include "lib/base.h"
#include "lib/err.h"
#include "lib/hist.h"

#define TRACE_AREAS 128 /* areas that are told apart; what is beyond goes to the last, "the rest" */
#define TRACE_THREADS 64

struct fault_trace_config {
	pid_t pid;
	u64 time_ns;	/* 0: until the process ends, or *stop */
	u64 buffer_kib; /* of events, per processor */
	const u32 *stop;
	/* Recording has begun. */
	void (*ready)(const struct vmm_process *p, void *arg);
	void (*progress)(u64 faults, u64 events, void *arg);
	/* Each fault, in order of its end; NULL: none is shown. @area: NULL if unknown; valid during the call. */
	void (*fault)(const struct fault *f, const struct vmm_area *area, void *arg);
	void *arg;
};

/* The faults of one mapping of the process. */
struct trace_area {
	struct vmm_area area;
	u64 cause[FAULT_CAUSE_NR];
	u64 faults, prefetched, huge;
	u64 gpa_first, gpa_last;
	struct hist ns;
};

struct trace_thread {
	u32 tid;
	u64 faults; /* taken */
	u64 caused; /* of others or its own, by invalidations */
	char name[32];
};

struct fault_trace {
	u64 start_ns, elapsed_ns;
	u64 events, lost;
	u64 cpu_ns; /* processor time of tain itself */
	bool ended; /* the process did */
	struct vmm_process process;
	struct fault_stream stream;
	struct vmm_slots slots;
	struct tracer_event event[KVM_EVENT_NR];
	char instance[64];
	char mmu[32], cpu[64];
	struct hist ns, page_ns; /* all faults */
	struct hist by_cause[FAULT_CAUSE_NR];
	u64 crossed[FAULT_CAUSE_NR][FAULT_HOST_NR];
	u64 access[3], waited, waited_ns, entered;
	struct trace_area area[TRACE_AREAS];
	u32 nr_areas;
	struct trace_thread thread[TRACE_THREADS];
	u32 nr_threads;
};

/*
 * Return: 0; -EINTR (*stop; what was seen stands); of vmm_process_open() and tracer_open();
 * -errno with one line in @err. fault_trace_destroy() in any case.
 */
int fault_trace_run(struct fault_trace *t, const struct fault_trace_config *config, struct err *err);
void fault_trace_destroy(struct fault_trace *t);

/*
 * The working set as text, by time of the first fault. Lifetime: mem_free().
 * Return: NULL: no memory.
 */
char *fault_trace_working_set(const struct fault_trace *t);

#endif /* LAB_TRACE_FAULT_TRACE_H */
