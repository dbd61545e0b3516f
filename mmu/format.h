/* SPDX-License-Identifier: MIT */
/*
 * Entry formats: what an entry of the second MMU says, as pure values. A format is
 * a table of masks; nothing here reads or writes memory.
 *
 * An entry is a leaf (maps a frame), a table (points to the next level) or not
 * present. Three bits tell whether a leaf may be written (rule K8):
 *   HostW  the host's own entry allowed writing when the leaf was made
 *   MMUW   and nothing on the mirror's side forbids it for longer
 *   W      and the processor may write now
 *   W => MMUW => HostW
 *
 * A frozen entry is not present and belongs to whoever froze it: installers fail
 * on it. It keeps the frame of the table it has replaced.
 */
#ifndef MMU_FORMAT_H
#define MMU_FORMAT_H

#include "lib/base.h"
#include "tain/mm.h"

/* Levels count from the leaf: level 1 entries map 4 KiB, level 2 2 MiB, level 3 1 GiB. */
#define PT_LEVEL_4K 1
#define PT_LEVEL_2M 2
#define PT_LEVEL_1G 3
#define PT_LEVELS_MAX 5
#define PT_INDEX_BITS 9
#define PT_ENTRIES (1u << PT_INDEX_BITS)

struct mmu_format {
	const char *name;  /* as mmu_create() takes it */
	const char *label; /* as people read it */
	unsigned int levels;
	u64 present; /* any of these bits: the entry is present */
	u64 read, write, exec;
	u64 accessed, dirty;
	u64 large; /* a leaf above level 1 */
	u64 pfn_mask;
	u64 host_writable, mmu_writable; /* HostW, MMUW */
	u64 frozen;
	u64 table; /* everything but the frame in an entry that points to a table */
	u64 leaf;  /* what every leaf has beside its rights */
	/* May @entry stand at @level? Hardware's rules and tain's own. */
	bool (*legal)(u64 entry, unsigned int level);
};

extern const struct mmu_format mmu_format_ept;

/* How many pages an entry of @level covers. */
static inline u64 pt_pages(unsigned int level)
{
	return 1ull << (PT_INDEX_BITS * (level - 1));
}

static inline unsigned int pt_index(gfn_t gfn, unsigned int level)
{
	return gfn >> (PT_INDEX_BITS * (level - 1)) & (PT_ENTRIES - 1);
}

/* First gfn that the format cannot map. */
static inline gfn_t format_max_gfn(const struct mmu_format *format)
{
	return 1ull << (PT_INDEX_BITS * format->levels);
}

static inline bool spte_present(const struct mmu_format *format, u64 spte)
{
	return spte & format->present;
}

static inline bool spte_frozen(const struct mmu_format *format, u64 spte)
{
	return spte & format->frozen;
}

static inline bool spte_leaf(const struct mmu_format *format, u64 spte, unsigned int level)
{
	return spte_present(format, spte) && (level == PT_LEVEL_4K || spte & format->large);
}

static inline bool spte_table(const struct mmu_format *format, u64 spte, unsigned int level)
{
	return spte_present(format, spte) && !spte_leaf(format, spte, level);
}

static inline pfn_t spte_pfn(const struct mmu_format *format, u64 spte)
{
	return (spte & format->pfn_mask) >> PAGE_SHIFT;
}

/* The same in bytes. */
static inline u64 spte_address(const struct mmu_format *format, u64 spte)
{
	return spte & format->pfn_mask;
}

static inline bool spte_writable(const struct mmu_format *format, u64 spte)
{
	return (spte & format->write) == format->write;
}

static inline bool spte_accessed(const struct mmu_format *format, u64 spte)
{
	return spte & format->accessed;
}

static inline bool spte_dirty(const struct mmu_format *format, u64 spte)
{
	return spte & format->dirty;
}

/* Does the present leaf @spte allow an access of @rights (TAIN_PROT_*)? */
static inline bool spte_allows(const struct mmu_format *format, u64 spte, unsigned int rights)
{
	u64 need = format->read; /* no leaf lacks it */

	if (rights & TAIN_PROT_WRITE)
		need |= format->write;
	if (rights & TAIN_PROT_EXEC)
		need |= format->exec;
	return (spte & need) == need;
}

/* What the processor notes in a leaf for an access of @rights. */
static inline u64 spte_note(const struct mmu_format *format, unsigned int rights)
{
	return format->accessed | (rights & TAIN_PROT_WRITE ? format->dirty : 0);
}

static inline u64 spte_make_table(const struct mmu_format *format, pfn_t pfn)
{
	return pfn << PAGE_SHIFT | format->table;
}

/* A leaf that may be read and executed, and written if @writable. Neither accessed nor dirty. */
static inline u64 spte_make_leaf(const struct mmu_format *format, pfn_t pfn, unsigned int level, bool writable)
{
	u64 spte = pfn << PAGE_SHIFT | format->leaf | format->read | format->exec;

	if (level > PT_LEVEL_4K)
		spte |= format->large;
	if (writable)
		spte |= format->host_writable | format->mmu_writable | format->write;
	return spte;
}

static inline u64 spte_make_frozen(const struct mmu_format *format, pfn_t table)
{
	return table << PAGE_SHIFT | format->frozen;
}

#endif /* MMU_FORMAT_H */
