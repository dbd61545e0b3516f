/* SPDX-License-Identifier: MIT */
/* tain stress --shard, tain merge: a campaign in parts, what comes of them together, and what is refused. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/rng.h"
#include "tests/cmd_env.h"
#include "tests/cmd_suites.h"

static void write_text(const char *name, const char *text)
{
	tain_write_file(name, text, strlen(text));
}

/* Shard I of 3 of seed 7, 40 operations together, as I.json. */
static void run_shard(const char *shard, const char *json, const char *plan)
{
	const struct tain_run *r = TAIN("stress", "-q", "-b", "256K", "-i", "40", "--ops", "munmap,remap", "--seed",
					"7", "--shard", shard, "--json", json, "--save-plan", plan);

	CHECK_MSG(!r->status, "%s: exit status %d; stderr '%s'", r->name, r->status, r->err.text);
}

static void run_shards(void)
{
	run_shard("1/3", "1.json", "p1.json");
	run_shard("2/3", "2.json", "p2.json");
	run_shard("3/3", "3.json", "p3.json");
}

static u64 operations(const char *name)
{
	json_t *ops = json_object_get(tain_json_file(name), "host_ops");

	return json_u64(ops, "munmap") + json_u64(ops, "remap");
}

static void shards_share_the_operations(void)
{
	json_t *doc, *options;

	run_shards();
	CHECK_EQ(operations("1.json"), 13);
	CHECK_EQ(operations("2.json"), 13);
	CHECK_EQ(operations("3.json"), 14);
	doc = tain_json_file("2.json");
	options = json_object_get(doc, "options");
	CHECK_STR(json_text(options, "shard"), "2/3");
	CHECK_EQ(json_u64(options, "campaign_seed"), 7);
	CHECK_EQ(json_u64(options, "iterations"), 40);
	CHECK_EQ(json_u64(doc, "seed"), 37679817916237);
	CHECK_EQ(json_u64(doc, "status"), 0);
}

/* With its own seed and nothing else of the campaign, or as the shard again: the same steps. */
static void a_shard_is_repeated_alone(void)
{
	const struct tain_run *r;
	json_t *steps;

	run_shard("2/3", "2.json", "p2.json");
	run_shard("2/3", "again.json", "again.plan");
	r = TAIN("stress", "-q", "-b", "256K", "-i", "13", "--ops", "munmap,remap", "--seed", "37679817916237",
		 "--save-plan", "alone.plan");
	CHECK_EQ(r->status, 0);
	steps = json_object_get(tain_json_file("p2.json"), "steps");
	CHECK_EQ(json_array_size(steps), 13);
	CHECK(json_equal(steps, json_object_get(tain_json_file("again.plan"), "steps")));
	CHECK(json_equal(steps, json_object_get(tain_json_file("alone.plan"), "steps")));
}

/* The steps of a file, in order, each in one shard. */
static void a_plan_is_dealt_out(void)
{
	const struct tain_run *r;
	json_t *all = json_array();

	run_shard("1/1", "1.json", "p.json");
	for (int i = 1; i <= 3; i++) {
		char shard[16];

		snprintf(shard, sizeof(shard), "%d/3", i);
		r = TAIN("stress", "--plan", "p.json", "--shard", shard, "--save-plan", "part.json", "--json",
			 "r.json");
		CHECK_MSG(!r->status, "%s: '%s'", r->name, r->err.text);
		CHECK_CONTAINS(r->out.text, " steps of p.json\nshard ");
		json_array_extend(all, json_object_get(tain_json_file("part.json"), "steps"));
	}
	CHECK(json_equal(all, json_object_get(tain_json_file("p.json"), "steps")));
	json_decref(all);
	r = TAIN("stress", "--plan", "p.json", "--shard", "1/41");
	CHECK_EQ(r->status, 2);
	CHECK_STR(r->err.text, "tain: --shard 1/41: p.json has 40 steps; use at most as many shards\n");
}

