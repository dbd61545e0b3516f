/* SPDX-License-Identifier: MIT */
/* Option tables as text: numbers with units, --help, and the nearest name. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/option.h"
#include "lib/time.h"

#define HELP_WIDTH 80
#define HELP_COLUMN_MAX 30
#define WORD_MAX 32

/* --- numbers ---------------------------------------------------------------- */

int parse_u64(const char *text, u64 *value)
{
	unsigned long long parsed;
	char *end;

	if (!isdigit((unsigned char)text[0])) /* strtoull() takes blanks and signs */
		return -EINVAL;
	errno = 0;
	parsed = strtoull(text, &end, 0);
	if (*end || end == text)
		return -EINVAL;
	if (errno)
		return -ERANGE;
	*value = parsed;
	return 0;
}

int parse_size(const char *text, u64 *bytes)
{
	static const char suffixes[] = "KMGT";
	unsigned long long parsed;
	unsigned int shift = 0;
	char *end;

	if (!isdigit((unsigned char)text[0]))
		return -EINVAL;
	errno = 0;
	parsed = strtoull(text, &end, 0);
	if (errno)
		return -ERANGE;
	if (*end) {
		const char *found = strchr(suffixes, toupper((unsigned char)*end));

		if (!found)
			return -EINVAL;
		shift = 10 * (unsigned int)(found - suffixes + 1);
		end++;
		if (*end && strcasecmp(end, "iB") && strcasecmp(end, "B"))
			return -EINVAL;
	}
	if (parsed > UINT64_MAX >> shift)
		return -ERANGE;
	*bytes = parsed << shift;
	return 0;
}

static const struct {
	const char *suffix;
	u64 ns;
} time_units[] = {
	{ "h", 3600 * NSEC_PER_SEC }, { "m", 60 * NSEC_PER_SEC }, { "s", NSEC_PER_SEC },
	{ "ms", NSEC_PER_MSEC },      { "us", NSEC_PER_USEC },	  { "ns", 1 },
};

int parse_time(const char *text, u64 *ns)
{
	u64 whole = 0, fraction = 0, scale = 1, unit = 0;
	const char *c = text;

	if (!isdigit((unsigned char)*c))
		return -EINVAL;
	for (; isdigit((unsigned char)*c); c++) {
		if (__builtin_mul_overflow(whole, 10, &whole) || __builtin_add_overflow(whole, (u64)(*c - '0'), &whole))
			return -ERANGE;
	}
	if (*c == '.') {
		for (c++; isdigit((unsigned char)*c); c++) {
			if (scale < NSEC_PER_SEC) { /* more digits than nanoseconds say nothing */
				fraction = fraction * 10 + (u64)(*c - '0');
				scale *= 10;
			}
		}
	}
	if (!*c)
		unit = NSEC_PER_SEC;
	for (unsigned int i = 0; i < ARRAY_SIZE(time_units); i++) {
		if (!strcmp(c, time_units[i].suffix))
			unit = time_units[i].ns;
	}
	if (!unit)
		return -EINVAL;
	if (__builtin_mul_overflow(whole, unit, &whole) ||
	    __builtin_add_overflow(whole, (u64)((unsigned __int128)fraction * unit / scale), &whole))
		return -ERANGE;
	*ns = whole;
	return 0;
}

void format_size(u64 bytes, char *text, size_t len)
{
	static const char *const suffixes[] = { "", "K", "M", "G", "T" };
	unsigned int i = 0;

	while (bytes && !(bytes & 1023) && i + 1 < ARRAY_SIZE(suffixes)) {
		bytes >>= 10;
		i++;
	}
	snprintf(text, len, "%llu%s", (unsigned long long)bytes, suffixes[i]);
}

void format_time(u64 ns, char *text, size_t len)
{
	unsigned int i = ns ? 0 : 2; /* "0s" */

	while (ns % time_units[i].ns)
		i++;
	snprintf(text, len, "%llu%s", (unsigned long long)(ns / time_units[i].ns), time_units[i].suffix);
}

/* --- help ------------------------------------------------------------------- */

static void help_left(const struct option_spec *spec, char *text, size_t len)
{
	const char *value = spec->value_name ? spec->value_name : "VALUE";
	char short_part[8] = "    ";
	bool flag = spec->kind == OPTION_FLAG;

	if (spec->short_name)
		snprintf(short_part, sizeof(short_part), "-%c%s", spec->short_name, spec->long_name ? ", " : "");
	snprintf(text, len, "  %s%s%s%s%s", short_part, spec->long_name ? "--" : "",
		 spec->long_name ? spec->long_name : "", flag ? "" : " ", flag ? "" : value);
}

