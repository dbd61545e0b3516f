/* SPDX-License-Identifier: MIT */
/*
 * The run-time lock checker. Each class (and subclass) is a node of one graph; an
 * edge A -> B says that somebody waited for B while holding A. A new edge that
 * closes a cycle is a deadlock that some schedule reaches, whether or not this run
 * would have. Edges are never removed: a run learns the order of the whole program.
 */
#include "lib/lock.h"

#if CHECKING
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "lib/rcu.h"

#define NODES 256
#define HELD_MAX 64
#define REPORT_BYTES 2048

struct node {
	const struct lock_class *class;
	u32 subclass;
	bool recursion_reported;
};

struct edge_sites {
	const struct lock_site *outer, *inner; /* where both were taken when the edge was learnt */
};

/* graph_lock guards all of it; edges are also read without. Node 0 is nobody. */
static struct lock_core graph_lock;
static struct node nodes[NODES];
static u32 nr_nodes = 1;
static u64 edges[NODES][NODES / 64];
static struct edge_sites edge_sites[NODES][NODES];

struct held {
	const struct lock_dep *dep; /* NULL: `refs` locks of the class, taken under another that serialises them */
	const struct lock_class *class;
	const struct lock_site *site;
	u32 node;
	u32 refs;
	enum lock_mode mode;
	enum lock_kind kind;
};

static __thread struct held held[HELD_MAX];
static __thread unsigned int nr_held;
static __thread int non_block;

static void (*report_fn)(const char *text);

void lockdep_set_report(void (*fn)(const char *text))
{
	__atomic_store_n(&report_fn, fn, __ATOMIC_RELEASE);
}

unsigned int lock_check_depth(void)
{
	return nr_held;
}

static void report(const struct lock_site *site, const char *text)
{
	void (*fn)(const char *) = smp_load_acquire(&report_fn);

	if (!fn)
		bug_at(site->file, site->line, "%s", text);
	fn(text);
}

void lock_check_report(const struct lock_site *site, const char *fmt, ...)
{
	char text[REPORT_BYTES];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	report(site, text);
}

/* --- text ------------------------------------------------------------------- */

struct text {
	char buf[REPORT_BYTES];
	size_t used;
};

static void format_printf(2, 3) text_add(struct text *text, const char *fmt, ...)
{
	size_t space = sizeof(text->buf) - text->used;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(text->buf + text->used, space, fmt, ap);
	va_end(ap);
	if (n > 0)
		text->used += min((size_t)n, space - 1);
}

static void text_add_node(struct text *text, u32 node)
{
	text_add(text, "%s", nodes[node].class->name);
	if (nodes[node].subclass)
		text_add(text, "/%u", nodes[node].subclass);
}

static void text_add_held(struct text *text)
{
	for (unsigned int i = 0; i < nr_held; i++) {
		text_add(text, "%s", i ? ", " : "");
		text_add_node(text, held[i].node);
		text_add(text, " (%s:%d)", held[i].site->file, held[i].site->line);
	}
}

/* --- graph ------------------------------------------------------------------ */

static bool edge_known(u32 from, u32 to)
{
	return READ_ONCE(edges[from][to / 64]) & BIT(to % 64);
}

static u32 node_of(struct lock_class *class, unsigned int subclass)
{
	u32 id;

	if (!class)
		BUG("lock without a class: was it initialised?");
	if (subclass >= LOCK_SUBCLASSES)
		BUG("lock subclass %u of %s is too large", subclass, class->name);
	id = smp_load_acquire(&class->id[subclass]);
	if (id)
		return id;
	lock_core_lock(&graph_lock, LOCK_SPIN_LONG);
	id = class->id[subclass];
	if (!id) {
		if (nr_nodes == NODES)
			BUG("more than %d lock classes", NODES - 1);
		id = nr_nodes++;
		nodes[id].class = class;
		nodes[id].subclass = subclass;
		smp_store_release(&class->id[subclass], id);
	}
	lock_core_unlock(&graph_lock);
	return id;
}

