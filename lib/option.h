/* SPDX-License-Identifier: MIT */
/*
 * One table per command makes the parser and --help. Every long option can also be
 * given in the environment as TAIN_<LONG>, dashes as underscores; the command line wins.
 */
#ifndef LIB_OPTION_H
#define LIB_OPTION_H

#include "lib/base.h"
#include "lib/err.h"

enum option_kind {
	OPTION_FLAG,   /* bool; no value; in the environment 1/0 yes/no true/false on/off */
	OPTION_UINT,   /* unsigned int, decimal */
	OPTION_U64,    /* u64, decimal, 0x or 0 prefix */
	OPTION_SIZE,   /* u64 bytes, suffix K M G T (powers of 1024) */
	OPTION_TIME,   /* u64 nanoseconds: 10s 500ms 20us 5ns 2m 1h; a bare number is seconds */
	OPTION_STRING, /* const char *, points into argv or the environment */
	OPTION_KINDS
};

struct option_spec {
	char short_name;	/* 0: none */
	const char *long_name;	/* without dashes */
	const char *value_name; /* "BYTES"; NULL for a flag */
	enum option_kind kind;
	void *value;	  /* what kind says; keeps its default when not given */
	const char *help; /* one line; the caller writes defaults into it */
	u64 min, max;	  /* of a number, inclusive; both 0: any */
	bool no_env;
	bool *given; /* may be NULL: set to true when the option was given anywhere */
	/*
	 * Where the option means nothing: given on the command line there, it is refused. The environment
	 * is for many runs, and says nothing to those it does not suit. NULL: it means something everywhere.
	 */
	const char *with, *without; /* only, or not, beside the option of this long name */
	const char *engines;	    /* only with one of these, separated by blanks; see option_check_engine() */
};

struct command_spec {
	const char *name;	 /* "tain stress" */
	const char *summary;	 /* one line */
	const char *args;	 /* "GUEST [-- ARGS]"; NULL: none */
	const char *description; /* lines for --help; NULL: none */
	const struct option_spec *options;
	unsigned int nr_options;
	unsigned int min_args, max_args; /* of positional arguments; those after -- do not count */
};

/*
 * @argv[0] is the command's own name and is skipped. Options and arguments may mix up to
 * `--`. Arguments are moved behind the options, in order; `--` itself is taken
 * out, so that the arguments end at NULL, one word earlier than argc says.
 * @first_arg: index of the first positional argument. @given: BIT(row) of each option on the command line.
 * Return: 0; 1 when --help or -h was met; -EINVAL with one line in @err.
 */
int option_parse(const struct command_spec *command, int argc, char **argv, int *first_arg, u64 *given,
		 struct err *err);

/* Are all options of @given, from option_parse(), for @engine? Return: 0; -EINVAL with one line in @err. */
int option_check_engine(const struct command_spec *command, u64 given, const char *engine, struct err *err);

/* The text of --help, line by line. */
void option_help(const struct command_spec *command, void (*line)(const char *text, void *arg), void *arg);

/* The one of @names (NULL terminated) that was probably meant, or NULL. */
const char *option_nearest(const char *word, const char *const *names);

/* Return: 0; -EINVAL (not a number, unknown suffix); -ERANGE (does not fit in 64 bits). */
int parse_u64(const char *text, u64 *value);
int parse_size(const char *text, u64 *bytes);
int parse_time(const char *text, u64 *ns);

/* The shortest text that parses to the same: "16M", "500ms". */
void format_size(u64 bytes, char *text, size_t len);
void format_time(u64 ns, char *text, size_t len);

#endif /* LIB_OPTION_H */
