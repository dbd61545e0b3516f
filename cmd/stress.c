/* SPDX-License-Identifier: MIT */
/* tain stress */
#include <stdlib.h>
#include <string.h>

#include "cmd/stress.h"
#include "lab/result/result.h"
#include "lib/alloc.h"
#include "lib/mutant.h"
#include "lib/race.h"
#include "lib/time.h"

static struct {
	const char *engine, *ops, *backing, *uffd, *mutant, *json, *cpus, *plan, *save_plan, *shrink, *shard;
	unsigned int vcpus, write_percent, ranges;
	u64 bytes, time_ns, seed, delay_us, steps, arena, audit, max_violations, stall_ns, repeat, shrink_ns;
	bool uffd_given, seed_given, delay_given, audit_given, quiet, no_trace, allow_system;
	/* of those that a plan file has an answer to */
	bool engine_given, ops_given, vcpus_given, bytes_given, backing_given, writes_given, mutant_given, time_given,
		repeat_given, ranges_given;
} opt = {
	.engine = "soft",
	.ops = "all",
	.backing = "anonymous",
	.uffd = "thread",
	.ranges = 1,
	.vcpus = 2,
	.write_percent = 25,
	.bytes = 4ull << 20,
	.time_ns = 10 * NSEC_PER_SEC,
	.max_violations = VIOLATION_RECORDS,
	.shrink_ns = 60 * NSEC_PER_SEC,
};

static struct plan_file plan_file; /* with --plan: what it held, for as long as the command */

