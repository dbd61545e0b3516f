/* SPDX-License-Identifier: MIT */
/* tain bench: histograms that hold what they say. Times are not judged. */
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/cmd_env.h"
#include "tests/cmd_suites.h"

#define PAGES 256 /* 1M */
#define PASSES 2

/* Each also as NAME_random, but for tain's own host fault. */
static const char *const causes[] = {
	"overhead", "present", "host_present", "first_touch", "after_dontneed", "after_remap", "host_fault",
};

/* Buckets upwards, within the extremes, and as many samples in them as it says. */
static void check_buckets(json_t *h, const char *name)
{
	u64 sum = 0, last = 0, max = json_u64(h, "max");
	const char *key;
	json_t *count;
	bool first = true;

	json_object_foreach(json_object_get(h, "buckets"), key, count)
	{
		u64 low = strtoull(key, NULL, 10);

		CHECK_MSG(first || low > last, "%s: bucket %s comes after %llu", name, key, (unsigned long long)last);
		CHECK_MSG(low <= max, "%s: bucket %s, max %llu", name, key, (unsigned long long)max);
		CHECK_MSG(json_integer_value(count) > 0, "%s: bucket %s holds none", name, key);
		sum += (u64)json_integer_value(count);
		last = low;
		first = false;
	}
	CHECK_MSG(sum == json_u64(h, "count"), "%s: buckets hold %llu samples of %llu", name, (unsigned long long)sum,
		  (unsigned long long)json_u64(h, "count"));
}

/* One per pass; together they hold every sample. */
static void check_blocks(json_t *h, const char *name)
{
	json_t *blocks = json_object_get(h, "blocks"), *block;
	u64 sum = 0;
	size_t i;

	CHECK_MSG(json_array_size(blocks) == PASSES, "%s: %zu blocks", name, json_array_size(blocks));
	json_array_foreach(blocks, i, block)
	{
		check_keys(block, WORDS("count", "p50", "p99"));
		if (json_u64(block, "count") < 100)
			CHECK(json_is_null(json_object_get(block, "p99")));
		else
			CHECK_MSG(json_u64(block, "p50") <= json_u64(block, "p99"), "%s: block %zu", name, i);
		sum += json_u64(block, "count");
	}
	CHECK_MSG(sum == json_u64(h, "count"), "%s: blocks hold %llu samples", name, (unsigned long long)sum);
}

static void check_histogram(json_t *histograms, const char *name, u64 samples)
{
	static const struct {
		const char *key;
		u64 needed; /* samples */
	} order[] = { { "min", 1 },	{ "p50", 1 },	    { "p90", 10 }, { "p99", 100 },
		      { "p999", 1000 }, { "p9999", 10000 }, { "max", 1 } };
	json_t *h = json_object_get(histograms, name);
	u64 last = 0, now;

	if (!CHECK_MSG(h, "there is a histogram %s", name))
		return;
	check_keys(h, WORDS("unit", "count", "min", "p50", "p90", "p99", "p999", "p9999", "max", "buckets",
			    "resolution", "blocks"));
	CHECK_STR(json_text(h, "unit"), "ns");
	CHECK_GT(json_u64(h, "resolution"), 0);
	CHECK_MSG(json_u64(h, "count") == samples, "%s: %llu samples instead of %llu", name,
		  (unsigned long long)json_u64(h, "count"), (unsigned long long)samples);
	for (size_t i = 0; i < ARRAY_SIZE(order); i++) {
		if (samples < order[i].needed) {
			CHECK_MSG(json_is_null(json_object_get(h, order[i].key)), "%s: %s of %llu samples", name,
				  order[i].key, (unsigned long long)samples);
			continue;
		}
		now = json_u64(h, order[i].key);
		CHECK_MSG(last <= now, "%s: %s is %llu, what is below it %llu", name, order[i].key,
			  (unsigned long long)now, (unsigned long long)last);
		last = now;
	}
	check_buckets(h, name);
	check_blocks(h, name);
}

