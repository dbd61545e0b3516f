/* SPDX-License-Identifier: MIT */
/* bench outside: see lab/bench/outside.h. */
#include "lab/bench/outside.h"

#include <stdio.h>
#include <string.h>

#include "lab/machine/stall.h"
#include "lab/machine/touch.h"
#include "lib/time.h"

#define NEAR 8	     /* as in bench fault: no fault serves two pages so far apart */
#define NEAR_SWAP 32 /* nor does a read from swap */
#define IDLE_NS (10 * NSEC_PER_MSEC)

struct outside_run {
	const struct bench_outside_config *config;
	struct bench_outside_result *result;
	struct touch touch;
	struct hist now[OUTSIDE_TIME_NR]; /* of the pass under way */
};

const struct outside_op_info outside_op_table[OUTSIDE_OP_NR + 1] = {
	[OUTSIDE_NONE] = { "none", "nothing for 10 ms: what the machine does by itself", NULL, NULL, 5 },
	[OUTSIDE_PUNCH] = { "punch", "a hole punched through the descriptor of its memory", "punch", NULL, 1 },
	[OUTSIDE_REMOVE] = { "remove", "MADV_REMOVE of a mapping here", "remove", NULL, 1 },
	[OUTSIDE_COLD] = { "cold", "process_madvise(MADV_COLD)", "cold", NULL, 1 },
	[OUTSIDE_PAGEOUT] = { "pageout", "process_madvise(MADV_PAGEOUT)", "pageout", NULL, 1 },
	[OUTSIDE_COLLAPSE] = { "collapse", "process_madvise(MADV_COLLAPSE)", "collapse", NULL, 1 },
	[OUTSIDE_COMPACT] = { "compact", "compaction of the whole machine", "compact", NULL, 1 },
	[OUTSIDE_STATUS] = { "status", "query-status, by the monitor", "query_status", NULL, 20 },
	[OUTSIDE_STATS] = { "memstats", "virDomainMemoryStats", "memstats", NULL, 20 },
	[OUTSIDE_SUSPEND] = { "suspend", "virDomainSuspend, then virDomainResume", "suspend", "resume", 20 },
	[OUTSIDE_BALLOON] = { "balloon", "all pages given to the balloon, then taken back", "inflate", "deflate", 1 },
	[OUTSIDE_PLUG] = { "plug", "16 MiB plugged in, tried out by the guest, and out", "plug", "unplug", 1 },
	[OUTSIDE_MIGRATE] = { "migrate", "migration to a second QEMU here: live under KVM, suspended under TCG",
			      "migrate", NULL, 1 },
	[OUTSIDE_RESTORE] = { "restore", "saved to a file and restored in a second QEMU", "restore", NULL, 1 },
};

int outside_parse_ops(const char *list, u32 *ops, struct err *err)
{
	const char *names[OUTSIDE_OP_NR + 1] = { NULL };

	for (int i = 0; i < OUTSIDE_OP_NR; i++)
		names[i] = outside_op_table[i].name;
	return op_parse_names(list, names, "operation", "outside", ops, err);
}

bool outside_time_name(char *name, size_t n, enum outside_op op, enum outside_time time)
{
	static const char *const before[OUTSIDE_TIME_NR] = { "call", "call", "stall", "gap", "after", "qemu_downtime" };
	const struct outside_op_info *info = &outside_op_table[op];
	const char *of = time == OUTSIDE_CALL ? info->call : time == OUTSIDE_BACK ? info->back : info->name;

	if (!of || (time == OUTSIDE_DOWNTIME && op != OUTSIDE_MIGRATE))
		return false;
	snprintf(name, n, "%s_%s", before[time], of);
	return true;
}

/* --- what each does -------------------------------------------------------------------- */

static int host_op(struct outside_run *r, enum host_op op, struct err *err)
{
	struct host *host = &r->touch.machine.host;
	u64 start = clock_ns();

	/* A refusal is a skip: nothing has changed. */
	if (host->ops->begin(host, op, 0, host->bytes, err))
		return -EOPNOTSUPP;
	hist_add(&r->now[OUTSIDE_CALL], clock_ns() - start);
	return host->ops->end(host, err);
}

static int control(struct outside_run *r, enum outside_time time, enum vm_control what, struct err *err)
{
	u64 start = clock_ns();
	int ret = vm_control(r->touch.machine.vm, what, err);

	if (!ret)
		hist_add(&r->now[time], clock_ns() - start);
	return ret;
}

static int balloon(struct outside_run *r, enum outside_time time, u64 pages, struct err *err)
{
	u64 start = clock_ns();
	int ret = vm_balloon(r->touch.machine.vm, 0, pages, err);

	if (!ret)
		hist_add(&r->now[time], clock_ns() - start);
	return ret;
}

