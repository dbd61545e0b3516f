/* SPDX-License-Identifier: MIT */
/* bench interference: see lab/bench/interference.h. */
#include "lab/bench/interference.h"

#include <stdio.h>
#include <string.h>

#include "lab/machine/touch.h"
#include "lib/time.h"

#define TURN_NS (60 * NSEC_PER_SEC) /* a hang */

struct interference {
	const struct interference_config *config;
	struct interference_result *result;
	struct touch touch;
	struct hist now; /* of the phase under way */
};

const char *const interference_guest_names[INTERFERENCE_GUEST_NR] = { "warm", "faulting" };
const char *const interference_phase_names[INTERFERENCE_PHASE_NR] = { "quiet", "disturbed" };

static u64 mmu_faults(struct interference *b)
{
	struct vm_stats stats = { 0 };

	vm_get_stats(b->touch.machine.vm, &stats);
	b->result->counted = stats.counted;
	return stats.faults;
}

/* Buckets are narrow: their lower bound will do. */
static void add_stalls(struct interference_side *side, const struct hist *h, u64 limit)
{
	u64 lo, hi, count;
	size_t pos = 0;

	while (hist_next_bucket(h, &pos, &lo, &hi, &count)) {
		side->stalls += lo >= limit ? count : 0;
		side->stalled_ns += lo >= limit ? count * lo : 0;
	}
}

/*
 * On a busy machine a short phase is over before the disturber has had a turn; so it waits
 * for one. What is done by a thread of the kernel's may never come.
 */
static bool is_awaited(const struct disturbance *d, u64 ns)
{
	return d && d->kind != DISTURB_KSM && d->kind != DISTURB_KHUGEPAGED && ns < TURN_NS && !READ_ONCE(d->work) &&
	       !READ_ONCE(d->ret);
}

/* One phase: the guest at work for as long as it lasts, in passes over its memory. @d: who disturbs it, or NULL. */
static int one_phase(struct interference *b, enum interference_guest guest, struct interference_side *side,
		     const struct disturbance *d, struct err *err)
{
	const struct guest_command command = { .pages = ~0ull, .write = 1, .timed = GUEST_SAMPLE_GAP };
	struct host *host = &b->touch.machine.host;
	u64 start = clock_ns(), faults = mmu_faults(b), past, ns;
	int ret = 0;

	hist_reset(&b->now);
	while (!ret && ((past = clock_ns() - start) < b->config->phase_ns || is_awaited(d, past))) {
		if (guest == INTERFERENCE_FAULTING)
			ret = host->ops->dontneed(host, 0, host->bytes);
		if (ret)
			return err_set(err, ret, "MADV_DONTNEED: %s", strerror(-ret));
		ret = touch_run(&b->touch, &command, &ns, NULL, &b->now, err);
		side->guest_ns += ret ? 0 : ns;
	}
	side->faults += mmu_faults(b) - faults;
	if (ret)
		return ret;
	add_stalls(side, &b->now, b->config->stall_ns);
	hist_merge(&side->ns, &b->now);
	blocks_add(&side->blocks, &b->now);
	return 0;
}

/* Quiet and disturbed, one after the other, the guest warmed before each. */
static int one_round(struct interference *b, enum disturber kind, enum interference_guest guest, struct err *err)
{
	const struct guest_command all = { .pages = ~0ull, .write = 1 };
	struct interference_row *row = &b->result->row[kind][guest];
	struct machine *m = &b->touch.machine;
	u64 p50, p99, work = 0, start;
	struct disturbance d = {
		.kind = kind,
		.vm = m->vm,
		.data_bytes = m->config.bytes,
		.pause_ns = b->config->pause_ns,
	};
	int ret, end;

	ret = touch_run(&b->touch, &all, NULL, NULL, NULL, err);
	ret = ret ?: one_phase(b, guest, &row->side[INTERFERENCE_QUIET], NULL, err);
	if (ret)
		return ret;
	p50 = hist_percentile(&b->now, 50);
	p99 = hist_percentile(&b->now, 99);
	ret = touch_run(&b->touch, &all, NULL, NULL, NULL, err);
	ret = ret ?: disturbance_begin(&d, machine_host_cpu(m), err);
	if (ret)
		return ret;
	start = clock_ns();
	ret = one_phase(b, guest, &row->side[INTERFERENCE_DISTURBED], &d, err);
	row->work_ns += clock_ns() - start;
	end = disturbance_end(&d, &work, ret ? NULL : err);
	row->work += work;
	if (ret || end)
		return ret ?: end;
	figure_add(&row->p50, (double)hist_percentile(&b->now, 50), (double)p50);
	figure_add(&row->p99, (double)hist_percentile(&b->now, 99), (double)p99);
	row->ran = true;
	return 0;
}

