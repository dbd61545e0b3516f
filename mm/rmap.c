/* SPDX-License-Identifier: MIT */
/* anon_vmas, and the way from a page to its VMAs. */
#include "mm/rmap.h"
#include "lib/alloc.h"
#include "mm/file.h"
#include "mm/mm_internal.h"

static DEFINE_LOCK_CLASS(anon_vma_class, "anon_vma");

/* So many wait for a grace period together: one callback wakes a thread, which costs more than a small munmap. */
#define ANON_VMA_BATCH (CHECKING ? 1u : 256u)

static void anon_vma_free_rcu(struct rcu_head *head)
{
	struct anon_vma *anon_vma = container_of(head, struct anon_vma, rcu);

	while (anon_vma) {
		struct anon_vma *next = anon_vma->chain;

		mem_free(anon_vma);
		anon_vma = next;
	}
}

/* Return: was that the last reference? Then nobody gets another. */
static bool put_testzero(struct anon_vma *anon_vma)
{
	u32 old = fetch_add(&anon_vma->refs, (u32)-1);

	ASSERT(old != 0);
	if (old != 1)
		return false;
	rmap_lock_destroy(&anon_vma->lock);
	anon_vma->chain = NULL;
	return true;
}

void anon_vma_put(struct anon_vma *anon_vma)
{
	if (put_testzero(anon_vma))
		call_rcu(&anon_vma->rcu, anon_vma_free_rcu);
}

void anon_vma_flush(struct mm_struct *mm)
{
	struct anon_vma *first = mm->anon_retired;

	mm->anon_retired = NULL;
	mm->nr_anon_retired = 0;
	if (first)
		call_rcu(&first->rcu, anon_vma_free_rcu);
}

/* The same, in company. Context: the write side. */
static void anon_vma_put_batched(struct mm_struct *mm, struct anon_vma *anon_vma)
{
	if (!put_testzero(anon_vma))
		return;
	anon_vma->chain = mm->anon_retired;
	mm->anon_retired = anon_vma;
	if (++mm->nr_anon_retired >= ANON_VMA_BATCH)
		anon_vma_flush(mm);
}

/* Context: RCU. Return: false if it is on its way out. */
static bool get_unless_zero(u32 *refs)
{
	u32 old = READ_ONCE(*refs);

	while (old) {
		if (try_cmpxchg(refs, &old, old + 1))
			return true;
	}
	return false;
}

/* Would the two be one VMA if their rights were the same? */
static bool nearly_mergeable(const struct vm_area_struct *left, const struct vm_area_struct *right)
{
	return left->end == right->start && !((left->flags ^ right->flags) & ~(u64)VM_PROT_MASK) && !left->file &&
	       !right->file && vma_index(left, left->end) == right->pgoff;
}

/* With a reference, or NULL. */
static struct anon_vma *anon_vma_of(struct vm_area_struct *vma)
{
	struct anon_vma *anon_vma = vma_anon(vma);

	return anon_vma && get_unless_zero(&anon_vma->refs) ? anon_vma : NULL;
}

static struct anon_vma *borrow(struct vm_area_struct *vma)
{
	struct vm_area_struct *neighbour;
	struct anon_vma *anon_vma = NULL;

	rcu_read_lock();
	neighbour = find_vma(vma->mm, vma->end);
	if (neighbour && nearly_mergeable(vma, neighbour))
		anon_vma = anon_vma_of(neighbour);
	if (!anon_vma) {
		neighbour = vma_find_before(smp_load_acquire(&vma->mm->vmas.root), vma->start); /* as find_vma() */
		if (neighbour && nearly_mergeable(neighbour, vma))
			anon_vma = anon_vma_of(neighbour);
	}
	rcu_read_unlock();
	return anon_vma;
}

static struct anon_vma *make(void)
{
	struct anon_vma *anon_vma = mem_alloc_aligned(CACHELINE, sizeof(*anon_vma));

	if (!anon_vma)
		return NULL;
	rmap_lock_init(&anon_vma->lock, &anon_vma_class);
	anon_vma->refs = 1;
	return anon_vma;
}

/*
 * Two faults on a VMA that has none:
 *
 *   fault                                    another fault
 *   -----                                    -------------
 *   make A                                   make B
 *   lock A; vma->anon_vma = A, insert; unlock
 *                                            lock B; vma->anon_vma is set; unlock; B goes
 *   page->mapping = A                        page->mapping = A
 */
int anon_vma_prepare(struct vm_area_struct *vma)
{
	struct anon_vma *anon_vma = borrow(vma), *none = NULL;
	bool ours;

	if (!anon_vma)
		anon_vma = make();
	if (!anon_vma)
		return -ENOMEM;
	race_point("anon_vma_prepare:before_lock");
	rmap_lock_write(&anon_vma->lock);
	/* Release: pairs with the acquire in vma_anon(). The index must have the VMA before it has a page. */
	ours = try_cmpxchg(&vma->anon_vma, &none, anon_vma);
	if (ours)
		rmap_tree_insert(&anon_vma->vmas, &vma->rmap);
	rmap_unlock_write(&anon_vma->lock);
	if (!ours)
		anon_vma_put(anon_vma);
	return 0;
}

