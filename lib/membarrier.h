/* SPDX-License-Identifier: MIT */
/*
 * A store-buffering pair with all of its cost on one side. The often taken side
 * says smp_mb_light(), the seldom taken one smp_mb_heavy(), which makes every running
 * thread of the process pass a full barrier (membarrier, private expedited).
 *
 *   often                    seldom
 *   x = 1                    y = 1
 *   smp_mb_light()           smp_mb_heavy()
 *   read y                   read x
 *
 * One of the two reads sees the other's store. Where the kernel does not offer it, there is
 * no light side: thread_line stays 0 in every thread, and who finds it so says smp_mb(). Under
 * TSan both are full barriers.
 */
#ifndef LIB_MEMBARRIER_H
#define LIB_MEMBARRIER_H

#include "lib/atomic.h"
#include "lib/base.h"

extern bool membarrier_works; /* constant after the program's start */

/* Context: thread_line is not 0. */
static inline void smp_mb_light(void)
{
	if (TSAN)
		smp_mb();
	else
		barrier();
}

/* Context: any; a system call and an interrupt to each processor that runs a thread of ours, a few microseconds. */
void smp_mb_heavy(void);

#endif /* LIB_MEMBARRIER_H */
