/* SPDX-License-Identifier: MIT */
/*
 * USDT probes, provider "tain": one no-operation each until a tracer puts a breakpoint there. scripts/tain-faults.bt
 * uses them. Where <sys/sdt.h> (systemtap-sdt-dev) is missing they are type-checked, and nothing.
 *
 *   fault_begin(vcpu, gfn, access)            tain's second MMU; access as in enum mm_access
 *   fault_end(vcpu, gfn, outcome)             as mmu_fault() returns it
 *   invalidate_start(start, end, event)       a section of the notifier opens; event as in the range
 *   invalidate_end(start, end, event)
 *   op_begin(op, first, pages)                an operation of a stress plan, whatever the engine; op: a string
 *   op_end(op, first, ret)
 *   phase(what, a, b)                         what the process does from here on, a string: "stress", vcpus, seed; or a
 *                                             cause of bench fault, order, pass. Nothing is timed then
 *
 * Linux's and KVM's faults happen in the kernel; tain sees those that it has a part in:
 *
 *   run_failed(vcpu, gpa, exit_reason)        KVM_RUN returned -EFAULT: the host backs the access no more
 *   run_repaired(vcpu, gpa, again)            that was answered; the access is made once more, or not
 *   uffd_read(hva, mode, flags)               a fault has come; mode as in enum uffd_mode, flags as the message has
 *                                             them, -1: of a failed KVM_RUN, no message
 *   uffd_resolved(hva, mode, ret)             as uffd_resolve() returns it
 */
#ifndef LIB_PROBE_H
#define LIB_PROBE_H

#include "lib/base.h"

#if !defined(TAIN_NO_PROBES) && !defined(__CHECKER__) /* sparse knows no __has_include */
#if __has_include(<sys/sdt.h>)
#include <sys/sdt.h>
#define probe3(name, a, b, c) DTRACE_PROBE3(tain, name, a, b, c)
#endif
#endif

#ifndef probe3
#define probe3(name, a, b, c) ((void)sizeof(a), (void)sizeof(b), (void)sizeof(c))
#endif

#endif /* LIB_PROBE_H */
