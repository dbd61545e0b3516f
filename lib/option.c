/* SPDX-License-Identifier: MIT */
/* The option tables' parser. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/option.h"

#define OPTIONS_MAX 64
#define ENV_BYTES 64

struct parse {
	const struct command_spec *command;
	struct err *err;
	u64 given;	 /* bit per option: on the command line */
	u64 environment; /* and in the environment alone */
};

static const struct option_spec *find_long(const struct command_spec *command, const char *name, size_t len)
{
	for (unsigned int i = 0; i < command->nr_options; i++) {
		const struct option_spec *spec = &command->options[i];

		if (spec->long_name && strlen(spec->long_name) == len && !memcmp(spec->long_name, name, len))
			return spec;
	}
	return NULL;
}

static const struct option_spec *find_short(const struct command_spec *command, char name)
{
	for (unsigned int i = 0; i < command->nr_options; i++) {
		if (command->options[i].short_name == name)
			return &command->options[i];
	}
	return NULL;
}

static int bad_value(struct err *err, const char *what, const char *text, int ret, const char *expected)
{
	if (ret == -ERANGE)
		return err_set(err, -EINVAL, "%s: '%s' is too large", what, text);
	return err_set(err, -EINVAL, "%s: '%s' is not %s", what, text, expected);
}

static int check_range(const struct option_spec *spec, u64 value, const char *what, const char *text, struct err *err)
{
	if (!spec->min && !spec->max)
		return 0;
	if (value >= spec->min && value <= spec->max)
		return 0;
	if (spec->kind == OPTION_SIZE || spec->kind == OPTION_TIME) {
		char lo[32], hi[32];

		(spec->kind == OPTION_SIZE ? format_size : format_time)(spec->min, lo, sizeof(lo));
		(spec->kind == OPTION_SIZE ? format_size : format_time)(spec->max, hi, sizeof(hi));
		return err_set(err, -EINVAL, "%s: '%s' is out of range, %s to %s", what, text, lo, hi);
	}
	return err_set(err, -EINVAL, "%s: '%s' is out of range, %llu to %llu", what, text,
		       (unsigned long long)spec->min, (unsigned long long)spec->max);
}

static int parse_flag(const char *text, bool *value)
{
	static const char *const words[] = { "0", "1", "no", "yes", "false", "true", "off", "on" };

	for (unsigned int i = 0; i < ARRAY_SIZE(words); i++) {
		if (!strcmp(text, words[i])) {
			*value = i & 1;
			return 0;
		}
	}
	return -EINVAL;
}

/* @what: how the user named it, for messages. */
static int set_value(const struct option_spec *spec, const char *what, const char *text, struct err *err)
{
	static const char *const expected[OPTION_KINDS] = {
		[OPTION_FLAG] = "one of 1 0 yes no true false on off",
		[OPTION_UINT] = "a number",
		[OPTION_U64] = "a number",
		[OPTION_SIZE] = "a size (4096, 64K, 16M, 1G)",
		[OPTION_TIME] = "a time (10s, 500ms, 2m)",
	};
	u64 value = 0;
	int ret = 0;

	switch (spec->kind) {
	case OPTION_FLAG:
		ret = parse_flag(text, spec->value);
		break;
	case OPTION_UINT:
	case OPTION_U64:
		ret = parse_u64(text, &value);
		if (!ret && spec->kind == OPTION_UINT && value > UINT32_MAX)
			ret = -ERANGE;
		break;
	case OPTION_SIZE:
		ret = parse_size(text, &value);
		break;
	case OPTION_TIME:
		ret = parse_time(text, &value);
		break;
	case OPTION_STRING:
		*(const char **)spec->value = text;
		break;
	case OPTION_KINDS:
		BUG("option %s has no kind", what);
	}
	if (ret)
		return bad_value(err, what, text, ret, expected[spec->kind]);
	if (spec->kind != OPTION_FLAG && spec->kind != OPTION_STRING) {
		ret = check_range(spec, value, what, text, err);
		if (ret)
			return ret;
		if (spec->kind == OPTION_UINT)
			*(unsigned int *)spec->value = (unsigned int)value;
		else
			*(u64 *)spec->value = value;
	}
	if (spec->given)
		*spec->given = true;
	return 0;
}

