/* SPDX-License-Identifier: MIT */
/* The seldom taken side of an asymmetric barrier. */
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/membarrier.h"

bool membarrier_works;

__attribute__((constructor)) static void membarrier_make(void)
{
	long offered = syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0);

	if (TSAN || offered < 0 || !(offered & MEMBARRIER_CMD_PRIVATE_EXPEDITED))
		return;
	membarrier_works = !syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0);
}

void smp_mb_heavy(void)
{
	if (!membarrier_works)
		smp_mb();
	else if (syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0))
		BUG("membarrier fails after it was registered");
}
