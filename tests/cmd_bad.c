/* SPDX-License-Identifier: MIT */
/* What a user may get wrong on the command line: one line that says what, and nothing else happens. */
#include <string.h>
#include <sys/stat.h>

#include "tests/cmd_env.h"
#include "tests/cmd_suites.h"

struct refusal {
	const char *words[10];
	const char *says; /* as check_refused() wants it */
};

/* clang-format off */
static const struct refusal unknown_names[] = {
	{ { "strees" }, "unknown command 'strees', did you mean 'stress'?; see tain --help" },
	{ { "frobnicate" }, "unknown command 'frobnicate'; see tain --help" },
	{ { "help", "versoin" }, "unknown command 'versoin', did you mean 'version'?; see tain --help" },
	{ { "" }, "unknown command ''; see tain --help" },
	{ { "bench", "fualt" }, "unknown benchmark 'fualt', did you mean 'fault'?; see tain bench --help" },
	{ { "bench", "x" }, "unknown benchmark 'x'; see tain bench --help" },
	{ { "list", "engine" }, "there is no list of 'engine', did you mean 'engines'?; "
				"it is one of engines|guests|ops|backings|causes|disturbers|outside|mutants" },
	{ { "list", "x" }, "there is no list of 'x'; it is one of engines|guests|ops|backings|causes|disturbers|outside|mutants" },
	{ { "stress", "--engine", "sfot" }, "unknown engine 'sfot', did you mean 'soft'?; `tain list engines` names them" },
	{ { "run", "-e", "kvn", "hello" }, "unknown engine 'kvn', did you mean 'kvm'?; `tain list engines` names them" },
	{ { "bench", "fault", "-e", "xen" }, "unknown engine 'xen'; `tain list engines` names them" },
	{ { "stress", "-e", "" }, "unknown engine ''; `tain list engines` names them" },
	{ { "stress", "-e", "Soft" }, "unknown engine 'Soft', did you mean 'soft'?; `tain list engines` names them" },
	{ { "run", "helo" }, "unknown guest 'helo', did you mean 'hello'?; `tain list guests` names them" },
	{ { "run", "quux" }, "unknown guest 'quux'; `tain list guests` names them" },
	{ { "run", "" }, "unknown guest ''; `tain list guests` names them" },
	{ { "stress", "--ops", "munmp" }, "--ops: unknown operation 'munmp', did you mean 'munmap'?; "
					  "`tain list ops` names them" },
	{ { "stress", "--ops", "munmap,mprotekt" }, "--ops: unknown operation 'mprotekt', did you mean 'mprotect'?; "
						    "`tain list ops` names them" },
	{ { "stress", "--ops", "al" }, "--ops: unknown operation 'al', did you mean 'all'?; `tain list ops` names them" },
	{ { "stress", "--ops", "mlock" }, "--ops: unknown operation 'mlock'; `tain list ops` names them" },
	{ { "stress", "--ops", "" }, "--ops: empty name in the list of operations; `tain list ops` names them" },
	{ { "stress", "--ops", "munmap," }, "--ops: empty name in the list of operations; `tain list ops` names them" },
	{ { "stress", "--ops", ",,remap" }, "--ops: empty name in the list of operations; `tain list ops` names them" },
	{ { "stress", "-s", "anonymos" }, "unknown backing 'anonymos', did you mean 'anonymous'?; "
					  "`tain list backings` names them" },
	{ { "run", "-s", "memf", "hello" }, "unknown backing 'memf', did you mean 'memfd'?; `tain list backings` names them" },
	{ { "bench", "fault", "--clock", "us" }, "unknown clock 'us': ns or instructions" },
	{ { "bench", "fault", "-s", "tape" }, "unknown backing 'tape'; `tain list backings` names them" },
	{ { "stress", "--mutant", "k4-no-seq-chek" }, "unknown mutant 'k4-no-seq-chek', did you mean 'k4-no-seq-check'?; "
						      "`tain list mutants` names them" },
	{ { "stress", "--mutant", "bogus" }, "unknown mutant 'bogus'; `tain list mutants` names them" },
};

