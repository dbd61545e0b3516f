/* SPDX-License-Identifier: MIT */
/* tain bench register */
#include <stdio.h>
#include <string.h>

#include "cmd/cmd.h"
#include "lab/bench/notifier.h"
#include "lab/result/result.h"

static struct {
	const char *vmas, *kind, *json;
	unsigned int rounds, signals;
	u64 seed;
	bool seed_given, quiet;
} opt = {
	.vmas = "10,1000,40000,1000000",
	.kind = "all",
	.rounds = 5,
	.signals = 200,
};

static const struct option_spec options[] = {
	CMD_OPTION(0, "vmas", "LIST", OPTION_STRING, &opt.vmas,
		   "numbers of VMAs, up to 8 (default 10,1000,40000,1000000)"),
	CMD_OPTION(0, "kind", "NAME", OPTION_STRING, &opt.kind,
		   "own, shared, untouched, or all (default: all, but own alone above 100000 VMAs)"),
	CMD_OPTION('i', "iterations", "N", OPTION_UINT, &opt.rounds, "rounds (default 5)", .min = 1,
		   .max = FIGURE_ROUNDS_MAX),
	CMD_OPTION(0, "signals", "N", OPTION_UINT, &opt.signals,
		   "registrations to interrupt by a signal, per variant, at the largest number; 0: none (default 200)",
		   .min = 0, .max = 100000),
	CMD_OPTION(0, "seed", "N", OPTION_U64, &opt.seed, "of the moments of the signals (default: random)", .min = 0,
		   .max = CMD_SEED_MAX, .given = &opt.seed_given),
	CMD_RESULT_OPTIONS,
};

const struct command_spec cmd_bench_register_spec = {
	.name = "tain bench register",
	.summary = "What mmu_notifier_register costs, by its admission and by the VMAs of the address space.",
	.description = "Beside it: what as many VMAs in this process add to KVM_CREATE_VM, where /dev/kvm opens and\n"
		       "vm.max_map_count has room; and how soon a signal ends a registration, sent on its own\n"
		       "processor (what is judged) and from another. Exit status: 0 every figure that was measured\n"
		       "reaches its bound, 1 one does not.",
	.options = options,
	.nr_options = ARRAY_SIZE(options),
};

static struct cmd_progress progress_line;

static void progress(u64 done, u64 total, const char *what, void *arg)
{
	if (cmd_progress_due(&progress_line))
		cmd_progress_show(&progress_line, "tain bench register: %llu of %llu measurements done (%s)",
				  (unsigned long long)done, (unsigned long long)total, what);
}

/* --- the table -------------------------------------------------------------------------- */

static void cell(const struct figure *f)
{
	double low = 0, high = 0;
	char text[64] = "-";

	for (u32 i = 0; i < f->rounds; i++) {
		low = i ? min(low, f->value[i]) : f->value[i];
		high = max(high, f->value[i]);
	}
	if (f->rounds)
		snprintf(text, sizeof(text), "%.1f (%.1f-%.1f)", figure_median(f, f->value) / 1e3, low / 1e3,
			 high / 1e3);
	fprintf(cmd_out, " %29s", text);
}

static bool row_ran(const struct figure *cases)
{
	for (int how = 0; how < REGISTER_HOW_NR; how++)
		if (cases[how].rounds)
			return true;
	return false;
}

static void print_kind(const struct bench_register_config *c, const struct bench_register_result *r, int kind)
{
	fprintf(cmd_out, "\n%s: %s; us, median (range)\n  %9s", register_kind_table[kind].name,
		register_kind_table[kind].summary, "VMAs");
	for (int how = 0; how < REGISTER_HOW_NR; how++)
		fprintf(cmd_out, " %29s", register_how_table[how].name);
	fputc('\n', cmd_out);
	for (u32 i = 0; i < c->nr_counts; i++) {
		if (!row_ran(r->cases[i][kind]))
			continue;
		fprintf(cmd_out, "  %9s", cmd_count(c->counts[i]));
		for (int how = 0; how < REGISTER_HOW_NR; how++)
			cell(&r->cases[i][kind][how]);
		fputc('\n', cmd_out);
	}
}

static void print_percentiles(const struct hist *h, double last)
{
	const double percentiles[] = { 50, 99, last };

	for (size_t i = 0; i < ARRAY_SIZE(percentiles); i++)
		fprintf(cmd_out, " %8.1f", (double)hist_percentile(h, percentiles[i]) / 1e3);
}

/* Why nothing was sent from another processor; NULL: it was. */
static const char *no_other_cpu(const struct bench_register_result *r)
{
	for (int how = 0; how < REGISTER_VARIANTS; how++)
		if (r->signals[how].no_other_cpu.text[0])
			return r->signals[how].no_other_cpu.text;
	return NULL;
}