static const struct option_spec options[] = {
	CMD_OPTION('e', "engine", "NAME", OPTION_STRING, &opt.engine, "soft (default), kvm or qemu",
		   .given = &opt.engine_given),
	CMD_OPTION(0, "ops", "LIST", OPTION_STRING, &opt.ops,
		   "host operations, separated by commas (`tain list ops` names them), or all that the engine has "
		   "(default), those that take long more rarely, on soft none of memslots; "
		   "munmap=3 comes three times as often as one without a number",
		   .given = &opt.ops_given),
	CMD_OPTION('v', "vcpus", "N", OPTION_UINT, &opt.vcpus, "virtual processors (default 2; with --linux 1)",
		   .min = 1, .max = GUEST_MAX_VCPUS, .given = &opt.vcpus_given),
	CMD_OPTION('b', "bytes", "SIZE", OPTION_SIZE, &opt.bytes, "guest memory under test (default 4M)",
		   .given = &opt.bytes_given),
	CMD_OPTION(0, "ranges", "N", OPTION_UINT, &opt.ranges,
		   "in so many ranges, each a memslot and a place in the host's address space of its own (default 1)",
		   .min = 1, .max = VM_MAX_RANGES, .given = &opt.ranges_given),
	CMD_OPTION('s', "backing", "NAME", OPTION_STRING, &opt.backing,
		   "what backs it: anonymous (default) or another of `tain list backings`; with engine qemu memfd "
		   "(default) or file_shared",
		   .given = &opt.backing_given),
	CMD_QEMU_OPTIONS,
	CMD_OPTION(0, "uffd", "WHO", OPTION_STRING, &opt.uffd,
		   "who resolves the faults of the uffd operations: a thread (default), or inline, the vCPU's own",
		   .given = &opt.uffd_given, .engines = "kvm"),
	CMD_OPTION(0, "allow-system", NULL, OPTION_FLAG, &opt.allow_system,
		   "use machine-wide switches (KSM, compaction, swap, hugetlb pages) and put them back as found"),
	CMD_OPTION('t', "time", "TIME", OPTION_TIME, &opt.time_ns,
		   "how long (default 10s; with --plan as long as its steps take)", .min = 1, .max = CMD_TIME_MAX,
		   .given = &opt.time_given),
	CMD_OPTION('i', "iterations", "N", OPTION_U64, &opt.steps,
		   "stop after N host operations, refused and skipped ones included (default: no limit)"),
	CMD_OPTION(0, "seed", "N", OPTION_U64, &opt.seed, "repeat the plan of another run (default: random)", .min = 0,
		   .max = CMD_SEED_MAX, .given = &opt.seed_given),
	CMD_OPTION(
		0, "shard", "I/K", OPTION_STRING, &opt.shard,
		"be the I-th of K runs that share a --seed: with a seed of its own that follows from it, and a K-th of "
		"the operations of -i, or of the steps of --plan (docs/fleet.md)"),
	CMD_OPTION('d', "delay", "US", OPTION_U64, &opt.delay_us,
		   "microseconds between host operations (default 20 on soft, else 100)", .min = 0, .max = 60000000,
		   .given = &opt.delay_given),
	CMD_OPTION('w', "write-percent", "N", OPTION_UINT, &opt.write_percent,
		   "share of guest accesses that write (default 25)", .min = 0, .max = 100, .given = &opt.writes_given),
	CMD_OPTION(
		'c', "cpus", "LIST", OPTION_STRING, &opt.cpus,
		"processors, such as 0,2,4-7: one vCPU on each in turn, the host on the last (default: all allowed)"),
	CMD_OPTION(0, "arena", "SIZE", OPTION_SIZE, &opt.arena, "physical memory of engine soft (default: enough)",
		   .engines = "soft"),
	CMD_OPTION(0, "audit", "N", OPTION_U64, &opt.audit,
		   "engine soft: compare the mirror with the host exactly after every N operations, 0: at the end only "
		   "(default 256, prove build 1)",
		   .given = &opt.audit_given, .engines = "soft"),
	CMD_OPTION(0, "mutant", "NAME", OPTION_STRING, &opt.mutant,
		   "put a historical bug back (prove, asan and tsan builds)", .given = &opt.mutant_given),
	CMD_OPTION(0, "plan", "FILE", OPTION_STRING, &opt.plan,
		   "do exactly the steps of FILE, with the options that it holds; others given here win",
		   .no_env = true),
	CMD_OPTION(0, "repeat", "N", OPTION_U64, &opt.repeat,
		   "with --plan: go through its steps N times, 0: until the time is over (default: as the file says)",
		   .min = 0, .max = INT64_MAX, .given = &opt.repeat_given, .with = "plan"),
	CMD_OPTION(0, "save-plan", "FILE", OPTION_STRING, &opt.save_plan,
		   "write the steps of this run to FILE (after a violation they go to TMPDIR without it)",
		   .no_env = true),
	CMD_OPTION(0, "shrink", "FILE", OPTION_STRING, &opt.shrink,
		   "after a violation search a smaller plan that fails too, and write it to FILE", .no_env = true),
	CMD_OPTION(0, "shrink-time", "TIME", OPTION_TIME, &opt.shrink_ns, "how long to search (default 60s)", .min = 1,
		   .max = CMD_TIME_MAX, .with = "shrink"),
	CMD_OPTION(0, "max-violations", "N", OPTION_U64, &opt.max_violations, "stop after N violations (default 32)",
		   .min = 1, .max = INT64_MAX),
	CMD_OPTION(0, "stall", "TIME", OPTION_TIME, &opt.stall_ns,
		   "report who makes no progress for so long (default 20s; engine qemu 120s, with --linux 600s)",
		   .min = NSEC_PER_SEC, .max = CMD_TIME_MAX),
	CMD_OPTION(0, "no-trace", NULL, OPTION_FLAG, &opt.no_trace, "keep no trace events to print with a violation"),
	CMD_RESULT_OPTIONS,
};

const struct command_spec cmd_stress_spec = {
	.name = "tain stress",
	.summary = "Change the host's memory under a running guest; was a stale translation ever used?",
	.description = "The guest reads stamps and writes to slots of its own while the host unmaps, replaces,\n"
		       "protects and moves the pages behind them. Exit status: 0 no violation, 1 a violation or\n"
		       "a failure, 2 misuse, 4 cannot run here, 124 somebody made no progress. Whatever\n"
		       "--allow-system changes is put back, even if tain is killed.",
	.options = options,
	.nr_options = ARRAY_SIZE(options),
};

static struct cmd_progress progress_line;

static const char *ranges_text(void)
{
	static char text[32];

	if (opt.ranges > 1)
		snprintf(text, sizeof(text), " in %u ranges", opt.ranges);
	return text;
}

static void started(const struct machine_identity *id, void *arg)
{
	const struct stress_config *c = arg;

	cmd_print_identity(cmd_out, "stress", id, c->machine.seed);
	if (!opt.quiet)
		fprintf(cmd_out, "%u vCPU%s, %s %s%s, operations %s, %s\n", opt.vcpus, opt.vcpus == 1 ? "" : "s",
			cmd_bytes(opt.bytes), opt.backing, ranges_text(), opt.ops,
			c->time_ns ? cmd_seconds(c->time_ns) : "no limit");
	if (!opt.quiet && opt.plan)
		fprintf(cmd_out, "%s steps of %s\n", cmd_count(c->list_nr), opt.plan);
	if (!opt.quiet && opt.shard)
		fprintf(cmd_out, "shard %s of seed %llu\n", opt.shard, (unsigned long long)opt.seed);
	if (!opt.quiet && opt.mutant)
		fprintf(cmd_out, "mutant %s is on\n", opt.mutant);
	fflush(cmd_out);
}

