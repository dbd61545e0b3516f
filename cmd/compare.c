/* SPDX-License-Identifier: MIT */
/* tain compare */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/cmd.h"
#include "lab/result/compare.h"
#include "lab/result/result.h"
#include "lib/time.h"

static struct {
	const char *confidence, *effect, *controls, *json;
	unsigned int rounds;
	u64 seed, timeout, phase;
	bool run, fail, quiet, seed_given;
} opt = {
	.controls = COMPARE_CONTROLS,
	.rounds = 12,
	.timeout = 600 * NSEC_PER_SEC,
	.phase = (u64)(COMPARE_PHASE_S * NSEC_PER_SEC),
};

static const struct option_spec options[] = {
	CMD_OPTION(0, "run", NULL, OPTION_FLAG, &opt.run,
		   "A and B are commands of tain: run them in turn, and compare the runs", .no_env = true),
	CMD_OPTION('n', "rounds", "N", OPTION_UINT, &opt.rounds,
		   "with --run: how often each of the two runs (default 12)", .min = 1, .max = STATS_UNITS_MAX,
		   .with = "run"),
	CMD_OPTION(0, "confidence", "P", OPTION_STRING, &opt.confidence,
		   "probability of no false verdict in the whole table, below 1 (default 0.99)"),
	CMD_OPTION(0, "effect", "PERCENT", OPTION_STRING, &opt.effect, "smaller differences are none (default 5)"),
	CMD_OPTION(0, "controls", "NAMES", OPTION_STRING, &opt.controls,
		   "histograms that tell what the machine did, for two files (default " COMPARE_CONTROLS ")",
		   .without = "run"),
	CMD_OPTION(0, "phase", "TIME", OPTION_TIME, &opt.phase,
		   "two files: passes that took less count together as one; 0: each alone (default 1s)",
		   .without = "run"),
	CMD_OPTION(0, "timeout", "TIME", OPTION_TIME, &opt.timeout, "with --run: for one run (default 10m)", .min = 1,
		   .max = CMD_TIME_MAX, .with = "run"),
	CMD_OPTION(0, "seed", "N", OPTION_U64, &opt.seed, "with --run: of the order of the runs (default: random)",
		   .min = 0, .max = CMD_SEED_MAX, .given = &opt.seed_given, .with = "run"),
	CMD_OPTION(0, "fail", NULL, OPTION_FLAG, &opt.fail, "exit 1 if anything is slower"),
	CMD_OPTION(0, "json", "FILE", OPTION_STRING, &opt.json, "write the comparison to FILE; - is standard output",
		   .no_env = true),
	CMD_OPTION('q', "quiet", NULL, OPTION_FLAG, &opt.quiet, "no progress and no table", .no_env = true),
};

const struct command_spec cmd_compare_spec = {
	.name = "tain compare",
	.summary = "Compare two results: what is faster, slower, the same, or too noisy to tell?",
	.args = "A B",
	.description = "A and B are files that --json wrote, or, with --run, two commands in quotes, such as\n"
		       "\"tain bench fault -b 4M -i 2\". The change is that of B against A. Passes within a file,\n"
		       "or runs in turn, are dealt to A and B anew (a permutation test over all measures at\n"
		       "once); see docs/compare.md for what that assumes. Of two files, what the machine did\n"
		       "between them shows too: --run is the sound way.",
	.options = options,
	.nr_options = ARRAY_SIZE(options),
	.min_args = 2,
	.max_args = 2,
};

static struct cmd_progress progress_line;

static void progress(u64 done, u64 total, void *arg)
{
	if (cmd_progress_due(&progress_line))
		cmd_progress_show(&progress_line, "tain compare: %llu of %llu runs done", (unsigned long long)done,
				  (unsigned long long)total);
}

/* --- options ------------------------------------------------------------------------- */

/* A number in (0, @below), or the default. */
static bool parse_number(const char *name, const char *text, double below, double *value, int *status)
{
	char *end;

	if (!text)
		return true;
	if (text[0] >= '0' && text[0] <= '9') {
		*value = strtod(text, &end);
		if (!*end && *value > 0 && *value < below)
			return true;
	}
	*status = cmd_complain(CMD_MISUSE, "--%s: '%s' is not a number between 0 and %g", name, text, below);
	return false;
}

