/* SPDX-License-Identifier: MIT */
/* userfaultfd as a part of stress plans: one descriptor per mode, opened when a step first wants it. */
#ifndef LAB_PLAN_STEP_UFFD_H
#define LAB_PLAN_STEP_UFFD_H

#include "lab/host/host.h"
#include "lab/uffd/uffd.h"

/* @host: until step_uffd_destroy(). Return: it; NULL: no memory. */
struct step_uffd *step_uffd_create(struct host *host, enum uffd_placement placement);
/* Context: all guests have ended. NULL is fine. */
void step_uffd_destroy(struct step_uffd *su);

/* machine_config.fault: an access to DATA at @off failed. Any vCPU's thread. Return: it may succeed now. */
bool step_uffd_fault(struct step_uffd *su, u64 off);

/* Faults and events of all modes so far. */
u64 step_uffd_counted(struct step_uffd *su, enum uffd_count what);

#endif /* LAB_PLAN_STEP_UFFD_H */
