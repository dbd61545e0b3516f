/* SPDX-License-Identifier: MIT */
/* bench fault: one fault per sample, of the guest and of the host alone. See lab/bench/fault_internal.h. */
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "lab/bench/fault_internal.h"
#include "lib/time.h"

#define OVERHEAD_PAGES 16
#define OVERHEAD_ROUNDS 64
#define HUGE_PAGES 512u
#define APART_BYTES (16ull << 20) /* per vCPU */

/* Its faults are far apart and many: a part of the memory gives enough of them, and is prepared sooner. */
u64 bench_apart_bytes(const struct machine_config *config)
{
	return min(config->bytes, config->vcpus * APART_BYTES);
}

static u64 host_access(u64 *at, u64 value, bool read)
{
	u64 begin = bench_stamp_begin();

	if (read)
		(void)READ_ONCE(*at);
	else
		WRITE_ONCE(*at, value);
	return cycles_to_unit(bench_stamp_end() - begin);
}

/* Where a fault may bring a huge page in, the next page is in the next one. */
static u64 apart_of(const struct bench_run *b, const struct bench_recipe *r)
{
	const u32 huge = BIT(HOST_ANONYMOUS_HUGETLB_2MB) | BIT(HOST_FILE_SHARED);

	return host_backing_table[b->backing].thp || huge & BIT(b->backing) ? max(r->apart, HUGE_PAGES) : r->apart;
}

static u64 *word_of(struct bench_run *b, u64 page)
{
	return (u64 *)(uintptr_t)(b->touch.machine.host.data + page * PAGE_SIZE + GUEST_TOUCH_OFFSET(page));
}

void bench_host_overhead(struct bench_run *b)
{
	struct bench_row *row = &b->result->host[BENCH_OVERHEAD];
	u64 pages = min((u64)OVERHEAD_PAGES, b->touch.machine.host.bytes / PAGE_SIZE), start = clock_ns();

	hist_reset(&b->now);
	for (u64 i = 0; i < pages * OVERHEAD_ROUNDS; i++)
		hist_add(&b->now, host_access(word_of(b, i % pages), i % pages + 1, false));
	row->elapsed_ns += clock_ns() - start;
	row->accesses += pages * OVERHEAD_ROUNDS;
	row->ran = true;
	hist_merge(&row->ns, &b->now);
	blocks_add(&row->blocks, &b->now);
}

static u64 host_faults(void)
{
	struct rusage usage;

	if (getrusage(RUSAGE_THREAD, &usage))
		return 0;
	return (u64)usage.ru_minflt + (u64)usage.ru_majflt;
}

/*
 * Where the host's part is timed: on the vCPU's processor, which runs no guest meanwhile. Who replaces a page (COW) has
 * the TLBs flushed of each processor that runs this address space, and KVM the guest's. From another processor that is
 * an interrupt or two for each page, and takes longer than all the rest; the vCPU that faults itself has nobody to
 * interrupt. Of several vCPUs the others still are.
 */
static int host_place(const struct bench_run *b)
{
	const struct machine *m = &b->touch.machine;

	return m->config.engine->outside ? machine_host_cpu(m) : m->vcpu[0].cpu;
}

/* The pages that the guest would touch, by this thread. */
static void host_touch(struct bench_run *b, const struct bench_recipe *r, struct bench_row *row)
{
	u64 pages = b->touch.machine.host.bytes / PAGE_SIZE, apart = apart_of(b, r);
	u64 faults, start;

	thread_pin(host_place(b));
	faults = host_faults();
	start = clock_ns();
	for (u64 page = 0; page < pages; page += apart)
		hist_add(&b->now, host_access(word_of(b, page), page + 1, r->read));
	row->elapsed_ns += clock_ns() - start;
	row->faults += host_faults() - faults;
	thread_pin(machine_host_cpu(&b->touch.machine));
}

/* A sample is a fault, or it is not one of this cause's. */
static int enough(enum bench_cause cause, u64 faults, u64 samples, struct err *err)
{
	if (faults >= samples)
		return 0;
	if (faults)
		return err_set(err, -EOPNOTSUPP, "%llu accesses far apart made %llu faults: each brings more memory in",
			       (unsigned long long)samples, (unsigned long long)faults);
	return err_set(err, -EOPNOTSUPP, "the second MMU takes no fault for it here%s",
		       cause == BENCH_WRITE_PROTECT ? ": the processor logs writes itself (PML)" : "");
}

