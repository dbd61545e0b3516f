/* SPDX-License-Identifier: MIT */
/*
 * bench fault: see lab/bench/bench.h. The causes take turns within a pass, so that what
 * else the machine does meets them all alike.
 */
#include "lab/bench/bench.h"

#include <stdio.h>
#include <string.h>

#include "lab/bench/fault_internal.h"
#include "lib/probe.h"
#include "lib/rng.h"
#include "lib/time.h"

#define OVERHEAD_PAGES 16
#define OVERHEAD_ROUNDS 64

void bench_fault_config_init(struct bench_fault_config *config, const struct engine *engine)
{
	*config = (struct bench_fault_config){
		.machine = { .engine = engine, .vcpus = 1, .bytes = 64ull << 20 },
		.passes = 5,
	};
	for (int i = 0; i < BENCH_CAUSE_NR; i++)
		if (bench_cause_table[i].access || !engine->own_mm)
			config->causes |= BIT(i);
}

u64 bench_mmu_faults(struct bench_run *b)
{
	struct vm_stats stats = { 0 };

	if (b->here)
		vm_get_stats(b->touch.machine.vm, &stats);
	return b->faults + stats.faults;
}

bool bench_row_counted(const struct bench_fault_result *r, enum bench_cause cause)
{
	return r->counted || cause == BENCH_TAIN_HOST_FAULT || cause == BENCH_HOST_FAULT ||
	       (bench_cause_table[cause].fault && !bench_recipe(cause)->prepare); /* a handler counts its own */
}

int bench_warm(struct bench_run *b, bool read, struct err *err)
{
	struct guest_command all = { .pages = touch_part(&b->touch), .write = !read };

	return touch_run(&b->touch, &all, NULL, NULL, NULL, err);
}

/* --- machines ------------------------------------------------------------------------- */

static int leave(struct bench_run *b, struct err *err)
{
	if (!b->here)
		return 0;
	b->faults = bench_mmu_faults(b);
	b->here = false;
	thread_pin(-1);
	return touch_end(&b->touch, err);
}

/* The pages that samples are written to, or their faults would be counted with those of DATA. */
static int warm_samples(struct bench_run *b, struct err *err)
{
	struct guest_command all = { .pages = touch_part(&b->touch), .timed = GUEST_SAMPLE_CYCLES };

	return touch_run(&b->touch, &all, NULL, NULL, NULL, err);
}

/* One machine at a time: an idle guest polls, and would take its processor from another. */
static int enter(struct bench_run *b, enum host_backing backing, u64 bytes, struct err *err)
{
	const struct bench_fault_config *c = b->config;
	struct machine_config config = c->machine;
	struct vm_stats stats;
	int ret;

	if (b->here && b->backing == backing && b->touch.machine.config.bytes == bytes)
		return 0;
	ret = leave(b, err);
	if (ret)
		return ret;
	config.backing = b->backing = backing;
	config.bytes = bytes;
	ret = touch_start(&b->touch, &config, c->stop, err);
	if (ret)
		return ret;
	b->here = true;
	thread_pin(machine_host_cpu(&b->touch.machine));
	if (!b->result->ran) {
		vm_get_stats(b->touch.machine.vm, &stats);
		b->result->counted = stats.counted;
		b->result->id = b->touch.machine.id;
		b->result->ran = true;
		if (c->started)
			c->started(&b->result->id, c->arg);
	}
	return warm_samples(b, err);
}

/* --- every page in turn ---------------------------------------------------------------- */

/* Bring DATA into the state in which the next pass measures @cause. */
static int prepare(struct bench_run *b, enum bench_cause cause, struct err *err)
{
	int (*fn)(struct bench_run * b, struct err * err) = bench_recipe(cause)->prepare;
	struct err why = { "" };
	int ret;

	if (cause == BENCH_TAIN_HOST_FAULT)
		fn = bench_recipe(BENCH_FIRST_TOUCH)->prepare;
	ret = fn ? fn(b, &why) : bench_warm(b, false, &why);
	return ret ? err_set(err, ret, "%s: %s", bench_cause_table[cause].name, why.text) : 0;
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
		.timed = GUEST_SAMPLE_CYCLES,
	};
	u64 faults = bench_mmu_faults(b), ns, accesses;
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
	row->faults += bench_mmu_faults(b) - faults;
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
	ret = prepare(b, cause, err);
	if (ret)
		return ret;
	return cause == BENCH_TAIN_HOST_FAULT ? tain_pass(b, row, err) : guest_pass(b, cause, order, err);
}

static int every_page(struct bench_run *b, enum bench_cause cause, enum bench_order order, struct err *err)
{
	struct bench_row *row = &b->result->row[cause][order];
	int ret;

	hist_reset(&b->now);
	ret = measure_cause(b, cause, order, err);
	hist_merge(&row->ns, &b->now);
	if (ret)
		return ret;
	blocks_add(&row->blocks, &b->now); /* a part of a pass is no block */
	if (cause == BENCH_OVERHEAD && order == BENCH_SEQUENTIAL && !b->config->machine.engine->own_mm)
		bench_host_overhead(b);
	return 0;
}

/* --- all of them -------------------------------------------------------------------------- */

struct item {
	enum bench_cause cause;
	enum bench_order order;
	int backing; /* enum host_backing; BENCH_OWN */
	u64 bytes;   /* of its machine */
};

struct items {
	u32 nr;
	struct item item[BENCH_CAUSE_NR * BENCH_ORDER_NR];
};

static void skip(struct bench_run *b, enum bench_cause cause, const char *why)
{
	snprintf(b->result->skip[cause], sizeof(b->result->skip[cause]), "%.239s", why);
}

