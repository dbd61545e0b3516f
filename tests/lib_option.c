/* SPDX-License-Identifier: MIT */
/* Tests of the option tables: good input, bad input with its exact message, help, environment. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/option.h"
#include "tests/lib_suites.h"

static struct {
	bool quiet, all, vcpus_given;
	unsigned int vcpus;
	u64 seed, bytes, time;
	const char *engine;
} got;

#define ROW(letter, name, value_text, kind_, where, help_text, ...)                                                    \
	{                                                                                                              \
		.short_name = (letter), .long_name = (name), .value_name = (value_text), .kind = (kind_),              \
		.value = (where), .help = (help_text), ##__VA_ARGS__                                                   \
	}

static const struct option_spec options[] = {
	ROW('e', "engine", "NAME", OPTION_STRING, &got.engine, "engine to run on (default soft)"),
	ROW('v', "vcpus", "N", OPTION_UINT, &got.vcpus, "virtual processors, 1 to 16", .min = 1, .max = 16,
	    .given = &got.vcpus_given),
	ROW('b', "bytes", "BYTES", OPTION_SIZE, &got.bytes,
	    "memory under test: a help text that is too long for one line of eighty columns and is folded", .min = 4096,
	    .max = 1ull << 40),
	ROW(0, "seed", "N", OPTION_U64, &got.seed, "what the plan is drawn from"),
	ROW('t', "time", "TIME", OPTION_TIME, &got.time, "how long", .min = 1000000, .max = 3600000000000ull),
	ROW('q', "quiet", NULL, OPTION_FLAG, &got.quiet, "say less"),
	ROW('a', "all-of-them", NULL, OPTION_FLAG, &got.all, "everything", .no_env = true),
};

static const struct command_spec command = {
	.name = "tain test",
	.summary = "Try the options.",
	.args = "GUEST [ARGS]",
	.description = "First line.\nSecond line.",
	.options = options,
	.nr_options = ARRAY_SIZE(options),
	.min_args = 0,
	.max_args = 2,
};

/* Split @line at blanks and parse it. @rest: the arguments, joined with commas. */
static int parse(const char *line, char *rest, struct err *err)
{
	char buf[256], *argv[32], *save = NULL;
	int argc = 0, first = 0, ret;
	u64 given;

	memset(&got, 0, sizeof(got));
	err->text[0] = '\0';
	rest[0] = '\0';
	snprintf(buf, sizeof(buf), "test %s", line);
	for (char *word = strtok_r(buf, " ", &save); word; word = strtok_r(NULL, " ", &save))
		argv[argc++] = word;
	argv[argc] = NULL;
	ret = option_parse(&command, argc, argv, &first, &given, err);
	for (int i = first; !ret && i < argc && argv[i]; i++)
		sprintf(rest + strlen(rest), "%s%s", i > first ? "," : "", argv[i]);
	got.engine = got.engine ? strcmp(got.engine, "kvm") ? "other" : "kvm" : NULL; /* buf is gone */
	return ret;
}

static void good_lines(void)
{
	static const struct {
		const char *line, *rest;
		unsigned int vcpus;
		u64 seed, bytes, time;
		bool quiet, all, kvm;
	} table[] = {
		{ "", "", 0, 0, 0, 0, false, false, false },
		{ "-v 4", "", 4, 0, 0, 0, false, false, false },
		{ "-v4 -q", "", 4, 0, 0, 0, true, false, false },
		{ "-qav 16", "", 16, 0, 0, 0, true, true, false },
		{ "--vcpus=2 --vcpus 3", "", 3, 0, 0, 0, false, false, false },
		{ "--seed 0x10 --bytes 64K", "", 0, 16, 65536, 0, false, false, false },
		{ "--seed 18446744073709551615", "", 0, ~0ull, 0, 0, false, false, false },
		{ "-t 500ms --all-of-them", "", 0, 0, 0, 500000000, false, true, false },
		{ "hello -q world -e kvm", "hello,world", 0, 0, 0, 0, true, false, true },
		{ "--engine=kvm hello", "hello", 0, 0, 0, 0, false, false, true },
		{ "hello -- -v 99 --foo", "hello,-v,99,--foo", 0, 0, 0, 0, false, false, false },
		{ "-q -- hello", "hello", 0, 0, 0, 0, true, false, false },
		{ "- -q", "-", 0, 0, 0, 0, true, false, false },
		{ "--", "", 0, 0, 0, 0, false, false, false },
	};
	struct err err;
	char rest[256];

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		int ret = parse(table[i].line, rest, &err);

		CHECK_MSG(ret == 0, "'%s': %d, %s", table[i].line, ret, err.text);
		CHECK_STR(rest, table[i].rest);
		CHECK_EQ(got.vcpus, table[i].vcpus);
		CHECK_EQ(got.vcpus_given, table[i].vcpus != 0);
		CHECK_EQ(got.seed, table[i].seed);
		CHECK_EQ(got.bytes, table[i].bytes);
		CHECK_EQ(got.time, table[i].time);
		CHECK_EQ(got.quiet, table[i].quiet);
		CHECK_EQ(got.all, table[i].all);
		CHECK_EQ(got.engine != NULL, table[i].kvm);
	}
}

