/* SPDX-License-Identifier: MIT */
/* tain uffd-check */
#include <stdio.h>
#include <string.h>

#include "cmd/cmd.h"
#include "lab/result/result.h"
#include "lab/uffd/check.h"
#include "lib/time.h"

static struct {
	const char *snapshot, *ops, *json;
	unsigned int readers, connections;
	u64 bytes, time, limit, seed;
	bool force, seed_given, quiet;
} opt = {
	.ops = "remove,unmap,remap,fork",
	.readers = 3,
	.connections = 1,
	.bytes = 64ull << 20,
	.time = 5 * NSEC_PER_SEC,
	.limit = 2 * NSEC_PER_SEC,
};

static const struct option_spec options[] = {
	CMD_OPTION(0, "snapshot", "FILE", OPTION_STRING, &opt.snapshot,
		   "the file that the handler answers from: created, with a pattern (needed)"),
	CMD_OPTION(0, "force", NULL, OPTION_FLAG, &opt.force, "replace another file of the snapshot's name",
		   .no_env = true),
	CMD_OPTION('b', "bytes", "SIZE", OPTION_SIZE, &opt.bytes, "memory, and size of the snapshot (default 64M)"),
	CMD_OPTION('t', "time", "TIME", OPTION_TIME, &opt.time,
		   "how long; ends earlier when three quarters of the memory were removed (default 5s)", .min = 1,
		   .max = CMD_TIME_MAX),
	CMD_OPTION('n', "connections", "N", OPTION_UINT, &opt.connections,
		   "one after the other, each with fresh memory and its share of the time (default 1)", .min = 1,
		   .max = 10000),
	CMD_OPTION(0, "readers", "N", OPTION_UINT, &opt.readers, "threads that fault (default 3)", .min = 1, .max = 16),
	CMD_OPTION(0, "ops", "LIST", OPTION_STRING, &opt.ops,
		   "of remove, unmap, remap, fork: what races with the faults (default: all)"),
	CMD_OPTION(0, "limit", "TIME", OPTION_TIME, &opt.limit,
		   "a handler that does not answer for so long is stuck (default 2s)", .min = NSEC_PER_MSEC,
		   .max = CMD_TIME_MAX),
	CMD_OPTION(0, "seed", "N", OPTION_U64, &opt.seed, "repeat the operations of another run (default: random)",
		   .min = 0, .max = CMD_SEED_MAX, .given = &opt.seed_given),
	CMD_OPTION(0, "json", "FILE", OPTION_STRING, &opt.json, "write the result to FILE; - is standard output",
		   .no_env = true),
	CMD_OPTION('q', "quiet", NULL, OPTION_FLAG, &opt.quiet, "no progress and no histogram", .no_env = true),
};

const struct command_spec cmd_uffd_check_spec = {
	.name = "tain uffd-check",
	.summary = "Drive a userfaultfd handler through faults that race with REMOVE, UNMAP, REMAP and FORK.",
	.args = "[SOCKET]",
	.description =
		"The handler listens on the Unix socket and follows Firecracker's convention: one message with\n"
		"the memory's layout (a JSON array) and the userfaultfd in SCM_RIGHTS. tain creates the snapshot\n"
		"before it connects, and puts back what it found if it cannot; for a handler that opens its\n"
		"snapshot earlier, without SOCKET the snapshot is created and that is all. One that is there\n"
		"already is used as it is: the 64-bit word k of page p holds (p + 1) << 32 | k. A page must hold its\n"
		"words until it is removed, or unmapped and mapped anew; zeros from then on; another page's\n"
		"words never. A handler that ends, or does not answer, is reported; nothing hangs.\n"
		"Exit status: 0 no violation, 1 violations, 2 misuse, 4 no userfaultfd here.\n"
		"examples/uffd-handler is a handler that passes.",
	.options = options,
	.nr_options = ARRAY_SIZE(options),
	.min_args = 0,
	.max_args = 1,
};

static struct cmd_progress progress_line;

static void progress(u64 faults, u64 checked, void *arg)
{
	if (cmd_progress_due(&progress_line))
		cmd_progress_show(&progress_line, "tain uffd-check: %s pages checked, %s faults", cmd_count(checked),
				  cmd_count(faults));
}

static int parse_ops(u32 *ops)
{
	const char *at = opt.ops;

	*ops = 0;
	while (*at) {
		size_t len = strcspn(at, ",");
		char word[32];
		int op = 0;

		snprintf(word, sizeof(word), "%.*s", (int)min(len, sizeof(word) - 1), at);
		while (op < UCHECK_OP_NR && strcmp(word, uffd_check_ops[op]))
			op++;
		if (op == UCHECK_OP_NR) {
			const char *near = option_nearest(word, uffd_check_ops);

			return cmd_complain(CMD_MISUSE, "unknown operation '%s'%s%s%s", word,
					    near ? ", did you mean '" : "", near ?: "", near ? "'?" : "");
		}
		*ops |= 1u << op;
		at += len + (at[len] != 0);
	}
	return CMD_OK;
}

