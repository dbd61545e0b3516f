/* SPDX-License-Identifier: MIT */
/* Blocks: see lab/result/blocks.h. */
#include "lab/result/blocks.h"

#include <stdlib.h>

#include "lib/alloc.h"

int blocks_init(struct blocks *b, u32 room)
{
	*b = (struct blocks){ .block = mem_zalloc(max(room, 1u) * sizeof(struct block)), .room = room };
	return b->block ? 0 : -ENOMEM;
}

void blocks_destroy(struct blocks *b)
{
	mem_free(b->block);
	*b = (struct blocks){ 0 };
}

void blocks_add(struct blocks *b, const struct hist *pass)
{
	if (!hist_count(pass) || b->nr == b->room)
		return;
	b->block[b->nr++] = (struct block){
		.count = hist_count(pass),
		.p50 = hist_percentile(pass, 50),
		.p99 = hist_tells(pass, 99) ? hist_percentile(pass, 99) : BLOCK_UNTOLD,
	};
}

static int by_p50(const void *a, const void *b)
{
	const struct block *x = a, *y = b;

	return (x->p50 > y->p50) - (x->p50 < y->p50);
}

static int by_p99(const void *a, const void *b)
{
	const struct block *x = a, *y = b;

	return (x->p99 > y->p99) - (x->p99 < y->p99);
}

/* @first: of @n neighbours; reordered. The lower of two middle ones: a value that was measured. */
static struct block middle(struct block *first, u32 n)
{
	struct block m = { 0 };

	for (u32 i = 0; i < n; i++)
		m.count += first[i].count;
	qsort(first, n, sizeof(*first), by_p50);
	m.p50 = first[(n - 1) / 2].p50;
	qsort(first, n, sizeof(*first), by_p99);
	/* BLOCK_UNTOLD sorts last: of one is of all. */
	m.p99 = first[n - 1].p99 == BLOCK_UNTOLD ? BLOCK_UNTOLD : first[(n - 1) / 2].p99;
	return m;
}

u32 blocks_show(struct blocks *b, struct block shown[BLOCKS_SHOWN])
{
	u32 nr = min(b->nr, (u32)BLOCKS_SHOWN);

	for (u32 i = 0; i < nr; i++) {
		u32 from = (u32)((u64)b->nr * i / nr), to = (u32)((u64)b->nr * (i + 1) / nr);

		shown[i] = to - from == 1 ? b->block[from] : middle(b->block + from, to - from);
	}
	return nr;
}