/* @left, then @help folded at blanks into the column from @column on. */
static void help_line(const char *left, const char *help, size_t column, void (*line)(const char *text, void *arg),
		      void *arg)
{
	size_t width = HELP_WIDTH - column;
	char text[2 * HELP_WIDTH + 64];

	if (strlen(left) + 2 > column) {
		line(left, arg);
		left = "";
	}
	do {
		size_t n = strlen(help);

		if (n > width) {
			n = width;
			while (n && help[n] != ' ')
				n--;
			if (!n)
				n = strcspn(help, " ");
		}
		snprintf(text, sizeof(text), "%-*s%.*s", (int)column, left, (int)n, help);
		line(text, arg);
		left = "";
		help += n + strspn(help + n, " ");
	} while (*help);
}

static void help_lines(const char *text, void (*line)(const char *text, void *arg), void *arg)
{
	char buf[256];

	while (*text) {
		size_t n = strcspn(text, "\n");

		snprintf(buf, sizeof(buf), "%.*s", (int)n, text);
		line(buf, arg);
		text += n + (text[n] == '\n');
	}
}

/* Which options the environment can give too, and which not. */
static void help_env(const struct command_spec *command, void (*line)(const char *text, void *arg), void *arg)
{
	char text[512] = "An option can also be set in the environment: --some-name as TAIN_SOME_NAME";
	const char *before = "; not";

	for (unsigned int i = 0; i < command->nr_options; i++) {
		const struct option_spec *spec = &command->options[i];
		size_t used = strlen(text);

		if (!spec->no_env || !spec->long_name)
			continue;
		snprintf(text + used, sizeof(text) - used, "%s --%s", before, spec->long_name);
		before = ",";
	}
	snprintf(text + strlen(text), sizeof(text) - strlen(text), ".");
	help_line("", text, 0, line, arg);
}

void option_help(const struct command_spec *command, void (*line)(const char *text, void *arg), void *arg)
{
	static const struct option_spec help = { .short_name = 'h', .long_name = "help", .kind = OPTION_FLAG };
	size_t column = 0;
	bool env = false;
	char text[256];

	for (unsigned int i = 0; i < command->nr_options; i++) {
		help_left(&command->options[i], text, sizeof(text));
		if (strlen(text) + 2 <= HELP_COLUMN_MAX)
			column = max(column, strlen(text) + 2);
		env |= !command->options[i].no_env && command->options[i].long_name;
	}
	help_left(&help, text, sizeof(text));
	column = max(column, strlen(text) + 2);

	snprintf(text, sizeof(text), "Usage: %s [OPTIONS]%s%s", command->name, command->args ? " " : "",
		 command->args ? command->args : "");
	line(text, arg);
	help_lines(command->summary, line, arg);
	if (command->description) {
		line("", arg);
		help_lines(command->description, line, arg);
	}
	line("", arg);
	line("Options:", arg);
	for (unsigned int i = 0; i < command->nr_options; i++) {
		help_left(&command->options[i], text, sizeof(text));
		help_line(text, command->options[i].help, column, line, arg);
	}
	help_left(&help, text, sizeof(text));
	help_line(text, "show this text", column, line, arg);
	if (env)
		help_env(command, line, arg);
}

/* --- the nearest name --------------------------------------------------------- */

/* Insertions, deletions, substitutions and swaps of neighbours that lead from @a to @b. */
static unsigned int edit_distance(const char *a, const char *b)
{
	size_t na = strlen(a), nb = strlen(b);
	unsigned int d[WORD_MAX + 1][WORD_MAX + 1];

	if (na > WORD_MAX || nb > WORD_MAX)
		return ~0u;
	for (size_t i = 0; i <= na; i++)
		d[i][0] = (unsigned int)i;
	for (size_t j = 0; j <= nb; j++)
		d[0][j] = (unsigned int)j;
	for (size_t i = 1; i <= na; i++) {
		for (size_t j = 1; j <= nb; j++) {
			char ca = (char)tolower((unsigned char)a[i - 1]), cb = (char)tolower((unsigned char)b[j - 1]);

			d[i][j] = min(d[i - 1][j] + 1, d[i][j - 1] + 1);
			d[i][j] = min(d[i][j], d[i - 1][j - 1] + (ca != cb));
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				d[i][j] = min(d[i][j], d[i - 2][j - 2] + 1);
		}
	}
	return d[na][nb];
}

const char *option_nearest(const char *word, const char *const *names)
{
	unsigned int best = (unsigned int)(strlen(word) + 2) / 3 + 1;
	const char *near = NULL;

	for (; *names; names++) {
		unsigned int distance = edit_distance(word, *names);

		/* The beginning of a name, if long enough to mean something, is as good as one mistake. */
		if (strlen(word) >= 3 && !strncasecmp(word, *names, strlen(word)))
			distance = min(distance, 1u);
		if (distance < best) {
			best = distance;
			near = *names;
		}
	}
	return near;
}
