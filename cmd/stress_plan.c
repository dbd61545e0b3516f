/* SPDX-License-Identifier: MIT */
/* tain stress: the steps of a run: a shard of them, in a file, and a smaller plan that fails too. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd/stress.h"
#include "lab/plan/shard.h"
#include "lab/stress/shrink.h"
#include "lib/alloc.h"
#include "lib/time.h"

#define TRIAL_NS (1 * NSEC_PER_SEC)

/* --- what was asked for -------------------------------------------------------------- */

int stress_check_files(const char *json, const char *save, const char *shrink)
{
	static const char *const names[] = { "json", "save-plan", "shrink" };
	const char *const paths[] = { json, save, shrink };
	int status = CMD_OK;

	for (size_t i = 1; i < ARRAY_SIZE(paths) && !status; i++) {
		if (!paths[i])
			continue;
		if (!strcmp(paths[i], "-"))
			return cmd_complain(CMD_MISUSE, "--%s: it goes to a file, - is for --json", names[i]);
		for (size_t j = 0; j < i; j++)
			if (paths[j] && !strcmp(paths[i], paths[j]))
				return cmd_complain(CMD_MISUSE, "--%s and --%s: both name %s", names[j], names[i],
						    paths[i]);
		status = cmd_check_output(names[i], paths[i]);
	}
	return status;
}

int stress_take_shard(const struct stress_part *part, struct stress_config *c)
{
	struct err err = { "" };
	struct shard shard;
	u64 first = 0, steps = c->steps, all = c->list_nr;

	if (!part->shard)
		return CMD_OK;
	if (shard_parse(part->shard, &shard, &err))
		return cmd_complain(CMD_MISUSE, "--shard: %s", err.text);
	if (!part->seed_given)
		return cmd_complain(CMD_MISUSE, "--shard: needs --seed N, the same for every shard");
	c->machine.seed = shard_seed(&shard, part->seed);
	if (c->list) {
		c->list_nr = shard_share(&shard, all, &first);
		c->list += first;
		if (!c->list_nr)
			return cmd_complain(CMD_MISUSE, "--shard %s: %s has %s steps; use at most as many shards",
					    part->shard, part->plan, cmd_count(all));
	}
	if (steps) {
		c->steps = shard_share(&shard, steps, &first);
		if (!c->steps)
			return cmd_complain(CMD_MISUSE,
					    "--shard %s: -i %s leaves nothing for it; use at most as many "
					    "shards",
					    part->shard, cmd_count(steps));
	}
	return CMD_OK;
}

const char *stress_take_ops(struct stress_config *c)
{
	static char text[PLAN_OP_NR * 24];
	size_t n = 0;

	c->ops = 0;
	for (u64 i = 0; i < c->list_nr; i++)
		c->ops |= BIT(c->list[i].op);
	for (int op = 0; op < PLAN_OP_NR; op++)
		if (c->ops & BIT(op))
			n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%s", n ? "," : "", plan_op_name(op));
	return text;
}

/* --- what is kept -------------------------------------------------------------------- */

/* Everything but the steps. */
static void describe(struct plan_file *file, const struct stress_files *files, const struct stress_config *c)
{
	*file = (struct plan_file){
		.backing = c->machine.backing,
		.vcpus = c->machine.vcpus,
		.ranges = c->machine.ranges > 1 ? c->machine.ranges : 0,
		.write_percent = c->write_percent,
		.bytes = c->machine.bytes,
		.seed = c->machine.seed,
		.delay_ns = c->delay_ns,
		.audit = c->audit_every,
		.repeat = 1,
	};
	snprintf(file->engine, sizeof(file->engine), "%s", c->machine.engine->name);
	if (c->uffd == UFFD_INLINE)
		snprintf(file->uffd, sizeof(file->uffd), "inline");
	if (files->mutant)
		snprintf(file->mutant, sizeof(file->mutant), "%s", files->mutant);
}

static char *copy_name(const char *from)
{
	char *name = mem_alloc(strlen(from) + 1);

	return name ? strcpy(name, from) : NULL;
}

/* A new file for a plan nobody gave a name to. Return: its name, or NULL. */
static char *temporary_name(u64 seed)
{
	const char *dir = getenv("TMPDIR");
	char *name = mem_alloc(PATH_MAX);
	int fd;

	if (!name)
		return NULL;
	snprintf(name, PATH_MAX, "%s/tain-plan-%llu-XXXXXX.json", dir && *dir ? dir : "/tmp", (unsigned long long)seed);
	fd = mkstemps(name, strlen(".json"));
	if (fd < 0) {
		mem_free(name);
		return NULL;
	}
	close(fd);
	return name;
}

