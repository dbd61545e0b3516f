/* SPDX-License-Identifier: MIT */
/* Help, the manual page, and that both say what the parser knows. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/cmd_env.h"
#include "tests/cmd_suites.h"

/* A command as typed: one word, or two. What there are, the help says. */
struct command {
	char word[2][24];
};

static struct command commands[32];
static unsigned int nr_commands;

static void add_command(const char *first, const char *second)
{
	struct command *c = &commands[nr_commands++];

	if (nr_commands > ARRAY_SIZE(commands))
		BUG("more than %zu commands", ARRAY_SIZE(commands));
	snprintf(c->word[0], sizeof(c->word[0]), "%s", first);
	snprintf(c->word[1], sizeof(c->word[1]), "%s", second);
}

static void typed(char *text, size_t n, const struct command *c)
{
	snprintf(text, n, "tain %s%s%s", c->word[0], c->word[1][0] ? " " : "", c->word[1]);
}

/* COMMAND and one more word. */
static const struct tain_run *with(const struct command *c, const char *word)
{
	return c->word[1][0] ? TAIN(c->word[0], c->word[1], word) : TAIN(c->word[0], word);
}

/* "Usage: tain bench [OPTIONS] fault|figures [OPTIONS]": a command that has commands. */
static bool add_subcommands(const char *name)
{
	char list[256], *rest = list, *word;
	int end = 0;

	sscanf(TAIN(name, "--help")->out.text, "Usage: tain %*s [OPTIONS] %255[a-z|-] [OPTIONS]%n", list, &end);
	if (!end)
		return false;
	while ((word = strsep(&rest, "|")) != NULL)
		add_command(name, word);
	return true;
}

static void find_commands(void)
{
	char *rest = TAIN("--help")->out.text, *line, name[24];

	nr_commands = 0;
	while ((line = strsep(&rest, "\n")) != NULL)
		if (sscanf(line, "  %23[a-z-]  ", name) == 1 && line[2] != ' ' && !add_subcommands(name))
			add_command(name, "");
	CHECK_GE(nr_commands, 8);
}

static void check_help(const struct tain_run *r, const char *name)
{
	char usage[64];

	snprintf(usage, sizeof(usage), "Usage: %s [OPTIONS]", name);
	CHECK_EQ(r->status, 0);
	CHECK_STR(r->err.text, "");
	CHECK_MSG(!strncmp(r->out.text, usage, strlen(usage)), "%s: '%s' begins with '%s'", r->name, r->out.text,
		  usage);
	CHECK_CONTAINS(r->out.text, "  -h, --help");
}

static void every_command_helps(void)
{
	find_commands();
	for (unsigned int i = 0; i < nr_commands; i++) {
		const struct tain_run *help = with(&commands[i], "--help");
		char name[64];

		typed(name, sizeof(name), &commands[i]);
		check_help(help, name);
		CHECK_STR(with(&commands[i], "-h")->out.text, help->out.text);
		if (!commands[i].word[1][0])
			CHECK_STR(TAIN("help", commands[i].word[0])->out.text, help->out.text);
	}
	check_help(TAIN("bench", "--help"), "tain bench");
	check_help(TAIN("help", "bench"), "tain bench");
	check_help(TAIN("help", "bench", "fault"), "tain bench fault");
}

static void help_wins_over_what_else_is_said(void)
{
	check_help(TAIN("stress", "-v", "2", "-h", "--nonsense"), "tain stress");
	check_help(TAIN("run", "--seed", "1", "--help"), "tain run");
	/* What comes before it has to be right all the same. */
	check_refused(TAIN("stress", "--nonsense", "-h"), 2, "unknown option --nonsense; see tain stress --help");
}

static void tain_alone_says_which_commands(void)
{
	const struct tain_run *help = TAIN("--help"), *alone = tain_run(NULL, WORDS(NULL));

	CHECK_EQ(help->status, 0);
	CHECK_STR(help->err.text, "");
	for (const char *const *line = WORDS("\n  run ", "\n  stress ", "\n  bench ", "\n  list ", "\n  doctor ",
					     "\n  version ", "\n  man ");
	     *line; line++)
		CHECK_CONTAINS(help->out.text, *line);
	CHECK_STR(TAIN("-h")->out.text, help->out.text);
	CHECK_STR(TAIN("help")->out.text, help->out.text);
	/* Without a command nothing was done: misuse, and the help where complaints go. */
	CHECK_EQ(alone->status, 2);
	CHECK_STR(alone->out.text, "");
	CHECK_STR(alone->err.text, help->out.text);
}

static void version(void)
{
	const struct tain_run *r = TAIN("version");
	const char *build = TSAN ? "tsan" : PROVE ? "prove" : CHECKING ? "asan" : "release";
	char line[128];

	snprintf(line, sizeof(line), "tain %s (%s build, mutants and race points %s)\n", TAIN_VERSION, build,
		 CHECKING ? "compiled in" : "left out");
	CHECK_EQ(r->status, 0);
	CHECK_STR(r->out.text, line);
	CHECK_STR(r->err.text, "");
	CHECK_STR(TAIN("--version")->out.text, line);
}

