/* SPDX-License-Identifier: MIT */
/* bench register: its names, its list of counts, and the figures that its cases give. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lab/bench/notifier.h"
#include "lib/option.h"

/* Numbers of VMAs that the figures speak of. */
#define FIGURE_FEW 10u
#define FIGURE_COUNT 40000u
#define FIGURE_MANY 1000000u

const struct register_name register_how_table[REGISTER_HOW_NR] = {
	[REGISTER_MARKS] = { "marks", "mm_lock, a mark in each object" },
	[REGISTER_BITS] = { "bits", "mm_lock, a bit per object" },
	[REGISTER_SORTED] = { "sorted", "mm_lock, a sorted array of locks" },
	[REGISTER_SECTION] = { "section", "no lock: publish, wait for open sections; another thread runs" },
	[REGISTER_KVM] = { "KVM_CREATE_VM", "what as many VMAs in this process add to it" },
};

const struct register_name register_kind_table[REGISTER_KIND_NR] = {
	[REGISTER_OWN] = { "own", "each VMA was touched and has an anon_vma of its own" },
	[REGISTER_SHARED] = { "shared", "one anon_vma for all: a touched mapping that mprotect split" },
	[REGISTER_UNTOUCHED] = { "untouched", "no anon_vma" },
};

const struct register_name signal_place_table[SIGNAL_PLACES] = {
	[SIGNAL_SAME_CPU] = { "same_cpu", "the sender runs on the registrar's processor, when a timer gives it that" },
	[SIGNAL_OTHER_CPU] = { "other_cpu", "it runs on another: one processor interrupts the other" },
};

static int compare_counts(const void *a, const void *b)
{
	u32 x = *(const u32 *)a, y = *(const u32 *)b;

	return x < y ? -1 : x > y;
}

int bench_register_counts(const char *list, struct bench_register_config *config, struct err *err)
{
	const char *at = list;
	u32 n = 0;

	config->nr_counts = 0;
	for (;;) {
		char word[24];
		size_t len = strcspn(at, ",");
		u64 count;

		snprintf(word, sizeof(word), "%.*s", (int)min(len, sizeof(word) - 1), at);
		if (parse_u64(word, &count) || !count || count > REGISTER_COUNT_MAX || len >= sizeof(word))
			return err_set(err, -EINVAL,
				       "'%s' is no list of up to %u numbers from 1 to %u, such as 10,40000", list,
				       REGISTER_COUNTS_MAX, REGISTER_COUNT_MAX);
		if (n == REGISTER_COUNTS_MAX)
			return err_set(err, -EINVAL, "'%s' has more than %u numbers", list, REGISTER_COUNTS_MAX);
		config->counts[n++] = (u32)count;
		if (!at[len])
			break;
		at += len + 1;
	}
	qsort(config->counts, n, sizeof(*config->counts), compare_counts);
	for (u32 i = 0; i < n; i++)
		if (!i || config->counts[i] != config->counts[i - 1])
			config->counts[config->nr_counts++] = config->counts[i];
	return 0;
}

/* --- figures --------------------------------------------------------------------- */

struct registered {
	const struct bench_register_config *config;
	struct bench_register_result *result;
};

static const struct figure peer_figure = {
	.what = "against what as many VMAs of this process add to KVM_CREATE_VM",
	.unit = "ns",
	.peer = "added to KVM_CREATE_VM",
	.at_most = true,
	.bound = 0.5,
};
static const struct figure flat_figure = {
	.what = "no section open, another thread running",
	.unit = "ns",
	.peer = "the same at 10 VMAs",
	.at_most = true,
	.bound = 2,
};
static const struct figure section_figure = {
	.what = "no section open, another thread running",
	.unit = "ns",
	.at_most = true,
	.bound = 20000,
};
static const struct figure signal_figure = {
	.what = "a thread on the same processor sends it, mmu_notifier_register() returns: p99",
	.unit = "ns",
	.at_most = true,
	.bound = SIGNAL_BOUND_NS,
};
static const struct figure handled_figure = {
	.what = "from the first line of its handler to the return of mmu_notifier_register(), p99",
	.unit = "ns",
	.at_most = true,
	.bound = SIGNAL_BOUND_NS,
};

static void figure_init(struct figure *f, const struct figure *like, const char *name, u32 count, const char *kind)
{
	*f = *like;
	snprintf(f->name, sizeof(f->name), "%s, %u VMAs, %s", name, count, kind);
}

/* The case of own VMAs of @count and @how; NULL, and @f says why: not asked for. */
static const struct figure *case_at(const struct registered *r, struct figure *f, enum register_kind kind,
				    enum register_how how, u32 count)
{
	for (u32 i = 0; i < r->config->nr_counts; i++)
		if (r->config->counts[i] == count && r->config->kinds[kind])
			return &r->result->cases[i][kind][how];
	figure_skip(f, "--vmas and --kind leave %u VMAs of kind %s out", count, register_kind_table[kind].name);
	return NULL;
}

static void compare_cases(struct figure *f, const struct figure *value, const struct figure *peer)
{
	if (!value || !peer)
		return;
	for (u32 i = 0; i < value->rounds; i++)
		if (peer->skip[0] || i < peer->rounds)
			figure_add(f, value->value[i], peer->value[i]);
	if (peer->skip[0])
		figure_skip(f, "%s", peer->skip);
}

static double p99_us(const struct signal_times *times, enum signal_part part)
{
	return (double)hist_percentile(&times->part[part], 99) / 1e3;
}

