/* SPDX-License-Identifier: MIT */
/*
 * bench register: see lab/bench/notifier.h. The address spaces of one number and kind
 * that are locked live side by side and take turns within a round, the peer with them,
 * unless they are large; then those of one kind that admit by section, of every number.
 */
#include "lab/bench/notifier.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/thread.h"
#include "lib/time.h"
#include "mm/mm.h"
#include "notifier/notifier.h"

#define BASE 0x100000000ull
#define SAMPLE_MAX 63
#define SAMPLE_NS (5 * NSEC_PER_MSEC) /* then enough, if there are SAMPLE_MIN ... */
#define SAMPLE_MIN 5
#define SAMPLE_LONG_NS (50 * NSEC_PER_MSEC) /* ... and then in any case */
#define SECTIONS_NS (200 * NSEC_PER_MSEC)   /* then the bystander need not run */
#define ARENA_SLACK (16ull << 20)
#define BARE_BYTES 128ull /* per VMA: a line of it and one of its lock */
#define BARE_MAX (128ull << 20)

struct register_run {
	const struct bench_register_config *config;
	struct bench_register_result *result;
	struct frame_arena *arena;
	int kvm; /* or -errno, and: */
	struct err no_kvm;
	struct rng rng;
	u64 done, total;
	/* Those of a batch. */
	u32 count; /* index */
	enum register_kind kind;
	enum register_how first, last;
	struct mm_struct *mm[REGISTER_VARIANTS];
	struct mm_struct *sections[REGISTER_COUNTS_MAX];
};

static bool stopped(const struct register_run *r)
{
	return r->config->stop && READ_ONCE(*r->config->stop);
}

static int tell(struct register_run *r, const char *what)
{
	if (r->config->progress)
		r->config->progress(r->done, r->total, what, r->config->arg);
	return stopped(r) ? -EINTR : 0;
}

/* --- VMAs ------------------------------------------------------------------------------ */

/* Each on its own, a hole between two, touched once: a VMA keeps its anon_vma when its page goes. */
static int build_own(struct register_run *r, struct mm_struct *mm, u32 count)
{
	int ret = 0;

	for (u64 i = 0; i < count && !ret; i++) {
		hva_t at = BASE + 2 * i * PAGE_SIZE;

		ret = mm_mmap(mm, at, PAGE_SIZE, TAIN_PROT_READ | TAIN_PROT_WRITE, TAIN_MAP_FIXED, NULL);
		ret = ret ?: mm_write64(mm, at, i);
		ret = ret ?: mm_madvise(mm, at, PAGE_SIZE, TAIN_MADV_DONTNEED);
		if (!(i % 1024) && stopped(r))
			ret = -EINTR;
	}
	return ret;
}

/* One mapping, every other page made read-only. */
static int build_split(struct register_run *r, struct mm_struct *mm, u32 count, bool touch)
{
	int ret = mm_mmap(mm, BASE, count * PAGE_SIZE, TAIN_PROT_READ | TAIN_PROT_WRITE, TAIN_MAP_FIXED, NULL);

	if (touch)
		ret = ret ?: mm_write64(mm, BASE, 1);
	for (u64 i = 1; i < count && !ret; i += 2) {
		ret = mm_mprotect(mm, BASE + i * PAGE_SIZE, PAGE_SIZE, TAIN_PROT_READ);
		if (i % 1024 == 1 && stopped(r))
			ret = -EINTR;
	}
	return ret;
}

static int build(struct register_run *r, enum register_how how, u32 count, struct mm_struct **mm, struct err *err)
{
	struct mm_options options = {
		.mm_lock = how == REGISTER_SECTION ? NULL : register_how_table[how].name,
		.admission = how == REGISTER_SECTION ? "section" : "mm_lock",
		.max_vmas = count + 16,
	};
	int ret = tell(r, "making VMAs");

	if (ret)
		return ret;
	ret = mm_create_with(r->arena, &options, mm);
	if (ret)
		return err_set(err, ret, "an address space with %s: %s", register_how_table[how].name, strerror(-ret));
	if (r->kind == REGISTER_OWN)
		ret = build_own(r, *mm, count);
	else
		ret = build_split(r, *mm, count, r->kind == REGISTER_SHARED);
	return ret && ret != -EINTR ? err_set(err, ret, "%u VMAs: %s", count, strerror(-ret)) : ret;
}

/* --- one round's value -------------------------------------------------------------------- */

