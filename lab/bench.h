/* SPDX-License-Identifier: MIT */
/*
 * Benchmarks. `fault`: what one fault costs, by its cause, as the guest measures it.
 * `figures`: the project's own yardsticks, each against its peer in the same run.
 */
#ifndef LAB_BENCH_H
#define LAB_BENCH_H

#include "lab/blocks.h"
#include "lab/figure.h"
#include "lab/machine.h"
#include "lib/base.h"
#include "lib/err.h"
#include "lib/hist.h"

/* Why an access takes what it takes. */
enum bench_cause {
	BENCH_OVERHEAD,	    /* a warm page in the TLB: what measuring costs */
	BENCH_PRESENT,	    /* warm pages, the whole size */
	BENCH_HOST_PRESENT, /* the second MMU's entry is gone, the host's page is there */
	BENCH_FIRST_TOUCH,  /* memory mapped just now */
	BENCH_AFTER_DONTNEED,
	BENCH_AFTER_REMAP,     /* after MAP_FIXED over touched memory */
	BENCH_TAIN_HOST_FAULT, /* tain's host fault alone, no second MMU */
	BENCH_HOST_FAULT,      /* a host thread on Linux's anonymous memory: the peer */
	BENCH_CAUSE_NR
};

enum bench_order { BENCH_SEQUENTIAL, BENCH_RANDOM, BENCH_ORDER_NR };

struct bench_cause_info {
	const char *name;
	const char *summary;
	bool guest; /* measured in the guest */
};

extern const struct bench_cause_info bench_cause_table[BENCH_CAUSE_NR];
extern const char *const bench_order_names[BENCH_ORDER_NR];

struct bench_row {
	bool ran;
	struct hist ns;	      /* per access, in cycles_unit_name() */
	struct blocks blocks; /* per pass */
	u64 accesses;
	u64 faults;	/* second-MMU faults meanwhile; the host's for the two host rows */
	u64 elapsed_ns; /* of the accesses */
};

struct bench_fault_config {
	struct machine_config machine; /* image, extra_bytes are set by bench_fault_run() */
	u32 passes;
	const u32 *stop;
	/* May be NULL; called by the caller's thread. */
	void (*started)(const struct machine_identity *id, void *arg);
	void (*progress)(u64 done, u64 total, void *arg);
	void *arg;
};

struct bench_fault_result {
	struct machine_identity id;
	bool ran;
	u64 elapsed_ns;
	u64 accesses; /* by guests */
	u64 faults;   /* second-MMU */
	struct bench_row row[BENCH_CAUSE_NR][BENCH_ORDER_NR];
};

void bench_fault_config_init(struct bench_fault_config *config, const struct engine *engine);

/*
 * Run all causes, interleaved, @passes times.
 * @result: bench_fault_destroy() it, whatever is returned; holds what was measured.
 * Return: 0; -EINTR (told to stop); -EINVAL, -EOPNOTSUPP, -errno with one line in @err.
 */
int bench_fault_run(const struct bench_fault_config *config, struct bench_fault_result *result, struct err *err);
void bench_fault_destroy(struct bench_fault_result *result);

/* --- figures --------------------------------------------------------------------- */

#define FIGURES_MAX 8

struct figures_config {
	u32 rounds;
	u64 bytes;
	u64 seed;
	const char *demand_paging_test; /* path of the peer's program; NULL: not built */
	const u32 *stop;
	void (*progress)(u64 done, u64 total, void *arg);
	void *arg;
};

struct figures_result {
	u32 nr;
	struct figure figure[FIGURES_MAX];
	u64 elapsed_ns;
};

/* Return: 0; -EINTR; -errno with one line in @err. What was measured is in @result. */
int figures_run(const struct figures_config *config, struct figures_result *result, struct err *err);

/* --- what both use ---------------------------------------------------------------- */

/*
 * Fault @bytes of Linux's own anonymous memory in, page by page in @order, on this
 * thread. @row: counts are added. @samples: as are the times. Return: 0; -ENOMEM.
 */
int bench_linux_faults(u64 bytes, enum bench_order order, u64 seed, struct bench_row *row, struct hist *samples);

/*
 * Run a program with a time limit and give back what it printed.
 * Return: 0; -EINTR (told to stop); -errno with one line in @err.
 */
int bench_peer_output(char *const argv[], char *output, size_t bytes, const u32 *stop, struct err *err);

#endif /* LAB_BENCH_H */
