/* SPDX-License-Identifier: MIT */
/* Plans as files: "tain.plan/1", JSON; docs/results.md is its description. */
#ifndef LAB_PLAN_PLAN_FILE_H
#define LAB_PLAN_PLAN_FILE_H

#include "lab/host/op.h"
#include "lab/plan/plan.h"
#include "lib/base.h"
#include "lib/err.h"

#define PLAN_FILE_SCHEMA "tain.plan/1"
#define PLAN_FILE_MAX_STEPS (1ull << 24)
#define PLAN_FILE_NAME 32

/* All that it takes to run the steps again. */
struct plan_file {
	char engine[PLAN_FILE_NAME];
	char mutant[PLAN_FILE_NAME]; /* "" without */
	char uffd[PLAN_FILE_NAME];   /* who resolves its faults: "inline"; "" is "thread" */
	enum host_backing backing;
	u32 vcpus;
	u32 write_percent;
	u64 bytes;
	u32 ranges; /* 0 is 1 */
	u64 seed;   /* of the guests' accesses */
	u64 delay_ns;
	u64 audit;
	u64 repeat; /* how often the steps are gone through; 0: until told to stop */
	struct plan_step *step;
	u64 nr;
};

/*
 * Read @path. plan_file_destroy() when it went well.
 * Return: 0; -EINVAL with one line in @err that names the key or the step; -ENOMEM; what opening it said.
 */
int plan_file_load(struct plan_file *file, const char *path, struct err *err);
void plan_file_destroy(struct plan_file *file);

/* Write @file to @path, see json_save(). Return: 0; -ENOMEM, -errno with one line in @err. */
int plan_file_save(const struct plan_file *file, const char *path, struct err *err);

/* Fill @file with the first @nr steps of @plan. Return: 0; -ENOMEM. */
int plan_file_fill(struct plan_file *file, const struct plan *plan, u64 nr);

#endif /* LAB_PLAN_PLAN_FILE_H */
