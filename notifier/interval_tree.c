/* SPDX-License-Identifier: MIT */
/*
 * The tree of interval notifiers: an AVL tree with the largest end of each subtree.
 * Source: Adelson-Velsky, Landis (1962); the sums are those of an interval tree.
 */
#include "notifier/interval_tree.h"

typedef struct mmu_interval_notifier node_t;

static s32 height(const node_t *n)
{
	return n ? n->height : 0;
}

static bool before(const node_t *a, const node_t *b)
{
	return a->start != b->start ? a->start < b->start : (uintptr_t)a < (uintptr_t)b;
}

static void update(node_t *n)
{
	n->height = 1 + max(height(n->left), height(n->right));
	n->max_last = n->last;
	if (n->left)
		n->max_last = max(n->max_last, n->left->max_last);
	if (n->right)
		n->max_last = max(n->max_last, n->right->max_last);
}

static node_t *rotate_right(node_t *n)
{
	node_t *top = n->left;

	n->left = top->right;
	top->right = n;
	update(n);
	update(top);
	return top;
}

static node_t *rotate_left(node_t *n)
{
	node_t *top = n->right;

	n->right = top->left;
	top->left = n;
	update(n);
	update(top);
	return top;
}

/* One side is at most two higher than the other. Return: what stands in its place. */
static node_t *balance(node_t *n)
{
	s32 lean = height(n->left) - height(n->right);

	if (lean > 1) {
		if (height(n->left->left) < height(n->left->right))
			n->left = rotate_left(n->left);
		return rotate_right(n);
	}
	if (lean < -1) {
		if (height(n->right->right) < height(n->right->left))
			n->right = rotate_right(n->right);
		return rotate_left(n);
	}
	update(n);
	return n;
}

/* The height is below 1.45 log2 of the nodes: recursion stays shallow. */
static node_t *insert(node_t *n, node_t *node)
{
	if (!n)
		return node;
	if (before(node, n))
		n->left = insert(n->left, node);
	else
		n->right = insert(n->right, node);
	return balance(n);
}

static node_t *remove_first(node_t *n, node_t **first)
{
	if (!n->left) {
		*first = n;
		return n->right;
	}
	n->left = remove_first(n->left, first);
	return balance(n);
}

static node_t *remove_node(node_t *n, node_t *node)
{
	node_t *next;

	if (n != node) {
		if (before(node, n))
			n->left = remove_node(n->left, node);
		else
			n->right = remove_node(n->right, node);
		return balance(n);
	}
	if (!n->left || !n->right)
		return n->left ?: n->right;
	n->right = remove_first(n->right, &next);
	next->left = n->left;
	next->right = n->right;
	return balance(next);
}

void itree_insert(node_t **root, node_t *node)
{
	node->left = NULL;
	node->right = NULL;
	update(node);
	*root = insert(*root, node);
}

void itree_remove(node_t **root, node_t *node)
{
	*root = remove_node(*root, node);
	node->left = NULL;
	node->right = NULL;
	node->height = 0;
}

static node_t *find(node_t *n, const node_t *after, hva_t start, hva_t last)
{
	while (n && n->max_last >= start) {
		if (!after || before(after, n)) {
			node_t *found = find(n->left, after, start, last);

			if (found)
				return found;
			if (n->start > last)
				return NULL; /* and so do all that follow */
			if (n->last >= start)
				return n;
		}
		n = n->right;
	}
	return NULL;
}

node_t *itree_first(node_t *root, hva_t start, hva_t last)
{
	return find(root, NULL, start, last);
}

node_t *itree_next(node_t *root, const node_t *node, hva_t start, hva_t last)
{
	return find(root, node, start, last);
}

s64 itree_check(const node_t *n)
{
	s64 left, right;
	hva_t end;

	if (!n)
		return 0;
	left = itree_check(n->left);
	right = itree_check(n->right);
	end = n->last;
	if (n->left)
		end = max(end, n->left->max_last);
	if (n->right)
		end = max(end, n->right->max_last);
	if (left < 0 || right < 0 || end != n->max_last || (n->left && !before(n->left, n)) ||
	    (n->right && !before(n, n->right)) || n->height != 1 + max(height(n->left), height(n->right)) ||
	    height(n->left) - height(n->right) > 1 || height(n->right) - height(n->left) > 1)
		return -1;
	return left + right + 1;
}
