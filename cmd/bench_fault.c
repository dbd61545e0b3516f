/* SPDX-License-Identifier: MIT */
/* tain bench fault */
#include <stdio.h>
#include <string.h>

#include "cmd/bench_fault.h"
#include "cmd/bench_uffd.h"
#include "cmd/cmd.h"
#include "lab/bench/bench.h"
#include "lab/result/result.h"
#include "lab/trace/tracer.h"
#include "lib/time.h"

static struct {
	const char *engine, *backing, *json, *cpus, *clock, *causes;
	unsigned int vcpus, passes;
	u64 bytes, seed, arena;
	bool seed_given, backing_given, allow_system, quiet;
	const char *uffd, *placement, *demand_paging_test;
	unsigned int window;
} opt = {
	.placement = "thread",
	.window = 1,
	.engine = "soft",
	.clock = "ns",
	.vcpus = 1,
	.passes = 5,
	.bytes = 64ull << 20,
};

static const struct option_spec options[] = {
	CMD_OPTION('e', "engine", "NAME", OPTION_STRING, &opt.engine, "soft (default), kvm or qemu"),
	CMD_OPTION('v', "vcpus", "N", OPTION_UINT, &opt.vcpus,
		   "virtual processors, each with its share of the memory (default 1)", .min = 1,
		   .max = GUEST_MAX_VCPUS),
	CMD_OPTION('b', "bytes", "SIZE", OPTION_SIZE, &opt.bytes,
		   "guest memory (default 64M); for one fault per sample at most 16M per vCPU"),
	CMD_OPTION('s', "backing", "NAME", OPTION_STRING, &opt.backing,
		   "what backs it: anonymous (default) or another of `tain list backings`; with engine qemu memfd "
		   "(default) or file_shared",
		   .given = &opt.backing_given),
	CMD_QEMU_OPTIONS,
	CMD_OPTION(0, "cause", "LIST", OPTION_STRING, &opt.causes,
		   "why accesses fault, separated by commas; `tain list causes` names them (default all, on soft those "
		   "that it has)"),
	CMD_OPTION(0, "allow-system", NULL, OPTION_FLAG, &opt.allow_system,
		   "use switches of the whole machine and put them back: swap, KSM, huge pages"),
	CMD_OPTION('i', "iterations", "N", OPTION_UINT, &opt.passes, "passes over the memory per cause (default 5)",
		   .min = 1, .max = 10000),
	CMD_OPTION(0, "seed", "N", OPTION_U64, &opt.seed, "repeat the orders of another run (default: random)",
		   .min = 0, .max = CMD_SEED_MAX, .given = &opt.seed_given),
	CMD_OPTION(
		'c', "cpus", "LIST", OPTION_STRING, &opt.cpus,
		"processors, such as 0,2,4-7: one vCPU on each in turn, the host on the last (default: all allowed)"),
	CMD_OPTION(0, "arena", "SIZE", OPTION_SIZE, &opt.arena, "physical memory of engine soft (default: enough)",
		   .engines = "soft"),
	CMD_OPTION('u', "uffd", "MODE", OPTION_STRING, &opt.uffd,
		   "userfaultfd faults alone: MISSING, MINOR (on a memfd) or WP; engine kvm"),
	CMD_OPTION(0, "window", "N", OPTION_UINT, &opt.window,
		   "with -u: pages that a fault brings in, a power of two (default 1)", .min = 1, .max = 65536,
		   .with = "uffd"),
	CMD_OPTION(
		0, "placement", "NAME", OPTION_STRING, &opt.placement,
		"with -u: who resolves: thread (on another processor, default), same-cpu, vcpu (the faulting thread)",
		.with = "uffd"),
	CMD_OPTION(0, "demand-paging-test", "PATH", OPTION_STRING, &opt.demand_paging_test,
		   "with -u MISSING: the KVM selftest to compare with (default: not compared)", .with = "uffd"),
	CMD_OPTION(0, "clock", "UNIT", OPTION_STRING, &opt.clock,
		   "what samples are in: ns (default), or instructions, on an emulator whose TSC counts them"),
	CMD_RESULT_OPTIONS,
};

const struct command_spec cmd_bench_fault_spec = {
	.name = "tain bench fault",
	.summary = "What one fault costs, by its cause: count, percentiles and rate.",
	.description = "The guest times each access; causes take turns within a pass. `net` is the median less\n"
		       "what measuring a warm page costs. `faults` counts second-MMU faults, which may be fewer\n"
		       "than accesses where the MMU maps neighbours too. On kvm a second table has one access per\n"
		       "sample, on pages far apart, and divides its median: the host's own fault, timed alone in\n"
		       "the same run, the second MMU with the exit and the entry, and the overhead. A cause that\n"
		       "cannot be had here is skipped by name. Whatever --allow-system changes is put back, even\n"
		       "if tain is killed.",
	.options = options,
	.nr_options = ARRAY_SIZE(options),
};

static struct cmd_progress progress_line;

static void started(const struct machine_identity *id, void *arg)
{
	const struct bench_fault_config *c = arg;

	cmd_print_identity(cmd_out, "bench fault", id, c->machine.seed);
	if (!opt.quiet)
		fprintf(cmd_out, "%u vCPU%s, %s %s, %u passes\n", opt.vcpus, opt.vcpus == 1 ? "" : "s",
			cmd_bytes(opt.bytes), opt.backing, opt.passes);
	fflush(cmd_out);
}

static void progress(u64 done, u64 total, void *arg)
{
	if (cmd_progress_due(&progress_line))
		cmd_progress_show(&progress_line, "tain bench fault: %llu of %llu measurements done",
				  (unsigned long long)done, (unsigned long long)total);
}

