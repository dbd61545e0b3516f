/* SPDX-License-Identifier: MIT */
/* VMAs: lookup, hole search, and the transaction that changes them. */
#include "mm/vma.h"
#include "lib/alloc.h"
#include "mm/mm_internal.h"

/* --- lookup ------------------------------------------------------------------ */

struct vm_area_struct *vma_find_in(const struct vma_node *node, hva_t addr)
{
	struct vm_area_struct *found = NULL;

	while (node) {
		if (addr < node->vma->end) {
			found = node->vma;
			if (addr >= found->start)
				break;
			node = node->left;
		} else {
			node = node->right;
		}
	}
	return found;
}

struct vm_area_struct *vma_find_before(const struct vma_node *node, hva_t addr)
{
	struct vm_area_struct *found = NULL;

	while (node) {
		if (node->vma->start < addr) {
			found = node->vma;
			node = node->right;
		} else {
			node = node->left;
		}
	}
	return found;
}

struct vm_area_struct *find_vma(struct mm_struct *mm, hva_t addr)
{
	/* Pairs with the release in vma_txn_commit(); readers hold a lock or RCU, as the policy says. */
	return vma_find_in(smp_load_acquire(&mm->vmas.root), addr);
}

static void push_left_spine(struct vma_iter *it, const struct vma_node *node)
{
	for (; node; node = node->left) {
		it->above[it->depth++] = node;
		__builtin_prefetch(node->right);
		__builtin_prefetch(&node->vma->file);
	}
}

void vma_iter_init(struct vma_iter *it, const struct vma_node *root)
{
	it->depth = 0;
	push_left_spine(it, root);
}

struct vm_area_struct *vma_iter_next(struct vma_iter *it)
{
	const struct vma_node *node;

	if (!it->depth)
		return NULL;
	node = it->above[--it->depth];
	push_left_spine(it, node->right);
	return node->vma;
}

/* The highest hole between @lo and @hi, which bound what the subtree may use. */
static hva_t gap_in(const struct vma_node *node, u64 len, hva_t lo, hva_t hi)
{
	hva_t found;

	if (hi < lo || hi - lo < len)
		return (hva_t)-1;
	if (!node)
		return hi - len;
	if (node->max_gap < len && (hi < node->max_end || hi - node->max_end < len) &&
	    (node->min_start < lo || node->min_start - lo < len))
		return (hva_t)-1;
	found = gap_in(node->right, len, max(lo, node->vma->end), hi);
	if (found != (hva_t)-1)
		return found;
	return gap_in(node->left, len, lo, min(hi, node->vma->start));
}

hva_t vma_find_gap(const struct vma_node *root, u64 len, hva_t low, hva_t high)
{
	return gap_in(root, len, low, high);
}

/* --- transaction --------------------------------------------------------------- */

void vma_txn_begin(struct vma_txn *txn, struct mm_struct *mm)
{
	*txn = (struct vma_txn){ .mm = mm, .root = mm->vmas.root, .count = mm->vmas.count };
}

static struct vm_area_struct *vma_new(struct vma_txn *txn, hva_t start, hva_t end, struct vma_attr attr)
{
	struct vm_area_struct *vma = txn->err ? NULL : mem_alloc(sizeof(*vma));

	if (!vma) {
		txn->err = -ENOMEM;
		return NULL;
	}
	vma->start = start;
	vma->end = end;
	vma->flags = attr.flags;
	vma->pgoff = attr.pgoff;
	vma->file = attr.file;
	vma->anon_vma = attr.anon_vma;
	vma->rmap.first = attr.pgoff;
	vma->rmap.last = attr.pgoff + ((end - start) >> PAGE_SHIFT) - 1;
	vma->mm = txn->mm;
	vma->dead = 0;
	vma->fresh = true;
	vma->chain = txn->added;
	txn->added = vma;
	txn->count++;
	return vma;
}

/* Not in the new state. A fresh one stays on ->added, marked dead. */
static void vma_drop(struct vma_txn *txn, struct vm_area_struct *vma)
{
	txn->count--;
	if (vma->fresh) {
		vma->dead = 1;
		return;
	}
	vma->chain = txn->removed;
	txn->removed = vma;
}

static struct vm_area_struct *vma_clip(struct vma_txn *txn, const struct vm_area_struct *vma, hva_t start, hva_t end)
{
	return vma_new(txn, start, end, vma_attr_at(vma, start));
}

/* Make a hole of [start, end): what is left of it to *left, what is right to *right. */
static void carve(struct vma_txn *txn, hva_t start, hva_t end, struct vma_node **left, struct vma_node **right)
{
	struct vma_node *rest, *middle;
	struct vm_area_struct *vma;

	vma_node_split(txn, txn->root, start, left, &rest);
	vma_node_split(txn, rest, end, &middle, right);
	if (txn->err)
		return;
	if (*left && (*left)->max_end > start) {
		vma = vma_node_pop_last(txn, left);
		*left = vma_node_join(txn, *left, vma_clip(txn, vma, vma->start, start), NULL);
		if (vma->end > end)
			*right = vma_node_join(txn, NULL, vma_clip(txn, vma, end, vma->end), *right);
		vma_drop(txn, vma);
	}
	if (middle && middle->max_end > end) {
		vma = vma_find_before(middle, end);
		*right = vma_node_join(txn, NULL, vma_clip(txn, vma, end, vma->end), *right);
	}
	vma_node_drop(txn, middle, vma_drop);
}

/* May @left and @right, the first ending where the second begins, be one mapping? */
static bool attr_continues(struct vma_attr left, struct vma_attr right)
{
	return left.flags == right.flags && left.pgoff == right.pgoff && left.file == right.file &&
	       anon_vma_compatible(left.anon_vma, right.anon_vma);
}

