/* SPDX-License-Identifier: MIT */
/*
 * Benchmarks. `fault`: what one fault costs, by its cause, as the guest measures it.
 * `figures`: the project's own yardsticks, each against its peer in the same run.
 */
#ifndef LAB_BENCH_BENCH_H
#define LAB_BENCH_BENCH_H

#include "lab/result/blocks.h"
#include "lab/result/figure.h"
#include "lab/machine/machine.h"
#include "lib/base.h"
#include "lib/err.h"
#include "lib/hist.h"
#include "lib/time.h"

/* Why an access takes what it takes. */
enum bench_cause {
	BENCH_OVERHEAD,	    /* a warm page in the TLB: what measuring costs */
	BENCH_PRESENT,	    /* warm pages, the whole size */
	BENCH_HOST_PRESENT, /* the second MMU's entry is gone, the host's page is there */
	BENCH_FIRST_TOUCH,  /* memory mapped just now */
	BENCH_AFTER_DONTNEED,
	BENCH_AFTER_REMAP, /* after MAP_FIXED over touched memory */
	BENCH_ZERO_PAGE,   /* a read of a page that nobody wrote */
	BENCH_ZERO_COW,	   /* a write to the zero page that was read */
	BENCH_COW,	   /* a write to a page that a child holds too */
	BENCH_AFTER_PUNCH,
	BENCH_AFTER_SWAP,
	BENCH_THP,
	BENCH_UNMERGE,	     /* a write to a page that KSM has merged */
	BENCH_WRITE_PROTECT, /* by a dirty log: the entry alone is read-only */
	BENCH_MEMSLOT,	     /* the memslot was away for a moment */
	BENCH_MEMSLOT_MOVE,  /* it was elsewhere in the guest */
	BENCH_UFFD_MISSING_THREAD,
	BENCH_UFFD_MISSING_SAME_CPU,
	BENCH_UFFD_MISSING_VCPU,
	BENCH_UFFD_MISSING_THREAD_16,
	BENCH_UFFD_MISSING_VCPU_16,
	BENCH_UFFD_MISSING_VCPU_256,
	BENCH_UFFD_MINOR_THREAD,
	BENCH_UFFD_MINOR_VCPU,
	BENCH_UFFD_WP_THREAD,
	BENCH_UFFD_WP_VCPU,
	BENCH_TAIN_HOST_FAULT, /* tain's host fault alone, no second MMU */
	BENCH_HOST_FAULT,      /* a host thread on Linux's anonymous memory: the peer */
	BENCH_CAUSE_NR
};

#define BENCH_CAUSES_ALL ((u32)(BIT(BENCH_CAUSE_NR) - 1))

/*
 * SEQUENTIAL and RANDOM touch every page: what an access costs, to a fault or beside one.
 * APART touches pages so far from each other that no fault serves two: what a fault costs.
 */
enum bench_order { BENCH_SEQUENTIAL, BENCH_RANDOM, BENCH_APART, BENCH_ORDER_NR };

struct bench_cause_info {
	const char *name;
	const char *summary;
	bool access; /* has SEQUENTIAL and RANDOM */
	bool fault;  /* has APART, over Linux's mm */
};

extern const struct bench_cause_info bench_cause_table[BENCH_CAUSE_NR + 1]; /* name NULL ends it */
/* Of a row's name: "first_touch", "first_touch_random", "fault_first_touch". */
void bench_row_name(char *name, size_t n, enum bench_cause cause, enum bench_order order);

/* "cow,thp" or "all". Return: 0; -EINVAL with the nearest name in @err. */
int bench_parse_causes(const char *list, u32 *causes, struct err *err);

struct bench_row {
	bool ran;
	struct hist ns;	      /* per access, in cycles_unit_name() */
	struct blocks blocks; /* per pass */
	u64 accesses;
	u64 faults; /* see bench_row_counted(): of the second MMU; the host's for the two host rows; of a handler for
		       uffd */
	u64 elapsed_ns; /* of the accesses */
};

/* What KVM's events say of a cause's faults, recorded in a pass of their own: medians of the two parts of a fault. */
struct bench_traced {
	u64 faults;	/* 0: nothing was recorded */
	u64 until_page; /* ns until the host's page was known: the host's work and KVM's way to it */
	u64 after_page; /* from there until the entry was set, or the guest ran again where the kernel says so */
};

