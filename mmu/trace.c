/* SPDX-License-Identifier: MIT */
/* The event table of mmu/. */
#include "mmu/trace.h"

static const struct trace_event_desc events[] = {
#define TRACE_DESC(name, format) { "mmu_" #name, format },
	MMU_EVENTS(TRACE_DESC)
#undef TRACE_DESC
};

const struct trace_room mmu_trace_room = {
	.name = "mmu",
	.events = events,
	.nr = MMU_TRACE_NR,
};
