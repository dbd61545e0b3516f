/* SPDX-License-Identifier: MIT */
/* The EPT format: its table of masks, and which entries are legal. */
#include "mmu/ept_x86.h"
#include "mmu/format.h"

_Static_assert(!(EPT_FROZEN & EPT_RWX), "a frozen entry is not present");
_Static_assert(!((EPT_HOST_WRITABLE | EPT_MMU_WRITABLE | EPT_FROZEN) & EPT_PFN_MASK),
	       "software bits lie outside the frame");

static bool ept_leaf_legal(u64 entry, unsigned int level)
{
	u64 known = EPT_RWX | EPT_MEMTYPE_MASK | EPT_IGNORE_PAT | EPT_ACCESSED | EPT_DIRTY | EPT_PFN_MASK |
		    EPT_HOST_WRITABLE | EPT_MMU_WRITABLE;

	if (level > PT_LEVEL_4K)
		known |= EPT_LARGE;
	if (entry & ~known)
		return false;
	/* Low bits of a large frame are reserved: set, they are a misconfiguration. */
	if ((entry & EPT_PFN_MASK) >> PAGE_SHIFT & (pt_pages(level) - 1))
		return false;
	/* The VM's memory is plain: write-back, whatever the guest's PAT says. */
	if ((entry & EPT_MEMTYPE_MASK) != EPT_MEMTYPE_WB || !(entry & EPT_IGNORE_PAT))
		return false;
	if (entry & EPT_WRITE && !(entry & EPT_MMU_WRITABLE))
		return false;
	return !(entry & EPT_MMU_WRITABLE) || entry & EPT_HOST_WRITABLE;
}

/*
 * Write without read and execute without read are misconfigurations (the latter
 * where the processor lacks execute-only; tain never makes it). A table restricts
 * nothing: rights are the leaf's business alone.
 */
bool ept_legal(u64 entry, unsigned int level)
{
	if (!(entry & EPT_RWX))
		return !entry || (entry & ~EPT_PFN_MASK) == EPT_FROZEN;
	if (!(entry & EPT_READ))
		return false;
	if (level == PT_LEVEL_4K || entry & EPT_LARGE)
		return level <= PT_LEVEL_1G && ept_leaf_legal(entry, level);
	return (entry & ~(EPT_PFN_MASK | EPT_ACCESSED)) == EPT_RWX;
}

const struct mmu_format mmu_format_ept = {
	.name = "ept",
	.label = "EPT",
	.levels = EPT_LEVELS,
	.present = EPT_RWX,
	.read = EPT_READ,
	.write = EPT_WRITE,
	.exec = EPT_EXEC,
	.accessed = EPT_ACCESSED,
	.dirty = EPT_DIRTY,
	.large = EPT_LARGE,
	.pfn_mask = EPT_PFN_MASK,
	.host_writable = EPT_HOST_WRITABLE,
	.mmu_writable = EPT_MMU_WRITABLE,
	.frozen = EPT_FROZEN,
	.table = EPT_RWX,
	.leaf = EPT_MEMTYPE_WB | EPT_IGNORE_PAT,
	.legal = ept_legal,
};