int vma_txn_replace(struct vma_txn *txn, hva_t start, hva_t end, const struct vma_attr *want)
{
	struct vma_node *left = NULL, *right = NULL;
	struct vm_area_struct *vma;
	struct vma_attr attr, here;

	ASSERT(start < end && end <= TAIN_TASK_SIZE);
	if (txn->err)
		return txn->err;
	carve(txn, start, end, &left, &right);
	if (txn->err)
		return txn->err;
	if (!want) {
		txn->root = vma_node_join2(txn, left, right);
		return txn->err;
	}
	attr = *want;
	vma = left && left->max_end == start ? vma_find_before(left, start) : NULL;
	if (vma && attr_continues(vma_attr_at(vma, start), attr)) {
		vma_node_pop_last(txn, &left);
		start = vma->start;
		attr.pgoff = vma->pgoff;
		attr.anon_vma = attr.anon_vma ? attr.anon_vma : vma->anon_vma;
		vma_drop(txn, vma);
	}
	vma = !txn->err && right && right->min_start == end ? vma_find_in(right, end) : NULL;
	here = attr;
	here.pgoff += (end - start) >> PAGE_SHIFT;
	if (vma && attr_continues(here, vma_attr_at(vma, end))) {
		vma_node_pop_first(txn, &right);
		end = vma->end;
		attr.anon_vma = attr.anon_vma ? attr.anon_vma : vma->anon_vma;
		vma_drop(txn, vma);
	}
	vma = vma_new(txn, start, end, attr);
	txn->root = vma_node_join(txn, left, vma, right);
	return txn->err;
}

int vma_txn_check(const struct vma_txn *txn)
{
	if (txn->err)
		return txn->err;
	return txn->count > txn->mm->max_map_count && txn->count > txn->mm->vmas.count ? -ENOMEM : 0;
}

static void free_nodes(struct vma_node *node)
{
	while (node) {
		struct vma_node *next = node->chain;

		mem_free(node);
		node = next;
	}
}

static void free_vmas(struct vm_area_struct *vma)
{
	while (vma) {
		struct vm_area_struct *next = vma->chain;

		mem_free(vma);
		vma = next;
	}
}

static void free_nodes_rcu(struct rcu_head *head)
{
	free_nodes(container_of(head, struct vma_node, rcu));
}

static void free_vmas_rcu(struct rcu_head *head)
{
	free_vmas(container_of(head, struct vm_area_struct, rcu));
}

/* What was made and not used goes; the rest is no longer ours, and its pages find it. */
static void settle(struct vma_txn *txn)
{
	struct vma_node *node = txn->fresh;
	struct vm_area_struct *vma = txn->added;

	while (node) {
		struct vma_node *next = node->chain;

		node->fresh = false;
		if (node->pooled)
			mem_free(node);
		node = next;
	}
	while (vma) {
		struct vm_area_struct *next = vma->chain;

		vma->fresh = false;
		if (vma->dead) {
			mem_free(vma);
		} else {
			txn->mm->vmas.nr_files += !!vma->file;
			vma_rmap_link(vma);
		}
		vma = next;
	}
}

/* Nodes and VMAs that were published, linked by ->chain. */
static void retire(struct mm_struct *mm, struct vma_node *nodes, struct vm_area_struct *vmas)
{
	if (!mm_defers(mm)) {
		free_nodes(nodes);
		free_vmas(vmas);
		return;
	}
	if (nodes)
		call_rcu(&nodes->rcu, free_nodes_rcu);
	if (vmas)
		call_rcu(&vmas->rcu, free_vmas_rcu);
}

void vma_txn_commit(struct vma_txn *txn)
{
	struct mm_struct *mm = txn->mm;

	ASSERT(!txn->err);
	settle(txn);
	/* Pairs with the acquire in vma_is_dead(): a fault that installs after we clear its entry has seen this. */
	for (struct vm_area_struct *vma = txn->removed; vma; vma = vma->chain) {
		mm->vmas.nr_files -= !!vma->file;
		smp_store_release(&vma->dead, 1);
	}
	race_point("vma_commit:before_publish");
	rcu_assign_pointer(mm->vmas.root, txn->root);
	mm->vmas.count = txn->count;
}

void vma_txn_finish(struct vma_txn *txn)
{
	race_point("vma_finish:before_unlink");
	for (struct vm_area_struct *vma = txn->removed; vma; vma = vma->chain)
		vma_rmap_unlink(vma);
	retire(txn->mm, txn->stale, txn->removed);
}

void vma_txn_abort(struct vma_txn *txn)
{
	free_nodes(txn->fresh);
	free_vmas(txn->added);
}

static void collect(struct vma_node *node, struct vma_node **nodes, struct vm_area_struct **vmas)
{
	if (!node)
		return;
	collect(node->left, nodes, vmas);
	collect(node->right, nodes, vmas);
	smp_store_release(&node->vma->dead, 1); /* pairs with the acquire in vma_is_dead() */
	node->vma->chain = *vmas;
	*vmas = node->vma;
	node->chain = *nodes;
	*nodes = node;
}

void vma_tree_destroy(struct mm_struct *mm)
{
	struct vma_node *root = mm->vmas.root, *nodes = NULL;
	struct vm_area_struct *vmas = NULL;

	collect(root, &nodes, &vmas);
	rcu_assign_pointer(mm->vmas.root, NULL);
	mm->vmas.count = 0;
	mm->vmas.nr_files = 0;
	for (struct vm_area_struct *vma = vmas; vma; vma = vma->chain)
		vma_rmap_unlink(vma);
	retire(mm, nodes, vmas);
}
