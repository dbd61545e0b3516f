/* SPDX-License-Identifier: MIT */
/* tain stress: what it does, says and writes. */
#include <stdio.h>
#include <string.h>

#include "tests/cmd_env.h"
#include "tests/cmd_suites.h"

static const char *const ops[] = { "munmap", "remap", "mprotect", "dontneed", "mremap" };

static u64 all_ops(json_t *doc)
{
	json_t *count;
	const char *op;
	u64 sum = 0;

	json_object_foreach(json_object_get(doc, "host_ops"), op, count) sum += (u64)json_integer_value(count);
	return sum;
}

/* A document of a run without violations. */
static void check_document(json_t *doc, const char *engine, u64 seed)
{
	bool all = !strcmp(json_text(json_object_get(doc, "options"), "ops"), "all");

	check_result_keys(doc, WORDS("violations_total", "guest_writes", "failed_accesses", "skipped_steps",
				     "uffd_faults", "uffd_events", "audits", "refused"));
	CHECK_EQ(json_u64(doc, "violations_total"), 0);
	CHECK_GT(json_u64(doc, "guest_writes"), 0);
	if (strcmp(engine, "kvm") && all_ops(doc) >= json_u64(json_object_get(doc, "options"), "audit"))
		CHECK_GT(json_u64(doc, "audits"), 0);
	CHECK_STR(json_text(doc, "schema"), "tain.result/1");
	CHECK_STR(json_text(doc, "version"), TAIN_VERSION);
	CHECK_STR(json_text(doc, "command"), "stress");
	CHECK_STR(json_text(doc, "engine"), engine);
	CHECK_CONTAINS(json_text(doc, "host_mm"), strcmp(engine, "kvm") ? "tain mmap_sem" : "Linux ");
	CHECK_CONTAINS(json_text(doc, "mmu"), strcmp(engine, "kvm") ? "tain EPT" : "KVM ");
	CHECK(json_text(doc, "cpu")[0]);
	CHECK(json_text(doc, "kernel")[0]);
	CHECK_EQ(json_u64(doc, "seed"), seed);
	CHECK(json_real_value(json_object_get(doc, "elapsed_s")) > 0);
	CHECK_GT(json_u64(doc, "checked_accesses"), 0);
	CHECK_GT(json_u64(doc, "faults"), 0);
	CHECK(json_is_array(json_object_get(doc, "violations")));
	CHECK_EQ(json_array_size(json_object_get(doc, "violations")), 0);
	if (!all || strcmp(engine, "kvm")) /* no backing has them all */
		CHECK_EQ(json_array_size(json_object_get(doc, "skips")), 0);
	CHECK(json_is_object(json_object_get(doc, "histograms")));
}

/* One run of some hundred milliseconds, 60 operations. */
static json_t *stress(const char *engine, const char *op, const char *vcpus, const char *backing, const char *seed)
{
	const struct tain_run *r = TAIN("stress", "-e", engine, "--ops", op, "-v", vcpus, "-s", backing, "--seed", seed,
					"-b", "256K", "-i", "60", "-d", "3000", "-t", "5m", "-q", "--json", "-");

	CHECK_MSG(r->status == 0, "%s: exit status %d; stderr '%s'", r->name, r->status, r->err.text);
	return tain_json(r->out.text);
}

static void check_each(const char *engine, const char *backing)
{
	for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
		json_t *doc = stress(engine, ops[i], "1", backing, "11");

		check_document(doc, engine, 11);
		check_keys(json_object_get(doc, "host_ops"), WORDS(ops[i]));
		CHECK_EQ(json_u64(json_object_get(doc, "host_ops"), ops[i]), 60);
	}
}