/* Breadth first, so that the shortest cycle is reported. Return: parent[] leads from @to back to @from. */
static bool find_path(u32 from, u32 to, u32 *parent)
{
	u32 queue[NODES], first = 0, last = 0;

	memset(parent, 0, NODES * sizeof(*parent));
	queue[last++] = from;
	parent[from] = from;
	while (first < last) {
		u32 node = queue[first++];

		if (node == to)
			return true;
		for (u32 next = 1; next < nr_nodes; next++) {
			if (parent[next] || !edge_known(node, next))
				continue;
			parent[next] = node;
			queue[last++] = next;
		}
	}
	return false;
}

static void text_add_path(struct text *text, u32 from, u32 to, const u32 *parent)
{
	u32 path[NODES], n = 0;

	for (u32 node = to; node != from; node = parent[node])
		path[n++] = node;
	for (u32 node = from; n--; node = path[n]) {
		const struct edge_sites *sites = &edge_sites[node][path[n]];

		text_add(text, "\n  known:  ");
		text_add_node(text, path[n]);
		text_add(text, " taken at %s:%d while ", sites->inner->file, sites->inner->line);
		text_add_node(text, node);
		text_add(text, " is held since %s:%d", sites->outer->file, sites->outer->line);
	}
}

static void learn_edge(const struct held *outer, u32 inner, const struct lock_site *site)
{
	struct text text = { .used = 0 };
	u32 parent[NODES];
	bool cycle;

	lock_core_lock(&graph_lock, LOCK_SPIN_LONG);
	if (edge_known(outer->node, inner)) {
		lock_core_unlock(&graph_lock);
		return;
	}
	cycle = find_path(inner, outer->node, parent);
	if (cycle) {
		text_add(&text, "lock order inversion: ");
		text_add_node(&text, outer->node);
		text_add(&text, ", ");
		text_add_node(&text, inner);
		text_add(&text, "\n  now:    ");
		text_add_node(&text, inner);
		text_add(&text, " taken at %s:%d while ", site->file, site->line);
		text_add_node(&text, outer->node);
		text_add(&text, " is held since %s:%d", outer->site->file, outer->site->line);
		text_add_path(&text, inner, outer->node, parent);
	}
	edge_sites[outer->node][inner] = (struct edge_sites){ outer->site, site };
	WRITE_ONCE(edges[outer->node][inner / 64], edges[outer->node][inner / 64] | BIT(inner % 64));
	lock_core_unlock(&graph_lock);
	if (cycle)
		report(site, text.buf);
}

/* --- what this thread holds --------------------------------------------------- */

static void push(const struct lock_dep *dep, const struct lock_dep *info, u32 node, enum lock_mode mode,
		 const struct lock_site *site)
{
	if (nr_held == HELD_MAX)
		bug_at(site->file, site->line, "more than %d locks held", HELD_MAX);
	held[nr_held++] = (struct held){
		.dep = dep,
		.class = info->class,
		.site = site,
		.node = node,
		.refs = 1,
		.mode = mode,
		.kind = info->kind,
	};
}

static struct held *find_held(const struct lock_dep *dep)
{
	for (unsigned int i = nr_held; i--;) {
		if (held[i].dep == dep)
			return &held[i];
	}
	for (unsigned int i = nr_held; i--;) {
		if (!held[i].dep && held[i].class == dep->class)
			return &held[i];
	}
	return NULL;
}

static void check_recursion(const struct held *outer, const struct lock_dep *dep, enum lock_mode mode,
			    const struct lock_site *site)
{
	struct node *node = &nodes[outer->node];

	if (dep->kind == LOCK_PSEUDO && mode == LOCK_READ && outer->mode == LOCK_READ)
		return;
	if (__atomic_exchange_n(&node->recursion_reported, true, __ATOMIC_RELAXED))
		return;
	lock_check_report(site, "lock recursion: %s%s taken at %s:%d while %s is held since %s:%d", node->class->name,
			  mode == LOCK_READ ? " (read)" : "", site->file, site->line,
			  outer->dep == dep ? "the same lock" : "another of its class", outer->site->file,
			  outer->site->line);
}

