/* SPDX-License-Identifier: MIT */
/*
 * Workload: the oracle's eyes. Reads stamps of random pages and judges them by the
 * host's rules; writes to its own slots and expects to find them again.
 *
 * Why there is no false alarm. The host, for an operation number g on a page:
 *
 *   host                                   vCPU, read             vCPU, write ... read back
 *   H1 announced = g                       R1 load required       W1 load required
 *   H2 the operation destroys the page     R2 load the stamp      W2 store to the own slot
 *   H3 (stamps it with g, word by word)    R3 load announced      B1 load the own slot
 *   H4 required = g | zero allowed                                B2 load announced
 *
 * x86 keeps loads in order, and a load before a later store; shared_load() and the
 * accessors keep the compiler from swapping them. The host's steps are ordered by
 * the operation itself, whose notifier and flush order memory on both sides. The
 * access of R2, W2 or B1 may fault and be repeated: it counts when it succeeds.
 *
 * Read, generation too low: R1 saw required = r, so the operation that announced r
 * had destroyed every older stamp before R1, and only r or later was written after.
 * Too high: a stamp of generation s is written after announced = s (H1 before H3),
 * R3 comes after R2 saw it, and announced only grows: R3 sees at least s.
 * Zero: some operation z destroyed the page before R2 and its stamp had not been
 * written yet. If z is announced after R1's r: R3 sees at least z, r differs, no
 * alarm. Otherwise z is r itself, or older: then the page was stamped, or R1 saw the
 * flag, because the host clears the flag of r only after stamping.
 * Another page's stamp, or a word that is no stamp: nobody writes either, a word
 * never tears.
 *
 * Write, gone: W1 saw required = r, so operation r and all before it were over
 * before W2. B2 saw announced = r, so by H1 no later operation had begun to destroy
 * before B1. Operations that destroy nothing are not announced and must keep the
 * word; only this vCPU writes the slot. If B2 sees anything else, whatever was
 * written is forgotten. W2 may be repeated long after W1: then more may have been
 * announced, B2 sees it, and the word is forgotten too.
 *
 * Generations are compared modulo 2^24, as a stamp holds them: an old one can pass
 * by wrapping, a young one never fails.
 */
#include "guest/workload.h"

#define STAMP_WRITES 4096 /* a power of two */

/* The last word this vCPU wrote to a page, direct mapped by page number. */
struct stamp_write {
	uint64_t word; /* 0: none */
	uint32_t page;
	uint32_t generation; /* required, before the write */
};

struct stamper {
	struct guest *g;
	const struct guest_page_rule *rules;
	struct stamp_write *writes;
	uint64_t pages;
	uint64_t random;
	uint64_t count; /* words written */
};

/* Generations from @low to @x, modulo. */
static inline uint32_t stamp_distance(uint32_t low, uint32_t x)
{
	return (x - low) & GUEST_GENERATION_MASK;
}

static inline enum guest_violation_kind stamp_judge(uint64_t page, uint64_t seen, uint32_t required, uint32_t announced)
{
	uint32_t low = required >> 1;

	if (!seen)
		return required & 1 || stamp_distance(low, announced) ? GUEST_VIOLATION_NONE : GUEST_VIOLATION_ZERO;
	if (!guest_stamp_valid(seen))
		return GUEST_VIOLATION_CORRUPT;
	if (guest_stamp_page(seen) != (page & 0xffffff))
		return GUEST_VIOLATION_FOREIGN;
	if (stamp_distance(low, guest_stamp_generation(seen)) > stamp_distance(low, announced))
		return GUEST_VIOLATION_STALE;
	return GUEST_VIOLATION_NONE;
}

static __attribute__((noinline, cold)) void stamp_report(struct guest *g, const struct guest_violation *found)
{
	uint64_t n = shared_load(&g->vcpu->violations);
	struct guest_violation *to = &g->vcpu->violation[n];

	if (n < GUEST_VIOLATION_RING) {
		__atomic_store_n(&to->vcpu, g->id, __ATOMIC_RELAXED);
		__atomic_store_n(&to->page, found->page, __ATOMIC_RELAXED);
		__atomic_store_n(&to->seen, found->seen, __ATOMIC_RELAXED);
		__atomic_store_n(&to->required, found->required, __ATOMIC_RELAXED);
		__atomic_store_n(&to->announced, found->announced, __ATOMIC_RELAXED);
		__atomic_store_n(&to->expected, found->expected, __ATOMIC_RELAXED);
		__atomic_store_n(&to->when, guest_cycles(), __ATOMIC_RELAXED);
		shared_store(&to->kind, found->kind);
	}
	shared_store(&g->vcpu->violations, n + 1);
}