static bool runs(struct bench_run *b, enum bench_cause cause, enum bench_order order)
{
	const struct bench_cause_info *info = &bench_cause_table[cause];
	bool own_mm = b->config->machine.engine->own_mm;

	if (!(b->config->causes & BIT(cause)) && cause != BENCH_OVERHEAD)
		return false;
	if (order == BENCH_APART && info->fault && own_mm && !info->access)
		skip(b, cause, "it is Linux's; use --engine kvm");
	if (order == BENCH_APART)
		return info->fault && !own_mm;
	if (cause == BENCH_TAIN_HOST_FAULT && !own_mm)
		skip(b, cause, "the host mm of this engine is Linux's");
	if (cause == BENCH_TAIN_HOST_FAULT)
		return own_mm && order == BENCH_SEQUENTIAL;
	return info->access;
}

static void list_group(struct bench_run *b, struct items *items, bool apart, int backing)
{
	const struct machine_config *c = &b->config->machine;
	u64 bytes = apart ? bench_apart_bytes(c) : c->bytes;

	for (int order = 0; order < BENCH_ORDER_NR; order++)
		for (int cause = 0; cause < BENCH_CAUSE_NR; cause++) {
			int own = apart ? bench_recipe(cause)->backing : BENCH_RUN;

			if (own == BENCH_RUN)
				own = (int)c->backing;
			if (apart == (order == BENCH_APART) && own == backing && runs(b, cause, order))
				items->item[items->nr++] = (struct item){ cause, order, backing, bytes };
		}
}

/* Every page in turn first, then what is apart by its machine, the run's first, then what brings its own. */
static void list_items(struct bench_run *b, struct items *items)
{
	int mine = (int)b->config->machine.backing;

	items->nr = 0;
	list_group(b, items, false, mine);
	list_group(b, items, true, mine);
	for (int backing = 0; backing < HOST_BACKING_NR; backing++)
		if (backing != mine)
			list_group(b, items, true, backing);
	list_group(b, items, true, BENCH_OWN);
}

static int one_item(struct bench_run *b, const struct item *item, struct err *err)
{
	struct err why = { "" };
	int ret;

	probe3(phase, bench_cause_table[item->cause].name, item->order, b->pass);
	if (item->backing == BENCH_OWN)
		return leave(b, err) ?: bench_apart(b, item->cause, err);
	ret = enter(b, item->backing, item->bytes, &why);
	if (ret == -EOPNOTSUPP && item->backing != (int)b->config->machine.backing) {
		skip(b, item->cause, why.text);
		return 0;
	}
	if (ret)
		return err_set(err, ret, "%s", why.text);
	ret = item->order == BENCH_APART ? bench_apart(b, item->cause, err)
					 : every_page(b, item->cause, item->order, err);
	if (ret != -EOPNOTSUPP || !b->config->machine.engine->outside)
		return ret;
	skip(b, item->cause, err->text); /* from outside a process not everything can be done */
	return 0;
}

static int all_passes(struct bench_run *b, const struct items *items, struct err *err)
{
	const struct bench_fault_config *c = b->config;
	u64 done = 0, total = (u64)c->passes * items->nr;
	int ret = 0;

	for (b->pass = 0; b->pass < c->passes; b->pass++)
		for (u32 i = 0; i < items->nr; i++) {
			if (c->progress)
				c->progress(done++, total, c->arg);
			if (c->stop && READ_ONCE(*c->stop))
				return -EINTR;
			ret = one_item(b, &items->item[i], err);
			if (ret)
				return ret;
		}
	return 0;
}

static int init_row(struct bench_row *row, u32 passes, struct err *err)
{
	if (hist_init(&row->ns) || blocks_init(&row->blocks, passes))
		return err_set(err, -ENOMEM, "no memory for the histograms");
	return 0;
}

static int init_rows(struct bench_run *b, const struct items *items, struct err *err)
{
	struct bench_fault_result *r = b->result;
	u32 passes = b->config->passes;
	int ret = init_row(&r->host[BENCH_OVERHEAD], passes, err);

	for (u32 i = 0; i < items->nr && !ret; i++) {
		const struct item *item = &items->item[i];

		ret = init_row(&r->row[item->cause][item->order], passes, err);
		if (!ret && item->order == BENCH_APART)
			ret = init_row(&r->host[item->cause], passes, err);
	}
	if (!ret && hist_init(&b->now))
		ret = err_set(err, -ENOMEM, "no memory for the histograms");
	return ret;
}

static void destroy_row(struct bench_row *row)
{
	hist_destroy(&row->ns);
	blocks_destroy(&row->blocks);
}

void bench_fault_destroy(struct bench_fault_result *r)
{
	for (int cause = 0; cause < BENCH_CAUSE_NR; cause++) {
		for (int order = 0; order < BENCH_ORDER_NR; order++)
			destroy_row(&r->row[cause][order]);
		destroy_row(&r->host[cause]);
	}
}

int bench_fault_run(const struct bench_fault_config *config, struct bench_fault_result *result, struct err *err)
{
	struct bench_run b = { .config = config, .result = result };
	struct items items;
	u64 start = clock_ns();
	int ret, end;

	memset(result, 0, sizeof(*result));
	list_items(&b, &items);
	ret = init_rows(&b, &items, err);
	ret = ret ?: all_passes(&b, &items, err);
	end = leave(&b, ret ? NULL : err);
	result->elapsed_ns = clock_ns() - start;
	result->faults = b.faults;
	hist_destroy(&b.now);
	return ret ?: end;
}
