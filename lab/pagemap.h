/* SPDX-License-Identifier: MIT */
/* What stands behind this process's addresses: /proc/self/pagemap, documented in the kernel's admin-guide/mm/pagemap.
 */
#ifndef LAB_PAGEMAP_H
#define LAB_PAGEMAP_H

#include "lib/base.h"
#include "lib/err.h"

#define PAGEMAP_PRESENT BIT(63)
#define PAGEMAP_SWAP BIT(62)
#define PAGEMAP_FILE BIT(61)	    /* a page of a file, or shared anonymous */
#define PAGEMAP_FRAME (BIT(55) - 1) /* 0 to all but root */

/* One word per page from @start on. Return: 0; -errno. */
int pagemap_read(hva_t start, u64 pages, u64 *entry);

/* How many of them have @bit. Return: 0; -EOPNOTSUPP with one line in @err. */
int pagemap_count(hva_t start, u64 pages, u64 bit, u64 *count, struct err *err);

#endif /* LAB_PAGEMAP_H */
