/* SPDX-License-Identifier: MIT */
/* The workload stamp: what it must report, and what it must never report. */
#include <string.h>

#include "lib/atomic.h"
#include "lib/rng.h"
#include "lib/thread.h"
#include "tests/vmm_flat.h"
#include "tests/vmm_suites.h"

static void set_stamps(struct flat *f, u64 page, u64 stamp)
{
	for (unsigned int i = 0; i < GUEST_STAMPS; i++)
		smp_store_release(flat_word(f, page, GUEST_STAMP_OFFSET + i * GUEST_STAMP_STRIDE), stamp);
}

static void set_rule(struct flat *f, u64 page, u32 required, bool zero, u32 announced)
{
	f->shared->rule[page].required = required << 1 | zero;
	f->shared->rule[page].announced = announced;
}

/* Every page stamped with generation 1, nothing under way. */
static bool stamp_create(struct flat *f, u64 pages)
{
	if (!flat_create(f, pages))
		return false;
	for (u64 page = 0; page < pages; page++) {
		set_stamps(f, page, guest_stamp(page, 1));
		set_rule(f, page, 1, false, 1);
	}
	return true;
}

static void run_stamp(struct flat *f, u64 accesses)
{
	f->stop_after = f->accesses + accesses;
	f->shared->header.stop = 0;
	CHECK_EQ(flat_run(f, "stamp", 0), 0);
}

static void no_alarm_at_rest(void)
{
	struct flat f;

	if (!stamp_create(&f, 50))
		return;
	run_stamp(&f, 20000);
	CHECK_EQ(f.shared->vcpu[0].violations, 0);
	CHECK_GT(f.shared->vcpu[0].writes, 2000);
	CHECK_EQ(f.shared->vcpu[0].accesses + f.shared->vcpu[0].writes, f.accesses);
	CHECK_GT(f.shared->vcpu[0].heartbeat, 0);
	CHECK_EQ(f.shared->vcpu[1].accesses, 0);
	flat_destroy(&f);
}

static const struct {
	const char *name;
	u64 page;
	u64 seen;
	u32 required;
	bool zero;
	u32 announced;
	enum guest_violation_kind kind;
} judgements[] = {
	{ "zero", 3, 0, 1, false, 1, GUEST_VIOLATION_ZERO },
	{ "zero, allowed", 3, 0, 1, true, 1, GUEST_VIOLATION_NONE },
	{ "zero, under way", 3, 0, 1, false, 2, GUEST_VIOLATION_NONE },
	{ "zero, page 0", 0, 0, 0, false, 0, GUEST_VIOLATION_ZERO },
	{ "too old", 3, 4, 5, false, 6, GUEST_VIOLATION_STALE },
	{ "lowest", 3, 5, 5, false, 6, GUEST_VIOLATION_NONE },
	{ "highest", 3, 6, 5, false, 6, GUEST_VIOLATION_NONE },
	{ "too young", 3, 7, 5, false, 6, GUEST_VIOLATION_STALE },
	{ "too old, zero allowed", 3, 4, 5, true, 5, GUEST_VIOLATION_STALE },
	{ "wrapped, lowest", 3, 0xffffff, 0xffffff, false, 0x1000001, GUEST_VIOLATION_NONE },
	{ "wrapped, highest", 3, 1, 0xffffff, false, 0x1000001, GUEST_VIOLATION_NONE },
	{ "wrapped, too old", 3, 0xfffffe, 0xffffff, false, 0x1000001, GUEST_VIOLATION_STALE },
	{ "wrapped, too young", 3, 2, 0xffffff, false, 0x1000001, GUEST_VIOLATION_STALE },
};

static void judges(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(judgements); i++) {
		u64 page = judgements[i].page;
		u64 seen = judgements[i].seen ? guest_stamp(page, (u32)judgements[i].seen) : 0;
		struct guest_violation *v;
		struct flat f;

		if (!stamp_create(&f, 4))
			return;
		set_stamps(&f, page, seen);
		set_rule(&f, page, judgements[i].required, judgements[i].zero, judgements[i].announced);
		run_stamp(&f, 200);
		v = &f.shared->vcpu[0].violation[0];
		CHECK_MSG(v->kind == judgements[i].kind, "%s: kind %u instead of %u", judgements[i].name, v->kind,
			  judgements[i].kind);
		CHECK_EQ(f.shared->vcpu[0].violations > 0, judgements[i].kind != GUEST_VIOLATION_NONE);
		if (v->kind) {
			CHECK_EQ(v->page, page);
			CHECK_EQ(v->seen, seen);
			CHECK_EQ(v->required, judgements[i].required << 1 | judgements[i].zero);
			CHECK_EQ(v->announced, judgements[i].announced);
			CHECK_NE(v->when, 0);
		}
		flat_destroy(&f);
	}
}

static void sees_foreign_and_corrupt(void)
{
	struct flat f;

	if (!stamp_create(&f, 4))
		return;
	set_stamps(&f, 2, guest_stamp(1, 1));
	run_stamp(&f, 200);
	CHECK_EQ(f.shared->vcpu[0].violation[0].kind, GUEST_VIOLATION_FOREIGN);
	flat_destroy(&f);
	if (!stamp_create(&f, 4))
		return;
	set_stamps(&f, 2, guest_stamp(2, 1) ^ 0x10000);
	run_stamp(&f, 200);
	CHECK_EQ(f.shared->vcpu[0].violation[0].kind, GUEST_VIOLATION_CORRUPT);
	flat_destroy(&f);
}