static bool configure(struct compare_config *c, int *status)
{
	double percent = COMPARE_EFFECT * 100;

	*c = (struct compare_config){ .confidence = COMPARE_CONFIDENCE, .controls = opt.controls };
	if (!parse_number("confidence", opt.confidence, 1, &c->confidence, status) ||
	    !parse_number("effect", opt.effect, 1000, &percent, status))
		return false;
	c->effect = percent / 100;
	*status = cmd_check_json(opt.json);
	return !*status;
}

/* --- where the documents come from ---------------------------------------------------- */

struct documents {
	json_t *doc[COMPARE_SIDES][STATS_UNITS_MAX];
	u32 nr;
};

static int load_files(char **path, struct documents *d, struct err *err)
{
	int ret = result_load(path[0], &d->doc[COMPARE_A][0], err);

	d->nr = 1;
	return ret ?: result_load(path[1], &d->doc[COMPARE_B][0], err);
}

static int run_commands(char **command, struct documents *d, struct err *err)
{
	struct compare_run_config config = {
		.command = { command[0], command[1] },
		.rounds = opt.rounds,
		.seed = opt.seed,
		.timeout_ns = opt.timeout,
		.stop = &cmd_stop,
		.progress = progress,
	};
	json_t **docs[COMPARE_SIDES] = { d->doc[COMPARE_A], d->doc[COMPARE_B] };
	int ret;

	fprintf(cmd_out, "tain compare: %u runs of each command in turn, seed %llu\n", opt.rounds,
		(unsigned long long)opt.seed);
	fflush(cmd_out);
	d->nr = opt.rounds;
	cmd_catch_signals();
	cmd_progress_init(&progress_line, opt.quiet);
	ret = compare_run(&config, docs, err);
	cmd_progress_end(&progress_line);
	return ret;
}

static void drop(struct documents *d)
{
	for (int side = 0; side < COMPARE_SIDES; side++)
		for (u32 i = 0; i < STATS_UNITS_MAX; i++)
			json_decref(d->doc[side][i]);
}

/* --- the table -------------------------------------------------------------------------- */

static const char *number(double v)
{
	static char texts[4][32];
	static unsigned int next;
	char *text = texts[next++ % ARRAY_SIZE(texts)];

	if (v >= 1e6)
		snprintf(text, sizeof(texts[0]), "%s", cmd_rate(v));
	else if (v >= 100)
		snprintf(text, sizeof(texts[0]), "%s", cmd_count((u64)(v + 0.5)));
	else
		snprintf(text, sizeof(texts[0]), "%.3g", v);
	return text;
}

static void print_verdict(const struct compare_measure *m)
{
	static const enum cmd_color colors[COMPARE_VERDICTS] = {
		[COMPARE_FASTER] = CMD_GREEN,
		[COMPARE_SLOWER] = CMD_RED,
		[COMPARE_NOISY] = CMD_YELLOW,
	};

	if (colors[m->verdict])
		cmd_print_colored(cmd_out, colors[m->verdict], compare_verdict_names[m->verdict]);
	else
		fputs(compare_verdict_names[m->verdict], cmd_out);
	fprintf(cmd_out, "%s%s\n", m->why[0] ? ": " : "", m->why);
}

static void print_measure(const struct compare_measure *m)
{
	char range[48] = "-";

	if (m->high)
		snprintf(range, sizeof(range), "%+.1f to %+.1f", (m->low - 1) * 100, (m->high - 1) * 100);
	fprintf(cmd_out, "  %-26s %-6s %-6s %10s %10s %+8.1f %18s %8.4f  ", m->name, m->quantity, m->unit,
		number(m->median[COMPARE_A]), number(m->median[COMPARE_B]), (m->ratio - 1) * 100, range, m->p);
	print_verdict(m);
}