static int migrate(struct outside_run *r, struct err *err)
{
	struct vm_outside o;
	int ret = vm_outside(r->touch.machine.vm, &o);

	ret = ret ?: control(r, OUTSIDE_CALL, VM_MIGRATE, err);
	ret = ret ?: vm_outside(r->touch.machine.vm, &o);
	if (!ret && o.kvm) /* else the VM was suspended all the time, of which QEMU counts the end alone */
		hist_add(&r->now[OUTSIDE_DOWNTIME], o.downtime_ns);
	return ret;
}

static int operate(struct outside_run *r, enum outside_op op, struct err *err)
{
	static const enum host_op host_ops[OUTSIDE_OP_NR] = {
		[OUTSIDE_PUNCH] = OP_PUNCH,	[OUTSIDE_REMOVE] = OP_REMOVE,	  [OUTSIDE_COLD] = OP_COLD,
		[OUTSIDE_PAGEOUT] = OP_PAGEOUT, [OUTSIDE_COLLAPSE] = OP_COLLAPSE, [OUTSIDE_COMPACT] = OP_COMPACT,
	};

	switch (op) {
	case OUTSIDE_NONE:
		thread_sleep_ns(IDLE_NS);
		return 0;
	case OUTSIDE_STATUS:
		return control(r, OUTSIDE_CALL, VM_STATUS, err);
	case OUTSIDE_STATS:
		return control(r, OUTSIDE_CALL, VM_STATS, err);
	case OUTSIDE_SUSPEND:
		return control(r, OUTSIDE_CALL, VM_SUSPEND, err) ?: control(r, OUTSIDE_BACK, VM_RESUME, err);
	case OUTSIDE_BALLOON:
		return balloon(r, OUTSIDE_CALL, r->touch.machine.host.bytes / PAGE_SIZE, err)
			       ?: balloon(r, OUTSIDE_BACK, 0, err);
	case OUTSIDE_PLUG:
		return control(r, OUTSIDE_CALL, VM_PLUG, err) ?: control(r, OUTSIDE_BACK, VM_UNPLUG, err);
	case OUTSIDE_MIGRATE:
		return migrate(r, err);
	case OUTSIDE_RESTORE:
		return control(r, OUTSIDE_CALL, VM_RESTORE, err);
	default:
		return host_op(r, host_ops[op], err);
	}
}

/* --- windows --------------------------------------------------------------------------- */

/*
 *   caller                           guest
 *   post: go on until told           touches page 0 again and again, keeps its longest gap
 *   it has begun: watch its counter
 *   the operation                    stands still, or not
 *   it goes on: watched enough
 *   post: the next command           the longest gap, told
 */
static int in_window(struct outside_run *r, enum outside_op op, const struct guest_command *next, struct err *err)
{
	static const struct guest_command until_told = { .pages = 1, .write = 1, .timed = GUEST_SAMPLE_LONGEST };
	struct touch *t = &r->touch;
	struct guest_vcpu *gv = vm_guest_vcpu(t->machine.vm, 0);
	struct stall s;
	int ret;

	touch_post(t, &until_told);
	ret = touch_goes_on(t, err);
	ret = ret ?: stall_watch(&s, &gv->heartbeat, err);
	if (ret)
		return ret;
	ret = operate(r, op, err);
	ret = ret ?: touch_goes_on(t, err);
	stall_end(&s);
	if (ret == -EOPNOTSUPP && touch_run(t, next, NULL, NULL, NULL, err)) /* as it was: the run goes on */
		return -EIO;
	ret = ret ?: touch_run(t, next, NULL, NULL, &r->now[OUTSIDE_AFTER], err);
	if (ret)
		return ret;
	hist_add(&r->now[OUTSIDE_STALL], s.longest_ns);
	hist_add(&r->now[OUTSIDE_GAP], cycles_to_ns(READ_ONCE(gv->longest)));
	return 0;
}

/* The last time is followed by accesses to pages that nobody has touched since. */
static int one_pass(struct outside_run *r, enum outside_op op, struct err *err)
{
	u32 times = outside_op_table[op].times, apart = op == OUTSIDE_PAGEOUT ? NEAR_SWAP : NEAR;
	u64 pages = touch_part(&r->touch) - apart;
	struct guest_command warm = { .pages = touch_part(&r->touch), .write = 1 }, next = { .pages = 1 };
	int ret = touch_run(&r->touch, &warm, NULL, NULL, NULL, err);

	for (u32 i = 0; i < times && !ret; i++) {
		if (i == times - 1)
			next = (struct guest_command){ .first = apart,
						       .pages = pages,
						       .order = GUEST_ORDER_STRIDE,
						       .stride = apart,
						       .limit = (pages + apart - 1) / apart,
						       .write = 1,
						       .timed = GUEST_SAMPLE_CYCLES };
		ret = in_window(r, op, &next, err);
	}
	return ret;
}

