/* SPDX-License-Identifier: MIT */
/*
 * bench invalidate: see lab/bench/notifier.h. Each round makes its address spaces
 * anew, one per admission, and measures everything once in each.
 *
 * Sections are opened here, under the audit's locks, where it is their own cost that
 * is asked for; operations of the mm open their own. A value is the fastest of the
 * round: what else the machine does only adds. What takes a few nanoseconds is measured
 * in turns of lab/bench/turns.h, since a neighbour on the core adds more than half.
 */
#include "lab/bench/notifier.h"

#include <string.h>

#include "lab/bench/turns.h"
#include "lib/time.h"
#include "mm/mm.h"
#include "mmu/mmu.h"
#include "notifier/notifier.h"

#define DATA 0x100000000ull
#define HOLE 0x4000000000ull
#define HOLE_BYTES (1ull << 30)
#define HOLE_GFN 0x100000ull
#define ARENA_SLACK (16ull << 20)
#define CALLS 2000u	    /* of subscribers, in a turn: 7 to 20 us ... */
#define NOBODY_LOOPS 4000u  /* ... as without any */
#define SPENT (20000000ull) /* cycles after which a range is not measured again in a round */
#define PIECES 64u	    /* ranges that are changed in one go: the clock costs as much as a page ... */
#define PIECES_PAGES 1024u  /* ... of a small range */
#define HOLE_LOOPS 16u
#define REPEAT_MIN 3u
#define REPEAT_MAX 200u
#define SUBSCRIBERS_MAX 64

struct invalidate_run {
	const struct bench_invalidate_config *config;
	struct bench_invalidate_result *result;
	struct frame_arena *arena;
	u64 done;
	struct turns nobody[INVALIDATE_ADMISSIONS], subscribed[INVALIDATE_ADMISSIONS][INVALIDATE_SIZES];
	u32 pace; /* of all turns */
	/* Of one admission in one round. */
	enum invalidate_admission admission;
	struct mm_struct *mm;
	struct mmu *mmu; /* NULL: nobody mirrors */
	struct mmu_vcpu vcpu;
	struct mmu_notifier subscribers[SUBSCRIBERS_MAX];
};

static struct figure *case_of(struct invalidate_run *r, enum invalidate_what what, u32 size)
{
	return &r->result->cases[r->admission][what][size];
}

/* --- subscribers that do nothing ------------------------------------------------------------ */

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

/*
 * Cycles of @loops sections, or of as many turns of the same loop without. The range has a
 * line of its own: where it lies across two pages, as 3 of 256 places on a stack have it,
 * each section takes 4 to 14 ns more, and a process keeps its place.
 */
static u64 turn_sections(void *mm, u32 loops)
{
	u64 begin = cycles();

	for (u32 i = 0; i < loops; i++) {
		struct mmu_notifier_range range cacheline_aligned = {
			.mm = mm, .start = DATA, .end = DATA + PAGE_SIZE, .blockable = true
		};

		__asm__ volatile("" : "+m"(range)::"memory");
		mmu_notifier_invalidate_range_start(&range);
		__asm__ volatile("" : "+m"(range)::"memory");
		mmu_notifier_invalidate_range_end(&range);
	}
	return cycles() - begin;
}

static u64 turn_empty(void *mm, u32 loops)
{
	u64 begin = cycles();

	for (u32 i = 0; i < loops; i++) {
		struct mmu_notifier_range range cacheline_aligned = {
			.mm = mm, .start = DATA, .end = DATA + PAGE_SIZE, .blockable = true
		};

		__asm__ volatile("" : "+m"(range)::"memory");
		__asm__ volatile("" : "+m"(range)::"memory");
	}
	return cycles() - begin;
}

