/* SPDX-License-Identifier: MIT */
/*
 * The truth table: what does this operation do on this backing, here and now? Each
 * cell has a machine of its own, so that no operation sees another's traces.
 *
 *   1. the host writes DATA, the guest reads it: both MMUs map it
 *   2. the operation begins; counters, frames and memory are compared
 *   3. the guest looks: old data, zeros, the file's own data, or its access fails
 *   4. where it fails the operation ends first; the guest reads and writes the range;
 *      else the operation ends afterwards
 *   5. steps 1 and 2 and the end once more for reads that are timed, and for writes
 *   6. once more without a guest, with userfaultfd listening
 *
 * What is seen is compared with what lab/host/op.h promises.
 */
#ifndef LAB_MATRIX_MATRIX_H
#define LAB_MATRIX_MATRIX_H

#include "lab/machine/machine.h"
#include "lab/host/op.h"
#include "lib/base.h"
#include "lib/err.h"

enum matrix_state {
	MATRIX_DONE,
	MATRIX_REFUSED, /* the kernel said no */
	MATRIX_SKIPPED, /* not tried: what it needs is not there, or not allowed */
	MATRIX_WRONG,	/* not what lab/host/op.h promises */
	MATRIX_FAILED,	/* not found out: tain or the machine failed before the cell was whole */
	MATRIX_STATE_NR
};

enum matrix_sight {
	SIGHT_UNKNOWN,
	SIGHT_OLD, /* what was written */
	SIGHT_ZEROS,
	SIGHT_FILE,  /* the file's own data under a private copy */
	SIGHT_FAULT, /* the access fails (KVM_RUN: -EFAULT), and is repeated */
	SIGHT_MIXED,
	SIGHT_NR
};

enum matrix_event {
	MATRIX_EVENT_UNMAP = BIT(0),
	MATRIX_EVENT_REMOVE = BIT(1),
	MATRIX_EVENT_REMAP = BIT(2),
	MATRIX_EVENT_FORK = BIT(3),
	MATRIX_EVENT_PAGEFAULT = BIT(4), /* the operation itself touched a missing page */
};

#define MATRIX_UNKNOWN (-1)

struct matrix_cost {
	u64 count, p50, max; /* ns; count 0: not measured */
	s64 p99;	     /* MATRIX_UNKNOWN: too few samples tell it */
};

struct matrix_cell {
	enum host_op op;
	enum host_backing backing;
	enum matrix_state state;
	char why[240]; /* of all but DONE */
	/* what follows: REFUSED, SKIPPED and FAILED have nothing of it */
	enum matrix_sight during; /* between begin and end; UNKNOWN where there is no such time */
	enum matrix_sight after;
	s64 freed;		     /* percent of the range's memory; MATRIX_UNKNOWN */
	s64 lazy;		     /* percent that the kernel may take whenever it wants; MATRIX_UNKNOWN */
	s64 swapped;		     /* percent that went to swap; MATRIX_UNKNOWN */
	s64 moved;		     /* percent of the pages that are in another frame afterwards; MATRIX_UNKNOWN */
	s64 huge_before, huge_after; /* KiB of DATA in huge mappings of the host; MATRIX_UNKNOWN */
	s64 huge_sptes;		     /* entries of 2 MiB of the second MMU, before; MATRIX_UNKNOWN */
	s64 zapped;		     /* pages that the second MMU mapped and does not any more; MATRIX_UNKNOWN */
	s64 ranges;		     /* kvm_unmap_hva_range events that touch DATA; MATRIX_UNKNOWN */
	s64 range_pages;	     /* what they cover of it */
	s64 events;		     /* enum matrix_event; MATRIX_UNKNOWN */
	char events_why[120];	     /* why they are unknown */
	u64 op_ns;		     /* the operation itself, once */
	struct matrix_cost read,
		write;	    /* accesses that were the first to their neighbourhood, on ranges of their own */
	char cost_why[120]; /* why they were not measured */
	s64 faults;	    /* second-MMU faults of reading the range; MATRIX_UNKNOWN */
};

struct matrix_skip {
	char what[32];
	char why[240];
};

#define MATRIX_SKIPS 8

struct matrix_config {
	struct machine_config machine; /* engine, cpus, seed; the rest is set by matrix_run() */
	u32 ops;		       /* BIT(enum host_op) */
	u32 backings;		       /* BIT(enum host_backing) */
	const u32 *stop;	       /* set from outside: end the run */
	void (*progress)(const struct matrix_cell *next, u32 done, u32 total, void *arg); /* may be NULL */
	void *arg;
};

struct matrix_result {
	struct machine_identity id; /* valid if ran */
	bool ran;		    /* at least one guest */
	u64 elapsed_ns;
	bool counted; /* faults, here and of the cells, are known */
	u64 faults;
	u32 planned; /* cells that were asked for */
	u32 nr;	     /* of them, those that were come to; less: the run was stopped, or could not go on */
	u32 states[MATRIX_STATE_NR];
	struct matrix_cell cell[OP_NR * HOST_BACKING_NR];
	u32 skips; /* columns that stay empty, and why */
	struct matrix_skip skip[MATRIX_SKIPS];
};

const char *matrix_state_name(enum matrix_state state);
const char *matrix_sight_name(enum matrix_sight sight);
/* "REMOVE", "UNMAP+REMAP", "none"; @text: 40 bytes. */
const char *matrix_events_text(s64 events, char *text);

/*
 * Context: sleeps; pins the calling thread while it runs. Return: 0 (look at the cells);
 * -EINTR (stopped; the cells so far stand); -errno with one line in @err: tain cannot go on.
 */
int matrix_run(const struct matrix_config *config, struct matrix_result *result, struct err *err);

#endif /* LAB_MATRIX_MATRIX_H */
