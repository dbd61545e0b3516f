/* SPDX-License-Identifier: MIT */
/*
 * VMAs and the tree that finds them.
 *
 * A VMA's range and attributes never change once it is published: whatever an
 * operation changes, it replaces. The tree is persistent: an update copies the
 * path it changes and publishes a new root. So a reader without a lock sees one
 * state of the address space or the next, never a mixture, and an update that runs
 * out of memory has changed nothing.
 */
#ifndef MM_VMA_H
#define MM_VMA_H

#include "lib/atomic.h"
#include "lib/base.h"
#include "lib/rcu.h"
#include "mm/rmap.h"
#include "tain/mm.h"

/* The low three bits of vma->flags are TAIN_PROT_*. */
#define VM_PROT_MASK (TAIN_PROT_READ | TAIN_PROT_WRITE | TAIN_PROT_EXEC)
#define VM_SHARED BIT(9) /* of a file */
#define VM_PFNMAP BIT(8) /* special: pgoff is the first pfn, its pages have no counts */

#define MM_MAX_MAP_COUNT 65530

struct vm_area_struct {
	/* Constant once published. */
	hva_t start; /* first byte */
	hva_t end;   /* one past the last byte */
	u64 flags;   /* VM_* */
	u64 pgoff;   /* page number that the first page stands for: of the address when it was mapped, or a pfn, or of a
			file */
	struct mm_struct *mm;
	struct mm_file *file; /* whose pages these are, or NULL; a reference while it is linked */

	/* Set once, at the first fault, by compare-and-exchange; constant on the write side. */
	struct anon_vma *anon_vma;
	struct rmap_node rmap; /* [pgoff, pgoff + pages) in the index of anon_vma or file; under that one's lock */

	u32 dead;   /* set before its entries are cleared; a fault that sees it at the page-table lock retries */
	bool fresh; /* made by the open transaction: not published */
	struct vm_area_struct *chain; /* of the transaction that adds or removes it */
	struct rcu_head rcu;
};

struct vma_attr {
	u64 flags;
	u64 pgoff; /* at the start of the range */
	struct mm_file *file;
	struct anon_vma *anon_vma;
};

struct vma_node {
	struct vma_node *left, *right;
	struct vm_area_struct *vma;
	/* Of the subtree: */
	hva_t min_start;
	hva_t max_end;
	u64 max_gap; /* longest hole between two VMAs of it */
	u32 height;

	bool fresh;  /* made by the open transaction: not published, may be changed */
	bool pooled; /* ... and not in use */
	struct vma_node *chain;
	struct rcu_head rcu;
};

struct vma_tree {
	struct vma_node *root; /* RCU; written by vma_txn_commit() */
	u32 count;	       /* VMAs */
	u32 nr_files;	       /* ... of files */
};

/*
 * A change of the tree, built aside. Any number of vma_txn_replace(), then commit
 * or abort. One at a time per mm; the policy's write side sees to that.
 */
struct vma_txn {
	struct mm_struct *mm;
	struct vma_node *root; /* the state so far: look here, not in the mm */
	u32 count;
	int err; /* the first thing that went wrong; later steps do nothing */

	struct vma_node *fresh; /* all made here */
	struct vma_node *pool;	/* those free again, by ->left */
	struct vma_node *stale; /* published ones that are not in the new state */
	struct vm_area_struct *added, *removed;
};

void vma_txn_begin(struct vma_txn *txn, struct mm_struct *mm);

/*
 * From now on [start, end) is one mapping with @attr, merged with neighbours that
 * continue it, or a hole (@attr NULL). What was there goes; what sticks out stays.
 * Return: 0; -ENOMEM: only vma_txn_abort() is left to do.
 */
int vma_txn_replace(struct vma_txn *txn, hva_t start, hva_t end, const struct vma_attr *attr);

/* Before commit: -ENOMEM if the address space would have too many VMAs, and more than it has. */
int vma_txn_check(const struct vma_txn *txn);

/*
 * Publish. Marks what was removed dead first. Nothing can fail. The old VMAs stay where
 * their pages find them until vma_txn_finish(), which must follow: when their entries
 * are cleared or moved, and before their page tables are freed.
 */