static int measure_sections(struct invalidate_run *r, enum invalidate_what what, u32 size, u32 loops)
{
	struct turns_of of = {
		.with = turn_sections,
		.without = turn_empty,
		.arg = mm_notifier(r->mm),
		.loops = CHECKING ? max(loops / 100, 1u) : loops,
		.least_ns = TURNS_LEAST_NS,
		.most_ns = TURNS_MOST_NS,
		.stop = r->config->stop,
	};
	struct turns *turns = what == INVALIDATE_NOBODY ? &r->nobody[r->admission] : &r->subscribed[r->admission][size];
	double ns;
	int ret;

	mm_audit_begin(r->mm);
	ret = turns_round(turns, &of, &r->pace, &ns);
	mm_audit_end(r->mm);
	if (!ret)
		figure_add(case_of(r, what, size), ns, 0);
	return ret;
}

static int measure_subscribers(struct invalidate_run *r, struct err *err)
{
	u32 registered = 0;
	int ret = measure_sections(r, INVALIDATE_NOBODY, 0, NOBODY_LOOPS);

	for (u32 size = 0; invalidate_subscribers[size] && !ret; size++) {
		for (; registered < invalidate_subscribers[size]; registered++) {
			r->subscribers[registered] = (struct mmu_notifier){ .ops = &nothing_ops };
			ret = mmu_notifier_register(&r->subscribers[registered], mm_notifier(r->mm));
			if (ret) {
				err_set(err, ret, "registration: %s", strerror(-ret));
				break;
			}
		}
		ret = ret ?: measure_sections(r, INVALIDATE_SUBSCRIBERS, size, CALLS / invalidate_subscribers[size]);
	}
	while (registered)
		mmu_notifier_unregister(&r->subscribers[--registered], mm_notifier(r->mm));
	return ret;
}

static int sections_init(struct invalidate_run *r, struct err *err)
{
	int ret = 0;

	for (int a = 0; a < INVALIDATE_ADMISSIONS && !ret; a++) {
		ret = turns_init(&r->nobody[a], r->config->rounds);
		for (u32 size = 0; invalidate_subscribers[size] && !ret; size++)
			ret = turns_init(&r->subscribed[a][size], r->config->rounds);
	}
	return ret ? err_set(err, ret, "no memory for the turns of %u rounds", r->config->rounds) : 0;
}

/* How the turns went, to the figures. */
static void sections_end(struct invalidate_run *r)
{
	for (int a = 0; a < INVALIDATE_ADMISSIONS; a++) {
		struct figure *f = r->result->figure[a];

		turns_note(&r->nobody[a], r->pace, 1, &f[INVALIDATE_FIGURE_NOBODY]);
		turns_destroy(&r->nobody[a]);
		for (u32 size = 0; invalidate_subscribers[size]; size++) {
			turns_note(&r->subscribed[a][size], r->pace, invalidate_subscribers[size],
				   &f[INVALIDATE_FIGURE_SUBSCRIBERS + size]);
			turns_destroy(&r->subscribed[a][size]);
		}
	}
}

/* --- ranges --------------------------------------------------------------------------------- */

static void tlb_flush(struct mmu_vcpu *vcpu)
{
}

static unsigned int tlb_audit(struct mmu_vcpu *vcpu)
{
	return 0;
}

/* No guest runs: nobody has a TLB to flush. */
static const struct mmu_vcpu_ops vcpu_ops = { .tlb_flush = tlb_flush, .tlb_audit = tlb_audit };

static int mirror_begin(struct invalidate_run *r, struct err *err)
{
	int ret = mmu_create(r->mm, "ept", &r->mmu);

	if (ret)
		return err_set(err, ret, "mmu_create: %s", strerror(-ret));
	mmu_vcpu_add(r->mmu, &r->vcpu, 0, &vcpu_ops);
	ret = mmu_set_memslot(r->mmu, 0, 0, r->config->bytes / PAGE_SIZE, DATA, 0);
	ret = ret ?: mmu_set_memslot(r->mmu, 1, HOLE_GFN, HOLE_BYTES / PAGE_SIZE, HOLE, 0);
	return ret ? err_set(err, ret, "memslots: %s", strerror(-ret)) : 0;
}

