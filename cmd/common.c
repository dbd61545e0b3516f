/* SPDX-License-Identifier: MIT */
/* What the subcommands share: options, complaints, engines, documents, signals. */
#include <ctype.h>
#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cmd/cmd.h"
#include "lab/system/guardian.h"
#include "lab/result/result.h"
#include "lib/json.h"
#include "lib/rng.h"

u32 cmd_stop;
FILE *cmd_out;
static bool stdout_lost; /* and complained about */
/* The command under way, and its options that stood on the command line. */
static const struct command_spec *parsed;
static u64 parsed_given;
static u32 caught; /* the first signal, or 0 */

/* What ends a command. */
static const struct {
	int signal;
	bool hangup; /* stays ignored where it was (nohup); kernel and shell may both send it: no impatience */
} endings[] = { { SIGINT, false }, { SIGTERM, false }, { SIGHUP, true } };

static bool is_hangup(int sig)
{
	for (size_t i = 0; i < ARRAY_SIZE(endings); i++)
		if (endings[i].signal == sig)
			return endings[i].hangup;
	return false;
}

/* On any thread: while the main thread starts one, signals go to those that have not blocked them yet. */
static void on_signal(int sig)
{
	u32 none = 0;

	if (!try_cmpxchg(&caught, &none, (u32)sig) && !is_hangup(sig)) { /* the second one does not wait */
		vm_abandon();
		_exit(CMD_SIGNAL + sig);
	}
	WRITE_ONCE(cmd_stop, 1);
}

void cmd_catch_signals(void)
{
	struct sigaction action = { .sa_handler = on_signal }; /* no SA_RESTART: sleeps end */

	for (size_t i = 0; i < ARRAY_SIZE(endings); i++) {
		struct sigaction found;

		if (endings[i].hangup && !sigaction(endings[i].signal, NULL, &found) && found.sa_handler == SIG_IGN)
			continue;
		sigaction(endings[i].signal, &action, NULL);
	}
}

void cmd_say(const char *line)
{
	cmd_complain(CMD_OK, "%s", line);
}

int cmd_complain(int status, const char *fmt, ...)
{
	char text[1024];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	/* One line, whatever the words of the user or the name of a file hold. */
	for (char *c = text; *c; c++)
		if (iscntrl((unsigned char)*c))
			*c = '?';
	fprintf(stderr, "tain: %s\n", text);
	return status;
}

static void print_line(const char *text, void *arg)
{
	fprintf(arg, "%s\n", text);
}

bool cmd_parse(const struct command_spec *spec, int argc, char **argv, int *first_arg, int *status)
{
	struct err err = { "" };
	int ret = option_parse(spec, argc, argv, first_arg, &parsed_given, &err);

	parsed = spec;
	if (!ret)
		return true;
	if (ret == 1) {
		option_help(spec, print_line, stdout);
		*status = cmd_finish(CMD_OK);
	} else {
		*status = cmd_complain(CMD_MISUSE, "%s", err.text);
	}
	return false;
}

int cmd_status(int ret)
{
	switch (ret) {
	case 0:
		return CMD_OK;
	case -EINVAL:
	case -ENOENT:
	case -ENOEXEC:
	case -ERANGE:
		return CMD_MISUSE;
	case -EOPNOTSUPP:
	case -ENOSYS:
	case -ENODEV:
	case -ENXIO:
	case -EACCES:
	case -EPERM:
		return CMD_SKIPPED;
	default:
		return CMD_FAILED;
	}
}

const struct engine *cmd_engine(const char *name, const char *command, const char *json, int *status)
{
	const char *names[16] = { NULL }, *near;
	const struct engine *const *all = engine_all();
	struct err why = { "" };
	size_t n;
	int ret;

	for (n = 0; all[n] && n < ARRAY_SIZE(names) - 1; n++) {
		names[n] = all[n]->name;
		if (strcmp(all[n]->name, name))
			continue;
		if (qemu_config.under_linux && !all[n]->outside) {
			*status = cmd_complain(CMD_MISUSE, "--linux: engine %s boots none; give --engine qemu", name);
			return NULL;
		}
		ret = option_check_engine(parsed, parsed_given, name, &why) ?: all[n]->probe(&why);
		if (!ret)
			return all[n];
		if (ret == -EINVAL) {
			*status = cmd_complain(CMD_MISUSE, "%s", why.text);
			return NULL;
		}
		*status = cmd_complain(CMD_SKIPPED, "engine %s cannot run here: %s", name, why.text);
		*status = cmd_save_skip(command, name, why.text, json, *status);
		return NULL;
	}
	near = option_nearest(name, names);
	*status = cmd_complain(CMD_MISUSE, "unknown engine '%s'%s%s%s; `tain list engines` names them", name,
			       near ? ", did you mean '" : "", near ?: "", near ? "'?" : "");
	return NULL;
}