static const struct refusal sizes[] = {
	{ { "stress", "-b", "0" }, "a guest memory of 0 bytes; give at least one page (4K)" },
	{ { "run", "-b", "0K", "hello" }, "a guest memory of 0 bytes; give at least one page (4K)" },
	{ { "stress", "-b", "3" }, "3 bytes is not a multiple of the page size, 4K" },
	{ { "stress", "-b", "4097" }, "4097 bytes is not a multiple of the page size, 4K" },
	{ { "bench", "fault", "-b", "1023K" }, "1047552 bytes is not a multiple of the page size, 4K" },
	{ { "stress", "-b", "0xffffffffffffffff" }, "18446744073709551615 bytes is not a multiple of the page size, 4K" },
	{ { "stress", "-b", "0xfffffffffffff000" }, "17179869184.0 GiB, and what goes with it, is more than the ..." },
	{ { "run", "-b", "16777215T", "hello" }, "17179868160.0 GiB, and what goes with it, is more than the ..." },
	{ { "stress", "-b", "16777216T" }, "-b: '16777216T' is too large" },
	{ { "stress", "-b", "18446744073709551616" }, "-b: '18446744073709551616' is too large" },
	{ { "stress", "-b", "-4096" }, "-b: '-4096' is not a size (4096, 64K, 16M, 1G)" },
	{ { "stress", "--bytes=" }, "--bytes: '' is not a size (4096, 64K, 16M, 1G)" },
	{ { "stress", "-b", " 4K" }, "-b: ' 4K' is not a size (4096, 64K, 16M, 1G)" },
	{ { "stress", "-b", "4X" }, "-b: '4X' is not a size (4096, 64K, 16M, 1G)" },
	{ { "stress", "-b", "1.5M" }, "-b: '1.5M' is not a size (4096, 64K, 16M, 1G)" },
	{ { "stress", "-b", "4K4K" }, "-b: '4K4K' is not a size (4096, 64K, 16M, 1G)" },
	{ { "bench", "fault", "-v", "2", "-b", "4K" }, "fewer pages than vCPUs" },
	{ { "bench", "figures", "-b", "4K" }, "-b: '4K' is out of range, 1M to 18446744073709551615" },
	{ { "bench", "figures", "-b", "1048577" }, "1048577 bytes is not a multiple of the page size, 4K" },
	{ { "stress", "--arena", "4097" }, "an arena of 4097 bytes is not a multiple of the page size, 4K" },
	{ { "stress", "-b", "8M", "--arena", "8M" }, "an arena of 8388608 bytes is too small for 8388608 bytes of guest memory and 1280K beside them" },
	{ { "run", "--arena", "1M", "hello" }, "an arena of 1048576 bytes is too small for 67108864 bytes of guest memory and 2112K beside them" },
	{ { "stress", "--arena", "16777215T" }, "17179868160.0 GiB, and what goes with it, is more than the ..." },
};