static void bad_lines(void)
{
	static const struct {
		const char *line, *text;
	} table[] = {
		{ "--vcpu 4", "unknown option --vcpu; did you mean --vcpus?" },
		{ "--engin=kvm", "unknown option --engin; did you mean --engine?" },
		{ "--frobnicate", "unknown option --frobnicate; see tain test --help" },
		{ "-x", "unknown option -x; see tain test --help" },
		{ "-qx", "unknown option -x; see tain test --help" },
		{ "--vcpus", "option --vcpus needs a value, N" },
		{ "-b", "option -b needs a value, BYTES" },
		{ "--quiet=1", "option --quiet takes no value" },
		{ "-v 0", "-v: '0' is out of range, 1 to 16" },
		{ "--vcpus=17", "--vcpus: '17' is out of range, 1 to 16" },
		{ "-v four", "-v: 'four' is not a number" },
		{ "-v -1", "-v: '-1' is not a number" },
		{ "-v 4294967297", "-v: '4294967297' is too large" },
		{ "--seed 18446744073709551616", "--seed: '18446744073709551616' is too large" },
		{ "-b 0", "-b: '0' is out of range, 4K to 1T" },
		{ "-b 10Q", "-b: '10Q' is not a size (4096, 64K, 16M, 1G)" },
		{ "-b 99999999999T", "-b: '99999999999T' is too large" },
		{ "-t 10x", "-t: '10x' is not a time (10s, 500ms, 2m)" },
		{ "-t 2h", "-t: '2h' is out of range, 1ms to 1h" },
		{ "a b c", "unexpected argument 'c'; see tain test --help" },
	};
	struct err err;
	char rest[256];

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		CHECK_EQ(parse(table[i].line, rest, &err), -EINVAL);
		CHECK_STR(err.text, table[i].text);
	}
}

static void help_and_missing_arguments(void)
{
	char name[] = "run", *argv[] = { name, NULL };
	struct command_spec needs = command;
	struct err err;
	char rest[256];
	u64 given;
	int first;

	CHECK_EQ(parse("--help", rest, &err), 1);
	CHECK_EQ(parse("-v 2 -h", rest, &err), 1);
	CHECK_EQ(parse("-- --help", rest, &err), 0);
	needs.min_args = 1;
	CHECK_EQ(option_parse(&needs, 1, argv, &first, &given, &err), -EINVAL);
	CHECK_STR(err.text, "missing argument; usage: tain test [OPTIONS] GUEST [ARGS]");
}

static const struct option_spec choosy[] = {
	ROW('e', "engine", "NAME", OPTION_STRING, &got.engine, "engine"),
	ROW('a', "all", NULL, OPTION_FLAG, &got.all, "everything"),
	ROW(0, "seed", "N", OPTION_U64, &got.seed, "with all", .with = "all"),
	ROW(0, "time", "TIME", OPTION_TIME, &got.time, "without", .without = "all"),
	ROW(0, "bytes", "BYTES", OPTION_SIZE, &got.bytes, "of Linux", .engines = "kvm qemu"),
};

/* @line on @engine, with @variable in the environment. Return: the complaint, or "". */
static const char *choose(const char *line, const char *engine, const char *variable)
{
	static struct err err;
	struct command_spec spec = { .name = "tain test", .options = choosy, .nr_options = ARRAY_SIZE(choosy) };
	char buf[64], *argv[8], *save = NULL;
	int argc = 0, first;
	u64 given = 0;

	err.text[0] = '\0';
	snprintf(buf, sizeof(buf), "test %s", line);
	for (char *word = strtok_r(buf, " ", &save); word; word = strtok_r(NULL, " ", &save))
		argv[argc++] = word;
	argv[argc] = NULL;
	if (*variable)
		setenv(variable, "1", 1);
	if (!option_parse(&spec, argc, argv, &first, &given, &err))
		option_check_engine(&spec, given, engine, &err);
	if (*variable)
		unsetenv(variable);
	return err.text;
}

