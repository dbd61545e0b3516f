/* SPDX-License-Identifier: MIT */
/*
 * Ranges by their first page number, with the highest last one of each subtree: a
 * treap (Seidel, Aragon 1989), whose priorities are hashes of the nodes' addresses.
 * Ranges may be equal; the address of the node decides then.
 */
#include "lib/rng.h"
#include "mm/rmap.h"

static bool before(const struct rmap_node *a, const struct rmap_node *b)
{
	return a->first != b->first ? a->first < b->first : a < b;
}

static void update(struct rmap_node *node)
{
	u64 last = node->last;

	if (node->left)
		last = max(last, node->left->max_last);
	if (node->right)
		last = max(last, node->right->max_last);
	node->max_last = last;
}

static void split(struct rmap_node *root, const struct rmap_node *at, struct rmap_node **left, struct rmap_node **right)
{
	if (!root) {
		*left = NULL;
		*right = NULL;
	} else if (before(root, at)) {
		*left = root;
		split(root->right, at, &root->right, right);
		update(root);
	} else {
		*right = root;
		split(root->left, at, left, &root->left);
		update(root);
	}
}

static struct rmap_node *join(struct rmap_node *left, struct rmap_node *right)
{
	if (!left || !right)
		return left ? left : right;
	if (left->priority > right->priority) {
		left->right = join(left->right, right);
		update(left);
		return left;
	}
	right->left = join(left, right->left);
	update(right);
	return right;
}

void rmap_tree_insert(struct rmap_node **root, struct rmap_node *node)
{
	node->priority = rng_mix((u64)(uintptr_t)node, node->first);
	while (*root && (*root)->priority >= node->priority) {
		(*root)->max_last = max((*root)->max_last, node->last);
		root = before(node, *root) ? &(*root)->left : &(*root)->right;
	}
	split(*root, node, &node->left, &node->right);
	update(node);
	*root = node;
}

static struct rmap_node *remove_below(struct rmap_node *root, struct rmap_node *node)
{
	BUG_ON(!root); /* not in this tree */
	if (root == node)
		return join(root->left, root->right);
	if (before(node, root))
		root->left = remove_below(root->left, node);
	else
		root->right = remove_below(root->right, node);
	update(root);
	return root;
}

void rmap_tree_remove(struct rmap_node **root, struct rmap_node *node)
{
	*root = remove_below(*root, node);
}

struct rmap_node *rmap_tree_next(struct rmap_node *root, struct rmap_node *prev, u64 first, u64 last)
{
	struct rmap_node *found;

	if (!root || root->max_last < first)
		return NULL;
	if (!prev || before(prev, root)) {
		found = rmap_tree_next(root->left, prev, first, last);
		if (found)
			return found;
		if (root->first > last)
			return NULL;
		if (root->last >= first)
			return root;
	}
	return root->first > last ? NULL : rmap_tree_next(root->right, prev, first, last);
}

u64 rmap_tree_check(const struct rmap_node *root)
{
	const struct rmap_node *l, *r;
	u64 last;

	if (!root)
		return 0;
	l = root->left;
	r = root->right;
	last = max(root->last, max(l ? l->max_last : 0, r ? r->max_last : 0));
	BUG_ON(root->first > root->last || root->max_last != last);
	BUG_ON(l && (!before(l, root) || l->priority > root->priority));
	BUG_ON(r && (!before(root, r) || r->priority > root->priority));
	return rmap_tree_check(l) + 1 + rmap_tree_check(r);
}
