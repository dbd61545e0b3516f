/* SPDX-License-Identifier: MIT */
/* Bits of an Extended Page Table entry, four levels (Intel SDM volume 3, "The Extended Page Table Mechanism"). */
#ifndef MMU_EPT_X86_H
#define MMU_EPT_X86_H

#include "lib/base.h"

#define EPT_READ BIT(0)
#define EPT_WRITE BIT(1)
#define EPT_EXEC BIT(2)
#define EPT_RWX (EPT_READ | EPT_WRITE | EPT_EXEC)
#define EPT_MEMTYPE_SHIFT 3
#define EPT_MEMTYPE_MASK (7ull << EPT_MEMTYPE_SHIFT)
#define EPT_MEMTYPE_WB (6ull << EPT_MEMTYPE_SHIFT)
#define EPT_IGNORE_PAT BIT(6)
#define EPT_LARGE BIT(7)
#define EPT_ACCESSED BIT(8)
#define EPT_DIRTY BIT(9)
#define EPT_PFN_MASK (BIT(52) - BIT(12))

/* Ignored by the processor, tain's own (format.h). */
#define EPT_HOST_WRITABLE BIT(57)
#define EPT_MMU_WRITABLE BIT(58)
#define EPT_FROZEN BIT(59)

#define EPT_LEVELS 4

bool ept_legal(u64 entry, unsigned int level);

#endif /* MMU_EPT_X86_H */