static int unknown_long(const struct parse *p, const char *word)
{
	const char *names[OPTIONS_MAX + 2], *near;
	unsigned int n = 0;

	for (unsigned int i = 0; i < p->command->nr_options; i++) {
		if (p->command->options[i].long_name)
			names[n++] = p->command->options[i].long_name;
	}
	names[n++] = "help";
	names[n] = NULL;
	near = option_nearest(word, names);
	if (near)
		return err_set(p->err, -EINVAL, "unknown option --%s; did you mean --%s?", word, near);
	return err_set(p->err, -EINVAL, "unknown option --%s; see %s --help", word, p->command->name);
}

static int missing_value(const struct parse *p, const char *what, const struct option_spec *spec)
{
	return err_set(p->err, -EINVAL, "option %s needs a value, %s", what,
		       spec->value_name ? spec->value_name : "VALUE");
}

static int set_flag(struct parse *p, const struct option_spec *spec)
{
	*(bool *)spec->value = true;
	if (spec->given)
		*spec->given = true;
	return 0;
}

/* @word: "name" or "name=value"; @next: the following argument or NULL. Return: arguments used, 1 or 2; -EINVAL. */
static int parse_long(struct parse *p, const char *word, const char *next)
{
	const char *equals = strchr(word, '=');
	size_t len = equals ? (size_t)(equals - word) : strlen(word);
	const struct option_spec *spec = find_long(p->command, word, len);
	char what[ENV_BYTES];
	int ret;

	if (!spec) {
		snprintf(what, sizeof(what), "%.*s", (int)min(len, sizeof(what) - 1), word);
		return unknown_long(p, what);
	}
	snprintf(what, sizeof(what), "--%s", spec->long_name);
	p->given |= BIT(spec - p->command->options);
	if (spec->kind == OPTION_FLAG) {
		if (equals)
			return err_set(p->err, -EINVAL, "option %s takes no value", what);
		ret = set_flag(p, spec);
	} else if (equals) {
		ret = set_value(spec, what, equals + 1, p->err);
	} else if (!next) {
		return missing_value(p, what, spec);
	} else {
		ret = set_value(spec, what, next, p->err);
		return ret ? ret : 2;
	}
	return ret ? ret : 1;
}

/* @word: one or more letters; flags may be bundled, a value may follow its letter. Return: as parse_long(). */
static int parse_short(struct parse *p, const char *word, const char *next)
{
	for (; *word; word++) {
		const struct option_spec *spec = find_short(p->command, *word);
		char what[] = { '-', *word, '\0' };
		int ret;

		if (!spec)
			return err_set(p->err, -EINVAL, "unknown option %s; see %s --help", what, p->command->name);
		p->given |= BIT(spec - p->command->options);
		if (spec->kind == OPTION_FLAG) {
			set_flag(p, spec);
			continue;
		}
		if (!word[1] && !next)
			return missing_value(p, what, spec);
		ret = set_value(spec, what, word[1] ? word + 1 : next, p->err);
		if (ret)
			return ret;
		return word[1] ? 1 : 2;
	}
	return 1;
}

static int parse_env(struct parse *p)
{
	for (unsigned int i = 0; i < p->command->nr_options; i++) {
		const struct option_spec *spec = &p->command->options[i];
		char name[ENV_BYTES] = "TAIN_";
		const char *text;
		size_t n = strlen(name);
		int ret;

		if (spec->no_env || !spec->long_name || p->given & BIT(i))
			continue;
		for (const char *c = spec->long_name; *c && n < sizeof(name) - 1; c++)
			name[n++] = *c == '-' ? '_' : *c >= 'a' && *c <= 'z' ? (char)(*c - 'a' + 'A') : *c;
		name[n] = '\0';
		text = getenv(name);
		if (!text || !*text)
			continue;
		ret = set_value(spec, name, text, p->err);
		if (ret)
			return ret;
		p->environment |= BIT(i);
	}
	return 0;
}