/* The same from another processor, which is not judged. */
static void text_across(char *text, size_t bytes, const struct signal_results *r, enum signal_part part)
{
	const struct signal_times *other = r->times[SIGNAL_OTHER_CPU];

	if (r->no_other_cpu.text[0])
		snprintf(text, bytes, "not from another processor: %s", r->no_other_cpu.text);
	else
		snprintf(text, bytes, "from another processor: %.1f us, a bare thread %.1f us",
			 p99_us(&other[SIGNAL_SENT], part), p99_us(&other[SIGNAL_BARE], part));
}

/* What the bound asks of the machine itself, and what another processor adds. */
static void note_signals(struct figure *f, const struct signal_results *r)
{
	const struct signal_times *same = r->times[SIGNAL_SAME_CPU];
	char across[120];

	text_across(across, sizeof(across), r, SIGNAL_WHOLE);
	snprintf(f->note, sizeof(f->note),
		 "p99 of a bare thread, which registers nothing, in turn: %.1f us; %s; "
		 "of %llu above the bound %llu were before the handler ran, %llu for want of a processor",
		 p99_us(&same[SIGNAL_BARE], SIGNAL_WHOLE), across, (unsigned long long)same[SIGNAL_SENT].slow,
		 (unsigned long long)same[SIGNAL_SENT].slow_before, (unsigned long long)same[SIGNAL_SENT].slow_absent);
}

/* How much of it the thread ran for, and what the machine's own share was. */
static void note_handled(struct figure *f, const struct signal_results *r)
{
	const struct signal_times *same = r->times[SIGNAL_SAME_CPU];
	char across[120];

	text_across(across, sizeof(across), r, SIGNAL_HANDLED);
	snprintf(f->note, sizeof(f->note),
		 "processor time of the thread in it, p99: %.1f us; until a bare thread ends, in turn: %.1f us; %s",
		 p99_us(&same[SIGNAL_SENT], SIGNAL_COMPUTED), p99_us(&same[SIGNAL_BARE], SIGNAL_HANDLED), across);
}

static void signal_figure_fill(const struct registered *r, int how, const struct figure *like, const char *name,
			       enum signal_part part, struct figure *f)
{
	const struct signal_results *results = &r->result->signals[how];
	const struct hist *judged = &results->times[SIGNAL_SAME_CPU][SIGNAL_SENT].part[part];
	char text[60];

	snprintf(text, sizeof(text), name, register_how_table[how].name);
	figure_init(f, like, text, r->config->counts[r->config->nr_counts - 1], "own");
	if (hist_count(judged)) {
		figure_add(f, (double)hist_percentile(judged, 99), 0);
		if (part == SIGNAL_WHOLE)
			note_signals(f, results);
		else
			note_handled(f, results);
	} else if (!r->config->signals || !r->config->kinds[REGISTER_OWN]) {
		figure_skip(f, "--signals or --kind leaves it out");
	} else if (results->late[SIGNAL_SAME_CPU]) {
		figure_skip(f, "every registration was over before its signal came");
	}
}

static void signal_figures(const struct registered *r)
{
	for (int how = 0; how < REGISTER_VARIANTS; how++) {
		signal_figure_fill(r, how, &signal_figure, "signal to -EINTR, %s", SIGNAL_WHOLE,
				   &r->result->figure[REGISTER_FIGURE_SIGNAL + how]);
		signal_figure_fill(r, how, &handled_figure, "handler to -EINTR, %s", SIGNAL_HANDLED,
				   &r->result->figure[REGISTER_FIGURE_HANDLED + how]);
	}
}

/* Alone in its process a thread gets its barrier for nothing. */
static void note_alone(const struct registered *r, struct figure *f)
{
	u64 alone = r->result->sections_alone, all = r->result->sections;

	if (alone)
		snprintf(f->note, sizeof(f->note),
			 "beside %llu of all %llu registrations by section no other thread ran",
			 (unsigned long long)alone, (unsigned long long)all);
	if (!f->skip[0] && 2 * alone > all)
		figure_skip(f, "no other thread had a processor beside most registrations");
}

void bench_register_conclude(const struct bench_register_config *config, struct bench_register_result *result)
{
	const struct registered done = { config, result }, *r = &done;
	struct figure *f = r->result->figure;
	const struct figure *section;

	for (int kind = 0; kind < REGISTER_KIND_NR; kind++, f++) {
		figure_init(f, &peer_figure, "register by marks", FIGURE_COUNT, register_kind_table[kind].name);
		compare_cases(f, case_at(r, f, kind, REGISTER_MARKS, FIGURE_COUNT),
			      case_at(r, f, kind, REGISTER_KVM, FIGURE_COUNT));
	}
	figure_init(f, &flat_figure, "register by section, grown", FIGURE_MANY, "own");
	section = case_at(r, f, REGISTER_OWN, REGISTER_SECTION, FIGURE_MANY);
	compare_cases(f, section, section ? case_at(r, f, REGISTER_OWN, REGISTER_SECTION, FIGURE_FEW) : NULL);
	note_alone(r, f);
	f++;
	figure_init(f, &section_figure, "register by section", FIGURE_MANY, "own");
	section = case_at(r, f, REGISTER_OWN, REGISTER_SECTION, FIGURE_MANY);
	for (u32 i = 0; section && i < section->rounds; i++)
		figure_add(f, section->value[i], 0);
	note_alone(r, f);
	signal_figures(r);
}
