/* SPDX-License-Identifier: MIT */
/*
 * Records of violations. The first are kept whole, with the trace events around
 * them; the rest are counted.
 */
#ifndef LAB_PLAN_VIOLATION_H
#define LAB_PLAN_VIOLATION_H

#include "guest/abi.h"
#include "lab/plan/plan.h"
#include "lib/base.h"
#include "lib/lock.h"

enum violation_kind {
	/* reported by a guest */
	VIOLATION_STALE = GUEST_VIOLATION_STALE,
	VIOLATION_ZERO = GUEST_VIOLATION_ZERO,
	VIOLATION_FOREIGN = GUEST_VIOLATION_FOREIGN,
	VIOLATION_CORRUPT = GUEST_VIOLATION_CORRUPT,
	VIOLATION_LOST = GUEST_VIOLATION_LOST,
	/* seen by the host */
	VIOLATION_STALE_WRITE, /* a guest wrote through a translation that had been taken away */
	VIOLATION_FRAME,       /* a freed frame was written */
	VIOLATION_MIRROR,      /* the exact audit: an entry or a TLB differs from the host's page tables */
	VIOLATION_CONTENT,     /* the host itself reads a forbidden stamp, guests at rest */
	VIOLATION_STALL,       /* a vCPU, or the host's operation, makes no progress */
	VIOLATION_LOST_DIRTY,  /* a guest wrote to a page, and the dirty log does not say so */
	VIOLATION_CHILD,       /* a forked child's copy is not what was there at the fork */
	VIOLATION_LOST_FAULT,  /* without a fault: a write to a page that userfaultfd protected, or an entry that minor
				  faults bring */
	VIOLATION_KIND_NR
};

const char *violation_name(enum violation_kind kind);	 /* "stale-read" */
const char *violation_summary(enum violation_kind kind); /* one line */

#define VIOLATION_TEXT 256
#define VIOLATION_NO_VCPU ((u32)-1)
#define VIOLATION_NO_STEP ((u64)-1)
#define VIOLATION_NO_PAGE ((u64)-1)

struct violation {
	enum violation_kind kind;
	u64 page;     /* of DATA, or VIOLATION_NO_PAGE */
	u64 seen;     /* the word found */
	u64 expected; /* the word that should be there, where that is known */
	u32 required; /* generations allowed, as the guest read them, or as they stand */
	u32 announced;
	u32 vcpu;	 /* or VIOLATION_NO_VCPU */
	u64 step;	 /* the last step on that page when it was found, or VIOLATION_NO_STEP */
	enum plan_op op; /* of that step */
	u64 seed;
	char text[VIOLATION_TEXT]; /* what a kind has to add; may be empty */
	char *trace;		   /* trace events before it, one a line; NULL without */
};

#define VIOLATION_RECORDS 32

struct violation_log {
	struct spinlock lock; /* guards what follows, but for record[i].trace: the collecting thread's */
	u64 total;
	u32 nr;
	u32 traced;	/* records before it have their trace */
	bool announced; /* one without a trace has its event */
	struct violation record[VIOLATION_RECORDS];
};

void violation_log_init(struct violation_log *log);
void violation_log_destroy(struct violation_log *log);

/* Add a record; counted only when the log is full. Any thread; may hold other locks, takes log->lock. */
void violation_add(struct violation_log *log, const struct violation *v);

/* Count @nr more of which nothing else is known. */
void violation_count(struct violation_log *log, u64 nr);

/* Give records that have none the trace events that led to them. Context: no locks held; the one collecting thread. */
void violation_trace(struct violation_log *log);

u64 violation_total(struct violation_log *log);

#endif /* LAB_PLAN_VIOLATION_H */