static const struct refusal numbers[] = {
	{ { "stress", "-v", "0" }, "-v: '0' is out of range, 1 to 16" },
	{ { "stress", "-v", "17" }, "-v: '17' is out of range, 1 to 16" },
	{ { "stress", "--vcpus", "99" }, "--vcpus: '99' is out of range, 1 to 16" },
	{ { "stress", "-v4294967297" }, "-v: '4294967297' is too large" },
	{ { "stress", "-v", "-1" }, "-v: '-1' is not a number" },
	{ { "stress", "-v", "+1" }, "-v: '+1' is not a number" },
	{ { "stress", "-v", "" }, "-v: '' is not a number" },
	{ { "stress", "-v", "two" }, "-v: 'two' is not a number" },
	{ { "stress", "-v", "1x" }, "-v: '1x' is not a number" },
	{ { "stress", "-v", "1e1" }, "-v: '1e1' is not a number" },
	{ { "stress", "--seed", "x" }, "--seed: 'x' is not a number" },
	{ { "stress", "--seed", "-1" }, "--seed: '-1' is not a number" },
	{ { "stress", "--seed", "99999999999999999999" }, "--seed: '99999999999999999999' is too large" },
	{ { "stress", "--seed", "9223372036854775808" }, "--seed: '9223372036854775808' is out of range, "
							 "0 to 9223372036854775807" },
	{ { "stress", "-w", "101" }, "-w: '101' is out of range, 0 to 100" },
	{ { "stress", "--max-violations", "0" }, "--max-violations: '0' is out of range, 1 to 9223372036854775807" },
	{ { "bench", "fault", "-i", "0" }, "-i: '0' is out of range, 1 to 10000" },
	{ { "bench", "figures", "-i", "17" }, "-i: '17' is out of range, 1 to 16" },
	{ { "stress", "-t", "0" }, "-t: '0' is out of range, 1ns to ..." },
	{ { "stress", "-t", "0ms" }, "-t: '0ms' is out of range, 1ns to ..." },
	{ { "stress", "-t", "5x" }, "-t: '5x' is not a time (10s, 500ms, 2m)" },
	{ { "stress", "-t", "-1s" }, "-t: '-1s' is not a time (10s, 500ms, 2m)" },
	{ { "stress", "-t", "ten" }, "-t: 'ten' is not a time (10s, 500ms, 2m)" },
	{ { "stress", "-t", "" }, "-t: '' is not a time (10s, 500ms, 2m)" },
	{ { "stress", "-t", "1 s" }, "-t: '1 s' is not a time (10s, 500ms, 2m)" },
	{ { "stress", "-t", "99999999999999999999h" }, "-t: '99999999999999999999h' is too large" },
	{ { "stress", "--stall", "1ms" }, "--stall: '1ms' is out of range, 1s to ..." },
	{ { "stress", "-c", "" }, "'' is no list of processors such as 0,2,4-7" },
	{ { "stress", "-c", "0," }, "'0,' is no list of processors such as 0,2,4-7" },
	{ { "stress", "-c", "1-0" }, "'1-0' is no list of processors such as 0,2,4-7" },
	{ { "stress", "-c", "-1" }, "'-1' is no list of processors such as 0,2,4-7" },
	{ { "stress", "-c", " 0" }, "' 0' is no list of processors such as 0,2,4-7" },
	{ { "stress", "-c", "0-+1" }, "'0-+1' is no list of processors such as 0,2,4-7" },
	{ { "stress", "-c", "0-" }, "'0-' is no list of processors such as 0,2,4-7" },
	{ { "stress", "-c", "a" }, "'a' is no list of processors such as 0,2,4-7" },
	{ { "stress", "-c", "0 1" }, "'0 1' is no list of processors such as 0,2,4-7" },
	{ { "stress", "-c", "99999999999999999999" }, "'99999999999999999999' is no list of processors such as 0,2,4-7" },
	{ { "run", "-c", "1023", "hello" }, "processor 1023 does not exist or is not allowed here" },
};

static const struct refusal words[] = {
	{ { "run" }, "missing argument; usage: tain run [OPTIONS] GUEST [-- ARGUMENTS]" },
	{ { "run", "--", "hello" }, "missing argument; usage: tain run [OPTIONS] GUEST [-- ARGUMENTS]" },
	{ { "run", "hello", "exit=1" }, "unexpected argument 'exit=1'; see tain run --help" },
	{ { "run", "touch" }, "guest touch obeys a host's commands: run it with `tain bench fault`" },
	{ { "run", "stamp" }, "guest stamp needs an oracle: run it with `tain stress`" },
	{ { "list" }, "missing argument; usage: tain list [OPTIONS] engines|guests|ops|backings|causes|disturbers|outside|mutants" },
	{ { "list", "engines", "guests" }, "unexpected argument 'guests'; see tain list --help" },
	{ { "bench" }, "missing argument; usage: tain bench ..." },
	{ { "stress", "kvm" }, "unexpected argument 'kvm'; see tain stress --help" },
	{ { "version", "x" }, "unexpected argument 'x'; see tain version --help" },
	{ { "doctor", "-" }, "unexpected argument '-'; see tain doctor --help" },
	{ { "stress", "--vcpu", "1" }, "unknown option --vcpu; did you mean --vcpus?" },
	{ { "stress", "--engin=kvm" }, "unknown option --engin; did you mean --engine?" },
	{ { "stress", "--frobnicate" }, "unknown option --frobnicate; see tain stress --help" },
	{ { "stress", "-Z" }, "unknown option -Z; see tain stress --help" },
	{ { "stress", "-qZ" }, "unknown option -Z; see tain stress --help" },
	{ { "stress", "-v" }, "option -v needs a value, N" },
	{ { "stress", "--json" }, "option --json needs a value, FILE" },
	{ { "stress", "--quiet=yes" }, "option --quiet takes no value" },
	{ { "-x" }, "unknown command '-x'; see tain --help" },
	{ { "stress", "--arena", "64M", "-s", "memf" }, "unknown backing 'memf', did you mean 'memfd'?; "
							"`tain list backings` names them" },
	{ { "stress", "--json", "" }, "--json: an empty file name" },
	{ { "stress", "--json", "." }, "--json: . is a directory" },
	{ { "stress", "--json", "/" }, "--json: / is a directory" },
	{ { "stress", "--json", "missing/x" }, "--json: cannot write to missing: No such file or directory" },
	{ { "bench", "fault", "--json", "/dev/null/x" }, "--json: cannot write to /dev/null: Not a directory" },
	{ { "bench", "figures", "--json", "missing/x" }, "--json: cannot write to missing: No such file or directory" },
	{ { "doctor", "--json", "missing/x" }, "--json: cannot write to missing: No such file or directory" },
	{ { "doctor", "--json", "/proc" }, "--json: /proc is a directory" },
};

