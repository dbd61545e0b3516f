/* SPDX-License-Identifier: MIT */
/* bench fault: the causes. See lab/bench/bench.h and lab/bench/fault_internal.h. */
#include <stdio.h>
#include <string.h>

#include "lab/bench/fault_internal.h"
#include "lab/bench/uffd.h"
#include "lab/system/pagemap.h"
#include "lab/host/swap.h"
#include "lab/system/system.h"

#define NEAR 8 /* KVM's shadow MMU maps aligned groups of eight at a fault */
#define HUGE_PAGES (BIT(21) / PAGE_SIZE)
#define MOST(pages) ((pages) - (pages) / 8) /* of what an operation should have done; the kernel owes nobody all */

const struct bench_cause_info bench_cause_table[BENCH_CAUSE_NR + 1] = {
	[BENCH_OVERHEAD] = { "overhead", "a warm page in the TLB: what measuring itself costs", true },
	[BENCH_PRESENT] = { "present", "warm pages, the whole size", true },
	[BENCH_HOST_PRESENT] = { "host_present", "second-MMU entry gone, host page still there", true, true },
	[BENCH_FIRST_TOUCH] = { "first_touch", "memory mapped just now", true, true },
	[BENCH_AFTER_DONTNEED] = { "after_dontneed", "after MADV_DONTNEED", true, true },
	[BENCH_AFTER_REMAP] = { "after_remap", "after MAP_FIXED over touched memory", true, true },
	[BENCH_ZERO_PAGE] = { "zero_page", "read of a page that nobody wrote: the zero page", false, true },
	[BENCH_ZERO_COW] = { "zero_cow", "write to the zero page that was read", false, true },
	[BENCH_COW] = { "cow", "write to a page that a forked child holds too", false, true },
	[BENCH_AFTER_PUNCH] = { "after_punch", "after a hole was punched into the memfd", false, true },
	[BENCH_AFTER_SWAP] = { "after_swap", "after MADV_PAGEOUT to swap", false, true },
	[BENCH_THP] = { "thp", "first touch of 2 MiB, a transparent huge page", false, true },
	[BENCH_UNMERGE] = { "unmerge", "write to a page that KSM has merged", false, true },
	[BENCH_WRITE_PROTECT] = { "write_protect", "write to a page that a dirty log protects", false, true },
	[BENCH_MEMSLOT] = { "memslot", "after the memslot was taken away and given back", false, true },
	[BENCH_MEMSLOT_MOVE] = { "memslot_move", "after the memslot was moved elsewhere in the guest and back", false,
				 true },
	[BENCH_UFFD_MISSING_THREAD] = { "uffd_missing_thread", "userfaultfd MISSING, handler on another processor",
					false, true },
	[BENCH_UFFD_MISSING_SAME_CPU] = { "uffd_missing_same_cpu", "handler on the vCPU's processor", false, true },
	[BENCH_UFFD_MISSING_VCPU] = { "uffd_missing_vcpu", "the vCPU's thread resolves", false, true },
	[BENCH_UFFD_MISSING_THREAD_16] = { "uffd_missing_thread_16", "another processor, 16 pages a fault", false,
					   true },
	[BENCH_UFFD_MISSING_VCPU_16] = { "uffd_missing_vcpu_16", "the vCPU's thread, 16 pages a fault", false, true },
	[BENCH_UFFD_MISSING_VCPU_256] = { "uffd_missing_vcpu_256", "the vCPU's thread, 256 pages a fault", false,
					  true },
	[BENCH_UFFD_MINOR_THREAD] = { "uffd_minor_thread", "userfaultfd MINOR on a memfd, another processor", false,
				      true },
	[BENCH_UFFD_MINOR_VCPU] = { "uffd_minor_vcpu", "the vCPU's thread resolves", false, true },
	[BENCH_UFFD_WP_THREAD] = { "uffd_wp_thread", "userfaultfd WP, another processor", false, true },
	[BENCH_UFFD_WP_VCPU] = { "uffd_wp_vcpu", "the vCPU's thread resolves", false, true },
	[BENCH_TAIN_HOST_FAULT] = { "tain_host_fault", "tain's host fault alone, no second MMU", true },
	[BENCH_HOST_FAULT] = { "host_fault", "a host thread on Linux's anonymous memory", true },
};

void bench_row_name(char *name, size_t n, enum bench_cause cause, enum bench_order order)
{
	static const char *const before[BENCH_ORDER_NR] = { "", "", "fault_" };
	static const char *const after[BENCH_ORDER_NR] = { "", "_random", "" };

	snprintf(name, n, "%s%s%s", before[order], bench_cause_table[cause].name, after[order]);
}

