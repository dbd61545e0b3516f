/* SPDX-License-Identifier: MIT */
/* The event table of notifier/. */
#include "notifier/trace.h"

static const struct trace_event_desc events[] = {
#define X(id, name, format) { name, format },
	MN_TRACE_EVENTS(X)
#undef X
};

const struct trace_room mn_trace_room = { .name = "notifier", .events = events, .nr = MN_TRACE_NR };
