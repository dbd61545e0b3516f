/* SPDX-License-Identifier: MIT */
/* Every operation under real guests, on every backing, in several ranges; and what is planted is found. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lab/stress/stress.h"
#include "lab/system/guardian.h"
#include "lib/time.h"
#include "tests/lab_suites.h"

#define BYTES (4ull << 20)

static void config_all(struct stress_config *c, const char *engine, enum host_backing backing)
{
	struct plan_ops ops;

	stress_config_init(c, engine_find(engine));
	CHECK_EQ(plan_parse_ops("all=1", &ops, NULL), 0);
	stress_limit_ops(c, &ops);
	c->machine.backing = backing;
	c->machine.bytes = host_backing_table[backing].thp ? 2 * BYTES : BYTES; /* four ranges of a huge page */
	c->machine.seed = 4321;
	c->steps = TEST_SCALE(200);
	c->time_ns = 250 * NSEC_PER_SEC; /* a hang */
}

/* Each step was one of three: done, refused, skipped. */
static void check_sums(const struct stress_result *r)
{
	u64 done = 0, refused = 0;

	for (int op = 0; op < PLAN_OP_NR; op++) {
		done += r->host_ops[op];
		refused += r->refused[op];
	}
	CHECK_EQ(r->done, done);
	CHECK_EQ(done + refused + r->skipped, r->steps);
}

/* Each operation was done, or was refused with a reason; no violation. Without @needed nothing is shown: a skip. */
static void run_all(const struct stress_config *c, const char *what, enum plan_op needed)
{
	struct stress_result r;
	struct err err = { "" };
	int ret = stress_run(c, &r, &err);

	if (ret == -EOPNOTSUPP && !r.ran) {
		test_skip("%s: %s", what, err.text);
		return;
	}
	CHECK_MSG(!ret, "%s: %d %s", what, ret, err.text);
	CHECK_MSG(!r.log.total, "%s: %llu violations, the first: %s, %s, %s", what, (unsigned long long)r.log.total,
		  r.log.nr ? violation_name(r.log.record[0].kind) : "",
		  r.log.nr ? plan_op_name(r.log.record[0].op) : "", r.log.nr ? r.log.record[0].text : "");
	CHECK_GT(r.checked, 0);
	check_sums(&r);
	for (int op = 0; op < PLAN_OP_NR && !TSAN; op++)
		if (c->ops & BIT(op))
			CHECK_MSG(r.host_ops[op] || r.why[op].text[0], "%s: %s neither done nor refused", what,
				  plan_op_name(op));
	for (int op = 0; op < PLAN_BASIC_NR; op++)
		CHECK_MSG(!r.refused[op] && !(r.unsupported & BIT(op)), "%s: %s: %s", what, plan_op_name(op),
			  r.why[op].text);
	if (needed != PLAN_OP_NR && !r.host_ops[needed])
		test_skip("%s: no %s was possible: %s", what, plan_op_name(needed), r.why[needed].text);
	violation_log_destroy(&r.log);
}

/* Faults resolved by a thread, in one range; then inline, in four. Those that want --allow-system: cmd.storm. */
static void kvm_all(enum host_backing backing)
{
	struct stress_config c;
	char what[64];

	if (!have_kvm())
		return;
	for (int how = UFFD_THREAD; how <= UFFD_INLINE && !test_failures(); how++) {
		config_all(&c, "kvm", backing);
		c.uffd = how;
		c.machine.ranges = how == UFFD_INLINE ? 4 : 1;
		snprintf(what, sizeof(what), "%s, %u ranges", host_backing_table[backing].name, c.machine.ranges);
		run_all(&c, what, PLAN_OP_NR);
	}
}

/* Of a huge page that cannot be split, what was to go stays as zeros: no fault comes, and none is promised. */
static void kvm_parts_of_huge_pages(void)
{
	struct stress_config c;

	if (!have_kvm())
		return;
	config_all(&c, "kvm", HOST_SHMEM);
	c.ops = BIT(PLAN_COLLAPSE) | BIT(PLAN_UFFD_MISSING);
	c.machine.bytes = 8 * BYTES;
	c.steps = TEST_SCALE(600);
	run_all(&c, "shmem, collapsed", PLAN_COLLAPSE);
}