static int guest_touch(struct bench_run *b, enum bench_cause cause, struct err *err)
{
	struct bench_row *row = &b->result->row[cause][BENCH_APART];
	const struct bench_recipe *r = bench_recipe(cause);
	u64 part = touch_part(&b->touch), apart = apart_of(b, r), faults = bench_mmu_faults(b), ns = 0;
	const struct guest_command command = {
		.pages = part,
		.order = GUEST_ORDER_STRIDE,
		.stride = apart,
		.limit = (part + apart - 1) / apart,
		.write = !r->read,
		.timed = GUEST_SAMPLE_CYCLES,
	};
	int ret = touch_run(&b->touch, &command, &ns, NULL, &b->now, err);

	if (ret)
		return ret;
	faults = bench_mmu_faults(b) - faults;
	ret = b->result->counted ? enough(cause, faults, hist_count(&b->now), err) : 0;
	if (ret)
		return ret;
	row->elapsed_ns += ns;
	row->faults += faults;
	b->result->accesses += hist_count(&b->now);
	return r->check ? r->check(b, err) : 0;
}

static void keep(struct bench_row *row, const struct hist *pass)
{
	row->ran = true;
	row->accesses += hist_count(pass);
	hist_merge(&row->ns, pass);
	blocks_add(&row->blocks, pass);
}

/* A pass counts whole or not at all. */
static int half(struct bench_run *b, enum bench_cause cause, bool guest, struct err *err)
{
	const struct bench_recipe *r = bench_recipe(cause);
	struct bench_row *row = guest ? &b->result->row[cause][BENCH_APART] : &b->result->host[cause];
	int ret = r->prepare(b, err), end;

	if (ret)
		return ret;
	hist_reset(&b->now);
	if (guest)
		ret = guest_touch(b, cause, err);
	else
		host_touch(b, r, row);
	end = r->end ? r->end(b, ret ? NULL : err) : 0;
	if (!ret && !end)
		keep(row, &b->now);
	return ret ?: end;
}

static int with_uffd(struct bench_run *b, enum bench_cause cause, struct err *err)
{
	const struct bench_recipe *r = bench_recipe(cause);
	struct bench_row *row = &b->result->row[cause][BENCH_APART];
	struct bench_uffd_config config = {
		.machine = b->config->machine,
		.mode = r->mode,
		.placement = r->placement,
		.window = r->window,
		.apart = r->apart,
		.passes = 1,
		.stop = b->config->stop,
	};
	u64 bytes = bench_apart_bytes(&config.machine);
	struct bench_uffd_result u;
	int ret;

	if (bytes / PAGE_SIZE / config.machine.vcpus % r->window)
		return err_set(err, -EOPNOTSUPP, "a vCPU's part of the memory is no multiple of %u pages", r->window);
	config.machine.backing = bench_uffd_backing(r->mode);
	config.machine.bytes = bytes;
	ret = bench_uffd_run(&config, &u, err);
	if (!ret) {
		row->elapsed_ns += u.row.elapsed_ns;
		row->faults += u.row.faults;
		b->faults += u.mmu_faults;
		b->result->accesses += u.row.accesses;
		keep(row, &u.row.ns);
	}
	bench_uffd_destroy(&u);
	return ret == -EPERM ? -EOPNOTSUPP : ret;
}

/* Once, and of one vCPU: more would be in each other's way, and in that of the recording. */
static int events(struct bench_run *b, enum bench_cause cause, struct err *err)
{
	const struct machine_config *c = &b->config->machine;

	if (b->pass || c->vcpus != 1 || c->engine->outside || b->result->no_trace[0])
		return 0;
	return bench_traced(b, cause, err);
}

int bench_apart(struct bench_run *b, enum bench_cause cause, struct err *err)
{
	struct err why = { "" };
	int ret;

	if (b->result->skip[cause][0]) /* it will not be different in the next pass */
		return 0;
	if (bench_recipe(cause)->prepare)
		ret = half(b, cause, true, &why) ?: half(b, cause, false, &why) ?: events(b, cause, &why);
	else
		ret = with_uffd(b, cause, &why);
	if (ret == -EOPNOTSUPP) {
		snprintf(b->result->skip[cause], sizeof(b->result->skip[cause]), "%.239s", why.text);
		return 0;
	}
	return ret ? err_set(err, ret, "%s: %s", bench_cause_table[cause].name, why.text) : 0;
}

void bench_shares(const struct bench_fault_result *r, enum bench_cause cause, struct bench_shares *s)
{
	u64 host_overhead = hist_percentile(&r->host[BENCH_OVERHEAD].ns, 50), whole, host;

	*s = (struct bench_shares){ .overhead = hist_percentile(&r->row[BENCH_OVERHEAD][BENCH_SEQUENTIAL].ns, 50) };
	whole = hist_percentile(&r->row[cause][BENCH_APART].ns, 50);
	s->overhead = min(s->overhead, whole);
	host = hist_percentile(&r->host[cause].ns, 50);
	host -= min(host, host_overhead);
	/* Two measurements: where the one alone is more than both together they cannot be subtracted. */
	s->host_known = min(hist_count(&r->row[cause][BENCH_APART].ns), hist_count(&r->host[cause].ns)) >=
				BENCH_SHARES_SAMPLES &&
			r->host[cause].ran && host <= whole - s->overhead;
	s->host = s->host_known ? host : 0;
	s->mmu = whole - s->overhead - s->host;
}
