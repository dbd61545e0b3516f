/* SPDX-License-Identifier: MIT */
/* tain trace */
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "cmd/cmd.h"
#include "cmd/trace.h"
#include "lab/result/result.h"
#include "lab/trace/tracer.h"
#include "lib/alloc.h"
#include "lib/json.h"
#include "lib/time.h"

static struct {
	unsigned int pid;
	u64 time, buffer;
	const char *json, *working_set, *faults;
	bool pid_given, quiet;
} opt = {
	.time = 10 * NSEC_PER_SEC,
	.buffer = 16ull << 20,
};

static const struct option_spec options[] = {
	CMD_OPTION('p', "pid", "PID", OPTION_UINT, &opt.pid, "the VMM: any process that runs guests with KVM (needed)",
		   .min = 1, .max = INT_MAX, .given = &opt.pid_given),
	CMD_OPTION('t', "time", "TIME", OPTION_TIME, &opt.time, "how long; 0: until the process ends (default 10s)",
		   .min = 0, .max = CMD_TIME_MAX),
	CMD_OPTION(0, "faults", "FILE", OPTION_STRING, &opt.faults,
		   "write each fault to FILE, a line of tab-separated words; - is standard output", .no_env = true),
	CMD_OPTION(0, "working-set", "FILE", OPTION_STRING, &opt.working_set,
		   "write a line per page that faulted to FILE, in the order of the first faults; - is standard output",
		   .no_env = true),
	CMD_OPTION(0, "buffer", "SIZE", OPTION_SIZE, &opt.buffer,
		   "the kernel's buffer for events, per processor (default 16M)", .min = 64 << 10, .max = 4ull << 30),
	CMD_OPTION(0, "json", "FILE", OPTION_STRING, &opt.json, "write the result to FILE; - is standard output",
		   .no_env = true),
	CMD_OPTION('q', "quiet", NULL, OPTION_FLAG, &opt.quiet, "no progress, no histogram, no list of events",
		   .no_env = true),
};

const struct command_spec cmd_trace_spec = {
	.name = "tain trace",
	.summary = "Time and explain the second-MMU faults of a running VMM, from the kernel's events.",
	.description =
		"Attaches to a process of any VMM, tain's or QEMU's, and changes nothing of it. For each fault: the\n"
		"guest-physical address, the memslot and the host's address, the mapping there and its backing, the\n"
		"size of the page, the cause, what the host did, and the time as far as the kernel's events allow\n"
		"it; sums by cause and by mapping. Events that this kernel has not, or that never fired, are named.\n"
		"Needs root and tracefs. Its instance of tracefs is removed at the end, after kill -9 too.\n"
		"docs/trace.md explains causes, times and files.\n"
		"Exit status: 0, 2 misuse or no such VMM, 4 cannot run here.",
	.options = options,
	.nr_options = ARRAY_SIZE(options),
};

static struct cmd_progress progress_line;
static struct fault_trace trace;
static FILE *faults;

static void ready(const struct vmm_process *p, void *arg)
{
	char time[32];

	format_time(opt.time, time, sizeof(time));
	fprintf(cmd_out, "tain trace: process %d (%s), %u VM%s, %u vCPU%s, MMU %s, ", p->pid, p->comm, p->vms,
		p->vms == 1 ? "" : "s", p->vcpus, p->vcpus == 1 ? "" : "s", trace.mmu);
	fprintf(cmd_out, "%s%s\n", opt.time ? "for " : "until it ends", opt.time ? time : "");
	fflush(cmd_out);
}

static void progress(u64 n, u64 events, void *arg)
{
	if (cmd_progress_due(&progress_line))
		cmd_progress_show(&progress_line, "tain trace: %s faults, %s events", cmd_count(n), cmd_count(events));
}

static void on_fault(const struct fault *f, const struct vmm_area *area, void *arg)
{
	trace_print_fault(faults, f, area, &trace);
}

/* --- files ----------------------------------------------------------------------------- */

/* Also where it is not there yet, or has two names; not a device, which may well be given twice. */
static bool same_file(const char *a, const char *b)
{
	struct stat s, t;

	if (!a || !b || !strcmp(a, "-"))
		return false;
	if (!stat(a, &s) && !stat(b, &t))
		return S_ISREG(s.st_mode) && s.st_dev == t.st_dev && s.st_ino == t.st_ino;
	return !strcmp(a, b);
}

