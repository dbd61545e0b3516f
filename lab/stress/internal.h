/* SPDX-License-Identifier: MIT */
/* Private to stress: lab/stress/stress.c runs it, lab/stress/watch.c watches the clock and everybody's progress. */
#ifndef LAB_STRESS_INTERNAL_H
#define LAB_STRESS_INTERNAL_H

#include "lab/stress/stress.h"

struct stress {
	const struct stress_config *config;
	struct stress_result *result;
	struct machine machine;
	struct oracle oracle;
	struct plan plan;
	struct thread thread;
	struct wait_queue done_wait;
	/* written by the host thread, read by the watcher */
	u64 step;  /* index of the step under way */
	u64 begun; /* steps, the one under way included */
	u64 steps_done;
	u32 in_step; /* a step is under way; between two there is no progress to expect */
	u64 ops_done[PLAN_OP_NR];
	u64 skipped; /* steps of an operation that is in unsupported */
	u32 unsupported;
	u64 refused[PLAN_OP_NR];
	struct err why[PLAN_OP_NR];
	u64 audits;
	u32 done; /* the host thread has ended; stored last, with release */
	int ret;  /* valid then, with err */
	struct err err;
	u64 start_ns; /* before the first vCPU was started */
	u64 first_ns; /* when the guests began, 0: not yet; written by the host thread */
	u32 stop;     /* asks the host thread to end; written by the watcher */
};

u64 stress_accesses(struct stress *s);
u64 stress_ops_done(struct stress *s);
/* How many vCPUs have had their first turn; firmware may run first, for seconds. */
u32 stress_guests_begun(struct stress *s);
/* A page number for reports from what a guest says it was about to touch. */
u64 stress_target_page(struct stress *s, u32 vcpu);
/* @who: a vCPU, or as many as there are: the host's thread. */
void stress_report_stall(struct stress *s, u32 who);
/* Until the time is over, somebody says stop, the host thread ends, or a vCPU does. Return: false on a stall. */
bool stress_watch(struct stress *s);

/* Until the host thread has ended, at most @ns in which everybody could run. Return: false: it has not. */
bool stress_wait_host(struct stress *s, u64 ns);

static inline bool stress_host_done(struct stress *s)
{
	return smp_load_acquire(&s->done); /* pairs with the release at the end of stress_host_thread() */
}

#endif /* LAB_STRESS_INTERNAL_H */