int bench_parse_causes(const char *list, u32 *causes, struct err *err)
{
	const char *names[BENCH_CAUSE_NR + 1] = { NULL };

	_Static_assert(BENCH_CAUSE_NR < 32, "causes fit the list and a u32");
	for (int i = 0; i < BENCH_CAUSE_NR; i++)
		names[i] = bench_cause_table[i].name;
	return op_parse_names(list, names, "cause", "causes", causes, err);
}

static struct host *host_of(struct bench_run *b)
{
	return &b->touch.machine.host;
}

static int failed(struct err *err, int ret)
{
	return ret ? err_set(err, ret, "the host's operation failed: %s", strerror(-ret)) : 0;
}

/* A refusal is a skip: nothing has changed. */
static int begin(struct bench_run *b, enum host_op op, struct err *err)
{
	struct host *host = host_of(b);

	return host->ops->begin(host, op, 0, host->bytes, err) ? -EOPNOTSUPP : 0;
}

static int end_op(struct bench_run *b, struct err *err)
{
	return host_of(b)->ops->end(host_of(b), err);
}

static int warm_then(struct bench_run *b, enum host_op op, struct err *err)
{
	return bench_warm(b, false, err) ?: begin(b, op, err);
}

/* --- what each does ---------------------------------------------------------------- */

static int fresh(struct bench_run *b, struct err *err)
{
	return failed(err, host_renew(host_of(b)));
}

static int protected_once(struct bench_run *b, struct err *err)
{
	struct host *host = host_of(b);
	int ret = bench_warm(b, false, err);

	if (ret)
		return ret;
	ret = host->ops->protect(host, 0, host->bytes, TAIN_PROT_READ);
	return failed(err, ret ?: host->ops->protect(host, 0, host->bytes, TAIN_PROT_READ | TAIN_PROT_WRITE));
}

static int dropped(struct bench_run *b, struct err *err)
{
	int ret = bench_warm(b, false, err);

	return ret ?: failed(err, host_of(b)->ops->dontneed(host_of(b), 0, host_of(b)->bytes));
}

static int remapped(struct bench_run *b, struct err *err)
{
	struct host *host = host_of(b);
	int ret = bench_warm(b, false, err);

	if (ret)
		return ret;
	ret = host->ops->remap(host, 0, host->bytes);
	return failed(err, ret ?: host->ops->release(host));
}

static int read_only(struct bench_run *b, struct err *err)
{
	return dropped(b, err) ?: bench_warm(b, true, err);
}

static int forked(struct bench_run *b, struct err *err)
{
	return warm_then(b, OP_FORK, err);
}

static int punched(struct bench_run *b, struct err *err)
{
	return warm_then(b, OP_PUNCH, err);
}

/* Gone, or no disk would be asked for them. */
static int swapped(struct bench_run *b, struct err *err)
{
	return warm_then(b, OP_PAGEOUT, err) ?: swap_wait_out(host_of(b), host_of(b)->bytes, err);
}

/* Equal pages, all zeros. */
static int merged(struct bench_run *b, struct err *err)
{
	struct host *host = host_of(b);
	u64 pages = host->bytes / PAGE_SIZE, together = 0;
	int ret = dropped(b, err);

	ret = ret ?: failed(err, host->ops->populate(host, 0, host->bytes));
	ret = ret ?: begin(b, OP_MERGE, err);
	if (ret)
		return ret;
	ret = system_ksm_pages(&together, err);
	if (!ret && together < MOST(pages))
		ret = err_set(err, -EOPNOTSUPP, "of %llu pages KSM has merged %llu", (unsigned long long)pages,
			      (unsigned long long)together);
	if (ret)
		end_op(b, NULL);
	return ret;
}

static int logged(struct bench_run *b, struct err *err)
{
	int ret = bench_warm(b, false, err);

	return ret ?: vm_dirty_log(b->touch.machine.vm, 0, VM_DIRTY_START, NULL, err);
}

static int end_logged(struct bench_run *b, struct err *err)
{
	return vm_dirty_log(b->touch.machine.vm, 0, VM_DIRTY_STOP, NULL, err);
}

static int hidden_once(struct bench_run *b, struct err *err)
{
	int ret = bench_warm(b, false, err);

	ret = ret ?: vm_show_range(b->touch.machine.vm, 0, VM_HIDE, err);
	return ret ?: vm_show_range(b->touch.machine.vm, 0, VM_SHOW, err);
}

static int moved_once(struct bench_run *b, struct err *err)
{
	int ret = bench_warm(b, false, err);

	ret = ret ?: vm_show_range(b->touch.machine.vm, 0, VM_MOVE, err);
	return ret ?: vm_show_range(b->touch.machine.vm, 0, VM_SHOW, err);
}