static json_t *document(const struct uffd_check_config *c, const struct uffd_check_result *r)
{
	json_t *doc = result_new("uffd-check", NULL, c->seed), *list = json_object_get(doc, "violations");

	result_counts(doc, r->elapsed_ns, r->checked, r->faults);
	result_option_text(doc, "snapshot", opt.snapshot);
	result_option_u64(doc, "bytes", c->bytes);
	result_option_u64(doc, "connections", c->connections);
	result_option_u64(doc, "readers", c->readers);
	result_option_text(doc, "ops", opt.ops);
	for (int op = 0; op < UCHECK_OP_NR; op++) {
		result_host_op(doc, uffd_check_ops[op], r->done[op]);
		if (r->skip[op][0])
			result_skip(doc, uffd_check_ops[op], r->skip[op]);
	}
	for (u64 i = 0; i < min(r->violations, (u64)UCHECK_VIOLATIONS_SHOWN); i++) {
		const struct uffd_check_violation *v = &r->violation[i];

		json_array_append_new(list, json_pack("{s:s,s:I,s:s}", "kind", uffd_check_kinds[v->kind], "page",
						      (json_int_t)v->page, "text", v->text));
	}
	result_histogram(doc, "handler", "ns", &r->ns);
	return doc;
}

static void report(const struct uffd_check_config *c, const struct uffd_check_result *r)
{
	for (int op = 0; op < UCHECK_OP_NR; op++) {
		if (r->skip[op][0])
			fprintf(cmd_out, "skipped %s: %s\n", uffd_check_ops[op], r->skip[op]);
		else if (c->ops & 1u << op)
			fprintf(cmd_out, "  %-8s %s\n", uffd_check_ops[op], cmd_count(r->done[op]));
	}
	fprintf(cmd_out, "%s pages checked, %s faults in %s; a fault: p50 %s, p99 %s, p99.9 %s, max %s ns\n",
		cmd_count(r->checked), cmd_count(r->faults), cmd_seconds(r->elapsed_ns), cmd_percentile(&r->ns, 50),
		cmd_percentile(&r->ns, 99), cmd_percentile(&r->ns, 99.9), cmd_count(hist_max(&r->ns)));
	if (!opt.quiet && hist_count(&r->ns))
		cmd_print_histogram(cmd_out, "fault", &r->ns, 12);
	for (u64 i = 0; i < min(r->violations, (u64)UCHECK_VIOLATIONS_SHOWN); i++)
		fprintf(cmd_out, "violation (%s): %s\n", uffd_check_kinds[r->violation[i].kind], r->violation[i].text);
	fprintf(cmd_out, "uffd-check: %llu violation%s\n", (unsigned long long)r->violations,
		r->violations == 1 ? "" : "s");
}

static int configure(struct uffd_check_config *c)
{
	struct machine_config size = { .engine = engine_find("soft"), .vcpus = 1, .bytes = opt.bytes };
	struct err err = { "" };
	int status = cmd_check_json(opt.json) ?: parse_ops(&c->ops);

	if (status)
		return status;
	if (!opt.snapshot || !*opt.snapshot)
		return cmd_complain(CMD_MISUSE, "--snapshot FILE is needed: the file that the handler answers from");
	size.beside_bytes = opt.bytes;
	if (machine_check(&size, &err))
		return cmd_complain(CMD_MISUSE, "%s", err.text);
	c->bytes = opt.bytes;
	c->time_ns = opt.time;
	c->limit_ns = opt.limit;
	c->readers = opt.readers;
	c->connections = opt.connections;
	c->seed = cmd_seed(opt.seed_given, opt.seed);
	return CMD_OK;
}

static int check(const struct uffd_check_config *config)
{
	static struct uffd_check_result result;
	struct err err = { "" }, why = { "" };
	int status = CMD_OK, ret;

	fprintf(cmd_out, "tain uffd-check: %s, %s, seed %llu\n", config->socket, cmd_bytes(config->bytes),
		(unsigned long long)config->seed);
	fflush(cmd_out);
	ret = uffd_check_run(config, &result, &err);
	cmd_progress_end(&progress_line);
	if (ret && ret != -EINTR)
		status = cmd_complain(cmd_status(ret), "%s", err.text);
	if (uffd_snapshot_undo(config->snapshot, &why))
		status = cmd_complain(CMD_FAILED, "%s", why.text);
	if (status == CMD_SKIPPED)
		status = cmd_save_skip("uffd-check", "userfaultfd", err.text, opt.json, status);
	if (result.connections) {
		report(config, &result);
		status = status ?: result.violations ? CMD_FAILED : CMD_OK;
		status = cmd_save_json(document(config, &result), opt.json, status);
	}
	uffd_check_destroy(&result);
	return status;
}

int cmd_uffd_check(int argc, char **argv)
{
	static struct uffd_snapshot snapshot;
	struct uffd_check_config config = { .stop = &cmd_stop, .progress = progress, .snapshot = &snapshot };
	struct err err = { "" };
	int first, status, ret;

	if (!cmd_parse(&cmd_uffd_check_spec, argc, argv, &first, &status))
		return status;
	status = configure(&config);
	if (status)
		return status;
	config.socket = argv[first];
	if (!config.socket && opt.json)
		return cmd_complain(CMD_MISUSE, "--json: without SOCKET there is no result");
	cmd_catch_signals();
	cmd_progress_init(&progress_line, opt.quiet);
	ret = uffd_snapshot_put(&snapshot, opt.snapshot, config.bytes, opt.force, &cmd_stop, &err);
	if (ret == -EINTR)
		return cmd_finish(CMD_OK);
	if (ret)
		return cmd_complain(CMD_MISUSE, "%s", err.text);
	if (config.socket)
		return cmd_finish(check(&config));
	fprintf(cmd_out, "tain uffd-check: %s holds %s for a handler to answer from\n", opt.snapshot,
		cmd_bytes(config.bytes));
	uffd_snapshot_keep(&snapshot);
	return cmd_finish(CMD_OK);
}