/*
 * Memory in several pieces is gathered once it has been mapped anew; what was split after that is in one piece still.
 * All under a guest, which must find its stamps, or the zeros of a step that leaves them.
 */
static void kvm_collapse_of_pieces(void)
{
	static const struct plan_step list[] = {
		{ .op = PLAN_REMAP, .first = 7, .pages = 1, .restamp = true },
		{ .op = PLAN_COLLAPSE, .pages = PLAN_HUGE_PAGES }, /* refused */
		{ .op = PLAN_COLLAPSE, .pages = PLAN_HUGE_PAGES, .fresh = true, .restamp = true },
		{ .op = PLAN_SPLIT, .first = 9, .pages = 1 },
		{ .op = PLAN_COLLAPSE, .pages = PLAN_HUGE_PAGES },
		{ .op = PLAN_REMAP, .first = 7, .pages = 1, .restamp = true },
		{ .op = PLAN_COLLAPSE, .pages = PLAN_HUGE_PAGES, .fresh = true },
		{ .op = PLAN_SPLIT, .first = 9, .pages = 1 },
	};
	static const enum host_backing backings[] = { HOST_MEMFD, HOST_SHMEM };
	struct host probe = { .backing = HOST_MEMFD_THP, .bytes = BYTES, .limbo_bytes = PAGE_SIZE };
	struct stress_result r;
	struct stress_config c;
	struct err err = { "" };

	if (!have_kvm())
		return;
	if (host_create(&probe, &err)) {
		test_skip("%s", err.text);
		return;
	}
	host_destroy(&probe);
	for (size_t i = 0; i < ARRAY_SIZE(backings); i++) {
		config_all(&c, "kvm", backings[i]);
		c.list = list;
		c.list_nr = ARRAY_SIZE(list);
		c.repeat = 3;
		c.steps = 0;
		CHECK_MSG(!stress_run(&c, &r, &err), "%s", err.text);
		CHECK_EQ(r.log.total, 0);
		CHECK_EQ(r.host_ops[PLAN_COLLAPSE] + r.refused[PLAN_COLLAPSE], 12);
		CHECK_GE(r.refused[PLAN_COLLAPSE], 3);
		/* 9, but where huge pages run short: then there is none for the probe either */
		if (!r.host_ops[PLAN_COLLAPSE] && host_create(&probe, &err)) {
			test_skip("%s", err.text);
		} else {
			CHECK_GT(r.host_ops[PLAN_COLLAPSE], 0);
			if (!r.host_ops[PLAN_COLLAPSE])
				host_destroy(&probe);
		}
		CHECK_EQ(r.host_ops[PLAN_SPLIT], 6);
		violation_log_destroy(&r.log);
	}
}

/* Writes to merged pages since the machine started, anybody's; 0: the kernel does not tell. */
static u64 parted_pages(void)
{
	FILE *f = fopen("/proc/vmstat", "re");
	unsigned long long n, found = 0;
	char line[128];

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "cow_ksm %llu", &n) == 1)
			found = n + 1;
	if (f)
		fclose(f);
	return found;
}

