/* SPDX-License-Identifier: MIT */
/* bench fault -u: see lab/bench/uffd.h. */
#include "lab/bench/uffd.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "lab/machine/touch.h"
#include "lib/time.h"

const char *const bench_placement_names[BENCH_PLACEMENT_NR + 1] = { "thread", "same-cpu", "vcpu" };

struct uffd_run {
	const struct bench_uffd_config *config;
	struct bench_uffd_result *result;
	struct touch touch;
	struct uffd uffd;
	struct uffd *live;	    /* released when open: vCPUs may resolve */
	u32 tried[GUEST_MAX_VCPUS]; /* in vain; each by its vCPU */
	void *source;
	struct hist now;
};

const char *bench_uffd_cause(enum uffd_mode mode)
{
	static const char *const names[UFFD_MODE_NR] = { "uffd_missing", "uffd_minor", "uffd_wp" };

	return names[mode];
}

enum host_backing bench_uffd_backing(enum uffd_mode mode)
{
	return mode == UFFD_MINOR ? HOST_MEMFD : HOST_ANONYMOUS;
}

static bool resolve_inline(u32 vcpu, u64 off, void *arg)
{
	struct uffd_run *b = arg;
	struct uffd *u = smp_load_acquire(&b->live); /* pairs with open_uffd()'s release */

	if (u && b->tried[vcpu] < b->config->in_vain) {
		b->tried[vcpu]++;
		return true;
	}
	b->tried[vcpu] = 0;
	return u && !uffd_resolve(u, u->config.start + off);
}

static int warm(struct uffd_run *b, struct err *err)
{
	struct guest_command all = { .pages = touch_part(&b->touch), .write = 1 };

	return touch_run(&b->touch, &all, NULL, NULL, NULL, err);
}