static void check_all(const char *engine, const char *vcpus, const char *backing)
{
	json_t *doc = stress(engine, "all", vcpus, backing, "12"), *done = json_object_get(doc, "host_ops"), *skip;
	bool soft = !strcmp(engine, "soft");
	size_t i;

	check_document(doc, engine, 12);
	if (soft)
		check_keys(done, WORDS("munmap", "remap", "mprotect", "dontneed", "mremap", "mremap_onto", "compact",
				       "populate"));
	CHECK_LE(all_ops(doc), 60);
	CHECK_GT(all_ops(doc), soft ? 59 : 30);
	for (i = 0; i < ARRAY_SIZE(ops); i++)
		CHECK_GT(json_u64(done, ops[i]), 0);
	json_array_foreach(json_object_get(doc, "skips"), i, skip)
		CHECK_MSG(json_text(skip, "why")[0], "%s has a reason", json_text(skip, "what"));
}

static void each_operation_on_soft(void)
{
	check_each("soft", "anonymous");
}

static void all_operations_on_soft(void)
{
	check_all("soft", "1", "anonymous");
	check_all("soft", "2", "anonymous");
}

static void each_operation_on_kvm(void)
{
	if (kvm_or_skip())
		check_each("kvm", "anonymous");
}

static void all_operations_on_kvm(void)
{
	if (!kvm_or_skip())
		return;
	check_all("kvm", "1", "anonymous");
	check_all("kvm", "2", "anonymous");
	check_all("kvm", "2", "memfd");
}

/* What the kernel refuses each time was not done, and is no success. */
static void what_is_always_refused(void)
{
	const struct tain_run *r;
	json_t *doc, *refused;
	u64 done;

	if (!kvm_or_skip())
		return;
	r = TAIN("stress", "-e", "kvm", "--ops", "collapse", "-s", "memfd", "-b", "4M", "-i", "5", "--seed", "13", "-q",
		 "--json", "-");
	doc = tain_json(r->out.text);
	done = all_ops(doc);
	CHECK_EQ(r->status, done ? 0 : 4);
	CHECK_EQ(json_array_size(json_object_get(doc, "skips")), !done);
	refused = json_object_get(json_object_get(doc, "refused"), "collapse");
	CHECK_EQ(refused != NULL, done < 5);
	if (refused) {
		CHECK_EQ(done + json_u64(refused, "count"), 5);
		CHECK_CONTAINS(json_text(refused, "why"), "MADV_COLLAPSE");
	}
	if (!done)
		CHECK_CONTAINS(r->err.text, "tain: every operation was refused; the first: ");
}

/* What there is not was not refused, but skipped. */
static void what_a_backing_lacks(void)
{
	json_t *doc;

	if (!kvm_or_skip())
		return;
	doc = tain_json(TAIN("stress", "-e", "kvm", "--ops", "free,remap", "-s", "memfd", "-i", "20", "--seed", "3",
			     "-q", "--json", "-")
				->out.text);
	CHECK_GT(json_u64(doc, "skipped_steps"), 0);
	CHECK_EQ(all_ops(doc) + json_u64(doc, "skipped_steps"), 20);
	CHECK_EQ(json_object_size(json_object_get(doc, "refused")), 0);
}

static void each_operation_on_a_memfd(void)
{
	if (kvm_or_skip())
		check_each("kvm", "memfd");
}

/* --- the plan --------------------------------------------------------------------------------- */

/* What 60 operations of a plan are. */
static json_t *plan(const char *engine, const char *seed)
{
	const struct tain_run *r =
		TAIN("stress", "-e", engine, "--ops", "munmap,remap,mprotect,dontneed,mremap", "--seed", seed, "-b",
		     "1M", "-v", "1", "-i", "60", "-d", "0", "-t", "5m", "-q", "--json", "-");
	json_t *doc = tain_json(r->out.text);

	CHECK_EQ(r->status, 0);
	CHECK_EQ(all_ops(doc), 60);
	return json_object_get(doc, "host_ops");
}