/* --- all of them ----------------------------------------------------------------------- */

static void keep(struct outside_run *r, enum outside_op op)
{
	for (int time = 0; time < OUTSIDE_TIME_NR; time++) {
		struct outside_row *row = &r->result->row[op][time];

		if (!hist_count(&r->now[time]))
			continue;
		hist_merge(&row->ns, &r->now[time]);
		blocks_add(&row->blocks, &r->now[time]);
	}
	r->result->accesses += hist_count(&r->now[OUTSIDE_AFTER]);
}

/* A pass counts whole or not at all. */
static int measure(struct outside_run *r, enum outside_op op, struct err *err)
{
	char *skip = r->result->skip[op];
	struct err why = { "" };
	int ret;

	if (skip[0]) /* it will not be different in the next pass */
		return 0;
	for (int time = 0; time < OUTSIDE_TIME_NR; time++)
		hist_reset(&r->now[time]);
	ret = one_pass(r, op, &why);
	if (ret == -EOPNOTSUPP)
		snprintf(skip, sizeof(r->result->skip[op]), "%.239s", why.text);
	else if (ret)
		return err_set(err, ret, "%s: %s", outside_op_table[op].name, why.text);
	else
		keep(r, op);
	return 0;
}

static int all_passes(struct outside_run *r, struct err *err)
{
	const struct bench_outside_config *c = r->config;
	u32 ops = c->ops | BIT(OUTSIDE_NONE);
	u64 done = 0, total = (u64)c->passes * (u32)__builtin_popcount(ops);
	int ret = 0;

	for (u32 pass = 0; pass < c->passes; pass++)
		for (int op = 0; op < OUTSIDE_OP_NR && !ret; op++) {
			if (!(ops & BIT(op)))
				continue;
			if (c->progress)
				c->progress(done++, total, c->arg);
			ret = c->stop && READ_ONCE(*c->stop) ? -EINTR : measure(r, op, err);
		}
	return ret;
}

static int init(struct outside_run *r, struct err *err)
{
	u32 ops = r->config->ops | BIT(OUTSIDE_NONE);
	char name[64];
	int ret = 0;

	for (int time = 0; time < OUTSIDE_TIME_NR && !ret; time++) {
		ret = hist_init(&r->now[time]);
		for (int op = 0; op < OUTSIDE_OP_NR && !ret; op++) {
			struct outside_row *row = &r->result->row[op][time];

			if (ops & BIT(op) && outside_time_name(name, sizeof(name), op, time))
				ret = hist_init(&row->ns) ?: blocks_init(&row->blocks, r->config->passes);
		}
	}
	return ret ? err_set(err, -ENOMEM, "no memory for the histograms") : 0;
}

void bench_outside_destroy(struct bench_outside_result *result)
{
	for (int op = 0; op < OUTSIDE_OP_NR; op++)
		for (int time = 0; time < OUTSIDE_TIME_NR; time++) {
			hist_destroy(&result->row[op][time].ns);
			blocks_destroy(&result->row[op][time].blocks);
		}
}

static int check(const struct machine_config *c, struct err *err)
{
	if (!c->engine->outside)
		return err_set(err, -EINVAL, "engine %s: its guest's memory is this process's; engine qemu's is not",
			       c->engine->name);
	if (c->vcpus != 1 || c->bytes < 4 * NEAR_SWAP * PAGE_SIZE)
		return err_set(err, -EINVAL, "one vCPU, and at least %lu bytes of memory", 4 * NEAR_SWAP * PAGE_SIZE);
	return 0;
}

int bench_outside_run(const struct bench_outside_config *config, struct bench_outside_result *result, struct err *err)
{
	struct outside_run r = { .config = config, .result = result };
	u64 start = clock_ns();
	int ret = check(&config->machine, err), end = 0;

	memset(result, 0, sizeof(*result));
	if (ret)
		return ret;
	ret = init(&r, err);
	ret = ret ?: touch_start(&r.touch, &config->machine, config->stop, err);
	if (!ret) {
		result->id = r.touch.machine.id;
		result->ran = true;
		if (config->started)
			config->started(&result->id, config->arg);
		ret = all_passes(&r, err);
		end = touch_end(&r.touch, ret ? NULL : err);
	}
	result->elapsed_ns = clock_ns() - start;
	for (int time = 0; time < OUTSIDE_TIME_NR; time++)
		hist_destroy(&r.now[time]);
	return ret ?: end;
}
