/* SPDX-License-Identifier: MIT */
/*
 * Private to `bench fault`:
 *
 *   lab/bench/fault.c   machines, passes, rows
 *   lab/bench/cause.c   the causes: how memory comes into the state whose fault is measured
 *   lab/bench/apart.c   one fault per sample, and the host's share of it
 *   lab/bench/traced.c  what KVM's events say of the same faults
 *   lab/bench/uffd.c    those that a userfaultfd handler resolves
 */
#ifndef LAB_BENCH_FAULT_INTERNAL_H
#define LAB_BENCH_FAULT_INTERNAL_H

#include "lab/bench/bench.h"
#include "lab/bench/uffd.h"
#include "lab/machine/touch.h"

struct bench_run {
	const struct bench_fault_config *config;
	struct bench_fault_result *result;
	struct touch touch; /* valid if here */
	bool here;
	enum host_backing backing; /* of touch */
	u64 faults;		   /* of machines that are gone */
	struct hist now;	   /* of the pass under way */
	u64 pass;
};

/* How a cause's faults are made. */
struct bench_recipe {
	int backing; /* enum host_backing of the machine it needs; BENCH_RUN: the run's; BENCH_OWN: brings its own */
	bool read;   /* the access that faults */
	u32 apart;   /* pages from one access to the next */
	/*
	 * Bring DATA into the state. -EOPNOTSUPP with the reason in @err: it cannot be had here,
	 * and nothing is to be ended; another error ends the run.
	 */
	int (*prepare)(struct bench_run *b, struct err *err);
	int (*end)(struct bench_run *b, struct err *err);   /* NULL: nothing to end */
	int (*check)(struct bench_run *b, struct err *err); /* after the guest's accesses: as prepare */
	/* of the causes that a handler resolves; prepare is NULL */
	enum uffd_mode mode;
	enum bench_placement placement;
	u32 window;
};

#define BENCH_RUN (-1)
#define BENCH_OWN (-2)

const struct bench_recipe *bench_recipe(enum bench_cause cause);

/* The guest writes (or reads) everything, untimed. Return: as touch_run(). */
int bench_warm(struct bench_run *b, bool read, struct err *err);

/* Faults of the second MMU so far, all machines of the run. */
u64 bench_mmu_faults(struct bench_run *b);

/*
 * A pass of APART: the guest, then the host. Skips are told in the result.
 * Return: 0; -errno with one line in @err.
 */
int bench_apart(struct bench_run *b, enum bench_cause cause, struct err *err);

/* A pass with events recorded. What cannot be recorded is told in result->no_trace. Return: 0; -errno in @err. */
int bench_traced(struct bench_run *b, enum bench_cause cause, struct err *err);

/* Memory of a machine for APART. */
u64 bench_apart_bytes(const struct machine_config *config);

/* What measuring costs a thread of the host: samples into host[BENCH_OVERHEAD]. */
void bench_host_overhead(struct bench_run *b);

#endif /* LAB_BENCH_FAULT_INTERNAL_H */