/* One sample per fault, of the guest and of the host alone, or a skip; and what makes the median. */
static void check_faults(json_t *doc, u64 vcpus)
{
	static const char *const certain[] = { "host_present", "first_touch", "after_dontneed",
					       "after_remap",  "zero_page",   "zero_cow",
					       "cow",	       "after_punch", "memslot",
					       "memslot_move" };
	json_t *histograms = json_object_get(doc, "histograms"), *shares = json_object_get(doc, "shares"), *one;
	u64 samples = PASSES * ((PAGES / vcpus + 7) / 8) * vcpus;
	const char *name;
	char text[48];

	for (size_t i = 0; i < ARRAY_SIZE(certain); i++) {
		snprintf(text, sizeof(text), "fault_%s", certain[i]);
		check_histogram(histograms, text, samples);
		snprintf(text, sizeof(text), "host_%s", certain[i]);
		check_histogram(histograms, text, samples);
		CHECK(json_object_get(shares, certain[i]) != NULL);
	}
	json_object_foreach(shares, name, one)
	{
		check_keys(one,
			   WORDS("backing", "overhead", "host", "mmu", "samples", "faults", "host_faults", "traced"));
		CHECK_MSG(json_u64(one, "faults") >= json_u64(one, "samples"), "%s: fewer faults than samples", name);
	}
}

static void check_document(json_t *doc, const char *engine, u64 vcpus)
{
	json_t *histograms = json_object_get(doc, "histograms"), *options = json_object_get(doc, "options");
	bool soft = !strcmp(engine, "soft");

	if (soft)
		check_result_keys(doc, NULL);
	else
		CHECK(json_object_get(doc, "shares") != NULL);
	CHECK_STR(json_text(doc, "schema"), "tain.result/1");
	CHECK_STR(json_text(doc, "command"), "bench fault");
	CHECK_STR(json_text(doc, "engine"), engine);
	CHECK_EQ(json_u64(doc, "seed"), 51);
	CHECK_GT(json_u64(doc, "faults"), 0);
	CHECK_EQ(json_u64(options, "bytes"), PAGES << 12);
	CHECK_EQ(json_u64(options, "iterations"), PASSES);
	CHECK_EQ(json_u64(options, "vcpus"), vcpus);
	for (size_t i = 0; i < ARRAY_SIZE(causes); i++) {
		/* A warm page is measured over and over: 16 pages, 64 times, on each vCPU. */
		u64 samples = strcmp(causes[i], "overhead") ? PASSES * PAGES : PASSES * 16 * 64 * vcpus;
		char random[32];

		snprintf(random, sizeof(random), "%s_random", causes[i]);
		check_histogram(histograms, causes[i], samples);
		check_histogram(histograms, random, samples);
	}
	if (!soft) {
		check_faults(doc, vcpus);
		return;
	}
	check_histogram(histograms, "tain_host_fault", PASSES * PAGES);
	CHECK_EQ(json_object_size(histograms), 2 * ARRAY_SIZE(causes) + 1);
	CHECK_EQ(json_array_size(json_object_get(doc, "skips")), 0);
}

static const struct tain_run *fault(const char *engine, const char *vcpus, const char *backing)
{
	const struct tain_run *r = TAIN("bench", "fault", "-e", engine, "-v", vcpus, "-s", backing, "-b", "1M", "-i",
					"2", "--seed", "51", "--json", "r.json");

	CHECK_MSG(r->status == 0, "%s: exit status %d; stderr '%s'", r->name, r->status, r->err.text);
	return r;
}

static void check_text(const char *text)
{
	CHECK_CONTAINS(text, "\n  cause ");
	for (size_t i = 0; i < ARRAY_SIZE(causes); i++) {
		char row[32];

		snprintf(row, sizeof(row), "\n  %s ", causes[i]);
		CHECK_CONTAINS(text, row);
		snprintf(row, sizeof(row), "\n  %s_random ", causes[i]);
		CHECK_CONTAINS(text, row);
	}
	CHECK_CONTAINS(text, "\nfirst_touch, ns (512 samples)\n");
	CHECK_CONTAINS(text, " net p50: less tain's own overhead per measured access, ");
}

static void faults_on_soft(void)
{
	const struct tain_run *r = fault("soft", "1", "anonymous");

	check_heartbeats(r, "bench fault");
	CHECK_CONTAINS(r->out.text, "tain bench fault: engine soft, MMU tain EPT, ");
	CHECK_CONTAINS(r->out.text, "\nMMU tain EPT; times of one access in ns\n");
	check_text(r->out.text);
	check_document(tain_json_file("r.json"), "soft", 1);
	fault("soft", "2", "anonymous");
	check_document(tain_json_file("r.json"), "soft", 2);
	CHECK_EQ(tain_dir_files(), 1);
}

static void faults_on_kvm(void)
{
	const struct tain_run *r;

	if (!kvm_or_skip())
		return;
	r = fault("kvm", "1", "anonymous");
	CHECK_CONTAINS(r->out.text, "\nMMU KVM ");
	check_text(r->out.text);
	check_document(tain_json_file("r.json"), "kvm", 1);
	fault("kvm", "2", "memfd");
	check_document(tain_json_file("r.json"), "kvm", 2);
}