static void skip(struct interference *b, enum disturber kind, const char *why)
{
	snprintf(b->result->skip[kind], sizeof(b->result->skip[kind]), "%.239s", why);
}

/* Both guests. */
static int one_disturber(struct interference *b, enum disturber kind, struct err *err)
{
	struct err why = { "" };
	int ret = 0;

	for (int guest = 0; guest < INTERFERENCE_GUEST_NR && !ret; guest++)
		ret = one_round(b, kind, guest, &why);
	if (ret == -EOPNOTSUPP) {
		skip(b, kind, why.text);
		return 0;
	}
	return ret ? err_set(err, ret, "%s: %s", disturber_table[kind].name, why.text) : 0;
}

static int all_rounds(struct interference *b, struct err *err)
{
	const struct interference_config *c = b->config;
	u64 done = 0, total = (u64)c->rounds * DISTURB_NR;

	for (u32 round = 0; round < c->rounds; round++)
		for (int kind = 0; kind < DISTURB_NR; kind++) {
			int ret = 0;

			if (c->progress)
				c->progress(done++, total, c->arg);
			if (c->stop && READ_ONCE(*c->stop))
				return -EINTR;
			if (c->disturbers & BIT(kind) && !b->result->skip[kind][0])
				ret = one_disturber(b, kind, err);
			if (ret)
				return ret;
		}
	return 0;
}

/* A disturber that did nothing disturbed nobody: that is no measurement. */
static void judge(struct interference *b)
{
	for (int kind = 0; kind < DISTURB_NR; kind++) {
		struct interference_row *row = b->result->row[kind];
		bool measured = row[INTERFERENCE_WARM].ran;

		for (int guest = 0; guest < INTERFERENCE_GUEST_NR; guest++)
			row[guest].ran &= row[guest].work != 0;
		if (measured && !row[INTERFERENCE_WARM].ran && !row[INTERFERENCE_FAULTING].ran)
			skip(b, kind, "it did nothing meanwhile; a longer --time gives it more");
	}
}

static int init_rows(struct interference *b, struct err *err)
{
	int ret = hist_init(&b->now);

	for (int kind = 0; kind < DISTURB_NR && !ret; kind++)
		for (int guest = 0; guest < INTERFERENCE_GUEST_NR && !ret; guest++) {
			struct interference_row *row = &b->result->row[kind][guest];

			row->p50.peer = row->p99.peer = interference_phase_names[INTERFERENCE_QUIET];
			for (int phase = 0; phase < INTERFERENCE_PHASE_NR && !ret; phase++)
				ret = hist_init(&row->side[phase].ns)
					      ?: blocks_init(&row->side[phase].blocks, b->config->rounds);
		}
	return ret ? err_set(err, ret, "no memory for the histograms") : 0;
}

void interference_destroy(struct interference_result *r)
{
	for (int kind = 0; kind < DISTURB_NR; kind++)
		for (int guest = 0; guest < INTERFERENCE_GUEST_NR; guest++)
			for (int phase = 0; phase < INTERFERENCE_PHASE_NR; phase++) {
				hist_destroy(&r->row[kind][guest].side[phase].ns);
				blocks_destroy(&r->row[kind][guest].side[phase].blocks);
			}
}

static int measure(struct interference *b, struct err *err)
{
	const struct interference_config *c = b->config;
	int ret;

	if (b->touch.machine.cpus < 2)
		return err_set(err, -EOPNOTSUPP, "it takes two processors: one for the guest, one for the disturber");
	b->result->id = b->touch.machine.id;
	b->result->ran = true;
	if (c->started)
		c->started(&b->result->id, c->arg);
	thread_pin(machine_host_cpu(&b->touch.machine));
	ret = all_rounds(b, err);
	thread_pin(-1);
	judge(b);
	return ret;
}

int interference_run(const struct interference_config *config, struct interference_result *result, struct err *err)
{
	struct interference b = { .config = config, .result = result };
	struct machine_config machine = config->machine;
	u64 start = clock_ns();
	int ret, end;

	memset(result, 0, sizeof(*result));
	ret = init_rows(&b, err);
	if (ret)
		goto destroy;
	machine.vcpus = 1;
	ret = touch_start(&b.touch, &machine, config->stop, err);
	if (ret)
		goto destroy;
	ret = measure(&b, err);
	result->faults = mmu_faults(&b);
	end = touch_end(&b.touch, ret ? NULL : err);
	ret = ret ?: end;
	result->elapsed_ns = clock_ns() - start;
destroy:
	hist_destroy(&b.now);
	return ret;
}