static void print_signal(const char *variant, enum signal_place place, enum signal_way way,
			 const struct signal_times *t)
{
	static const char *const ways[SIGNAL_WAYS] = { "signal", "flag", "bare" };

	fprintf(cmd_out, "  %-7s %-9s %-6s %6s", variant, signal_place_table[place].name, ways[way],
		cmd_count(hist_count(&t->part[SIGNAL_WHOLE])));
	print_percentiles(&t->part[SIGNAL_WHOLE], 100);
	for (enum signal_part part = SIGNAL_DELIVERY; part < SIGNAL_PARTS && way != SIGNAL_FLAG; part++)
		print_percentiles(&t->part[part], 100);
	if (way == SIGNAL_FLAG)
		fprintf(cmd_out, "%81s", "");
	fprintf(cmd_out, " %5llu %6llu %6llu\n", (unsigned long long)t->slow, (unsigned long long)t->slow_before,
		(unsigned long long)t->slow_absent);
}

static void print_variant(const char *variant, const struct signal_results *r)
{
	for (enum signal_place place = 0; place < SIGNAL_PLACES; place++)
		for (enum signal_way way = 0; way < SIGNAL_WAYS; way++)
			if (hist_count(&r->times[place][way].part[SIGNAL_WHOLE]))
				print_signal(variant, place, way, &r->times[place][way]);
}

static void print_signals(const struct bench_register_config *c, const struct bench_register_result *r)
{
	u64 late[SIGNAL_PLACES] = { 0 };

	for (int how = 0; how < REGISTER_VARIANTS; how++)
		for (int place = 0; place < SIGNAL_PLACES; place++)
			late[place] += r->signals[how].late[place];
	fprintf(cmd_out,
		"\nsignal to -EINTR at %s VMAs, own; us: p50, p99, max; too late came %llu of %s, %llu of %s\n",
		cmd_count(c->counts[c->nr_counts - 1]), (unsigned long long)late[SIGNAL_SAME_CPU],
		signal_place_table[SIGNAL_SAME_CPU].name, (unsigned long long)late[SIGNAL_OTHER_CPU],
		signal_place_table[SIGNAL_OTHER_CPU].name);
	fprintf(cmd_out, "  %-7s %-9s %-6s %6s %26s %26s %26s %26s %19s\n", "variant", "place", "way", "tries", "whole",
		"until the handler", "from it on", "computed", "slow before absent");
	for (int how = 0; how < REGISTER_VARIANTS; how++)
		print_variant(register_how_table[how].name, &r->signals[how]);
	for (int place = 0; place < SIGNAL_PLACES; place++)
		fprintf(cmd_out, "  %s: %s\n", signal_place_table[place].name, signal_place_table[place].summary);
	fprintf(cmd_out,
		"  flag: the sender sets it, as the kernel's does; nothing is delivered\n"
		"  bare: a thread that registers nothing, but writes to as much memory for as long: this machine in "
		"any case\n"
		"  computed: processor time of the thread, from the handler on\n"
		"  slow: above %u us; of these: those that were so before the handler ran, and those that were so "
		"only\n"
		"    because one of the two threads did not have its processor (other programs, or the host of a "
		"virtual "
		"machine)\n",
		SIGNAL_BOUND_NS / 1000);
	if (no_other_cpu(r))
		fprintf(cmd_out, "  %s skipped: %s\n", signal_place_table[SIGNAL_OTHER_CPU].name, no_other_cpu(r));
}

static void print_table(const struct bench_register_config *c, const struct bench_register_result *r)
{
	const char *told = "";

	for (int kind = 0; kind < REGISTER_KIND_NR; kind++)
		if (c->kinds[kind])
			print_kind(c, r, kind);
	fputc('\n', cmd_out);
	for (int how = 0; how < REGISTER_HOW_NR; how++)
		fprintf(cmd_out, "  %-14s %s\n", register_how_table[how].name, register_how_table[how].summary);
	for (u32 i = 0; i < c->nr_counts; i++)
		for (int kind = 0; kind < REGISTER_KIND_NR; kind++) {
			const struct figure *f = &r->cases[i][kind][REGISTER_KVM];

			if (f->skip[0] && strcmp(f->skip, told))
				fprintf(cmd_out, "  %s skipped: %s\n", f->name, f->skip);
			told = f->skip[0] ? f->skip : told;
		}
	if (hist_count(&r->signals[0].times[SIGNAL_SAME_CPU][SIGNAL_BARE].part[SIGNAL_WHOLE]))
		print_signals(c, r);
}

/* --- the document ------------------------------------------------------------------------- */

