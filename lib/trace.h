/* SPDX-License-Identifier: MIT */
/*
 * Traces: each thread writes records into a ring of its own; the last ones are
 * dumped, merged by time, with every violation and BUG.
 *
 * A room lists its events once, in room/trace.h:
 *
 *   #define ROOM_EVENTS(X) \
 *   	X(fault, "gpa %#llx access %llu") \
 *   	X(zap, "gfn %#llx..%#llx")
 *   enum room_event {
 *   #define TRACE_ENUM(name, format) ROOM_TRACE_##name,
 *   ROOM_EVENTS(TRACE_ENUM)
 *   #undef TRACE_ENUM
 *   };
 *   extern const struct trace_room room_trace;
 *
 * makes the table in room/trace.c with { #name, format }, and writes
 * trace(&room_trace, ROOM_TRACE_zap, start, end, 0, 0).
 */
#ifndef LIB_TRACE_H
#define LIB_TRACE_H

#include "lib/base.h"

struct trace_event_desc {
	const char *name;
	const char *format; /* printf, for up to four unsigned long long: %llu %#llx %llx */
};

struct trace_room {
	const char *name;
	const struct trace_event_desc *events;
	unsigned int nr;
};

#define TRACE_RING_RECORDS 4096

extern u32 trace_on link_hidden;

void trace_set(bool on);
void trace_record(const struct trace_room *room, u32 event, u64 a, u64 b, u64 c, u64 d);

/* Off: one predictable branch, the arguments are not evaluated. Integers or pointers. */
#define trace(room, event, a, b, c, d)                                                                                 \
	do {                                                                                                           \
		if (unlikely(__atomic_load_n(&trace_on, __ATOMIC_RELAXED)))                                            \
			trace_record(room, event, (u64)(a), (u64)(b), (u64)(c), (u64)(d));                             \
	} while (0)

/*
 * The last @last records of every thread (0: all that are left), merged by time, one @line
 * call each; times are relative to the newest. Others may go on writing.
 * @line: gets a text without newline, valid during the call.
 */
void trace_dump(unsigned int last, void (*line)(const char *text, void *arg), void *arg);

/* Forget all records. Nobody may be tracing. */
void trace_reset(void);

#endif /* LIB_TRACE_H */
