/* SPDX-License-Identifier: MIT */
/* /proc/self/smaps: see lab/system/smaps.h. */
#include "lab/system/smaps.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static void take_line(const char *line, struct smaps *sum)
{
	unsigned long kib;

	if (sscanf(line, "AnonHugePages: %lu", &kib) == 1 || sscanf(line, "ShmemPmdMapped: %lu", &kib) == 1 ||
	    sscanf(line, "FilePmdMapped: %lu", &kib) == 1 || sscanf(line, "Private_Hugetlb: %lu", &kib) == 1)
		sum->huge_kib += (s64)kib;
	else if (sscanf(line, "LazyFree: %lu", &kib) == 1)
		sum->lazy_kib += (s64)kib;
	else if (sscanf(line, "Swap: %lu", &kib) == 1)
		sum->swap_kib += (s64)kib;
	else if (!strncmp(line, "VmFlags:", 8))
		sum->mergeable |= strstr(line, " mg") != NULL;
}

int smaps_read(hva_t start, hva_t end, struct smaps *sum)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	unsigned long from, to;
	bool inside = false;
	char line[512];

	*sum = (struct smaps){ 0 };
	if (!f)
		return -errno;
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
			inside = from < end && to > start;
		else if (inside)
			take_line(line, sum);
	}
	fclose(f);
	return 0;
}
