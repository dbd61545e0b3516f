/* SPDX-License-Identifier: MIT */
/* What `tain bench fault` hands over when a userfaultfd is asked for. */
#ifndef CMD_BENCH_UFFD_H
#define CMD_BENCH_UFFD_H

#include "lab/bench/uffd.h"

/* Runs, prints, saves. Return: the exit status. */
int cmd_bench_uffd(const struct bench_uffd_config *config, const char *json, bool quiet);

#endif /* CMD_BENCH_UFFD_H */
