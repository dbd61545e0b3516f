/* SPDX-License-Identifier: MIT */
/* tain bench invalidate */
#include <stdio.h>
#include <string.h>

#include "cmd/cmd.h"
#include "lab/bench/notifier.h"
#include "lab/result/result.h"

static struct {
	const char *json;
	unsigned int rounds;
	u64 bytes;
	bool quiet;
} opt = {
	.rounds = 5,
	.bytes = 64ull << 20,
};

static const struct option_spec options[] = {
	CMD_OPTION('i', "iterations", "N", OPTION_UINT, &opt.rounds, "rounds (default 5)", .min = 1,
		   .max = FIGURE_ROUNDS_MAX),
	CMD_OPTION('b', "bytes", "SIZE", OPTION_SIZE, &opt.bytes, "the largest range that is mirrored (default 64M)",
		   .min = PAGE_SIZE, .max = INVALIDATE_BYTES_MAX),
	CMD_RESULT_OPTIONS,
};

const struct command_spec cmd_bench_invalidate_spec = {
	.name = "tain bench invalidate",
	.summary = "What a range section costs, by who listens, by what is mirrored and by the admission.",
	.description = "Sections alone, and the whole of munmap and MADV_DONTNEED. Exit status: 0 every figure\n"
		       "that was measured reaches its bound, 1 one does not.",
	.options = options,
	.nr_options = ARRAY_SIZE(options),
};

static struct cmd_progress progress_line;

static void progress(u64 done, u64 total, void *arg)
{
	if (cmd_progress_due(&progress_line))
		cmd_progress_show(&progress_line, "tain bench invalidate: %llu of %llu parts done",
				  (unsigned long long)done, (unsigned long long)total);
}

static void cell(const struct figure *f)
{
	double low = 0, high = 0;
	char text[64] = "-";

	for (u32 i = 0; i < f->rounds; i++) {
		low = i ? min(low, f->value[i]) : f->value[i];
		high = max(high, f->value[i]);
	}
	if (f->rounds)
		snprintf(text, sizeof(text), "%.1f (%.1f-%.1f)", figure_median(f, f->value), low, high);
	fprintf(cmd_out, " %23s", text);
}

static void print_row(const struct bench_invalidate_result *r, int admission, enum invalidate_what what, u32 sizes)
{
	fprintf(cmd_out, "  %-20s", invalidate_table[what].name);
	for (u32 i = 0; i < sizes; i++)
		cell(&r->cases[admission][what][i]);
	fputc('\n', cmd_out);
}

static void print_admission(const struct bench_invalidate_result *r, int admission)
{
	static const enum invalidate_what by_pages[] = { INVALIDATE_PRESENT, INVALIDATE_DONTNEED,
							 INVALIDATE_DONTNEED_ALONE, INVALIDATE_MUNMAP,
							 INVALIDATE_MUNMAP_ALONE };
	u32 sizes = 0;

	fprintf(cmd_out, "\nadmission by %s; ns, median (range)\n", invalidate_admission_names[admission]);
	print_row(r, admission, INVALIDATE_NOBODY, 1);
	print_row(r, admission, INVALIDATE_HOLE, 1);
	fprintf(cmd_out, "  %-20s", "");
	for (int i = 0; invalidate_subscribers[i]; i++)
		fprintf(cmd_out, " %23u", invalidate_subscribers[i]);
	fputc('\n', cmd_out);
	print_row(r, admission, INVALIDATE_SUBSCRIBERS, 3);
	fprintf(cmd_out, "  %-20s", "ns a page of");
	for (; sizes < INVALIDATE_SIZES && r->pages[sizes]; sizes++)
		fprintf(cmd_out, " %23s", cmd_bytes((u64)r->pages[sizes] * PAGE_SIZE));
	fputc('\n', cmd_out);
	for (size_t i = 0; i < ARRAY_SIZE(by_pages); i++)
		print_row(r, admission, by_pages[i], sizes);
	fprintf(cmd_out, "  %-20s %23s %23s\n", "so", "an operation", "each page");
	for (size_t i = 0; i < ARRAY_SIZE(by_pages) && sizes > 1; i++) {
		fprintf(cmd_out, "  %-20s", invalidate_table[by_pages[i]].name);
		cell(&r->fixed[admission][by_pages[i]]);
		cell(&r->slope[admission][by_pages[i]]);
		fputc('\n', cmd_out);
	}
}

static json_t *document(const struct bench_invalidate_result *r)
{
	json_t *doc = result_new("bench invalidate", NULL, 0);

	result_counts(doc, r->elapsed_ns, 0, 0);
	result_option_u64(doc, "iterations", opt.rounds);
	result_option_u64(doc, "bytes", opt.bytes);
	for (int a = 0; a < INVALIDATE_ADMISSIONS; a++) {
		for (int i = 0; i < INVALIDATE_FIGURE_NR; i++)
			result_figure(doc, &r->figure[a][i]);
		for (int what = 0; what < INVALIDATE_WHAT_NR; what++)
			for (int size = 0; size < INVALIDATE_SIZES; size++)
				if (r->cases[a][what][size].rounds)
					result_figure(doc, &r->cases[a][what][size]);
		for (int what = 0; what < INVALIDATE_WHAT_NR; what++)
			if (r->fixed[a][what].rounds) {
				result_figure(doc, &r->fixed[a][what]);
				result_figure(doc, &r->slope[a][what]);
			}
	}
	return doc;
}

static int report(const struct bench_invalidate_result *r, int status)
{
	for (int a = 0; a < INVALIDATE_ADMISSIONS && !opt.quiet; a++)
		print_admission(r, a);
	if (!opt.quiet)
		fputc('\n', cmd_out);
	for (int what = 0; what < INVALIDATE_WHAT_NR && !opt.quiet; what++)
		fprintf(cmd_out, "  %-20s %s\n", invalidate_table[what].name, invalidate_table[what].summary);
	for (int a = 0; a < INVALIDATE_ADMISSIONS; a++)
		for (int i = 0; i < INVALIDATE_FIGURE_NR; i++)
			if (!cmd_print_figure(&r->figure[a][i]))
				status = status ?: CMD_FAILED;
	return cmd_save_json(document(r), opt.json, status);
}

int cmd_bench_invalidate(int argc, char **argv)
{
	struct bench_invalidate_config config = { .stop = &cmd_stop, .progress = progress };
	static struct bench_invalidate_result result;
	struct err err = { "" };
	int first, status, ret;

	if (!cmd_parse(&cmd_bench_invalidate_spec, argc, argv, &first, &status))
		return status;
	if (opt.bytes % PAGE_SIZE)
		return cmd_complain(CMD_MISUSE, "--bytes: %llu is no multiple of %llu", (unsigned long long)opt.bytes,
				    (unsigned long long)PAGE_SIZE);
	status = cmd_check_json(opt.json);
	if (status)
		return status;
	config.rounds = opt.rounds;
	config.bytes = opt.bytes;
	cmd_catch_signals();
	cmd_progress_init(&progress_line, opt.quiet);
	fprintf(cmd_out, "tain bench invalidate: host mm tain mmap_sem, MMU tain EPT, %u rounds\n", config.rounds);
	if (CHECKING)
		fprintf(cmd_out, "this is a checking build: its figures say nothing\n");
	fflush(cmd_out);
	ret = bench_invalidate_run(&config, &result, &err);
	cmd_progress_end(&progress_line);
	if (ret && ret != -EINTR)
		status = cmd_complain(cmd_status(ret), "%s", err.text);
	return cmd_finish(report(&result, status));
}
