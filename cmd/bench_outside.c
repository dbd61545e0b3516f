/* SPDX-License-Identifier: MIT */
/* tain bench outside */
#include <stdio.h>

#include "cmd/cmd.h"
#include "lab/bench/outside.h"
#include "lab/result/result.h"
#include "lib/time.h"

static struct {
	const char *backing, *ops, *json, *cpus;
	unsigned int passes;
	u64 bytes, seed;
	bool seed_given, allow_system, quiet;
} opt = {
	.ops = "all",
	.passes = 5,
	.bytes = 16ull << 20,
};

static const struct option_spec options[] = {
	CMD_OPTION(0, "ops", "LIST", OPTION_STRING, &opt.ops,
		   "what is done, separated by commas; `tain list outside` names it (default all)"),
	CMD_QEMU_OPTIONS,
	CMD_OPTION('b', "bytes", "SIZE", OPTION_SIZE, &opt.bytes, "guest memory (default 16M)"),
	CMD_OPTION('s', "backing", "NAME", OPTION_STRING, &opt.backing,
		   "what backs it: memfd (default) or file_shared"),
	CMD_OPTION(0, "allow-system", NULL, OPTION_FLAG, &opt.allow_system,
		   "use switches of the whole machine and put them back: swap, compaction"),
	CMD_OPTION('i', "iterations", "N", OPTION_UINT, &opt.passes, "passes (default 5)", .min = 1, .max = 10000),
	CMD_OPTION('c', "cpus", "LIST", OPTION_STRING, &opt.cpus,
		   "processors for tain's own threads, such as 0,2 (default: all allowed)"),
	CMD_OPTION(0, "seed", "N", OPTION_U64, &opt.seed, "is written into the document (default: random)", .min = 0,
		   .max = CMD_SEED_MAX, .given = &opt.seed_given),
	CMD_RESULT_OPTIONS,
};

const struct command_spec cmd_bench_outside_spec = {
	.name = "tain bench outside",
	.summary = "What is done to a libvirt domain: how long it takes, and what its guest sees of it.",
	.description = "A guest of engine qemu touches its memory without a pause while tain, libvirt and the\n"
		       "monitor work on the domain: holes, suspend and resume, balloon, memory plugged in,\n"
		       "live migration, save and restore. Timed are the calls; for how long the guest's counter\n"
		       "stood still, by the host's clock; its longest gap by its own clock, which may have stood\n"
		       "still too; and what its accesses to pages far apart cost afterwards. What cannot be done\n"
		       "here is skipped by name. Whatever --allow-system changes is put back, even if tain is\n"
		       "killed.",
	.options = options,
	.nr_options = ARRAY_SIZE(options),
};

static struct cmd_progress progress_line;
static struct bench_outside_result result;

static void started(const struct machine_identity *id, void *arg)
{
	const struct bench_outside_config *c = arg;

	cmd_print_identity(cmd_out, "bench outside", id, c->machine.seed);
	if (!opt.quiet)
		fprintf(cmd_out, "1 vCPU, %s %s, machine %s, %u passes\n", cmd_bytes(opt.bytes), opt.backing,
			qemu_config.machine, opt.passes);
	fflush(cmd_out);
}

static void progress(u64 done, u64 total, void *arg)
{
	if (cmd_progress_due(&progress_line))
		cmd_progress_show(&progress_line, "tain bench outside: %llu of %llu measurements done",
				  (unsigned long long)done, (unsigned long long)total);
}

/* --- for people ---------------------------------------------------------------------- */

static const struct hist *times(enum outside_op op, enum outside_time time)
{
	return &result.row[op][time].ns;
}

static bool ran(enum outside_op op)
{
	return hist_count(times(op, OUTSIDE_STALL));
}

/* In us, as a word of its own. */
static const char *us(const struct hist *h, double percentile)
{
	static char text[16][24];
	static unsigned int next;
	char *to = text[next++ % ARRAY_SIZE(text)];

	if (!hist_tells(h, percentile))
		return "-";
	snprintf(to, sizeof(text[0]), "%.1f", (double)hist_percentile(h, percentile) / 1e3);
	return to;
}

static void print_call(enum outside_op op, enum outside_time time, const char *name)
{
	const struct hist *h = times(op, time);

	if (hist_count(h))
		fprintf(cmd_out, "  %-14s %7s %11s %11s %11s %11s %11s\n", name, cmd_count(hist_count(h)), us(h, 0),
			us(h, 50), us(h, 90), us(h, 99), us(h, 100));
}

static void print_calls(void)
{
	fprintf(cmd_out, "\nCalls, in us\n  %-14s %7s %11s %11s %11s %11s %11s\n", "call", "calls", "min", "p50", "p90",
		"p99", "max");
	for (int op = 0; op < OUTSIDE_OP_NR; op++) {
		print_call(op, OUTSIDE_CALL, outside_op_table[op].call);
		print_call(op, OUTSIDE_BACK, outside_op_table[op].back);
	}
}

static const char seen_format[] = "  %-14s %6s %11s %11s %11s %11s %9s %9s %9s %11s\n";

