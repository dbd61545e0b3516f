/* SPDX-License-Identifier: MIT */
/*
 * bench figures of engine qemu: `tain run` in a domain as a user starts it, and a hole
 * that another process punched. See lab/bench/bench.h.
 */
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "lab/bench/bench.h"
#include "lib/thread.h"
#include "lib/time.h"

enum { FIGURE_HELLO, FIGURE_OWN_TIME, FIGURE_HOLE, FIGURE_NR };

#define HOLE_BYTES (16ull << 20) /* the most that is measured a fault at a time */

/* libvirtd answers nobody for a second and a half after a domain's end: its own tidying up, not the start's. */
#define PAUSE_MS 3000
#define PAUSE_STEP_MS 100

static const struct figure figure_table[FIGURE_NR] = {
	[FIGURE_HELLO] = { .name = "qemu: tain run hello",
			   .what = "the whole command, KVM, microvm, libvirtd up and at rest for 3 s",
			   .unit = "ms",
			   .at_most = true,
			   .bound = 1500,
			   .note = "started back to back it waits for libvirtd, which is busy for 1.5 s after a "
				   "domain's end" },
	[FIGURE_OWN_TIME] = { .name = "qemu: of which tain itself",
			      .what = "processor time of that process, user and system",
			      .unit = "ms",
			      .at_most = true,
			      .bound = 50 },
	[FIGURE_HOLE] = { .name = "qemu: hole punched to zeros seen by the guest, p50",
			  .what = "first access after a punch, memfd, pages apart, as the guest times it",
			  .unit = "ns",
			  .peer = "the same on engine kvm",
			  .at_most = true,
			  .bound = 1.5 },
};

static u64 children_ns(void)
{
	struct rusage u;

	getrusage(RUSAGE_CHILDREN, &u);
	return (u64)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * NSEC_PER_SEC +
	       (u64)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * NSEC_PER_USEC;
}

static int rest(const u32 *stop)
{
	for (int ms = 0; ms < PAUSE_MS; ms += PAUSE_STEP_MS) {
		if (stop && READ_ONCE(*stop))
			return -EINTR;
		thread_sleep_ns(PAUSE_STEP_MS * NSEC_PER_MSEC);
	}
	return 0;
}

static int measure_hello(const struct figures_config *config, struct figures_result *result, struct err *err)
{
	char *const argv[] = { (char *)config->tain, "run",	"--engine", "qemu", "--accel", "kvm",
			       "--machine",	     "microvm", "hello",    NULL };
	char output[512];
	u64 start, spent;
	int ret = rest(config->stop);

	if (ret)
		return ret;
	spent = children_ns();
	start = clock_ns();
	ret = bench_peer_output(argv, -1, output, sizeof(output), config->stop, err);
	start = clock_ns() - start;
	spent = children_ns() - spent;
	if (ret)
		return ret;
	if (!strstr(output, "hello from vcpu 0 of 1"))
		return err_set(err, -EIO, "tain run hello: the guest said nothing: %.120s", output);
	figure_add(&result->figure[FIGURE_HELLO], (double)start / NSEC_PER_MSEC, 0);
	figure_add(&result->figure[FIGURE_OWN_TIME], (double)spent / NSEC_PER_MSEC, 0);
	return 0;
}

/* Median of one pass. */
static int time_holes(const struct figures_config *c, const char *engine, double *ns, struct err *err)
{
	struct bench_fault_config config;
	struct bench_fault_result r;
	int ret;

	bench_fault_config_init(&config, engine_find(engine));
	config.machine.backing = HOST_MEMFD;
	config.machine.bytes = min(c->bytes, HOLE_BYTES);
	config.machine.seed = c->seed;
	config.causes = BIT(BENCH_AFTER_PUNCH);
	config.passes = 1;
	config.stop = c->stop;
	ret = bench_fault_run(&config, &r, err);
	*ns = ret ? 0 : (double)hist_percentile(&r.row[BENCH_AFTER_PUNCH][BENCH_APART].ns, 50);
	if (!ret && !(*ns > 0))
		ret = err_set(err, -EIO, "engine %s: %s", engine, r.skip[BENCH_AFTER_PUNCH]);
	bench_fault_destroy(&r);
	return ret;
}

static int measure_holes(const struct figures_config *config, struct figures_result *result, struct err *err)
{
	double qemu, kvm;
	int ret = time_holes(config, "qemu", &qemu, err);

	ret = ret ?: time_holes(config, "kvm", &kvm, err);
	if (!ret)
		figure_add(&result->figure[FIGURE_HOLE], qemu, kvm);
	return ret;
}

/* Neither TCG nor firmware is what the bounds are about. */
static int probe(struct err *why)
{
	qemu_config.accel = "kvm";
	qemu_config.machine = "microvm";
	qemu_config.backing = "memfd";
	qemu_config.under_linux = false;
	return engine_find("kvm")->probe(why) ?: engine_find("qemu")->probe(why);
}

int figures_qemu_run(const struct figures_config *config, struct figures_result *result, struct err *err)
{
	struct err why = { "" };
	u64 start = clock_ns();
	int ret = 0;

	memset(result, 0, sizeof(*result));
	result->nr = FIGURE_NR;
	memcpy(result->figure, figure_table, sizeof(figure_table));
	if (probe(&why)) {
		for (int i = 0; i < FIGURE_NR; i++)
			figure_skip(&result->figure[i], "%s", why.text);
		return 0;
	}
	for (u32 round = 0; round < min(config->rounds, (u32)FIGURE_ROUNDS_MAX) && !ret; round++) {
		if (config->progress)
			config->progress(round * 2ul, config->rounds * 2ul, config->arg);
		ret = measure_hello(config, result, err);
		if (config->progress)
			config->progress(round * 2ul + 1, config->rounds * 2ul, config->arg);
		ret = ret ?: measure_holes(config, result, err);
	}
	result->elapsed_ns = clock_ns() - start;
	return ret;
}