static void mirror_end(struct invalidate_run *r)
{
	if (!r->mmu)
		return;
	mmu_vcpu_remove(&r->vcpu);
	mmu_destroy(r->mmu);
	r->mmu = NULL;
}

/* Ranges of so many pages, a hole behind each: a mapping of its own. */
static u32 pieces(const struct invalidate_run *r, u32 pages)
{
	u32 all = (u32)(r->config->bytes / PAGE_SIZE), n = min(PIECES, PIECES_PAGES / pages);

	return max(1u, min(n, all / (pages + 1)));
}

/* Every page there, and in the second MMU if there is one. */
static int fill(struct invalidate_run *r, hva_t start, u64 bytes)
{
	int ret = mm_mmap(r->mm, start, bytes, TAIN_PROT_READ | TAIN_PROT_WRITE, TAIN_MAP_FIXED_NOREPLACE, NULL);

	if (ret && ret != -EEXIST)
		return ret;
	ret = mm_populate(r->mm, start, bytes);
	for (u64 gpa = start - DATA; r->mmu && gpa < start - DATA + bytes && !ret; gpa += PAGE_SIZE)
		do
			ret = mmu_fault(&r->vcpu, gpa, MM_WRITE);
		while (ret == MMU_FAULT_RETRY);
	if (ret == MMU_FAULT_SPURIOUS)
		ret = 0;
	return ret == MMU_FAULT_MMIO ? -EIO : ret;
}

static void section(struct invalidate_run *r, hva_t start, u64 bytes)
{
	struct mmu_notifier_range range = { .mm = mm_notifier(r->mm),
					    .start = start,
					    .end = start + bytes,
					    .event = MMU_NOTIFY_CLEAR,
					    .blockable = true };

	mmu_notifier_invalidate_range_start(&range);
	mmu_notifier_invalidate_range_end(&range);
}

static int change(struct invalidate_run *r, enum invalidate_what what, hva_t start, u64 bytes)
{
	switch (what) {
	case INVALIDATE_PRESENT:
		section(r, start, bytes);
		return 0;
	case INVALIDATE_DONTNEED:
	case INVALIDATE_DONTNEED_ALONE:
		return mm_madvise(r->mm, start, bytes, TAIN_MADV_DONTNEED);
	default:
		return mm_munmap(r->mm, start, bytes);
	}
}

/* All pieces, once. *took: cycles. */
static int change_all(struct invalidate_run *r, enum invalidate_what what, u32 pages, u64 *took)
{
	u64 bytes = pages * PAGE_SIZE, begin;
	u32 n = pieces(r, pages);
	int ret = 0;

	for (u32 i = 0; i < n && !ret; i++)
		ret = fill(r, DATA + i * (bytes + PAGE_SIZE), bytes);
	if (what == INVALIDATE_PRESENT)
		mm_audit_begin(r->mm); /* the locks of a section */
	begin = cycles();
	for (u32 i = 0; i < n && !ret; i++)
		ret = change(r, what, DATA + i * (bytes + PAGE_SIZE), bytes);
	*took = cycles() - begin;
	if (what == INVALIDATE_PRESENT)
		mm_audit_end(r->mm);
	return ret;
}

static int measure_ranges(struct invalidate_run *r, enum invalidate_what what, struct err *err)
{
	for (u32 size = 0; size < INVALIDATE_SIZES && r->result->pages[size]; size++) {
		u64 spent = 0, best = (u64)-1, took = 0;
		u32 pages = r->result->pages[size];
		int ret = mm_munmap(r->mm, DATA, r->config->bytes);

		for (u32 n = 0; n < REPEAT_MAX && (n < REPEAT_MIN || spent < SPENT) && !ret; n++) {
			ret = change_all(r, what, pages, &took);
			best = min(best, took);
			spent += took;
		}
		if (ret)
			return err_set(err, ret, "%s of %u pages: %s", invalidate_table[what].name, pages,
				       strerror(-ret));
		figure_add(case_of(r, what, size), cycles_to_ns_exact(best) / ((double)pieces(r, pages) * pages), 0);
		if (r->config->stop && READ_ONCE(*r->config->stop))
			return -EINTR;
	}
	return 0;
}