void vma_txn_commit(struct vma_txn *txn);
void vma_txn_finish(struct vma_txn *txn);
void vma_txn_abort(struct vma_txn *txn);

/* Exit: take the whole tree away. Needs no memory. */
void vma_tree_destroy(struct mm_struct *mm);

/*
 * The first VMA that ends after @addr, or NULL.
 * Context: the write side, or a fault lock, or (policies with lockless readers) an RCU reader.
 */
struct vm_area_struct *find_vma(struct mm_struct *mm, hva_t addr);
/* The same in a state not published yet. */
struct vm_area_struct *vma_find_in(const struct vma_node *root, hva_t addr);
/* The last VMA that starts before @addr, or NULL. */
struct vm_area_struct *vma_find_before(const struct vma_node *root, hva_t addr);

/* The highest hole of @len bytes in [low, high). Return: its last @len bytes' address, or (hva_t)-1. */
hva_t vma_find_gap(const struct vma_node *root, u64 len, hva_t low, hva_t high);

/* The VMA that holds @addr, or NULL. */
static inline struct vm_area_struct *vma_lookup(struct mm_struct *mm, hva_t addr)
{
	struct vm_area_struct *vma = find_vma(mm, addr);

	return vma && vma->start <= addr ? vma : NULL;
}

static inline int vma_prot(const struct vm_area_struct *vma)
{
	return (int)(vma->flags & VM_PROT_MASK);
}

/* NULL: nothing was ever touched. */
static inline struct anon_vma *vma_anon(const struct vm_area_struct *vma)
{
	return smp_load_acquire(&vma->anon_vma); /* pairs with the exchange in anon_vma_prepare() */
}

/* The page number in its object that an address of the VMA stands for. */
static inline u64 vma_index(const struct vm_area_struct *vma, hva_t addr)
{
	return vma->pgoff + ((addr - vma->start) >> PAGE_SHIFT);
}

static inline struct vma_attr vma_attr_at(const struct vm_area_struct *vma, hva_t addr)
{
	return (struct vma_attr){
		.flags = vma->flags, .pgoff = vma_index(vma, addr), .file = vma->file, .anon_vma = vma_anon(vma)
	};
}

/* May VMAs of these two be one? Pages of one VMA belong to one object. */
static inline bool anon_vma_compatible(const struct anon_vma *a, const struct anon_vma *b)
{
	return !a || !b || a == b;
}

/* Every VMA of a tree in order. The tree stands still. */
#define VMA_TREE_HEIGHT 64

struct vma_iter {
	const struct vma_node *above[VMA_TREE_HEIGHT];
	unsigned int depth;
};

void vma_iter_init(struct vma_iter *it, const struct vma_node *root);
struct vm_area_struct *vma_iter_next(struct vma_iter *it);

static inline bool vma_is_dead(const struct vm_area_struct *vma)
{
	return smp_load_acquire(&vma->dead); /* pairs with the release in vma_txn_commit() */
}

/* --- vma_node.c: the balanced tree, for vma.c ------------------------------- */

struct vma_node *vma_node_join(struct vma_txn *txn, struct vma_node *left, struct vm_area_struct *vma,
			       struct vma_node *right);
struct vma_node *vma_node_join2(struct vma_txn *txn, struct vma_node *left, struct vma_node *right);
/* VMAs that start before @addr to *left, the others to *right. Consumes @root. */
void vma_node_split(struct vma_txn *txn, struct vma_node *root, hva_t addr, struct vma_node **left,
		    struct vma_node **right);
/* Take the first or the last VMA out of *root. */
struct vm_area_struct *vma_node_pop_first(struct vma_txn *txn, struct vma_node **root);
struct vm_area_struct *vma_node_pop_last(struct vma_txn *txn, struct vma_node **root);
/* Give all nodes below @root back; @each is called with their VMAs. */
void vma_node_drop(struct vma_txn *txn, struct vma_node *root,
		   void (*each)(struct vma_txn *txn, struct vm_area_struct *vma));
/* Test: order, balance, augmented fields. Return: VMAs. */
u32 vma_node_check(const struct vma_node *root);

#endif /* MM_VMA_H */
