/* SPDX-License-Identifier: MIT */
/* /proc/PID/pagemap: one word per page, documented in the kernel's admin-guide/mm/pagemap. */
#ifndef LAB_SYSTEM_PAGEMAP_H
#define LAB_SYSTEM_PAGEMAP_H

#include "lib/base.h"
#include "lib/err.h"

#define PM_PRESENT BIT(63)
#define PM_SWAP BIT(62)
#define PM_FILE BIT(61)	       /* a page of a file, or shared anonymous */
#define PM_SWAP_TYPE 31ull     /* where PM_SWAP is set */
#define PM_GUARD BIT(58)       /* MADV_GUARD_INSTALL (Linux 6.15) */
#define PM_FRAME (BIT(55) - 1) /* to others than root 0 */

/*
 * Did the page go to swap? Marks that stand in a page's place - of a guard, of userfaultfd's write protection - have
 * the same bit, and the type that no swap area has; others than root see no type.
 */
static inline bool pm_swapped(u64 entry)
{
	return entry & PM_SWAP && !(entry & PM_GUARD) && (entry & PM_SWAP_TYPE) != PM_SWAP_TYPE;
}

/* Of process @pid; 0: this one. Return: a descriptor; -errno. */
int pagemap_open(int pid);

/* The words of @pages pages from @hva on. Return: how many were read; -errno. */
s64 pagemap_read(int fd, hva_t hva, u64 pages, u64 *entry);

/* How many pages of this process from @start on have @bit. Return: 0; -EOPNOTSUPP with one line in @err. */
int pagemap_count(hva_t start, u64 pages, u64 bit, u64 *count, struct err *err);

/*
 * The first range of present pages in [*@start, @end), into *@start and *@stop. Where the
 * kernel cannot say (before Linux 6.7) it is all of it. Return: is there one?
 */
bool pagemap_next(int fd, hva_t *start, hva_t end, hva_t *stop);

/* The frame of the shared page of zeros. Return: 0 if this process may not know. */
u64 pagemap_zero_frame(void);

#endif /* LAB_SYSTEM_PAGEMAP_H */