static void print_table(const struct compare *c, const struct compare_config *config)
{
	json_t *skip;
	size_t i;

	fprintf(cmd_out, "\n  %-26s %-6s %-6s %10s %10s %8s %18s %8s  %s\n", "measure", "", "unit", "A", "B",
		"change %", "of which sure", "p", "verdict");
	for (u32 m = 0; m < c->nr; m++)
		print_measure(&c->measure[m]);
	json_array_foreach(c->skips, i, skip)
		fprintf(cmd_out, "  %-26s not compared: %s\n", json_string_value(json_object_get(skip, "what")),
			json_string_value(json_object_get(skip, "why")));
	fprintf(cmd_out, "\n%u faster, %u slower, %u no difference, %u too noisy", compare_count(c, COMPARE_FASTER),
		compare_count(c, COMPARE_SLOWER), compare_count(c, COMPARE_SAME), compare_count(c, COMPARE_NOISY));
	fprintf(cmd_out, "; confidence %g for the whole table, differences below %g %% are none\n", config->confidence,
		config->effect * 100);
	if (!c->paired)
		fprintf(cmd_out, "Two files: what the machine did between them shows too; --run takes turns.\n");
}

/* --- the command -------------------------------------------------------------------------- */

static json_t *document(const struct compare *c, const struct compare_config *config, const struct documents *d)
{
	static const char *const shared[] = { "engine", "host_mm", "mmu", "cpu" };
	json_t *doc = result_new("compare", NULL, opt.run ? opt.seed : 0), *a, *b;

	for (size_t i = 0; i < ARRAY_SIZE(shared); i++) {
		a = json_object_get(d->doc[COMPARE_A][0], shared[i]);
		b = json_object_get(d->doc[COMPARE_B][0], shared[i]);
		if (a && b && json_equal(a, b))
			json_object_set(doc, shared[i], a);
	}
	if (opt.run)
		result_option_u64(doc, "rounds", opt.rounds);
	else
		result_option_u64(doc, "phase_ns", opt.phase);
	if (!opt.run)
		result_option_text(doc, "controls", opt.controls);
	json_object_set(doc, "skips", c->skips);
	json_object_set_new(doc, "comparison", compare_json(c, config));
	return doc;
}

static int compare_status(int ret)
{
	switch (ret) {
	case -EACCES:
	case -EPERM:
		return CMD_FAILED; /* of a file or a program, not of a facility of the machine */
	case -ETIMEDOUT:
		return CMD_TIMEOUT;
	case -EINTR:
		return CMD_OK; /* cmd_finish() says which signal */
	default:
		return cmd_status(ret);
	}
}

static int compare(struct documents *d, const struct compare_config *config)
{
	struct err err = { "" };
	struct compare c;
	json_t *warning;
	int status = CMD_OK, ret;
	size_t i;

	compare_init(&c, opt.run, (double)opt.phase / NSEC_PER_SEC);
	ret = compare_take(&c, d->doc[COMPARE_A], d->doc[COMPARE_B], d->nr, &err);
	json_array_foreach(c.warnings, i, warning) cmd_complain(CMD_OK, "warning: %s", json_string_value(warning));
	if (!ret && compare_judge(&c, config))
		ret = err_set(&err, -ENOMEM, "no memory for the tests");
	if (ret) {
		status = cmd_complain(compare_status(ret), "%s", err.text);
	} else {
		if (!opt.quiet)
			print_table(&c, config);
		status = opt.fail && compare_count(&c, COMPARE_SLOWER) ? CMD_FAILED : CMD_OK;
		status = cmd_save_json(document(&c, config, d), opt.json, status);
	}
	compare_destroy(&c);
	return status;
}

int cmd_compare(int argc, char **argv)
{
	static struct documents d;
	struct compare_config config;
	struct err err = { "" };
	int first, status, ret;

	if (!cmd_parse(&cmd_compare_spec, argc, argv, &first, &status) || !configure(&config, &status))
		return status;
	opt.seed = cmd_seed(opt.seed_given, opt.seed);
	ret = opt.run ? run_commands(argv + first, &d, &err) : load_files(argv + first, &d, &err);
	if (!ret)
		status = compare(&d, &config);
	else if (ret != -EINTR)
		status = cmd_complain(opt.run ? compare_status(ret) : CMD_MISUSE, "%s", err.text);
	drop(&d);
	return cmd_finish(status);
}
