/* SPDX-License-Identifier: MIT */
/* Driving the guest workload `touch`: commands in, times out. */
#ifndef LAB_MACHINE_TOUCH_H
#define LAB_MACHINE_TOUCH_H

#include "lab/machine/machine.h"
#include "lib/base.h"
#include "lib/err.h"
#include "lib/hist.h"

struct touch {
	struct machine machine;
	u64 posted[GUEST_MAX_VCPUS];
	u64 sample_count; /* room per vCPU */
	const u32 *stop;  /* set from outside */
	u64 nap_ns;	  /* touch_wait() does not look before: on a vCPU's processor a look costs it two switches */
};

/*
 * Start a machine that runs `touch`. @config: image, extra_bytes and retry_faults are
 * set here. @stop: may be NULL.
 * Return: as machine_create() and machine_start().
 */
int touch_start(struct touch *t, const struct machine_config *config, const u32 *stop, struct err *err);

/* Return: 0; -ETIMEDOUT: a vCPU did not leave, nothing was taken down. */
int touch_end(struct touch *t, struct err *err);

/*
 * Every vCPU obeys @command on its own part of DATA: page command->first of the part on,
 * at most as many pages as the part has.
 * @ns: from the first vCPU's start to the last one's end, by the guest's clock, which they share; may be NULL.
 * @accesses: of all vCPUs; may be NULL.
 * @samples: if command->timed, every sample, in nanoseconds, is added; may be NULL.
 * Return: 0; -EINTR (told to stop); -EIO (a vCPU failed), -ETIMEDOUT (no answer for
 * long) with one line in @err.
 */
int touch_run(struct touch *t, const struct guest_command *command, u64 *ns, u64 *accesses, struct hist *samples,
	      struct err *err);

/* The same in two: every vCPU is told, and all have done it (Return: as touch_run()). */
void touch_post(struct touch *t, const struct guest_command *command);
int touch_wait(struct touch *t, struct err *err);
bool touch_answered(struct touch *t);
/* Wait until vCPU 0 has made accesses of a GUEST_SAMPLE_LONGEST since the call. Return: as touch_run(). */
int touch_goes_on(struct touch *t, struct err *err);

/*
 * Widen [*@begun, *@ended) by the last command, from the first vCPU's start to the last one's end, by the guest's
 * clock: its vCPUs share it, and where KVM lets them have the host's, all VMs do.
 */
void touch_span(const struct touch *t, u64 *begun, u64 *ended);

/* The samples of the last command, as the guest wrote them; t->sample_count at most. */
const u32 *touch_samples(const struct touch *t, u32 vcpu);

/* Pages of one vCPU's part of DATA. */
u64 touch_part(const struct touch *t);

#endif /* LAB_MACHINE_TOUCH_H */
