/* SPDX-License-Identifier: MIT */
/* A guest's protocol step by step: see tests/lab_sim.h. */
#include "tests/lab_sim.h"

#include <string.h>

static u64 *slot_of(struct sim *s)
{
	return &s->fake.data[PAGE][GUEST_WSLOT_OFFSET / sizeof(u64)];
}

/* Take one step. Return: false when the access fails now, to be repeated. */
static bool guest_read_step(struct sim *s)
{
	switch (s->next) {
	case 0:
		s->required = s->rule[PAGE].required;
		return true;
	case 1:
		if (s->fake.access[PAGE] == FAKE_NONE)
			return false;
		s->seen = s->fake.data[PAGE][(GUEST_STAMP_OFFSET + s->stamp * GUEST_STAMP_STRIDE) / sizeof(u64)];
		return true;
	default:
		s->announced = s->rule[PAGE].announced;
		s->found = oracle_judge(PAGE, s->required, s->seen, s->announced);
		return true;
	}
}

static bool guest_write_step(struct sim *s)
{
	switch (s->next) {
	case 0:
		s->required = s->rule[PAGE].required;
		return true;
	case 1:
		if (s->fake.access[PAGE] != FAKE_WRITE)
			return false;
		*slot_of(s) = s->written;
		return true;
	case 2:
		if (s->fake.access[PAGE] == FAKE_NONE)
			return false;
		s->seen = *slot_of(s);
		return true;
	default:
		s->announced = s->rule[PAGE].announced;
		if (s->announced == s->required >> 1 && s->seen != s->written)
			s->found = GUEST_VIOLATION_LOST;
		return true;
	}
}

static unsigned int guest_steps(const struct sim *s)
{
	return s->kind == GUEST_READS ? 3 : 4;
}

static void guest_acts(struct fake_host *fake)
{
	struct sim *s = container_of(fake, struct sim, fake);

	while (s->next < guest_steps(s) && s->at[s->next] <= fake->points) {
		if (!(s->kind == GUEST_READS ? guest_read_step(s) : guest_write_step(s)))
			return;
		s->next++;
	}
}

bool sim_init(struct sim *s, enum host_backing backing)
{
	memset(s, 0, sizeof(*s));
	fake_host_init(&s->fake, backing);
	return CHECK_EQ(oracle_create(&s->oracle, &s->fake.host, s->rule, FAKE_PAGES, 1, 1, FAKE_PAGES, NULL), 0);
}

void sim_prepare(struct sim *s, bool stamped)
{
	struct plan_step first = { .op = PLAN_REMAP, .first = PAGE, .pages = 2, .restamp = stamped };

	s->fake.hook = NULL;
	CHECK_EQ(step_run(&s->oracle, &first), 0);
}

bool sim_run(struct sim *s, const struct plan_step *steps, int n)
{
	s->fake.hook = guest_acts;
	s->fake.points = 0;
	s->next = 0;
	s->found = GUEST_VIOLATION_NONE;
	s->written++;
	for (int i = 0; i < n; i++)
		CHECK_EQ(step_run(&s->oracle, &steps[i]), 0);
	s->fake.points = MAX_POINTS;
	guest_acts(&s->fake); /* what is left of the guest comes after it all */
	return s->next == guest_steps(s) && s->found == GUEST_VIOLATION_NONE && !s->oracle.log.total;
}

/* The others of lab/host/op.h, where there are such: on one backing of each kind. */
int sim_host_steps(struct plan_step *steps, enum host_backing backing)
{
	int n = 0;

	if (backing != HOST_ANONYMOUS && backing != HOST_MEMFD && backing != HOST_MEMFD_PRIVATE)
		return 0;
	for (int op = PLAN_BASIC_NR; op < PLAN_HOST_NR; op++) {
		enum op_contents contents = op_contents((enum host_op)op, backing);

		for (int restamp = 0; restamp < 2 && contents != OP_IMPOSSIBLE; restamp++)
			steps[n++] = (struct plan_step){ .op = op, .first = PAGE, .pages = 2, .restamp = restamp };
	}
	return n;
}

int sim_all_steps(struct plan_step *steps, enum host_backing backing)
{
	int n = sim_host_steps(steps, backing);

	for (int op = 0; op < PLAN_BASIC_NR; op++)
		for (int bits = 0; bits < 8; bits++) {
			struct plan_step s = { .op = op, .first = PAGE, .pages = 2 };

			s.restamp = bits & 1;
			s.fresh = bits & 2;
			s.deny = bits & 4;
			/* leave out what differs in nothing */
			if ((s.deny && op != PLAN_MPROTECT) || (s.fresh && op != PLAN_MREMAP))
				continue;
			steps[n++] = s;
		}
	return n;
}

bool sim_report(struct sim *s, const struct plan_step *step)
{
	return CHECK_MSG(false,
			 "%s restamp %d fresh %d deny %d: guest at %llu %llu %llu %llu found %d, host %llu violations",
			 plan_op_name(step->op), step->restamp, step->fresh, step->deny, (unsigned long long)s->at[0],
			 (unsigned long long)s->at[1], (unsigned long long)s->at[2], (unsigned long long)s->at[3],
			 (int)s->found, (unsigned long long)s->oracle.log.total);
}

u64 sim_count_points(struct sim *s, const struct plan_step *steps, int n)
{
	s->kind = GUEST_READS;
	s->at[0] = s->at[1] = s->at[2] = MAX_POINTS;
	s->fake.hook = NULL;
	s->fake.points = 0;
	for (int i = 0; i < n; i++)
		CHECK_EQ(step_run(&s->oracle, &steps[i]), 0);
	return s->fake.points;
}