static void a_seed_repeats_the_plan(void)
{
	json_t *first = plan("soft", "21");

	CHECK(json_equal(first, plan("soft", "21")));
	CHECK(json_equal(first, plan("soft", "0x15")));
	CHECK(!json_equal(first, plan("soft", "22")));
	CHECK(json_equal(plan("soft", "0"), plan("soft", "0")));
}

static void a_seed_means_the_same_on_kvm(void)
{
	if (kvm_or_skip())
		CHECK(json_equal(plan("soft", "23"), plan("kvm", "23")));
}

static u64 seed_of(const struct tain_run *r)
{
	json_t *doc = tain_json(r->out.text);
	char line[64];

	snprintf(line, sizeof(line), ", seed %llu\n", (unsigned long long)json_u64(doc, "seed"));
	CHECK_CONTAINS(r->err.text, line); /* the one printed is the one in the document */
	return json_u64(doc, "seed");
}

static void without_a_seed_every_run_is_another(void)
{
	u64 first = seed_of(TAIN("stress", "-i", "1", "-q", "--json", "-"));
	u64 second = seed_of(TAIN("stress", "-i", "1", "-q", "--json", "-"));

	CHECK_NE(first, second);
}

/* --- words and documents ------------------------------------------------------------------------ */

static const char identity[] = "tain stress: engine soft, MMU tain EPT, host mm tain mmap_sem, CPU software, seed 31\n";

static void text_for_people(void)
{
	const struct tain_run *r = TAIN("stress", "-i", "100", "-t", "5m", "--seed", "31", "-b", "1M", "-v", "2");

	CHECK_EQ(r->status, 0);
	check_heartbeats(r, "stress");
	CHECK_MSG(!strncmp(r->out.text, identity, strlen(identity)), "'%s' begins with '%s'", r->out.text, identity);
	CHECK_CONTAINS(r->out.text, "\n2 vCPUs, 1 MiB anonymous, operations all, ");
	for (const char *const *label =
		     WORDS("\n  checked accesses ", "\n  guest writes ", "\n  second-MMU faults ", "\n    munmap ",
			   "\n    remap ", "\n    mprotect ", "\n    dontneed ", "\n    mremap ");
	     *label; label++)
		CHECK_CONTAINS(r->out.text, *label);
	CHECK_CONTAINS(r->out.text, "\n  host operations                      100 ");
	CHECK_CONTAINS(r->out.text, "\n  violations                             0\n");
	CHECK_CONTAINS(r->out.text, "\npassed\n");
}

/* An operation that this kernel or this host does not have is named, and not among those that were done. */
static void what_was_skipped_is_not_counted(void)
{
	const struct tain_run *r;
	char line[96];
	json_t *doc;
	u64 done;

	if (!kvm_or_skip())
		return;
	r = TAIN("stress", "-e", "kvm", "--ops", "munmap,free", "-s", "memfd", "-b", "256K", "-i", "40", "--seed", "5",
		 "--json", "r.json");
	CHECK_EQ(r->status, 0);
	doc = tain_json_file("r.json");
	done = json_u64(json_object_get(doc, "host_ops"), "munmap");
	CHECK_EQ(all_ops(doc), done);
	CHECK_GT(done, 0);
	CHECK_LT(done, 40);
	snprintf(line, sizeof(line), "\n  host operations          %15llu   ", (unsigned long long)done);
	CHECK_CONTAINS(r->out.text, line);
	snprintf(line, sizeof(line), "/s; %llu skipped\n    munmap ", (unsigned long long)(40 - done));
	CHECK_CONTAINS(r->out.text, line);
	CHECK_CONTAINS(r->out.text, "\nskipped: free: ");
}

static void quiet_says_the_seed_only(void)
{
	const struct tain_run *r = TAIN("stress", "-q", "-i", "10", "--seed", "31");

	CHECK_EQ(r->status, 0);
	CHECK_STR(r->out.text, identity);
	CHECK_STR(r->err.text, "");
}

