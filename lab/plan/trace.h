/* SPDX-License-Identifier: MIT */
/* Trace events of lab/. */
#ifndef LAB_PLAN_TRACE_H
#define LAB_PLAN_TRACE_H

#include "lib/trace.h"

#define LAB_TRACE_EVENTS(X)                                                                                            \
	X(STEP, "lab_step", "step %llu op %llu first %llu pages %llu")                                                 \
	X(ANNOUNCE, "lab_announce", "first %llu pages %llu")                                                           \
	X(REQUIRE, "lab_require", "first %llu pages %llu zero_allowed %llu")                                           \
	X(DONE, "lab_step_done", "step %llu result %llu")                                                              \
	X(VIOLATION, "lab_violation", "kind %llu page %llu seen %#llx vcpu %llu")

enum lab_trace_event {
#define X(id, name, format) LAB_TRACE_##id,
	LAB_TRACE_EVENTS(X)
#undef X
		LAB_TRACE_NR
};

extern const struct trace_room lab_trace_room;

#define lab_trace(event, a, b, c, d) trace(&lab_trace_room, LAB_TRACE_##event, a, b, c, d)

#endif /* LAB_PLAN_TRACE_H */
