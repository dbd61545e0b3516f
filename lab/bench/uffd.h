/* SPDX-License-Identifier: MIT */
/* bench fault -u: what a guest's userfaultfd fault costs, by who resolves it and how many pages it brings in. */
#ifndef LAB_BENCH_UFFD_H
#define LAB_BENCH_UFFD_H

#include "lab/bench/bench.h"
#include "lab/uffd/uffd.h"

enum bench_placement {
	BENCH_THREAD,	/* a thread on another processor than the first vCPU's */
	BENCH_SAME_CPU, /* a thread on the first vCPU's processor */
	BENCH_VCPU,	/* the faulting vCPU's own thread */
	BENCH_PLACEMENT_NR
};
extern const char *const bench_placement_names[BENCH_PLACEMENT_NR + 1]; /* ends with NULL */

struct bench_uffd_config {
	struct machine_config machine; /* backing: bench_uffd_backing() */
	enum uffd_mode mode;
	enum bench_placement placement;
	u32 window;
	u32 apart;    /* pages from one access to the next: a sample is a fault; 0: every page in turn */
	bool untimed; /* no samples: only how long a pass takes */
	u32 in_vain;  /* BENCH_VCPU: so often the access is only repeated, before its fault is resolved */
	u32 passes;
	const char *demand_paging_test; /* MISSING: the peer's program; NULL: not compared */
	const u32 *stop;
	void (*started)(const struct machine_identity *id, void *arg);
	void (*progress)(u64 done, u64 total, void *arg);
	void *arg;
};

struct bench_uffd_result {
	struct machine_identity id;
	bool ran;
	struct bench_row row;
	struct hist handler; /* from the handler thread's wake-up to the fault resolved; empty for BENCH_VCPU */
	u64 count[UFFD_COUNT_NR];
	u64 mmu_faults;
	struct figure figure; /* against the peer, where there is a bound */
};

/* What must stand behind DATA. */
enum host_backing bench_uffd_backing(enum uffd_mode mode);

/* "uffd_missing", "uffd_minor", "uffd_wp". */
const char *bench_uffd_cause(enum uffd_mode mode);

/*
 * @result: bench_uffd_destroy() it, whatever is returned.
 * Return: 0; -EINTR (told to stop); -EINVAL, -EOPNOTSUPP, -EPERM, -errno with one line in @err.
 */
int bench_uffd_run(const struct bench_uffd_config *config, struct bench_uffd_result *result, struct err *err);
void bench_uffd_destroy(struct bench_uffd_result *result);

#endif /* LAB_BENCH_UFFD_H */