/* --json -: stdout is the document and nothing else; people read stderr. */
static void the_document_has_stdout_to_itself(void)
{
	const struct tain_run *r = TAIN("stress", "--json", "-", "-i", "50", "-d", "3000", "--seed", "31");

	CHECK_EQ(r->status, 0);
	check_document(tain_json(r->out.text), "soft", 31);
	CHECK_MSG(!strncmp(r->err.text, identity, strlen(identity)), "'%s' begins with '%s'", r->err.text, identity);
	CHECK_CONTAINS(r->err.text, "\npassed\n");
	r = TAIN("stress", "--json=-", "-q", "-i", "1", "--seed", "31");
	CHECK_STR(r->err.text, identity);
	CHECK(tain_json(r->out.text));
	CHECK_EQ(tain_dir_files(), 0);
}

static void a_document_in_a_file(void)
{
	const struct tain_run *r = TAIN("stress", "--json", "r.json", "-i", "50", "-d", "3000", "--seed", "31");

	CHECK_EQ(r->status, 0);
	CHECK_CONTAINS(r->out.text, "\npassed\n");
	check_document(tain_json_file("r.json"), "soft", 31);
	/* Written over, whole. */
	CHECK_EQ(TAIN("stress", "-q", "--json", "r.json", "-i", "50", "-d", "3000", "--seed", "32")->status, 0);
	check_document(tain_json_file("r.json"), "soft", 32);
	CHECK_EQ(tain_dir_files(), 1);
}

static void the_document_says_how_it_was_asked(void)
{
	json_t *doc, *options;

	CHECK_EQ(TAIN("stress", "-q", "--json", "r.json", "-i", "5", "-t", "2m", "-d", "7", "-w", "9", "-b", "2M",
		      "--audit", "3", "--ops", "remap,munmap", "--ranges", "4")
			 ->status,
		 0);
	doc = tain_json_file("r.json");
	options = json_object_get(doc, "options");
	check_keys(options, WORDS("ops", "vcpus", "bytes", "ranges", "backing", "uffd", "time_ns", "iterations",
				  "delay_ns", "write_percent", "audit", "mutant", "plan", "shard"));
	CHECK_STR(json_text(options, "ops"), "remap,munmap");
	CHECK_EQ(json_u64(options, "vcpus"), 2);
	CHECK_EQ(json_u64(options, "bytes"), 2 << 20);
	CHECK_EQ(json_u64(options, "ranges"), 4);
	CHECK_STR(json_text(options, "backing"), "anonymous");
	CHECK_STR(json_text(options, "uffd"), "thread");
	CHECK_EQ(json_u64(options, "time_ns"), 120 * NSEC_PER_SEC);
	CHECK_EQ(json_u64(options, "iterations"), 5);
	CHECK_EQ(json_u64(options, "delay_ns"), 7000);
	CHECK_EQ(json_u64(options, "write_percent"), 9);
	CHECK_EQ(json_u64(options, "audit"), 3);
	CHECK(json_is_null(json_object_get(options, "mutant")));
	CHECK(json_is_null(json_object_get(options, "plan")));
	check_keys(json_object_get(doc, "host_ops"), WORDS("munmap", "remap"));
}

/* What cannot run here leaves a document that says so. */
static void a_skip_is_a_document(void)
{
	const struct tain_run *r = TAIN("stress", "-s", "memfd", "--json", "r.json");
	json_t *doc = tain_json_file("r.json"), *skips = json_object_get(doc, "skips");

	CHECK_EQ(r->status, 4);
	check_result_keys(doc, NULL);
	CHECK_EQ(json_array_size(skips), 1);
	CHECK_STR(json_text(json_array_get(skips, 0), "what"), "memfd");
	CHECK_CONTAINS(json_text(json_array_get(skips, 0), "why"), "use --engine kvm");
	CHECK_EQ(json_u64(doc, "checked_accesses"), 0);
}