static void check_order(const struct lock_dep *dep, u32 node, enum lock_mode mode, bool nest,
			const struct lock_site *site)
{
	/* Entering a section that a pseudo-lock stands for waits for nobody: only what is taken inside is ordered. */
	bool waits = dep->kind != LOCK_PSEUDO || mode == LOCK_WRITE;

	for (unsigned int i = 0; i < nr_held; i++) {
		if (held[i].node == node) {
			if (!nest)
				check_recursion(&held[i], dep, mode, site);
		} else if (waits && !edge_known(held[i].node, node)) {
			learn_edge(&held[i], node, site);
		}
	}
}

void lock_check_acquire(struct lock_dep *dep, unsigned int subclass, enum lock_mode mode, const struct lock_site *site)
{
	u32 node = node_of(dep->class, subclass);

	check_order(dep, node, mode, false, site);
	push(dep, dep, node, mode, site);
}

void lock_check_acquire_nest(struct lock_dep *dep, struct lock_dep *nest, enum lock_mode mode,
			     const struct lock_site *site)
{
	u32 node = node_of(dep->class, 0);

	lock_check_assert_held(nest, true, "the lock that serialises a nest", site);
	for (unsigned int i = nr_held; i--;) {
		if (!held[i].dep && held[i].node == node) {
			held[i].refs++;
			return;
		}
	}
	check_order(dep, node, mode, true, site);
	push(NULL, dep, node, mode, site);
}

void lock_check_acquired(struct lock_dep *dep, enum lock_mode mode, const struct lock_site *site)
{
	push(dep, dep, node_of(dep->class, 0), mode, site);
}

void lock_check_release(struct lock_dep *dep, enum lock_mode mode, const struct lock_site *site)
{
	struct held *h = find_held(dep);

	if (!h) {
		lock_check_report(site, "%s released at %s:%d is not held by this thread",
				  dep->class ? dep->class->name : "a lock", site->file, site->line);
		return;
	}
	if (h->mode != mode)
		lock_check_report(site, "%s released at %s:%d for %s is held for %s since %s:%d", dep->class->name,
				  site->file, site->line, mode == LOCK_READ ? "read" : "write",
				  mode == LOCK_READ ? "write" : "read", h->site->file, h->site->line);
	if (--h->refs)
		return;
	memmove(h, h + 1, (size_t)(&held[nr_held] - (h + 1)) * sizeof(*h));
	nr_held--;
}

void lock_check_downgrade(struct lock_dep *dep, const struct lock_site *site)
{
	struct held *h = find_held(dep);

	if (!h || h->mode != LOCK_WRITE) {
		lock_check_report(site, "%s downgraded at %s:%d is not held for write", dep->class->name, site->file,
				  site->line);
		return;
	}
	h->mode = LOCK_READ;
}

bool lock_check_held(const struct lock_dep *dep, bool write)
{
	const struct held *h = find_held(dep);

	return h && (!write || h->mode == LOCK_WRITE);
}

void lock_check_assert_held(const struct lock_dep *dep, bool write, const char *what, const struct lock_site *site)
{
	if (!lock_check_held(dep, write))
		lock_check_report(site, "%s must be held%s at %s:%d", what, write ? " for write" : "", site->file,
				  site->line);
}

void lock_check_assert_none_held(const struct lock_site *site)
{
	struct text text = { .used = 0 };

	if (!nr_held)
		return;
	text_add(&text, "locks held at %s:%d where none may be: ", site->file, site->line);
	text_add_held(&text);
	report(site, text.buf);
}

void lock_check_might_sleep(const struct lock_site *site)
{
	if (non_block)
		lock_check_report(site, "sleeping call at %s:%d inside a section that may not block", site->file,
				  site->line);
	if (rcu_read_lock_held())
		lock_check_report(site, "sleeping call at %s:%d inside an RCU reader", site->file, site->line);
	for (unsigned int i = 0; i < nr_held; i++) {
		if (held[i].kind != LOCK_SPINNING)
			continue;
		lock_check_report(site, "sleeping call at %s:%d while %s is held since %s:%d", site->file, site->line,
				  held[i].class->name, held[i].site->file, held[i].site->line);
		return;
	}
}

void lock_check_non_block(int delta, const struct lock_site *site)
{
	non_block += delta;
	if (non_block < 0)
		bug_at(site->file, site->line, "non_block_end() without a start");
}
#endif /* CHECKING */
