/* SPDX-License-Identifier: MIT */
/* bench invalidate: its names, its sizes, and the figures that its cases give. */
#include <stdio.h>
#include <string.h>

#include "lab/bench/notifier.h"

const char *const invalidate_admission_names[INVALIDATE_ADMISSIONS] = { "mm_lock", "section" };

const struct register_name invalidate_table[INVALIDATE_WHAT_NR] = {
	[INVALIDATE_NOBODY] = { "no subscriber", "start and end, less an empty loop" },
	[INVALIDATE_SUBSCRIBERS] = { "subscribers", "the same, callbacks that do nothing" },
	[INVALIDATE_PRESENT] = { "section, mirrored", "start and end alone; the second MMU maps every page" },
	[INVALIDATE_HOLE] = { "empty 1 GiB", "start and end alone; the second MMU maps no page" },
	[INVALIDATE_DONTNEED] = { "DONTNEED, mirrored", "the whole operation, pages freed" },
	[INVALIDATE_DONTNEED_ALONE] = { "DONTNEED, alone", "the same, no subscriber" },
	[INVALIDATE_MUNMAP] = { "munmap, mirrored", "the whole operation, pages and tables freed" },
	[INVALIDATE_MUNMAP_ALONE] = { "munmap, alone", "the same, no subscriber" },
};

const u32 invalidate_subscribers[INVALIDATE_SIZES] = { 1, 8, 64, 0 };

void bench_invalidate_init(const struct bench_invalidate_config *config, struct bench_invalidate_result *result)
{
	static const u32 pages[INVALIDATE_SIZES] = { 1, 16, 256, 4096 };
	u64 all = config->bytes / PAGE_SIZE;
	u32 n = 0;

	memset(result, 0, sizeof(*result));
	while (pages[n] && pages[n] < all) {
		result->pages[n] = pages[n];
		n++;
	}
	result->pages[n] = (u32)all;
	for (int a = 0; a < INVALIDATE_ADMISSIONS; a++)
		for (int what = 0; what < INVALIDATE_WHAT_NR; what++)
			for (int size = 0; size < INVALIDATE_SIZES; size++) {
				struct figure *f = &result->cases[a][what][size];
				bool subscribers = what == INVALIDATE_SUBSCRIBERS;
				u32 count = subscribers ? invalidate_subscribers[size] : result->pages[size];

				f->unit = "ns";
				if (what == INVALIDATE_NOBODY || what == INVALIDATE_HOLE)
					snprintf(f->name, sizeof(f->name), "%s: %s", invalidate_admission_names[a],
						 invalidate_table[what].name);
				else
					snprintf(f->name, sizeof(f->name), "%s: %s, %u%s",
						 invalidate_admission_names[a], invalidate_table[what].name, count,
						 subscribers ? "" : " pages, a page");
			}
}

/* --- figures ---------------------------------------------------------------------- */

static struct figure *figure_of(struct bench_invalidate_result *r, int admission, enum invalidate_figure which,
				struct figure like, const char *name)
{
	struct figure *f = &r->figure[admission][which];

	*f = like;
	f->unit = "ns";
	f->at_most = true;
	snprintf(f->name, sizeof(f->name), "%s: %s", invalidate_admission_names[admission], name);
	return f;
}

static void add_values(struct figure *f, const struct figure *from, double divisor)
{
	for (u32 i = 0; i < from->rounds; i++)
		figure_add(f, from->value[i] / divisor, 0);
}

static void conclude_subscribers(struct bench_invalidate_result *r, int a)
{
	const struct figure *by = r->cases[a][INVALIDATE_SUBSCRIBERS];
	const u32 *n = invalidate_subscribers;
	struct figure *f;
	char name[40];

	for (int size = 0; size < 3; size++) {
		struct figure like = {
			.what = "start and end, less an empty loop, over the number of callbacks, which do nothing",
			.bound = 15
		};

		snprintf(name, sizeof(name), "a subscriber of %u", n[size]);
		f = figure_of(r, a, INVALIDATE_FIGURE_SUBSCRIBERS + size, like, name);
		add_values(f, &by[size], n[size]);
	}
	f = figure_of(r, a, INVALIDATE_FIGURE_LINEAR,
		      (struct figure){ .what = "a subscriber of 64", .peer = "a subscriber of 8", .bound = 1.2 },
		      "linear in subscribers");
	for (u32 i = 0; i < by[2].rounds; i++)
		figure_add(f, by[2].value[i] / n[2], by[1].value[i] / n[1]);
}

/* A round at a time: what any operation costs, and what each page adds. */
static void conclude_line(struct bench_invalidate_result *r, int a, enum invalidate_what what, u32 largest)
{
	const struct figure *one = &r->cases[a][what][0], *many = &r->cases[a][what][largest];
	struct figure *fixed = &r->fixed[a][what], *slope = &r->slope[a][what];
	double pages = r->pages[largest];

	fixed->unit = slope->unit = "ns";
	snprintf(fixed->name, sizeof(fixed->name), "%s: %s, an operation", invalidate_admission_names[a],
		 invalidate_table[what].name);
	snprintf(slope->name, sizeof(slope->name), "%s: %s, each page", invalidate_admission_names[a],
		 invalidate_table[what].name);
	for (u32 i = 0; largest && i < min(one->rounds, many->rounds); i++) {
		double each = (many->value[i] * pages - one->value[i]) / (pages - 1);

		figure_add(slope, each, 0);
		figure_add(fixed, one->value[i] - each, 0);
	}
}

void bench_invalidate_conclude(struct bench_invalidate_result *r)
{
	u32 largest = 0;

	while (largest + 1 < INVALIDATE_SIZES && r->pages[largest + 1])
		largest++;
	for (int a = 0; a < INVALIDATE_ADMISSIONS; a++) {
		struct figure *f;

		f = figure_of(r, a, INVALIDATE_FIGURE_NOBODY,
			      (struct figure){ .what = "start and end, less an empty loop", .bound = 2 },
			      "a section with no subscriber");
		add_values(f, &r->cases[a][INVALIDATE_NOBODY][0], 1);
		conclude_subscribers(r, a);
		f = figure_of(r, a, INVALIDATE_FIGURE_PRESENT,
			      (struct figure){ .what = "a page, start and end over the largest range", .bound = 60 },
			      "invalidate of present pages");
		add_values(f, &r->cases[a][INVALIDATE_PRESENT][largest], 1);
		f = figure_of(r, a, INVALIDATE_FIGURE_PRESENT_ONE,
			      (struct figure){
				      .what = "start and end over one page, near the one before; the vCPU is outside",
				      .bound = 60 },
			      "invalidate of a single present page");
		add_values(f, &r->cases[a][INVALIDATE_PRESENT][0], 1);
		for (int what = INVALIDATE_PRESENT; what < INVALIDATE_WHAT_NR; what++)
			if (what != INVALIDATE_HOLE)
				conclude_line(r, a, what, largest);
		f = figure_of(
			r, a, INVALIDATE_FIGURE_HOLE,
			(struct figure){ .what = "start and end; the second MMU maps nothing there", .bound = 200 },
			"invalidate of an empty 1 GiB");
		add_values(f, &r->cases[a][INVALIDATE_HOLE][0], 1);
	}
}