static void print_seen(void)
{
	fprintf(cmd_out, "\nMMU %s; what the guest sees, in us\n", result.id.mmu);
	fprintf(cmd_out, seen_format, "", "", "stood still", "", "own clock", "", "access", "after", "", "");
	fprintf(cmd_out, seen_format, "operation", "times", "p50", "max", "p50", "max", "samples", "p50", "p99", "max");
	for (int op = 0; op < OUTSIDE_OP_NR; op++) {
		const struct hist *stall = times(op, OUTSIDE_STALL), *gap = times(op, OUTSIDE_GAP),
				  *after = times(op, OUTSIDE_AFTER);

		if (ran(op))
			fprintf(cmd_out, seen_format, outside_op_table[op].name, cmd_count(hist_count(stall)),
				us(stall, 50), us(stall, 100), us(gap, 50), us(gap, 100), cmd_count(hist_count(after)),
				us(after, 50), us(after, 99), us(after, 100));
	}
	if (hist_count(times(OUTSIDE_MIGRATE, OUTSIDE_DOWNTIME)))
		fprintf(cmd_out, "  a migration's downtime as QEMU measured it: p50 %s, max %s\n",
			us(times(OUTSIDE_MIGRATE, OUTSIDE_DOWNTIME), 50),
			us(times(OUTSIDE_MIGRATE, OUTSIDE_DOWNTIME), 100));
}

static void print_table(void)
{
	print_calls();
	print_seen();
	fputc('\n', cmd_out);
	for (int op = 0; op < OUTSIDE_OP_NR; op++)
		if (ran(op))
			fprintf(cmd_out, "  %-14s %s\n", outside_op_table[op].name, outside_op_table[op].summary);
	for (int op = 0; op < OUTSIDE_OP_NR; op++)
		if (result.skip[op][0])
			fprintf(cmd_out, "  skipped: %-14s %s\n", outside_op_table[op].name, result.skip[op]);
}

/* --- the document ----------------------------------------------------------------------- */

static void add_row(json_t *doc, enum outside_op op, enum outside_time time)
{
	struct outside_row *row = &result.row[op][time];
	char name[64];

	if (!outside_time_name(name, sizeof(name), op, time) || !hist_count(&row->ns))
		return;
	result_histogram(doc, name, "ns", &row->ns);
	result_blocks(doc, name, &row->blocks,
		      time == OUTSIDE_DOWNTIME ? NSEC_PER_MSEC : cycles_to_ns(cycles_step()) + 1);
}

static json_t *document(const struct bench_outside_config *c)
{
	json_t *doc = result_new("bench outside", &result.id, c->machine.seed);

	result_counts(doc, result.elapsed_ns, 0, 0);
	result_faults_unknown(doc);
	result_option_text(doc, "ops", opt.ops);
	result_option_text(doc, "machine", qemu_config.machine);
	result_option_u64(doc, "bytes", opt.bytes);
	result_option_text(doc, "backing", opt.backing);
	result_option_u64(doc, "iterations", opt.passes);
	for (int op = 0; op < OUTSIDE_OP_NR; op++) {
		for (int time = 0; time < OUTSIDE_TIME_NR; time++)
			add_row(doc, op, time);
		if (op && ran(op)) /* not "none" */
			result_host_op(doc, outside_op_table[op].name, hist_count(times(op, OUTSIDE_STALL)));
		if (result.skip[op][0])
			result_skip(doc, outside_op_table[op].name, result.skip[op]);
	}
	return doc;
}

/* --- the run ------------------------------------------------------------------------------ */

static int configure(struct bench_outside_config *c)
{
	struct err err = { "" };
	int status = cmd_check_json(opt.json);

	if (status)
		return status;
	*c = (struct bench_outside_config){
		.machine = { .vcpus = 1, .bytes = opt.bytes, .cpus = opt.cpus },
		.passes = opt.passes,
		.stop = &cmd_stop,
		.started = started,
		.progress = progress,
		.arg = c,
	};
	if (outside_parse_ops(opt.ops, &c->ops, &err))
		return cmd_complain(CMD_MISUSE, "%s", err.text);
	c->machine.engine = cmd_engine("qemu", "bench outside", opt.json, &status);
	if (!c->machine.engine)
		return status;
	opt.backing = cmd_backing(c->machine.engine, opt.backing, &c->machine.backing, &status);
	if (!opt.backing)
		return status;
	c->machine.seed = cmd_seed(opt.seed_given, opt.seed);
	if (machine_check(&c->machine, &err))
		return cmd_complain(CMD_MISUSE, "%s", err.text);
	return CMD_OK;
}

/* What was asked for; "none" is always measured. */
static bool nothing_ran(const struct bench_outside_config *c)
{
	for (int op = 0; op < OUTSIDE_OP_NR; op++)
		if (c->ops & BIT(op) && ran(op))
			return false;
	return true;
}

int cmd_bench_outside(int argc, char **argv)
{
	struct bench_outside_config config;
	struct err err = { "" };
	int first, status, ret;

	if (!cmd_parse(&cmd_bench_outside_spec, argc, argv, &first, &status))
		return status;
	status = configure(&config);
	if (status)
		return status;
	cmd_catch_signals();
	if (!cmd_guardian_start(opt.allow_system, "bench outside", opt.json, &status))
		return status;
	cmd_progress_init(&progress_line, opt.quiet);
	ret = bench_outside_run(&config, &result, &err);
	cmd_progress_end(&progress_line);
	if (ret && ret != -EINTR)
		status = cmd_complain(cmd_status(ret), "%s", err.text);
	if (!result.ran && status == CMD_SKIPPED)
		status = cmd_save_skip("bench outside", opt.backing, err.text, opt.json, status);
	if (result.ran && !opt.quiet)
		print_table();
	if (!status && result.ran && !cmd_stop && nothing_ran(&config))
		status = CMD_SKIPPED;
	if (result.ran)
		status = cmd_save_json(document(&config), opt.json, status);
	bench_outside_destroy(&result);
	return cmd_finish(cmd_guardian_stop(status));
}
