/* SPDX-License-Identifier: MIT */
/* tain bench interference */
#include <stdio.h>
#include <string.h>

#include "cmd/cmd.h"
#include "lab/bench/interference.h"
#include "lab/result/result.h"
#include "lib/time.h"

static struct {
	const char *backing, *disturbers, *json, *cpus;
	unsigned int rounds;
	u64 bytes, seed, phase_ns, stall_ns, pause_ns;
	bool seed_given, allow_system, quiet;
} opt = {
	.backing = "anonymous",
	.disturbers = "all",
	.rounds = 5,
	.bytes = 16ull << 20,
	.phase_ns = 200 * NSEC_PER_MSEC,
	.stall_ns = 100 * NSEC_PER_USEC,
	.pause_ns = 100 * NSEC_PER_USEC,
};

static const struct option_spec options[] = {
	CMD_OPTION(0, "disturber", "LIST", OPTION_STRING, &opt.disturbers,
		   "what works meanwhile, separated by commas; `tain list disturbers` names it (default all)"),
	CMD_OPTION(0, "allow-system", NULL, OPTION_FLAG, &opt.allow_system,
		   "use switches of the whole machine and put them back: KSM, khugepaged, compaction"),
	CMD_OPTION(0, "stall", "TIME", OPTION_TIME, &opt.stall_ns, "a gap of at least TIME is a stall (default 100us)",
		   .min = 1, .max = NSEC_PER_SEC),
	CMD_OPTION('p', "pause", "TIME", OPTION_TIME, &opt.pause_ns,
		   "of a disturber between two pieces of its work; 0: a storm (default 100us)", .min = 0,
		   .max = NSEC_PER_SEC),
	CMD_OPTION('t', "time", "TIME", OPTION_TIME, &opt.phase_ns, "length of a phase (default 200ms)",
		   .min = NSEC_PER_MSEC, .max = 60 * NSEC_PER_SEC),
	CMD_OPTION('i', "iterations", "N", OPTION_UINT, &opt.rounds,
		   "rounds of a quiet and a disturbed phase each (default 5)", .min = 1, .max = FIGURE_ROUNDS_MAX),
	CMD_OPTION('b', "bytes", "SIZE", OPTION_SIZE, &opt.bytes, "guest memory (default 16M)"),
	CMD_OPTION('s', "backing", "NAME", OPTION_STRING, &opt.backing,
		   "what backs it: anonymous (default) or another of `tain list backings`"),
	CMD_OPTION('c', "cpus", "LIST", OPTION_STRING, &opt.cpus,
		   "processors, such as 0,2: the guest on the first, the disturber on the last (default: all allowed)"),
	CMD_OPTION(0, "seed", "N", OPTION_U64, &opt.seed, "is written into the document (default: random)", .min = 0,
		   .max = CMD_SEED_MAX, .given = &opt.seed_given),
	CMD_RESULT_OPTIONS,
};

const struct command_spec cmd_bench_interference_spec = {
	.name = "tain bench interference",
	.summary = "Which work of the host stalls a vCPU, how long and how often.",
	.description = "A guest of engine kvm touches its memory and measures every gap from one access to the\n"
		       "next, while another processor is quiet, then disturbed; the two take turns. A warm guest\n"
		       "does not fault by itself; a faulting one faults at every access. Ratios are medians over\n"
		       "the rounds, with their range. Whatever --allow-system changes is put back, even if tain\n"
		       "is killed.",
	.options = options,
	.nr_options = ARRAY_SIZE(options),
};

static struct cmd_progress progress_line;
static struct interference_result result;

static void started(const struct machine_identity *id, void *arg)
{
	const struct interference_config *c = arg;

	cmd_print_identity(cmd_out, "bench interference", id, c->machine.seed);
	if (!opt.quiet)
		fprintf(cmd_out, "1 vCPU, %s %s, %u rounds of twice %llu ms, stalls from %llu us\n",
			cmd_bytes(opt.bytes), opt.backing, opt.rounds,
			(unsigned long long)(opt.phase_ns / NSEC_PER_MSEC),
			(unsigned long long)(opt.stall_ns / NSEC_PER_USEC));
	fflush(cmd_out);
}

static void progress(u64 done, u64 total, void *arg)
{
	if (cmd_progress_due(&progress_line))
		cmd_progress_show(&progress_line, "tain bench interference: %llu of %llu measurements done",
				  (unsigned long long)done, (unsigned long long)total);
}

/* --- for people ---------------------------------------------------------------------- */

