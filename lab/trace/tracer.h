/* SPDX-License-Identifier: MIT */
/*
 * The kernel's trace of one process: an instance of tracefs that is tain's own, so that
 * nobody else's tracing is touched, with the events of lab/trace/kvm_event.h.
 *
 * The instance is called tain-PID-START, after tain's process and when that began. It is
 * removed by tracer_close(), or by a process that tracer_keep() starts if tain is killed;
 * one that was left all the same (both were killed) by the next tracer_open().
 * Where tracefs is not mounted it is mounted on nothing, for this process alone.
 */
#ifndef LAB_TRACE_TRACER_H
#define LAB_TRACE_TRACER_H

#include "lab/trace/kvm_event.h"
#include "lab/trace/vmm_process.h"
#include "lib/base.h"
#include "lib/err.h"

struct tracer_event {
	bool available; /* this kernel has it, with the fields that tain reads */
	bool enabled;
	u64 fired;
	char why[96]; /* not enabled: why not */
};

struct tracer;

/*
 * From here on an instance of this process is removed if it is killed. Before other
 * threads, and before memory whose faults are measured: it forks. Where there is no
 * tracefs, or it is not this user's, tracer_open() will say so, and this does nothing.
 * Return: 0; -errno with one line in @err.
 */
int tracer_keep(struct err *err);
/* No more. Harmless without tracer_keep(). */
void tracer_keep_end(void);

/*
 * Start to record. @buffer_kib: per processor.
 * Return: 0; -EOPNOTSUPP, -EACCES, -EPERM (this cannot be done here), -errno, with one line in @err.
 */
int tracer_open(struct tracer **tracer, const struct vmm_process *p, u64 buffer_kib, struct err *err);

/* Stop recording, remove the instance. NULL is fine. Return: 0; -errno: it is still there, as @err says. */
int tracer_close(struct tracer *tracer, struct err *err);

/* Record no more; what was recorded can still be read. */
void tracer_stop(struct tracer *tracer);

/*
 * Read what was recorded: *@record holds *@nr of them, in order of time, older than the
 * moment of the call, valid until the next call. After tracer_stop() all of them come.
 * Return: 0; -ENOMEM; -errno.
 */
int tracer_read(struct tracer *tracer, struct kvm_event_record **record, u64 *nr, struct err *err);

/* Events lost since the start, as the kernel counts them. */
u64 tracer_lost(struct tracer *tracer);

const struct tracer_event *tracer_events(const struct tracer *tracer); /* KVM_EVENT_NR of them */
const char *tracer_instance(const struct tracer *tracer);

#endif /* LAB_TRACE_TRACER_H */