/* --- VMAs --------------------------------------------------------------------------- */

struct rmap_lock *vma_rmap_lock(const struct vm_area_struct *vma)
{
	struct anon_vma *anon_vma;

	if (vma->file)
		return &vma->file->mapping.i_mmap;
	anon_vma = vma_anon(vma);
	return anon_vma ? &anon_vma->lock : NULL;
}

static struct rmap_node **vma_tree(struct vm_area_struct *vma)
{
	return vma->file ? &vma->file->mapping.vmas : &vma->anon_vma->vmas;
}

void vma_rmap_link(struct vm_area_struct *vma)
{
	struct rmap_lock *lock = vma_rmap_lock(vma);

	if (!lock)
		return;
	if (vma->file)
		mm_file_get(vma->file);
	else
		fetch_add(&vma->anon_vma->refs, 1);
	rmap_lock_write(lock);
	rmap_tree_insert(vma_tree(vma), &vma->rmap);
	rmap_unlock_write(lock);
}

void vma_rmap_unlink(struct vm_area_struct *vma)
{
	struct rmap_lock *lock = vma_rmap_lock(vma);

	if (!lock)
		return;
	rmap_lock_write(lock);
	rmap_tree_remove(vma_tree(vma), &vma->rmap);
	rmap_unlock_write(lock);
	if (vma->file)
		mm_file_put(vma->file);
	else
		anon_vma_put_batched(vma->mm, vma->anon_vma);
}

/* --- from the page -------------------------------------------------------------------- */

/*
 * The object of a page without a lock that keeps it:
 *
 *   reader                                 the last VMA leaves
 *   ------                                 -------------------
 *   rcu_read_lock
 *   mapcount is not zero                   clear the entries: mapcount 0
 *     -> the VMA was still linked          unlink; last reference: call_rcu
 *   the object is memory until we leave
 *   reference unless there is none left
 *   rcu_read_unlock                        (after that) free
 */
static struct rmap_lock *anon_lock(struct page *page)
{
	struct anon_vma *anon_vma = NULL;

	rcu_read_lock();
	if (smp_load_acquire(&page->mapcount)) { /* pairs with the full barriers around its changes */
		anon_vma = READ_ONCE(page->mapping);
		if (!get_unless_zero(&anon_vma->refs))
			anon_vma = NULL;
	}
	rcu_read_unlock();
	if (!anon_vma)
		return NULL;
	rmap_lock_read(&anon_vma->lock);
	return &anon_vma->lock;
}

/* page->mapping goes when the file gives the page up, before the file can go. */
static struct rmap_lock *file_lock(struct page *page)
{
	struct mm_file *file;

	rcu_read_lock();
	file = READ_ONCE(page->mapping);
	if (file && !get_unless_zero(&file->refs))
		file = NULL;
	rcu_read_unlock();
	if (!file)
		return NULL;
	rmap_lock_read(&file->mapping.i_mmap);
	return &file->mapping.i_mmap;
}

struct rmap_lock *page_rmap_lock(struct page *page)
{
	u32 flags = READ_ONCE(page->flags);

	if (flags & PG_ANON)
		return anon_lock(page);
	return flags & PG_FILE ? file_lock(page) : NULL;
}

void page_rmap_unlock(struct page *page, struct rmap_lock *lock)
{
	rmap_unlock_read(lock);
	if (READ_ONCE(page->flags) & PG_ANON)
		anon_vma_put(container_of(lock, struct anon_vma, lock));
	else
		mm_file_put(container_of(lock, struct mm_file, mapping.i_mmap));
}

int page_rmap_walk(struct page *page, int (*fn)(struct vm_area_struct *vma, u64 addr, void *arg), void *arg)
{
	bool anon = READ_ONCE(page->flags) & PG_ANON;
	void *mapping = READ_ONCE(page->mapping);
	u64 index = READ_ONCE(page->index);
	struct rmap_node *root, *node;
	int ret = 0;

	if (!mapping)
		return 0;
	root = anon ? ((struct anon_vma *)mapping)->vmas : ((struct mm_file *)mapping)->mapping.vmas;
	for (node = rmap_tree_next(root, NULL, index, index); node && !ret;
	     node = rmap_tree_next(root, node, index, index)) {
		struct vm_area_struct *vma = container_of(node, struct vm_area_struct, rmap);

		ret = fn(vma, vma->start + ((index - vma->pgoff) << PAGE_SHIFT), arg);
	}
	return ret;
}