static void one_bad_stamp_is_found(void)
{
	struct flat f;

	if (!stamp_create(&f, 50))
		return;
	*flat_word(&f, 33, GUEST_STAMP_OFFSET + 5 * GUEST_STAMP_STRIDE) = guest_stamp(33, 0);
	run_stamp(&f, 40000);
	CHECK_GT(f.shared->vcpu[0].violations, GUEST_VIOLATION_RING); /* counted on when the ring is full */
	for (u32 i = 0; i < GUEST_VIOLATION_RING; i++) {
		CHECK_EQ(f.shared->vcpu[0].violation[i].kind, GUEST_VIOLATION_STALE);
		CHECK_EQ(f.shared->vcpu[0].violation[i].page, 33);
	}
	flat_destroy(&f);
}

/* The host takes page 2's slot away after each write to it. */
static void lose_write(struct flat *f, u64 gpa, int write)
{
	u64 slot = GUEST_DATA_GPA + 2 * GUEST_PAGE_SIZE + GUEST_WSLOT_OFFSET;
	bool *announce = f->arg;

	if (gpa == slot && !write)
		*flat_word(f, 2, GUEST_WSLOT_OFFSET) = 0;
	if (gpa == slot && *announce) {
		u32 next = ++f->shared->rule[2].announced;

		set_stamps(f, 2, guest_stamp(2, next));
		f->shared->rule[2].required = next << 1;
	}
}

static void lost_write(void)
{
	bool announce = false;
	struct flat f;

	if (!stamp_create(&f, 4))
		return;
	f.hook = lose_write;
	f.arg = &announce;
	run_stamp(&f, 1000);
	CHECK_GT(f.shared->vcpu[0].violations, 0);
	CHECK_EQ(f.shared->vcpu[0].violation[0].kind, GUEST_VIOLATION_LOST);
	CHECK_EQ(f.shared->vcpu[0].violation[0].page, 2);
	CHECK_EQ(f.shared->vcpu[0].violation[0].seen, 0);
	CHECK_EQ(f.shared->vcpu[0].violation[0].expected & 0xff, 1); /* vCPU 0's words end in 1 */
	flat_destroy(&f);
}

static void announced_loss_is_none(void)
{
	bool announce = true;
	struct flat f;

	if (!stamp_create(&f, 4))
		return;
	f.hook = lose_write;
	f.arg = &announce;
	run_stamp(&f, 20000);
	CHECK_EQ(f.shared->vcpu[0].violations, 0);
	CHECK_GT(f.shared->rule[2].announced, 100);
	flat_destroy(&f);
}

/* --- the host's protocol against running guests ------------------------------------- */

struct racer {
	struct flat *f;
	u32 vcpu;
};

static void race_guest(void *arg)
{
	struct racer *r = arg;

	CHECK_EQ(flat_run(r->f, "stamp", r->vcpu), 0);
}

/* H1 to H4 of guest/stamp.c; the stamps are missing for a while, at random. */
static void race_operation(struct flat *f, u64 page, struct rng *rng)
{
	struct guest_page_rule *rule = &f->shared->rule[page];
	u32 next = rule->announced + 1;
	bool late = rng_below(rng, 2);

	WRITE_ONCE(rule->announced, next);
	smp_mb(); /* pairs with the guest's load-acquire of what is destroyed below */
	set_stamps(f, page, 0);
	for (u32 v = 0; v < 2; v++)
		smp_store_release(flat_word(f, page, GUEST_WSLOT_OFFSET + v * 8), 0ull);
	if (late)
		smp_store_release(&rule->required, next << 1 | 1);
	set_stamps(f, page, guest_stamp(page, next));
	smp_store_release(&rule->required, next << 1);
}

static bool has_checked(struct flat *f, u32 vcpu)
{
	return READ_ONCE(f->shared->vcpu[vcpu].accesses) >= 10000;
}

static void no_alarm_under_operations(void)
{
	struct thread thread[2];
	struct racer racer[2];
	struct rng rng;
	struct flat f;

	if (!stamp_create(&f, 16))
		return;
	rng_seed(&rng, 5);
	for (u32 i = 0; i < 2; i++) {
		racer[i] = (struct racer){ &f, i };
		CHECK_EQ(thread_create(&thread[i], "guest", -1, race_guest, &racer[i]), 0);
	}
	for (u32 i = 0; i < TEST_SCALE(200000) || !has_checked(&f, 0) || !has_checked(&f, 1); i++) {
		race_operation(&f, rng_below(&rng, 16), &rng);
		if (i % 512 == 0)
			thread_yield();
	}
	WRITE_ONCE(f.shared->header.stop, 1);
	for (u32 i = 0; i < 2; i++) {
		thread_join(&thread[i]);
		CHECK_EQ(f.shared->vcpu[i].violations, 0);
	}
	flat_destroy(&f);
}

static void refuses_without_rules(void)
{
	struct flat f;

	if (!flat_create(&f, 4))
		return;
	f.shared->header.rule_offset = 0;
	CHECK_EQ(flat_run(&f, "stamp", 0), 1);
	CHECK_CONTAINS(f.text, "the host gave no rules");
	flat_destroy(&f);
}

const struct test_case vmm_stamp_tests[] = {
	TEST(no_alarm_at_rest),
	TEST(judges),
	TEST(sees_foreign_and_corrupt),
	TEST(one_bad_stamp_is_found),
	TEST(lost_write),
	TEST(announced_loss_is_none),
	TEST(no_alarm_under_operations),
	TEST(refuses_without_rules),
	TEST_END,
};