static void progress(const struct stress_progress *p, void *arg)
{
	if (cmd_progress_due(&progress_line))
		cmd_progress_show(
			&progress_line, "tain stress: %s: %s accesses checked, %s host operations, %s violations",
			cmd_seconds(p->elapsed_ns), cmd_count(p->checked), cmd_count(p->ops), cmd_count(p->violations));
}

static void print_again(u64 seed)
{
	fprintf(cmd_out, "\nthe same plan again: tain stress -e %s --ops %s -v %u -b %llu -s %s --seed %llu",
		opt.engine, opt.ops, opt.vcpus, (unsigned long long)opt.bytes, opt.backing, (unsigned long long)seed);
	if (opt.ranges > 1)
		fprintf(cmd_out, " --ranges %u", opt.ranges);
	if (strcmp(opt.uffd, "thread") && !strcmp(opt.engine, "kvm"))
		fprintf(cmd_out, " --uffd %s", opt.uffd);
	if (engine_find(opt.engine)->outside)
		fprintf(cmd_out, " --accel %s --machine %s%s", qemu_config.accel, qemu_config.machine,
			qemu_config.under_linux ? " --linux" : "");
	fprintf(cmd_out, "%s%s%s\n", opt.allow_system ? " --allow-system" : "", opt.mutant ? " --mutant " : "",
		opt.mutant ?: "");
}

static void print_violations(const struct stress_result *r, u64 seed)
{
	for (u32 i = 0; i < r->log.nr; i++)
		cmd_print_violation(cmd_out, i + 1, &r->log.record[i]);
	if (r->log.total > r->log.nr)
		fprintf(cmd_out, "\nand %s more\n", cmd_count(r->log.total - r->log.nr));
	if (!opt.plan)
		print_again(seed);
}

static json_t *document(const struct stress_config *c, const struct stress_result *r, const char *plan)
{
	json_t *doc = result_new("stress", &r->id, c->machine.seed);

	result_option_text(doc, "ops", opt.ops);
	result_option_u64(doc, "vcpus", opt.vcpus);
	result_option_u64(doc, "bytes", opt.bytes);
	result_option_u64(doc, "ranges", opt.ranges);
	result_option_text(doc, "backing", opt.backing);
	result_option_text(doc, "uffd", opt.uffd);
	if (c->machine.engine->outside) {
		result_option_text(doc, "accel", qemu_config.accel);
		result_option_text(doc, "machine", qemu_config.machine);
		result_option_text(doc, "linux", r->id.under[0] ? r->id.under : NULL);
	}
	result_option_u64(doc, "time_ns", opt.time_ns);
	result_option_u64(doc, "iterations", opt.steps);
	result_option_u64(doc, "delay_ns", c->delay_ns);
	result_option_u64(doc, "write_percent", opt.write_percent);
	result_option_u64(doc, "audit", c->audit_every);
	result_option_text(doc, "mutant", opt.mutant);
	if (opt.mutant)
		json_object_set_new(doc, "mutant_reached", json_integer((json_int_t)READ_ONCE(mutant_reached)));
	result_option_text(doc, "plan", opt.plan);
	result_option_text(doc, "shard", opt.shard);
	if (opt.shard)
		result_option_u64(doc, "campaign_seed", opt.seed);
	if (plan)
		json_object_set_new(doc, "plan", json_string(plan));
	stress_add_result(doc, c, r);
	return doc;
}

static int set_mutant(void)
{
	const char *near;
	int ret;

	if (!opt.mutant || !strcmp(opt.mutant, "none"))
		return CMD_OK;
	ret = mutant_set(opt.mutant);
	if (ret == -ENOSYS)
		return cmd_complain(CMD_MISUSE,
				    "mutant %s: this build has none; `make prove` makes build/prove/tain, which has "
				    "(so have the asan and tsan builds)",
				    opt.mutant);
	if (ret) {
		near = option_nearest(opt.mutant, mutant_names());
		return cmd_complain(CMD_MISUSE, "unknown mutant '%s'%s%s%s; `tain list mutants` names them", opt.mutant,
				    near ? ", did you mean '" : "", near ?: "", near ? "'?" : "");
	}
	return CMD_OK;
}

