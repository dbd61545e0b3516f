/* SPDX-License-Identifier: MIT */
/*
 * The machine-wide switches that operations and backings need. Each asks whether it may
 * (--allow-system started the guardian); if not, -EOPNOTSUPP and what to do about it.
 * One thread at a time.
 */
#ifndef LAB_SYSTEM_SYSTEM_H
#define LAB_SYSTEM_SYSTEM_H

#include "lib/base.h"
#include "lib/err.h"
#include "lib/time.h"

/* Changes under way, to be handed to system_undo(). */
struct system_change {
	int id[4]; /* guardian_undo() numbers, -1: none */
};

#define SYSTEM_NO_CHANGE ((struct system_change){ { -1, -1, -1, -1 } })

int system_undo(struct system_change *change, struct err *err);

/* At least @pages free 2 MiB pages that nobody has reserved. Nothing is changed where they are there. */
int system_hugepages(u64 pages, struct system_change *change, struct err *err);

/* KSM runs, and fast. */
int system_ksm(struct system_change *change, struct err *err);
#define SYSTEM_KSM_NS (60 * NSEC_PER_SEC) /* longer than it takes anywhere */
/* Wait until it has looked at all memory @times over, at most @limit_ns. Return: 0; -ETIMEDOUT; -EOPNOTSUPP. */
int system_ksm_wait(u64 times, u64 limit_ns, struct err *err);

/* Pages of this process that KSM has merged, also with the zero page (Linux 6.1). Return: 0; -EOPNOTSUPP. */
int system_ksm_pages(u64 *pages, struct err *err);

/* Compact all memory, once. */
int system_compact(struct err *err);

/* There is swap, or there is some now, for as long as the guardian runs. */
int system_swap(struct err *err);

/* Transparent huge pages for those who ask; nothing is changed where they get them. */
int system_thp(struct system_change *change, struct err *err);

/* khugepaged looks at memory without a rest. */
int system_khugepaged(struct system_change *change, struct err *err);
/* Huge pages that khugepaged has made since the machine started. Return: 0; -EOPNOTSUPP. */
int system_khugepaged_pages(u64 *pages, struct err *err);

#endif /* LAB_SYSTEM_SYSTEM_H */
