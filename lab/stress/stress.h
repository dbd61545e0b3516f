/* SPDX-License-Identifier: MIT */
/* Stress: a plan changes the host's memory under a running guest, the oracle watches. */
#ifndef LAB_STRESS_STRESS_H
#define LAB_STRESS_STRESS_H

#include "lab/machine/machine.h"
#include "lab/plan/oracle.h"
#include "lab/plan/plan.h"
#include "lab/uffd/uffd.h"
#include "lib/base.h"
#include "lib/err.h"

struct stress_progress {
	u64 elapsed_ns;
	u64 checked; /* accesses, all vCPUs */
	u64 ops;     /* that were done */
	u64 violations;
};

struct stress_config {
	struct machine_config machine; /* image and extra_bytes are set by stress_run() */
	u32 ops;		       /* BIT(enum plan_op) */
	enum uffd_placement uffd;      /* who resolves the faults of the uffd operations */
	u32 weight[PLAN_OP_NR];	       /* see struct plan */
	const struct plan_step *list;  /* exactly these steps, instead of what the seed says; NULL: none */
	u64 list_nr;
	u64 repeat;	    /* go through the list so often; 0: again and again */
	u64 time_ns;	    /* how long; 0: until told to stop */
	u64 steps;	    /* stop after so many; 0: no limit */
	u64 delay_ns;	    /* between two steps */
	u64 audit_every;    /* exact audit after every so many steps; 0: at the end only */
	u64 max_violations; /* stop then; at least 1 */
	u64 stall_ns;	    /* no progress for so long is a violation */
	u32 write_percent;  /* of the guest's accesses */
	bool trace;	    /* keep trace events of the run, for the records of violations */
	const u32 *stop;    /* set from outside: end the run */
	/* Called by the thread that called stress_run(); may be NULL. */
	void (*started)(const struct machine_identity *id, void *arg);
	void (*progress)(const struct stress_progress *progress, void *arg); /* about ten times a second, and last */
	void *arg;
};

struct stress_result {
	struct machine_identity id;
	bool ran; /* the guest ran: what follows is filled in */
	u64 elapsed_ns;
	u64 checked;
	u64 own_checked; /* of memory of the Linux that the guest runs under */
	u64 writes;
	bool counted; /* faults is known */
	u64 faults;   /* of the second MMU */
	u64 retried;  /* accesses that found DATA not backed, and were repeated */
	u64 steps;    /* of the plan: done, refused or skipped */
	u64 begun;    /* steps that began: the last of them may not have ended */
	u64 host_ops[PLAN_OP_NR];
	u64 done;		    /* their sum */
	u64 skipped;		    /* steps of what is unsupported */
	u32 unsupported;	    /* operations asked for that this host does not have, or may not do */
	u64 refused[PLAN_OP_NR];    /* how often the kernel did, and nothing happened */
	struct err why[PLAN_OP_NR]; /* of both, the first */
	u64 uffd_faults, uffd_events;
	u64 audits;
	bool stalled;		  /* threads are stuck: nothing was taken down, the process should end */
	struct violation_log log; /* violation_log_destroy() when done */
};

/* The defaults of an engine. */
void stress_config_init(struct stress_config *config, const struct engine *engine);

/* Of the operations that only "all" means, those that the engine's host has. */
void stress_limit_ops(struct stress_config *config, const struct plan_ops *ops);

/* The plan of a run. */
void stress_plan(const struct stress_config *config, struct plan *plan);

/*
 * Run. @result is filled in as far as the run got, whatever is returned.
 * Context: sleeps for the length of the run.
 * Return: 0 (look at result->log for violations); -EINVAL (numbers); -EOPNOTSUPP
 * (nothing of this can run on the engine); -errno: the run broke off, @err says why.
 */
int stress_run(const struct stress_config *config, struct stress_result *result, struct err *err);

#endif /* LAB_STRESS_STRESS_H */
