/* SPDX-License-Identifier: MIT */
/* Machine-wide switches: see lab/system/system.h. */
#include "lab/system/system.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lab/system/guardian.h"
#include "lib/thread.h"
#include "lib/time.h"

#define KSM "/sys/kernel/mm/ksm/"
#define HUGE "/sys/kernel/mm/hugepages/hugepages-2048kB/"
#define THP "/sys/kernel/mm/transparent_hugepage/enabled"
#define KHUGEPAGED "/sys/kernel/mm/transparent_hugepage/khugepaged/"
#define COMPACT "/proc/sys/vm/compact_memory"
#define SWAP_BYTES (128ull << 20)

static int read_number(const char *path, u64 *value)
{
	FILE *f = fopen(path, "re");
	unsigned long long n;
	int got;

	if (!f)
		return -errno;
	got = fscanf(f, "%llu", &n);
	fclose(f);
	*value = n;
	return got == 1 ? 0 : -EIO;
}

/* Why @path could not be used, from @error: the kernel has none, or what would tell is out of sight, as /sys may be. */
static int missing(const char *path, int error, const char *what, struct err *err)
{
	const char *root = strncmp(path, "/sys/", 5) ? "/proc/sys/vm" : "/sys/kernel/mm";

	if (error == -ENOENT && !access(root, F_OK))
		return err_set(err, -EOPNOTSUPP, "this kernel has no %s", what);
	return err_set(err, -EOPNOTSUPP, "%s: not readable at %s: %s", what, path, strerror(-error));
}

int system_undo(struct system_change *change, struct err *err)
{
	int ret = 0, one;

	for (int i = ARRAY_SIZE(change->id) - 1; i >= 0; i--) {
		one = guardian_undo(change->id[i], err);
		if (!one)
			change->id[i] = -1;
		ret = ret ?: one;
	}
	return ret;
}

/* @without: what to do about it, where nobody has asked for leave. */
static int not_allowed(struct err *err, const char *without)
{
	const char *refused = guardian_refused();

	if (!refused)
		return err_set(err, -EOPNOTSUPP, "%s", without);
	return err_set(err, -EOPNOTSUPP, "it is a switch of the whole machine: %s", refused);
}

int system_hugepages(u64 pages, struct system_change *change, struct err *err)
{
	u64 nr = 0, free = 0, reserved = 0;
	char value[24], without[160];
	int id, ret;

	*change = SYSTEM_NO_CHANGE;
	ret = read_number(HUGE "nr_hugepages", &nr);
	ret = ret ?: read_number(HUGE "free_hugepages", &free);
	ret = ret ?: read_number(HUGE "resv_hugepages", &reserved);
	if (ret)
		return missing(HUGE "nr_hugepages", ret, "2 MiB hugetlb pages", err);
	if (free >= reserved + pages)
		return 0;
	nr += pages - (free - min(free, reserved));
	snprintf(value, sizeof(value), "%llu", (unsigned long long)nr);
	snprintf(without, sizeof(without),
		 "not enough free 2 MiB pages: --allow-system reserves them for the run, or sysctl vm.nr_hugepages=%s",
		 value);
	if (!guardian_running())
		return not_allowed(err, without);
	id = guardian_write(HUGE "nr_hugepages", value, err);
	if (id < 0)
		return id == -ENOSPC ? id : -EOPNOTSUPP;
	change->id[0] = id;
	read_number(HUGE "free_hugepages", &free);
	if (free >= reserved + pages)
		return 0;
	system_undo(change, NULL);
	return err_set(err, -EOPNOTSUPP, "memory is too fragmented for %llu more 2 MiB pages",
		       (unsigned long long)pages);
}

int system_thp(struct system_change *change, struct err *err)
{
	char line[64] = "";
	FILE *f = fopen(THP, "re");
	int ret;

	*change = SYSTEM_NO_CHANGE;
	if (!f || !fgets(line, sizeof(line), f)) {
		ret = f ? -EIO : -errno;
		if (f)
			fclose(f);
		return missing(THP, ret, "transparent huge pages", err);
	}
	fclose(f);
	if (!strstr(line, "[never]"))
		return 0;
	if (!guardian_running())
		return not_allowed(err, THP " is never: --allow-system sets madvise for the run");
	change->id[0] = guardian_write(THP, "madvise", err);
	return change->id[0] < 0 ? -EOPNOTSUPP : 0;
}

