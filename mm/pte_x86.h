/* SPDX-License-Identifier: MIT */
/*
 * Page table entries in the x86-64 format: pure values, no state. Four levels of
 * 512 entries; level 1 maps pages, level 4 is the root.
 */
#ifndef MM_PTE_X86_H
#define MM_PTE_X86_H

#include "lib/base.h"
#include "tain/mm.h"

#define PT_LEVELS 4
#define PT_ENTRIES 512u
#define PT_ENTRY_BITS 9

#define PTE_P BIT(0) /* present: the processor may read through it */
#define PTE_W BIT(1)
#define PTE_U BIT(2)
#define PTE_A BIT(5)
#define PTE_D BIT(6)
#define PTE_PROTNONE BIT(8) /* software: holds a page that nobody may touch; only without P */
#define PTE_SPECIAL BIT(9)  /* software: a page without counts (mm_map_pfn) */
#define PTE_NOREAD BIT(10)  /* software: write or execute without read; the processor cannot tell */
#define PTE_PFN_MASK 0x000ffffffffff000ull
#define PTE_NX BIT(63)

typedef struct {
	u64 val;
} pte_t;

/* The bytes that one entry of @level spans. */
static inline u64 pt_span(unsigned int level)
{
	return 1ull << (PAGE_SHIFT + PT_ENTRY_BITS * (level - 1));
}

static inline unsigned int pt_index(hva_t addr, unsigned int level)
{
	return (unsigned int)(addr >> (PAGE_SHIFT + PT_ENTRY_BITS * (level - 1))) & (PT_ENTRIES - 1);
}

static inline bool pte_none(pte_t pte)
{
	return pte.val == 0;
}

static inline bool pte_special(pte_t pte)
{
	return pte.val & PTE_SPECIAL;
}

static inline pfn_t pte_pfn(pte_t pte)
{
	return (pte.val & PTE_PFN_MASK) >> PAGE_SHIFT;
}

/* The bits of @prot and nothing else. */
static inline u64 pte_prot_bits(int prot)
{
	u64 bits = PTE_U;

	if (!prot)
		return PTE_PROTNONE | PTE_NX | PTE_U;
	bits |= PTE_P;
	if (prot & TAIN_PROT_WRITE)
		bits |= PTE_W;
	if (!(prot & TAIN_PROT_EXEC))
		bits |= PTE_NX;
	if (!(prot & TAIN_PROT_READ))
		bits |= PTE_NOREAD;
	return bits;
}

#define PTE_PROT_MASK (PTE_P | PTE_W | PTE_U | PTE_PROTNONE | PTE_NOREAD | PTE_NX)

static inline int pte_prot(pte_t pte)
{
	int prot = 0;

	if (!(pte.val & PTE_P))
		return 0;
	if (!(pte.val & PTE_NOREAD))
		prot |= TAIN_PROT_READ;
	if (pte.val & PTE_W)
		prot |= TAIN_PROT_WRITE;
	if (!(pte.val & PTE_NX))
		prot |= TAIN_PROT_EXEC;
	return prot;
}

static inline pte_t pte_make(pfn_t pfn, int prot)
{
	return (pte_t){ (pfn << PAGE_SHIFT) | pte_prot_bits(prot) };
}

/* The same page and history, other rights. */
static inline pte_t pte_modify(pte_t pte, int prot)
{
	return (pte_t){ (pte.val & ~PTE_PROT_MASK) | pte_prot_bits(prot) };
}

static inline bool pte_allows(pte_t pte, int access)
{
	return (pte_prot(pte) & access) == access;
}

static inline bool pte_write(pte_t pte)
{
	return (pte.val & (PTE_P | PTE_W)) == (PTE_P | PTE_W);
}

static inline pte_t pte_mkspecial(pte_t pte)
{
	return (pte_t){ pte.val | PTE_SPECIAL };
}

static inline bool pte_young(pte_t pte)
{
	return pte.val & PTE_A;
}

static inline pte_t pte_mkold(pte_t pte)
{
	return (pte_t){ pte.val & ~PTE_A };
}

/* The same rights and history, another page. */
static inline pte_t pte_with_pfn(pte_t pte, pfn_t pfn)
{
	return (pte_t){ (pte.val & ~PTE_PFN_MASK) | (pfn << PAGE_SHIFT) };
}

/* Accessed, and dirty if @access writes. */
static inline pte_t pte_touch(pte_t pte, int access)
{
	return (pte_t){ pte.val | PTE_A | (access & TAIN_PROT_WRITE ? PTE_D : 0) };
}

/* An entry above level 1: the table below it. Rights are the leaf's alone. */
static inline pte_t pte_make_table(pfn_t pfn)
{
	return (pte_t){ (pfn << PAGE_SHIFT) | PTE_P | PTE_W | PTE_U | PTE_A };
}

#endif /* MM_PTE_X86_H */