static inline uint64_t stamp_slot(const struct stamper *s, uint64_t page)
{
	return guest_data_base(s->g) + (page << GUEST_PAGE_SHIFT) + GUEST_WSLOT_OFFSET + s->g->id * 8ul;
}

static inline void stamp_read(struct stamper *s, uint64_t page, uint32_t index)
{
	const struct guest_page_rule *rule = &s->rules[page];
	uint64_t gpa =
		guest_data_base(s->g) + (page << GUEST_PAGE_SHIFT) + GUEST_STAMP_OFFSET + index * GUEST_STAMP_STRIDE;
	uint32_t required = shared_load(&rule->required);   /* R1 */
	uint64_t seen = guest_read64(s->g, gpa);	    /* R2 */
	uint32_t announced = shared_load(&rule->announced); /* R3 */
	enum guest_violation_kind kind = stamp_judge(page, seen, required, announced);

	if (__builtin_expect(kind != GUEST_VIOLATION_NONE, 0))
		stamp_report(s->g, &(struct guest_violation){ .kind = kind,
							      .page = page,
							      .seen = seen,
							      .required = required,
							      .announced = announced });
}

/* The page has a word of ours: is it still there? */
static inline void stamp_read_back(struct stamper *s, uint64_t page, struct stamp_write *write)
{
	uint64_t seen = guest_read64(s->g, stamp_slot(s, page));     /* B1 */
	uint32_t announced = shared_load(&s->rules[page].announced); /* B2 */

	/* required keeps 31 bits of the generation */
	if ((announced ^ write->generation) << 1)
		write->word = 0;
	else if (__builtin_expect(seen != write->word, 0)) {
		stamp_report(s->g, &(struct guest_violation){ .kind = GUEST_VIOLATION_LOST,
							      .page = page,
							      .seen = seen,
							      .required = write->generation << 1,
							      .announced = announced,
							      .expected = write->word });
		write->word = 0;
	}
}

static inline void stamp_write(struct stamper *s, uint64_t page, struct stamp_write *write)
{
	write->word = ++s->count << 8 | (s->g->id + 1);
	write->page = (uint32_t)page;
	write->generation = shared_load(&s->rules[page].required) >> 1; /* W1 */
	guest_write64(s->g, stamp_slot(s, page), write->word);		/* W2 */
}

static void stamp_loop(struct stamper *s)
{
	struct guest *g = s->g;
	uint32_t percent = shared_load(&g->shared->write_percent);

	guest_agent_start(g);
	while (!guest_stop_asked(g)) {
		uint64_t page = guest_random_below(&s->random, s->pages), dice = guest_random(&s->random);
		struct stamp_write *write = &s->writes[page & (STAMP_WRITES - 1)];
		uint64_t checked = 1;

		if (write->word && write->page == page) {
			stamp_read_back(s, page, write);
			checked++;
		}
		if ((dice >> 32) * 100 >> 32 < percent) {
			stamp_write(s, page, write);
			shared_add(&g->vcpu->writes, 1);
			checked--;
		} else {
			stamp_read(s, page, dice & (GUEST_STAMPS - 1));
		}
		shared_add(&g->vcpu->accesses, checked);
		shared_add(&g->vcpu->heartbeat, 1);
		guest_agent_poll(g);
	}
}

GUEST_MAIN(stamp)
{
#ifdef GUEST_NATIVE
	/* On the stack: the engine may leave this function for good at any access. */
	struct stamp_write writes[STAMP_WRITES] = { 0 };
#else
	static struct stamp_write all_writes[GUEST_MAX_VCPUS][STAMP_WRITES];
	struct stamp_write *writes = all_writes[g->id];
#endif
	struct stamper s = {
		.g = g,
		.rules = shared_at(g, g->shared->rule_offset),
		.writes = writes,
		.pages = guest_data_size(g) >> GUEST_PAGE_SHIFT,
		.random = guest_random_seed(g, guest_seed(g)),
	};

	(void)argc;
	(void)argv;
	if (!s.rules || !s.pages) {
		guest_printf(g, "stamp: vcpu %u: the host gave no rules; this workload belongs to `tain stress`\n",
			     g->id);
		return 1;
	}
	stamp_loop(&s);
	return 0;
}