static void quiet_and_alone_on_stdout(void)
{
	const struct tain_run *r = TAIN("bench", "fault", "-q", "-b", "1M", "-i", "2", "--seed", "51", "--json", "-");

	CHECK_EQ(r->status, 0);
	check_document(tain_json(r->out.text), "soft", 1);
	CHECK_EQ(tain_count(r->err.text, "\n"), 1);
	CHECK_CONTAINS(r->err.text, ", seed 51\n");
}

/* On an emulator the TSC may count instructions: whoever says so is believed, and the text and the document say it. */
static void instructions(void)
{
	const struct tain_run *r =
		TAIN("bench", "fault", "-b", "1M", "-i", "1", "--clock", "instructions", "--json", "r.json");
	json_t *histograms = json_object_get(tain_json_file("r.json"), "histograms"), *h;
	const char *name;

	CHECK_EQ(r->status, 0);
	CHECK_CONTAINS(r->out.text, "\nMMU tain EPT; times of one access in instructions\n");
	CHECK_CONTAINS(r->out.text, "\nfirst_touch, instructions (256 samples)\n");
	CHECK_GT(json_object_size(histograms), 0);
	json_object_foreach(histograms, name, h)
		CHECK_MSG(!strcmp(json_text(h, "unit"), "instructions"), "%s: %s", name, json_text(h, "unit"));
}

/* Every figure is measured; whether its bound is reached, this machine's load decides. */
static void figures(void)
{
	const struct tain_run *r = TAIN("bench", "figures", "-i", "1", "-b", "1M", "--seed", "51", "--json", "r.json");
	json_t *doc = tain_json_file("r.json"), *f;
	size_t i;

	CHECK_MSG(r->status == 0 || r->status == 1, "%s: exit status %d; stderr '%s'", r->name, r->status, r->err.text);
	CHECK(json_is_null(json_object_get(doc, "engine")));
	CHECK_EQ(json_array_size(json_object_get(doc, "figures")), 10);
	json_array_foreach(json_object_get(doc, "figures"), i, f)
	{
		const char *name = json_text(f, "name");

		check_keys(f, WORDS("name", "unit", "values", "peer", "peer_values", "measure", "bound", "at_most",
				    "note", "met"));
		CHECK_CONTAINS(r->out.text, name);
		if (strncmp(name, "kvm", 3))
			CHECK_MSG(json_real_value(json_array_get(json_object_get(f, "values"), 0)) > 0,
				  "%s was measured", name);
		/* Beside what the machine gives two VMs; or why that cannot be told. */
		if (strstr(name, ", two vCPUs") && json_array_size(json_object_get(f, "values")))
			CHECK_CONTAINS(json_text(f, "note"), "two VMs of one vCPU each");
	}
	CHECK_EQ(strstr(r->out.text, "this is a checking build: its figures say nothing\n") != NULL, CHECKING);
}

/* --- the peer ----------------------------------------------------------------------------------- */

static void write_script(const char *text)
{
	tain_write_file("peer", text, strlen(text));
	chmod(tain_path("peer"), 0755);
}

#define FIGURES "bench", "figures", "-i", "1", "-b", "1M", "--demand-paging-test"

/* What another program says is compared, or why it says nothing is told. */
static void a_peer_is_asked(void)
{
	const struct tain_run *r;

	if (!kvm_or_skip())
		return;
	/* 256 pages; the rate that some print is wrong. */
	write_script("#!/bin/sh\necho \"$*\" >seen\necho 'Total guest execution time: 0.256000000s'\n"
		     "echo 'Overall demand paging rate: 100.000000 pgs/sec'\n");
	r = TAIN(FIGURES, "./peer");
	CHECK_CONTAINS(r->out.text, "\n    demand_paging_test ");
	CHECK_CONTAINS(r->out.text, " 1000 /s ");
	CHECK(!access(tain_path("seen"), F_OK));
	CHECK_CONTAINS(TAIN(FIGURES, "./missing")->out.text,
		       "\n    not compared: ./missing: No such file or directory\n");
}

/* The figure of that name, or NULL. */
static json_t *figure_named(json_t *doc, const char *name)
{
	json_t *f;
	size_t i;

	json_array_foreach(json_object_get(doc, "figures"), i, f) if (!strcmp(json_text(f, "name"), name)) return f;
	return NULL;
}

