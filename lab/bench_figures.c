/* SPDX-License-Identifier: MIT */
/*
 * bench figures: the project's yardsticks, see lab/bench.h. Each round measures all
 * of them, so that value and peer of a ratio come from the same minutes.
 */
#include "lab/bench.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "lab/bench_uffd.h"
#include "lab/stress.h"
#include "lab/touch.h"
#include "lib/time.h"

enum {
	FIGURE_TLB_HIT,
	FIGURE_SOFT_FIRST_TOUCH,
	FIGURE_SOFT_STRESS,
	FIGURE_SOFT_OVERHEAD,
	FIGURE_KVM_COLD,
	FIGURE_KVM_TWO,
	FIGURE_KVM_UFFD_16,
	FIGURE_KVM_UFFD_1,
	FIGURE_KVM_COUNTED,
	FIGURE_KVM_OVERHEAD,
	FIGURE_NR
};
_Static_assert(FIGURE_NR <= FIGURES_MAX, "figures fit the result");

static const struct figure figure_table[FIGURE_NR] = {
	[FIGURE_TLB_HIT] = { .name = "soft: guest access, TLB hit",
			     .what = "64 warm pages in turn, mean of 64 passes, the loop included",
			     .unit = "ns",
			     .at_most = true,
			     .bound = 5 },
	[FIGURE_SOFT_FIRST_TOUCH] = { .name = "soft: first-touch fault, p50",
				      .what = "zeroing included, sequential, as the guest times it",
				      .unit = "ns",
				      .peer = "Linux anonymous fault, p50",
				      .at_most = true,
				      .bound = 0.5 },
	[FIGURE_SOFT_STRESS] = { .name = "soft: stress with the oracle on",
				 .what = "checked accesses a second per vCPU, all operations, 1 vCPU, 4 MiB",
				 .unit = "/s",
				 .bound = 2e6 },
	[FIGURE_SOFT_OVERHEAD] = { .name = "soft: own overhead per measured fault",
				   .what = "a warm page timed the same way, p50",
				   .unit = "ns" },
	[FIGURE_KVM_COLD] = { .name = "kvm: cold guest faults",
			      .what = "pages a second, anonymous, 1 vCPU, sequential",
			      .unit = "/s",
			      .peer = "demand_paging_test -v 1",
			      .bound = 5 },
	[FIGURE_KVM_TWO] = { .name = "kvm: cold guest faults, two vCPUs",
			     .what = "pages a second, each with a processor and memory of its own; from the first "
				     "start to the last end",
			     .unit = "/s",
			     .peer = "one vCPU, on one processor",
			     .bound = 1.8 },
	[FIGURE_KVM_UFFD_16] = { .name = "kvm: uffd MISSING, fault-around 16 pages",
				 .what = "pages a second, resolved in the faulting thread, every page touched",
				 .unit = "/s",
				 .peer = "demand_paging_test -u MISSING -v 1",
				 .bound = 10 },
	[FIGURE_KVM_UFFD_1] = { .name = "kvm: uffd MISSING, single page",
				.what = "time of a page, resolved in the faulting thread",
				.unit = "ns",
				.peer = "demand_paging_test -u MISSING -v 1",
				.at_most = true,
				.bound = 0.5 },
	[FIGURE_KVM_COUNTED] = { .name = "kvm: faults counted by KVM over those made",
				 .what = "pf_taken, pages apart; or the inverse, if that is more",
				 .unit = "",
				 .at_most = true,
				 .bound = 1 },
	[FIGURE_KVM_OVERHEAD] = { .name = "kvm: own overhead per measured fault",
				  .what = "a warm page timed the same way, p50",
				  .unit = "ns" },
};

#define TURNS 4 /* of a round; on a busy machine some are disturbed, so the fastest counts, of the peer too */
#define TWO_BYTES (2ull << 20)		/* of each vCPU */
#define TWO_NAP_NS (12 * NSEC_PER_USEC) /* a page: by then it has its fault behind it */
#define IN_VAIN 2			/* tries before a page is resolved */
#define TLB_PAGES 64
#define TLB_REPEAT 64 /* passes a command: what a command costs itself is no access */
#define TLB_COMMANDS 500
#define STRESS_NS (2 * NSEC_PER_SEC)