static int nothing_start(struct mmu_notifier *subscription, const struct mmu_notifier_range *range)
{
	return 0;
}

static void nothing_end(struct mmu_notifier *subscription, const struct mmu_notifier_range *range)
{
}

static const struct mmu_notifier_ops nothing_ops = {
	.invalidate_range_start = nothing_start,
	.invalidate_range_end = nothing_end,
};

/* The fastest of a few: what else the machine does only adds, here and at the peer. */
static int sample(struct mm_struct *mm, double *ns, struct err *err)
{
	struct mmu_notifier subscription = { .ops = &nothing_ops };
	u64 best = (u64)-1, spent = 0;

	for (u32 n = 0; n < SAMPLE_MAX && spent < (n < SAMPLE_MIN ? SAMPLE_LONG_NS : SAMPLE_NS); n++) {
		u64 begin = cycles(), took;
		int ret = mmu_notifier_register(&subscription, mm_notifier(mm));

		took = cycles_to_ns(cycles() - begin);
		if (ret)
			return err_set(err, ret, "registration: %s", strerror(-ret));
		mmu_notifier_unregister(&subscription, mm_notifier(mm));
		best = min(best, took);
		spent += took;
	}
	*ns = (double)best;
	return 0;
}

/* Alone in its process a thread gets its barrier for nothing: let there be another. */
struct bystander {
	struct thread thread;
	u32 stop;
	u32 steps;
};

static void bystander(void *arg)
{
	struct bystander *b = arg;

	while (!READ_ONCE(b->stop))
		WRITE_ONCE(b->steps, b->steps + 1);
}

static int compare_u64(const void *a, const void *b)
{
	u64 x = *(const u64 *)a, y = *(const u64 *)b;

	return x < y ? -1 : x > y;
}

/* One that the bystander ran beside; or after @deadline, any: there may be one processor. */
static int sample_section(struct register_run *r, struct mm_struct *mm, const struct bystander *b, u64 deadline,
			  u64 *ns, struct err *err)
{
	struct mmu_notifier subscription = { .ops = &nothing_ops };
	bool beside;

	do {
		u32 steps = READ_ONCE(b->steps);
		u64 begin = cycles();
		int ret = mmu_notifier_register(&subscription, mm_notifier(mm));

		*ns = cycles_to_ns(cycles() - begin);
		beside = READ_ONCE(b->steps) != steps;
		if (ret)
			return err_set(err, ret, "registration by section: %s", strerror(-ret));
		mmu_notifier_unregister(&subscription, mm_notifier(mm));
	} while (!beside && clock_ns() < deadline);
	r->result->sections++;
	r->result->sections_alone += !beside;
	return 0;
}

/*
 * By section: the numbers of VMAs take turns, registration by registration, and the value
 * is the middle one. Most of it is an interrupt to the processor of the bystander: a
 * fastest one would be of a moment when that had none.
 */
static int sample_sections(struct register_run *r, const struct bystander *b, double *ns, struct err *err)
{
	static u64 took[REGISTER_COUNTS_MAX][SAMPLE_MAX];
	u64 deadline = clock_ns() + SECTIONS_NS;
	int ret = 0;

	for (u32 n = 0; n < SAMPLE_MAX; n++)
		for (u32 i = 0; i < r->config->nr_counts && !ret; i++)
			if (r->sections[i])
				ret = sample_section(r, r->sections[i], b, deadline, &took[i][n], err);
	for (u32 i = 0; i < r->config->nr_counts; i++) {
		qsort(took[i], SAMPLE_MAX, sizeof(took[i][0]), compare_u64);
		ns[i] = (double)took[i][SAMPLE_MAX / 2];
	}
	return ret;
}

int bench_pin_here(void)
{
	int here = sched_getcpu(), other = -1;
	cpu_set_t allowed;

	if (sched_getaffinity(0, sizeof(allowed), &allowed))
		return -1;
	for (int cpu = 0; cpu < CPU_SETSIZE && other < 0; cpu++)
		if (cpu != here && CPU_ISSET(cpu, &allowed))
			other = cpu;
	if (other >= 0)
		thread_pin(here);
	return other;
}

