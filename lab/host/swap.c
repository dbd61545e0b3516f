/* SPDX-License-Identifier: MIT */
/* The swap cache: see lab/host/swap.h. */
#include "lab/host/swap.h"

#include <sys/mman.h>

#include "lab/system/pagemap.h"
#include "lib/atomic.h"
#include "lib/thread.h"
#include "lib/time.h"

#define TRIES 50
#define WAIT_NS (20 * NSEC_PER_MSEC)
#define FEW(pages) ((pages) / 8) /* the kernel owes nobody all */

u64 swap_in_memory(hva_t start, u64 pages)
{
	unsigned char here[4096];
	u64 count = 0;

	for (u64 i = 0, n; i < pages; i += n) {
		n = min(pages - i, (u64)sizeof(here));
		if (mincore((void *)(uintptr_t)(start + i * PAGE_SIZE), n * PAGE_SIZE, here))
			return pages;
		for (u64 j = 0; j < n; j++)
			count += here[j] & 1;
	}
	return count;
}

/*
 * Pages that were written to swap a moment ago are still in the swap cache. Private ones
 * that are mapped again and paged out once more are clean, and go. A file's own leave the
 * swap cache when they are mapped, dirty, and would be written anew: nothing that this
 * process may ask for takes them out of it.
 */
static int again(struct host *host, u64 len, struct err *err)
{
	thread_sleep_ns(WAIT_NS);
	for (u64 off = 0; off < len; off += PAGE_SIZE)
		(void)READ_ONCE(*(u64 *)(uintptr_t)(host->data + off));
	return host->ops->begin(host, OP_PAGEOUT, 0, len, err) ? -EOPNOTSUPP : 0;
}

int swap_wait_out(struct host *host, u64 len, struct err *err)
{
	bool shared = host_backing_table[host->backing].kind == BACKING_SHARED;
	u64 pages = len / PAGE_SIZE, mapped = 0;
	int ret = 0;

	for (int i = 0; i < TRIES && !ret && !shared && swap_in_memory(host->data, pages) > FEW(pages); i++)
		ret = again(host, len, err);
	ret = ret ?: pagemap_count(host->data, pages, PM_PRESENT, &mapped, err);
	if (!ret && mapped > FEW(pages))
		return err_set(err, -EOPNOTSUPP, "of %llu pages only %llu went to swap: there is too little of it",
			       (unsigned long long)pages, (unsigned long long)(pages - mapped));
	if (!ret && swap_in_memory(host->data, pages) > FEW(pages))
		return err_set(err, -EOPNOTSUPP, "the kernel keeps the pages in its swap cache");
	return ret;
}