static void bad_shards(void)
{
	check_refused(TAIN("stress", "--shard", "1/3"), 2, "--shard: needs --seed N, the same for every shard");
	check_refused(TAIN("stress", "--seed", "1", "--shard", "4/3"), 2,
		      "--shard: '4/3': shards are numbered 1/3 to 3/3");
	check_refused(TAIN("stress", "--seed", "1", "--shard", "x"), 2, "--shard: 'x' is not I/K, such as 3/8");
	check_refused(TAIN("stress", "--seed", "1", "-i", "2", "--shard", "1/3"), 2,
		      "--shard 1/3: -i 2 leaves nothing for it; use at most as many shards");
}

static void shards_merge(void)
{
	const struct tain_run *r;
	json_t *doc;
	u64 checked = 0;

	run_shards();
	for (const char *const *name = WORDS("1.json", "2.json", "3.json"); *name; name++)
		checked += json_u64(tain_json_file(*name), "checked_accesses");
	r = TAIN("merge", "1.json", "2.json", "3.json", "--complete", "--json", "all.json");
	CHECK_EQ(r->status, 0);
	CHECK_STR(r->err.text, "");
	CHECK_CONTAINS(r->out.text, "tain merge: 3 results of stress: engine soft, MMU tain EPT, ");
	CHECK_CONTAINS(r->out.text, "\n  2/3         37679817916237 ");
	CHECK_CONTAINS(r->out.text, "\npassed\n");
	CHECK_EQ(operations("all.json"), 40);
	doc = tain_json_file("all.json");
	CHECK_EQ(json_u64(doc, "checked_accesses"), checked);
	CHECK_EQ(json_u64(doc, "status"), 0);
	CHECK_STR(json_text(doc, "engine"), "soft");
	CHECK_EQ(json_array_size(json_object_get(doc, "parts")), 3);
	/* to standard output, of a pipe, and of one that was merged before */
	r = TAIN("merge", "-q", "all.json", "--json", "-");
	CHECK_EQ(json_u64(tain_json(r->out.text), "checked_accesses"), checked);
	CHECK_STR(r->err.text, "");
}

static void what_is_missing_is_said(void)
{
	const struct tain_run *r;

	run_shards();
	r = TAIN("merge", "3.json", "1.json");
	CHECK_EQ(r->status, 0);
	CHECK_STR(r->err.text, "tain: warning: 1 of 3 shards of seed 7 is missing: 2\n");
	r = TAIN("merge", "3.json", "1.json", "--complete", "--json", "m.json");
	CHECK_EQ(r->status, 1);
	CHECK_CONTAINS(r->err.text, "tain: --complete: not all of it is there, see the warnings\n");
	CHECK_EQ(tain_count(r->out.text, "passed"), 0);
	CHECK_EQ(json_u64(tain_json_file("m.json"), "status"), 1);
	CHECK_EQ(json_array_size(json_object_get(tain_json_file("m.json"), "warnings")), 1);
}

static void refused(const struct tain_run *r, const char *says)
{
	CHECK_MSG(r->status == 2, "%s: exit status %d", r->name, r->status);
	CHECK_STR(r->out.text, "");
	CHECK_CONTAINS(r->err.text, says);
	CHECK_MSG(!strncmp(r->err.text, "tain: ", 6) && tain_count(r->err.text, "\n") == 1, "%s: '%s'", r->name,
		  r->err.text);
}