/* --- a smaller plan ------------------------------------------------------------------ */

struct shrinking {
	const struct stress_files *files;
	struct plan_file file;
	struct cmd_progress line;
	u64 trials;
	bool saved;
	struct err err;
};

static int save_best(struct shrinking *s, const struct shrink_plan *best)
{
	struct plan_file *file = &s->file;

	file->vcpus = best->vcpus;
	file->bytes = best->bytes;
	file->ranges = best->ranges > 1 ? best->ranges : 0;
	file->step = best->step;
	file->nr = best->nr;
	file->repeat = 0; /* a race takes its time to come */
	return plan_file_save(file, s->files->shrink, &s->err);
}

static void shrink_progress(const struct shrink_progress *p, bool smaller, void *arg)
{
	struct shrinking *s = arg;

	s->trials = p->trials;
	/* Each one is kept at once: whatever ends the search, the best is there. */
	if (smaller)
		s->saved = !save_best(s, p->best);
	if (cmd_progress_due(&s->line))
		cmd_progress_show(&s->line, "tain stress: shrinking: %s: %s trials, %s steps, %u vCPUs, %s",
				  cmd_seconds(p->elapsed_ns), cmd_count(p->trials), cmd_count(p->best->nr),
				  p->best->vcpus, cmd_bytes(p->best->bytes));
}

static void print_shrunk(const struct shrinking *s, const struct shrink_plan *plan, u64 before)
{
	fprintf(cmd_out, "\nshrunk from %s steps to %s (%u vCPU%s, %s) in %s trials%s: tain stress --plan %s\n",
		cmd_count(before), cmd_count(plan->nr), plan->vcpus, plan->vcpus == 1 ? "" : "s",
		cmd_bytes(plan->bytes), cmd_count(s->trials), cmd_stop ? ", interrupted" : "", s->files->shrink);
}

/* @file's steps go into the search; what is left of them comes back. */
static int shrink(const struct stress_files *files, const struct stress_config *c, struct plan_file *file, int status)
{
	struct shrinking s = { .files = files, .file = *file };
	struct shrink_plan plan = {
		.vcpus = file->vcpus, .bytes = file->bytes, .ranges = file->ranges, .nr = file->nr, .step = file->step
	};
	struct shrink_config config = {
		.stress = c,
		.trial_ns = TRIAL_NS,
		.time_ns = files->shrink_ns,
		.stop = &cmd_stop,
		.progress = shrink_progress,
		.arg = &s,
	};
	struct err err = { "" };
	int ret;

	cmd_progress_init(&s.line, files->quiet);
	ret = shrink_run(&config, &plan, &err);
	cmd_progress_end(&s.line);
	if (ret == -ETIMEDOUT && !s.saved) /* it hung as it was */
		s.saved = !save_best(&s, &plan);
	if (s.err.text[0])
		return cmd_complain(status ?: CMD_MISUSE, "--shrink: %s", s.err.text);
	if (s.saved)
		print_shrunk(&s, &plan, file->nr);
	else
		cmd_complain(0, "--shrink: %s in %llu trials; nothing was written", err.text,
			     (unsigned long long)s.trials);
	if (ret == -ETIMEDOUT) { /* threads are stuck: nothing can be taken down */
		fflush(NULL);
		vm_abandon();
		_Exit(cmd_finish(status));
	}
	file->nr = plan.nr;
	return status;
}

/* --- all steps -------------------------------------------------------------------------- */

int stress_keep_plan(const struct stress_files *files, const struct stress_config *config,
		     const struct stress_result *result, char **name, int status)
{
	bool failed = result->log.total;
	struct plan_file file;
	struct err err = { "" };
	struct plan plan;
	int ret;

	*name = NULL;
	if (!result->ran || !result->begun || !(files->save || failed))
		return status;
	describe(&file, files, config);
	stress_plan(config, &plan);
	if (plan_file_fill(&file, &plan, result->begun))
		return cmd_complain(status ?: CMD_FAILED, "no memory for the plan's %s steps",
				    cmd_count(result->begun));
	if (files->save)
		*name = copy_name(files->save);
	else if (!files->replayed)
		*name = temporary_name(config->machine.seed);
	ret = *name ? plan_file_save(&file, *name, &err) : 0;
	if (ret)
		status = cmd_complain(status ?: CMD_MISUSE, "the plan: %s", err.text);
	else if (failed && (*name || files->replayed))
		fprintf(cmd_out, "these %s steps again: tain stress --plan %s\n", cmd_count(file.nr),
			*name ?: files->replayed);
	if (failed && files->shrink && !result->stalled && !cmd_stop)
		status = shrink(files, config, &file, status);
	plan_file_destroy(&file);
	return status;
}
