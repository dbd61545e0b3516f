/* SPDX-License-Identifier: MIT */
/*
 * Migration: another frame with the same contents. Pages are collected under the
 * policy's read side; each is then found by its reverse map and moved under its
 * object's lock alone. Somebody who has a reference may be using the frame: such a
 * page stays.
 *
 *   migrate                                   fault on the page
 *   -------                                   -----------------
 *   section start: no mirror has it
 *   page-table lock
 *     references: the entry's, ours. More?
 *       then it stays
 *     copy; the entry gets the new frame      (waits)
 *   unlock
 *                                             page-table lock: takes the new frame
 *   section end
 *
 * References to a page of an entry are taken under that entry's lock, so between the
 * count and the new entry none can come. Pages of files have several entries, and the
 * file gives references too: they are unmapped everywhere first, and replaced in the
 * file under its pages_lock, if then nobody else has one.
 */
#include "lib/thread.h"
#include "mm/mm_internal.h"

#define MIGRATE_BATCH (PROVE ? 3u : 64u)

struct batch {
	struct mm_struct *mm;
	hva_t next; /* where to go on */
	u64 absent;
	unsigned int nr;
	struct page *pages[MIGRATE_BATCH];
};

/* Hold the pages of a table, until there is no room. */
static void collect_leaf(struct page *leaf, hva_t addr, hva_t end, void *arg)
{
	struct batch *batch = arg;

	if (batch->nr == MIGRATE_BATCH)
		return;
	batch->absent += (addr - batch->next) >> PAGE_SHIFT; /* no table */
	spin_lock(&leaf->ptl);
	for (; addr < end && batch->nr < MIGRATE_BATCH; addr += PAGE_SIZE) {
		pte_t pte = pte_read(&pt_entries(leaf)[pt_index(addr, 1)]);

		if (pte_none(pte) || pte_special(pte)) {
			batch->absent++;
			continue;
		}
		batch->pages[batch->nr] = frame_page(batch->mm->arena, pte_pfn(pte));
		frame_get(batch->pages[batch->nr++]);
	}
	spin_unlock(&leaf->ptl);
	batch->next = addr;
}

static void collect(struct batch *batch, hva_t end)
{
	struct mm_range range = { batch->mm, batch->next, end };

	batch->nr = 0;
	batch->mm->policy->read_begin(&range);
	if (batch->mm->root) /* not after exit */
		pt_for_each_leaf(batch->mm, batch->next, end, collect_leaf, batch);
	batch->mm->policy->read_end(&range);
	if (batch->nr < MIGRATE_BATCH) {
		batch->absent += (end - batch->next) >> PAGE_SHIFT;
		batch->next = end;
	}
}

enum outcome { GONE, MOVED, PINNED };

struct migration {
	struct page *old, *new;
	enum outcome outcome;
};

static bool entry_holds(struct page *leaf, hva_t addr, const struct page *page)
{
	pte_t pte = pte_read(&pt_entries(leaf)[pt_index(addr, 1)]);

	return !pte_none(pte) && !pte_special(pte) && pte_pfn(pte) == frame_pfn(page);
}

/* Without the lock; the fault path looks again under it. */
static struct page *leaf_of_page(struct vm_area_struct *vma, hva_t addr, const struct page *page)
{
	struct page *leaf = pt_leaf(vma->mm, addr);

	return leaf && entry_holds(leaf, addr, page) ? leaf : NULL;
}

/* Nobody but the entry and us? Pairs with the release in put_page(): their last writes are seen. Context: ptl. */
static bool only_entry_has(struct page *page)
{
	return smp_load_acquire(&page->refcount) == 2 && READ_ONCE(page->mapcount) == 1;
}

static void move_locked(struct migration *m, struct page *leaf, struct vm_area_struct *vma, hva_t addr)
{
	pte_t pte = pte_read(&pt_entries(leaf)[pt_index(addr, 1)]);
	struct page *old = m->old, *new = m->new;

	pte_set_locked(leaf, addr, (pte_t){ 0 });
	mm_secondary_tlbs_locked(vma->mm, addr, addr + PAGE_SIZE);
	__builtin_memcpy(frame_address(new), frame_address(old), PAGE_SIZE);
	WRITE_ONCE(new->mapping, READ_ONCE(old->mapping));
	WRITE_ONCE(new->index, READ_ONCE(old->index));
	WRITE_ONCE(new->flags, READ_ONCE(old->flags) & (PG_ANON | PG_DIRTY | PG_ACCESSED));
	WRITE_ONCE(new->mapcount, 1);
	pte_set_locked(leaf, addr, pte_with_pfn(pte, frame_pfn(new)));
	fetch_add(&old->mapcount, (u32)-1);
	m->outcome = MOVED;
}

