/* SPDX-License-Identifier: MIT */
/* The mutator of uffd_check: one thread, one operation after the other, while readers fault. */
#include <linux/userfaultfd.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lab/system/linux_compat.h"
#include "lab/uffd/check_internal.h"
#include "lib/time.h"

#define RW (PROT_READ | PROT_WRITE)
#define CHILD_PAGES 8
#define PAUSE_NS (100 * NSEC_PER_USEC) /* so that readers meet pages before they are removed, too */

static void log_op(struct uffd_check *c, enum uffd_check_op op, u64 first, u64 pages)
{
	struct log_entry *e = &c->log[c->log_nr % LOG_ENTRIES];

	WRITE_ONCE(e->op, op);
	WRITE_ONCE(e->first, first);
	WRITE_ONCE(e->pages, (u32)pages);
	WRITE_ONCE(e->ns, clock_ns());
	smp_store_release(&c->log_nr, c->log_nr + 1); /* pairs with history()'s acquire */
}

static void forget(struct uffd_check *c, u64 first, u64 n)
{
	for (u64 page = first; page < first + n; page++)
		WRITE_ONCE(c->touched[page], 0);
}

static void removed(struct uffd_check *c, u64 first, u64 n)
{
	forget(c, first, n);
	set_rule(c, first, n, RULE_ZERO);
	c->removed += n;
	if (c->removed >= c->pages / 4 * 3)
		WRITE_ONCE(c->spent, 1);
}

static int do_remove(struct uffd_check *c, const struct region *r, u64 first, u64 n)
{
	set_rule(c, first, n, RULE_SNAPSHOT | RULE_ZERO);
	/* Pages of a shared file outlive MADV_DONTNEED. */
	if (madvise(check_address(c, first), n * PAGE_SIZE, r->shared ? MADV_REMOVE : MADV_DONTNEED))
		return -errno;
	removed(c, first, n);
	return 0;
}

static int do_unmap(struct uffd_check *c, const struct region *r, u64 first, u64 n)
{
	char *at = check_address(c, first);
	struct uffdio_register reg = { .range = { (u64)(uintptr_t)at, n * PAGE_SIZE },
				       .mode = UFFDIO_REGISTER_MODE_MISSING };

	set_rule(c, first, n, RULE_ANY);
	if (munmap(at, n * PAGE_SIZE))
		return -errno;
	if (mmap(at, n * PAGE_SIZE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0) != at)
		return -errno;
	madvise(at, n * PAGE_SIZE, MADV_NOHUGEPAGE);
	if (ioctl(c->uffd, UFFDIO_REGISTER, &reg))
		return -errno;
	removed(c, first, n);
	return 0;
}

/* Away, a look at it there, and back. */
static int do_remap(struct uffd_check *c, const struct region *r, u64 first, u64 n)
{
	char *at = check_address(c, first);
	u64 words[WORDS];
	u32 rule[OP_PAGES];
	const char *why;
	int ret = 0;

	for (u64 i = 0; i < n; i++)
		rule[i] = c->rule[first + i] & RULE_ANY;
	set_rule(c, first, n, RULE_ANY);
	if (mremap(at, n * PAGE_SIZE, n * PAGE_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, c->scratch) != c->scratch)
		ret = -errno;
	for (u64 i = 0; i < n && !ret && !READ_ONCE(c->stop); i++) {
		int failed = read_page(c->scratch + i * PAGE_SIZE, words);

		if (READ_ONCE(c->stop))
			break;
		if (failed)
			add_violation(c, UCHECK_LOST, first + i, "moved, cannot be read: ", strerror(-failed));
		else if (!judge(first + i, rule[i], words, &why))
			add_violation(c, UCHECK_CONTENT, first + i, "moved, holds ", why);
	}
	if (!ret && mremap(c->scratch, n * PAGE_SIZE, n * PAGE_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, at) != at)
		return -errno;
	for (u64 i = 0; i < n; i++)
		set_rule(c, first + i, 1, rule[i]);
	return ret == -EFAULT ? -EAGAIN : ret; /* the range is more than one mapping: nothing happened */
}