/* What would be ignored is refused, whether or not the engine can run here. */
static const struct refusal useless[] = {
	{ { "stress", "-e", "kvm", "--audit", "4" }, "--audit: engine kvm has no use for it; it is for soft" },
	{ { "stress", "-e", "kvm", "--arena", "64M" }, "--arena: engine kvm has no use for it; it is for soft" },
	{ { "stress", "-e", "kvm", "--accel", "tcg" }, "--accel: engine kvm has no use for it; it is for qemu" },
	{ { "stress", "-e", "kvm", "--machine", "q35" }, "--machine: engine kvm has no use for it; it is for qemu" },
	{ { "stress", "--connect", "foo" }, "--connect: engine soft has no use for it; it is for qemu" },
	{ { "stress", "--uffd", "inline" }, "--uffd: engine soft has no use for it; it is for kvm" },
	{ { "stress", "-e", "qemu", "--uffd", "inline" }, "--uffd: engine qemu has no use for it; it is for kvm" },
	{ { "stress", "-e", "qemu", "--arena", "64M" }, "--arena: engine qemu has no use for it; it is for soft" },
	{ { "stress", "--shrink-time", "3s" }, "--shrink-time: only with --shrink" },
	{ { "stress", "--repeat", "0" }, "--repeat: only with --plan" },
	{ { "run", "--accel", "tcg", "hello" }, "--accel: engine soft has no use for it; it is for qemu" },
	{ { "run", "-e", "kvm", "--arena", "64M", "hello" }, "--arena: engine kvm has no use for it; it is for soft" },
	{ { "bench", "fault", "--machine", "pc" }, "--machine: engine soft has no use for it; it is for qemu" },
	{ { "bench", "fault", "--placement", "vcpu" }, "--placement: only with --uffd" },
	{ { "bench", "fault", "--window", "1" }, "--window: only with --uffd" },
	{ { "bench", "fault", "--demand-paging-test", "x" }, "--demand-paging-test: only with --uffd" },
	{ { "bench", "figures", "-e", "qemu", "--demand-paging-test", "x" }, "--demand-paging-test: not with --engine" },
	{ { "compare", "a", "b", "--rounds", "3" }, "--rounds: only with --run" },
	{ { "compare", "a", "b", "--timeout", "3s" }, "--timeout: only with --run" },
	{ { "compare", "a", "b", "--seed", "3" }, "--seed: only with --run" },
	{ { "compare", "--run", "a", "b", "--phase", "3s" }, "--phase: not with --run" },
	{ { "compare", "--run", "a", "b", "--controls", "x" }, "--controls: not with --run" },
};
/* clang-format on */

static void check_table(const struct refusal *table, size_t n)
{
	for (size_t i = 0; i < n; i++)
		check_refused(tain_run(NULL, table[i].words), 2, table[i].says);
}

static void unknown_names_get_the_nearest(void)
{
	check_table(unknown_names, ARRAY_SIZE(unknown_names));
}

static void sizes_are_checked(void)
{
	check_table(sizes, ARRAY_SIZE(sizes));
}

static void numbers_are_checked(void)
{
	check_table(numbers, ARRAY_SIZE(numbers));
}

static void words_are_checked(void)
{
	check_table(words, ARRAY_SIZE(words));
}

static void useless_options_are_refused(void)
{
	check_table(useless, ARRAY_SIZE(useless));
}

/* It is for many runs: what one of them has no use for is another's. */
static void the_environment_may_say_too_much(void)
{
	const struct tain_setup setup = { .env = WORDS("TAIN_ACCEL=tcg", "TAIN_MACHINE=q35", "TAIN_CONNECT=foo",
						       "TAIN_UFFD=inline", "TAIN_SHRINK_TIME=3s", "TAIN_REPEAT=3") };

	CHECK_EQ(TAIN_WITH(&setup, "stress", "-q", "-i", "10", "--ops", "munmap")->status, 0);
}