static double per_second(u64 n, u64 ns)
{
	return ns ? (double)n * 1e9 / (double)ns : 0;
}

static void print_side(const struct interference_side *s, const char *name)
{
	fprintf(cmd_out, "    %-10s %11s %7s %8s %9s %10s %11s %9s %9.1f %7.3f %%\n", name,
		cmd_count(hist_count(&s->ns)), cmd_percentile(&s->ns, 50), cmd_percentile(&s->ns, 99),
		cmd_percentile(&s->ns, 99.9), cmd_percentile(&s->ns, 99.99), cmd_count(hist_max(&s->ns)),
		cmd_count(s->stalls), per_second(s->stalls, s->guest_ns),
		100 * per_second(s->stalled_ns, s->guest_ns) / 1e9);
}

static void print_ratio(const char *name, const struct figure *f)
{
	double low = 0, high = 0;

	for (u32 i = 0; i < f->rounds; i++) {
		double ratio = f->other[i] > 0 ? f->value[i] / f->other[i] : 0;

		low = i ? min(low, ratio) : ratio;
		high = max(high, ratio);
	}
	fprintf(cmd_out, "  %s x %.2f (%.2f to %.2f)", name, figure_measure(f), low, high);
}

static void print_row(enum disturber kind, enum interference_guest guest)
{
	const struct interference_row *row = &result.row[kind][guest];

	fprintf(cmd_out, "  %s, %s guest, %s %s/s:", disturber_table[kind].name, interference_guest_names[guest],
		cmd_rate(per_second(row->work, row->work_ns)), disturber_table[kind].work);
	print_ratio("p50", &row->p50);
	print_ratio("p99", &row->p99);
	fputc('\n', cmd_out);
	for (int phase = 0; phase < INTERFERENCE_PHASE_NR; phase++)
		print_side(&row->side[phase], interference_phase_names[phase]);
}

static bool ran(enum disturber kind)
{
	return result.row[kind][INTERFERENCE_WARM].ran || result.row[kind][INTERFERENCE_FAULTING].ran;
}

static void print_table(void)
{
	fprintf(cmd_out, "\nMMU %s; gaps between the ends of two accesses, in ns\n", result.id.mmu);
	fprintf(cmd_out, "    %-10s %11s %7s %8s %9s %10s %11s %9s %9s %9s\n", "", "accesses", "p50", "p99", "p99.9",
		"p99.99", "longest", "stalls", "stalls/s", "stalled");
	for (int kind = 0; kind < DISTURB_NR; kind++)
		for (int guest = 0; guest < INTERFERENCE_GUEST_NR; guest++)
			if (result.row[kind][guest].ran)
				print_row(kind, guest);
	fputc('\n', cmd_out);
	for (int kind = 0; kind < DISTURB_NR; kind++)
		if (ran(kind))
			fprintf(cmd_out, "  %-11s %s\n", disturber_table[kind].name, disturber_table[kind].summary);
	for (int kind = 0; kind < DISTURB_NR; kind++)
		if (result.skip[kind][0])
			fprintf(cmd_out, "  skipped: %-11s %s\n", disturber_table[kind].name, result.skip[kind]);
}

/* --- the document ----------------------------------------------------------------------- */

static json_t *ratios(const struct figure *f)
{
	json_t *a = json_array();

	for (u32 i = 0; i < f->rounds; i++)
		json_array_append_new(a, json_real(f->other[i] > 0 ? f->value[i] / f->other[i] : 0));
	return a;
}

static json_t *side_json(const struct interference_side *s)
{
	json_t *o = json_object();

	json_object_set_new(o, "accesses", json_integer((json_int_t)hist_count(&s->ns)));
	json_object_set_new(o, "guest_ns", json_integer((json_int_t)s->guest_ns));
	json_object_set_new(o, "stalls", json_integer((json_int_t)s->stalls));
	json_object_set_new(o, "stalled_ns", json_integer((json_int_t)s->stalled_ns));
	json_object_set_new(o, "longest_ns", json_integer((json_int_t)hist_max(&s->ns)));
	json_object_set_new(o, "faults", result.counted ? json_integer((json_int_t)s->faults) : json_null());
	return o;
}

