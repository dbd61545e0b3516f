/* SPDX-License-Identifier: MIT */
/* tain bench fault: what its files share. */
#ifndef CMD_BENCH_FAULT_H
#define CMD_BENCH_FAULT_H

#include <jansson.h>

#include "lab/bench/bench.h"

/* Tables for people, on cmd_out. */
void bench_fault_print(const struct bench_fault_result *result);

/* Rows and skips of a document that has its options already. */
void bench_fault_document(json_t *doc, struct bench_fault_result *result, const char *run_backing);

#endif /* CMD_BENCH_FAULT_H */