/* "-" may stand once, and a file too: the later one would replace what the earlier has written. */
static int check_outputs(void)
{
	const char *const paths[] = { opt.json, opt.faults, opt.working_set };
	static const char *const names[] = { "json", "faults", "working-set" };
	unsigned int out = 0;
	int status = 0;

	for (size_t i = 0; i < ARRAY_SIZE(paths) && !status; i++) {
		if (paths[i] && !strcmp(paths[i], "-"))
			out++;
		else if (paths[i])
			status = cmd_check_output(names[i], paths[i]);
	}
	if (!status && out > 1)
		status = cmd_complain(CMD_MISUSE,
				      "only one of --json, --faults and --working-set can have standard output");
	for (size_t i = 0; i < ARRAY_SIZE(paths) && !status; i++)
		for (size_t k = 0; k < i && !status; k++)
			if (same_file(paths[k], paths[i]))
				status = cmd_complain(CMD_MISUSE, "--%s and --%s are one file: %s", names[k], names[i],
						      paths[i]);
	cmd_out = out ? stderr : stdout;
	return status;
}

static int open_faults(void)
{
	if (!opt.faults)
		return 0;
	faults = strcmp(opt.faults, "-") ? fopen(opt.faults, "we") : stdout;
	if (!faults)
		return cmd_complain(CMD_MISUSE, "--faults: cannot write %s: %s", opt.faults, strerror(errno));
	trace_print_fault_head(faults);
	return 0;
}

static int close_faults(int status)
{
	bool failed;

	if (!faults || faults == stdout)
		return status; /* cmd_finish() looks at stdout */
	failed = ferror(faults);
	failed |= fclose(faults) != 0;
	if (!failed)
		return status;
	cmd_complain(CMD_MISUSE, "--faults: cannot write all of %s: %s", opt.faults, strerror(errno));
	return status ?: CMD_MISUSE;
}

static int save_working_set(int status)
{
	struct err err = { "" };
	char *text;
	int ret;

	if (!opt.working_set)
		return status;
	text = fault_trace_working_set(&trace);
	ret = text ? text_save(text, opt.working_set, &err) : err_set(&err, -ENOMEM, "--working-set: no memory");
	mem_free(text);
	if (!ret)
		return status;
	cmd_complain(CMD_MISUSE, "%s", err.text);
	return status ?: CMD_MISUSE;
}

static json_t *document(void)
{
	json_t *doc = trace_document(&trace);

	result_option_u64(doc, "pid", opt.pid);
	result_option_u64(doc, "time_ns", opt.time);
	result_option_u64(doc, "buffer", opt.buffer);
	result_option_text(doc, "faults", opt.faults);
	result_option_text(doc, "working_set", opt.working_set);
	return doc;
}

/* --- the command ------------------------------------------------------------------------- */

static int refuse(int ret, const struct err *err)
{
	int status = cmd_complain(cmd_status(ret), "%s", err->text);

	return status == CMD_SKIPPED ? cmd_save_skip("trace", "trace", err->text, opt.json, status) : status;
}

int cmd_trace(int argc, char **argv)
{
	struct fault_trace_config config = { .stop = &cmd_stop, .ready = ready, .progress = progress };
	struct err err = { "" };
	int first, status, ret;

	if (!cmd_parse(&cmd_trace_spec, argc, argv, &first, &status))
		return status;
	status = check_outputs();
	if (status)
		return status;
	if (!opt.pid_given)
		return cmd_complain(CMD_MISUSE, "--pid PID is needed: the VMM whose faults are to be traced");
	status = open_faults();
	if (status)
		return status;
	config.pid = (pid_t)opt.pid;
	config.time_ns = opt.time;
	config.buffer_kib = opt.buffer >> 10;
	config.fault = faults ? on_fault : NULL;
	if (tracer_keep(&err))
		cmd_complain(CMD_OK, "%s: kill -9 would leave tracing on", err.text);
	cmd_catch_signals();
	cmd_progress_init(&progress_line, opt.quiet);
	ret = fault_trace_run(&trace, &config, &err);
	tracer_keep_end();
	cmd_progress_end(&progress_line);
	if (ret && ret != -EINTR)
		status = refuse(ret, &err);
	status = close_faults(status);
	if (trace.start_ns) {
		trace_print(&trace, opt.quiet);
		status = save_working_set(status);
		status = cmd_save_json(document(), opt.json, status);
	}
	fault_trace_destroy(&trace);
	return cmd_finish(status);
}
