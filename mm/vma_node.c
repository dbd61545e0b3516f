/* SPDX-License-Identifier: MIT */
/*
 * A persistent height-balanced tree of VMAs built from one operation, join:
 * left + vma + right, for any two trees with left before right (Adams 1993;
 * Blelloch, Ferizovic, Sun, "Just Join for Parallel Ordered Sets", 2016).
 *
 * Every function consumes the nodes that it is given: a node taken apart goes to
 * the pool if this transaction made it, else to the list of stale ones. When memory
 * is short node_make() sets txn->err; trees are then incomplete but sane, nothing
 * is published, and every node is still on one of the transaction's lists.
 */
#include "lib/alloc.h"
#include "mm/vma.h"

static u32 height(const struct vma_node *node)
{
	return node ? node->height : 0;
}

static void node_put(struct vma_txn *txn, struct vma_node *node)
{
	if (!node->fresh) {
		node->chain = txn->stale;
		txn->stale = node;
		return;
	}
	ASSERT(!node->pooled);
	node->pooled = true;
	node->left = txn->pool;
	txn->pool = node;
}

static struct vma_node *node_get(struct vma_txn *txn)
{
	struct vma_node *node = txn->pool;

	if (node) {
		txn->pool = node->left;
		node->pooled = false;
		return node;
	}
	node = mem_alloc(sizeof(*node));
	if (!node) {
		txn->err = -ENOMEM;
		return NULL;
	}
	node->fresh = true;
	node->pooled = false;
	node->chain = txn->fresh;
	txn->fresh = node;
	return node;
}

/* left + vma + right, whose heights differ by at most two. */
static struct vma_node *node_make(struct vma_txn *txn, struct vma_node *left, struct vm_area_struct *vma,
				  struct vma_node *right)
{
	struct vma_node *node = node_get(txn);

	if (!node)
		return NULL;
	node->left = left;
	node->right = right;
	node->vma = vma;
	node->height = max(height(left), height(right)) + 1;
	node->min_start = left ? left->min_start : vma->start;
	node->max_end = right ? right->max_end : vma->end;
	node->max_gap = 0;
	if (left)
		node->max_gap = max(left->max_gap, vma->start - left->max_end);
	if (right)
		node->max_gap = max(node->max_gap, max(right->max_gap, right->min_start - vma->end));
	return node;
}

struct exposed {
	struct vma_node *left, *right;
	struct vm_area_struct *vma;
};

static struct exposed expose(struct vma_txn *txn, struct vma_node *node)
{
	struct exposed e = { node->left, node->right, node->vma };

	node_put(txn, node);
	return e;
}

static struct vma_node *rotate_left(struct vma_txn *txn, struct vma_node *node)
{
	struct exposed top = expose(txn, node);
	struct exposed right;

	if (txn->err)
		return NULL;
	right = expose(txn, top.right);
	return node_make(txn, node_make(txn, top.left, top.vma, right.left), right.vma, right.right);
}

static struct vma_node *rotate_right(struct vma_txn *txn, struct vma_node *node)
{
	struct exposed top = expose(txn, node);
	struct exposed left;

	if (txn->err)
		return NULL;
	left = expose(txn, top.left);
	return node_make(txn, left.left, left.vma, node_make(txn, left.right, top.vma, top.right));
}

/* One step of join down the right spine of a left tree that is too high. */
static struct vma_node *join_right(struct vma_txn *txn, struct vma_node *left, struct vm_area_struct *vma,
				   struct vma_node *right)
{
	struct exposed l = expose(txn, left);
	struct vma_node *node;

	if (height(l.right) <= height(right) + 1) {
		node = node_make(txn, l.right, vma, right);
		if (txn->err)
			return NULL;
		if (height(node) <= height(l.left) + 1)
			return node_make(txn, l.left, l.vma, node);
		node = node_make(txn, l.left, l.vma, rotate_right(txn, node));
		return txn->err ? NULL : rotate_left(txn, node);
	}
	node = join_right(txn, l.right, vma, right);
	if (txn->err)
		return NULL;
	if (height(node) <= height(l.left) + 1)
		return node_make(txn, l.left, l.vma, node);
	node = node_make(txn, l.left, l.vma, node);
	return txn->err ? NULL : rotate_left(txn, node);
}

static struct vma_node *join_left(struct vma_txn *txn, struct vma_node *left, struct vm_area_struct *vma,
				  struct vma_node *right)
{
	struct exposed r = expose(txn, right);
	struct vma_node *node;

