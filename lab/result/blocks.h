/* SPDX-License-Identifier: MIT */
/*
 * Blocks: what each pass of a benchmark measured, by itself. Samples within a pass share
 * what the machine did meanwhile; passes differ by it, and `tain compare` judges by that.
 */
#ifndef LAB_RESULT_BLOCKS_H
#define LAB_RESULT_BLOCKS_H

#include "lib/base.h"
#include "lib/hist.h"

#define BLOCKS_SHOWN 64 /* the most a document holds */

#define BLOCK_UNTOLD (~0ull)

struct block {
	u64 count, p50;
	u64 p99; /* BLOCK_UNTOLD: of too few samples */
};

struct blocks {
	struct block *block;
	u32 nr, room;
};

/* @room: passes to come. Return: 0; -ENOMEM. */
int blocks_init(struct blocks *b, u32 room);
void blocks_destroy(struct blocks *b); /* fine on a zeroed one */

/* A pass is over: @pass holds its samples; an empty one is no block. */
void blocks_add(struct blocks *b, const struct hist *pass);

/*
 * As at most BLOCKS_SHOWN blocks: of neighbours that have to share one, the medians of
 * their percentiles; they may be reordered. Return: how many.
 */
u32 blocks_show(struct blocks *b, struct block shown[BLOCKS_SHOWN]);

#endif /* LAB_RESULT_BLOCKS_H */