static bool has(const struct parse *p, const char *name)
{
	const struct option_spec *spec = find_long(p->command, name, strlen(name));

	if (!spec)
		BUG("%s has no option --%s", p->command->name, name);
	return (p->given | p->environment) & BIT(spec - p->command->options);
}

/* What means nothing without another option, or beside it. */
static int check_company(const struct parse *p)
{
	for (unsigned int i = 0; i < p->command->nr_options; i++) {
		const struct option_spec *spec = &p->command->options[i];

		if (!(p->given & BIT(i)))
			continue;
		if (spec->with && !has(p, spec->with))
			return err_set(p->err, -EINVAL, "--%s: only with --%s", spec->long_name, spec->with);
		if (spec->without && has(p, spec->without))
			return err_set(p->err, -EINVAL, "--%s: not with --%s", spec->long_name, spec->without);
	}
	return 0;
}

/* Is @name one of @words, which blanks separate? */
static bool is_among(const char *name, const char *words)
{
	size_t len;

	for (; *words; words += len + (words[len] == ' ')) {
		len = strcspn(words, " ");
		if (len == strlen(name) && !memcmp(words, name, len))
			return true;
	}
	return false;
}

int option_check_engine(const struct command_spec *command, u64 given, const char *engine, struct err *err)
{
	for (unsigned int i = 0; i < command->nr_options; i++) {
		const struct option_spec *spec = &command->options[i];

		if (given & BIT(i) && spec->engines && !is_among(engine, spec->engines))
			return err_set(err, -EINVAL, "--%s: engine %s has no use for it; it is for %s", spec->long_name,
				       engine, spec->engines);
	}
	return 0;
}

/* Move the @n words at argv[to + nr] in front of the @nr words at argv[to]. */
static void move_before(char **argv, int to, int nr, int n)
{
	for (int i = 0; i < n; i++) {
		char *word = argv[to + nr + i];

		memmove(&argv[to + i + 1], &argv[to + i], (size_t)nr * sizeof(*argv));
		argv[to + i] = word;
	}
}

static int check_args(const struct parse *p, char **args, unsigned int nr)
{
	const struct command_spec *command = p->command;

	if (nr < command->min_args)
		return err_set(p->err, -EINVAL, "missing argument; usage: %s [OPTIONS] %s", command->name,
			       command->args ? command->args : "");
	if (nr > command->max_args)
		return err_set(p->err, -EINVAL, "unexpected argument '%s'; see %s --help", args[command->max_args],
			       command->name);
	return 0;
}

int option_parse(const struct command_spec *command, int argc, char **argv, int *first_arg, u64 *given, struct err *err)
{
	struct parse p = { .command = command, .err = err };
	int first = 1, nr_args = 0, i = 1, used;

	if (command->nr_options > OPTIONS_MAX)
		BUG("%s has more than %d options", command->name, OPTIONS_MAX);
	while (i < argc) {
		char *word = argv[i], *next = i + 1 < argc ? argv[i + 1] : NULL;

		if (word[0] != '-' || !word[1]) { /* "-" alone is an argument */
			nr_args++;
			i++;
			continue;
		}
		if (!strcmp(word, "--"))
			break;
		if (!strcmp(word, "--help") || (!strcmp(word, "-h") && !find_short(command, 'h')))
			return 1;
		used = word[1] == '-' ? parse_long(&p, word + 2, next) : parse_short(&p, word + 1, next);
		if (used < 0)
			return used;
		move_before(argv, first, nr_args, used);
		first += used;
		i += used;
	}
	used = check_args(&p, argv + first, (unsigned int)nr_args);
	if (used)
		return used;
	if (i < argc) /* "--": what follows it moves down, with the NULL at the end */
		memmove(&argv[i], &argv[i + 1], (size_t)(argc - i) * sizeof(*argv));
	*first_arg = first;
	*given = p.given;
	return parse_env(&p) ?: check_company(&p);
}