int system_khugepaged(struct system_change *change, struct err *err)
{
	struct system_change thp;

	*change = SYSTEM_NO_CHANGE;
	if (!guardian_running())
		return not_allowed(err, "khugepaged is the whole machine's: --allow-system hurries it");
	if (system_thp(&thp, err))
		return -EOPNOTSUPP;
	change->id[0] = thp.id[0];
	change->id[1] = guardian_write(KHUGEPAGED "pages_to_scan", "4096", err);
	change->id[2] = guardian_write(KHUGEPAGED "alloc_sleep_millisecs", "1", err);
	change->id[3] = guardian_write(KHUGEPAGED "scan_sleep_millisecs", "1", err);
	if (change->id[1] >= 0 && change->id[2] >= 0 && change->id[3] >= 0)
		return 0;
	system_undo(change, NULL);
	return -EOPNOTSUPP;
}

int system_khugepaged_pages(u64 *pages, struct err *err)
{
	int ret = read_number(KHUGEPAGED "pages_collapsed", pages);

	return ret ? err_set(err, -EOPNOTSUPP, KHUGEPAGED "pages_collapsed: %s", strerror(-ret)) : 0;
}

/* What is found merged is its owners' wish, and cannot be told from what is merged later. */
static bool ksm_at_rest(void)
{
	u64 run = 0, pages = 0, zeros = 0;

	if (read_number(KSM "run", &run) || read_number(KSM "pages_shared", &pages))
		return false;
	read_number(KSM "ksm_zero_pages", &zeros); /* Linux 6.6 */
	return !run && !pages && !zeros;
}

int system_ksm(struct system_change *change, struct err *err)
{
	*change = SYSTEM_NO_CHANGE;
	if (access(KSM "run", F_OK))
		return missing(KSM "run", -errno, "KSM", err);
	if (!guardian_running())
		return not_allowed(err, "KSM is a switch of the whole machine: --allow-system uses it");
	if (ksm_at_rest())
		guardian_unmerge(KSM "run", NULL);
	/* The advisor may refuse the first; then it takes longer. */
	change->id[0] = guardian_write(KSM "pages_to_scan", "20000", NULL);
	change->id[1] = guardian_write(KSM "sleep_millisecs", "1", NULL);
	change->id[2] = guardian_write(KSM "run", "1", err);
	if (change->id[2] >= 0)
		return 0;
	system_undo(change, NULL);
	return -EOPNOTSUPP;
}

int system_ksm_wait(u64 times, u64 limit_ns, struct err *err)
{
	u64 start = clock_ns(), first = 0, now = 0;

	if (read_number(KSM "full_scans", &first))
		return err_set(err, -EOPNOTSUPP, "KSM does not tell how often it looked");
	while (now < first + times) {
		if (clock_ns() - start > limit_ns)
			return err_set(err, -ETIMEDOUT, "KSM did not look at all memory within %llu ms",
				       (unsigned long long)(limit_ns / NSEC_PER_MSEC));
		thread_sleep_ns(NSEC_PER_MSEC);
		read_number(KSM "full_scans", &now);
	}
	return 0;
}

/* Those that became the zero page are counted by themselves (use_zero_pages, Linux 6.6). */
static u64 ksm_zero_pages(void)
{
	FILE *f = fopen("/proc/self/ksm_stat", "re");
	unsigned long long n, zeros = 0;
	char line[128];

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "ksm_zero_pages %llu", &n) == 1)
			zeros = n;
	if (f)
		fclose(f);
	return zeros;
}

int system_ksm_pages(u64 *pages, struct err *err)
{
	int ret = read_number("/proc/self/ksm_merging_pages", pages);

	if (ret)
		return err_set(err, -EOPNOTSUPP, "/proc/self/ksm_merging_pages: %s", strerror(-ret));
	*pages += ksm_zero_pages();
	return 0;
}

int system_compact(struct err *err)
{
	int fd, ret = 0;

	if (access(COMPACT, F_OK))
		return missing(COMPACT, -errno, "compaction on request", err);
	if (!guardian_running())
		return not_allowed(err, "compaction moves pages of the whole machine: --allow-system does it");
	fd = open(COMPACT, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, "1", 1) != 1)
		ret = err_set(err, -EOPNOTSUPP, "cannot write %s: %s", COMPACT, strerror(errno));
	if (fd >= 0)
		close(fd);
	return ret;
}

int system_swap(struct err *err)
{
	char line[256];
	FILE *f = fopen("/proc/swaps", "re");
	int areas = -1; /* the first line is a heading */

	while (f && fgets(line, sizeof(line), f))
		areas++;
	if (f)
		fclose(f);
	if (areas > 0)
		return 0;
	if (!guardian_running())
		return not_allowed(err,
				   "there is no swap: --allow-system swaps to a temporary file, or add some (swapon)");
	return guardian_swap(SWAP_BYTES, err) < 0 ? -EOPNOTSUPP : 0;
}
