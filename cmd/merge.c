/* SPDX-License-Identifier: MIT */
/* tain merge: results of runs into one result. What is printed is what the document says. */
#include <ctype.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "cmd/cmd.h"
#include "lab/result/merge.h"
#include "lab/result/result.h"
#include "lib/time.h"

#define PARTS_SHOWN 20
#define VIOLATIONS_SHOWN 32

static struct {
	const char *json;
	bool complete, quiet;
} opt;

static const struct option_spec options[] = {
	CMD_OPTION(0, "complete", NULL, OPTION_FLAG, &opt.complete,
		   "exit 1 too if a shard is missing, ran nothing, or was ended by a signal"),
	CMD_OPTION(0, "json", "FILE", OPTION_STRING, &opt.json, "write the merged result to FILE; - is standard output",
		   .no_env = true),
	CMD_OPTION('q', "quiet", NULL, OPTION_FLAG, &opt.quiet, "no table", .no_env = true),
};

const struct command_spec cmd_merge_spec = {
	.name = "tain merge",
	.summary = "Merge results of one campaign, run in shards or on many machines, into one.",
	.args = "FILE...",
	.description = "The files are results that --json wrote, of stress, bench fault, bench interference,\n"
		       "bench outside, uffd-check or trace: all of one of them. Counts add up, histograms\n"
		       "merge exactly, violations and skips keep the part they came from. Times of different\n"
		       "engines or MMUs are not merged. Merged results merge again. Exit status: 0 no violation\n"
		       "in any part, 1 a violation or a failure, 2 misuse, 4 nothing ran in any part, 124 a part\n"
		       "made no progress.",
	.options = options,
	.nr_options = ARRAY_SIZE(options),
	.min_args = 1,
	.max_args = UINT_MAX,
};

/* --- text for people ------------------------------------------------------------------ */

/* Of an object from a file: on one line, whatever it holds. Valid until eight calls later. */
static const char *text_of(json_t *object, const char *key, const char *without)
{
	static char texts[8][400];
	static unsigned int next;
	char *text = texts[next++ % ARRAY_SIZE(texts)];

	snprintf(text, sizeof(texts[0]), "%s", json_string_value(json_object_get(object, key)) ?: without);
	for (char *c = text; *c; c++)
		if (iscntrl((unsigned char)*c))
			*c = '?';
	return text;
}

static u64 count_of(json_t *object, const char *key)
{
	json_int_t n = json_integer_value(json_object_get(object, key));

	return n > 0 ? (u64)n : 0;
}

static void print_identity(json_t *doc)
{
	size_t nr = json_array_size(json_object_get(doc, "parts"));

	fprintf(cmd_out, "tain merge: %zu result%s of %s: engine %s, MMU %s, host mm %s, CPU %s, kernel %s\n\n", nr,
		nr == 1 ? "" : "s", text_of(doc, "command", "?"), text_of(doc, "engine", "several"),
		text_of(doc, "mmu", "several"), text_of(doc, "host_mm", "several"), text_of(doc, "cpu", "several"),
		text_of(doc, "kernel", "several"));
}

static void print_part(json_t *part)
{
	json_t *status = json_object_get(part, "status");
	char exit[16] = "-";

	if (json_is_integer(status))
		snprintf(exit, sizeof(exit), "%d", (int)json_integer_value(status));
	fprintf(cmd_out, "  %-9s %16llu %10s %15s %10s %6s  %-16s %s\n",
		text_of(json_object_get(part, "options"), "shard", "-"), (unsigned long long)count_of(part, "seed"),
		cmd_seconds((u64)(json_number_value(json_object_get(part, "elapsed_s")) * 1e9)),
		cmd_count(count_of(part, "checked_accesses")), cmd_count(count_of(part, "violations")), exit,
		text_of(part, "host", "-"), text_of(part, "file", "-"));
}

/* Of many parts the first, and all that did not pass. */
static void print_parts(json_t *parts)
{
	size_t i, left_out = 0;
	json_t *part;

	fprintf(cmd_out, "  %-9s %16s %10s %15s %10s %6s  %-16s %s\n", "shard", "seed", "elapsed", "checked",
		"violations", "status", "host", "file");
	json_array_foreach(parts, i, part)
	{
		if (i < PARTS_SHOWN || count_of(part, "violations") || count_of(part, "status"))
			print_part(part);
		else
			left_out++;
	}
	if (left_out)
		fprintf(cmd_out, "  and %s more, which passed\n", cmd_count(left_out));
}

static void print_counts(json_t *doc)
{
	json_t *ops = json_object_get(doc, "host_ops"), *count;
	const char *name;

	fprintf(cmd_out, "\n  %-24s %15s\n", "checked accesses", cmd_count(count_of(doc, "checked_accesses")));
	fprintf(cmd_out, "  %-24s %15s\n", "second-MMU faults",
		json_is_null(json_object_get(doc, "faults")) ? "-" : cmd_count(count_of(doc, "faults")));
	json_object_foreach(ops, name, count)
		fprintf(cmd_out, "    %-22.60s %15s\n", name, cmd_count(count_of(ops, name)));
	fprintf(cmd_out, "  %-24s %15s\n\n", "violations",
		cmd_count(json_array_size(json_object_get(doc, "violations"))));
}

/* null: of too few samples. */
static const char *percentile_of(json_t *h, const char *key)
{
	return json_is_null(json_object_get(h, key)) ? "-" : cmd_count(count_of(h, key));
}

