/* SPDX-License-Identifier: MIT */
/* /proc/self/pagemap: see lab/pagemap.h. */
#include "lab/pagemap.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

int pagemap_read(hva_t start, u64 pages, u64 *entry)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	ssize_t n = -1;

	if (fd < 0)
		return -errno;
	n = pread(fd, entry, pages * sizeof(u64), (off_t)(start / PAGE_SIZE * sizeof(u64)));
	close(fd);
	return n == (ssize_t)(pages * sizeof(u64)) ? 0 : -EIO;
}

int pagemap_count(hva_t start, u64 pages, u64 bit, u64 *count, struct err *err)
{
	u64 entry[512];
	int ret = 0;

	*count = 0;
	for (u64 i = 0, n; i < pages && !ret; i += n) {
		n = min(pages - i, (u64)ARRAY_SIZE(entry));
		ret = pagemap_read(start + i * PAGE_SIZE, n, entry);
		for (u64 j = 0; j < n && !ret; j++)
			*count += !!(entry[j] & bit);
	}
	return ret ? err_set(err, -EOPNOTSUPP, "/proc/self/pagemap: %s", strerror(-ret)) : 0;
}
