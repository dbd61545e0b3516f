/* SPDX-License-Identifier: MIT */
/*
 * Private to `bench figures` of soft and kvm:
 *
 *   lab/bench/figures.c      the figures, those of soft, and the rounds
 *   lab/bench/figures_kvm.c  those of kvm
 */
#ifndef LAB_BENCH_FIGURES_INTERNAL_H
#define LAB_BENCH_FIGURES_INTERNAL_H

#include "lab/bench/bench.h"

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

struct figures {
	const struct figures_config *config;
	struct figures_result *result;
	u64 done;
	/* Of kvm's, by round, in a figure's unit: tain's own and the peer's in each place. */
	double own[FIGURE_NR][BENCH_PLACE_NR][FIGURE_ROUNDS_MAX], peer[FIGURE_NR][BENCH_PLACE_NR][FIGURE_ROUNDS_MAX];
	double in_vain[FIGURE_ROUNDS_MAX]; /* ns of a KVM_RUN that fails, and is entered again */
	double two_vms[FIGURE_ROUNDS_MAX]; /* pages a second of two, one vCPU each; 0: their counters do not fit */
};

/* What a figure's guest runs in, one vCPU. */
static inline struct machine_config figures_machine(const struct figures *f, const char *engine)
{
	return (struct machine_config){
		.engine = engine_find(engine),
		.vcpus = 1,
		.bytes = f->config->bytes,
		.seed = f->config->seed,
	};
}

static inline void figures_add(struct figures *f, int which, double value, double other)
{
	figure_add(&f->result->figure[which], value, other);
}

/* A round of all of kvm's; without KVM they are skipped. Return: as figures_run(). */
int figures_kvm(struct figures *f, struct err *err);
/* After the last round: what each figure of kvm's has to add. */
void figures_kvm_notes(struct figures *f);

#endif /* LAB_BENCH_FIGURES_INTERNAL_H */