static void merge_under_writers(enum host_backing backing)
{
	static const struct plan_step list[] = {
		{ .op = PLAN_MERGE, .first = 16, .pages = 64, .restamp = true },
		{ .op = PLAN_MERGE, .first = 500, .pages = 128 }, /* across two huge pages, where there are such */
		{ .op = PLAN_MERGE, .first = 1023, .pages = 1 },
	};
	const char *name = host_backing_table[backing].name;
	u64 before = parted_pages(), done, refused;
	struct stress_result r;
	struct stress_config c;
	struct err err = { "" };

	config_all(&c, "kvm", backing);
	c.list = list;
	c.list_nr = ARRAY_SIZE(list);
	c.repeat = 3;
	c.steps = 0;
	c.write_percent = 75;
	c.stall_ns = 600 * NSEC_PER_SEC; /* and KSM has a quarter of it */
	CHECK_MSG(!stress_run(&c, &r, &err), "%s: %s", name, err.text);
	done = r.host_ops[PLAN_MERGE];
	refused = r.refused[PLAN_MERGE];
	CHECK_MSG(!r.log.total, "%s: %llu violations", name, (unsigned long long)r.log.total);
	CHECK_MSG(done + refused == 9 && refused >= 3, "%s: %llu done, %llu refused: %s", name,
		  (unsigned long long)done, (unsigned long long)refused, r.why[PLAN_MERGE].text);
	/* guests may have written to every page before it was read-only, on a machine that was taken away just then */
	CHECK_MSG(done, "%s: none done: %s", name, r.why[PLAN_MERGE].text);
	CHECK_MSG(!before || parted_pages() - before >= done, "%s: %llu merges parted %llu pages", name,
		  (unsigned long long)done, (unsigned long long)(parted_pages() - before));
	CHECK_GT(r.writes, 0);
	violation_log_destroy(&r.log);
}

/* What guests write to all the time is merged all the same, or the step is refused; and unmerged under them. */
static void kvm_merge_under_writers(void)
{
	static const enum host_backing backings[] = { HOST_ANONYMOUS, HOST_MEMFD_PRIVATE, HOST_FILE_PRIVATE };
	struct err err = { "" };

	if (!have_kvm())
		return;
	test_own_machine();
	if (access("/sys/kernel/mm/ksm/run", W_OK) || access("/proc/self/ksm_merging_pages", R_OK)) {
		test_skip("KSM cannot be switched here, or does not tell what it merged");
		return;
	}
	if (guardian_start(&err)) {
		test_skip("%s", err.text);
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(backings); i++)
		merge_under_writers(backings[i]);
	CHECK_MSG(!guardian_stop(&err), "%s", err.text);
}

#define KVM_ALL(name, backing)                                                                                         \
	static void name(void)                                                                                         \
	{                                                                                                              \
		kvm_all(backing);                                                                                      \
	}
KVM_ALL(kvm_anonymous, HOST_ANONYMOUS)
KVM_ALL(kvm_anonymous_thp, HOST_ANONYMOUS_THP)
KVM_ALL(kvm_shmem, HOST_SHMEM)
KVM_ALL(kvm_memfd, HOST_MEMFD)
KVM_ALL(kvm_memfd_private, HOST_MEMFD_PRIVATE)
KVM_ALL(kvm_file_shared, HOST_FILE_SHARED)
KVM_ALL(kvm_file_private, HOST_FILE_PRIVATE)
KVM_ALL(kvm_guest_memfd, HOST_GUEST_MEMFD)
KVM_ALL(kvm_memfd_thp, HOST_MEMFD_THP)
KVM_ALL(kvm_shmem_thp, HOST_SHMEM_THP)
KVM_ALL(kvm_file_shared_thp, HOST_FILE_SHARED_THP)
#undef KVM_ALL

static void soft_ranges(void)
{
	static const u32 ranges[] = { 1, 16 };
	struct stress_config c;
	char what[32];

	for (size_t i = 0; i < ARRAY_SIZE(ranges); i++) {
		config_all(&c, "soft", HOST_ANONYMOUS);
		c.machine.ranges = ranges[i];
		c.audit_every = 8;
		c.machine.bytes = 1 << 20;
		snprintf(what, sizeof(what), "%u ranges", ranges[i]);
		run_all(&c, what, PLAN_OP_NR);
	}
}

static void ranges_that_do_not_divide(void)
{
	struct stress_config c;
	struct stress_result r;
	struct err err;

	config_all(&c, "soft", HOST_ANONYMOUS);
	c.machine.ranges = 3;
	CHECK_EQ(stress_run(&c, &r, &err), -EINVAL);
	CHECK_CONTAINS(err.text, "do not divide into 3 ranges");
	c.machine.ranges = 17;
	CHECK_EQ(stress_run(&c, &r, &err), -EINVAL);
	CHECK_CONTAINS(err.text, "1 to 16 are possible");
}

