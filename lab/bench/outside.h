/* SPDX-License-Identifier: MIT */
/*
 * bench outside: what is done to a VM in another process, as three of them see it.
 *
 *   caller   how long the call took, to libvirt or to the kernel
 *   guest    for how long it stood still meanwhile: by its counter, which is watched from
 *            here, and by its own clock, which may have stood still as well
 *   guest    what its accesses cost afterwards, to pages far apart
 */
#ifndef LAB_BENCH_OUTSIDE_H
#define LAB_BENCH_OUTSIDE_H

#include "lab/result/blocks.h"
#include "lab/machine/machine.h"
#include "lib/base.h"
#include "lib/err.h"
#include "lib/hist.h"

enum outside_op {
	OUTSIDE_NONE, /* nothing at all: what the machine does by itself */
	OUTSIDE_PUNCH,
	OUTSIDE_REMOVE,
	OUTSIDE_COLD,
	OUTSIDE_PAGEOUT,
	OUTSIDE_COLLAPSE,
	OUTSIDE_COMPACT,
	OUTSIDE_STATUS, /* query-status, QEMU's shortest command */
	OUTSIDE_STATS,
	OUTSIDE_SUSPEND,
	OUTSIDE_BALLOON,
	OUTSIDE_PLUG,
	OUTSIDE_MIGRATE,
	OUTSIDE_RESTORE,
	OUTSIDE_OP_NR
};

/* CALL and BACK: of what is done and undone, where that is two calls. */
enum outside_time {
	OUTSIDE_CALL,
	OUTSIDE_BACK,
	OUTSIDE_STALL, /* the guest's counter stood still, by the host's clock: never longer than it did */
	OUTSIDE_GAP,   /* between two of the guest's accesses, by its own clock */
	OUTSIDE_AFTER,
	OUTSIDE_DOWNTIME, /* of a migration, as QEMU measured it */
	OUTSIDE_TIME_NR
};

struct outside_op_info {
	const char *name;
	const char *summary;
	const char *call, *back; /* what the calls are called; NULL: there is none */
	u32 times;		 /* in a pass */
};

extern const struct outside_op_info outside_op_table[OUTSIDE_OP_NR + 1]; /* name NULL ends it */

#define OUTSIDE_OPS_ALL ((u32)(BIT(OUTSIDE_OP_NR) - 1))

/* "punch,migrate" or "all". Return: 0; -EINVAL with the nearest name in @err. */
int outside_parse_ops(const char *list, u32 *ops, struct err *err);

/* Of a row's histogram: "call_suspend", "stall_migrate". Return: false: the operation has no such time. */
bool outside_time_name(char *name, size_t n, enum outside_op op, enum outside_time time);

struct outside_row {
	struct hist ns; /* empty: not measured */
	struct blocks blocks;
};

struct bench_outside_config {
	struct machine_config machine; /* one vCPU, engine->outside */
	u32 ops;		       /* BIT(enum outside_op); NONE is always measured */
	u32 passes;
	const u32 *stop;
	/* May be NULL; called by the caller's thread. */
	void (*started)(const struct machine_identity *id, void *arg);
	void (*progress)(u64 done, u64 total, void *arg);
	void *arg;
};

struct bench_outside_result {
	struct machine_identity id;
	bool ran;
	u64 elapsed_ns;
	u64 accesses; /* by the guest, in AFTER */
	struct outside_row row[OUTSIDE_OP_NR][OUTSIDE_TIME_NR];
	char skip[OUTSIDE_OP_NR][240]; /* why nothing was measured */
};

/*
 * Run all operations in turn, @passes times.
 * @result: bench_outside_destroy() it, whatever is returned; holds what was measured.
 * Return: 0; -EINTR (told to stop); -EINVAL, -EOPNOTSUPP, -errno with one line in @err.
 */
int bench_outside_run(const struct bench_outside_config *config, struct bench_outside_result *result, struct err *err);
void bench_outside_destroy(struct bench_outside_result *result);

#endif /* LAB_BENCH_OUTSIDE_H */
