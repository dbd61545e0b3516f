/* SPDX-License-Identifier: MIT */
/*
 * Making a plan that failed smaller, by trial: fewer steps (delta debugging, Zeller and
 * Hildebrandt 2002), fewer vCPUs, less memory, shorter ranges. A trial goes through
 * the steps again and again until a violation or its time is over. A smaller plan is kept only
 * if it was seen to fail; one that did not fail in its time may still be able to, so
 * the result is small, not the smallest.
 */
#ifndef LAB_STRESS_SHRINK_H
#define LAB_STRESS_SHRINK_H

#include "lab/stress/stress.h"

struct shrink_plan {
	u32 vcpus;
	u64 bytes;
	u32 ranges; /* 0 is 1 */
	u64 nr;
	struct plan_step *step;
};

struct shrink_progress {
	u64 elapsed_ns;
	u64 trials;
	const struct shrink_plan *best;
};

struct shrink_config {
	const struct stress_config *stress; /* of the run that failed */
	u64 trial_ns;			    /* longest trial; the first has ten times as long */
	u64 time_ns;			    /* all trials; 0: no limit */
	const u32 *stop;		    /* set from outside: the best so far is the result; may be NULL */
	/* By the calling thread, after each trial, @smaller: it made the best plan; may be NULL. */
	void (*progress)(const struct shrink_progress *progress, bool smaller, void *arg);
	void *arg;
};

/*
 * Replace @plan, whose steps are from mem_alloc(), by the smallest found. Context: sleeps; trials run in this process.
 * Return: 0; -EAGAIN (@plan did not fail again, it is as it was); -ETIMEDOUT (a trial's
 * threads are stuck: the process should end; @plan is the best before, or what hung);
 * -ENOMEM; -errno: no trial could run, @err says why.
 */
int shrink_run(const struct shrink_config *config, struct shrink_plan *plan, struct err *err);

#endif /* LAB_STRESS_SHRINK_H */