/* On a real second MMU: what must not be seen is there, and is reported for what it is. */
static void kvm_planted_is_found(void)
{
#if CHECKING
	static const struct {
		struct plan_step step;
		enum violation_kind kind;
		enum uffd_placement uffd;
		enum host_backing backing; /* 0: memfd */
	} cases[] = {
		/* a stale copy, in the last of four ranges */
		{ { .op = PLAN_REMAP, .first = 50, .pages = 8 }, VIOLATION_STALE, UFFD_THREAD },
		{ { .op = PLAN_PUNCH, .first = 50, .pages = 8 }, VIOLATION_STALE, UFFD_THREAD },
		{ { .op = PLAN_UFFD_MISSING, .first = 16, .pages = 16 }, VIOLATION_STALE, UFFD_THREAD },
		/* the same where contents are kept */
		{ { .op = PLAN_COLD, .first = 32, .pages = 16 }, VIOLATION_STALE, UFFD_THREAD },
		{ { .op = PLAN_MPROTECT, .first = 16, .pages = 8 }, VIOLATION_STALE, UFFD_THREAD },
		{ { .op = PLAN_POPULATE, .first = 0, .pages = 16 }, VIOLATION_STALE, UFFD_THREAD },
		/* writes without faults, whoever would resolve them */
		{ { .op = PLAN_UFFD_WP, .first = 16, .pages = 16 }, VIOLATION_LOST_FAULT, UFFD_THREAD },
		{ { .op = PLAN_UFFD_WP, .first = 16, .pages = 16 }, VIOLATION_LOST_FAULT, UFFD_INLINE },
		/* entries without faults */
		{ { .op = PLAN_UFFD_MINOR, .first = 16, .pages = 16 }, VIOLATION_LOST_FAULT, UFFD_THREAD },
		{ { .op = PLAN_UFFD_MINOR, .first = 16, .pages = 16 }, VIOLATION_LOST_FAULT, UFFD_INLINE },
		{ { .op = PLAN_DIRTYLOG, .first = 48, .pages = 16 }, VIOLATION_LOST_DIRTY, UFFD_THREAD },
		{ { .op = PLAN_FORK, .first = 32, .pages = 16 }, VIOLATION_CHILD, UFFD_THREAD },
		/* a vCPU of the parent writes to the child's copy */
		{ { .op = PLAN_FORK, .first = 32, .pages = 16 }, VIOLATION_CHILD, UFFD_THREAD, HOST_MEMFD_PRIVATE },
	};

	if (!have_kvm())
		return;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct plan_step step = cases[i].step;
		struct stress_config c;
		struct stress_result r;
		struct err err = { "" };
		char line[48];

		config_all(&c, "kvm", cases[i].backing ?: HOST_MEMFD);
		step.plant = true;
		step.hold_ns = 5 * NSEC_PER_MSEC;
		c.machine.bytes = 64 * PAGE_SIZE;
		c.machine.ranges = 4;
		c.uffd = cases[i].uffd;
		c.list = &step;
		c.list_nr = 1;
		c.repeat = 0;
		c.steps = 0;
		c.max_violations = 1;
		c.trace = true;
		CHECK_MSG(!stress_run(&c, &r, &err), "%s: %s", plan_op_name(step.op), err.text);
		CHECK_MSG(r.log.nr, "%s: nothing found in %llu steps: %s", plan_op_name(step.op),
			  (unsigned long long)r.steps, r.why[step.op].text);
		if (r.log.nr) {
			CHECK_STR(violation_name(r.log.record[0].kind), violation_name(cases[i].kind));
			CHECK_GE(r.log.record[0].page, step.first);
			CHECK_LT(r.log.record[0].page, step.first + step.pages);
			snprintf(line, sizeof(line), " step %llu op %u ", (unsigned long long)r.log.record[0].step,
				 step.op);
			CHECK_CONTAINS(r.log.record[0].trace, line);
		}
		violation_log_destroy(&r.log);
	}
#else
	test_skip("needs a checking build");
#endif
}