static void what_does_not_merge(void)
{
	run_shards();
	CHECK_EQ(TAIN("merge", "-q", "1.json", "2.json", "--json", "m.json")->status, 0);
	refused(TAIN("merge"), "tain: missing argument; usage: tain merge [OPTIONS] FILE...");
	refused(TAIN("merge", "1.json", "1.json"), "tain: 1.json holds the same run as 1.json: give each once");
	refused(TAIN("merge", "m.json", "2.json"), "tain: 2.json holds the same run as m.json: give each once");
	refused(TAIN("merge", "1.json", "absent"), "tain: cannot read absent: No such file or directory");
	refused(TAIN("merge", "1.json", "."), "tain: cannot read .: Is a directory");
	refused(TAIN("merge", "p1.json"), "tain: p1.json has the schema 'tain.plan/1', not 'tain.result/1'");
	refused(TAIN("merge", "/dev/zero"), "tain: /dev/zero is not JSON: line 1: ");
	refused(TAIN("merge", "/dev/null"), "tain: /dev/null is not JSON: line 1: ");
	write_text("t", "{\n\"schema\": \"tain.result/1\", \"seed\": 1, \"seed\": 2}");
	refused(TAIN("merge", "t"), "tain: t is not JSON: line 2: duplicate object key");
	write_text("t", "{\"schema\": \"tain.result/1\"}");
	refused(TAIN("merge", "1.json", "t"), "tain: t is no result: it does not say of which command");
	refused(TAIN("merge", "1.json", "2.json", "--json", "./2.json"),
		"tain: --json: ./2.json is one of the files to merge");
	CHECK_EQ(TAIN("merge", "-q", "1.json", "--json", "/dev/full")->status, 2);
	CHECK_EQ(
		TAIN_WITH((&(const struct tain_setup){ .out_path = "/dev/full" }), "merge", "1.json", "2.json")->status,
		1);
}

/* A file that nobody can hold in memory ends before the memory does. */
static void a_file_without_end(void)
{
	const struct tain_setup setup = {
		.before = WORDS("/bin/sh", "-c", "yes '' | \"$0\" \"$@\""),
	};

	refused(TAIN_WITH(&setup, "merge", "/dev/stdin"), "tain: /dev/stdin is no result: it has more than 256 MiB");
}

