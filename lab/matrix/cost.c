/* SPDX-License-Identifier: MIT */
/*
 * The matrix: what the guest's first accesses cost. Reads and writes each find a range
 * that was mapped, filled and operated on for them: after a read a write would find what
 * the read has brought back.
 */
#include "lab/matrix/internal.h"

#include <stdio.h>
#include <string.h>

#include "lab/host/swap.h"
#include "lab/system/system.h"

#define SAMPLES 8      /* a huge page is one access: as many rounds as it takes */
#define AROUND 16      /* Linux maps so many pages of an object around the one that is read */
#define READ_AROUND 32 /* and reads so many of a file */
#define MERGE_TRIES 50 /* scans */
#define HUGE_PAGES (HUGE_PAGE / PAGE_SIZE)

/* Pages from one access to the next, so that none finds what another has brought. */
static u64 pages_apart(const struct matrix_cell *c)
{
	if (c->op == OP_PAGEOUT)
		return SWAP_NEAR;
	if (host_backing_table[c->backing].thp || c->backing == HOST_ANONYMOUS_HUGETLB_2MB || c->huge_after > 0)
		return HUGE_PAGES;
	if (c->backing == HOST_FILE_SHARED || c->backing == HOST_FILE_PRIVATE)
		return READ_AROUND;
	return host_backing_table[c->backing].kind == BACKING_ANON ? MATRIX_NEAR : AROUND;
}

static void not_measured(struct matrix_cell *c, const struct err *why)
{
	snprintf(c->cost_why, sizeof(c->cost_why), "%.119s", why->text);
}

/* KSM remembers addresses that it did not merge lately, and passes over them for a few scans. */
static int wait_merged(struct err *why)
{
	u64 pages = 0, most = MATRIX_PAGES - MATRIX_PAGES / 8;
	int ret = system_ksm_pages(&pages, why);

	for (int i = 0; i < MERGE_TRIES && !ret && pages < most; i++) {
		ret = system_ksm_wait(1, SYSTEM_KSM_NS, why);
		ret = ret ?: system_ksm_pages(&pages, why);
	}
	if (!ret && pages < most)
		ret = err_set(why, -EOPNOTSUPP, "of %llu pages KSM has merged %llu", MATRIX_PAGES,
			      (unsigned long long)pages);
	return ret;
}

/* The operation has begun; wait for what comes of it later. */
static int settle(struct host *host, const struct matrix_cell *c, struct err *why)
{
	if (c->op == OP_PAGEOUT && c->swapped > 0)
		return swap_wait_out(host, MATRIX_RANGE, why);
	return c->op == OP_MERGE ? wait_merged(why) : 0;
}

/* Return: 0; -EOPNOTSUPP: the operation was not done this time, @c says why. */
static int operate_anew(struct touch *t, struct matrix_cell *c, struct err *err)
{
	struct host *host = &t->machine.host;
	struct err why = { "" };
	int ret = host_renew(host);

	ret = ret ?: matrix_fill(host);
	if (ret)
		return err_set(err, -EIO, "%s: DATA cannot be made anew: %s", host_backing_table[c->backing].name,
			       strerror(-ret));
	ret = matrix_use(t, false, err);
	if (ret)
		return ret;
	ret = host->ops->begin(host, c->op, 0, MATRIX_RANGE, &why);
	if (!ret && settle(host, c, &why)) {
		ret = host->ops->end(host, err);
		if (ret)
			return ret;
		ret = -EOPNOTSUPP;
	}
	if (!ret)
		return 0;
	not_measured(c, &why);
	return -EOPNOTSUPP;
}

static int one_round(struct touch *t, struct matrix_cell *c, bool write, struct hist *hist, u64 *faults,
		     struct err *err)
{
	struct host *host = &t->machine.host;
	bool absent = op_table[c->op].absent;
	struct vm_stats before, after;
	int ret = operate_anew(t, c, err), end;

	if (ret)
		return ret == -EOPNOTSUPP ? 0 : ret;
	ret = absent ? host->ops->end(host, err) : 0;
	if (ret)
		return ret;
	vm_get_stats(t->machine.vm, &before);
	ret = matrix_time(t, pages_apart(c), write, hist, err);
	vm_get_stats(t->machine.vm, &after);
	*faults += after.faults - before.faults;
	end = absent ? 0 : host->ops->end(host, ret ? NULL : err);
	return ret ?: end;
}

static int measure(struct touch *t, struct matrix_cell *c, bool write, struct hist *hist, u64 *faults, struct err *err)
{
	struct matrix_cost *cost = write ? &c->write : &c->read;
	int ret = 0;

	hist_reset(hist);
	while (!ret && !c->cost_why[0] && hist_count(hist) < SAMPLES)
		ret = one_round(t, c, write, hist, faults, err);
	*cost = (struct matrix_cost){
		.count = hist_count(hist),
		.p50 = hist_percentile(hist, 50),
		.p99 = hist_tells(hist, 99) ? (s64)hist_percentile(hist, 99) : MATRIX_UNKNOWN,
		.max = hist_max(hist),
	};
	return ret;
}

int matrix_cost(struct touch *t, struct matrix_cell *c, struct hist *hist, u64 *faults, struct err *err)
{
	int ret = measure(t, c, false, hist, faults, err);

	ret = ret ?: measure(t, c, true, hist, faults, err);
	if (c->cost_why[0])
		c->read.count = c->write.count = 0;
	return ret;
}
