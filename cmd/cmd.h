/* SPDX-License-Identifier: MIT */
/* What the subcommands share. cmd/ is the only room that prints for people or exits. */
#ifndef CMD_CMD_H
#define CMD_CMD_H

#include <jansson.h>
#include <stdio.h>

#include "lab/result/figure.h"
#include "lab/machine/machine.h"
#include "lab/plan/violation.h"
#include "lib/base.h"
#include "lib/err.h"
#include "lib/hist.h"
#include "lib/option.h"

enum cmd_exit {
	CMD_OK = 0,
	CMD_FAILED = 1, /* a violation, or something broke */
	CMD_MISUSE = 2,
	CMD_SKIPPED = 4, /* nothing could run here */
	CMD_TIMEOUT = 124,
	CMD_SIGNAL = 128, /* plus the signal's number */
};

struct command {
	const char *name; /* as typed after `tain` */
	const struct command_spec *spec;
	int (*main)(int argc, char **argv);
};

extern const struct command command_table[]; /* ends with name NULL */

extern const struct command_spec cmd_run_spec, cmd_stress_spec, cmd_bench_spec, cmd_bench_fault_spec,
	cmd_bench_figures_spec, cmd_bench_register_spec, cmd_bench_invalidate_spec, cmd_compare_spec, cmd_list_spec,
	cmd_doctor_spec, cmd_version_spec, cmd_man_spec;
extern const struct command_spec cmd_uffd_check_spec;
extern const struct command_spec cmd_merge_spec;
extern const struct command_spec cmd_matrix_spec;
extern const struct command_spec cmd_bench_interference_spec, cmd_bench_outside_spec;
extern const struct command_spec cmd_trace_spec;

int cmd_run(int argc, char **argv);
int cmd_stress(int argc, char **argv);
int cmd_bench(int argc, char **argv);
int cmd_bench_fault(int argc, char **argv);
int cmd_bench_figures(int argc, char **argv);
int cmd_bench_interference(int argc, char **argv);
int cmd_bench_outside(int argc, char **argv);
int cmd_bench_register(int argc, char **argv);
int cmd_bench_invalidate(int argc, char **argv);
int cmd_compare(int argc, char **argv);
int cmd_merge(int argc, char **argv);
int cmd_list(int argc, char **argv);
int cmd_doctor(int argc, char **argv);
int cmd_version(int argc, char **argv);
int cmd_man(int argc, char **argv);
int cmd_uffd_check(int argc, char **argv);
int cmd_matrix(int argc, char **argv);
int cmd_trace(int argc, char **argv);

/* Set by SIGINT, SIGTERM and SIGHUP (unless that was ignored): the run ends, prints what it has, and returns
 * cmd_finish(). */
extern u32 cmd_stop;
void cmd_catch_signals(void);
/* For qemu_config.say. */
void cmd_say(const char *line);

/* Where text for people goes: stdout, or stderr when the JSON document has stdout. */
extern FILE *cmd_out;

/* A row of an option table; the rest are designated: .min, .max, .given, .no_env, .with, .without, .engines. */
#define CMD_OPTION(letter, name, value_text, kind_, where, help_text, ...)                                             \
	{                                                                                                              \
		.short_name = (letter), .long_name = (name), .value_name = (value_text), .kind = (kind_),              \
		.value = (where), .help = help_text, ##__VA_ARGS__                                                     \
	}

/* Rows of the commands that know the engine qemu. */
#define CMD_QEMU_OPTIONS                                                                                               \
	CMD_OPTION(0, "connect", "URI", OPTION_STRING, &qemu_config.connect,                                           \
		   "engine qemu: libvirt's URI, of a QEMU on this host: qemu:///system, qemu:///session, or "          \
		   "qemu+ssh:// to "                                                                                   \
		   "it (default: LIBVIRT_DEFAULT_URI, else qemu:///system)",                                           \
		   .engines = "qemu"),                                                                                 \
		CMD_OPTION(0, "accel", "NAME", OPTION_STRING, &qemu_config.accel,                                      \
			   "engine qemu: kvm, tcg, or auto (default): kvm where libvirt offers it",                    \
			   .engines = "qemu"),                                                                         \
		CMD_OPTION(0, "machine", "NAME", OPTION_STRING, &qemu_config.machine,                                  \
			   "engine qemu: microvm (default), pc, q35 (default with --linux), or a version of the last " \
			   "two",                                                                                      \
			   .engines = "qemu"),                                                                         \
		CMD_OPTION(                                                                                            \
			0, "linux", NULL, OPTION_FLAG, &qemu_config.under_linux,                                       \
			"engine qemu: the guest is the first process of a Linux, whose memory the host moves about "   \
			"as well; scripts/linux-guest fetches the kernel. --accel auto is then tcg where KVM has no "  \
			"nested paging",                                                                               \
			.engines = "qemu")

