/* SPDX-License-Identifier: MIT */
/*
 * bench figures of engine kvm: against demand_paging_test, two vCPUs against one, tain's
 * count of faults against KVM's.
 */
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "lab/bench/figures_internal.h"
#include "lab/bench/uffd.h"
#include "lab/machine/touch.h"
#include "lib/thread.h"
#include "lib/time.h"

#define TURNS 4 /* of a round; on a busy machine some are disturbed, so the fastest counts, of the peer too */
#define TWO_BYTES (2ull << 20)		/* of each vCPU */
#define TWO_NAP_NS (12 * NSEC_PER_USEC) /* a page: by then it has its fault behind it */
#define IN_VAIN 2			/* tries before a page is resolved */

static void skip(struct figures *f, int which, const char *why)
{
	figure_skip(&f->result->figure[which], "%s", why);
}

/* A turn is short, so that some of several are undisturbed. */
static u64 turn_bytes(const struct figures *f)
{
	return max(align_down(f->config->bytes / 4, 1ull << 20), 1ull << 20);
}

/* What is set against the peer: a rate, pages a second. */
typedef int turn_fn(struct figures *f, u32 n, enum bench_place place, double *rate, struct err *err);

/* Memory that is touched for the first time. @n: without meaning, one page is one fault. */
static int turn_cold(struct figures *f, u32 n, enum bench_place place, double *rate, struct err *err)
{
	struct guest_command all = { .pages = ~0ull, .write = 1 };
	struct machine_config config = figures_machine(f, "kvm");
	struct touch t;
	u64 ns, pages;
	int ret;

	(void)n;
	config.any_cpu = place == BENCH_ANYWHERE;
	config.bytes = turn_bytes(f);
	ret = touch_start(&t, &config, f->config->stop, err);
	if (ret)
		return ret;
	ret = touch_run(&t, &all, &ns, &pages, NULL, err);
	*rate = ret ? 0 : (double)pages * 1e9 / (double)ns;
	return touch_end(&t, ret ? NULL : err) ?: ret;
}

