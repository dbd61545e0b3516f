/* SPDX-License-Identifier: MIT */
/* What guests are made of, without an engine: orders, arguments, text, the workload touch. */
#include <string.h>

#include "guest/order.h"
#include "lib/alloc.h"
#include "tests/vmm_flat.h"
#include "tests/vmm_suites.h"

static void check_order(u32 kind, u64 pages, u64 stride, u64 seed)
{
	u8 *seen = mem_zalloc(pages + 1);
	struct guest_order order;
	u64 page, visited = 0, moved = 0, last = ~0ull;

	guest_order_init(&order, kind, pages, stride, seed);
	while (guest_order_next(&order, &page)) {
		if (!CHECK_MSG(page < pages && !seen[page], "order %u of %llu, stride %llu: page %llu again or outside",
			       kind, (unsigned long long)pages, (unsigned long long)stride, (unsigned long long)page))
			break;
		seen[page] = 1;
		visited++;
		moved += page != last + 1;
		last = page;
	}
	CHECK_MSG(visited == pages, "order %u of %llu, stride %llu: %llu visited", kind, (unsigned long long)pages,
		  (unsigned long long)stride, (unsigned long long)visited);
	if (kind == GUEST_ORDER_SEQUENTIAL)
		CHECK_EQ(moved, 0);
	if (kind == GUEST_ORDER_RANDOM && pages >= 64)
		CHECK_GT(moved, pages * 3 / 4);
	mem_free(seen);
}

static void orders_visit_each_page_once(void)
{
	static const u64 sizes[] = { 1, 2, 3, 4, 5, 7, 8, 9, 63, 64, 65, 1000, 4096, 10007 };
	static const u64 strides[] = { 0, 1, 2, 3, 7, 64, 5000, 20000 };

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		check_order(GUEST_ORDER_SEQUENTIAL, sizes[i], 1, 0);
		for (size_t j = 0; j < ARRAY_SIZE(strides); j++)
			check_order(GUEST_ORDER_STRIDE, sizes[i], strides[j], 0);
		for (u64 seed = 0; seed < 8; seed++)
			check_order(GUEST_ORDER_RANDOM, sizes[i], 1, seed * 0x123456789ull);
	}
}

static void random_orders_differ_by_seed(void)
{
	struct guest_order a, b, again;
	u64 x, y, z, same = 0;

	guest_order_init(&a, GUEST_ORDER_RANDOM, 1024, 1, 1);
	guest_order_init(&b, GUEST_ORDER_RANDOM, 1024, 1, 2);
	guest_order_init(&again, GUEST_ORDER_RANDOM, 1024, 1, 1);
	while (guest_order_next(&a, &x) && guest_order_next(&b, &y) && guest_order_next(&again, &z)) {
		same += x == y;
		CHECK_EQ(x, z);
	}
	CHECK_LT(same, 100);
}

static void stamps(void)
{
	static const u64 pages[] = { 0, 1, 2, 0xffff, 0xffffff };
	static const u32 generations[] = { 0, 1, 2, 0xffff, 0xffffff };

	for (size_t i = 0; i < ARRAY_SIZE(pages); i++) {
		for (size_t j = 0; j < ARRAY_SIZE(generations); j++) {
			u64 stamp = guest_stamp(pages[i], generations[j]);

			CHECK_NE(stamp, 0);
			CHECK(guest_stamp_valid(stamp));
			CHECK_EQ(guest_stamp_page(stamp), pages[i]);
			CHECK_EQ(guest_stamp_generation(stamp), generations[j]);
			for (unsigned int bit = 0; bit < 64; bit++)
				CHECK_MSG(!guest_stamp_valid(stamp ^ BIT(bit)),
					  "page %llu generation %u, bit %u flipped", (unsigned long long)pages[i],
					  generations[j], bit);
		}
	}
	CHECK(!guest_stamp_valid(0));
}

static void options(void)
{
	char *argv[] = { (char *)"n=12", (char *)"hex=0xfF", (char *)"nn=3",
			 (char *)"junk", (char *)"e=",	     (char *)"x=7z" };

	CHECK_EQ(guest_option(6, argv, "n", 1), 12);
	CHECK_EQ(guest_option(6, argv, "nn", 1), 3);
	CHECK_EQ(guest_option(6, argv, "hex", 1), 0xff);
	CHECK_EQ(guest_option(6, argv, "junk", 1), 1);
	CHECK_EQ(guest_option(6, argv, "e", 1), 0);
	CHECK_EQ(guest_option(6, argv, "x", 1), 7);
	CHECK_EQ(guest_option(0, argv, "n", 99), 99);
}

