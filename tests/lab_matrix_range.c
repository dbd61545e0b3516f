/* SPDX-License-Identifier: MIT */
/* The truth table's column of notifier ranges: all of them, or none is told. */
#include <sys/mman.h>
#include <unistd.h>

#include "lab/matrix/internal.h"
#include "tests/lab_suites.h"

#define SMALL 1 /* pages: some fifty events */

static struct touch touch;
static struct matrix_ranges ranges;

/* A VM whose memory is told of, page by page. */
static bool begin(void)
{
	struct machine_config config = {
		.engine = engine_find("kvm"), .vcpus = 1, .bytes = MATRIX_BYTES, .backing = HOST_MEMFD
	};
	struct err err = { "" };

	if (!have_kvm())
		return false;
	if (matrix_ranges_open(&ranges, &err)) {
		test_skip("%s", err.text);
		return false;
	}
	return CHECK_MSG(!touch_start(&touch, &config, NULL, &err), "%s", err.text);
}

static void end(void)
{
	struct err err = { "" };

	matrix_ranges_close(&ranges);
	CHECK_MSG(!touch_end(&touch, &err), "%s", err.text);
}

static hva_t data(u64 page)
{
	return touch.machine.host.data + page * PAGE_SIZE;
}

static bool watch(u64 first, u64 pages)
{
	struct err err = { "" };
	int ret = matrix_ranges_watch(&ranges, data(first), data(first + pages), &err);

	if (ret)
		test_skip("%s", err.text);
	return !ret;
}

static void remove_each(u64 first, u64 pages)
{
	u64 failed = 0;

	for (u64 i = first; i < first + pages; i++)
		failed += madvise((void *)(uintptr_t)data(i), PAGE_SIZE, MADV_REMOVE) != 0;
	CHECK_EQ(failed, 0);
}

static void all_are_counted(void)
{
	struct err why = { "" };
	s64 count, pages;

	if (!begin())
		return;
	if (watch(0, MATRIX_PAGES)) {
		remove_each(0, MATRIX_PAGES);
		CHECK_MSG(!matrix_ranges_take(&ranges, &count, &pages, &why), "%s", why.text);
		CHECK_GE(count, MATRIX_PAGES);
		CHECK_GE(pages, MATRIX_PAGES);
	}
	end();
}

/* Part of the truth is none. */
static void what_was_lost_is_unknown(void)
{
	long cpus = sysconf(_SC_NPROCESSORS_CONF);
	struct err why = { "" };
	s64 count, pages;

	if (!begin())
		return;
	ranges.ring_pages = SMALL;
	if (watch(0, MATRIX_PAGES)) {
		for (long i = 0; i < cpus; i++) /* wherever this thread runs meanwhile */
			remove_each(0, MATRIX_PAGES);
		CHECK_EQ(matrix_ranges_take(&ranges, &count, &pages, &why), -EOVERFLOW);
		CHECK_CONTAINS(why.text, "the kernel had room for");
		CHECK_EQ(count, MATRIX_UNKNOWN);
		CHECK_EQ(pages, MATRIX_UNKNOWN);
	}
	end();
}

/* As a busy VM would. */
static void others_do_not_fill_the_ring(void)
{
	struct err why = { "" };
	s64 count, pages;

	if (!begin())
		return;
	ranges.ring_pages = SMALL;
	if (watch(0, 4)) {
		remove_each(4, MATRIX_PAGES);
		remove_each(0, 4);
		CHECK_MSG(!matrix_ranges_take(&ranges, &count, &pages, &why), "%s", why.text);
		CHECK_GE(count, 4);
		CHECK_GE(pages, 4);
	}
	end();
}

static void without_a_watch_nothing_is_known(void)
{
	struct matrix_ranges none = { .id = 0 };
	struct err why = { "" };
	s64 count = 0, pages = 0;

	CHECK_EQ(matrix_ranges_watch(&none, 0, PAGE_SIZE, &why), 0);
	CHECK_EQ(matrix_ranges_take(&none, &count, &pages, &why), 0);
	CHECK_EQ(count, MATRIX_UNKNOWN);
	CHECK_EQ(pages, MATRIX_UNKNOWN);
	CHECK_STR(why.text, "");
}

const struct test_case lab_matrix_range_tests[] = {
	TEST(all_are_counted),
	TEST(what_was_lost_is_unknown),
	TEST(others_do_not_fill_the_ring),
	TEST(without_a_watch_nothing_is_known),
	TEST_END,
};