static void check_peer(json_t *f, int value, const char *says)
{
	if (!CHECK(f != NULL) || json_is_null(json_object_get(f, "met"))) /* no userfaultfd here */
		return;
	CHECK_EQ((int)json_real_value(json_array_get(json_object_get(f, "peer_values"), 0)), value);
	CHECK_CONTAINS(json_text(f, "note"), "the faster of: anywhere ");
	CHECK_CONTAINS(json_text(f, "note"), says);
}

/* A peer may run faster anywhere, or on one processor: it is asked both ways, and the better answer counts. */
static void a_peer_has_its_choice(void)
{
	const struct tain_run *r;
	cpu_set_t allowed;
	json_t *doc;

	if (!kvm_or_skip())
		return;
	if (sched_getaffinity(0, sizeof(allowed), &allowed) || CPU_COUNT(&allowed) < 2) {
		test_skip("there is one processor");
		return;
	}
	write_script("#!/bin/sh\n[ $(nproc) = 1 ] && cold=128 uffd=256 || { cold=256; uffd=128; }\n"
		     "case \"$*\" in *MISSING*) cold=$uffd ;; esac\necho \"Total guest execution time: 0.$cold\"\n");
	r = TAIN(FIGURES, "./peer", "--json", "r.json");
	CHECK_CONTAINS(r->out.text, "; the peer anywhere 1000, on one processor 2000 /s\n");
	doc = tain_json_file("r.json");
	check_peer(figure_named(doc, "kvm: cold guest faults"), 2000,
		   "; the peer anywhere 1000, on one processor 2000 /s");
	check_peer(figure_named(doc, "kvm: uffd MISSING, fault-around 16 pages"), 2000,
		   "; the peer anywhere 2000, on one processor 1000 /s");
	check_peer(figure_named(doc, "kvm: uffd MISSING, single page"), 500000,
		   "; the peer anywhere 500000, on one processor 1000000 ns");
	check_peer(figure_named(doc, "kvm: uffd MISSING, single page"), 500000,
		   "; a KVM_RUN that fails and is entered again, by itself: ");
}

/* Where samples are instructions, so is the figure: of tain and the peer alike. */
static void a_peer_in_instructions(void)
{
	const struct tain_run *r;
	json_t *f;

	if (!kvm_or_skip())
		return;
	write_script("#!/bin/sh\necho 'Total guest execution time: 0.256000000s'\n");
	r = TAIN("bench", "fault", "-e", "kvm", "-u", "MISSING", "--placement", "vcpu", "-b", "1M", "-i", "1",
		 "--clock", "instructions", "--demand-paging-test", "./peer", "--json", "r.json");
	if (r->status == 4) {
		test_skip("no userfaultfd here");
		return;
	}
	CHECK_CONTAINS(r->out.text, " instructions (");
	f = json_array_get(json_object_get(tain_json_file("r.json"), "figures"), 0);
	CHECK_STR(json_text(f, "unit"), "instructions");
	CHECK_CONTAINS(json_text(f, "note"), "anywhere 1000, on one processor 1000 pages/s");
	/* A millisecond a page: 10^6 if it had been left in ns. */
	CHECK_NE((int)json_real_value(json_array_get(json_object_get(f, "peer_values"), 0)), 1000000);
}

/* What a peer started and left, when tain was told to stop. */
static void check_gone(const char *path)
{
	FILE *file = fopen(path, "re");
	int pid = 0;

	if (!CHECK(file && fscanf(file, "%d", &pid) == 1 && pid > 1))
		return;
	fclose(file);
	while (!tain_gone(pid)) /* a signal takes its time; the test's watchdog is the limit */
		tain_pause(20);
}

/* A peer that does not end is ended with the run, and so is what it started. */
static void a_signal_ends_the_peer(void)
{
	const char *pid = tain_path("pid");
	struct tain_run *r;

	if (!kvm_or_skip())
		return;
	write_script("#!/bin/sh\nsleep 1000 &\necho $! >pid.new\nmv pid.new pid\nwait\n");
	r = tain_start(NULL, WORDS(FIGURES, "./peer"));
	while (access(pid, F_OK))
		tain_pause(20);
	kill(r->pid, SIGTERM);
	tain_wait(r);
	CHECK_EQ(r->status, 143);
	check_gone(pid);
}

const struct test_case cmd_bench_tests[] = {
	TEST(faults_on_soft),
	TEST(faults_on_kvm),
	TEST(quiet_and_alone_on_stdout),
	TEST(instructions),
	TEST(figures),
	TEST(a_peer_is_asked),
	TEST(a_peer_has_its_choice),
	TEST(a_peer_in_instructions),
	TEST(a_signal_ends_the_peer),
	TEST_END,
};