static int migrate_anon_entry(struct vm_area_struct *vma, hva_t addr, void *arg)
{
	bool untold = mutant(MUTANT_N5_MIGRATE_UNTOLD); /* catalogue 11 */
	struct mmu_notifier_range section = { 0 };
	struct migration *m = arg;
	struct page *leaf = leaf_of_page(vma, addr, m->old);

	if (!leaf)
		return 0;
	if (page_count(m->old) > 2) { /* a hint: spare the section */
		m->outcome = PINNED;
		return 1;
	}
	if (!untold)
		section = mm_section_begin(vma->mm, addr, addr + PAGE_SIZE, MMU_NOTIFY_CLEAR);
	race_point("mm_migrate:after_start");
	spin_lock(&leaf->ptl);
	if (entry_holds(leaf, addr, m->old)) {
		m->outcome = PINNED;
		if (only_entry_has(m->old))
			move_locked(m, leaf, vma, addr);
	}
	spin_unlock(&leaf->ptl);
	if (m->outcome == MOVED)
		put_page(m->old); /* the entry's; ours is left */
	race_point("mm_migrate:after_move");
	if (!untold)
		mm_section_end(&section);
	return m->outcome != GONE;
}

static int unmap_file_entry(struct vm_area_struct *vma, hva_t addr, void *arg)
{
	struct mmu_notifier_range section;
	struct migration *m = arg;
	struct page *leaf = leaf_of_page(vma, addr, m->old);
	bool cleared = false;

	if (!leaf)
		return 0;
	section = mm_section_begin(vma->mm, addr, addr + PAGE_SIZE, MMU_NOTIFY_CLEAR);
	spin_lock(&leaf->ptl);
	if (entry_holds(leaf, addr, m->old)) {
		pte_set_locked(leaf, addr, (pte_t){ 0 });
		mm_secondary_tlbs_locked(vma->mm, addr, addr + PAGE_SIZE);
		fetch_add(&m->old->mapcount, (u32)-1);
		cleared = true;
	}
	spin_unlock(&leaf->ptl);
	if (cleared)
		put_page(m->old);
	mm_section_end(&section);
	return 0;
}

static void migrate_file_page(struct migration *m)
{
	/* Entries, the file, us. A hint. */
	if (page_count(m->old) > READ_ONCE(m->old->mapcount) + 2) {
		m->outcome = PINNED;
		return;
	}
	page_rmap_walk(m->old, unmap_file_entry, m);
	race_point("mm_migrate:file_unmapped");
	m->outcome = PINNED;
	if (mm_file_replace(m->old, m->new)) {
		put_page(m->old); /* the file's */
		m->outcome = MOVED;
	}
}

/* Return: -ENOMEM; or an outcome. */
static int migrate_page(struct page *page)
{
	struct migration m = { .old = page, .new = frame_alloc_wait(page->arena, 0) };
	struct rmap_lock *lock;

	if (!m.new)
		return -ENOMEM;
	race_point("mm_migrate:before_lock");
	lock = page_rmap_lock(page);
	if (lock) {
		if (READ_ONCE(page->flags) & PG_ANON)
			page_rmap_walk(page, migrate_anon_entry, &m);
		else
			migrate_file_page(&m);
		page_rmap_unlock(page, lock);
	}
	if (m.outcome != MOVED)
		put_page(m.new);
	return m.outcome;
}

static int migrate_batch(struct batch *batch, u64 *counts)
{
	int ret = 0;

	for (unsigned int i = 0; i < batch->nr; i++) {
		if (ret >= 0)
			ret = thread_signal_pending() ? -EINTR : migrate_page(batch->pages[i]);
		if (ret >= 0)
			counts[ret]++;
		put_page(batch->pages[i]);
	}
	return min(ret, 0);
}

int mm_migrate(struct mm_struct *mm, hva_t addr, size_t len, struct mm_migrate_stats *stats)
{
	struct batch batch = { .mm = mm, .next = addr };
	hva_t end = addr + len;
	u64 counts[3] = { 0 };
	int err = 0;

	if (!range_ok(addr, len))
		return -EINVAL;
	while (batch.next < end && !err) {
		collect(&batch, end);
		err = migrate_batch(&batch, counts);
	}
	mm_trace(MIGRATE, addr, end, counts[MOVED], counts[PINNED]);
	if (stats) {
		stats->moved += counts[MOVED];
		stats->pinned += counts[PINNED];
		stats->absent += counts[GONE] + batch.absent;
	}
	return err;
}
