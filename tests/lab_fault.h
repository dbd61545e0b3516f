/* SPDX-License-Identifier: MIT */
/* Streams of events as text, and the faults that come out of them. */
#ifndef TESTS_LAB_FAULT_H
#define TESTS_LAB_FAULT_H

#include "lab/trace/fault_stream.h"
#include "tests/test.h"

#define STREAM_FAULTS 16
#define STREAM_BASE 0x7fb840000000ull /* of the guest's pages from gfn 0x100000 on; of those below no hva is known */

/* What came out, in order. */
extern struct fault stream_fault[STREAM_FAULTS];
extern u32 stream_nr_faults;

void stream_start(struct fault_stream *s, bool tdp);
/* All of @lines, to the end. */
void stream_play(struct fault_stream *s, const char *const *lines);

/*
 * All of @lines (ns, tid, event, values in hexadecimal), on a stream that is new; NULL ends them.
 * Return: were there @faults of them? Otherwise the check has failed, and @s is gone.
 */
bool stream_played(struct fault_stream *s, bool tdp, const char *const *lines, unsigned int faults);
/* Of the two faults of @lines the second is of @cause, and thread @by's doing (0: nobody's). They stay in stream_fault.
 */
void stream_second_is(bool tdp, const char *const *lines, enum fault_cause cause, u32 by);

#endif /* TESTS_LAB_FAULT_H */