static int open_uffd(struct uffd_run *b, struct err *err)
{
	struct machine *m = &b->touch.machine;
	enum bench_placement placement = b->config->placement;
	struct uffd_config c = {
		.mode = b->config->mode,
		.placement = placement == BENCH_VCPU ? UFFD_INLINE : UFFD_THREAD,
		.cpu = placement == BENCH_SAME_CPU ? m->vcpu[0].cpu : machine_host_cpu(m),
		.window = b->config->window,
		.start = m->host.data,
		.bytes = m->host.bytes,
	};
	int ret;

	if (c.mode == UFFD_MISSING) {
		b->source = mmap(NULL, c.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (b->source == MAP_FAILED) {
			b->source = NULL;
			return err_set(err, -ENOMEM, "no memory for the pages' contents");
		}
		memset(b->source, 1, c.bytes);
		c.source = b->source;
	}
	ret = uffd_open(&b->uffd, &c, err);
	if (ret)
		return ret;
	smp_store_release(&b->live, &b->uffd);
	ret = uffd_register(&b->uffd, c.start, c.bytes);
	return ret ? err_set(err, ret, "%s: UFFDIO_REGISTER: %s", bench_uffd_cause(c.mode), strerror(-ret)) : 0;
}

static int one_pass(struct uffd_run *b, struct err *err)
{
	struct host *host = &b->touch.machine.host;
	struct guest_command command = { .pages = touch_part(&b->touch), .write = 1, .timed = !b->config->untimed };
	struct bench_row *row = &b->result->row;
	u64 ns = 0, accesses = 0;
	u32 apart = b->config->apart;
	int ret;

	if (apart) {
		command.order = GUEST_ORDER_STRIDE;
		command.stride = apart;
		command.limit = (command.pages + apart - 1) / apart;
	}
	if (b->config->mode == UFFD_WP)
		ret = uffd_protect(&b->uffd, host->data, host->bytes);
	else
		ret = host->ops->dontneed(host, 0, host->bytes);
	if (ret)
		return err_set(err, ret, "%s: cannot prepare a pass: %s", bench_uffd_cause(b->config->mode),
			       strerror(-ret));
	hist_reset(&b->now);
	ret = touch_run(&b->touch, &command, &ns, &accesses, &b->now, err);
	hist_merge(&row->ns, &b->now);
	row->elapsed_ns += ns;
	row->accesses += accesses;
	row->ran |= accesses != 0;
	if (!ret)
		blocks_add(&row->blocks, &b->now);
	return ret;
}

static void compare(struct uffd_run *b)
{
	const struct bench_uffd_config *c = b->config;
	struct figure *f = &b->result->figure;
	double rate[BENCH_PLACE_NR], faster,
		own = (double)b->result->row.accesses * 1e9 / (double)b->result->row.elapsed_ns;
	struct err why = { "" };
	int ret = 0;

	*f = (struct figure){ .what = "each fault brings its window in", .peer = "demand_paging_test -u MISSING -v 1" };
	if (c->window == 1) {
		snprintf(f->name, sizeof(f->name), "uffd MISSING, single page, %s: time of a page",
			 bench_placement_names[c->placement]);
		f->what = "one page a fault";
		f->unit = cycles_unit_name();
		f->at_most = true;
		f->bound = 0.5;
	} else {
		snprintf(f->name, sizeof(f->name), "uffd MISSING, fault-around %u pages, %s", c->window,
			 bench_placement_names[c->placement]);
		f->unit = "/s";
		f->bound = c->window >= 16 ? 10 : 0;
	}
	for (int place = 0; place < BENCH_PLACE_NR && !ret; place++)
		ret = bench_peer_rate(c->demand_paging_test, "MISSING", c->machine.bytes, place, c->stop, &rate[place],
				      &why);
	if (ret) {
		figure_skip(f, "%s", why.text);
		return;
	}
	faster = max(rate[BENCH_ANYWHERE], rate[BENCH_ONE_CPU]);
	if (c->window == 1)
		figure_add(f, ns_to_unit(1e9 / own), ns_to_unit(1e9 / faster));
	else
		figure_add(f, own, faster);
	snprintf(f->note, sizeof(f->note), "the peer's faster one: %s %.0f, %s %.0f pages/s",
		 bench_place_names[BENCH_ANYWHERE], rate[BENCH_ANYWHERE], bench_place_names[BENCH_ONE_CPU],
		 rate[BENCH_ONE_CPU]);
}

static int measure(struct uffd_run *b, struct err *err)
{
	const struct bench_uffd_config *c = b->config;
	int ret;

	thread_pin(machine_host_cpu(&b->touch.machine));
	ret = warm(b, err) ?: open_uffd(b, err);
	for (u32 pass = 0; pass < c->passes && !ret; pass++) {
		if (c->progress)
			c->progress(pass, c->passes, c->arg);
		ret = c->stop && READ_ONCE(*c->stop) ? -EINTR : one_pass(b, err);
	}
	thread_pin(-1);
	return ret;
}

int bench_uffd_run(const struct bench_uffd_config *config, struct bench_uffd_result *r, struct err *err)
{
	struct uffd_run b = { .config = config, .result = r, .uffd = { .fd = -1, .stop_fd = -1 } };
	struct machine_config machine = config->machine;
	struct vm_stats stats = { 0 };
	int ret, end;

	memset(r, 0, sizeof(*r));
	ret = uffd_probe(config->mode, config->placement == BENCH_VCPU ? UFFD_INLINE : UFFD_THREAD, err);
	if (ret)
		return ret;
	if (hist_init(&r->row.ns) || hist_init(&r->handler) || hist_init(&b.now) ||
	    blocks_init(&r->row.blocks, config->passes)) {
		hist_destroy(&b.now);
		return err_set(err, -ENOMEM, "no memory for the histograms");
	}
	machine.fault = config->placement == BENCH_VCPU ? resolve_inline : NULL;
	machine.arg = &b;
	ret = touch_start(&b.touch, &machine, config->stop, err);
	if (ret)
		goto destroy;
	r->id = b.touch.machine.id;
	r->ran = true;
	if (config->started)
		config->started(&r->id, config->arg);
	ret = measure(&b, err);
	vm_get_stats(b.touch.machine.vm, &stats);
	r->mmu_faults = stats.faults;
	end = touch_end(&b.touch, ret ? NULL : err);
	if (end)
		return ret ?: end; /* a vCPU is still there: so is what it uses */
	uffd_close(&b.uffd);
	for (int i = 0; i < UFFD_COUNT_NR; i++)
		r->count[i] = uffd_counted(&b.uffd, i);
	r->row.faults = r->count[UFFD_FAULTS];
	if (b.uffd.ns.buckets)
		hist_merge(&r->handler, &b.uffd.ns);
	uffd_destroy(&b.uffd);
	if (!ret && config->mode == UFFD_MISSING && config->demand_paging_test)
		compare(&b);
destroy:
	if (b.source)
		munmap(b.source, machine.bytes);
	hist_destroy(&b.now);
	return ret;
}

void bench_uffd_destroy(struct bench_uffd_result *r)
{
	hist_destroy(&r->row.ns);
	hist_destroy(&r->handler);
	blocks_destroy(&r->row.blocks);
}