struct figures {
	const struct figures_config *config;
	struct figures_result *result;
	u64 done;
	/* By round, in a figure's unit: tain's own and the peer's in each place. */
	double own[FIGURE_NR][BENCH_PLACE_NR][FIGURE_ROUNDS_MAX], peer[FIGURE_NR][BENCH_PLACE_NR][FIGURE_ROUNDS_MAX];
	double in_vain[FIGURE_ROUNDS_MAX]; /* ns of a KVM_RUN that fails, and is entered again */
};

static void add(struct figures *f, int which, double value, double other)
{
	figure_add(&f->result->figure[which], value, other);
}

static void skip(struct figures *f, int which, const char *why)
{
	figure_skip(&f->result->figure[which], "%s", why);
}

static int tell(struct figures *f)
{
	const struct figures_config *c = f->config;

	if (c->progress)
		c->progress(f->done++, (u64)c->rounds * 4, c->arg);
	return c->stop && READ_ONCE(*c->stop) ? -EINTR : 0;
}

static struct machine_config machine_of(struct figures *f, const char *engine)
{
	return (struct machine_config){
		.engine = engine_find(engine),
		.vcpus = 1,
		.bytes = f->config->bytes,
		.seed = f->config->seed,
	};
}

/*
 * Passes over pages that stay in the TLB, timed as a whole. An access is billed with what
 * the guest's loop does between two: the next page's address.
 */
static int measure_tlb_hit(struct figures *f, struct err *err)
{
	struct guest_command command = { .pages = TLB_PAGES, .repeat = TLB_REPEAT };
	struct machine_config config = machine_of(f, "soft");
	struct hist taken;
	struct touch t;
	u64 ns;
	int ret;

	if (hist_init(&taken))
		return err_set(err, -ENOMEM, "no memory for a histogram");
	ret = touch_start(&t, &config, f->config->stop, err);
	if (ret)
		goto destroy;
	for (int i = 0; i < TLB_COMMANDS && !ret; i++) {
		ret = touch_run(&t, &command, &ns, NULL, NULL, err);
		if (!ret) /* else the guest may still be at it */
			hist_add(&taken, READ_ONCE(vm_guest_vcpu(t.machine.vm, 0)->command_cycles));
	}
	if (!ret)
		add(f, FIGURE_TLB_HIT,
		    (double)hist_percentile(&taken, 50) * 1e6 / (double)cycles_khz() / (TLB_PAGES * TLB_REPEAT), 0);
	ret = touch_end(&t, ret ? NULL : err) ?: ret;
destroy:
	hist_destroy(&taken);
	return ret;
}

static int measure_soft_faults(struct figures *f, struct err *err)
{
	struct bench_fault_config config;
	struct bench_fault_result r;
	int ret;

	bench_fault_config_init(&config, engine_find("soft"));
	config.machine = machine_of(f, "soft");
	config.passes = 1;
	config.stop = f->config->stop;
	ret = bench_fault_run(&config, &r, err);
	if (!ret) {
		add(f, FIGURE_SOFT_FIRST_TOUCH,
		    (double)hist_percentile(&r.row[BENCH_FIRST_TOUCH][BENCH_SEQUENTIAL].ns, 50),
		    (double)hist_percentile(&r.row[BENCH_HOST_FAULT][BENCH_SEQUENTIAL].ns, 50));
		add(f, FIGURE_SOFT_OVERHEAD, (double)hist_percentile(&r.row[BENCH_OVERHEAD][BENCH_SEQUENTIAL].ns, 50),
		    0);
	}
	bench_fault_destroy(&r);
	return ret;
}

static int measure_stress(struct figures *f, struct err *err)
{
	struct stress_config config;
	struct stress_result r;
	int ret;

	stress_config_init(&config, engine_find("soft"));
	config.machine.vcpus = 1;
	config.machine.seed = f->config->seed + f->result->figure[FIGURE_SOFT_STRESS].rounds;
	config.time_ns = STRESS_NS;
	config.stop = f->config->stop;
	ret = stress_run(&config, &r, err);
	if (!ret && r.log.total)
		ret = err_set(err, -EIO, "stress: %llu violations; run `tain stress`", (unsigned long long)r.log.total);
	if (!ret)
		add(f, FIGURE_SOFT_STRESS, (double)r.checked * 1e9 / (double)r.elapsed_ns, 0);
	violation_log_destroy(&r.log);
	return ret;
}