static void useless_options_are_refused(void)
{
	static const struct {
		const char *line, *engine, *variable, *says;
	} table[] = {
		{ "", "soft", "", "" },
		{ "-a --seed 1", "soft", "", "" },
		{ "--seed 1 --all", "soft", "", "" },
		{ "--seed 1", "soft", "TAIN_ALL", "" },
		{ "--seed 1", "soft", "", "--seed: only with --all" },
		{ "", "soft", "TAIN_SEED", "" },
		{ "--time 1s", "soft", "", "" },
		{ "--time 1s -a", "soft", "", "--time: not with --all" },
		{ "--time 1s", "soft", "TAIN_ALL", "--time: not with --all" },
		{ "-a", "soft", "TAIN_TIME", "" },
		{ "--bytes 4K", "kvm", "", "" },
		{ "--bytes 4K", "qemu", "", "" },
		{ "--bytes 4K", "soft", "", "--bytes: engine soft has no use for it; it is for kvm qemu" },
		{ "--bytes 4K", "kv", "", "--bytes: engine kv has no use for it; it is for kvm qemu" },
		{ "--bytes 4K", "kvm qemu", "", "--bytes: engine kvm qemu has no use for it; it is for kvm qemu" },
		{ "", "soft", "TAIN_BYTES", "" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		const char *said = choose(table[i].line, table[i].engine, table[i].variable);

		CHECK_MSG(!strcmp(said, table[i].says), "'%s' on %s with '%s': '%s'", table[i].line, table[i].engine,
			  table[i].variable, said);
	}
}

static void environment_is_read_and_the_line_wins(void)
{
	struct err err;
	char rest[256];

	setenv("TAIN_VCPUS", "5", 1);
	setenv("TAIN_QUIET", "yes", 1);
	setenv("TAIN_ALL_OF_THEM", "1", 1); /* no_env */
	setenv("TAIN_SEED", "", 1);
	CHECK_EQ(parse("", rest, &err), 0);
	CHECK_EQ(got.vcpus, 5);
	CHECK(got.vcpus_given);
	CHECK(got.quiet);
	CHECK(!got.all);
	CHECK_EQ(parse("-v 6", rest, &err), 0);
	CHECK_EQ(got.vcpus, 6);
	setenv("TAIN_VCPUS", "many", 1);
	CHECK_EQ(parse("-v 6", rest, &err), 0);
	CHECK_EQ(parse("", rest, &err), -EINVAL);
	CHECK_STR(err.text, "TAIN_VCPUS: 'many' is not a number");
	unsetenv("TAIN_VCPUS");
	setenv("TAIN_QUIET", "perhaps", 1);
	CHECK_EQ(parse("", rest, &err), -EINVAL);
	CHECK_STR(err.text, "TAIN_QUIET: 'perhaps' is not one of 1 0 yes no true false on off");
	unsetenv("TAIN_QUIET");
	unsetenv("TAIN_ALL_OF_THEM");
	unsetenv("TAIN_SEED");
}

static void collect(const char *text, void *arg)
{
	char *all = arg;

	CHECK_LE(strlen(text), 80);
	sprintf(all + strlen(all), "%s\n", text);
}

static void help_is_aligned(void)
{
	static const char expected[] =
		"Usage: tain test [OPTIONS] GUEST [ARGS]\n"
		"Try the options.\n"
		"\n"
		"First line.\n"
		"Second line.\n"
		"\n"
		"Options:\n"
		"  -e, --engine NAME  engine to run on (default soft)\n"
		"  -v, --vcpus N      virtual processors, 1 to 16\n"
		"  -b, --bytes BYTES  memory under test: a help text that is too long for one\n"
		"                     line of eighty columns and is folded\n"
		"      --seed N       what the plan is drawn from\n"
		"  -t, --time TIME    how long\n"
		"  -q, --quiet        say less\n"
		"  -a, --all-of-them  everything\n"
		"  -h, --help         show this text\n"
		"\n"
		"An option can also be set in the environment: --some-name as TAIN_SOME_NAME; not\n"
		"--all-of-them.\n";
	char all[4096] = "";

	option_help(&command, collect, all);
	CHECK_STR(all, expected);
}

static void sizes_and_times(void)
{
	static const struct {
		const char *text;
		int ret;
		u64 value;
	} sizes[] = {
		{ "0", 0, 0 },		   { "4096", 0, 4096 },	       { "4k", 0, 4096 },
		{ "4KiB", 0, 4096 },	   { "2MB", 0, 2 << 20 },      { "3G", 0, 3ull << 30 },
		{ "1T", 0, 1ull << 40 },   { "0x1000", 0, 4096 },      { "16777216T", -ERANGE, 0 },
		{ "16777215T", 0, 16777215ull << 40 },		       { "", -EINVAL, 0 },
		{ "K", -EINVAL, 0 },	   { "-4K", -EINVAL, 0 },      { " 4K", -EINVAL, 0 },
		{ "4KK", -EINVAL, 0 },	   { "4.5K", -EINVAL, 0 },     { "99999999999999999999", -ERANGE, 0 },
	}, times[] = {
		{ "10s", 0, 10000000000 }, { "500ms", 0, 500000000 },  { "2m", 0, 120000000000 },
		{ "1h", 0, 3600000000000 },{ "7us", 0, 7000 },	       { "7ns", 0, 7 },
		{ "10", 0, 10000000000 },  { "0.5s", 0, 500000000 },   { "1.5ms", 0, 1500000 },
		{ "0.000000001s", 0, 1 },  { "0s", 0, 0 },	       { "", -EINVAL, 0 },
		{ "s", -EINVAL, 0 },	   { "-1s", -EINVAL, 0 },      { "1 s", -EINVAL, 0 },
		{ "1d", -EINVAL, 0 },	   { "6000000h", -ERANGE, 0 }, { "99999999999999999999s", -ERANGE, 0 },
	};
	u64 value;

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		value = 0;
		CHECK_MSG(parse_size(sizes[i].text, &value) == sizes[i].ret && value == sizes[i].value,
			  "size '%s' gives %llu", sizes[i].text, (unsigned long long)value);
	}
	for (size_t i = 0; i < ARRAY_SIZE(times); i++) {
		value = 0;
		CHECK_MSG(parse_time(times[i].text, &value) == times[i].ret && value == times[i].value,
			  "time '%s' gives %llu", times[i].text, (unsigned long long)value);
	}
}

