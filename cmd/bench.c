/* SPDX-License-Identifier: MIT */
/* tain bench: which one? */
#include <string.h>

#include "cmd/cmd.h"

static const struct command benches[] = {
	{ "fault", &cmd_bench_fault_spec, cmd_bench_fault },
	{ "interference", &cmd_bench_interference_spec, cmd_bench_interference },
	{ "outside", &cmd_bench_outside_spec, cmd_bench_outside },
	{ "register", &cmd_bench_register_spec, cmd_bench_register },
	{ "invalidate", &cmd_bench_invalidate_spec, cmd_bench_invalidate },
	{ "figures", &cmd_bench_figures_spec, cmd_bench_figures },
};

const struct command_spec cmd_bench_spec = {
	.name = "tain bench",
	.summary = "Measure; `tain bench fault --help` and so on.",
	.args = "fault|interference|outside|register|invalidate|figures [OPTIONS]",
	.description = "fault         what one fault costs, by its cause, as the guest measures it\n"
		       "interference  which work of the host stalls a vCPU, how long and how often\n"
		       "outside       what is done to a libvirt domain: how long it takes, what its guest sees\n"
		       "register      what it costs to subscribe to an address space\n"
		       "invalidate    what a range section costs\n"
		       "figures       the project's yardsticks, each against its peer in the same run",
	.min_args = 1,
	.max_args = 1,
};

int cmd_bench(int argc, char **argv)
{
	const char *names[ARRAY_SIZE(benches) + 1] = { NULL }, *near;
	int first, status;

	for (size_t i = 0; i < ARRAY_SIZE(benches); i++) {
		names[i] = benches[i].name;
		if (argc > 1 && !strcmp(argv[1], names[i]))
			return benches[i].main(argc - 1, argv + 1);
	}
	if (!cmd_parse(&cmd_bench_spec, argc, argv, &first, &status))
		return status;
	near = option_nearest(argv[first], names);
	return cmd_complain(CMD_MISUSE, "unknown benchmark '%s'%s%s%s; see tain bench --help", argv[first],
			    near ? ", did you mean '" : "", near ?: "", near ? "'?" : "");
}
