/* SPDX-License-Identifier: MIT */
/* tain: which command? */
#include "cmd/cmd.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "lib/thread.h"

const struct command command_table[] = {
	{ "run", &cmd_run_spec, cmd_run },
	{ "stress", &cmd_stress_spec, cmd_stress },
	{ "bench", &cmd_bench_spec, cmd_bench },
	{ "compare", &cmd_compare_spec, cmd_compare },
	{ "merge", &cmd_merge_spec, cmd_merge },
	{ "matrix", &cmd_matrix_spec, cmd_matrix },
	{ "trace", &cmd_trace_spec, cmd_trace },
	{ "list", &cmd_list_spec, cmd_list },
	{ "doctor", &cmd_doctor_spec, cmd_doctor },
	{ "version", &cmd_version_spec, cmd_version },
	{ "man", &cmd_man_spec, cmd_man },
	{ "uffd-check", &cmd_uffd_check_spec, cmd_uffd_check },
	{ NULL, NULL, NULL },
};

static void help(FILE *out)
{
	fprintf(out,
		"Usage: tain COMMAND [OPTIONS]\n"
		"Launch test guests, stress the host's side of their memory, measure their faults.\n\nCommands:\n");
	for (const struct command *c = command_table; c->name; c++)
		fprintf(out, "  %-10s %s\n", c->name, c->spec->summary);
	fprintf(out, "\n`tain COMMAND --help` says more; `tain doctor` says what runs on this machine.\n");
}

static const struct command *find(const char *name)
{
	for (const struct command *c = command_table; c->name; c++)
		if (!strcmp(c->name, name))
			return c;
	return NULL;
}

static int unknown(const char *name)
{
	const char *names[ARRAY_SIZE(command_table)] = { NULL }, *near;

	for (size_t i = 0; command_table[i].name; i++)
		names[i] = command_table[i].name;
	near = option_nearest(name, names);
	return cmd_complain(CMD_MISUSE, "unknown command '%s'%s%s%s; see tain --help", name,
			    near ? ", did you mean '" : "", near ?: "", near ? "'?" : "");
}

/* `tain help bench fault` is `tain bench fault --help`: the words move down, and room for one more is left. */
static int help_of(const struct command *c, int argc, char **argv)
{
	memmove(argv - 1, argv, (size_t)argc * sizeof(*argv));
	argv[argc - 1] = (char *)"--help";
	return c->main(argc + 1, argv - 1);
}

static int dispatch(int argc, char **argv)
{
	const struct command *c;

	if (argc < 2) {
		help(stderr);
		return CMD_MISUSE;
	}
	if (!strcmp(argv[1], "--version"))
		argv[1] = (char *)"version";
	if (!strcmp(argv[1], "-h") || !strcmp(argv[1], "--help") || (!strcmp(argv[1], "help") && argc == 2)) {
		help(stdout);
		return cmd_finish(CMD_OK);
	}
	if (!strcmp(argv[1], "help")) {
		c = find(argv[2]);
		return c ? help_of(c, argc - 2, argv + 2) : unknown(argv[2]);
	}
	c = find(argv[1]);
	return c ? c->main(argc - 1, argv + 1) : unknown(argv[1]);
}

/*
 * Whoever started tain may have closed a standard stream. Its number must not go to a
 * memfd or to /dev/kvm, which text would then be written to; what takes it refuses writes.
 */
static void fill_streams(void)
{
	int fd;

	do
		fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	while (fd >= 0 && fd <= STDERR_FILENO);
	close(fd);
}

int main(int argc, char **argv)
{
	int status;

	fill_streams();
	signal(SIGXFSZ, SIG_IGN); /* a limit on the size of files shows as an error, like a full disk */
	cmd_out = stdout;
	qemu_config.stop = &cmd_stop;
	qemu_config.say = cmd_say;
	thread_enter("main");
	status = dispatch(argc, argv);
	thread_exit();
	return status;
}
