/* SPDX-License-Identifier: MIT */
/* Trace events of mmu/. */
#ifndef MMU_TRACE_H
#define MMU_TRACE_H

#include "lib/trace.h"

#define MMU_EVENTS(X)                                                                                                  \
	X(fault, "vcpu %llu gfn %#llx access %llu result %llx")                                                        \
	X(spte, "gfn %#llx level %llu old %#llx new %#llx")                                                            \
	X(invalidate_start, "hva %#llx..%#llx in progress %llu seq %llu")                                              \
	X(invalidate_end, "hva %#llx..%#llx in progress %llu seq %llu")                                                \
	X(flush_ask, "vcpu %llu ticket %llu mode %llu")                                                                \
	X(flush_done, "vcpu %llu ticket %llu")                                                                         \
	X(memslot, "id %llu base %#llx pages %#llx hva %#llx")                                                         \
	X(poison, "gfn %#llx mirrored %#llx host %#llx")

enum mmu_event {
#define TRACE_ENUM(name, format) MMU_TRACE_##name,
	MMU_EVENTS(TRACE_ENUM)
#undef TRACE_ENUM
		MMU_TRACE_NR
};

extern const struct trace_room mmu_trace_room;

#define mmu_trace(event, a, b, c, d) trace(&mmu_trace_room, MMU_TRACE_##event, a, b, c, d)

#endif /* MMU_TRACE_H */
