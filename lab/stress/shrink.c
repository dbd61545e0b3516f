/* SPDX-License-Identifier: MIT */
/* Making a plan that failed smaller: see lab/stress/shrink.h. */
#include "lab/stress/shrink.h"

#include <string.h>

#include "lib/alloc.h"
#include "lib/time.h"

#define FIRST_TRIAL 10 /* times as long: without it there is no search */
#define TAIL_STEPS 256 /* what made the violation is likely among the last */

struct shrink {
	const struct shrink_config *config;
	struct shrink_plan *best;
	struct plan_step *room; /* for a candidate's steps */
	u64 start;
	u64 trials;
	int ret; /* -ETIMEDOUT, -errno: no more trials */
	struct err *err;
};

static bool over(const struct shrink *s)
{
	const struct shrink_config *c = s->config;

	return s->ret || (c->stop && READ_ONCE(*c->stop)) || (c->time_ns && clock_ns() - s->start >= c->time_ns);
}

/* One trial. Return: did it fail? */
static bool fails(struct shrink *s, const struct shrink_plan *plan)
{
	struct stress_config c = *s->config->stress;
	struct stress_result result;
	bool failed;
	int ret;

	c.machine.vcpus = plan->vcpus;
	c.machine.bytes = plan->bytes;
	c.machine.ranges = plan->ranges;
	c.list = plan->step;
	c.list_nr = plan->nr;
	c.repeat = 0;
	c.steps = 0;
	c.time_ns = s->config->trial_ns * (s->trials ? 1 : FIRST_TRIAL);
	c.max_violations = 1;
	c.trace = false;
	c.stop = s->config->stop;
	c.started = NULL;
	c.progress = NULL;
	ret = stress_run(&c, &result, s->err);
	failed = result.log.total;
	s->trials++;
	if (result.stalled)
		s->ret = -ETIMEDOUT;
	else
		violation_log_destroy(&result.log);
	/* What ran and had nothing but steps that the host refuses or lacks did not fail: the next may. */
	if (ret && !failed && !(ret == -EOPNOTSUPP && result.ran))
		s->ret = ret;
	return failed;
}

/* Keep @plan, whose steps may be in s->room, if it fails. */
static bool try(struct shrink *s, const struct shrink_plan *plan)
{
	bool smaller;

	if (over(s) || !plan->nr)
		return false;
	smaller = fails(s, plan);
	if (smaller) {
		struct plan_step *step = s->best->step;

		memmove(step, plan->step, plan->nr * sizeof(*step));
		*s->best = *plan;
		s->best->step = step;
	}
	if (s->config->progress)
		s->config->progress(&(struct shrink_progress){ .elapsed_ns = clock_ns() - s->start,
							       .trials = s->trials,
							       .best = s->best },
				    smaller, s->config->arg);
	return smaller;
}

/* The best plan's steps [@from, @to), or all the others. */
static bool try_part(struct shrink *s, u64 from, u64 to, bool others)
{
	struct shrink_plan plan = *s->best;
	const struct plan_step *step = s->best->step;

	plan.step = s->room;
	if (others) {
		plan.nr -= to - from;
		memcpy(plan.step, step, from * sizeof(*step));
		memcpy(plan.step + from, step + to, (plan.nr - from) * sizeof(*step));
	} else {
		plan.nr = to - from;
		memcpy(plan.step, step + from, plan.nr * sizeof(*step));
	}
	return try(s, &plan);
}

/* Delta debugging: parts alone, then what is left without them, then finer parts. */
static void fewer_steps(struct shrink *s)
{
	u64 parts = 2;

	while (s->best->nr > 1 && !over(s)) {
		u64 nr = s->best->nr, size = (nr + parts - 1) / parts;
		bool alone = false, without = false;

		for (u64 at = 0; at < nr && !alone && !over(s); at += size)
			alone = try_part(s, at, min(at + size, nr), false);
		/* of two parts one without the other has been tried */
		for (u64 at = 0; at < nr && parts > 2 && !alone && !without && !over(s); at += size)
			without = try_part(s, at, min(at + size, nr), true);
		if (alone)
			parts = 2;
		else if (without)
			parts = max(parts - 1, (u64)2);
		else if (parts >= nr)
			return;
		else
			parts = min(parts * 2, nr);
	}
}