static int sections_round(struct register_run *r, double *ns, struct err *err)
{
	struct bystander b = { .stop = 0 };
	int ret = thread_create(&b.thread, "bystander", bench_pin_here(), bystander, &b);

	if (ret) {
		err_set(err, ret, "cannot start a thread: %s", strerror(-ret));
		goto unpin;
	}
	thread_sleep_ns(NSEC_PER_MSEC);
	ret = sample_sections(r, &b, ns, err);
	WRITE_ONCE(b.stop, 1);
	thread_join(&b.thread);
unpin:
	thread_pin(-1);
	return ret;
}

/* --- a batch --------------------------------------------------------------------------------- */

static struct figure *case_of(struct register_run *r, enum register_how how)
{
	return &r->result->cases[r->count][r->kind][how];
}

static int one_round(struct register_run *r, bool kvm, double base, struct err *err)
{
	double ns;
	int ret;

	for (enum register_how how = r->first; how <= r->last; how++) {
		ret = tell(r, register_how_table[how].name);
		ret = ret ?: sample(r->mm[how], &ns, err);
		if (ret)
			return ret;
		figure_add(case_of(r, how), ns, 0);
		r->done++;
	}
	if (!kvm)
		return 0;
	ret = peer_kvm_create(r->kvm, &ns, err);
	if (!ret)
		figure_add(case_of(r, REGISTER_KVM), ns > base ? ns - base : 0, 0);
	return ret;
}

static int signals(struct register_run *r, enum register_how how, struct err *err)
{
	const struct figure *c = case_of(r, how);
	struct bench_signals s = {
		.mm = r->mm[how],
		.bytes = PAGE_SIZE,
		.tries = r->config->signals,
		.typical_ns = (u64)(figure_median(c, c->value) * 0.8),
		.rng = &r->rng,
		.stop = r->config->stop,
		.results = &r->result->signals[how],
	};
	int ret = tell(r, "signals");

	while (s.bytes < r->config->counts[r->count] * BARE_BYTES && s.bytes < BARE_MAX)
		s.bytes *= 2;
	return ret ?: bench_signals_run(&s, err);
}

static int measure_batch(struct register_run *r, bool kvm, double base, struct err *err)
{
	bool interrupt = r->config->signals && r->count == r->config->nr_counts - 1 && r->kind == REGISTER_OWN;
	double ns;
	int ret = 0;

	/* What the first subscription of an mm allocates is not what is measured. */
	for (enum register_how how = r->first; how <= r->last && !ret; how++)
		ret = sample(r->mm[how], &ns, err);
	for (u32 round = 0; round < r->config->rounds && !ret; round++)
		ret = one_round(r, kvm, base, err);
	for (enum register_how how = r->first; how <= r->last && interrupt && !ret; how++)
		ret = signals(r, how, err);
	return ret;
}

/* The base is measured before the VMAs are made, as often as what is measured with them. Without a peer: why. */
static int peer_begin(struct register_run *r, struct peer_vmas *vmas, double *base, struct err *err)
{
	struct figure bare = { .rounds = 0 };
	struct err why = { "" };
	double ns;
	int ret;

	if (r->kvm < 0) {
		figure_skip(case_of(r, REGISTER_KVM), "%s", r->no_kvm.text);
		return 0;
	}
	for (u32 i = 0; i < r->config->rounds; i++) {
		ret = peer_kvm_create(r->kvm, &ns, err);
		if (ret)
			return ret;
		figure_add(&bare, ns, 0);
	}
	*base = figure_median(&bare, bare.value);
	if (peer_vmas_add(vmas, r->kind, r->config->counts[r->count], &why))
		figure_skip(case_of(r, REGISTER_KVM), "%s", why.text);
	return 0;
}

static int run_batch(struct register_run *r, struct err *err)
{
	struct peer_vmas vmas = { .start = NULL };
	double base = 0;
	int ret = 0;

	for (enum register_how how = r->first; how <= r->last && !ret; how++)
		ret = build(r, how, r->config->counts[r->count], &r->mm[how], err);
	if (r->first == REGISTER_MARKS && !ret)
		ret = peer_begin(r, &vmas, &base, err);
	ret = ret ?: measure_batch(r, vmas.start, base, err);
	if (vmas.start)
		peer_vmas_remove(&vmas);
	for (enum register_how how = r->first; how <= r->last; how++) {
		if (r->mm[how])
			mmput(r->mm[how]);
		r->mm[how] = NULL;
	}
	return ret;
}

/* --- all of it ----------------------------------------------------------------------------------- */

static bool wanted(const struct bench_register_config *c, u32 count, int kind)
{
	return c->kinds[kind] && (c->counts[count] <= REGISTER_MANY || kind == REGISTER_OWN || !c->many_own_only);
}

