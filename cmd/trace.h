/* SPDX-License-Identifier: MIT */
/* What the files of tain trace share. */
#ifndef CMD_TRACE_H
#define CMD_TRACE_H

#include <jansson.h>
#include <stdio.h>

#include "lab/trace/fault_trace.h"

/* What a fault's time spans here. */
const char *trace_span(const struct fault_trace *t);

/* trace_print.c: tables for people, on cmd_out; and a fault as a line. */
void trace_print(const struct fault_trace *t, bool quiet);
void trace_print_fault_head(FILE *out);
void trace_print_fault(FILE *out, const struct fault *f, const struct vmm_area *area, const struct fault_trace *t);

/* trace_json.c: the document, without its options. */
json_t *trace_document(const struct fault_trace *t);

#endif /* CMD_TRACE_H */
