/* SPDX-License-Identifier: MIT */
/* Merging by KSM on Linux, and how to know that it was done. */
#include <string.h>

#include "lab/host/linux.h"
#include "lab/system/smaps.h"
#include "lib/time.h"

#define KSM_SCANS 3	/* a page is merged when it was seen unchanged twice; one scan may be half over */
#define MERGE_SCANS 100 /* it passes over pages for a few scans that it did not merge lately */

static int advise(struct host *host, u64 off, u64 len, int advice, const char *call, struct err *why)
{
	int ret = host_linux_advise(data_ptr(host, off), len, advice);

	return ret ? err_set(why, ret, "%s: %s", call, strerror(-ret)) : 0;
}

/* The kernel takes MADV_MERGEABLE for any mapping, and leaves a mark where it means it. */
static bool mergeable(struct host *host, u64 off)
{
	struct smaps maps;

	return !smaps_read(host_addr(host, off), host_addr(host, off) + 1, &maps) && maps.mergeable;
}

/* Until there are more than @before, and one more scan finds no other. */
static int wait_merged(struct host *host, u64 len, u64 before, struct err *why)
{
	u64 end = clock_ns() + host->merge_ns, now = before, last;
	int ret = 0;

	for (int i = 0; i < MERGE_SCANS && !ret; i++) {
		u64 at = clock_ns();

		last = now;
		ret = system_ksm_wait(1, at < end ? end - at : 0, why);
		if (!ret)
			ret = system_ksm_pages(&now, why);
		if (!ret && now > before && now == last)
			return 0;
	}
	if (now > before) /* there was no time to see whether it was all */
		return 0;
	return ret ?: err_set(why, -EAGAIN, "KSM has merged none of %llu pages", (unsigned long long)(len / PAGE_SIZE));
}

static int merge(struct host *host, u64 off, u64 len, struct err *why)
{
	u64 before = 0;
	int ret = host->merge_ns ? system_ksm_pages(&before, why) : 0;

	ret = ret ?: advise(host, off, len, MADV_MERGEABLE, "madvise(MADV_MERGEABLE)", why);
	if (!ret && !mergeable(host, off)) /* and KSM, with nothing to look at, would never say that it had looked */
		ret = err_set(why, -EINVAL, "madvise(MADV_MERGEABLE) was accepted and ignored");
	if (ret)
		return ret;
	return host->merge_ns ? wait_merged(host, len, before, why) : system_ksm_wait(KSM_SCANS, SYSTEM_KSM_NS, why);
}

int host_linux_merge(struct host *host, u64 off, u64 len, struct err *why)
{
	struct host_linux *l = host->private;
	int ret = system_ksm(&l->change, why);

	if (ret)
		return ret;
	if (host->merge_ns && len <= PAGE_SIZE)
		ret = err_set(why, -EINVAL, "a page by itself has none to be merged with");
	ret = ret ?: merge(host, off, len, why);
	if (ret)
		host_linux_unmerge(host, off, len, NULL);
	return ret;
}

int host_linux_unmerge(struct host *host, u64 off, u64 len, struct err *why)
{
	struct host_linux *l = host->private;
	int ret = advise(host, off, len, MADV_UNMERGEABLE, "madvise(MADV_UNMERGEABLE)", why);

	return ret ?: system_undo(&l->change, why);
}