	if (height(r.left) <= height(left) + 1) {
		node = node_make(txn, left, vma, r.left);
		if (txn->err)
			return NULL;
		if (height(node) <= height(r.right) + 1)
			return node_make(txn, node, r.vma, r.right);
		node = node_make(txn, rotate_left(txn, node), r.vma, r.right);
		return txn->err ? NULL : rotate_right(txn, node);
	}
	node = join_left(txn, left, vma, r.left);
	if (txn->err)
		return NULL;
	if (height(node) <= height(r.right) + 1)
		return node_make(txn, node, r.vma, r.right);
	node = node_make(txn, node, r.vma, r.right);
	return txn->err ? NULL : rotate_right(txn, node);
}

struct vma_node *vma_node_join(struct vma_txn *txn, struct vma_node *left, struct vm_area_struct *vma,
			       struct vma_node *right)
{
	if (txn->err)
		return NULL;
	if (height(left) > height(right) + 1)
		return join_right(txn, left, vma, right);
	if (height(right) > height(left) + 1)
		return join_left(txn, left, vma, right);
	return node_make(txn, left, vma, right);
}

struct vm_area_struct *vma_node_pop_last(struct vma_txn *txn, struct vma_node **root)
{
	struct exposed e = expose(txn, *root);
	struct vm_area_struct *vma;

	if (!e.right) {
		*root = e.left;
		return e.vma;
	}
	vma = vma_node_pop_last(txn, &e.right);
	*root = vma_node_join(txn, e.left, e.vma, e.right);
	return vma;
}

struct vm_area_struct *vma_node_pop_first(struct vma_txn *txn, struct vma_node **root)
{
	struct exposed e = expose(txn, *root);
	struct vm_area_struct *vma;

	if (!e.left) {
		*root = e.right;
		return e.vma;
	}
	vma = vma_node_pop_first(txn, &e.left);
	*root = vma_node_join(txn, e.left, e.vma, e.right);
	return vma;
}

struct vma_node *vma_node_join2(struct vma_txn *txn, struct vma_node *left, struct vma_node *right)
{
	struct vm_area_struct *vma;

	if (!left || !right || txn->err)
		return left ? left : right;
	vma = vma_node_pop_last(txn, &left);
	return vma_node_join(txn, left, vma, right);
}

void vma_node_split(struct vma_txn *txn, struct vma_node *root, hva_t addr, struct vma_node **left,
		    struct vma_node **right)
{
	struct vma_node *middle;
	struct exposed e;

	if (!root || txn->err) {
		*left = NULL;
		*right = NULL;
		return;
	}
	e = expose(txn, root);
	if (addr <= e.vma->start) {
		vma_node_split(txn, e.left, addr, left, &middle);
		*right = vma_node_join(txn, middle, e.vma, e.right);
	} else {
		vma_node_split(txn, e.right, addr, &middle, right);
		*left = vma_node_join(txn, e.left, e.vma, middle);
	}
}

void vma_node_drop(struct vma_txn *txn, struct vma_node *root,
		   void (*each)(struct vma_txn *txn, struct vm_area_struct *vma))
{
	struct exposed e;

	if (!root)
		return;
	e = expose(txn, root);
	vma_node_drop(txn, e.left, each);
	each(txn, e.vma);
	vma_node_drop(txn, e.right, each);
}

u32 vma_node_check(const struct vma_node *root)
{
	const struct vma_node *l, *r;
	u32 count;
	u64 gap = 0;

	if (!root)
		return 0;
	l = root->left;
	r = root->right;
	BUG_ON(root->pooled || root->fresh);
	BUG_ON(root->vma->start >= root->vma->end);
	count = vma_node_check(l) + 1 + vma_node_check(r);
	BUG_ON(root->height != max(height(l), height(r)) + 1);
	BUG_ON(height(l) > height(r) + 1 || height(r) > height(l) + 1);
	BUG_ON(root->min_start != (l ? l->min_start : root->vma->start));
	BUG_ON(root->max_end != (r ? r->max_end : root->vma->end));
	if (l) {
		BUG_ON(l->max_end > root->vma->start); /* invariant MM5: VMAs do not overlap */
		gap = max(l->max_gap, root->vma->start - l->max_end);
	}
	if (r) {
		BUG_ON(r->min_start < root->vma->end);
		gap = max(gap, max(r->max_gap, r->min_start - root->vma->end));
	}
	BUG_ON(root->max_gap != gap);
	return count;
}