static void add_row(json_t *doc, json_t *list, enum disturber kind, enum interference_guest guest)
{
	struct interference_row *row = &result.row[kind][guest];
	json_t *o = json_object();
	char name[64];

	json_object_set_new(o, "disturber", json_string(disturber_table[kind].name));
	json_object_set_new(o, "guest", json_string(interference_guest_names[guest]));
	json_object_set_new(o, "work", json_integer((json_int_t)row->work));
	json_object_set_new(o, "work_ns", json_integer((json_int_t)row->work_ns));
	json_object_set_new(o, "p50_ratios", ratios(&row->p50));
	json_object_set_new(o, "p99_ratios", ratios(&row->p99));
	for (int phase = 0; phase < INTERFERENCE_PHASE_NR; phase++) {
		struct interference_side *s = &row->side[phase];

		json_object_set_new(o, interference_phase_names[phase], side_json(s));
		snprintf(name, sizeof(name), "%s_%s_%s", disturber_table[kind].name, interference_guest_names[guest],
			 interference_phase_names[phase]);
		result_histogram(doc, name, "ns", &s->ns);
		result_blocks(doc, name, &s->blocks, cycles_to_ns(cycles_step()) + 1);
	}
	json_array_append_new(list, o);
}

static json_t *document(const struct interference_config *c)
{
	json_t *doc = result_new("bench interference", &result.id, c->machine.seed), *list = json_array();

	result_counts(doc, result.elapsed_ns, 0, result.faults);
	if (!result.counted)
		result_faults_unknown(doc);
	result_option_u64(doc, "bytes", opt.bytes);
	result_option_text(doc, "backing", opt.backing);
	result_option_text(doc, "disturber", opt.disturbers);
	result_option_u64(doc, "iterations", opt.rounds);
	result_option_u64(doc, "phase_ns", opt.phase_ns);
	result_option_u64(doc, "stall_ns", opt.stall_ns);
	result_option_u64(doc, "pause_ns", opt.pause_ns);
	for (int kind = 0; kind < DISTURB_NR; kind++) {
		for (int guest = 0; guest < INTERFERENCE_GUEST_NR; guest++)
			if (result.row[kind][guest].ran)
				add_row(doc, list, kind, guest);
		if (result.skip[kind][0])
			result_skip(doc, disturber_table[kind].name, result.skip[kind]);
	}
	json_object_set_new(doc, "interference", list);
	return doc;
}

/* --- the run ------------------------------------------------------------------------------ */

static int configure(struct interference_config *c)
{
	struct err err = { "" };
	int status = cmd_check_json(opt.json);

	if (status)
		return status;
	*c = (struct interference_config){
		.machine = { .vcpus = 1, .bytes = opt.bytes, .cpus = opt.cpus },
		.rounds = opt.rounds,
		.phase_ns = opt.phase_ns,
		.stall_ns = opt.stall_ns,
		.pause_ns = opt.pause_ns,
		.stop = &cmd_stop,
		.started = started,
		.progress = progress,
		.arg = c,
	};
	if (disturber_parse(opt.disturbers, &c->disturbers, &err) ||
	    host_parse_backing(opt.backing, &c->machine.backing, &err))
		return cmd_complain(CMD_MISUSE, "%s", err.text);
	c->machine.engine = cmd_engine("kvm", "bench interference", opt.json, &status);
	if (!c->machine.engine)
		return status;
	c->machine.seed = cmd_seed(opt.seed_given, opt.seed);
	if (machine_check(&c->machine, &err))
		return cmd_complain(CMD_MISUSE, "%s", err.text);
	return CMD_OK;
}

static bool nothing_ran(void)
{
	for (int kind = 0; kind < DISTURB_NR; kind++)
		if (ran(kind))
			return false;
	return true;
}

int cmd_bench_interference(int argc, char **argv)
{
	struct interference_config config;
	struct err err = { "" };
	int first, status, ret;

	if (!cmd_parse(&cmd_bench_interference_spec, argc, argv, &first, &status))
		return status;
	status = configure(&config);
	if (status)
		return status;
	cmd_catch_signals();
	if (!cmd_guardian_start(opt.allow_system, "bench interference", opt.json, &status))
		return status;
	cmd_progress_init(&progress_line, opt.quiet);
	ret = interference_run(&config, &result, &err);
	cmd_progress_end(&progress_line);
	if (ret && ret != -EINTR)
		status = cmd_complain(cmd_status(ret), "%s", err.text);
	status = cmd_guardian_stop(status);
	if (!result.ran && status == CMD_SKIPPED)
		status = cmd_save_skip("bench interference", "kvm", err.text, opt.json, status);
	if (result.ran && !opt.quiet)
		print_table();
	if (!status && result.ran && !cmd_stop && nothing_ran())
		status = CMD_SKIPPED;
	if (result.ran)
		status = cmd_save_json(document(&config), opt.json, status);
	interference_destroy(&result);
	return cmd_finish(status);
}
