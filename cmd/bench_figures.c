/* SPDX-License-Identifier: MIT */
/* tain bench figures: what `make bench` prints. */
#include <stdio.h>
#include <string.h>

#include "cmd/cmd.h"
#include "lab/bench.h"
#include "lab/result.h"

static struct {
	const char *json, *demand_paging_test;
	unsigned int rounds;
	u64 bytes, seed;
	bool seed_given, quiet;
} opt = {
	.rounds = 5,
	.bytes = 64ull << 20,
};

static const struct option_spec options[] = {
	CMD_OPTION('i', "iterations", "N", OPTION_UINT, &opt.rounds,
		   "rounds; all figures are measured in each (default 5)", .min = 1, .max = FIGURE_ROUNDS_MAX),
	CMD_OPTION('b', "bytes", "SIZE", OPTION_SIZE, &opt.bytes, "guest memory of the fault figures (default 64M)"),
	CMD_OPTION(0, "demand-paging-test", "PATH", OPTION_STRING, &opt.demand_paging_test,
		   "the KVM selftest to compare with; scripts/peers builds it (default: not compared)"),
	CMD_OPTION(0, "seed", "N", OPTION_U64, &opt.seed, "default: random", .min = 0, .max = CMD_SEED_MAX,
		   .given = &opt.seed_given),
	CMD_OPTION(0, "json", "FILE", OPTION_STRING, &opt.json, "write the result to FILE; - is standard output",
		   .no_env = true),
	CMD_OPTION('q', "quiet", NULL, OPTION_FLAG, &opt.quiet, "no progress", .no_env = true),
};

const struct command_spec cmd_bench_figures_spec = {
	.name = "tain bench figures",
	.summary = "The project's yardsticks, each against its bound or its peer in the same run.",
	.description = "Exit status: 0 every figure that was measured reaches its bound, 1 one does not.",
	.options = options,
	.nr_options = ARRAY_SIZE(options),
};

static struct cmd_progress progress_line;

static void progress(u64 done, u64 total, void *arg)
{
	if (cmd_progress_due(&progress_line))
		cmd_progress_show(&progress_line, "tain bench figures: %llu of %llu measurements done",
				  (unsigned long long)done, (unsigned long long)total);
}

static void range(const double *v, u32 n, double *low, double *high)
{
	*low = *high = n ? v[0] : 0;
	for (u32 i = 1; i < n; i++) {
		*low = min(*low, v[i]);
		*high = max(*high, v[i]);
	}
}

static void number(char *text, size_t n, double v)
{
	if (v >= 10000)
		snprintf(text, n, "%s", cmd_count((u64)(v + 0.5)));
	else if (v >= 100)
		snprintf(text, n, "%.0f", v);
	else
		snprintf(text, n, "%.2f", v);
}

static void print_measured(const char *label, const struct figure *f, const double *values)
{
	char median[32], low_text[32], high_text[32];
	double low, high;

	range(values, f->rounds, &low, &high);
	number(median, sizeof(median), figure_median(f, values));
	number(low_text, sizeof(low_text), low);
	number(high_text, sizeof(high_text), high);
	fprintf(cmd_out, "    %-34s %12s %-3s (%s to %s)\n", label, median, f->unit, low_text, high_text);
}

static void print_figure(const struct figure *f)
{
	bool compared = f->peer && !f->skip[0];
	char bound[32], measured[32];

	fprintf(cmd_out, "\n%s: %s\n", f->name, f->what);
	if (!f->rounds) {
		fprintf(cmd_out, "    not measured%s%s\n", f->skip[0] ? ": " : "", f->skip);
		return;
	}
	print_measured("measured", f, f->value);
	if (f->skip[0]) {
		fprintf(cmd_out, "    not compared: %s\n", f->skip);
		return;
	}
	if (compared)
		print_measured(f->peer, f, f->other);
	if (!f->bound)
		return;
	number(bound, sizeof(bound), f->bound);
	number(measured, sizeof(measured), figure_measure(f));
	fprintf(cmd_out, "    %-34s %12s %-3s must be at %s %s: ", compared ? "ratio" : "figure", measured,
		compared ? "" : f->unit, f->at_most ? "most" : "least", bound);
	cmd_print_colored(cmd_out, figure_met(f) ? CMD_GREEN : CMD_RED, figure_met(f) ? "reached" : "missed");
	fputc('\n', cmd_out);
}

