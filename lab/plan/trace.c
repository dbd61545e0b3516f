/* SPDX-License-Identifier: MIT */
/* The table of lab/'s trace events. */
#include "lab/plan/trace.h"

static const struct trace_event_desc lab_events[] = {
#define X(id, name, format) { name, format },
	LAB_TRACE_EVENTS(X)
#undef X
};

const struct trace_room lab_trace_room = { "lab", lab_events, LAB_TRACE_NR };
