/* SPDX-License-Identifier: MIT */
/*
 * bench figures: the project's yardsticks, see lab/bench/bench.h. Each round measures all
 * of them, so that value and peer of a ratio come from the same minutes.
 */
#include <string.h>

#include "lab/bench/figures_internal.h"
#include "lab/stress/stress.h"
#include "lab/machine/touch.h"
#include "lib/time.h"

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
			     .what = "pages a second, each with a processor and memory of its own, from the first "
				     "start to the last end; the median turn",
			     .unit = "/s",
			     .peer = "one vCPU, on either processor",
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

#define TLB_PAGES 64
#define TLB_REPEAT 64 /* passes a command: what a command costs itself is no access */
#define TLB_COMMANDS 500
#define STRESS_NS (2 * NSEC_PER_SEC)

static int tell(struct figures *f)
{
	const struct figures_config *c = f->config;

	if (c->progress)
		c->progress(f->done++, (u64)c->rounds * 4, c->arg);
	return c->stop && READ_ONCE(*c->stop) ? -EINTR : 0;
}

/*
 * Passes over pages that stay in the TLB, timed as a whole. An access is billed with what
 * the guest's loop does between two: the next page's address.
 */
static int measure_tlb_hit(struct figures *f, struct err *err)
{
	struct guest_command command = { .pages = TLB_PAGES, .repeat = TLB_REPEAT };
	struct machine_config config = figures_machine(f, "soft");
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
		figures_add(f, FIGURE_TLB_HIT,
			    (double)hist_percentile(&taken, 50) * 1e6 / (double)cycles_khz() / (TLB_PAGES * TLB_REPEAT),
			    0);
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
	config.machine = figures_machine(f, "soft");
	config.passes = 1;
	config.stop = f->config->stop;
	ret = bench_fault_run(&config, &r, err);
	if (!ret) {
		figures_add(f, FIGURE_SOFT_FIRST_TOUCH,
			    (double)hist_percentile(&r.row[BENCH_FIRST_TOUCH][BENCH_SEQUENTIAL].ns, 50),
			    (double)hist_percentile(&r.row[BENCH_HOST_FAULT][BENCH_SEQUENTIAL].ns, 50));
		figures_add(f, FIGURE_SOFT_OVERHEAD,
			    (double)hist_percentile(&r.row[BENCH_OVERHEAD][BENCH_SEQUENTIAL].ns, 50), 0);
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
		figures_add(f, FIGURE_SOFT_STRESS, (double)r.checked * 1e9 / (double)r.elapsed_ns, 0);
	violation_log_destroy(&r.log);
	return ret;
}

int figures_run(const struct figures_config *config, struct figures_result *result, struct err *err)
{
	static int (*const measure[])(struct figures * f, struct err * err) = {
		measure_tlb_hit,
		measure_soft_faults,
		measure_stress,
		figures_kvm,
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
	figures_kvm_notes(&f);
	result->elapsed_ns = clock_ns() - start;
	return ret;
}