/* In the child, with nothing but system calls: pages as they were when it was born. */
static void child_main(struct uffd_check *c, struct rng *rng)
{
	u64 words[WORDS];
	const char *why;

	for (int i = 0; i < CHILD_PAGES; i++) {
		u64 page = rng_below(rng, c->region[0].pages);
		int ret = read_page(check_address(c, page), words);

		if (!ret && judge(page, c->rule[page] & RULE_ANY, words, &why))
			continue;
		c->child[1] = ret ? 1 : why[0] == 'z' ? 2 : why[0] == 't' ? 3 : 4;
		c->child[0] = (u32)page + 1;
		_exit(1);
	}
	_exit(0);
}

/*
 * A handler that ends takes the child's descriptor with it, and its pidfd may tell a little
 * later: zeros in the child are no wrong answer then. One that reads an event after that was there.
 */
static bool handler_lives(struct uffd_check *c, struct rng *rng)
{
	return !do_remove(c, &c->region[0], rng_below(rng, c->region[0].pages), 1) && !READ_ONCE(c->stop);
}

static int do_fork(struct uffd_check *c, struct rng *rng)
{
	static const char *const seen[] = { "", "nothing, it cannot be read", "zeros", "the snapshot's content",
					    "another page's content" };
	pid_t pid;
	int status;

	c->child[0] = 0;
	pid = fork();
	if (!pid)
		child_main(c, rng);
	if (pid < 0)
		return -errno;
	WRITE_ONCE(c->child_pid, pid);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	WRITE_ONCE(c->child_pid, 0);
	if (READ_ONCE(c->stop))
		return 0;
	if (c->child[0] && handler_lives(c, rng))
		add_violation(c, UCHECK_CONTENT, c->child[0] - 1, "in a forked child, holds ",
			      seen[c->child[1] < ARRAY_SIZE(seen) ? c->child[1] : 0]);
	return 0;
}

/* Return: 0; -EAGAIN: not on this range. */
static int one_op(struct uffd_check *c, struct check_thread *t, enum uffd_check_op op)
{
	const struct region *r = &c->region[op == UCHECK_REMOVE && rng_below(&t->rng, 2)];
	u64 n = 1 + rng_below(&t->rng, min((u64)OP_PAGES, r->pages));
	u64 first = r->first + rng_below(&t->rng, r->pages - n + 1);
	int ret;

	log_op(c, op, first, n);
	WRITE_ONCE(t->op, op);
	begin_wait(t, first, clock_ns());
	switch (op) {
	case UCHECK_REMOVE:
		ret = do_remove(c, r, first, n);
		break;
	case UCHECK_UNMAP:
		ret = do_unmap(c, r, first, n);
		break;
	case UCHECK_REMAP:
		ret = do_remap(c, r, first, n);
		break;
	default:
		ret = do_fork(c, &t->rng);
	}
	end_wait(t);
	if (!ret)
		WRITE_ONCE(c->result->done[op], c->result->done[op] + 1);
	return ret;
}

void mutator_main(void *arg)
{
	static const u8 weighted[] = { UCHECK_REMOVE, UCHECK_REMOVE, UCHECK_REMOVE, UCHECK_REMOVE, UCHECK_UNMAP,
				       UCHECK_UNMAP,  UCHECK_REMAP,  UCHECK_REMAP,  UCHECK_REMAP,  UCHECK_FORK };
	struct check_thread *t = arg;
	struct uffd_check *c = t->check;

	thread_block_signals();
	while (!READ_ONCE(c->stop) && !READ_ONCE(c->spent)) {
		enum uffd_check_op op = weighted[rng_below(&t->rng, ARRAY_SIZE(weighted))];
		int ret;

		/* Forks are dear: one in ten of the turns that would. */
		if (!(c->ops & 1u << op) || (op == UCHECK_FORK && rng_below(&t->rng, 10)))
			continue;
		ret = one_op(c, t, op);
		if (ret && ret != -EAGAIN && !READ_ONCE(c->stop)) {
			add_violation(c, UCHECK_LOST, t->page, "the operation failed: ", strerror(-ret));
			WRITE_ONCE(c->spent, 1);
		}
		thread_sleep_ns(PAUSE_NS);
	}
	WRITE_ONCE(t->ended, 1);
}