static json_t *document(const struct bench_fault_config *c, struct bench_fault_result *r)
{
	json_t *doc = result_new("bench fault", &r->id, c->machine.seed);

	result_counts(doc, r->elapsed_ns, 0, r->faults);
	if (!r->counted)
		result_faults_unknown(doc);
	result_option_u64(doc, "vcpus", opt.vcpus);
	result_option_u64(doc, "bytes", opt.bytes);
	result_option_text(doc, "backing", opt.backing);
	result_option_text(doc, "clock", opt.clock);
	result_option_text(doc, "cause", opt.causes);
	result_option_u64(doc, "iterations", opt.passes);
	bench_fault_document(doc, r, opt.backing);
	return doc;
}

static int configure(struct bench_fault_config *c)
{
	const struct engine *engine;
	struct err err = { "" };
	int status = cmd_check_json(opt.json);

	if (status)
		return status;
	engine = cmd_engine(opt.engine, "bench fault", opt.json, &status);
	if (!engine)
		return status;
	if (!strcmp(opt.clock, "instructions"))
		cycles_set_unit(CYCLES_INSTRUCTIONS);
	else if (strcmp(opt.clock, "ns"))
		return cmd_complain(CMD_MISUSE, "unknown clock '%s': ns or instructions", opt.clock);
	bench_fault_config_init(c, engine);
	opt.backing = cmd_backing(engine, opt.backing, &c->machine.backing, &status);
	if (!opt.backing)
		return status;
	c->machine.vcpus = opt.vcpus;
	c->machine.bytes = opt.bytes;
	c->machine.beside_bytes = opt.bytes; /* the host's own faults */
	c->machine.arena_bytes = opt.arena;
	c->machine.cpus = opt.cpus;
	c->machine.seed = cmd_seed(opt.seed_given, opt.seed);
	c->passes = opt.passes;
	if (opt.causes && bench_parse_causes(opt.causes, &c->causes, &err))
		return cmd_complain(CMD_MISUSE, "%s", err.text);
	if (machine_check(&c->machine, &err))
		return cmd_complain(CMD_MISUSE, "%s", err.text);
	return CMD_OK;
}

static int with_uffd(const struct bench_fault_config *fault)
{
	struct bench_uffd_config c = { .machine = fault->machine,
				       .window = opt.window,
				       .passes = opt.passes,
				       .demand_paging_test = opt.demand_paging_test };

	if (strcmp(opt.engine, "kvm"))
		return cmd_complain(CMD_MISUSE, "-u needs engine kvm: userfaultfd is Linux's");
	if (opt.causes)
		return cmd_complain(CMD_MISUSE, "-u measures one cause alone: without --cause");
	if (opt.window & (opt.window - 1))
		return cmd_complain(CMD_MISUSE, "a window of %u pages; a power of two is possible", opt.window);
	while (c.mode < UFFD_MODE_NR && strcmp(opt.uffd, uffd_mode_names[c.mode]))
		c.mode++;
	if (c.mode == UFFD_MODE_NR)
		return cmd_complain(CMD_MISUSE, "unknown mode '%s' of userfaultfd; MISSING, MINOR and WP are",
				    opt.uffd);
	while (c.placement < BENCH_PLACEMENT_NR && strcmp(opt.placement, bench_placement_names[c.placement]))
		c.placement++;
	if (c.placement == BENCH_PLACEMENT_NR)
		return cmd_complain(CMD_MISUSE, "unknown placement '%s'; thread, same-cpu and vcpu are", opt.placement);
	c.machine.backing = bench_uffd_backing(c.mode);
	if (opt.backing_given && c.machine.backing != fault->machine.backing)
		return cmd_complain(CMD_MISUSE, "-u %s is measured on %s memory: without -s %s", opt.uffd,
				    host_backing_table[c.machine.backing].name, opt.backing);
	return cmd_bench_uffd(&c, opt.json, opt.quiet);
}

static int measure(struct bench_fault_config *c, struct bench_fault_result *r)
{
	struct err err = { "" };
	int status = CMD_OK, ret;

	ret = bench_fault_run(c, r, &err);
	cmd_progress_end(&progress_line);
	if (ret && ret != -EINTR)
		status = cmd_complain(cmd_status(ret), "%s", err.text);
	if (!r->ran && status == CMD_SKIPPED)
		status = cmd_save_skip("bench fault", opt.backing, err.text, opt.json, status);
	if (r->ran && !opt.quiet)
		bench_fault_print(r);
	if (r->ran)
		status = cmd_save_json(document(c, r), opt.json, status);
	bench_fault_destroy(r);
	return status;
}

int cmd_bench_fault(int argc, char **argv)
{
	static struct bench_fault_result result;
	struct bench_fault_config config;
	struct err err = { "" };
	int first, status;

	if (!cmd_parse(&cmd_bench_fault_spec, argc, argv, &first, &status))
		return status;
	status = configure(&config);
	if (status)
		return status;
	if (opt.uffd)
		return with_uffd(&config);
	cmd_catch_signals();
	if (!cmd_guardian_start(opt.allow_system, "bench fault", opt.json, &status))
		return status;
	if (tracer_keep(&err))
		cmd_complain(CMD_OK, "%s: kill -9 could leave tracing on", err.text);
	cmd_progress_init(&progress_line, opt.quiet);
	config.started = started;
	config.progress = progress;
	config.arg = &config;
	config.stop = &cmd_stop;
	status = measure(&config, &result);
	tracer_keep_end();
	return cmd_finish(cmd_guardian_stop(status));
}
