/* SPDX-License-Identifier: MIT */
/* tain matrix */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/cmd.h"
#include "cmd/matrix.h"
#include "lab/plan/plan.h"
#include "lab/result/result.h"
#include "lib/json.h"
#include "lib/time.h"

static struct {
	const char *engine, *ops, *backings, *json, *html, *cpus;
	bool backings_given, allow_system, tap, quiet;
} opt = {
	.engine = "kvm",
	.ops = "all",
	.backings = "all",
};

static const struct option_spec options[] = {
	CMD_OPTION('e', "engine", "NAME", OPTION_STRING, &opt.engine, "kvm (default) or soft"),
	CMD_OPTION(
		0, "ops", "LIST", OPTION_STRING, &opt.ops,
		"host operations, separated by commas; `tain list ops` names them, munmap to populate (default all)"),
	CMD_OPTION(
		's', "backings", "LIST", OPTION_STRING, &opt.backings,
		"what backs guest memory, separated by commas; `tain list backings` names them (default all, on soft "
		"anonymous)",
		.given = &opt.backings_given),
	CMD_OPTION(0, "allow-system", NULL, OPTION_FLAG, &opt.allow_system,
		   "use switches of the whole machine and put them back: KSM, compaction, swap, huge pages"),
	CMD_OPTION('c', "cpus", "LIST", OPTION_STRING, &opt.cpus,
		   "processors, such as 0,2: the vCPU on the first, the host on the last (default: all allowed)"),
	CMD_OPTION(0, "tap", NULL, OPTION_FLAG, &opt.tap, "TAP version 13 instead of the table", .no_env = true),
	CMD_OPTION(0, "html", "FILE", OPTION_STRING, &opt.html, "write the table as one HTML page to FILE",
		   .no_env = true),
	CMD_RESULT_OPTIONS,
};

const struct command_spec cmd_matrix_spec = {
	.name = "tain matrix",
	.summary = "What does this operation do on this backing? The truth table of this machine.",
	.description =
		"Each operation is done to each kind of memory under a guest of its own: what the guest sees\n"
		"afterwards, whether memory is freed, which userfaultfd event comes, what the next access costs.\n"
		"Exit status: 0 everything behaves as `tain list ops` says, 1 something does not, or failed,\n"
		"2 misuse, 4 nothing could run here. Whatever --allow-system changes is put back, even if tain\n"
		"is killed.",
	.options = options,
	.nr_options = ARRAY_SIZE(options),
};

static struct cmd_progress progress_line;
static struct matrix_result result;

static void progress(const struct matrix_cell *next, u32 done, u32 total, void *arg)
{
	if (cmd_progress_due(&progress_line))
		cmd_progress_show(&progress_line, "tain matrix: %u of %u: %s on %s", done, total,
				  op_table[next->op].name, host_backing_table[next->backing].name);
}

/* --- the document -------------------------------------------------------------------------- */

static void set_known(json_t *o, const char *key, s64 value)
{
	json_object_set_new(o, key, value == MATRIX_UNKNOWN ? json_null() : json_integer(value));
}

static void set_text(json_t *o, const char *key, const char *text)
{
	json_object_set_new(o, key, text && *text ? json_string(text) : json_null());
}

static void set_cost(json_t *o, const char *key, const struct matrix_cost *cost)
{
	json_t *to = cost->count ? json_object() : json_null();

	json_object_set_new(o, key, to);
	if (!cost->count)
		return;
	set_text(to, "unit", "ns");
	set_known(to, "count", (s64)cost->count);
	set_known(to, "p50", (s64)cost->p50);
	set_known(to, "p99", cost->p99);
	set_known(to, "max", (s64)cost->max);
}

static json_t *event_names(const struct matrix_cell *c)
{
	json_t *list = json_array();
	char text[40];

	if (c->events == MATRIX_UNKNOWN) {
		json_decref(list);
		return json_null();
	}
	for (int bit = 0; bit < 5; bit++)
		if (c->events & (s64)BIT(bit))
			json_array_append_new(list, json_string(matrix_events_text((s64)BIT(bit), text)));
	return list;
}

static const char *sight(enum matrix_sight s)
{
	return s == SIGHT_UNKNOWN ? NULL : matrix_sight_name(s);
}

static json_t *cell(const struct matrix_cell *c)
{
	json_t *o = json_object();

	set_text(o, "operation", op_table[c->op].name);
	set_text(o, "backing", host_backing_table[c->backing].name);
	set_text(o, "state", matrix_state_name(c->state));
	set_text(o, "why", c->why);
	set_text(o, "during", sight(c->during));
	set_text(o, "after", sight(c->after));
	set_known(o, "freed_percent", c->freed);
	set_known(o, "lazy_percent", c->lazy);
	set_known(o, "swapped_percent", c->swapped);
	set_known(o, "new_frames_percent", c->moved);
	set_known(o, "huge_kib_before", c->huge_before);
	set_known(o, "huge_kib_after", c->huge_after);
	set_known(o, "huge_sptes_before", c->huge_sptes);
	json_object_set_new(o, "uffd_events", event_names(c));
	set_text(o, "uffd_why", c->events_why);
	set_known(o, "zapped_pages", c->zapped);
	set_known(o, "notifier_ranges", c->ranges);
	set_known(o, "notifier_pages", c->range_pages);
	set_known(o, "operation_ns", matrix_has_columns(c) ? (s64)c->op_ns : MATRIX_UNKNOWN);
	set_known(o, "refault_faults", matrix_has_columns(c) ? c->faults : MATRIX_UNKNOWN);
	set_cost(o, "guest_read", &c->read);
	set_cost(o, "guest_write", &c->write);
	set_text(o, "refault_why", c->cost_why);
	return o;
}