/* The last rows of the commands that measure. */
#define CMD_RESULT_OPTIONS                                                                                             \
	CMD_OPTION(0, "json", "FILE", OPTION_STRING, &opt.json, "write the result to FILE; - is standard output",      \
		   .no_env = true),                                                                                    \
		CMD_OPTION('q', "quiet", NULL, OPTION_FLAG, &opt.quiet, "no progress and no table", .no_env = true)

/* --- common.c ----------------------------------------------------------------- */

/*
 * Parse. Return: true to go on; false: the command is over with *@status
 * (--help was printed, or a complaint).
 */
bool cmd_parse(const struct command_spec *spec, int argc, char **argv, int *first_arg, int *status);

/* "tain: TEXT" on stderr. Return: @status. */
int cmd_complain(int status, const char *fmt, ...) format_printf(2, 3);

/* The status that fits an errno of lab/ or vmm/: misuse, cannot run here, or failed. */
int cmd_status(int ret);

/*
 * Engine by name, able to run here, for which all options of the command line are. Return: NULL after a complaint, with
 * *@status; if it cannot run here, a document that says so is saved to @json (may be NULL).
 */
const struct engine *cmd_engine(const char *name, const char *command, const char *json, int *status);

/*
 * What stands behind DATA, by name; NULL: what the engine has by default. Return: the
 * name; NULL after a complaint, with *@status.
 */
const char *cmd_backing(const struct engine *engine, const char *name, enum host_backing *backing, int *status);

/* Complains about a file, @option's, that could not be written later. Return: 0 or the status. */
int cmd_check_output(const char *option, const char *path);

/* Complains about a document that could not be written later. Return: 0 or the status. */
int cmd_check_json(const char *path);
/* Return: @status, or CMD_MISUSE after a complaint if it could not be written. Drops @doc. */
int cmd_save_json(json_t *doc, const char *path, int status);

/* Nothing of @what can run here: a document that says so, if one was asked for. Return: @status, or as cmd_save_json().
 */
int cmd_save_skip(const char *command, const char *what, const char *why, const char *path, int status);

/*
 * --allow-system: from here on what is changed of the machine is put back, whatever becomes of tain. @wanted: was it
 * given? If another tain has the machine, @command saves a document that says so to @json (may be NULL). Context: no
 * thread has been started. Return: true to go on; false after a complaint, with *@status.
 */
bool cmd_guardian_start(bool wanted, const char *command, const char *json, int *status);
/* Put everything back. Return: @status, or CMD_FAILED in place of CMD_OK after a complaint. */
int cmd_guardian_stop(int status);

/* The exit status: the signal's when there was one. Complains if stdout could not take everything. */
int cmd_finish(int status);

/* One seed for a run: the given one, or a random one. */
u64 cmd_seed(bool given, u64 seed);
#define CMD_SEED_MAX INT64_MAX
#define CMD_TIME_MAX (8760ull * 3600 * 1000000000) /* a year */

/* --- print.c ------------------------------------------------------------------- */

/* First line of every run, on @out. */
void cmd_print_identity(FILE *out, const char *command, const struct machine_identity *id, u64 seed);

/* "12,345"; the text is valid until sixteen calls later. */
const char *cmd_count(u64 n);
const char *cmd_percentile(const struct hist *h, double p); /* of too few values "-" */
const char *cmd_rate(double per_second);		    /* "2.31 M" */
const char *cmd_bytes(u64 bytes);			    /* "16 MiB" */
const char *cmd_seconds(u64 ns);			    /* "10.0 s" */

enum cmd_color { CMD_GREEN = 32, CMD_RED = 31, CMD_YELLOW = 33 };
/* @text, coloured if @out is a terminal that wants it. */
void cmd_print_colored(FILE *out, enum cmd_color color, const char *text);

/* A histogram as bars, about @lines of them. */
void cmd_print_histogram(FILE *out, const char *title, const struct hist *hist, unsigned int lines);

void cmd_print_violation(FILE *out, u64 number, const struct violation *v);

/* A figure and its verdict. Return: false if it was measured and missed its bound. */
bool cmd_print_figure(const struct figure *figure);

/* One line that updates on a terminal; otherwise every ten seconds a line. @quiet: nothing. */
struct cmd_progress {
	bool quiet;
	bool tty;
	u64 last_ns;
	bool shown;
};

void cmd_progress_init(struct cmd_progress *p, bool quiet);
/* Is it time for a line? */
bool cmd_progress_due(struct cmd_progress *p);
void cmd_progress_show(struct cmd_progress *p, const char *fmt, ...) format_printf(2, 3);
void cmd_progress_end(struct cmd_progress *p);

#endif /* CMD_CMD_H */
