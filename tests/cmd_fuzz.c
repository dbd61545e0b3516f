/* SPDX-License-Identifier: MIT */
/*
 * Words thrown together from a seed: whatever is typed, tain ends, neither by a signal
 * nor with a sanitizer's report, and its status says which way. TEST_SEED repeats or
 * varies a run; a failure prints the words.
 */
#include <stdlib.h>
#include <string.h>

#include "lib/rng.h"
#include "tests/cmd_env.h"
#include "tests/cmd_suites.h"

#define VECTORS (CHECKING && !PROVE ? 80 : 200)
#define WORDS_MAX 9

/* Real words, near misses, and what breaks parsers. Times and sizes that are valid are small. */
static const char *const words[] = {
	"run",
	"stress",
	"bench",
	"fault",
	"list",
	"doctor",
	"version",
	"man",
	"help",
	"engines",
	"guests",
	"ops",
	"backings",
	"mutants",
	"hello",
	"counter",
	"stamp",
	"touch",
	"--engine",
	"-e",
	"soft",
	"sofd",
	"kvm",
	"--ops",
	"munmap",
	"all",
	"remap,mremap",
	"remap,,all",
	"--vcpus",
	"-v",
	"1",
	"2",
	"0",
	"17",
	"--bytes",
	"-b",
	"4K",
	"64K",
	"1M",
	"3",
	"-4096",
	"0x1000",
	"16777216T",
	"--backing",
	"-s",
	"anonymous",
	"memfd",
	"--time",
	"-t",
	"20ms",
	"0.05s",
	"-1s",
	"1e3",
	"--seed",
	"-q",
	"--quiet",
	"--json",
	"-",
	"r.json",
	"/dev/full",
	"missing/x",
	"--mutant",
	"k12-no-flush",
	"k4-no-seq-check",
	"--mutant=x",
	"--delay",
	"-d",
	"10",
	"-w",
	"100",
	"-c",
	"0",
	"0-1",
	"0,,1",
	"--arena",
	"2M",
	"--audit",
	"--stall",
	"1s",
	"--no-trace",
	"--",
	"---",
	"-",
	"--=",
	"-=",
	"",
	" ",
	"\n",
	"%s%n",
	"\xff\xfe",
	"'",
	"--help",
	"-h",
	"--version",
	"exit=3",
	"passes=1",
	"--iterations",
	"-i",
	"--max-violations",
	"18446744073709551615",
	"9223372036854775808",
	"-vvv",
	"-qq",
	"-v2",
	"-b64K",
	"--vcpus=2",
	"--bytes=",
	"-eksoft",
	"TAIN_SEED=1",
	"--shard",
	"1/2",
	"0/2",
	"merge",
	"--complete",
	"x",
	"./r.json",
};

/* How a vector begins, and what several commands take: without them little would get past the parser. */
static const char *const beginnings[][2] = {
	{ "run", "hello" }, { "run", "counter" }, { "stress" },	 { "stress" }, { "bench", "fault" },
	{ "list", "ops" },  { "doctor" },	  { "version" }, { "man" },    { "merge" },
	{ NULL },
};

static const char *const pairs[][2] = {
	{ "-e", "soft" },  { "-e", "kvm" },	{ "-v", "2" },	    { "-b", "64K" },	    { "-s", "anonymous" },
	{ "-s", "memfd" }, { "--seed", "7" },	{ "--json", "-" },  { "--json", "r.json" }, { "-t", "20ms" },
	{ "-c", "0" },	   { "--arena", "4M" }, { "--ops", "all" }, { "-q", "-q" },	    { "-i", "2" },
};

/* So that whatever runs ends soon. */
static const char *const short_runs[] = {
	"TAIN_TIME=30ms", "TAIN_BYTES=64K", "TAIN_ITERATIONS=2", "TAIN_STALL=30s", NULL,
};