/* The child's guest is there: its faults are its own, and it reads what was there at the fork. */
static void kvm_children_run_guests(void)
{
	static const enum host_backing backings[] = { HOST_ANONYMOUS, HOST_MEMFD, HOST_MEMFD_PRIVATE };
	struct stress_config c;
	struct stress_result r;

	if (!have_kvm())
		return;
	for (size_t i = 0; i < ARRAY_SIZE(backings); i++) {
		struct err err = { "" };

		config_all(&c, "kvm", backings[i]);
		c.ops = BIT(PLAN_FORK);
		c.machine.ranges = 2;
		c.steps = TEST_SCALE(20);
		CHECK_MSG(!stress_run(&c, &r, &err), "%s", err.text);
		CHECK_MSG(!r.refused[PLAN_FORK], "%s", r.why[PLAN_FORK].text);
		CHECK_EQ(r.host_ops[PLAN_FORK], c.steps);
		CHECK_EQ(r.log.total, 0);
		violation_log_destroy(&r.log);
	}
}

/* Some steps and no violation. Return: their number; 0: it cannot run here, or a check has failed. */
static u64 count_uffd(const struct stress_config *c, enum plan_op op, u64 *faults, u64 *events)
{
	struct stress_result r;
	struct err err = { "" };
	int ret = stress_run(c, &r, &err);

	*faults += r.uffd_faults;
	*events += r.uffd_events;
	violation_log_destroy(&r.log);
	if (ret == -EOPNOTSUPP) {
		test_skip("%s: %s", plan_op_name(op), r.why[op].text);
		return 0;
	}
	CHECK_MSG(!ret, "%s: %s", plan_op_name(op), err.text);
	CHECK_EQ(r.log.total, 0);
	CHECK_EQ(r.host_ops[op], c->steps);
	return ret ? 0 : r.host_ops[op];
}

/*
 * Each fault of these goes through the handler, and each event is read. A minor fault is a
 * guest's alone: however busy the machine is, it gets 20 ms for one until it has had its turn.
 */
static void kvm_faults_go_through_uffd(void)
{
	static const enum plan_op ops[] = { PLAN_UFFD_MISSING, PLAN_UFFD_MINOR, PLAN_UFFD_WP };
	struct stress_config c;

	if (!have_kvm())
		return;
	for (size_t i = 0; i < 2 * ARRAY_SIZE(ops); i++) {
		struct plan_step step = { .pages = 16, .hold_ns = 20 * NSEC_PER_MSEC };
		enum plan_op op = ops[i / 2];
		u64 faults = 0, events = 0;

		step.op = op;
		config_all(&c, "kvm", HOST_MEMFD);
		c.machine.bytes = 16 * PAGE_SIZE;
		c.list = &step;
		c.list_nr = 1;
		c.repeat = 0;
		c.uffd = i % 2 ? UFFD_INLINE : UFFD_THREAD;
		c.steps = TEST_SCALE(20);
		while (count_uffd(&c, op, &faults, &events) && !faults && !test_failures())
			;
		if (faults)
			CHECK_EQ(events > 0, c.uffd == UFFD_THREAD && op != PLAN_UFFD_WP);
	}
}

const struct test_case lab_all_ops_tests[] = {
	TEST(kvm_parts_of_huge_pages),
	TEST(kvm_anonymous),
	TEST(kvm_collapse_of_pieces),
	TEST(kvm_anonymous_thp),
	TEST(kvm_memfd_thp),
	TEST(kvm_shmem_thp),
	TEST(kvm_file_shared_thp),
	TEST(kvm_shmem),
	TEST(kvm_memfd),
	TEST(kvm_memfd_private),
	TEST(kvm_file_shared),
	TEST(kvm_file_private),
	TEST(kvm_guest_memfd),
	TEST(kvm_merge_under_writers),
	TEST(soft_ranges),
	TEST(ranges_that_do_not_divide),
	TEST(kvm_planted_is_found),
	TEST(kvm_children_run_guests),
	TEST(kvm_faults_go_through_uffd),
	TEST_END,
};