/* Memory behind a userfaultfd, resolved in the faulting thread. @n: pages a fault. @in_vain: tries before. */
static int touch_uffd(struct figures *f, u32 n, u32 in_vain, enum bench_place place, double *rate, struct err *err)
{
	struct bench_uffd_config config = {
		.machine = figures_machine(f, "kvm"),
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
	figures_add(f, which, figure->at_most ? 1e9 / own : own, figure->at_most && peer > 0 ? 1e9 / peer : peer);
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

/* --- two vCPUs --------------------------------------------------------------------- */

/* What runs at a time, each vCPU with the same work and a processor of its own. */
enum two_side { TWO_ALONE, TWO_VCPUS, TWO_VMS, TWO_NR };

static const struct {
	u32 vms, vcpus;
} two_table[TWO_NR] = {
	[TWO_ALONE] = { 1, 1 },
	[TWO_VCPUS] = { 1, 2 },
	[TWO_VMS] = { 2, 1 },
};

struct two {
	char cpu[2][12], both[24]; /* as machine_config.cpus */
	struct hist ns[TWO_NR];	   /* of turns */
};

/* Return: are there two? */
static bool pick_two(struct two *two)
{
	cpu_set_t allowed;
	int n = 0;

	if (sched_getaffinity(0, sizeof(allowed), &allowed))
		return false;
	for (int cpu = 0; cpu < CPU_SETSIZE && n < 2; cpu++)
		if (CPU_ISSET(cpu, &allowed))
			snprintf(two->cpu[n++], sizeof(two->cpu[0]), "%d", cpu);
	snprintf(two->both, sizeof(two->both), "%s,%s", two->cpu[0], two->cpu[1]);
	return n == 2;
}

/* A VM whose vCPUs wait for the next command, to begin it at once. */
static int start_waiting(struct figures *f, struct touch *t, u32 vcpus, const char *cpus, struct err *err)
{
	struct machine_config config = figures_machine(f, "kvm");
	struct guest_command none = { .pages = 0 };
	int ret;

	config.vcpus = vcpus;
	config.cpus = cpus;
	config.bytes = vcpus * TWO_BYTES;
	ret = touch_start(t, &config, f->config->stop, err);
	if (ret)
		return ret;
	ret = touch_run(t, &none, NULL, NULL, NULL, err);
	return ret ? touch_end(t, NULL) ?: ret : 0;
}

/*
 * From the first start to the last end. The host's thread keeps away: with two it has no
 * processor of its own, and its looks would be billed to them.
 * @ns: 0: several VMs, and their counters are not the host's.
 */
static int run_together(struct touch *t, u32 vms, u64 *ns, struct err *err)
{
	struct guest_command all = { .pages = ~0ull, .write = 1 };
	u64 before = cycles(), begun = ~0ull, ended = 0;
	int ret = 0;

	for (u32 i = 0; i < vms; i++)
		touch_post(&t[i], &all);
	thread_sleep_ns(TWO_BYTES / PAGE_SIZE * TWO_NAP_NS);
	for (u32 i = 0; i < vms && !ret; i++) {
		ret = touch_wait(&t[i], err);
		touch_span(&t[i], &begun, &ended);
	}
	if (!ret)
		*ns = vms > 1 && (begun < before || ended > cycles()) ? 0 : cycles_to_ns(ended - begun);
	return ret;
}

/* @turn: vCPUs of different VMs change their processors from one to the next. */
static int two_turn(struct figures *f, struct two *two, enum two_side side, u64 turn, struct err *err)
{
	u32 vms = two_table[side].vms, vcpus = two_table[side].vcpus, started = 0;
	struct touch t[2];
	int ret = 0, end;
	u64 ns = 0;

	while (started < vms && !ret) {
		ret = start_waiting(f, &t[started], vcpus, vcpus > 1 ? two->both : two->cpu[(turn + started) % 2], err);
		started += !ret;
	}
	ret = ret ?: run_together(t, vms, &ns, err);
	while (started) {
		end = touch_end(&t[--started], ret ? NULL : err);
		ret = ret ?: end;
	}
	if (!ret && ns)
		hist_add(&two->ns[side], ns);
	return ret;
}

/* Pages a second of the median turn; 0: none could be timed. */
static double two_rate(const struct two *two, enum two_side side)
{
	u64 pages = two_table[side].vms * two_table[side].vcpus * TWO_BYTES / PAGE_SIZE;

	if (!hist_count(&two->ns[side]))
		return 0;
	return (double)pages * 1e9 / (double)hist_percentile(&two->ns[side], 50);
}

/*
 * Two vCPUs against one, and beside them two VMs, which have no lock of KVM's in common: what this machine
 * gives to two. Turns are short and many, and the median counts: a processor is by turns fast and
 * slow, as its neighbours on the machine below let it, so that the fastest turn of one vCPU is of a
 * fast processor, and that of two would wait for two such at a time.
 */
static int measure_two(struct figures *f, struct err *err)
{
	u64 turns = max(3 * f->config->bytes / TWO_BYTES, (u64)TURNS);
	struct figure *figure = &f->result->figure[FIGURE_KVM_TWO];
	struct two two = { .both = "" };
	int ret = 0;

	if (!pick_two(&two)) {
		skip(f, FIGURE_KVM_TWO, "there is one processor");
		return 0;
	}
	for (int side = 0; side < TWO_NR && !ret; side++)
		if (hist_init(&two.ns[side]))
			ret = err_set(err, -ENOMEM, "no memory for a histogram");
	for (u64 turn = 0; turn < turns && !ret; turn++)
		for (int side = 0; side < TWO_NR && !ret; side++)
			ret = two_turn(f, &two, side, turn, err);
	if (!ret) {
		f->two_vms[figure->rounds] = two_rate(&two, TWO_VMS);
		figure_add(figure, two_rate(&two, TWO_VCPUS), two_rate(&two, TWO_ALONE));
	}
	for (int side = 0; side < TWO_NR; side++)
		hist_destroy(&two.ns[side]);
	return ret;
}

static void note_two(struct figures *f)
{
	struct figure *figure = &f->result->figure[FIGURE_KVM_TWO];
	double ratio[FIGURE_ROUNDS_MAX], part[FIGURE_ROUNDS_MAX];

	if (!figure->rounds)
		return;
	for (u32 i = 0; i < figure->rounds; i++) {
		if (!(f->two_vms[i] > 0)) {
			snprintf(figure->note, sizeof(figure->note),
				 "two VMs of one vCPU each: their clocks cannot be compared on this kernel");
			return;
		}
		ratio[i] = f->two_vms[i] / figure->other[i];
		part[i] = figure->value[i] / f->two_vms[i];
	}
	snprintf(figure->note, sizeof(figure->note),
		 "two VMs of one vCPU each, which share no lock of KVM's: %.0f %s, ratio %.2f; the two vCPUs have %.2f "
		 "of that",
		 figure_median(figure, f->two_vms), figure->unit, figure_median(figure, ratio),
		 figure_median(figure, part));
}

/* --- all ------------------------------------------------------------------------------ */

/* Faults far apart, by cause; their number is known before. */
static int measure_counted(struct figures *f, struct err *err)
{
	struct bench_fault_config config;
	struct bench_fault_result r;
	double counted = 0, made = 0;
	int ret;

	bench_fault_config_init(&config, engine_find("kvm"));
	config.machine = figures_machine(f, "kvm");
	config.causes = BIT(BENCH_FIRST_TOUCH) | BIT(BENCH_HOST_PRESENT) | BIT(BENCH_AFTER_REMAP);
	config.passes = 1;
	config.stop = f->config->stop;
	ret = bench_fault_run(&config, &r, err);
	for (int i = 0; i < BENCH_CAUSE_NR; i++)
		counted += (double)r.row[i][BENCH_APART].faults;
	for (int i = 0; i < BENCH_CAUSE_NR; i++)
		made += (double)r.row[i][BENCH_APART].accesses;
	if (!ret && counted > 0 && made > 0)
		figures_add(f, FIGURE_KVM_COUNTED, max(counted / made, made / counted), 0);
	if (!ret) {
		figures_add(f, FIGURE_KVM_OVERHEAD,
			    (double)hist_percentile(&r.row[BENCH_OVERHEAD][BENCH_SEQUENTIAL].ns, 50), 0);
	}
	bench_fault_destroy(&r);
	return ret;
}

int figures_kvm(struct figures *f, struct err *err)
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

void figures_kvm_notes(struct figures *f)
{
	note_places(f);
	note_in_vain(f);
	note_two(f);
}