static void document_signals(json_t *doc, const char *variant, const struct signal_results *r)
{
	static const char *const names[SIGNAL_WAYS][SIGNAL_PARTS] = {
		[SIGNAL_SENT] = { "signal_to_eintr", "signal_to_handler", "handler_to_eintr",
				  "handler_to_eintr_computed" },
		[SIGNAL_FLAG] = { "flag_to_eintr" },
		[SIGNAL_BARE] = { "signal_to_bare_loop", "signal_to_bare_handler" },
	};
	char name[80];

	for (int place = 0; place < SIGNAL_PLACES; place++)
		for (int way = 0; way < SIGNAL_WAYS; way++)
			for (int part = 0; part < SIGNAL_PARTS; part++) {
				const struct hist *h = &r->times[place][way].part[part];

				if (!hist_count(h) || !names[way][part])
					continue;
				snprintf(name, sizeof(name), "%s_%s_%s", names[way][part],
					 signal_place_table[place].name, variant);
				result_histogram(doc, name, "ns", h);
			}
}

static json_t *document(const struct bench_register_config *c, const struct bench_register_result *r)
{
	json_t *doc = result_new("bench register", NULL, c->seed);

	result_counts(doc, r->elapsed_ns, 0, 0);
	result_option_text(doc, "vmas", opt.vmas);
	result_option_text(doc, "kind", opt.kind);
	result_option_u64(doc, "iterations", c->rounds);
	result_option_u64(doc, "signals", c->signals);
	for (int i = 0; i < REGISTER_FIGURE_NR; i++)
		result_figure(doc, &r->figure[i]);
	for (u32 i = 0; i < c->nr_counts; i++)
		for (int kind = 0; kind < REGISTER_KIND_NR; kind++)
			for (int how = 0; how < REGISTER_HOW_NR; how++) {
				const struct figure *f = &r->cases[i][kind][how];

				if (f->rounds || f->skip[0])
					result_figure(doc, f);
			}
	for (int how = 0; how < REGISTER_VARIANTS; how++)
		document_signals(doc, register_how_table[how].name, &r->signals[how]);
	if (no_other_cpu(r))
		result_skip(doc, "signal from another processor", no_other_cpu(r));
	return doc;
}

/* --- the command ---------------------------------------------------------------------------- */

static int parse_kind(struct bench_register_config *c)
{
	const char *names[REGISTER_KIND_NR + 2] = { "all" }, *near;
	bool all = !strcmp(opt.kind, "all"), any = all;

	for (int kind = 0; kind < REGISTER_KIND_NR; kind++) {
		names[kind + 1] = register_kind_table[kind].name;
		c->kinds[kind] = all || !strcmp(opt.kind, names[kind + 1]);
		any |= c->kinds[kind];
	}
	c->many_own_only = all;
	near = option_nearest(opt.kind, names);
	return any ? CMD_OK
		   : cmd_complain(CMD_MISUSE, "unknown kind '%s'%s%s%s; own, shared, untouched or all", opt.kind,
				  near ? ", did you mean '" : "", near ?: "", near ? "'?" : "");
}

static int configure(struct bench_register_config *c)
{
	struct err err = { "" };
	int status = cmd_check_json(opt.json);

	if (status)
		return status;
	if (bench_register_counts(opt.vmas, c, &err))
		return cmd_complain(CMD_MISUSE, "--vmas: %s", err.text);
	c->rounds = opt.rounds;
	c->signals = opt.signals;
	c->seed = cmd_seed(opt.seed_given, opt.seed);
	return parse_kind(c);
}

int cmd_bench_register(int argc, char **argv)
{
	struct bench_register_config config = { .stop = &cmd_stop, .progress = progress };
	static struct bench_register_result result;
	struct err err = { "" };
	int first, status, ret;

	if (!cmd_parse(&cmd_bench_register_spec, argc, argv, &first, &status))
		return status;
	status = configure(&config);
	if (status)
		return status;
	cmd_catch_signals();
	cmd_progress_init(&progress_line, opt.quiet);
	fprintf(cmd_out, "tain bench register: host mm tain mmap_sem, Linux %s beside it, %u rounds, seed %llu\n",
		result_kernel(), config.rounds, (unsigned long long)config.seed);
	if (CHECKING)
		fprintf(cmd_out, "this is a checking build: its figures say nothing\n");
	fflush(cmd_out);
	ret = bench_register_run(&config, &result, &err);
	cmd_progress_end(&progress_line);
	if (ret && ret != -EINTR)
		status = cmd_complain(cmd_status(ret), "%s", err.text);
	if (!opt.quiet)
		print_table(&config, &result);
	for (int i = 0; i < REGISTER_FIGURE_NR; i++)
		if (!cmd_print_figure(&result.figure[i]))
			status = status ?: CMD_FAILED;
	status = cmd_save_json(document(&config, &result), opt.json, status);
	bench_register_destroy(&result);
	return cmd_finish(status);
}
