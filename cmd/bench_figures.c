/* SPDX-License-Identifier: MIT */
/* tain bench figures: what `make bench` prints. */
#include <stdio.h>
#include <string.h>

#include "cmd/cmd.h"
#include "lab/bench/bench.h"
#include "lab/result/result.h"

static struct {
	const char *engine, *json, *demand_paging_test;
	unsigned int rounds;
	u64 bytes, seed;
	bool seed_given, quiet;
} opt = {
	.rounds = 5,
	.bytes = 64ull << 20,
};

static const struct option_spec options[] = {
	CMD_OPTION(
		'e', "engine", "NAME", OPTION_STRING, &opt.engine,
		"qemu: its figures, of tain run in a libvirt domain and of a hole punched from outside (default: those "
		"of soft and kvm, which are measured together)",
		.no_env = true),
	CMD_OPTION('i', "iterations", "N", OPTION_UINT, &opt.rounds,
		   "rounds; all figures are measured in each (default 5)", .min = 1, .max = FIGURE_ROUNDS_MAX),
	CMD_OPTION('b', "bytes", "SIZE", OPTION_SIZE, &opt.bytes, "guest memory of the fault figures (default 64M)",
		   .min = 1 << 20, .max = UINT64_MAX),
	CMD_OPTION(0, "demand-paging-test", "PATH", OPTION_STRING, &opt.demand_paging_test,
		   "the KVM selftest to compare with; scripts/peers builds it (default: not compared)",
		   .without = "engine"),
	CMD_OPTION(0, "seed", "N", OPTION_U64, &opt.seed, "default: random", .min = 0, .max = CMD_SEED_MAX,
		   .given = &opt.seed_given),
	CMD_OPTION(0, "json", "FILE", OPTION_STRING, &opt.json, "write the result to FILE; - is standard output",
		   .no_env = true),
	CMD_OPTION('q', "quiet", NULL, OPTION_FLAG, &opt.quiet, "no progress", .no_env = true),
};

const struct command_spec cmd_bench_figures_spec = {
	.name = "tain bench figures",
	.summary = "The project's yardsticks, each against its bound or its peer in the same run.",
	.description =
		"With -e qemu `tain run` starts three seconds after the last domain has ended: for half of them "
		"libvirtd\n"
		"answers nobody. LIBVIRT_DEFAULT_URI says where; without libvirtd they are skipped.\n"
		"What is compared with another program runs anywhere and on one processor, as that program does; the\n"
		"faster of either counts. Exit status: 0 every figure that was measured reaches its bound, 1 one does\n"
		"not, 4 none was measured.",
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

static json_t *document(const struct figures_result *r, u64 seed)
{
	json_t *doc = result_new("bench figures", NULL, seed);

	result_counts(doc, r->elapsed_ns, 0, 0);
	result_option_u64(doc, "iterations", opt.rounds);
	result_option_u64(doc, "bytes", opt.bytes);
	for (u32 i = 0; i < r->nr; i++)
		result_figure(doc, &r->figure[i]);
	return doc;
}

static int report(const struct figures_result *r, u64 seed, int status)
{
	u32 measured = 0;

	for (u32 i = 0; i < r->nr; i++) {
		if (!cmd_print_figure(&r->figure[i]))
			status = status ?: CMD_FAILED;
		measured += r->figure[i].rounds > 0;
	}
	if (!measured)
		status = status ?: CMD_SKIPPED;
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
	if (opt.engine && strcmp(opt.engine, "qemu"))
		return cmd_complain(CMD_MISUSE,
				    "-e: '%s'; the figures of soft and kvm come without it, those of qemu with -e qemu",
				    opt.engine);
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
	config.tain = "/proc/self/exe";
	config.demand_paging_test = opt.demand_paging_test;
	config.seed = cmd_seed(opt.seed_given, opt.seed);
	cmd_catch_signals();
	cmd_progress_init(&progress_line, opt.quiet);
	fprintf(cmd_out, "tain bench figures: %s, %u rounds, medians (lowest to highest), seed %llu\n",
		opt.engine ? "engine qemu" : "engines soft and kvm", opt.rounds, (unsigned long long)config.seed);
	if (CHECKING)
		fprintf(cmd_out, "this is a checking build: its figures say nothing\n");
	fflush(cmd_out);
	ret = opt.engine ? figures_qemu_run(&config, &result, &err) : figures_run(&config, &result, &err);
	cmd_progress_end(&progress_line);
	if (ret && ret != -EINTR)
		status = cmd_complain(cmd_status(ret), "%s", err.text);
	return cmd_finish(report(&result, config.seed, status));
}