/* What the file with the steps says, where the command line says nothing. Return: 0 or the exit status. */
static int take_plan(void)
{
	struct err err = { "" };

	if (!opt.plan)
		return CMD_OK;
	if (opt.ops_given || opt.bytes_given || opt.ranges_given)
		return cmd_complain(CMD_MISUSE, "--%s: a plan of --plan has its own",
				    opt.ops_given     ? "ops"
				    : opt.bytes_given ? "bytes"
						      : "ranges");
	if (plan_file_load(&plan_file, opt.plan, &err))
		return cmd_complain(CMD_MISUSE, "--plan: %s", err.text);
	opt.bytes = plan_file.bytes;
	opt.engine = opt.engine_given ? opt.engine : plan_file.engine;
	opt.vcpus = opt.vcpus_given ? opt.vcpus : plan_file.vcpus;
	opt.ranges = max(plan_file.ranges, 1u);
	opt.uffd = opt.uffd_given || !plan_file.uffd[0] ? opt.uffd : plan_file.uffd;
	opt.backing = opt.backing_given ? opt.backing : host_backing_table[plan_file.backing].name;
	opt.write_percent = opt.writes_given ? opt.write_percent : plan_file.write_percent;
	opt.seed = opt.seed_given ? opt.seed : plan_file.seed;
	opt.mutant = opt.mutant_given || !plan_file.mutant[0] ? opt.mutant : plan_file.mutant;
	opt.repeat = opt.repeat_given ? opt.repeat : plan_file.repeat;
	opt.seed_given = true;
	if (!opt.delay_given)
		opt.delay_us = plan_file.delay_ns / NSEC_PER_USEC;
	if (!opt.audit_given)
		opt.audit = plan_file.audit;
	opt.delay_given = opt.audit_given = true;
	if (!opt.time_given && opt.repeat)
		opt.time_ns = 0;
	return CMD_OK;
}

static int set_uffd(struct stress_config *c)
{
	c->uffd = strcmp(opt.uffd, "inline") ? UFFD_THREAD : UFFD_INLINE;
	if (c->uffd == UFFD_INLINE || !strcmp(opt.uffd, "thread"))
		return CMD_OK;
	return cmd_complain(CMD_MISUSE, "--uffd %s: it is thread or inline", opt.uffd);
}

/* What the words mean. Return: 0 or the exit status after a complaint. */
static int configure(struct stress_config *c)
{
	const struct engine *engine;
	struct err err = { "" };
	int status = cmd_check_json(opt.json), ret;
	struct plan_ops ops;

	status = status ?: stress_check_files(opt.json, opt.save_plan, opt.shrink) ?: take_plan();
	if (status)
		return status;
	ret = plan_parse_ops(opt.ops, &ops, &err);
	if (ret)
		return cmd_complain(CMD_MISUSE, "--ops: %s", err.text);
	status = set_mutant();
	if (status)
		return status;
	engine = cmd_engine(opt.engine, "stress", opt.json, &status);
	if (!engine)
		return status;
	stress_config_init(c, engine);
	opt.backing =
		cmd_backing(engine, opt.backing_given || opt.plan ? opt.backing : NULL, &c->machine.backing, &status);
	if (!opt.backing)
		return status;
	if (set_uffd(c))
		return CMD_MISUSE;
	if (qemu_config.under_linux && !opt.vcpus_given && !opt.plan) /* QEMU's TCG: docs/architecture.md */
		opt.vcpus = 1;
	c->machine.vcpus = opt.vcpus;
	c->machine.ranges = opt.ranges;
	c->machine.bytes = opt.bytes;
	c->machine.arena_bytes = opt.arena;
	c->machine.cpus = opt.cpus;
	c->machine.seed = cmd_seed(opt.seed_given, opt.seed);
	stress_limit_ops(c, &ops);
	c->list = plan_file.step;
	c->list_nr = plan_file.nr;
	c->repeat = opt.repeat;
	c->time_ns = opt.time_ns;
	c->steps = opt.steps;
	c->write_percent = opt.write_percent;
	c->max_violations = opt.max_violations;
	if (opt.stall_ns)
		c->stall_ns = opt.stall_ns;
	if (opt.delay_given)
		c->delay_ns = opt.delay_us * NSEC_PER_USEC;
	if (opt.audit_given)
		c->audit_every = opt.audit;
	if (machine_check(&c->machine, &err))
		return cmd_complain(CMD_MISUSE, "%s", err.text);
	status = stress_take_shard(&(struct stress_part){ opt.shard, opt.seed_given, opt.seed, opt.plan }, c);
	if (!status && c->list)
		opt.ops = stress_take_ops(c);
	return status;
}