static void a_release_names_the_build_that_has_mutants(void)
{
	static const char *const mutants[] = { "k4-no-seq-check", "k4-check-before-lock", "k12-no-flush",
					       "k23-no-wait" };

	if (CHECKING) {
		test_skip("this build has the mutants");
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(mutants); i++) {
		const struct tain_run *r = TAIN("stress", "--mutant", mutants[i]);

		check_refused(r, 2, "mutant ...");
		CHECK_CONTAINS(r->err.text, mutants[i]);
		CHECK_CONTAINS(r->err.text, "`make prove` makes build/prove/tain, which has");
	}
}

static void the_environment_is_checked_too(void)
{
	static const struct {
		const char *variable, *says;
	} table[] = {
		{ "TAIN_ENGINE=kvn", "unknown engine 'kvn', did you mean 'kvm'?; `tain list engines` names them" },
		{ "TAIN_VCPUS=0", "TAIN_VCPUS: '0' is out of range, 1 to 16" },
		{ "TAIN_BYTES=4X", "TAIN_BYTES: '4X' is not a size (4096, 64K, 16M, 1G)" },
		{ "TAIN_TIME=soon", "TAIN_TIME: 'soon' is not a time (10s, 500ms, 2m)" },
		{ "TAIN_SEED=x", "TAIN_SEED: 'x' is not a number" },
		{ "TAIN_OPS=mumap",
		  "--ops: unknown operation 'mumap', did you mean 'munmap'?; `tain list ops` names them" },
		{ "TAIN_WRITE_PERCENT=200", "TAIN_WRITE_PERCENT: '200' is out of range, 0 to 100" },
		{ "TAIN_NO_TRACE=maybe", "TAIN_NO_TRACE: 'maybe' is not one of 1 0 yes no true false on off" },
		{ "TAIN_MUTANT=bogus", "unknown mutant 'bogus'; `tain list mutants` names them" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		const struct tain_setup setup = { .env = WORDS(table[i].variable) };

		check_refused(TAIN_WITH(&setup, "stress"), 2, table[i].says);
	}
}

static void a_backing_that_an_engine_lacks(void)
{
	check_refused(TAIN("stress", "-s", "memfd"), 4,
		      "backing memfd: tain's mm has anonymous memory only; use --engine kvm");
	check_refused(TAIN("run", "-s", "memfd", "hello"), 4,
		      "backing memfd: tain's mm has anonymous memory only; use --engine kvm");
	check_refused(TAIN("bench", "fault", "-s", "memfd"), 4,
		      "backing memfd: tain's mm has anonymous memory only; use --engine kvm");
}

/* Large enough for the guest's memory, too small for what goes with it. */
static void an_arena_that_is_too_small(void)
{
	check_refused(TAIN("stress", "-b", "4M", "--arena", "4100K"), 2, "...");
	check_refused(TAIN("stress", "-b", "4K", "--arena", "8K"), 2, "...");
	check_refused(TAIN("bench", "fault", "-b", "4M", "--arena", "4100K"), 2, "...");
	check_refused(TAIN("run", "-b", "4K", "--arena", "8K", "counter"), 2, "...");
}

/* What was typed comes back on one line and changes no terminal. */
static void control_characters_are_not_echoed(void)
{
	check_refused(TAIN("stress", "-e", "a\nb\033[31m\r"), 2,
		      "unknown engine 'a?b?[31m?'; `tain list engines` names them");
	check_refused(TAIN("run", "./no\nfile"), 2, "./no?file: No such file or directory");
	check_refused(TAIN("\n"), 2, "unknown command '?'; see tain --help");
}

const struct test_case cmd_bad_tests[] = {
	TEST(unknown_names_get_the_nearest),
	TEST(sizes_are_checked),
	TEST(numbers_are_checked),
	TEST(words_are_checked),
	TEST(useless_options_are_refused),
	TEST(the_environment_may_say_too_much),
	TEST(a_release_names_the_build_that_has_mutants),
	TEST(the_environment_is_checked_too),
	TEST(a_backing_that_an_engine_lacks),
	TEST(an_arena_that_is_too_small),
	TEST(control_characters_are_not_echoed),
	TEST_END,
};