/* A word, or one with a letter changed, doubled or lost. */
static const char *make_word(struct rng *rng, char *room, size_t bytes)
{
	const char *word = words[rng_below(rng, ARRAY_SIZE(words))];
	size_t n = strlen(word), at;

	if (rng_below(rng, 6) || n < 2 || n + 2 > bytes)
		return word;
	at = rng_below(rng, n);
	memcpy(room, word, n + 1);
	switch (rng_below(rng, 3)) {
	case 0:
		room[at] = (char)(1 + rng_below(rng, 255));
		break;
	case 1:
		memmove(room + at + 1, room + at, n - at + 1);
		break;
	default:
		memmove(room + at, room + at + 1, n - at);
	}
	return strchr(room, '/') ? word : room; /* no file elsewhere than where the test looks */
}

static bool known_status(int status)
{
	static const int statuses[] = { 0, 1, 2, 3, 4, 124 }; /* 3: hello's own, asked for */

	for (size_t i = 0; i < ARRAY_SIZE(statuses); i++)
		if (status == statuses[i])
			return true;
	return false;
}

static void check_vector(const char *const *vector)
{
	const struct tain_setup setup = { .env = short_runs };
	const struct tain_run *r = tain_run(&setup, vector);

	CHECK_MSG(known_status(r->status), "%s: exit status %d; stderr '%s'", r->name, r->status, r->err.text);
	CHECK_MSG(r->status != 4 || r->err.bytes, "%s: skipped without a word", r->name);
	if (r->status != 2 || strstr(r->err.text, "Usage: ") || strstr(r->err.text, "cannot write"))
		return;
	CHECK_MSG(!r->out.bytes, "%s: refused, and stdout '%s'", r->name, r->out.text);
	CHECK_MSG(!strncmp(r->err.text, "tain: ", 6) && tain_count(r->err.text, "\n") == 1,
		  "%s: refused, and stderr '%s'", r->name, r->err.text);
}

/* Room for the words that were changed. */
struct vector {
	const char *word[WORDS_MAX + 2];
	char room[WORDS_MAX][32];
	unsigned int nr;
};

static void add_pair(struct vector *v, const char *const *pair)
{
	for (unsigned int i = 0; i < 2 && pair[i] && v->nr < WORDS_MAX; i++)
		v->word[v->nr++] = pair[i];
}

static void add_word(struct vector *v, struct rng *rng)
{
	v->word[v->nr] = make_word(rng, v->room[v->nr], sizeof(v->room[0]));
	v->nr++;
}

static void make_vector(struct vector *v, struct rng *rng)
{
	unsigned int n = (unsigned int)rng_below(rng, WORDS_MAX);

	memset(v, 0, sizeof(*v));
	add_pair(v, beginnings[rng_below(rng, ARRAY_SIZE(beginnings))]);
	while (v->nr < n) {
		if (rng_below(rng, 5))
			add_pair(v, pairs[rng_below(rng, ARRAY_SIZE(pairs))]);
		else
			add_word(v, rng);
	}
}

static void words_thrown_together(void)
{
	const char *given = getenv("TEST_SEED");
	u64 seed = given ? strtoull(given, NULL, 0) : 20261121;

	for (unsigned int i = 0; i < VECTORS && !test_failures(); i++) {
		struct vector v;
		struct rng rng;

		rng_seed(&rng, rng_mix(seed, i));
		make_vector(&v, &rng);
		check_vector(v.word);
		tain_end_runs();
	}
}

/* Every option of stress with every bad value: the parser's corners, one by one. */
static void every_option_with_bad_values(void)
{
	static const char *const options[] = { "-e",	 "--ops",   "-v",      "-b",	   "-s",
					       "-t",	 "-i",	    "--seed",  "-d",	   "-w",
					       "-c",	 "--arena", "--audit", "--mutant", "--max-violations",
					       "--stall" };
	static const char *const values[] = {
		"", " ", "-1", "99999999999999999999999", "0x", "1.5.5", "\xc3\x28", "a,b"
	};

	for (size_t i = 0; i < ARRAY_SIZE(options); i++)
		for (size_t j = 0; j < ARRAY_SIZE(values); j++) {
			const struct tain_run *r = TAIN("stress", options[i], values[j]);

			check_refused(r, 2, "...");
			tain_end_runs();
		}
}

const struct test_case cmd_fuzz_tests[] = {
	TEST(words_thrown_together),
	TEST(every_option_with_bad_values),
	TEST_END,
};
