/* SPDX-License-Identifier: MIT */
/*
 * bench interference: which work of the host stalls a vCPU, how long, how often.
 *
 * A guest on one processor touches its memory and measures the time from the end of
 * each access to the end of the next. Meanwhile another processor is quiet, or a
 * disturber works there; the two take turns, so that what else the machine does meets
 * both. A gap of at least the limit is a stall.
 *
 *   warm guest       its pages are there: nothing but a zap or a flush makes it fault
 *   faulting guest   its pages are not: every access is a fault of host and second MMU
 */
#ifndef LAB_BENCH_INTERFERENCE_H
#define LAB_BENCH_INTERFERENCE_H

#include "lab/result/blocks.h"
#include "lab/result/figure.h"
#include "lab/machine/machine.h"
#include "lab/system/system.h"
#include "lib/base.h"
#include "lib/err.h"
#include "lib/hist.h"
#include "lib/thread.h"

enum disturber {
	DISTURB_MUNMAP,
	DISTURB_MEMSLOT,
	DISTURB_DIRTY_LOG,
	DISTURB_KSM,
	DISTURB_KHUGEPAGED,
	DISTURB_COMPACT,
	DISTURB_NR
};

#define DISTURB_ALL ((u32)(BIT(DISTURB_NR) - 1))

struct disturber_info {
	const char *name;
	const char *summary;
	const char *work; /* what is counted as its work */
};

extern const struct disturber_info disturber_table[DISTURB_NR + 1]; /* name NULL ends it */

/* "munmap,ksm" or "all". Return: 0; -EINVAL with the nearest name in @err. */
int disturber_parse(const char *list, u32 *disturbers, struct err *err);

enum interference_guest { INTERFERENCE_WARM, INTERFERENCE_FAULTING, INTERFERENCE_GUEST_NR };
enum interference_phase { INTERFERENCE_QUIET, INTERFERENCE_DISTURBED, INTERFERENCE_PHASE_NR };
extern const char *const interference_guest_names[INTERFERENCE_GUEST_NR];
extern const char *const interference_phase_names[INTERFERENCE_PHASE_NR];

struct interference_side {
	struct hist ns; /* gaps */
	struct blocks blocks;
	u64 stalls, stalled_ns; /* how many, and how long together */
	u64 guest_ns;		/* that the guest measured */
	u64 faults;		/* second-MMU */
};

struct interference_row {
	bool ran; /* a whole round at least */
	struct interference_side side[INTERFERENCE_PHASE_NR];
	struct figure p50, p99; /* a round's percentile disturbed, and quiet */
	u64 work, work_ns;	/* of the disturber */
};

struct interference_config {
	struct machine_config machine; /* vcpus, image, extra_bytes are set here; kvm */
	u32 disturbers;
	u32 rounds;
	u64 phase_ns;
	u64 stall_ns;
	u64 pause_ns; /* of a disturber, between two pieces of work */
	const u32 *stop;
	void (*started)(const struct machine_identity *id, void *arg);
	void (*progress)(u64 done, u64 total, void *arg);
	void *arg;
};

struct interference_result {
	struct machine_identity id;
	bool ran;
	u64 elapsed_ns;
	bool counted; /* all faults here are known */
	u64 faults;
	struct interference_row row[DISTURB_NR][INTERFERENCE_GUEST_NR];
	char skip[DISTURB_NR][240];
};

/*
 * Context: sleeps; machine-wide disturbers only where the guardian runs.
 * @result: interference_destroy() it, whatever is returned; holds what was measured.
 * Return: 0; -EINTR (told to stop); -EOPNOTSUPP (one processor), -EINVAL, -errno with one line in @err.
 */
int interference_run(const struct interference_config *config, struct interference_result *result, struct err *err);
void interference_destroy(struct interference_result *result);

/* --- disturbers ------------------------------------------------------------------------ */

/* One at work. */
struct disturbance {
	enum disturber kind;
	struct vm *vm;
	u64 data_bytes;
	u64 pause_ns;
	/* private */
	u32 stop;
	u64 work;
	struct err err; /* why it gave up; valid when joined */
	int ret;
	struct thread thread;
	struct system_change change;
	char *memory; /* unrelated to the guest's */
	u64 *bitmap;
};

/*
 * It works on @cpu until disturbance_end(). @d: kind, vm, data_bytes and pause_ns are set
 * by the caller. Return: 0; -EOPNOTSUPP: it cannot be had here, with the reason in @err; -errno.
 */
int disturbance_begin(struct disturbance *d, int cpu, struct err *err);
/* Everything is as it was. @work: what it did. Return: 0; -errno: it failed meanwhile, or could not be undone. */
int disturbance_end(struct disturbance *d, u64 *work, struct err *err);

#endif /* LAB_BENCH_INTERFERENCE_H */
