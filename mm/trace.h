/* SPDX-License-Identifier: MIT */
/* Trace events of mm/. */
#ifndef MM_TRACE_H
#define MM_TRACE_H

#include "lib/trace.h"

#define MM_TRACE_EVENTS(X)                                                                                             \
	X(MMAP, "mm_mmap", "%#llx..%#llx prot %llu flags %#llx")                                                       \
	X(MUNMAP, "mm_munmap", "%#llx..%#llx")                                                                         \
	X(MPROTECT, "mm_mprotect", "%#llx..%#llx prot %llu")                                                           \
	X(MREMAP, "mm_mremap", "%#llx bytes %#llx -> %#llx bytes %#llx")                                               \
	X(DONTNEED, "mm_dontneed", "%#llx..%#llx")                                                                     \
	X(FAULT, "mm_fault", "hva %#llx access %llu pfn %#llx result %lld")                                            \
	X(RETRY, "mm_fault_retry", "hva %#llx access %llu")                                                            \
	X(PTE, "mm_pte", "hva %#llx old %#llx new %#llx")                                                              \
	X(TABLES, "mm_free_tables", "%#llx..%#llx count %llu")                                                         \
	X(EXIT, "mm_exit", "vmas %llu")                                                                                \
	X(LOCK_ALL, "mm_lock", "vmas %llu result %lld")                                                                \
	X(MIGRATE, "mm_migrate", "%#llx..%#llx moved %llu pinned %llu")                                                \
	X(TRUNCATE, "mm_file_truncate", "file %#llx first %llu last %llu result %lld")                                 \
	X(FRAME_SHORT, "frame_short", "order %llu free bytes %llu")                                                    \
	X(FRAME_CORRUPT, "frame_corrupt", "pfn %#llx offset %llu found %#llx")

enum mm_trace_event {
#define X(id, name, format) MM_TRACE_##id,
	MM_TRACE_EVENTS(X)
#undef X
		MM_TRACE_NR
};

extern const struct trace_room mm_trace_room;

#define mm_trace(event, a, b, c, d) trace(&mm_trace_room, MM_TRACE_##event, a, b, c, d)

#endif /* MM_TRACE_H */
