/* SPDX-License-Identifier: MIT */
/* Pages that went to swap: gone, or still in memory, in the kernel's swap cache? */
#ifndef LAB_HOST_SWAP_H
#define LAB_HOST_SWAP_H

#include "lab/host/host.h"
#include "lib/base.h"
#include "lib/err.h"

/* Pages apart that each ask the disk: a window of up to 8 around a page is read with it, and KVM maps those too. */
#define SWAP_NEAR 32

/* Pages from @start on that are in memory, those of the swap cache too. What is not mapped at all counts as such. */
u64 swap_in_memory(hva_t start, u64 pages);

/*
 * After OP_PAGEOUT on the first @len bytes of DATA: wait until they are gone from memory,
 * so that who touches them asks the disk. Pages are paged out again while it waits.
 * Context: sleeps, about a second at most. Return: 0; -EOPNOTSUPP with the reason in @err: some
 * are still there.
 */
int swap_wait_out(struct host *host, u64 len, struct err *err);

#endif /* LAB_HOST_SWAP_H */