const char *cmd_backing(const struct engine *engine, const char *name, enum host_backing *backing, int *status)
{
	struct err err = { "" };

	name = name ?: engine->outside ? "memfd" : "anonymous";
	if (host_parse_backing(name, backing, &err)) {
		*status = cmd_complain(CMD_MISUSE, "%s", err.text);
		return NULL;
	}
	if (engine->outside)
		qemu_config.backing = *backing == HOST_FILE_SHARED ? "file" : "memfd";
	return name;
}

int cmd_check_output(const char *option, const char *path)
{
	char copy[PATH_MAX], *dir;
	struct stat st;

	if (!*path)
		return cmd_complain(CMD_MISUSE, "--%s: an empty file name", option);
	if (!stat(path, &st)) {
		if (S_ISDIR(st.st_mode))
			return cmd_complain(CMD_MISUSE, "--%s: %s is a directory", option, path);
		if (access(path, W_OK))
			return cmd_complain(CMD_MISUSE, "--%s: cannot write %s: %s", option, path, strerror(errno));
		return 0;
	}
	if (snprintf(copy, sizeof(copy), "%s", path) >= (int)sizeof(copy))
		return cmd_complain(CMD_MISUSE, "--%s: %s", option, strerror(ENAMETOOLONG));
	dir = dirname(copy);
	if (!stat(dir, &st) && !S_ISDIR(st.st_mode))
		return cmd_complain(CMD_MISUSE, "--%s: cannot write to %s: %s", option, dir, strerror(ENOTDIR));
	if (access(dir, W_OK | X_OK))
		return cmd_complain(CMD_MISUSE, "--%s: cannot write to %s: %s", option, dir, strerror(errno));
	return 0;
}

int cmd_check_json(const char *path)
{
	bool out = path && !strcmp(path, "-");

	cmd_out = out ? stderr : stdout;
	return path && !out ? cmd_check_output("json", path) : 0;
}

/* A signal says more than what the run found until then. */
static int ended(int status)
{
	u32 sig = READ_ONCE(caught);

	if (!sig && guardian_lost())
		return status ?: CMD_FAILED;
	return sig ? CMD_SIGNAL + (int)sig : status;
}

int cmd_save_json(json_t *doc, const char *path, int status)
{
	struct err err = { "" };
	int ret = 0;

	if (path) {
		result_status(doc, ended(status));
		ret = json_save(doc, path, &err);
	}
	json_decref(doc);
	if (!ret)
		return status;
	stdout_lost = !strcmp(path, "-");
	cmd_complain(CMD_MISUSE, "%s", err.text);
	return status ? status : CMD_MISUSE;
}

int cmd_save_skip(const char *command, const char *what, const char *why, const char *path, int status)
{
	json_t *doc;

	if (!path)
		return status;
	doc = result_new(command, NULL, 0);
	result_skip(doc, what, why);
	return cmd_save_json(doc, path, status);
}

/* Reasons that lie in the user or in where tain runs: what would need the machine is skipped, the rest runs. */
static bool is_refusal(int ret)
{
	return ret == -EPERM || ret == -EACCES || ret == -EROFS || ret == -ENOSPC;
}

static void on_loss(void)
{
	WRITE_ONCE(cmd_stop, 1);
}

bool cmd_guardian_start(bool wanted, const char *command, const char *json, int *status)
{
	struct err err = { "" };
	int ret = 0;

	if (wanted) {
		guardian_on_loss(on_loss);
		ret = guardian_start(&err);
	}
	if (wanted && guardian_healed())
		cmd_complain(CMD_OK,
			     "--allow-system: put back what a tain had changed that was killed with its guardian");
	if (is_refusal(ret)) {
		cmd_complain(CMD_OK, "--allow-system: %s", err.text);
		guardian_refuse(&err);
		ret = 0;
	}
	if (ret)
		*status = cmd_complain(ret == -EBUSY ? CMD_SKIPPED : CMD_FAILED, "--allow-system: %s", err.text);
	if (ret == -EBUSY)
		*status = cmd_save_skip(command, "--allow-system", err.text, json, *status);
	if (ret)
		*status = cmd_finish(*status);
	return !ret;
}

int cmd_guardian_stop(int status)
{
	struct err err = { "" };

	return guardian_stop(&err) ? cmd_complain(status ?: CMD_FAILED, "--allow-system: %s", err.text) : status;
}

int cmd_finish(int status)
{
	bool failed = ferror(stdout); /* earlier; why is forgotten */

	if ((fflush(stdout) || failed) && !stdout_lost) {
		cmd_complain(CMD_FAILED, "cannot write to standard output: %s",
			     failed ? "no space, or nobody reads" : strerror(errno));
		status = status ?: CMD_FAILED;
	}
	return ended(status);
}

u64 cmd_seed(bool given, u64 seed)
{
	/* Short enough to be typed again, and for every JSON reader. */
	return given ? seed : rng_random_seed() >> 16 ?: 1;
}