/* What the run says as a whole. */
static int verdict(const struct stress_result *r)
{
	for (u32 i = 0; i < r->log.nr; i++)
		if (r->log.record[i].kind != VIOLATION_STALL)
			return CMD_FAILED;
	return r->log.nr ? CMD_TIMEOUT : CMD_OK;
}

/* Nothing was found. A mutant that no plan comes to was not tried at all. */
static int say_passed(void)
{
	u64 reached = READ_ONCE(mutant_reached);

	if (opt.mutant && strcmp(opt.mutant, "none") && !reached)
		return cmd_complain(CMD_SKIPPED,
				    "mutant %s: this run never came to its place; the tests script it "
				    "(docs/notifier.md, `tain list mutants`)",
				    opt.mutant);
	if (opt.quiet)
		return CMD_OK;
	if (reached)
		fprintf(cmd_out, "not noticed, though mutant %s was at work %s times", opt.mutant, cmd_count(reached));
	else
		cmd_print_colored(cmd_out, CMD_GREEN, cmd_stop ? "stopped; no violation so far" : "passed");
	fputc('\n', cmd_out);
	return CMD_OK;
}

static int report(const struct stress_config *c, const struct stress_result *r, int ret, const struct err *err)
{
	const struct stress_files files = {
		.save = opt.save_plan,
		.shrink = opt.shrink,
		.replayed = opt.plan,
		.shrink_ns = opt.shrink_ns,
		.mutant = opt.mutant,
		.quiet = opt.quiet,
	};
	int status = verdict(r);
	char *plan;

	if (!opt.quiet)
		stress_print_table(r, opt.vcpus);
	for (int i = 0; i < PLAN_OP_NR; i++)
		if (r->unsupported & BIT(i))
			fprintf(cmd_out, "skipped: %s: %s\n", plan_op_name(i), r->why[i].text);
	if (stress_unjudged(c, r))
		fprintf(cmd_out, "skipped: writes: %s\n", stress_unjudged(c, r));
	if (r->log.nr)
		print_violations(r, c->machine.seed);
	if (ret)
		status = status ?: cmd_complain(cmd_status(ret), "%s", err->text);
	status = stress_keep_plan(&files, c, r, &plan, status);
	status = status ?: say_passed();
	status = cmd_save_json(document(c, r, plan), opt.json, status);
	mem_free(plan);
	return cmd_finish(status);
}

static int not_run(int ret, const struct err *err)
{
	int status = cmd_complain(cmd_status(ret), "%s", err->text);

	if (status == CMD_SKIPPED)
		status = cmd_save_skip("stress", opt.backing, err->text, opt.json, status);
	return cmd_finish(status);
}

int cmd_stress(int argc, char **argv)
{
	struct stress_config config;
	struct stress_result result;
	struct err err = { "" };
	int first, status, ret;

	if (!cmd_parse(&cmd_stress_spec, argc, argv, &first, &status))
		return status;
	status = configure(&config);
	if (status)
		return status;
	if (!cmd_guardian_start(opt.allow_system, "stress", opt.json, &status))
		return status;
	cmd_catch_signals();
	cmd_progress_init(&progress_line, opt.quiet);
	config.started = started;
	config.progress = progress;
	config.arg = &config;
	config.stop = &cmd_stop;
	config.trace = !opt.no_trace;
#if CHECKING
	if (opt.mutant)
		race_delays(config.machine.seed, 100);
#endif
	ret = stress_run(&config, &result, &err);
	cmd_progress_end(&progress_line);
	if (result.ran)
		status = report(&config, &result, ret, &err);
	else
		status = not_run(ret, &err);
	status = cmd_guardian_stop(status);
	if (result.stalled) {
		fflush(NULL);
		vm_abandon(); /* threads are stuck: nothing can be taken down */
		_Exit(status);
	}
	violation_log_destroy(&result.log);
	return status;
}