/* --- touch ---------------------------------------------------------------------- */

struct touch_plan {
	const struct guest_command *commands;
	u32 posted;
	u32 nr;
	u8 touched[64];
	u8 written[64];
};

/* Posts the next command whenever the guest polls idly; notes what is touched. */
static void touch_hook(struct flat *f, u64 gpa, int write)
{
	struct guest_vcpu *vcpu = &f->shared->vcpu[1];
	struct touch_plan *plan = f->arg;
	u64 page = (gpa - GUEST_DATA_GPA) / GUEST_PAGE_SIZE;

	if (gpa != GUEST_SHARED_GPA) {
		plan->touched[page] += !write;
		plan->written[page] += !!write;
		return;
	}
	if (vcpu->done == vcpu->posted && plan->posted < plan->nr) {
		vcpu->command = plan->commands[plan->posted++];
		vcpu->posted++;
	}
}

static void run_touch(struct flat *f, struct touch_plan *plan, const struct guest_command *command)
{
	const struct guest_command commands[] = { *command, { .quit = 1 } };
	u64 done = f->shared->vcpu[1].done;

	*plan = (struct touch_plan){ .commands = commands, .nr = 2 };
	f->hook = touch_hook;
	f->arg = plan;
	CHECK_EQ(flat_run(f, "touch", 1), 0);
	CHECK_EQ(f->shared->vcpu[1].done, done + 2);
}

static void check_touched(const u8 *touched, u64 first, u64 pages)
{
	for (u64 page = 0; page < 64; page++)
		CHECK_MSG(touched[page] == (page >= first && page < first + pages), "page %llu touched %u times",
			  (unsigned long long)page, touched[page]);
}

static void touch_obeys(void)
{
	struct touch_plan plan;
	struct flat f;

	if (!flat_create(&f, 64))
		return;
	for (u32 order = GUEST_ORDER_SEQUENTIAL; order <= GUEST_ORDER_RANDOM; order++) {
		struct guest_command command = { .first = 5, .pages = 40, .stride = 7, .seed = 3, .order = order };

		run_touch(&f, &plan, &command);
		check_touched(plan.touched, 5, 40);
		check_touched(plan.written, 0, 0);
		CHECK_EQ(f.shared->vcpu[1].samples, 0);
		command.write = 1;
		command.timed = 1;
		run_touch(&f, &plan, &command);
		check_touched(plan.touched, 0, 0);
		check_touched(plan.written, 5, 40);
		CHECK_EQ(f.shared->vcpu[1].samples, 40);
		CHECK_GT(f.shared->vcpu[1].command_cycles, 0);
		for (u32 i = 0; i < FLAT_SAMPLES; i++) {
			CHECK_EQ(f.shared->sample[1][i] != 0, i < 40);
			CHECK_EQ(f.shared->sample[0][i], 0);
			f.shared->sample[1][i] = 0;
		}
	}
	CHECK_EQ(f.shared->vcpu[1].accesses, 120);
	CHECK_EQ(f.shared->vcpu[1].writes, 120);
	flat_destroy(&f);
}

/* A part of the pages, in the order of the whole; each kind of sample has one word per access. */
static void touch_limits(void)
{
	struct guest_command command = { .pages = 64, .stride = 8, .order = GUEST_ORDER_STRIDE, .limit = 8 };
	struct touch_plan plan;
	struct flat f;

	if (!flat_create(&f, 64))
		return;
	for (u32 timed = GUEST_SAMPLE_NONE; timed <= GUEST_SAMPLE_GAP; timed++) {
		command.timed = timed;
		run_touch(&f, &plan, &command);
		for (u64 page = 0; page < 64; page++)
			CHECK_EQ(plan.touched[page], page % 8 == 0);
		CHECK_EQ(f.shared->vcpu[1].samples, timed ? 8 : 0);
		CHECK_EQ(f.shared->vcpu[1].accesses, 8 * (timed + 1));
	}
	command.limit = ~0ull; /* more than there are */
	run_touch(&f, &plan, &command);
	check_touched(plan.touched, 0, 64);
	CHECK_EQ(f.shared->vcpu[1].samples, 64);
	flat_destroy(&f);
}

