/* SPDX-License-Identifier: MIT */
/* tain doctor: what runs on this machine, and the command that repairs what does not. */
#include "cmd/doctor.h"

#include <string.h>

#include "cmd/cmd.h"
#include "lab/result/result.h"
#include "lib/json.h"

static struct {
	const char *json;
	bool quiet;
} opt;

static const struct option_spec options[] = {
	CMD_OPTION(0, "json", "FILE", OPTION_STRING, &opt.json, "write the findings to FILE; - is standard output",
		   .no_env = true),
	CMD_OPTION('q', "quiet", NULL, OPTION_FLAG, &opt.quiet, "only what is missing", .no_env = true),
};

const struct command_spec cmd_doctor_spec = {
	.name = "tain doctor",
	.summary = "Say what runs on this machine, and the command that repairs each finding.",
	.description = "Exit status: 0 at least one engine runs, 4 none does.",
	.options = options,
	.nr_options = ARRAY_SIZE(options),
};

static const char *const states[] = {
	[DOCTOR_OK] = "ok",
	[DOCTOR_MISSING] = "missing",
	[DOCTOR_NOTE] = "note",
};

static void print_finding(const struct finding *f)
{
	if (opt.quiet && f->state != DOCTOR_MISSING)
		return;
	fprintf(cmd_out, "%-16s ", f->name);
	cmd_print_colored(cmd_out, f->state == DOCTOR_OK ? CMD_GREEN : CMD_YELLOW, states[f->state]);
	fprintf(cmd_out, "%*s %s\n", (int)(8 - strlen(states[f->state])), "", f->text);
	if (f->repair[0])
		fprintf(cmd_out, "%-16s %-8s repair: %s\n", "", "", f->repair);
}

static json_t *string(const char *text)
{
	json_t *s = text[0] ? json_string(text) : NULL;

	return s ?: json_null();
}

static json_t *finding_json(const struct finding *f)
{
	json_t *o = json_object();

	json_object_set_new(o, "name", json_string(f->name));
	json_object_set_new(o, "state", json_string(states[f->state]));
	json_object_set_new(o, "text", string(f->text));
	json_object_set_new(o, "repair", string(f->repair));
	return o;
}

int cmd_doctor(int argc, char **argv)
{
	json_t *doc = json_object(), *list = json_array();
	const struct finding_check *check;
	int first, status;
	bool runs = false;

	if (!cmd_parse(&cmd_doctor_spec, argc, argv, &first, &status))
		goto out;
	status = cmd_check_json(opt.json);
	if (status)
		goto out;
	if (!opt.quiet)
		fprintf(cmd_out, "tain %s on Linux %s\n", TAIN_VERSION, result_kernel());
	for (check = doctor_checks; check->name; check++) {
		struct finding f = { .name = check->name };

		check->fn(&f);
		runs |= check->engine && f.state == DOCTOR_OK;
		print_finding(&f);
		json_array_append_new(list, finding_json(&f));
	}
	json_object_set_new(doc, "schema", json_string("tain.doctor/1"));
	json_object_set_new(doc, "version", json_string(TAIN_VERSION));
	json_object_set_new(doc, "kernel", json_string(result_kernel()));
	json_object_set(doc, "findings", list);
	json_decref(list);
	return cmd_finish(cmd_save_json(doc, opt.json, runs ? CMD_OK : CMD_SKIPPED));
out:
	json_decref(list);
	json_decref(doc);
	return status;
}