static int measure_hole(struct invalidate_run *r, struct err *err)
{
	u64 best = (u64)-1;
	int ret = mm_mmap(r->mm, HOLE, HOLE_BYTES, TAIN_PROT_READ | TAIN_PROT_WRITE, TAIN_MAP_FIXED, NULL);

	if (ret)
		return err_set(err, ret, "mmap: %s", strerror(-ret));
	mm_audit_begin(r->mm);
	for (u32 i = 0; i < REPEAT_MAX; i++) {
		u64 begin = cycles();

		for (u32 n = 0; n < HOLE_LOOPS; n++)
			section(r, HOLE, HOLE_BYTES);
		best = min(best, cycles() - begin);
	}
	mm_audit_end(r->mm);
	figure_add(case_of(r, INVALIDATE_HOLE, 0), cycles_to_ns_exact(best) / HOLE_LOOPS, 0);
	return 0;
}

/* --- a round --------------------------------------------------------------------------------- */

static int measure(struct invalidate_run *r, struct err *err)
{
	int ret = measure_subscribers(r, err);

	ret = ret ?: measure_ranges(r, INVALIDATE_DONTNEED_ALONE, err);
	ret = ret ?: measure_ranges(r, INVALIDATE_MUNMAP_ALONE, err);
	ret = ret ?: mirror_begin(r, err);
	ret = ret ?: measure_ranges(r, INVALIDATE_PRESENT, err);
	ret = ret ?: measure_hole(r, err);
	ret = ret ?: measure_ranges(r, INVALIDATE_DONTNEED, err);
	ret = ret ?: measure_ranges(r, INVALIDATE_MUNMAP, err);
	mirror_end(r);
	return ret;
}

static int one_round(struct invalidate_run *r, struct err *err)
{
	const struct bench_invalidate_config *c = r->config;
	int ret;

	for (r->admission = 0; r->admission < INVALIDATE_ADMISSIONS; r->admission++) {
		struct mm_options options = { .admission = invalidate_admission_names[r->admission] };

		if (c->progress)
			c->progress(r->done++, (u64)c->rounds * INVALIDATE_ADMISSIONS, c->arg);
		if (c->stop && READ_ONCE(*c->stop))
			return -EINTR;
		ret = mm_create_with(r->arena, &options, &r->mm);
		if (ret)
			return err_set(err, ret, "an address space: %s", strerror(-ret));
		ret = measure(r, err);
		mmput(r->mm);
		if (ret)
			return ret;
	}
	return 0;
}

int bench_invalidate_run(const struct bench_invalidate_config *config, struct bench_invalidate_result *result,
			 struct err *err)
{
	struct invalidate_run r = { .config = config, .result = result };
	u64 start = clock_ns();
	int ret;

	bench_invalidate_init(config, result);
	if (!config->bytes || config->bytes % PAGE_SIZE || config->bytes > INVALIDATE_BYTES_MAX)
		return err_set(err, -EINVAL, "a range of %llu bytes: must be pages, up to %llu MiB",
			       (unsigned long long)config->bytes, (unsigned long long)INVALIDATE_BYTES_MAX >> 20);
	ret = frame_arena_create(align_up(config->bytes + config->bytes / 128, PAGE_SIZE) + ARENA_SLACK, &r.arena);
	if (ret)
		return err_set(err, ret, "an arena: %s", strerror(-ret));
	frame_arena_populate(r.arena);
	ret = sections_init(&r, err);
	for (u32 round = 0; round < config->rounds && !ret; round++)
		ret = one_round(&r, err);
	bench_invalidate_conclude(result);
	sections_end(&r);
	frame_arena_destroy(r.arena);
	result->elapsed_ns = clock_ns() - start;
	return ret;
}
