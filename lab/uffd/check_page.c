/* SPDX-License-Identifier: MIT */
/* What pages must hold, and who looks: see lab/uffd/check_internal.h. */
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "lab/uffd/check_internal.h"
#include "lib/time.h"

#define HISTORY_SHOWN 6

const char *const uffd_check_ops[UCHECK_OP_NR + 1] = { "remove", "unmap", "remap", "fork" };
const char *const uffd_check_kinds[UCHECK_KIND_NR] = { "content", "stuck", "dead", "lost" };

char *check_address(struct uffd_check *c, u64 page)
{
	const struct region *r = &c->region[page >= c->region[1].first];

	return r->memory + (page - r->first) * PAGE_SIZE;
}

void set_rule(struct uffd_check *c, u64 first, u64 n, u32 allowed)
{
	for (u64 page = first; page < first + n; page++) {
		u32 old = READ_ONCE(c->rule[page]);

		/* Pairs with the readers' acquire: who sees the new rule sees what was done before it. */
		smp_store_release(&c->rule[page], ((old + RULE_STEP) & ~RULE_ANY) | allowed);
	}
	smp_mb(); /* before the operation that follows; pairs with that of reader_main() */
}

/* The kernel reads for us: what is not mapped is an error then, and no signal. */
int read_page(const char *at, u64 *words)
{
	struct iovec local = { words, PAGE_SIZE }, remote = { (void *)(uintptr_t)at, PAGE_SIZE };
	ssize_t n = process_vm_readv(getpid(), &local, 1, &remote, 1, 0);

	if (n < 0)
		return -errno;
	return n == (ssize_t)PAGE_SIZE ? 0 : -EFAULT;
}

bool judge(u64 page, u32 allowed, const u64 *words, const char **why)
{
	bool zero = true, snapshot = true;
	u64 owner = words[0] >> 32;

	for (u64 k = 0; k < WORDS; k++) {
		zero &= !words[k];
		snapshot &= words[k] == uffd_snapshot_word(page, k);
	}
	if (snapshot) {
		*why = "the snapshot's content";
		return allowed & RULE_SNAPSHOT;
	}
	if (zero) {
		*why = "zeros";
		return allowed & RULE_ZERO;
	}
	*why = owner && owner != page + 1 ? "another page's content" : "neither the snapshot's content nor zeros";
	return false;
}

/* The last operations on @page, youngest first. */
static void history(struct uffd_check *c, u64 page, char *text, size_t room)
{
	u64 nr = smp_load_acquire(&c->log_nr); /* pairs with the mutator's release */
	int shown = 0;
	size_t used = 0;

	text[0] = 0;
	for (u64 i = nr; i > 0 && nr - i < LOG_ENTRIES - 1 && shown < HISTORY_SHOWN && used < room; i--) {
		const struct log_entry *e = &c->log[(i - 1) % LOG_ENTRIES];
		u64 first = READ_ONCE(e->first), pages = READ_ONCE(e->pages);

		if (page < first || page >= first + pages)
			continue;
		used += (size_t)snprintf(text + used, room - used, "%s#%llu %s of %llu pages at %.3f ms",
					 shown++ ? ", " : "", (unsigned long long)i, uffd_check_ops[READ_ONCE(e->op)],
					 (unsigned long long)pages, (double)(READ_ONCE(e->ns) - c->start_ns) / 1e6);
	}
	if (!shown)
		snprintf(text, room, "no operation");
}

void add_violation(struct uffd_check *c, enum uffd_check_kind kind, u64 page, const char *what, const char *holds)
{
	struct uffd_check_result *r = c->result;
	char past[320];

	history(c, page, past, sizeof(past));
	mutex_lock(&c->violation_mutex);
	if (r->violations < UCHECK_VIOLATIONS_SHOWN) {
		struct uffd_check_violation *v = &r->violation[r->violations];

		v->kind = kind;
		v->page = page;
		snprintf(v->text, sizeof(v->text), "page %llu (offset %#llx): %s%s; history: %s",
			 (unsigned long long)page, (unsigned long long)(page * PAGE_SIZE), what, holds, past);
	}
	r->violations++;
	mutex_unlock(&c->violation_mutex);
}

static const char *required(u32 rule)
{
	switch (rule & RULE_ANY) {
	case RULE_SNAPSHOT:
		return "must hold the snapshot's content, holds ";
	case RULE_ZERO:
		return "was removed, must hold zeros, holds ";
	default:
		return "an operation is under way, holds ";
	}
}

static void look(struct check_thread *t, u64 page)
{
	struct uffd_check *c = t->check;
	u32 before = smp_load_acquire(&c->rule[page]), after; /* pairs with set_rule() */
	bool there = READ_ONCE(c->touched[page]);
	u64 words[WORDS], start = clock_ns();
	const char *why;
	int ret;

	begin_wait(t, page, start);
	ret = read_page(check_address(c, page), words);
	end_wait(t);
	smp_mb(); /* the read before the second look at the rule; pairs with set_rule() */
	after = READ_ONCE(c->rule[page]);
	if (READ_ONCE(c->stop))
		return;
	if (before != after)
		before |= RULE_ANY;
	if (ret) {
		if (!(before & RULE_GONE))
			add_violation(c, UCHECK_LOST, page, "cannot be read: ", strerror(-ret));
		return;
	}
	if (!there) {
		hist_add(&t->ns, clock_ns() - start);
		WRITE_ONCE(t->faults, t->faults + 1);
		if (before == after)
			WRITE_ONCE(c->touched[page], 1);
	}
	WRITE_ONCE(t->checked, t->checked + 1);
	if (!judge(page, before, words, &why))
		add_violation(c, UCHECK_CONTENT, page, required(before), why);
}

void reader_main(void *arg)
{
	struct check_thread *t = arg;
	struct uffd_check *c = t->check;

	thread_block_signals();
	while (!READ_ONCE(c->stop)) {
		u64 entry = READ_ONCE(c->log_nr);
		u64 page = rng_below(&t->rng, c->pages);

		/* Half of the time where the mutator has just been. */
		if (entry && rng_below(&t->rng, 2))
			page = READ_ONCE(c->log[(entry - 1) % LOG_ENTRIES].first) + rng_below(&t->rng, OP_PAGES);
		look(t, page < c->pages ? page : 0);
	}
	WRITE_ONCE(t->ended, 1);
}
