/* SPDX-License-Identifier: MIT */
/* What the files of `tain stress` share: the run as asked for, plans as files (stress_plan.c), what a run found. */
#ifndef CMD_STRESS_H
#define CMD_STRESS_H

#include "cmd/cmd.h"
#include "lab/plan/plan_file.h"
#include "lab/stress/stress.h"

/* Where a run's steps are kept. */
struct stress_files {
	const char *save;     /* the steps of the run; NULL: only after a violation, in a file of its own */
	const char *shrink;   /* a smaller plan that fails too; NULL: none is searched */
	const char *replayed; /* the plan came from there; NULL: from the seed */
	u64 shrink_ns;	      /* all trials */
	const char *mutant;   /* NULL without */
	bool quiet;
};

/*
 * Keep the steps of the run as asked for; after a violation print how to have them
 * again, and search a smaller plan. *@name: the file with all steps, for mem_free(), or NULL.
 * Return: @status, or what went wrong.
 */
int stress_keep_plan(const struct stress_files *files, const struct stress_config *config,
		     const struct stress_result *result, char **name, int status);

/* Each file once: a second document would take the place of the first. NULL: none. Return: 0 or the exit status. */
int stress_check_files(const char *json, const char *save, const char *shrink);

/* --shard, and what it is a part of. */
struct stress_part {
	const char *shard; /* NULL: the run is all of it */
	bool seed_given;
	u64 seed;	  /* of all shards */
	const char *plan; /* where the list of steps came from, if there is one */
};

/* Make @config, which is for all of it, the shard's. Return: 0 or the exit status after a complaint. */
int stress_take_shard(const struct stress_part *part, struct stress_config *config);

/* The operations of @config's list of steps take the place of its operations. Return: their names, with commas. */
const char *stress_take_ops(struct stress_config *config);

/* --- stress_result.c ----------------------------------------------------------------- */

/* What a run did and could not judge, for want of guest writes; NULL: nothing. */
const char *stress_unjudged(const struct stress_config *config, const struct stress_result *result);

void stress_print_table(const struct stress_result *result, u32 vcpus);
/* All but options and files. */
void stress_add_result(json_t *doc, const struct stress_config *config, const struct stress_result *result);

#endif /* CMD_STRESS_H */
