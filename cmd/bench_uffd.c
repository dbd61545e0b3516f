/* SPDX-License-Identifier: MIT */
/* tain bench fault -u */
#include <stdio.h>
#include <string.h>

#include "cmd/bench_uffd.h"
#include "cmd/cmd.h"
#include "lab/result/result.h"
#include "lib/time.h"

static struct cmd_progress progress_line;

static void started(const struct machine_identity *id, void *arg)
{
	const struct bench_uffd_config *c = arg;

	cmd_print_identity(cmd_out, "bench fault", id, c->machine.seed);
	fprintf(cmd_out, "userfaultfd %s, resolved by %s, %u page%s a fault, %s, %u passes\n", uffd_mode_names[c->mode],
		bench_placement_names[c->placement], c->window, c->window == 1 ? "" : "s (fault-around)",
		cmd_bytes(c->machine.bytes), c->passes);
	fflush(cmd_out);
}

static void progress(u64 done, u64 total, void *arg)
{
	if (cmd_progress_due(&progress_line))
		cmd_progress_show(&progress_line, "tain bench fault: %llu of %llu passes done",
				  (unsigned long long)done, (unsigned long long)total);
}

static void line(const char *name, const struct hist *h, const char *unit)
{
	fprintf(cmd_out, "  %-14s %9s  p50 %s  p90 %s  p99 %s  p99.9 %s  max %s %s\n", name, cmd_count(hist_count(h)),
		cmd_percentile(h, 50), cmd_percentile(h, 90), cmd_percentile(h, 99), cmd_percentile(h, 99.9),
		cmd_count(hist_max(h)), unit);
}

static json_t *document(const struct bench_uffd_config *c, struct bench_uffd_result *r)
{
	json_t *doc = result_new("bench fault", &r->id, c->machine.seed);
	const char *cause = bench_uffd_cause(c->mode);

	result_counts(doc, r->row.elapsed_ns, 0, r->row.faults);
	result_option_u64(doc, "vcpus", c->machine.vcpus);
	result_option_u64(doc, "bytes", c->machine.bytes);
	result_option_u64(doc, "iterations", c->passes);
	result_option_text(doc, "backing", host_backing_table[c->machine.backing].name);
	result_option_text(doc, "uffd", uffd_mode_names[c->mode]);
	result_option_text(doc, "placement", bench_placement_names[c->placement]);
	result_option_u64(doc, "window", c->window);
	result_histogram(doc, cause, cycles_unit_name(), &r->row.ns);
	result_blocks(doc, cause, &r->row.blocks, cycles_to_unit(cycles_step()) + 1);
	if (hist_count(&r->handler))
		result_histogram(doc, "uffd_handler", "ns", &r->handler);
	if (r->figure.name[0])
		result_figure(doc, &r->figure);
	return doc;
}

int cmd_bench_uffd(const struct bench_uffd_config *config, const char *json, bool quiet)
{
	struct bench_uffd_config c = *config;
	struct bench_uffd_result r;
	struct err err = { "" };
	int status = CMD_OK, ret;

	cmd_catch_signals();
	cmd_progress_init(&progress_line, quiet);
	c.stop = &cmd_stop;
	c.started = started;
	c.progress = progress;
	c.arg = &c;
	ret = bench_uffd_run(&c, &r, &err);
	cmd_progress_end(&progress_line);
	if (ret && ret != -EINTR)
		status = cmd_complain(cmd_status(ret), "%s", err.text);
	if (!r.ran && status == CMD_SKIPPED)
		status = cmd_save_skip("bench fault", bench_uffd_cause(c.mode), err.text, json, status);
	if (r.row.ran) {
		line(bench_uffd_cause(c.mode), &r.row.ns, cycles_unit_name());
		if (hist_count(&r.handler))
			line("handler", &r.handler, "ns");
		fprintf(cmd_out, "  %s pages in %s faults, %s pages/s\n", cmd_count(r.row.accesses),
			cmd_count(r.row.faults), cmd_rate((double)r.row.accesses * 1e9 / (double)r.row.elapsed_ns));
		if (r.figure.name[0] && !cmd_print_figure(&r.figure))
			status = status ?: CMD_FAILED;
	}
	if (r.ran)
		status = cmd_save_json(document(&c, &r), json, status);
	bench_uffd_destroy(&r);
	return cmd_finish(status);
}
