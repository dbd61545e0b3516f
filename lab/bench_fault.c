/* SPDX-License-Identifier: MIT */
/*
 * bench fault: see lab/bench.h. The causes take turns within a pass, so that what
 * else the machine does meets them all alike.
 */
#include "lab/bench.h"

#include <string.h>

#include "lab/touch.h"
#include "lib/rng.h"
#include "lib/time.h"

#define OVERHEAD_PAGES 16
#define OVERHEAD_ROUNDS 64

const struct bench_cause_info bench_cause_table[BENCH_CAUSE_NR] = {
	[BENCH_OVERHEAD] = { "overhead", "a warm page in the TLB: what measuring itself costs", true },
	[BENCH_PRESENT] = { "present", "warm pages, the whole size", true },
	[BENCH_HOST_PRESENT] = { "host_present", "second-MMU entry gone, host page still there", true },
	[BENCH_FIRST_TOUCH] = { "first_touch", "memory mapped just now", true },
	[BENCH_AFTER_DONTNEED] = { "after_dontneed", "after MADV_DONTNEED", true },
	[BENCH_AFTER_REMAP] = { "after_remap", "after MAP_FIXED over touched memory", true },
	[BENCH_TAIN_HOST_FAULT] = { "tain_host_fault", "tain's host fault alone, no second MMU", false },
	[BENCH_HOST_FAULT] = { "host_fault", "a host thread on Linux's anonymous memory", false },
};

const char *const bench_order_names[BENCH_ORDER_NR] = { "sequential", "random" };

struct bench_run {
	const struct bench_fault_config *config;
	struct bench_fault_result *result;
	struct touch touch;
	struct hist now; /* of the pass under way */
	u64 pass;
};

void bench_fault_config_init(struct bench_fault_config *config, const struct engine *engine)
{
	*config = (struct bench_fault_config){
		.machine = { .engine = engine, .vcpus = 1, .bytes = 64ull << 20 },
		.passes = 5,
	};
}

static u64 second_mmu_faults(struct bench_run *b)
{
	struct vm_stats stats = { 0 };

	vm_get_stats(b->touch.machine.vm, &stats);
	return stats.faults;
}

/* Touch everything without measuring. */
static int warm(struct bench_run *b, struct err *err)
{
	struct guest_command all = { .pages = touch_part(&b->touch), .write = 1 };

	return touch_run(&b->touch, &all, NULL, NULL, NULL, err);
}

/* Bring DATA into the state in which the next pass measures @cause. */
static int prepare(struct bench_run *b, enum bench_cause cause, struct err *err)
{
	struct host *host = &b->touch.machine.host;
	const struct host_ops *ops = host->ops;
	int ret = 0;

	if (cause == BENCH_FIRST_TOUCH || cause == BENCH_TAIN_HOST_FAULT) {
		ret = ops->unmap(host, 0, host->bytes);
		ret = ret ?: ops->map(host, 0, host->bytes);
	} else {
		ret = warm(b, err);
		if (ret)
			return ret;
	}
	if (cause == BENCH_AFTER_REMAP)
		ret = ops->remap(host, 0, host->bytes);
	if (cause == BENCH_AFTER_DONTNEED)
		ret = ops->dontneed(host, 0, host->bytes);
	if (cause == BENCH_HOST_PRESENT) {
		ret = ops->protect(host, 0, host->bytes, TAIN_PROT_READ);
		ret = ret ?: ops->protect(host, 0, host->bytes, TAIN_PROT_READ | TAIN_PROT_WRITE);
	}
	ret = ret ?: ops->release(host);
	return ret ? err_set(err, ret, "%s: the host's operation failed: %s", bench_cause_table[cause].name,
			     strerror(-ret))
		   : 0;
}

static int guest_pass(struct bench_run *b, enum bench_cause cause, enum bench_order order, struct err *err)
{
	struct bench_row *row = &b->result->row[cause][order];
	bool overhead = cause == BENCH_OVERHEAD;
	struct guest_command command = {
		.pages = overhead ? OVERHEAD_PAGES : touch_part(&b->touch),
		.order = order == BENCH_RANDOM ? GUEST_ORDER_RANDOM : GUEST_ORDER_SEQUENTIAL,
		.seed = rng_mix(b->config->machine.seed, b->pass),
		.write = 1,
		.timed = 1,
	};
	u64 faults = second_mmu_faults(b), ns, accesses;
	int ret = 0;

	for (int i = 0; i < (overhead ? OVERHEAD_ROUNDS : 1) && !ret; i++) {
		ret = touch_run(&b->touch, &command, &ns, &accesses, &b->now, err);
		if (ret)
			break;
		row->ran = true;
		row->elapsed_ns += ns;
		row->accesses += accesses;
		b->result->accesses += accesses;
	}
	row->faults += second_mmu_faults(b) - faults;
	return ret;
}

