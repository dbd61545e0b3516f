/* SPDX-License-Identifier: MIT */
/*
 * Results: one JSON document per run, "tain.result/1"; docs/results.md is its schema.
 * Every key of the schema is there from result_new() on.
 */
#ifndef LAB_RESULT_RESULT_H
#define LAB_RESULT_RESULT_H

#include <jansson.h>

#include "lab/result/blocks.h"
#include "lab/result/figure.h"
#include "lab/machine/machine.h"
#include "lab/result/result_read.h"
#include "lab/plan/violation.h"
#include "lib/base.h"
#include "lib/hist.h"

/* @command: "stress", "bench fault". @id: may be NULL where nothing ran. Lifetime: json_decref(). */
json_t *result_new(const char *command, const struct machine_identity *id, u64 seed);

/* The exit status of the run, as far as it is known when the document is written; of another schema's it is no part. */
void result_status(json_t *doc, int status);

void result_counts(json_t *doc, u64 elapsed_ns, u64 checked_accesses, u64 faults);
/* Nobody counts the faults of this run: null. After result_counts(). */
void result_faults_unknown(json_t *doc);
void result_host_op(json_t *doc, const char *name, u64 count);
void result_skip(json_t *doc, const char *what, const char *why);
void result_violation(json_t *doc, const struct violation *v);
void result_histogram(json_t *doc, const char *name, const char *unit, const struct hist *hist);
/* Of a histogram that is there already. @resolution: no difference below it was measured, in the histogram's unit. */
void result_blocks(json_t *doc, const char *name, struct blocks *blocks, u64 resolution);

/* Into the array `figures`, which comes with the first one; a reason for a gap goes to the skips too. */
void result_figure(json_t *doc, const struct figure *figure);

/* How the run was asked for. */
void result_option_u64(json_t *doc, const char *name, u64 value);
void result_option_text(json_t *doc, const char *name, const char *value); /* NULL: null */

/* The kernel's release, "6.18.1"; valid for ever. */
const char *result_kernel(void);

#endif /* LAB_RESULT_RESULT_H */
