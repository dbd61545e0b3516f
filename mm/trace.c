/* SPDX-License-Identifier: MIT */
/* The event table of mm/. */
#include "mm/trace.h"

static const struct trace_event_desc events[] = {
#define X(id, name, format) { name, format },
	MM_TRACE_EVENTS(X)
#undef X
};

const struct trace_room mm_trace_room = { .name = "mm", .events = events, .nr = MM_TRACE_NR };