struct bench_fault_config {
	struct machine_config machine; /* image, extra_bytes are set by bench_fault_run() */
	u32 causes;		       /* BIT(enum bench_cause); the overhead is always measured */
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
	bool counted; /* those of the second MMU are: faults is known */
	u64 faults;   /* second-MMU */
	struct bench_row row[BENCH_CAUSE_NR][BENCH_ORDER_NR];
	/*
	 * The host's share of row[cause][BENCH_APART]: the same memory, prepared the same way,
	 * touched by a thread of the host. That of BENCH_OVERHEAD: what measuring costs there.
	 */
	struct bench_row host[BENCH_CAUSE_NR];
	struct bench_traced traced[BENCH_CAUSE_NR];
	char no_trace[240];		/* why there are no events; empty: there are */
	char skip[BENCH_CAUSE_NR][240]; /* why nothing was measured; empty: something was, or was not asked for */
};

/* Are the faults of row[cause] known? Those of the second MMU only if somebody counts them. */
bool bench_row_counted(const struct bench_fault_result *result, enum bench_cause cause);

/* Every cause that the engine has. */
void bench_fault_config_init(struct bench_fault_config *config, const struct engine *engine);

/* What backs the memory of fault_CAUSE. NULL: the run's backing, whichever it is. */
const char *bench_cause_backing(enum bench_cause cause);

#define BENCH_SHARES_SAMPLES 10 /* medians of fewer are not subtracted */

/* A fault's time by who spends it, as differences of medians. */
struct bench_shares {
	u64 overhead, host, mmu;
	bool host_known; /* else mmu is the rest, the host's part in it: nothing was timed alone, or it took longer than
			    all, or there are fewer than BENCH_SHARES_SAMPLES of either */
};
void bench_shares(const struct bench_fault_result *result, enum bench_cause cause, struct bench_shares *shares);

/*
 * Run all causes, interleaved, @passes times.
 * @result: bench_fault_destroy() it, whatever is returned; holds what was measured.
 * Return: 0; -EINTR (told to stop); -EINVAL, -EOPNOTSUPP, -errno with one line in @err.
 */
int bench_fault_run(const struct bench_fault_config *config, struct bench_fault_result *result, struct err *err);
void bench_fault_destroy(struct bench_fault_result *result);

/* --- figures --------------------------------------------------------------------- */

#define FIGURES_MAX 12

struct figures_config {
	u32 rounds;
	u64 bytes;
	u64 seed;
	const char *demand_paging_test; /* path of the peer's program; NULL: not built */
	const char *tain;		/* path of the command itself, for figures_qemu_run() */
	const u32 *stop;
	void (*progress)(u64 done, u64 total, void *arg);
	void *arg;
};

struct figures_result {
	u32 nr;
	struct figure figure[FIGURES_MAX];
	u64 elapsed_ns;
};

/* Those of soft and kvm. Return: 0; -EINTR; -errno with one line in @err. What was measured is in @result. */
int figures_run(const struct figures_config *config, struct figures_result *result, struct err *err);
/* Those of engine qemu. Return: the same. Without libvirt or KVM they are skipped, with the reason. */
int figures_qemu_run(const struct figures_config *config, struct figures_result *result, struct err *err);

/*
 * Where a program's threads run. Waking a thread on another processor may take longer than what it then does, or
 * shorter than to take turns on one: that is the machine's business. So whatever is compared runs both ways, and its
 * faster one counts.
 */
enum bench_place { BENCH_ANYWHERE, BENCH_ONE_CPU, BENCH_PLACE_NR };
extern const char *const bench_place_names[BENCH_PLACE_NR]; /* "anywhere", "on one processor" */

/* --- what both use ---------------------------------------------------------------- */

/*
 * Fault @bytes of Linux's own anonymous memory in, page by page in @order, on this
 * thread. @row: counts are added. @samples: as are the times. Return: 0; -ENOMEM.
 */
int bench_linux_faults(u64 bytes, enum bench_order order, u64 seed, struct bench_row *row, struct hist *samples);

/*
 * Run a program with a time limit and give back what it printed. @cpu: the one processor for all its threads;
 * -1: those allowed. Context: the calling thread is not pinned.
 * Return: 0; -EINTR (told to stop); -errno with one line in @err.
 */
int bench_peer_output(char *const argv[], int cpu, char *output, size_t bytes, const u32 *stop, struct err *err);

/*
 * Pages a second of KVM's demand_paging_test with one vCPU, on @bytes, in one place. @uffd: its mode,
 * "MISSING"; NULL: plain faults. Return: as bench_peer_output(); -EIO: it printed no time.
 */
int bench_peer_rate(const char *program, const char *uffd, u64 bytes, enum bench_place place, const u32 *stop,
		    double *rate, struct err *err);

/* Stamps around a host's access, as guest/touch.c takes them around a guest's. */
static inline u64 bench_stamp_begin(void)
{
	u64 now = cycles();

#if defined(__x86_64__)
	__builtin_ia32_lfence();
#endif
	return now;
}

static inline u64 bench_stamp_end(void)
{
#if defined(__x86_64__)
	__builtin_ia32_lfence();
#endif
	return cycles();
}

#endif /* LAB_BENCH_BENCH_H */