/* Pass after pass, in any order, until the host wants the guest to end; samples are of one pass. */
static void touch_repeats(void)
{
	struct guest_command command = { .first = 3, .pages = 10, .stride = 4, .seed = 5, .repeat = 6 };
	struct touch_plan plan;
	struct flat f;

	if (!flat_create(&f, 64))
		return;
	for (command.order = GUEST_ORDER_SEQUENTIAL; command.order <= GUEST_ORDER_RANDOM; command.order++) {
		run_touch(&f, &plan, &command);
		for (u64 page = 0; page < 64; page++)
			CHECK_EQ(plan.touched[page], page >= 3 && page < 13 ? 6 : 0);
	}
	CHECK_EQ(f.shared->vcpu[1].accesses, 180);
	command.timed = GUEST_SAMPLE_CYCLES;
	run_touch(&f, &plan, &command);
	check_touched(plan.touched, 3, 10);
	CHECK_EQ(f.shared->vcpu[1].accesses, 190);
	flat_destroy(&f);
}

/* The end comes between two passes. */
static void touch_repeat_stops(void)
{
	struct guest_command command = { .pages = 10, .repeat = ~0ull };
	struct touch_plan plan = { .commands = &command, .nr = 1 };
	struct flat f;

	if (!flat_create(&f, 64))
		return;
	f.hook = touch_hook;
	f.arg = &plan;
	f.stop_after = 26; /* some polls, then accesses of the second pass or the third */
	CHECK_EQ(flat_run(&f, "touch", 1), 0);
	CHECK_EQ(f.shared->vcpu[1].accesses % 10, 0);
	CHECK_GT(f.shared->vcpu[1].accesses, 0);
	CHECK_LE(f.shared->vcpu[1].accesses, 30);
	CHECK_EQ(f.shared->vcpu[1].done, 1);
	flat_destroy(&f);
}

/* A command from a confused host stays inside DATA and the sample buffer. */
static void touch_clamps(void)
{
	struct guest_command command = { .first = 60, .pages = ~0ull, .timed = 1 };
	struct touch_plan plan;
	struct flat f;

	if (!flat_create(&f, 64))
		return;
	run_touch(&f, &plan, &command);
	check_touched(plan.touched, 60, 4);
	command.first = ~0ull;
	run_touch(&f, &plan, &command);
	check_touched(plan.touched, 0, 0);
	command = (struct guest_command){ .pages = 64, .timed = 1, .order = 77 };
	f.shared->header.sample_count = 10;
	run_touch(&f, &plan, &command);
	check_touched(plan.touched, 0, 64);
	CHECK_EQ(f.shared->vcpu[1].samples, 10);
	CHECK_EQ(f.shared->sample[0][20], 0); /* vCPU 1 begins after vCPU 0's ten */
	flat_destroy(&f);
}

static void set_args(struct flat *f, const char *arg0, const char *arg1)
{
	struct guest_shared *s = &f->shared->header;

	s->argc = 2;
	s->arg_offset[0] = 0;
	s->arg_offset[1] = 64;
	strcpy(s->args, arg0);
	strcpy(s->args + 64, arg1);
}

static void walks_and_counts(void)
{
	struct flat f;

	if (!flat_create(&f, 64))
		return;
	set_args(&f, "passes=3", "write=1");
	CHECK_EQ(flat_run(&f, "random", 0), 0);
	CHECK_CONTAINS(f.text, "random: vcpu 0: 192 accesses in ");
	CHECK_EQ(f.shared->vcpu[0].accesses, 192);
	CHECK_EQ(flat_run(&f, "stride", 1), 0);
	CHECK_CONTAINS(f.text, "stride: vcpu 1: 192 accesses in ");
	memset(f.data, 0, f.pages * GUEST_PAGE_SIZE);
	set_args(&f, "passes=5", "pages=9");
	CHECK_EQ(flat_run(&f, "counter", 0), 0);
	CHECK_CONTAINS(f.text, "counter: vcpu 0: total 45\n");
	CHECK_EQ(*flat_word(&f, 8, GUEST_WSLOT_OFFSET), 5);
	*flat_word(&f, 8, GUEST_WSLOT_OFFSET) = 4;
	CHECK_EQ(flat_run(&f, "counter", 0), 1);
	CHECK_CONTAINS(f.text, "counter: vcpu 0: page 8 holds 4 instead of 5\n");
	flat_destroy(&f);
}

const struct test_case vmm_guest_tests[] = {
	TEST(orders_visit_each_page_once),
	TEST(random_orders_differ_by_seed),
	TEST(stamps),
	TEST(options),
	TEST(touch_obeys),
	TEST(touch_limits),
	TEST(touch_repeats),
	TEST(touch_repeat_stops),
	TEST(touch_clamps),
	TEST(walks_and_counts),
	TEST_END,
};