static json_t *figure_json(const struct figure *f)
{
	json_t *o = json_object(), *values = json_array(), *others = json_array();

	for (u32 i = 0; i < f->rounds; i++) {
		json_array_append_new(values, json_real(f->value[i]));
		json_array_append_new(others, json_real(f->other[i]));
	}
	json_object_set_new(o, "name", json_string(f->name));
	json_object_set_new(o, "unit", json_string(f->unit));
	json_object_set_new(o, "values", values);
	json_object_set_new(o, "peer", f->peer ? json_string(f->peer) : json_null());
	json_object_set_new(o, "peer_values", others);
	json_object_set_new(o, "measure", json_real(figure_measure(f)));
	json_object_set_new(o, "bound", f->bound ? json_real(f->bound) : json_null());
	json_object_set_new(o, "at_most", json_boolean(f->at_most));
	json_object_set_new(o, "met", f->skip[0] ? json_null() : json_boolean(figure_met(f)));
	return o;
}

static json_t *document(const struct figures_result *r, u64 seed)
{
	json_t *doc = result_new("bench figures", NULL, seed), *figures = json_array();

	result_counts(doc, r->elapsed_ns, 0, 0);
	result_option_u64(doc, "iterations", opt.rounds);
	result_option_u64(doc, "bytes", opt.bytes);
	for (u32 i = 0; i < r->nr; i++) {
		json_array_append_new(figures, figure_json(&r->figure[i]));
		if (r->figure[i].skip[0])
			result_skip(doc, r->figure[i].name, r->figure[i].skip);
	}
	json_object_set_new(doc, "figures", figures);
	return doc;
}

static int report(const struct figures_result *r, u64 seed, int status)
{
	for (u32 i = 0; i < r->nr; i++) {
		print_figure(&r->figure[i]);
		if (!r->figure[i].skip[0] && r->figure[i].rounds && !figure_met(&r->figure[i]) && !status)
			status = CMD_FAILED;
	}
	return cmd_save_json(document(r, seed), opt.json, status);
}

int cmd_bench_figures(int argc, char **argv)
{
	static struct figures_result result;
	struct figures_config config = { .stop = &cmd_stop, .progress = progress };
	struct machine_config size = { .vcpus = 1 };
	struct err err = { "" };
	int first, status, ret;

	if (!cmd_parse(&cmd_bench_figures_spec, argc, argv, &first, &status))
		return status;
	size.engine = engine_find("soft");
	size.bytes = opt.bytes;
	size.beside_bytes = opt.bytes;
	if (machine_check(&size, &err))
		return cmd_complain(CMD_MISUSE, "%s", err.text);
	status = cmd_check_json(opt.json);
	if (status)
		return status;
	config.rounds = opt.rounds;
	config.bytes = opt.bytes;
	config.demand_paging_test = opt.demand_paging_test;
	config.seed = cmd_seed(opt.seed_given, opt.seed);
	cmd_catch_signals();
	cmd_progress_init(&progress_line, opt.quiet);
	fprintf(cmd_out,
		"tain bench figures: engines soft and kvm, %u rounds, medians (lowest to highest), seed %llu\n",
		opt.rounds, (unsigned long long)config.seed);
	if (CHECKING)
		fprintf(cmd_out, "this is a checking build: its figures say nothing\n");
	fflush(cmd_out);
	ret = figures_run(&config, &result, &err);
	cmd_progress_end(&progress_line);
	if (ret && ret != -EINTR)
		status = cmd_complain(cmd_status(ret), "%s", err.text);
	return cmd_finish(report(&result, config.seed, status));
}