/* A turn is short, so that some of several are undisturbed. */
static u64 turn_bytes(const struct figures *f)
{
	return max(align_down(f->config->bytes / 4, 1ull << 20), 1ull << 20);
}

/* What is set against the peer: a rate, pages a second. */
typedef int turn_fn(struct figures *f, u32 n, enum bench_place place, double *rate, struct err *err);

/*
 * Memory that is touched for the first time. @vcpus: each on a processor of its own, or anywhere.
 * @bytes: of all. @nap_ns: for so long nobody looks whether they are done.
 */
static int touch_cold(struct figures *f, u32 vcpus, bool any_cpu, u64 bytes, u64 nap_ns, double *rate, struct err *err)
{
	struct guest_command all = { .pages = ~0ull, .write = 1 }, none = { .pages = 0 };
	struct machine_config config = machine_of(f, "kvm");
	struct touch t;
	u64 ns, pages;
	int ret;

	config.vcpus = vcpus;
	config.any_cpu = any_cpu;
	config.bytes = bytes;
	ret = touch_start(&t, &config, f->config->stop, err);
	if (ret)
		return ret;
	ret = touch_run(&t, &none, NULL, NULL, NULL,
			err); /* who has answered waits for the next, and begins with the others */
	t.nap_ns = nap_ns;
	ret = ret ?: touch_run(&t, &all, &ns, &pages, NULL, err);
	*rate = ret ? 0 : (double)pages * 1e9 / (double)ns;
	return touch_end(&t, ret ? NULL : err) ?: ret;
}

/* @n: without meaning, one page is one fault. */
static int turn_cold(struct figures *f, u32 n, enum bench_place place, double *rate, struct err *err)
{
	(void)n;
	return touch_cold(f, 1, place == BENCH_ANYWHERE, turn_bytes(f), 0, rate, err);
}

/* Memory behind a userfaultfd, resolved in the faulting thread. @n: pages a fault. @in_vain: tries before. */
static int touch_uffd(struct figures *f, u32 n, u32 in_vain, enum bench_place place, double *rate, struct err *err)
{
	struct bench_uffd_config config = {
		.machine = machine_of(f, "kvm"),
		.mode = UFFD_MISSING,
		.placement = BENCH_VCPU,
		.window = n,
		.passes = 1,
		.untimed = true,
		.in_vain = in_vain,
		.stop = f->config->stop,
	};
	struct bench_uffd_result r;
	int ret;

	config.machine.backing = bench_uffd_backing(config.mode);
	config.machine.any_cpu = place == BENCH_ANYWHERE;
	config.machine.bytes = turn_bytes(f);
	ret = bench_uffd_run(&config, &r, err);
	*rate = ret ? 0 : (double)r.row.accesses * 1e9 / (double)r.row.elapsed_ns;
	bench_uffd_destroy(&r);
	return ret;
}

static int turn_uffd(struct figures *f, u32 n, enum bench_place place, double *rate, struct err *err)
{
	return touch_uffd(f, n, 0, place, rate, err);
}

struct turns {
	double own[BENCH_PLACE_NR], peer[BENCH_PLACE_NR];
	bool peer_failed; /* what was returned is the peer's */
};

/* One of tain's and one of the peer's in each place; the fastest so far stay. */
static int take_turn(struct figures *f, turn_fn *turn, u32 n, const char *uffd, struct turns *t, struct err *why)
{
	const struct figures_config *c = f->config;
	double rate = 0;
	int ret = 0;

	for (int place = 0; place < BENCH_PLACE_NR && !ret; place++) {
		ret = turn(f, n, place, &rate, why);
		t->own[place] = max(t->own[place], ret ? 0 : rate);
		if (ret || !c->demand_paging_test)
			continue;
		ret = bench_peer_rate(c->demand_paging_test, uffd, turn_bytes(f), place, c->stop, &rate, why);
		t->peer_failed = ret && ret != -EINTR;
		t->peer[place] = max(t->peer[place], ret ? 0 : rate);
	}
	return ret;
}

