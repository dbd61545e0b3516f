/* SPDX-License-Identifier: MIT */
/*
 * A balanced tree of intervals [start, last], ordered by start and then by address
 * of the node, each knowing the largest last of its subtree. No locks of its own.
 */
#ifndef NOTIFIER_INTERVAL_TREE_H
#define NOTIFIER_INTERVAL_TREE_H

#include "lib/base.h"
#include "tain/notifier.h"

void itree_insert(struct mmu_interval_notifier **root, struct mmu_interval_notifier *node);
void itree_remove(struct mmu_interval_notifier **root, struct mmu_interval_notifier *node); /* it is in it */

/* The first in order that meets [start, last], and the one after @node (in the tree). NULL: none. O(log n). */
struct mmu_interval_notifier *itree_first(struct mmu_interval_notifier *root, hva_t start, hva_t last);
struct mmu_interval_notifier *itree_next(struct mmu_interval_notifier *root, const struct mmu_interval_notifier *node,
					 hva_t start, hva_t last);

/* Order, sums and balance are right; -1 if not, else the number of nodes. For tests. */
s64 itree_check(const struct mmu_interval_notifier *root);

static inline bool itree_contains(const struct mmu_interval_notifier *node)
{
	return node->height;
}

#endif /* NOTIFIER_INTERVAL_TREE_H */