static void the_environment_sets_options(void)
{
	const struct tain_setup setup = { .env = WORDS("TAIN_SEED=41", "TAIN_BYTES=64K", "TAIN_ITERATIONS=3",
						       "TAIN_OPS=remap", "TAIN_VCPUS=3", "TAIN_JSON=no",
						       "TAIN_QUIET=no", "TAIN_WRITE_PERCENT=", "TAIN_NO_TRACE=yes") };
	json_t *doc = tain_json(TAIN_WITH(&setup, "stress", "-q", "--json", "-")->out.text);

	CHECK_EQ(json_u64(doc, "seed"), 41);
	CHECK_EQ(json_u64(json_object_get(doc, "options"), "bytes"), 65536);
	CHECK_EQ(json_u64(json_object_get(doc, "options"), "vcpus"), 3);
	CHECK_EQ(json_u64(json_object_get(doc, "options"), "write_percent"), 25); /* empty: not set */
	CHECK_EQ(json_u64(json_object_get(doc, "host_ops"), "remap"), 3);
	/* The command line wins. */
	doc = tain_json(TAIN_WITH(&setup, "stress", "-q", "--json", "-", "--seed", "42", "-v", "1")->out.text);
	CHECK_EQ(json_u64(doc, "seed"), 42);
	CHECK_EQ(json_u64(json_object_get(doc, "options"), "vcpus"), 1);
	CHECK_EQ(tain_dir_files(), 0);
}

static void the_smallest_and_the_crowded(void)
{
	const struct tain_run *r;

	CHECK_EQ(TAIN("stress", "-q", "-b", "4K", "-i", "50")->status, 0);
	CHECK_EQ(TAIN("stress", "-q", "-b", "4K", "-v", "16", "-i", "10")->status, 0);
	CHECK_EQ(TAIN("stress", "-q", "-b", "12K", "-v", "3", "-w", "100", "-i", "50", "-d", "0")->status, 0);
	r = TAIN("stress", "-q", "-b", "1M", "--arena", "3M", "-w", "0", "-i", "50", "--ops", "mprotect");
	CHECK_EQ(r->status, 0);
	CHECK_CONTAINS(r->out.text, "skipped: writes: the guest makes none (-w 0)");
	CHECK_EQ(TAIN("stress", "-q", "-b", "8K", "-t", "1ns")->status, 0);
}

/* A long pause between two operations is no stall, and the end of the run ends it. */
static void a_pause_ends_with_the_run(void)
{
	const struct tain_run *r =
		TAIN("stress", "-d", "60000000", "--stall", "1s", "-t", "1500ms", "-b", "64K", "--json", "r.json");
	json_t *doc = tain_json_file("r.json");

	CHECK_EQ(r->status, 0);
	CHECK_LE(all_ops(doc), 1);
	CHECK(json_real_value(json_object_get(doc, "elapsed_s")) < 55); /* of the pause's 60 */
	CHECK_CONTAINS(r->out.text, "\npassed\n");
}

const struct test_case cmd_stress_tests[] = {
	TEST(each_operation_on_soft),
	TEST(all_operations_on_soft),
	TEST(each_operation_on_kvm),
	TEST(all_operations_on_kvm),
	TEST(each_operation_on_a_memfd),
	TEST(what_is_always_refused),
	TEST(what_a_backing_lacks),
	TEST(a_seed_repeats_the_plan),
	TEST(a_seed_means_the_same_on_kvm),
	TEST(without_a_seed_every_run_is_another),
	TEST(text_for_people),
	TEST(what_was_skipped_is_not_counted),
	TEST(quiet_says_the_seed_only),
	TEST(the_document_has_stdout_to_itself),
	TEST(a_document_in_a_file),
	TEST(the_document_says_how_it_was_asked),
	TEST(a_skip_is_a_document),
	TEST(the_environment_sets_options),
	TEST(the_smallest_and_the_crowded),
	TEST(a_pause_ends_with_the_run),
	TEST_END,
};
