/* SPDX-License-Identifier: MIT */
/* /proc/self/smaps: what the kernel says of mappings of this process. */
#ifndef LAB_SYSTEM_SMAPS_H
#define LAB_SYSTEM_SMAPS_H

#include "lib/base.h"

struct smaps {
	s64 huge_kib; /* in huge mappings: anonymous, of shmem, of files, of hugetlb */
	s64 lazy_kib; /* after MADV_FREE */
	s64 swap_kib;
	bool mergeable; /* KSM looks at one of them at least */
};

/* The mappings that overlap [@start, @end), summed. Return: 0; -errno: @sum is zero. */
int smaps_read(hva_t start, hva_t end, struct smaps *sum);

#endif /* LAB_SYSTEM_SMAPS_H */