static json_t *document(const struct matrix_result *r, const char *bail)
{
	char missing[160];
	json_t *doc = result_new("matrix", r->ran ? &r->id : NULL, 0), *cells = json_array();

	result_counts(doc, r->elapsed_ns, 0, r->faults);
	if (!r->counted)
		result_faults_unknown(doc);
	result_option_text(doc, "ops", opt.ops);
	result_option_text(doc, "backings", opt.backings);
	json_object_set_new(json_object_get(doc, "options"), "allow_system", json_boolean(opt.allow_system));
	for (u32 i = 0; i < r->nr; i++)
		json_array_append_new(cells, cell(&r->cell[i]));
	json_object_set_new(doc, "matrix", cells);
	for (u32 i = 0; i < r->skips; i++)
		result_skip(doc, r->skip[i].what, r->skip[i].why);
	if (bail) {
		snprintf(missing, sizeof(missing), "%u of %u were not tried: %.100s", r->planned - r->nr, r->planned,
			 bail);
		result_skip(doc, "cells", missing);
	}
	return doc;
}

/* --- the run ---------------------------------------------------------------------------------- */

static int save_html(const struct matrix_result *r, int status)
{
	struct err err = { "" };
	char *text = NULL;
	size_t n;
	FILE *f = open_memstream(&text, &n);
	int ret;

	if (!f)
		return cmd_complain(CMD_FAILED, "no memory for the page");
	matrix_print_html(f, r);
	fclose(f);
	ret = text_save(text, opt.html, &err);
	free(text);
	if (!ret)
		return status;
	cmd_complain(CMD_MISUSE, "%s", err.text);
	return status ?: CMD_MISUSE;
}

/* @bail: why cells are missing, or NULL. */
static int report(const struct matrix_result *r, const char *bail, int status)
{
	if (opt.tap)
		matrix_print_tap(cmd_out, r, bail);
	else if (!opt.quiet)
		matrix_print_table(cmd_out, r);
	if (!status && (r->states[MATRIX_WRONG] || r->states[MATRIX_FAILED]))
		status = CMD_FAILED;
	if (!status && !cmd_stop && !r->states[MATRIX_DONE] && !r->states[MATRIX_REFUSED])
		status = CMD_SKIPPED;
	if (opt.html)
		status = save_html(r, status);
	return cmd_save_json(document(r, bail), opt.json, status);
}

/* What stress alone can do - to memslots, through userfaultfd, to a whole VM - is in the list too. */
static int refuse_ops(const struct err *err)
{
	struct plan_ops known;
	struct err why;

	if (!strchr(opt.ops, '=') && !plan_parse_ops(opt.ops, &known, &why))
		return cmd_complain(CMD_MISUSE,
				    "--ops %s: not all are of the table; of `tain list ops` it has %s to %s", opt.ops,
				    op_table[0].name, op_table[OP_NR - 1].name);
	return cmd_complain(CMD_MISUSE, "%s", err->text);
}

static int configure(struct matrix_config *c)
{
	struct err err = { "" };
	int status = cmd_check_json(opt.json);

	if (status)
		return status;
	if (opt.html && !strcmp(opt.html, "-"))
		return cmd_complain(CMD_MISUSE, "--html wants the name of a file");
	status = opt.html ? cmd_check_output("html", opt.html) : 0;
	if (status)
		return status;
	if (op_parse_list(opt.ops, &c->ops, &err))
		return refuse_ops(&err);
	if (op_parse_backings(opt.backings, &c->backings, &err))
		return cmd_complain(CMD_MISUSE, "%s", err.text);
	c->machine.engine = cmd_engine(opt.engine, "matrix", opt.json, &status);
	if (!c->machine.engine)
		return status;
	if (c->machine.engine->own_mm && !opt.backings_given)
		c->backings = BIT(HOST_ANONYMOUS);
	c->machine.cpus = opt.cpus;
	c->machine.vcpus = 1;
	c->machine.bytes = PAGE_SIZE;
	if (machine_check(&c->machine, &err))
		return cmd_complain(CMD_MISUSE, "%s", err.text);
	c->stop = &cmd_stop;
	c->progress = progress;
	return CMD_OK;
}

int cmd_matrix(int argc, char **argv)
{
	struct matrix_config config = { 0 };
	struct err err = { "" };
	int first, status, ret;

	if (!cmd_parse(&cmd_matrix_spec, argc, argv, &first, &status))
		return status;
	status = configure(&config);
	if (status)
		return status;
	cmd_catch_signals();
	if (!cmd_guardian_start(opt.allow_system, "matrix", opt.json, &status))
		return status;
	cmd_progress_init(&progress_line, opt.quiet);
	ret = matrix_run(&config, &result, &err);
	cmd_progress_end(&progress_line);
	if (ret && ret != -EINTR)
		status = cmd_complain(cmd_status(ret), "%s", err.text);
	return cmd_finish(report(&result, ret ? ret == -EINTR ? "interrupted by a signal" : err.text : NULL,
				 cmd_guardian_stop(status)));
}