/* Rates into the figure's unit; what every place gave is kept for its note. */
static void add_turns(struct figures *f, int which, const struct turns *t)
{
	struct figure *figure = &f->result->figure[which];
	double own = 0, peer = 0;

	for (int place = 0; place < BENCH_PLACE_NR; place++) {
		own = max(own, t->own[place]);
		peer = max(peer, t->peer[place]);
	}
	if (!(own > 0) || figure->rounds == FIGURE_ROUNDS_MAX)
		return;
	for (int place = 0; place < BENCH_PLACE_NR; place++) {
		f->own[which][place][figure->rounds] = figure->at_most ? 1e9 / t->own[place] : t->own[place];
		f->peer[which][place][figure->rounds] =
			figure->at_most && t->peer[place] > 0 ? 1e9 / t->peer[place] : t->peer[place];
	}
	add(f, which, figure->at_most ? 1e9 / own : own, figure->at_most && peer > 0 ? 1e9 / peer : peer);
}

/* A round of a figure against demand_paging_test; a peer that fails leaves a gap with its reason. */
static int against(struct figures *f, int which, turn_fn *turn, u32 n, const char *uffd, struct err *err)
{
	struct turns t = { .peer_failed = false };
	struct err why = { "" };
	int ret = 0;

	for (int i = 0; i < TURNS && !ret; i++)
		ret = take_turn(f, turn, n, uffd, &t, &why);
	if (ret == -EOPNOTSUPP || ret == -EPERM || t.peer_failed)
		skip(f, which, why.text);
	else if (ret)
		return err_set(err, ret, "%s", why.text);
	if (!f->config->demand_paging_test)
		skip(f, which, "the peer is not built: scripts/peers builds it, `make bench` runs both");
	add_turns(f, which, &t);
	return 0;
}

/*
 * Nobody who resolves in the faulting thread can do without one KVM_RUN that fails. What it
 * costs, with the way back in and nothing done about the fault, is no part of tain's, and
 * tells how far down the figure could go.
 */
static int measure_in_vain(struct figures *f, struct err *err)
{
	const struct figure *figure = &f->result->figure[FIGURE_KVM_UFFD_1];
	double rate = 0, fastest = 0;
	int ret = 0;

	if (!figure->rounds || figure->skip[0])
		return 0;
	for (int i = 0; i < TURNS && !ret; i++) {
		ret = touch_uffd(f, 1, IN_VAIN, BENCH_ONE_CPU, &rate, err);
		fastest = max(fastest, rate);
	}
	if (!ret)
		f->in_vain[figure->rounds - 1] =
			(1e9 / fastest - f->own[FIGURE_KVM_UFFD_1][BENCH_ONE_CPU][figure->rounds - 1]) / IN_VAIN;
	return ret;
}

static void note_in_vain(struct figures *f)
{
	struct figure *figure = &f->result->figure[FIGURE_KVM_UFFD_1];
	double ratio[FIGURE_ROUNDS_MAX];
	size_t used = strlen(figure->note);

	if (!used)
		return;
	for (u32 i = 0; i < figure->rounds; i++)
		ratio[i] = f->in_vain[i] / figure->other[i];
	snprintf(figure->note + used, sizeof(figure->note) - used,
		 "; a KVM_RUN that fails and is entered again, by itself: %.0f %s, ratio %.2f",
		 figure_median(figure, f->in_vain), figure->unit, figure_median(figure, ratio));
}

/* What each place gave: the figure itself is of the faster one of either. */
static void note_places(struct figures *f)
{
	for (int which = 0; which < FIGURE_NR; which++) {
		struct figure *figure = &f->result->figure[which];
		double own[BENCH_PLACE_NR], peer[BENCH_PLACE_NR];

		if (!figure->rounds || figure->skip[0] || !(f->peer[which][BENCH_ANYWHERE][0] > 0))
			continue;
		for (int place = 0; place < BENCH_PLACE_NR; place++) {
			own[place] = figure_median(figure, f->own[which][place]);
			peer[place] = figure_median(figure, f->peer[which][place]);
		}
		snprintf(figure->note, sizeof(figure->note),
			 "the faster of: %s %.0f, %s %.0f %s; the peer %s %.0f, %s %.0f %s",
			 bench_place_names[BENCH_ANYWHERE], own[BENCH_ANYWHERE], bench_place_names[BENCH_ONE_CPU],
			 own[BENCH_ONE_CPU], figure->unit, bench_place_names[BENCH_ANYWHERE], peer[BENCH_ANYWHERE],
			 bench_place_names[BENCH_ONE_CPU], peer[BENCH_ONE_CPU], figure->unit);
	}
}

