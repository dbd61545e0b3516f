/* SPDX-License-Identifier: MIT */
/* One step of a plan, done to a host under the oracle's eyes. */
#ifndef LAB_PLAN_STEP_H
#define LAB_PLAN_STEP_H

#include "lab/plan/oracle.h"
#include "lab/plan/plan.h"

#define STEP_REFUSED 1

/*
 * Carry out @step. When it returns 0 or STEP_REFUSED, all of DATA is mapped, readable and writable.
 * Context: the one thread that operates on the host; sleeps.
 * Return: 0; STEP_REFUSED (the kernel did, as far as contents go nothing happened; o->why
 * says how); -EOPNOTSUPP (this host has no such operation, or it is not allowed; the same);
 * any other -errno: the host refused, the state of the range is unknown and the run
 * cannot go on.
 */
int step_run(struct oracle *o, const struct plan_step *step);

#endif /* LAB_PLAN_STEP_H */