static void fewer_vcpus(struct shrink *s)
{
	struct shrink_plan plan = *s->best;

	for (u32 vcpus = 1; vcpus < s->best->vcpus && !over(s); vcpus *= 2) {
		plan.vcpus = vcpus;
		if (try(s, &plan))
			return;
	}
}

/* One range: steps stay where they are. */
static void fewer_ranges(struct shrink *s)
{
	struct shrink_plan plan = *s->best;

	plan.ranges = 1;
	if (s->best->ranges > 1)
		try(s, &plan);
}

/* Fold the steps of each range into the first of @pages pages. */
static bool try_pages(struct shrink *s, u64 pages)
{
	u32 ranges = max(s->best->ranges, 1u);
	u64 before = s->best->bytes / PAGE_SIZE / ranges, each = pages / ranges;
	struct shrink_plan plan = *s->best;

	if (!each || pages % ranges)
		return false;
	plan.step = s->room;
	plan.bytes = pages * PAGE_SIZE;
	for (u64 i = 0; i < plan.nr; i++) {
		struct plan_step *step = &plan.step[i];

		*step = s->best->step[i];
		step->pages = min(step->pages, each);
		step->first = step->first / before * each + step->first % before % (each - step->pages + 1);
	}
	return try(s, &plan);
}

static void fewer_pages(struct shrink *s)
{
	u64 pages = s->best->bytes / PAGE_SIZE;

	/* huge pages stand where they stand */
	if (host_backing_table[s->config->stress->machine.backing].granule != PAGE_SIZE)
		return;
	while (pages > 1 && !over(s)) {
		u64 fewer = pages > 16 ? pages / 8 : pages / 2;

		if (!try_pages(s, fewer) && (fewer * 2 >= pages || !try_pages(s, fewer = pages / 2)))
			return;
		pages = fewer;
	}
}

static void shorter_ranges(struct shrink *s)
{
	bool longer = true;

	if (host_backing_table[s->config->stress->machine.backing].granule != PAGE_SIZE)
		return;
	while (longer && !over(s)) {
		struct shrink_plan plan = *s->best;

		longer = false;
		plan.step = s->room;
		for (u64 i = 0; i < plan.nr; i++) {
			plan.step[i] = s->best->step[i];
			longer |= plan.step[i].pages > 1;
			plan.step[i].pages = (plan.step[i].pages + 1) / 2;
		}
		longer = longer && try(s, &plan);
	}
}

static int search(struct shrink *s)
{
	u64 nr = s->best->nr;

	if (!(nr > TAIL_STEPS && try_part(s, nr - TAIL_STEPS, nr, false)) && !try(s, s->best))
		return s->ret ?: -EAGAIN;
	fewer_ranges(s);
	fewer_pages(s);
	fewer_vcpus(s);
	fewer_steps(s);
	fewer_vcpus(s);
	fewer_pages(s);
	shorter_ranges(s);
	return s->ret == -ETIMEDOUT ? s->ret : 0;
}

int shrink_run(const struct shrink_config *config, struct shrink_plan *plan, struct err *err)
{
	struct shrink s = { .config = config, .best = plan, .start = clock_ns(), .err = err };
	int ret;

	s.room = mem_alloc(max(plan->nr, (u64)1) * sizeof(*s.room));
	if (!s.room)
		return err_set(err, -ENOMEM, "no memory for %llu steps", (unsigned long long)plan->nr);
	ret = search(&s);
	if (ret == -EAGAIN)
		err_set(err, ret, "the plan did not fail again");
	/* A trial that is stuck may still look at its steps. */
	if (ret != -ETIMEDOUT)
		mem_free(s.room);
	return ret;
}
