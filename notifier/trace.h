/* SPDX-License-Identifier: MIT */
/* Trace events of notifier/. */
#ifndef NOTIFIER_TRACE_H
#define NOTIFIER_TRACE_H

#include "lib/trace.h"

#define MN_TRACE_EVENTS(X)                                                                                             \
	X(REGISTER, "mmu_notifier_register", "subscription %#llx mm %#llx result %lld")                                \
	X(UNREGISTER, "mmu_notifier_unregister", "subscription %#llx mm %#llx")                                        \
	X(RELEASE, "mmu_notifier_release", "mm %#llx")                                                                 \
	X(START, "invalidate_range_start", "%#llx..%#llx event %llu blockable %llu")                                   \
	X(START_FAILED, "invalidate_range_start_failed", "%#llx..%#llx subscription %#llx result %lld")                \
	X(END, "invalidate_range_end", "%#llx..%#llx event %llu")                                                      \
	X(INSERT, "mmu_interval_notifier_insert", "subscription %#llx start %#llx length %#llx result %lld")           \
	X(REMOVE, "mmu_interval_notifier_remove", "subscription %#llx mm %#llx waited for %llu")                       \
	X(EMM_REGISTER, "emm_notifier_register", "notifier %#llx mm %#llx version %llu result %lld")

enum mn_trace_event {
#define X(id, name, format) MN_TRACE_##id,
	MN_TRACE_EVENTS(X)
#undef X
		MN_TRACE_NR
};

extern const struct trace_room mn_trace_room;

#define mn_trace(event, a, b, c, d) trace(&mn_trace_room, MN_TRACE_##event, a, b, c, d)

#endif /* NOTIFIER_TRACE_H */