/* Those of one kind. */
static int run_sections(struct register_run *r, struct err *err)
{
	const struct bench_register_config *c = r->config;
	double ns[REGISTER_COUNTS_MAX];
	int ret = 0;

	for (u32 i = 0; i < c->nr_counts && !ret; i++)
		if (wanted(c, i, r->kind))
			ret = build(r, REGISTER_SECTION, c->counts[i], &r->sections[i], err);
	for (u32 round = 0; round < c->rounds && !ret; round++) {
		ret = tell(r, register_how_table[REGISTER_SECTION].name);
		ret = ret ?: sections_round(r, ns, err);
		for (u32 i = 0; i < c->nr_counts && !ret; i++)
			if (r->sections[i]) {
				figure_add(&r->result->cases[i][r->kind][REGISTER_SECTION], ns[i], 0);
				r->done++;
			}
	}
	for (u32 i = 0; i < c->nr_counts; i++) {
		if (r->sections[i])
			mmput(r->sections[i]);
		r->sections[i] = NULL;
	}
	return ret;
}

static int run_all(struct register_run *r, struct err *err)
{
	const struct bench_register_config *c = r->config;
	int ret = 0;

	for (r->count = 0; r->count < c->nr_counts; r->count++)
		for (r->kind = 0; r->kind < REGISTER_KIND_NR; r->kind++) {
			u32 step = c->counts[r->count] > REGISTER_MANY ? 1 : REGISTER_VARIANTS;

			if (!wanted(c, r->count, r->kind))
				continue;
			for (u32 how = 0; how < REGISTER_VARIANTS && !ret; how += step) {
				r->first = how;
				r->last = how + step - 1;
				ret = run_batch(r, err);
			}
		}
	for (r->kind = 0; r->kind < REGISTER_KIND_NR && !ret; r->kind++)
		if (c->kinds[r->kind])
			ret = run_sections(r, err);
	return ret;
}

static int init_result(struct register_run *r, struct err *err)
{
	struct bench_register_result *result = r->result;

	memset(result, 0, sizeof(*result));
	for (u32 i = 0; i < r->config->nr_counts; i++)
		for (int kind = 0; kind < REGISTER_KIND_NR; kind++) {
			if (wanted(r->config, i, kind))
				r->total += (u64)r->config->rounds * REGISTER_KVM;
			for (int how = 0; how < REGISTER_HOW_NR; how++) {
				struct figure *f = &result->cases[i][kind][how];

				snprintf(f->name, sizeof(f->name), "%s, %u VMAs, %s", register_how_table[how].name,
					 r->config->counts[i], register_kind_table[kind].name);
				f->unit = "ns";
			}
		}
	for (int how = 0; how < REGISTER_VARIANTS; how++)
		if (signal_results_init(&result->signals[how]))
			return err_set(err, -ENOMEM, "no memory for the histograms");
	return 0;
}

void bench_register_destroy(struct bench_register_result *result)
{
	for (int how = 0; how < REGISTER_VARIANTS; how++)
		signal_results_destroy(&result->signals[how]);
}

int bench_register_run(const struct bench_register_config *config, struct bench_register_result *result,
		       struct err *err)
{
	struct register_run r = { .config = config, .result = result };
	u64 most = config->counts[config->nr_counts - 1] * (u64)REGISTER_VARIANTS, sum = 0, arena, start = clock_ns();
	int ret = init_result(&r, err);

	if (ret)
		return ret;
	for (u32 i = 0; i < config->nr_counts; i++)
		sum += config->counts[i];
	/* A leaf table per 512 pages, two pages per VMA at most, for those that live at a time. */
	arena = (max(most, sum) / 256 + REGISTER_COUNTS_MAX) * PAGE_SIZE + ARENA_SLACK;
	ret = frame_arena_create(arena, &r.arena);
	if (ret)
		return err_set(err, ret, "an arena of %llu MiB: %s", (unsigned long long)(arena >> 20), strerror(-ret));
	rng_seed(&r.rng, config->seed);
	r.kvm = peer_kvm_open(&r.no_kvm);
	ret = run_all(&r, err);
	bench_register_conclude(config, result);
	if (r.kvm >= 0)
		close(r.kvm);
	frame_arena_destroy(r.arena);
	result->elapsed_ns = clock_ns() - start;
	return ret;
}
