/* SPDX-License-Identifier: MIT */
/* tain run */
#include <string.h>
#include <unistd.h>

#include "cmd/cmd.h"
#include "lib/time.h"

#define LEAVE_NS (10 * NSEC_PER_SEC)
#define WATCH_NS (100 * NSEC_PER_MSEC)

static struct {
	const char *engine, *backing, *cpus;
	unsigned int vcpus;
	u64 bytes, seed, time_ns, arena;
	bool seed_given, quiet;
} opt = {
	.engine = "soft",
	.vcpus = 1,
	.bytes = 64ull << 20,
};

static const struct option_spec options[] = {
	CMD_OPTION('e', "engine", "NAME", OPTION_STRING, &opt.engine, "soft (default), kvm or qemu"),
	CMD_OPTION('v', "vcpus", "N", OPTION_UINT, &opt.vcpus, "virtual processors (default 1)", .min = 1,
		   .max = GUEST_MAX_VCPUS),
	CMD_OPTION('b', "bytes", "SIZE", OPTION_SIZE, &opt.bytes, "guest memory (default 64M)"),
	CMD_OPTION('s', "backing", "NAME", OPTION_STRING, &opt.backing,
		   "what backs it: anonymous (default) or another of `tain list backings`; with engine qemu memfd "
		   "(default) or file_shared"),
	CMD_OPTION('t', "time", "TIME", OPTION_TIME, &opt.time_ns,
		   "end the guest after so long, with exit status 124 (default: no limit)", .min = 1,
		   .max = CMD_TIME_MAX),
	CMD_OPTION(0, "seed", "N", OPTION_U64, &opt.seed, "the guest's seed (default: random)", .min = 0,
		   .max = CMD_SEED_MAX, .given = &opt.seed_given),
	CMD_OPTION('c', "cpus", "LIST", OPTION_STRING, &opt.cpus,
		   "processors, such as 0,2,4-7: one vCPU on each in turn (default: all allowed)"),
	CMD_QEMU_OPTIONS,
	CMD_OPTION(0, "arena", "SIZE", OPTION_SIZE, &opt.arena, "physical memory of engine soft (default: enough)",
		   .engines = "soft"),
	CMD_OPTION('q', "quiet", NULL, OPTION_FLAG, &opt.quiet, "no line about the engine", .no_env = true),
};

const struct command_spec cmd_run_spec = {
	.name = "tain run",
	.summary = "Run a guest; its console is standard output, its exit code the exit status.",
	.args = "GUEST [-- ARGUMENTS]",
	.description = "GUEST is a built-in workload (`tain list guests`) or an ELF file built against tain/guest.h;\n"
		       "a file that is called like a workload needs a slash. What follows -- are the guest's own\n"
		       "arguments.",
	.options = options,
	.nr_options = ARRAY_SIZE(options),
	.min_args = 1,
	.max_args = 1,
};

static void text(u32 vcpu, const void *data, size_t bytes, void *arg)
{
	fwrite(data, 1, bytes, stdout);
	fflush(stdout);
}

static bool is_builtin(const char *name)
{
	for (const struct guest_info *g = guest_list(); g->name; g++)
		if (!strcmp(g->name, name))
			return true;
	return false;
}

/* Which workloads mean something without a driver? Return: 0 or the exit status. */
static int check_builtin(const char *name)
{
	const char *names[32] = { NULL }, *near;
	size_t n = 0;

	for (const struct guest_info *g = guest_list(); g->name && n < ARRAY_SIZE(names) - 1; g++)
		names[n++] = g->name;
	if (!strcmp(name, "touch"))
		return cmd_complain(CMD_MISUSE, "guest touch obeys a host's commands: run it with `tain bench fault`");
	if (!strcmp(name, "stamp"))
		return cmd_complain(CMD_MISUSE, "guest stamp needs an oracle: run it with `tain stress`");
	if (is_builtin(name))
		return CMD_OK;
	near = option_nearest(name, names);
	return cmd_complain(CMD_MISUSE, "unknown guest '%s'%s%s%s; `tain list guests` names them", name,
			    near ? ", did you mean '" : "", near ?: "", near ? "'?" : "");
}

static int configure(struct machine_config *c, int argc, char **argv)
{
	char *guest = argv[0];
	struct err err = { "" };
	int status = CMD_OK;

	*c = (struct machine_config){
		.vcpus = opt.vcpus,
		.bytes = opt.bytes,
		.arena_bytes = opt.arena,
		.cpus = opt.cpus,
		.image = { .name = guest },
		.argc = argc - 1,
		.argv = argv + 1,
		.text = text,
	};
	if (!is_builtin(guest) && (strchr(guest, '/') || !access(guest, F_OK))) {
		c->image.path = guest;
		if (access(guest, R_OK))
			return cmd_complain(CMD_MISUSE, "%s: %s", guest, strerror(errno));
	} else {
		status = check_builtin(guest);
	}
	if (status)
		return status;
	c->engine = cmd_engine(opt.engine, "run", NULL, &status);
	if (!c->engine || !cmd_backing(c->engine, opt.backing, &c->backing, &status))
		return status;
	if (machine_check(c, &err))
		return cmd_complain(CMD_MISUSE, "%s", err.text);
	c->seed = cmd_seed(opt.seed_given, opt.seed);
	return CMD_OK;
}

/* The guest's code: of the first vCPU that has one that is not 0. */
static int guest_code(const struct machine *m)
{
	for (u32 i = 0; i < m->config.vcpus; i++)
		if (m->vcpu[i].exited && m->vcpu[i].code & 0xff)
			return (int)(m->vcpu[i].code & 0xff);
	return CMD_OK;
}

static int run(struct machine *m)
{
	u64 start = clock_ns();
	struct err err = { "" };
	int status = CMD_OK;
	bool late = false;
	u32 culprit;
	int ret;

	ret = machine_start(m, &err);
	if (ret)
		status = cmd_complain(cmd_status(ret), "%s", err.text);
	while (!ret && !machine_wait(m, WATCH_NS) && !READ_ONCE(cmd_stop) && !machine_failed(m) && !late)
		late = opt.time_ns && clock_ns() - start >= opt.time_ns;
	if (machine_stop(m, LEAVE_NS, &culprit)) {
		cmd_complain(CMD_TIMEOUT, "vCPU %u does not leave its guest", culprit);
		vm_abandon(); /* its thread is stuck: nothing can be taken down */
		_exit(cmd_finish(CMD_TIMEOUT));
	}
	if (machine_failed(m))
		status = cmd_complain(CMD_FAILED, "%s", machine_failed(m)->err.text);
	if (!status)
		status = guest_code(m);
	if (late)
		status = cmd_complain(CMD_TIMEOUT, "the guest did not end within %s", cmd_seconds(opt.time_ns));
	return status;
}

int cmd_run(int argc, char **argv)
{
	static struct machine machine;
	struct machine_config config;
	struct err err = { "" };
	int first, status, ret;

	if (!cmd_parse(&cmd_run_spec, argc, argv, &first, &status))
		return status;
	for (argc = first; argv[argc]; argc++)
		;
	status = configure(&config, argc - first, argv + first);
	if (status)
		return status;
	cmd_catch_signals(); /* now: a domain on its way has files that must not stay */
	ret = machine_create(&machine, &config, &err);
	if (ret)
		return cmd_finish(cmd_complain(cmd_status(ret), "%s", err.text));
	if (!opt.quiet)
		cmd_print_identity(stderr, "run", &machine.id, config.seed);
	status = run(&machine);
	machine_destroy(&machine);
	return cmd_finish(status);
}