static void formatting_parses_back(void)
{
	static const struct {
		u64 value;
		const char *size, *time;
	} table[] = {
		{ 0, "0", "0s" },
		{ 4096, "4K", "4096ns" },
		{ 5000, "5000", "5us" },
		{ 3ull << 30, "3G", "3221225472ns" },
		{ 90000000000, NULL, "90s" },
		{ 120000000000, NULL, "2m" },
	};
	char text[32];
	u64 value;

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		format_size(table[i].value, text, sizeof(text));
		if (table[i].size)
			CHECK_STR(text, table[i].size);
		CHECK_EQ(parse_size(text, &value), 0);
		CHECK_EQ(value, table[i].value);
		format_time(table[i].value, text, sizeof(text));
		CHECK_STR(text, table[i].time);
		CHECK_EQ(parse_time(text, &value), 0);
		CHECK_EQ(value, table[i].value);
	}
}

static void nearest_names(void)
{
	static const char *const names[] = { "munmap", "mremap", "mprotect", "dontneed", "remap", "kvm", "soft", NULL };
	static const struct {
		const char *word, *near;
	} table[] = {
		{ "munmp", "munmap" },
		{ "mumnap", "munmap" },
		{ "kmv", "kvm" },
		{ "KVM", "kvm" },
		{ "sfot", "soft" },
		{ "dont", "dontneed" },
		{ "mprot", "mprotect" },
		{ "remapp", "remap" },
		{ "qemu", NULL },
		{ "", NULL },
		{ "x", NULL },
		{ "zzzzzzzzzz", NULL },
		{ "a word far too long to be any of them at all", NULL },
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		CHECK_STR(option_nearest(table[i].word, names), table[i].near);
}

const struct test_case lib_option_tests[] = {
	TEST(good_lines),
	TEST(bad_lines),
	TEST(help_and_missing_arguments),
	TEST(useless_options_are_refused),
	TEST(environment_is_read_and_the_line_wins),
	TEST(help_is_aligned),
	TEST(sizes_and_times),
	TEST(formatting_parses_back),
	TEST(nearest_names),
	TEST_END,
};