/* In the middle of the files: it ends without a word, and leaves nothing. */
static void a_signal_ends_it(void)
{
	const char *fifo = tain_path("fifo");
	struct tain_run *r;
	int fd = -1;

	if (mkfifo(fifo, 0600))
		BUG("mkfifo: %s", strerror(errno));
	r = tain_start(NULL, WORDS("merge", "fifo", "--json", "m.json"));
	/* there is a reader from the moment that it opens the file */
	for (u64 start = clock_ns(); fd < 0 && clock_ns() - start < 40 * NSEC_PER_SEC; tain_pause(1))
		fd = open(fifo, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
	CHECK_GE(fd, 0);
	kill(r->pid, SIGTERM);
	close(fd);
	tain_wait(r);
	CHECK_EQ(r->status, 143);
	CHECK_STR(r->err.text, "");
	CHECK_EQ(tain_dir_files(), 1);
}

/* A result of a run that found something, in the shortest words. */
static void write_found(const char *name, unsigned int seed, const char *kind, int status)
{
	char text[1024];

	snprintf(text, sizeof(text),
		 "{\"schema\": \"tain.result/1\", \"command\": \"stress\", \"engine\": \"kvm\", \"mmu\": \"KVM EPT\", "
		 "\"seed\": %u, \"status\": %d, \"elapsed_s\": 1, \"checked_accesses\": 5, \"faults\": 1, "
		 "\"plan\": \"/tmp/\\u001bp\", \"host\": \"node%u\", \"violations\": [{\"kind\": \"%s\", \"page\": 3, "
		 "\"what\": \"\\u001b[2Jtold\", \"text\": null, \"seed\": %u}]}",
		 seed, status, seed, kind, seed);
	write_text(name, text);
}

static void violations_show(void)
{
	const struct tain_run *r;

	run_shard("1/1", "0.json", "p.json");
	write_found("1.json", 1, "stale-read", 1);
	write_found("2.json", 2, "stall", 124);
	r = TAIN("merge", "0.json", "2.json");
	CHECK_EQ(r->status, 124);
	CHECK_EQ(tain_count(r->out.text, "passed"), 0);
	r = TAIN("merge", "0.json", "2.json", "1.json", "--json", "m.json");
	CHECK_EQ(r->status, 1);
	CHECK_CONTAINS(r->err.text, "tain: warning: mmu differs: tain EPT in 0.json, KVM EPT in 2.json\n");
	CHECK_CONTAINS(r->out.text, "tain merge: 3 results of stress: engine several, MMU several, ");
	/* nothing that a terminal would obey */
	CHECK_CONTAINS(r->out.text, "\nviolation 2: stale-read: ?[2Jtold\n  page 3 seed 1\n  on host node1, in 1.json, "
				    "with its trace\n  its steps again: tain stress --plan /tmp/?p\n");
	CHECK_EQ(json_u64(json_array_get(json_object_get(tain_json_file("m.json"), "violations"), 1), "part"), 2);
	CHECK_EQ(TAIN("merge", "-q", "m.json")->status, 1);
}

/* What merged is compared like any other: units are the passes of all parts. */
static void merged_results_compare(void)
{
	const struct tain_run *r;
	json_t *h;

	for (const char *const *name = WORDS("a.json", "b.json", "c.json", "d.json"); *name; name++)
		CHECK_EQ(TAIN("bench", "fault", "-q", "-b", "256K", "-i", "3", "--json", *name)->status, 0);
	CHECK_EQ(TAIN("merge", "-q", "a.json", "b.json", "--json", "ab.json")->status, 0);
	CHECK_EQ(TAIN("merge", "-q", "c.json", "d.json", "--json", "cd.json")->status, 0);
	r = TAIN("compare", "ab.json", "cd.json", "--phase", "0", "--json", "r.json");
	CHECK_MSG(!r->status, "%s", r->err.text);
	CHECK_STR(r->err.text, "");
	CHECK_CONTAINS(r->out.text, "\n  first_touch                p50    ns ");
	h = json_object_get(json_object_get(tain_json_file("ab.json"), "histograms"), "first_touch");
	CHECK_EQ(json_array_size(json_object_get(h, "blocks")), 6);
	CHECK_EQ(json_u64(h, "count"), 6 * 64);
	r = TAIN("compare", "ab.json", "a.json", "-q");
	CHECK_EQ(r->status, 0);
}

/* Bytes thrown into a result, and its end cut off: a line, or a document. */
static void spoiled_files(void)
{
	const char *given = getenv("TEST_SEED");
	u64 seed = given ? strtoull(given, NULL, 0) : 20261121;
	char text[16384];
	size_t bytes;
	FILE *file;

	CHECK_EQ(TAIN("bench", "fault", "-q", "-b", "4K", "-i", "1", "--json", "a.json")->status, 0);
	CHECK_EQ(TAIN("bench", "fault", "-q", "-b", "4K", "-i", "1", "--json", "b.json")->status, 0);
	file = fopen(tain_path("b.json"), "re");
	REQUIRE(file);
	bytes = fread(text, 1, sizeof(text), file);
	fclose(file);
	for (unsigned int i = 0; i < 40 && !test_failures(); i++) {
		const struct tain_run *r;
		char spoiled[sizeof(text)];
		struct rng rng;
		size_t n = bytes;

		rng_seed(&rng, rng_mix(seed, i));
		memcpy(spoiled, text, bytes);
		for (u64 k = rng_below(&rng, 4); k; k--)
			spoiled[rng_below(&rng, n)] = (char)rng_below(&rng, 256);
		if (!rng_below(&rng, 4))
			n = rng_below(&rng, n);
		tain_write_file("s", spoiled, n);
		r = TAIN("merge", "a.json", "s", "-q", "--json", "-");
		CHECK_MSG(r->status == 0 || r->status == 1 || r->status == 2, "seed %llu, turn %u: status %d, '%s'",
			  (unsigned long long)seed, i, r->status, r->err.text);
		if (r->status == 2)
			refused(r, "tain: ");
		else
			CHECK(tain_json(r->out.text) != NULL);
		tain_end_runs();
	}
}

const struct test_case cmd_merge_tests[] = {
	TEST(shards_share_the_operations),
	TEST(a_shard_is_repeated_alone),
	TEST(a_plan_is_dealt_out),
	TEST(bad_shards),
	TEST(shards_merge),
	TEST(what_is_missing_is_said),
	TEST(what_does_not_merge),
	TEST(a_file_without_end),
	TEST(a_signal_ends_it),
	TEST(violations_show),
	TEST(merged_results_compare),
	TEST(spoiled_files),
	TEST_END,
};