/* --- option by option --------------------------------------------------------------------- */

struct option {
	char letter; /* 0: none */
	char name[32];
	char value[16]; /* empty: a flag */
};

/* "  -e, --engine NAME  text". Return: false: no option's first line. */
static bool parse_line(const char *line, struct option *o)
{
	const char *dashes = line + 6;
	int n = 0;

	memset(o, 0, sizeof(*o));
	if (strlen(line) < 9 || strncmp(line, "  ", 2) || strncmp(dashes, "--", 2))
		return false;
	if (line[2] == '-')
		o->letter = line[3];
	if (sscanf(dashes, "--%31[a-z0-9-]%n", o->name, &n) != 1)
		return false;
	if (dashes[n] == ' ' && isupper((unsigned char)dashes[n + 1]))
		sscanf(dashes + n, " %15[A-Z/]", o->value);
	return true;
}

/* The parser knows it as the help says: it asks for the value, or takes none. */
static void check_known(const struct command *command, const struct option *o)
{
	char word[48], says[128];

	if (o->value[0]) {
		snprintf(word, sizeof(word), "--%s", o->name);
		snprintf(says, sizeof(says), "option --%s needs a value, %s", o->name, o->value);
	} else {
		snprintf(word, sizeof(word), "--%s=1", o->name);
		snprintf(says, sizeof(says), "option --%s takes no value", o->name);
	}
	if (strcmp(o->name, "help"))
		check_refused(with(command, word), 2, says);
	if (!o->letter || o->letter == 'h')
		return;
	snprintf(word, sizeof(word), o->value[0] ? "-%c" : "-%cW", o->letter);
	if (o->value[0])
		snprintf(says, sizeof(says), "option -%c needs a value, %s", o->letter, o->value);
	else
		snprintf(says, sizeof(says), "unknown option -W; see..."); /* the letter before it was taken */
	check_refused(with(command, word), 2, says);
}

/* The command's part of the page has an item for it. */
static void check_documented(const char *page, const char *name, const struct option *o)
{
	char head[80], item[96], letter[16] = "";
	const char *part, *end, *found;

	if (!strcmp(o->name, "help"))
		return; /* said once for all */
	snprintf(head, sizeof(head), "\n.Ss %s\n", name);
	part = strstr(page, head);
	if (!CHECK_MSG(part, "the manual has no '%s'", head))
		return;
	end = strstr(part + 1, "\n.S") ?: part + strlen(part);
	if (o->letter)
		snprintf(letter, sizeof(letter), "Fl %c , ", o->letter);
	snprintf(item, sizeof(item), "\n.It %sFl -%s%s%s\n", letter, o->name, o->value[0] ? " Ar " : "", o->value);
	found = strstr(part, item);
	CHECK_MSG(found && found < end, "the manual's '%s' has '%s'", name, item + 1);
}

static void every_option_is_known_and_in_the_manual(void)
{
	const struct tain_run *page = TAIN("man");
	unsigned int options = 0;

	find_commands();
	for (unsigned int i = 0; i < nr_commands; i++) {
		const struct tain_run *help = with(&commands[i], "--help");
		struct option o;
		char name[64];

		typed(name, sizeof(name), &commands[i]);
		for (char *rest = help->out.text, *line; (line = strsep(&rest, "\n")) != NULL;) {
			if (!parse_line(line, &o))
				continue;
			options++;
			check_known(&commands[i], &o);
			check_documented(page->out.text, name, &o);
		}
	}
	CHECK_GE(options, 50);
}

static void manual_in_the_tree_is_the_commands_own(void)
{
	const char *path = tain_tree_file("docs/tain.1");
	const struct tain_run *page = TAIN("man");
	char *file = NULL;
	size_t n = 0;
	FILE *f;

	CHECK_EQ(page->status, 0);
	CHECK_STR(page->err.text, "");
	if (!path)
		return;
	f = fopen(path, "re");
	if (CHECK_MSG(f && getdelim(&file, &n, '\0', f) > 0, "%s: %s", path, strerror(errno)))
		CHECK_MSG(!strcmp(file, page->out.text), "docs/tain.1 is not what `tain man` prints; make it so");
	free(file);
	if (f)
		fclose(f);
}

static void manual_says_the_exit_statuses(void)
{
	const char *page = TAIN("man")->out.text;

	for (const char *const *item =
		     WORDS("\n.It 0\n", "\n.It 1\n", "\n.It 2\n", "\n.It 4\n", "\n.It 124\n", "\n.It 129,130,143\n");
	     *item; item++)
		CHECK_CONTAINS(page, *item);
}

const struct test_case cmd_help_tests[] = {
	TEST(every_command_helps),
	TEST(help_wins_over_what_else_is_said),
	TEST(tain_alone_says_which_commands),
	TEST(version),
	TEST(every_option_is_known_and_in_the_manual),
	TEST(manual_in_the_tree_is_the_commands_own),
	TEST(manual_says_the_exit_statuses),
	TEST_END,
};
