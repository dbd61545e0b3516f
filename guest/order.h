/* SPDX-License-Identifier: MIT */
/* The orders in which a workload visits pages: each page of the range once at most. */
#ifndef GUEST_ORDER_H
#define GUEST_ORDER_H

#include "guest/workload.h"

struct guest_order {
	uint64_t pages;
	uint64_t step;	 /* pages to advance */
	uint64_t next;	 /* SEQUENTIAL, STRIDE: the page; RANDOM: a counter through [0, mask] */
	uint64_t column; /* STRIDE: where this sweep began */
	uint64_t limit;	 /* pages still to visit, at most */
	uint64_t mask;	 /* RANDOM: 2^k - 1, at least pages - 1 */
	uint64_t key;
	uint32_t kind; /* enum guest_touch_order */
	uint32_t shift;
};

static inline void guest_order_init(struct guest_order *o, uint32_t kind, uint64_t pages, uint64_t stride,
				    uint64_t seed)
{
	uint32_t bits = pages > 1 ? 64 - __builtin_clzll(pages - 1) : 0;

	o->kind = kind;
	o->pages = pages;
	o->step = kind == GUEST_ORDER_STRIDE && stride ? stride : 1;
	o->next = 0;
	o->column = 0;
	o->limit = pages;
	o->mask = (1ull << bits) - 1;
	o->shift = bits / 2 + 1;
	o->key = seed * 0x9e3779b97f4a7c15ull >> 7;
}

/* A bijection on [0, mask]: odd multiplications, additions and shifted xors all are. */
static inline uint64_t guest_order_mix(const struct guest_order *o, uint64_t x)
{
	x = (x + o->key) * 0xd1342543de82ef95ull & o->mask;
	x ^= x >> o->shift;
	x = (x ^ (o->key >> 24 & o->mask)) * 0x2545f4914f6cdd1dull & o->mask;
	return x ^ x >> o->shift;
}

/* The next page into *@page; 0 when all were visited, or as many as the limit allows. */
static inline int guest_order_next(struct guest_order *o, uint64_t *page)
{
	if (!o->limit)
		return 0;
	o->limit--;
	if (o->kind == GUEST_ORDER_RANDOM) {
		do {
			if (o->next > o->mask)
				return 0;
			*page = guest_order_mix(o, o->next++);
		} while (*page >= o->pages);
		return 1;
	}
	if (o->next >= o->pages) {
		if (++o->column >= o->step || o->column >= o->pages)
			return 0;
		o->next = o->column;
	}
	*page = o->next;
	o->next += o->step;
	return 1;
}

static inline void guest_order_report(struct guest *g, const char *name, uint64_t accesses, uint64_t cycles)
{
	uint64_t khz = guest_tsc_khz(g), ms = khz ? cycles / khz : 0;

	if (!khz) {
		guest_printf(g, "%s: vcpu %u: %llu accesses in %llu cycles\n", name, g->id,
			     (unsigned long long)accesses, (unsigned long long)cycles);
		return;
	}
	guest_printf(g, "%s: vcpu %u: %llu accesses in %llu ms, %llu a second\n", name, g->id,
		     (unsigned long long)accesses, (unsigned long long)ms,
		     (unsigned long long)(accesses * 1000 / (ms ?: 1)));
}

/*
 * The self-driven workloads: pass after pass over DATA until the host says stop or
 * passes= is reached, then one line with the rate. Return: the exit code.
 */
static inline int guest_order_run(struct guest *g, const char *name, uint32_t kind, int argc, char **argv)
{
	uint64_t pages = guest_data_size(g) >> GUEST_PAGE_SHIFT;
	uint64_t passes = guest_option(argc, argv, "passes", 0), stride = guest_option(argc, argv, "stride", 16);
	uint64_t seed = guest_option(argc, argv, "seed", guest_seed(g)), write = guest_option(argc, argv, "write", 0);
	uint64_t start = guest_cycles(), accesses = 0, pass = 0, page;
	struct guest_order order;

	if (!pages) {
		guest_printf(g, "%s: vcpu %u: there is no DATA\n", name, g->id);
		return 1;
	}
	for (pass = 0; (!passes || pass < passes) && !guest_stop_asked(g); pass++) {
		guest_order_init(&order, kind, pages, stride, seed + pass);
		while (guest_order_next(&order, &page) && !guest_stop_asked(g)) {
			uint64_t gpa =
				guest_data_base(g) + (page << GUEST_PAGE_SHIFT) + GUEST_WSLOT_OFFSET + g->id * 8ul;

			if (write)
				guest_write64(g, gpa, accesses + 1);
			else
				guest_read64(g, gpa);
			shared_store(&g->vcpu->accesses, ++accesses);
		}
		shared_add(&g->vcpu->heartbeat, 1);
	}
	guest_order_report(g, name, accesses, guest_cycles() - start);
	return 0;
}

#endif /* GUEST_ORDER_H */
