/* SPDX-License-Identifier: MIT */
/*
 * One guest and one step of the host, on one thread: the guest follows its half of the
 * protocol, and takes its steps at the host's points that the test chooses. The host is fake (tests/lab_fake.c).
 */
#ifndef TESTS_LAB_SIM_H
#define TESTS_LAB_SIM_H

#include "lab/plan/oracle.h"
#include "lab/plan/step.h"
#include "tests/lab_suites.h"

#define MAX_POINTS 200
#define MAX_STEPS 64
#define GUEST_STEPS 4
#define PAGE 1 /* the guest's; steps cover it and the next one */

/* One guest's protocol: read a stamp, or write and read back. */
enum guest_kind { GUEST_READS, GUEST_WRITES };

struct sim {
	struct fake_host fake;
	struct oracle oracle;
	struct guest_page_rule rule[FAKE_PAGES];
	enum guest_kind kind;
	unsigned int stamp;  /* which stamp it reads */
	u64 at[GUEST_STEPS]; /* the host's point at or after which the guest takes step i */
	unsigned int next;   /* the guest's next step */
	u32 required, announced;
	u64 seen;
	u64 written;
	enum guest_violation_kind found;
};

/* Return: did it start? Then oracle_destroy(&s->oracle) ends it. */
bool sim_init(struct sim *s, enum host_backing backing);
/* The state of the page before: stamped by a step, or left zero by one. */
void sim_prepare(struct sim *s, bool stamped);
/* Run @n steps with the guest's steps at their points. Return: no violation of any kind. */
bool sim_run(struct sim *s, const struct plan_step *steps, int n);
/* Fail, and say where the guest was. */
bool sim_report(struct sim *s, const struct plan_step *step);

/* Every kind of step that the backing has, at most MAX_STEPS, or of them those that lab/host/op.h alone knows. Return:
 * how many. */
int sim_all_steps(struct plan_step *steps, enum host_backing backing);
int sim_host_steps(struct plan_step *steps, enum host_backing backing);
/* How many points the host passes in @steps. */
u64 sim_count_points(struct sim *s, const struct plan_step *steps, int n);

#endif /* TESTS_LAB_SIM_H */