/* tain's mm without its mirror: what mmu/ asks of it on a fault. */
static int tain_pass(struct bench_run *b, struct bench_row *row, struct err *err)
{
	struct host *host = &b->touch.machine.host;
	u64 start = clock_ns();

	for (u64 off = 0; off < host->bytes; off += PAGE_SIZE) {
		u64 begin = cycles();
		struct mm_fault fault;
		int ret = mm_fault_in(host->mm, host->data + off, MM_WRITE, &fault);

		if (ret)
			return err_set(err, ret, "tain's host fault: %s", strerror(-ret));
		hist_add(&b->now, cycles_to_unit(cycles() - begin));
		put_page(fault.page);
	}
	row->elapsed_ns += clock_ns() - start;
	row->accesses += host->bytes / PAGE_SIZE;
	row->faults += host->bytes / PAGE_SIZE;
	row->ran = true;
	return 0;
}

static int measure_cause(struct bench_run *b, enum bench_cause cause, enum bench_order order, struct err *err)
{
	struct bench_row *row = &b->result->row[cause][order];
	int ret;

	if (cause == BENCH_HOST_FAULT) {
		ret = bench_linux_faults(b->config->machine.bytes, order, b->config->machine.seed + b->pass, row,
					 &b->now);
		return ret ? err_set(err, ret, "host_fault: %s", strerror(-ret)) : 0;
	}
	if (cause == BENCH_TAIN_HOST_FAULT && (!b->touch.machine.host.mm || order != BENCH_SEQUENTIAL))
		return 0;
	ret = prepare(b, cause, err);
	if (ret)
		return ret;
	return cause == BENCH_TAIN_HOST_FAULT ? tain_pass(b, row, err) : guest_pass(b, cause, order, err);
}

static int one_cause(struct bench_run *b, enum bench_cause cause, enum bench_order order, struct err *err)
{
	struct bench_row *row = &b->result->row[cause][order];
	int ret;

	hist_reset(&b->now);
	ret = measure_cause(b, cause, order, err);
	hist_merge(&row->ns, &b->now);
	if (!ret)
		blocks_add(&row->blocks, &b->now); /* a part of a pass is no block */
	return ret;
}

static int all_passes(struct bench_run *b, struct err *err)
{
	const struct bench_fault_config *c = b->config;
	u64 done = 0, total = (u64)c->passes * BENCH_ORDER_NR * BENCH_CAUSE_NR;
	int ret;

	for (b->pass = 0; b->pass < c->passes; b->pass++)
		for (int order = 0; order < BENCH_ORDER_NR; order++)
			for (int cause = 0; cause < BENCH_CAUSE_NR; cause++) {
				if (c->progress)
					c->progress(done++, total, c->arg);
				if (c->stop && READ_ONCE(*c->stop))
					return -EINTR;
				ret = one_cause(b, cause, order, err);
				if (ret)
					return ret;
			}
	return 0;
}

static int init_rows(struct bench_fault_result *r, u32 passes, struct err *err)
{
	for (int cause = 0; cause < BENCH_CAUSE_NR; cause++)
		for (int order = 0; order < BENCH_ORDER_NR; order++)
			if (hist_init(&r->row[cause][order].ns) || blocks_init(&r->row[cause][order].blocks, passes))
				return err_set(err, -ENOMEM, "no memory for the histograms");
	return 0;
}

void bench_fault_destroy(struct bench_fault_result *r)
{
	for (int cause = 0; cause < BENCH_CAUSE_NR; cause++)
		for (int order = 0; order < BENCH_ORDER_NR; order++) {
			hist_destroy(&r->row[cause][order].ns);
			blocks_destroy(&r->row[cause][order].blocks);
		}
}

int bench_fault_run(const struct bench_fault_config *config, struct bench_fault_result *result, struct err *err)
{
	struct bench_run b = { .config = config, .result = result };
	u64 start;
	int ret, end;

	memset(result, 0, sizeof(*result));
	ret = init_rows(result, config->passes, err);
	if (ret)
		return ret;
	if (hist_init(&b.now))
		return err_set(err, -ENOMEM, "no memory for the histograms");
	ret = touch_start(&b.touch, &config->machine, config->stop, err);
	if (ret)
		goto destroy;
	result->id = b.touch.machine.id;
	result->ran = true;
	if (config->started)
		config->started(&result->id, config->arg);
	thread_pin(machine_host_cpu(&b.touch.machine));
	start = clock_ns();
	ret = all_passes(&b, err);
	result->elapsed_ns = clock_ns() - start;
	result->faults = second_mmu_faults(&b);
	thread_pin(-1);
	end = touch_end(&b.touch, ret ? NULL : err);
	ret = ret ?: end;
destroy:
	hist_destroy(&b.now);
	return ret;
}