/*
 * Frames that were in use a moment ago. A virtual machine may have handed free ones to its
 * own host (free page reporting takes huge ones within seconds), and there the first touch
 * waits for that host too: 8 ms where 0.2 are this kernel's. Who comes second would not.
 */
static int huge_room(struct bench_run *b, struct err *err)
{
	struct host *host = host_of(b);
	int ret;

	if (touch_part(&b->touch) < HUGE_PAGES)
		return err_set(err, -EOPNOTSUPP, "a vCPU's part of the memory is less than a huge page, 2M");
	ret = failed(err, host->ops->populate(host, 0, host->bytes));
	return ret ?: failed(err, host->ops->dontneed(host, 0, host->bytes)) ?: fresh(b, err);
}

/* One access brought 512 pages in, or this was no huge page. */
static int was_huge(struct bench_run *b, struct err *err)
{
	u64 pages = host_of(b)->bytes / PAGE_SIZE, here = 0;
	int ret = pagemap_count(host_of(b)->data, pages, PM_PRESENT, &here, err);

	if (!ret && here < pages / 2)
		return err_set(err, -EOPNOTSUPP, "the kernel gave small pages: memory is too fragmented for huge ones");
	return ret;
}

#define UFFD(mode_, placement_, window_)                                                                               \
	{                                                                                                              \
		.backing = BENCH_OWN, .apart = (window_) > NEAR ? (window_) : NEAR, .mode = UFFD_##mode_,              \
		.placement = BENCH_##placement_, .window = (window_)                                                   \
	}

static const struct bench_recipe recipes[BENCH_CAUSE_NR] = {
	[BENCH_HOST_PRESENT] = { BENCH_RUN, false, NEAR, protected_once },
	[BENCH_FIRST_TOUCH] = { BENCH_RUN, false, NEAR, fresh },
	[BENCH_AFTER_DONTNEED] = { BENCH_RUN, false, NEAR, dropped },
	[BENCH_AFTER_REMAP] = { BENCH_RUN, false, NEAR, remapped },
	[BENCH_ZERO_PAGE] = { HOST_ANONYMOUS, true, NEAR, dropped },
	[BENCH_ZERO_COW] = { HOST_ANONYMOUS, false, NEAR, read_only },
	[BENCH_COW] = { HOST_ANONYMOUS, false, NEAR, forked, end_op },
	[BENCH_AFTER_PUNCH] = { HOST_MEMFD, false, NEAR, punched },
	[BENCH_AFTER_SWAP] = { HOST_ANONYMOUS, false, SWAP_NEAR, swapped },
	[BENCH_THP] = { HOST_ANONYMOUS_THP, false, HUGE_PAGES, huge_room, NULL, was_huge },
	[BENCH_UNMERGE] = { HOST_ANONYMOUS, false, NEAR, merged, end_op },
	[BENCH_WRITE_PROTECT] = { BENCH_RUN, false, NEAR, logged, end_logged },
	[BENCH_MEMSLOT] = { BENCH_RUN, false, NEAR, hidden_once },
	[BENCH_MEMSLOT_MOVE] = { BENCH_RUN, false, NEAR, moved_once },
	[BENCH_UFFD_MISSING_THREAD] = UFFD(MISSING, THREAD, 1),
	[BENCH_UFFD_MISSING_SAME_CPU] = UFFD(MISSING, SAME_CPU, 1),
	[BENCH_UFFD_MISSING_VCPU] = UFFD(MISSING, VCPU, 1),
	[BENCH_UFFD_MISSING_THREAD_16] = UFFD(MISSING, THREAD, 16),
	[BENCH_UFFD_MISSING_VCPU_16] = UFFD(MISSING, VCPU, 16),
	[BENCH_UFFD_MISSING_VCPU_256] = UFFD(MISSING, VCPU, 256),
	[BENCH_UFFD_MINOR_THREAD] = UFFD(MINOR, THREAD, 1),
	[BENCH_UFFD_MINOR_VCPU] = UFFD(MINOR, VCPU, 1),
	[BENCH_UFFD_WP_THREAD] = UFFD(WP, THREAD, 1),
	[BENCH_UFFD_WP_VCPU] = UFFD(WP, VCPU, 1),
};

const char *bench_cause_backing(enum bench_cause cause)
{
	const struct bench_recipe *r = &recipes[cause];

	if (!r->apart || r->backing == BENCH_RUN) /* the rows that have no recipe are of the run's memory too */
		return NULL;
	return host_backing_table[r->backing == BENCH_OWN ? (int)bench_uffd_backing(r->mode) : r->backing].name;
}

const struct bench_recipe *bench_recipe(enum bench_cause cause)
{
	return &recipes[cause];
}
