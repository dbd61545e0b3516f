/* SPDX-License-Identifier: MIT */
/* /proc/PID/pagemap. */
#include "lab/system/pagemap.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "lab/system/linux_compat.h"

int pagemap_open(int pid)
{
	char path[32] = "/proc/self/pagemap";
	int fd;

	if (pid)
		snprintf(path, sizeof(path), "/proc/%d/pagemap", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

s64 pagemap_read(int fd, hva_t hva, u64 pages, u64 *entry)
{
	ssize_t n = pread(fd, entry, pages * sizeof(*entry), (off_t)(hva / PAGE_SIZE * sizeof(*entry)));

	return n < 0 ? -errno : n / (ssize_t)sizeof(*entry);
}

int pagemap_count(hva_t start, u64 pages, u64 bit, u64 *count, struct err *err)
{
	int fd = pagemap_open(0), ret = min(fd, 0);
	u64 entry[512];

	*count = 0;
	for (u64 i = 0, n; i < pages && !ret; i += n) {
		n = min(pages - i, (u64)ARRAY_SIZE(entry));
		if (pagemap_read(fd, start + i * PAGE_SIZE, n, entry) != (s64)n)
			ret = -EIO;
		for (u64 j = 0; j < n && !ret; j++)
			*count += !!(entry[j] & bit);
	}
	if (fd >= 0)
		close(fd);
	return ret ? err_set(err, -EOPNOTSUPP, "/proc/self/pagemap: %s", strerror(-ret)) : 0;
}

bool pagemap_next(int fd, hva_t *start, hva_t end, hva_t *stop)
{
	struct tain_page_region found = { 0, 0, 0 };
	struct tain_pm_scan scan = {
		.size = sizeof(scan),
		.start = *start,
		.end = end,
		.vec = (uintptr_t)&found,
		.vec_len = 1,
		.category_mask = TAIN_PAGE_IS_PRESENT,
		.return_mask = TAIN_PAGE_IS_PRESENT,
	};
	int n = ioctl(fd, TAIN_PAGEMAP_SCAN, &scan);

	if (!n || *start >= end)
		return false;
	if (n > 0)
		*start = found.start;
	*stop = n > 0 ? found.end : end;
	return true;
}

u64 pagemap_zero_frame(void)
{
	void *page = mmap(NULL, PAGE_SIZE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd = pagemap_open(0);
	u64 entry = 0;

	if (page != MAP_FAILED) {
		(void)*(volatile char *)page; /* a read of nothing maps it */
		if (fd < 0 || pagemap_read(fd, (hva_t)(uintptr_t)page, 1, &entry) != 1)
			entry = 0;
		munmap(page, PAGE_SIZE);
	}
	if (fd >= 0)
		close(fd);
	return entry & PM_PRESENT ? entry & PM_FRAME : 0;
}
