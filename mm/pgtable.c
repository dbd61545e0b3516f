/* SPDX-License-Identifier: MIT */
/*
 * The host's page tables: 4 levels in arena frames.
 *
 * A table is linked into the level above by compare-and-exchange, so faults that
 * race to make the same table need no common lock. Leaf entries change under the
 * lock in the table's own struct page, through pte_set_locked() alone. A table is
 * unlinked only on the policy's write side, and outlives lockless readers.
 */
#include "mm/mm_internal.h"

static DEFINE_LOCK_CLASS(ptl_class, "ptl");

static struct page *table_alloc(struct mm_struct *mm, unsigned int level)
{
	struct page *table = frame_alloc_wait(mm->arena, 0);

	if (!table)
		return NULL;
	frame_clear(table);
	WRITE_ONCE(table->flags, PG_TABLE);
	table->level = (u8)level;
	table->chain = NULL;
	if (level == 1)
		spin_lock_init(&table->ptl, &ptl_class);
	mm_count_event(mm, MM_NR_TABLES, 1);
	return table;
}

int pt_create(struct mm_struct *mm)
{
	mm->root = table_alloc(mm, PT_LEVELS);
	return mm->root ? 0 : -ENOMEM;
}

void pt_destroy(struct mm_struct *mm)
{
#if CHECKING
	for (unsigned int i = 0; i < PT_ENTRIES; i++)
		ASSERT(pte_none(pte_read(&pt_entries(mm->root)[i]))); /* invariant MM6: exit left no table */
#endif
	frame_retire_tables(mm->arena, mm->root, mm_defers(mm));
	mm->root = NULL;
}

/* The table that @entry, of a level above 1, points to, or NULL. */
static struct page *table_below(struct frame_arena *arena, const pte_t *entry)
{
	/* Pairs with the exchange in table_make(): who sees the table sees it empty, not as it was. */
	pte_t pte = { smp_load_acquire(&entry->val) };

	return pte_none(pte) ? NULL : frame_page(arena, pte_pfn(pte));
}

/* Put a new table under @entry unless somebody was faster. NULL when the arena is full. */
static struct page *table_make(struct mm_struct *mm, pte_t *entry, unsigned int level)
{
	struct page *table = table_alloc(mm, level);
	u64 old = 0;

	if (!table)
		return NULL;
	race_point("pt_make:before_link");
	/* Pairs with the acquire in table_below(). */
	if (try_cmpxchg(&entry->val, &old, pte_make_table(frame_pfn(table)).val))
		return table;
	put_page(table);
	mm_count_event(mm, MM_NR_TABLES_FREED, 1);
	return frame_page(mm->arena, pte_pfn((pte_t){ old }));
}

struct page *pt_leaf(struct mm_struct *mm, hva_t addr)
{
	struct page *table = mm->root;

	for (unsigned int level = PT_LEVELS; level > 1 && table; level--)
		table = table_below(mm->arena, &pt_entries(table)[pt_index(addr, level)]);
	return table;
}

struct page *pt_leaf_alloc(struct mm_struct *mm, hva_t addr)
{
	struct page *table = mm->root;

	for (unsigned int level = PT_LEVELS; level > 1; level--) {
		pte_t *entry = &pt_entries(table)[pt_index(addr, level)];
		struct page *below = table_below(mm->arena, entry);

		if (unlikely(!below))
			below = table_make(mm, entry, level - 1);
		if (unlikely(!below))
			return NULL;
		table = below;
	}
	return table;
}

void pte_set_locked(struct page *leaf, hva_t addr, pte_t new)
{
	pte_t *ptep = &pt_entries(leaf)[pt_index(addr, 1)];
	pte_t old = pte_read(ptep);

	lockdep_assert_held(&leaf->ptl);
	/* invariant MM7: a page is replaced by nothing before it is replaced by another. */
	ASSERT(pte_none(old) || pte_none(new) || pte_pfn(old) == pte_pfn(new));
	mm_trace(PTE, addr, old.val, new.val, 0);
	WRITE_ONCE(ptep->val, new.val);
}

struct leaf_walk {
	struct frame_arena *arena;
	void (*fn)(struct page *leaf, hva_t start, hva_t end, void *arg);
	void *arg;
};

static void walk_leaves(const struct leaf_walk *walk, struct page *table, unsigned int level, hva_t start, hva_t end)
{
	u64 span = pt_span(level);

	if (level == 1) {
		walk->fn(table, start, end, walk->arg);
		return;
	}
	while (start < end) {
		hva_t next = min(align_down(start, span) + span, end);
		struct page *below = table_below(walk->arena, &pt_entries(table)[pt_index(start, level)]);

		if (below)
			walk_leaves(walk, below, level - 1, start, next);
		start = next;
	}
}

void pt_for_each_leaf(struct mm_struct *mm, hva_t start, hva_t end,
		      void (*fn)(struct page *leaf, hva_t start, hva_t end, void *arg), void *arg)
{
	struct leaf_walk walk = { mm->arena, fn, arg };

	walk_leaves(&walk, mm->root, PT_LEVELS, start, end);
}

struct table_free {
	struct frame_arena *arena;
	hva_t floor, ceiling;
	struct page *chain;
	u64 nr;
};

static void free_below(struct table_free *tf, struct page *table, unsigned int level, hva_t start, hva_t end)
{
	u64 span = pt_span(level);

	for (hva_t at = align_down(start, span); at < end; at += span) {
		pte_t *entry = &pt_entries(table)[pt_index(at, level)];
		struct page *below = table_below(tf->arena, entry);

		if (!below)
			continue;
		if (level > 2)
			free_below(tf, below, level - 1, max(at, start), min(at + span, end));
		if (at < tf->floor || at + span > tf->ceiling)
			continue;
#if CHECKING
		for (unsigned int i = 0; i < PT_ENTRIES; i++)
			ASSERT(pte_none(pte_read(&pt_entries(below)[i]))); /* invariant MM6 */
#endif
		WRITE_ONCE(entry->val, 0);
		below->chain = tf->chain;
		tf->chain = below;
		tf->nr++;
	}
}

void free_pgtables(struct mm_struct *mm, hva_t start, hva_t end, hva_t floor, hva_t ceiling)
{
	struct table_free tf = { .arena = mm->arena, .floor = floor, .ceiling = ceiling };

	free_below(&tf, mm->root, PT_LEVELS, start, end);
	if (!tf.nr)
		return;
	mm_trace(TABLES, start, end, tf.nr, 0);
	mm_count_event(mm, MM_NR_TABLES_FREED, tf.nr);
	frame_retire_tables(mm->arena, tf.chain, mm_defers(mm));
}