/*
 * The same work for each vCPU, alone and beside the other: both processors have to be
 * undisturbed at a time, so turns are short, and many. The host's thread keeps away: with
 * two it has no processor of its own, and its looks would be billed to them.
 */
static int measure_two(struct figures *f, struct err *err)
{
	u64 nap_ns = TWO_BYTES / PAGE_SIZE * TWO_NAP_NS, turns = max(3 * f->config->bytes / TWO_BYTES, (u64)TURNS);
	double rate = 0, one = 0, two = 0;
	cpu_set_t allowed;
	int ret = 0;

	if (!sched_getaffinity(0, sizeof(allowed), &allowed) && CPU_COUNT(&allowed) < 2) {
		skip(f, FIGURE_KVM_TWO, "there is one processor");
		return 0;
	}
	for (u64 i = 0; i < turns && !ret; i++) {
		ret = touch_cold(f, 1, false, TWO_BYTES, nap_ns, &rate, err);
		one = max(one, rate);
		ret = ret ?: touch_cold(f, 2, false, 2 * TWO_BYTES, nap_ns, &rate, err);
		two = max(two, rate);
	}
	if (!ret)
		add(f, FIGURE_KVM_TWO, two, one);
	return ret;
}

/* Faults far apart, by cause; their number is known before. */
static int measure_counted(struct figures *f, struct err *err)
{
	struct bench_fault_config config;
	struct bench_fault_result r;
	double counted = 0, made = 0;
	int ret;

	bench_fault_config_init(&config, engine_find("kvm"));
	config.machine = machine_of(f, "kvm");
	config.causes = BIT(BENCH_FIRST_TOUCH) | BIT(BENCH_HOST_PRESENT) | BIT(BENCH_AFTER_REMAP);
	config.passes = 1;
	config.stop = f->config->stop;
	ret = bench_fault_run(&config, &r, err);
	for (int i = 0; i < BENCH_CAUSE_NR; i++)
		counted += (double)r.row[i][BENCH_APART].faults;
	for (int i = 0; i < BENCH_CAUSE_NR; i++)
		made += (double)r.row[i][BENCH_APART].accesses;
	if (!ret && counted > 0 && made > 0)
		add(f, FIGURE_KVM_COUNTED, max(counted / made, made / counted), 0);
	if (!ret) {
		add(f, FIGURE_KVM_OVERHEAD, (double)hist_percentile(&r.row[BENCH_OVERHEAD][BENCH_SEQUENTIAL].ns, 50),
		    0);
	}
	bench_fault_destroy(&r);
	return ret;
}

static int measure_kvm(struct figures *f, struct err *err)
{
	struct err why = { "" };
	int ret;

	if (engine_find("kvm")->probe(&why)) {
		for (int i = FIGURE_KVM_COLD; i < FIGURE_NR; i++)
			skip(f, i, why.text);
		return 0;
	}
	ret = against(f, FIGURE_KVM_COLD, turn_cold, 1, NULL, err);
	ret = ret ?: measure_two(f, err);
	ret = ret ?: against(f, FIGURE_KVM_UFFD_16, turn_uffd, 16, "MISSING", err);
	ret = ret ?: against(f, FIGURE_KVM_UFFD_1, turn_uffd, 1, "MISSING", err);
	ret = ret ?: measure_in_vain(f, err);
	return ret ?: measure_counted(f, err);
}

int figures_run(const struct figures_config *config, struct figures_result *result, struct err *err)
{
	static int (*const measure[])(struct figures * f, struct err * err) = {
		measure_tlb_hit,
		measure_soft_faults,
		measure_stress,
		measure_kvm,
	};
	struct figures f = { .config = config, .result = result };
	u64 start = clock_ns();
	int ret = 0;

	memset(result, 0, sizeof(*result));
	result->nr = FIGURE_NR;
	memcpy(result->figure, figure_table, sizeof(figure_table));
	for (u32 round = 0; round < min(config->rounds, (u32)FIGURE_ROUNDS_MAX) && !ret; round++)
		for (size_t i = 0; i < ARRAY_SIZE(measure) && !ret; i++)
			ret = tell(&f) ?: measure[i](&f, err);
	note_places(&f);
	note_in_vain(&f);
	result->elapsed_ns = clock_ns() - start;
	return ret;
}