static void print_histograms(json_t *histograms)
{
	const char *name;
	json_t *h;

	if (!json_object_size(histograms))
		return;
	fprintf(cmd_out, "  %-28s %12s %10s %10s %10s %12s  %s\n", "histogram", "samples", "p50", "p99", "p99.9", "max",
		"unit");
	json_object_foreach(histograms, name, h)
		fprintf(cmd_out, "  %-28.60s %12s %10s %10s %10s %12s  %s\n", name, cmd_count(count_of(h, "count")),
			percentile_of(h, "p50"), percentile_of(h, "p99"), percentile_of(h, "p999"),
			cmd_count(count_of(h, "max")), text_of(h, "unit", "?"));
	fputc('\n', cmd_out);
}

static void print_skips(json_t *skips)
{
	json_t *skip;
	size_t i;

	json_array_foreach(skips, i, skip)
	{
		size_t nr = json_array_size(json_object_get(skip, "parts"));

		fprintf(cmd_out, "skipped: %s: %s (%zu part%s)\n", text_of(skip, "what", "?"),
			text_of(skip, "why", "?"), nr, nr == 1 ? "" : "s");
	}
}

static void print_number(json_t *v, const char *key)
{
	if (json_is_integer(json_object_get(v, key)))
		fprintf(cmd_out, " %s %llu", key, (unsigned long long)count_of(v, key));
}

static void print_violation(size_t number, json_t *v, json_t *part)
{
	const char *plan = text_of(json_object_get(part, "own"), "plan", "");

	fprintf(cmd_out, "\nviolation %zu: %s: %s\n ", number, text_of(v, "kind", "?"), text_of(v, "what", ""));
	print_number(v, "page");
	print_number(v, "vcpu");
	if (json_is_string(json_object_get(v, "operation")))
		fprintf(cmd_out, " operation %s", text_of(v, "operation", ""));
	print_number(v, "step");
	print_number(v, "seed");
	fprintf(cmd_out, "\n");
	if (json_is_string(json_object_get(v, "text")))
		fprintf(cmd_out, "  %s\n", text_of(v, "text", ""));
	fprintf(cmd_out, "  on host %s, in %s, with its trace\n", text_of(part, "host", "?"),
		text_of(part, "file", "?"));
	if (*plan)
		fprintf(cmd_out, "  its steps again: tain stress --plan %s\n", plan);
}

static void print_violations(json_t *violations, json_t *parts)
{
	json_t *v;
	size_t i;

	json_array_foreach(violations, i, v) if (i < VIOLATIONS_SHOWN)
		print_violation(i + 1, v, json_array_get(parts, count_of(v, "part")));
	if (i > VIOLATIONS_SHOWN)
		fprintf(cmd_out, "\nand %s more\n", cmd_count(i - VIOLATIONS_SHOWN));
}

static void print_document(json_t *doc)
{
	json_t *parts = json_object_get(doc, "parts");

	print_identity(doc);
	print_parts(parts);
	print_counts(doc);
	print_histograms(json_object_get(doc, "histograms"));
	print_skips(json_object_get(doc, "skips"));
	print_violations(json_object_get(doc, "violations"), parts);
}

/* --- the command ------------------------------------------------------------------------ */

/* What is merged must not take the place of a part. Return: 0 or the status after a complaint. */
static int check_not_a_part(char **path)
{
	struct stat to, from;

	if (!opt.json || stat(opt.json, &to))
		return CMD_OK;
	for (; *path; path++)
		if (!stat(*path, &from) && S_ISREG(to.st_mode) && to.st_dev == from.st_dev && to.st_ino == from.st_ino)
			return cmd_complain(CMD_MISUSE, "--json: %s is one of the files to merge", opt.json);
	return CMD_OK;
}

static int load_all(struct merge *m, char **path, struct err *err)
{
	int ret = 0;

	for (; *path && !ret && !READ_ONCE(cmd_stop); path++) {
		json_t *doc;

		ret = result_load(*path, &doc, err);
		ret = ret ?: merge_add(m, doc, *path, err);
		json_decref(doc);
	}
	return ret;
}

static int report(struct merge *m)
{
	static const int statuses[] = {
		[MERGE_PASSED] = CMD_OK,
		[MERGE_FAILED] = CMD_FAILED,
		[MERGE_STALLED] = CMD_TIMEOUT,
		[MERGE_NOTHING_RAN] = CMD_SKIPPED,
	};
	int status = statuses[merge_outcome(m)];
	json_t *doc, *warning;
	bool complete;
	size_t i;

	doc = merge_document(m, &complete);
	json_array_foreach(json_object_get(doc, "warnings"), i, warning)
		cmd_complain(CMD_OK, "warning: %s", json_string_value(warning));
	if (!opt.quiet)
		print_document(doc);
	if (opt.complete && !complete)
		status = cmd_complain(status ?: CMD_FAILED, "--complete: not all of it is there, see the warnings");
	if (!opt.quiet && !status) {
		cmd_print_colored(cmd_out, CMD_GREEN, "passed");
		fputc('\n', cmd_out);
	}
	return cmd_save_json(doc, opt.json, status);
}

int cmd_merge(int argc, char **argv)
{
	struct err err = { "" };
	struct merge m;
	int first, status;

	if (!cmd_parse(&cmd_merge_spec, argc, argv, &first, &status))
		return status;
	status = cmd_check_json(opt.json) ?: check_not_a_part(argv + first);
	if (status)
		return status;
	cmd_catch_signals(); /* half of a document is none */
	if (merge_init(&m))
		return cmd_complain(CMD_FAILED, "no memory for a histogram");
	if (load_all(&m, argv + first, &err) && !READ_ONCE(cmd_stop))
		status = cmd_complain(CMD_MISUSE, "%s", err.text);
	else if (!READ_ONCE(cmd_stop))
		status = report(&m);
	merge_destroy(&m);
	return cmd_finish(status);
}
