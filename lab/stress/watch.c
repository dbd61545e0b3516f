/* SPDX-License-Identifier: MIT */
/* Who watches a stress run: the clock, and everybody's progress. */
#include <stdio.h>

#include "lab/stress/internal.h"
#include "lab/machine/watch.h"
#include "lib/time.h"

u64 stress_accesses(struct stress *s)
{
	u64 sum = 0;

	for (u32 v = 0; v < s->config->machine.vcpus; v++)
		sum += READ_ONCE(vm_guest_vcpu(s->machine.vm, v)->accesses);
	return sum;
}

u64 stress_ops_done(struct stress *s)
{
	u64 sum = 0;

	for (int i = 0; i < PLAN_OP_NR; i++)
		sum += READ_ONCE(s->ops_done[i]);
	return sum;
}

u64 stress_target_page(struct stress *s, u32 vcpu)
{
	u64 gpa = READ_ONCE(vm_guest_vcpu(s->machine.vm, vcpu)->target);

	if (gpa < vm_data_gpa(s->machine.vm) || gpa - vm_data_gpa(s->machine.vm) >= s->config->machine.bytes)
		return VIOLATION_NO_PAGE;
	return (gpa - vm_data_gpa(s->machine.vm)) / PAGE_SIZE;
}

/* What the host is doing, or did last. */
static void describe_step(struct stress *s, char *text, size_t bytes)
{
	u64 index = READ_ONCE(s->step);
	struct plan_step step;

	plan_step(&s->plan, index, &step);
	snprintf(text, bytes, "step %llu, %s of %llu pages at page %llu", (unsigned long long)index,
		 plan_op_name(step.op), (unsigned long long)step.pages, (unsigned long long)step.first);
}

void stress_report_stall(struct stress *s, u32 who)
{
	unsigned long long seconds = s->config->stall_ns / NSEC_PER_SEC;
	bool host = who == s->config->machine.vcpus;
	char text[VIOLATION_TEXT], step[96];

	describe_step(s, step, sizeof(step));
	if (host)
		snprintf(text, sizeof(text), "the host's %s, did not return for %llu s", step, seconds);
	else
		snprintf(text, sizeof(text),
			 "vCPU %u made no progress for %llu s; it was about to touch gpa %#llx; the host %s %s", who,
			 seconds, (unsigned long long)READ_ONCE(vm_guest_vcpu(s->machine.vm, who)->target),
			 READ_ONCE(s->in_step) ? "is in" : "has ended", step);
	oracle_report(&s->oracle, VIOLATION_STALL, host ? VIOLATION_NO_PAGE : stress_target_page(s, who),
		      host ? VIOLATION_NO_VCPU : who, 0, 0, text);
}

/* vCPUs, and behind them the host's thread. */
static void look_at_all(struct stress *s, struct watched *look)
{
	u32 n = s->config->machine.vcpus;

	for (u32 i = 0; i < n; i++) {
		look[i] = (struct watched){ .beat = READ_ONCE(vm_guest_vcpu(s->machine.vm, i)->heartbeat) };
		thread_get_usage(&s->machine.vcpu[i].thread, &look[i].usage);
	}
	/* between two steps there is no progress to expect of the host */
	look[n] = (struct watched){ .beat = READ_ONCE(s->steps_done), .idle = !READ_ONCE(s->in_step) };
	thread_get_usage(&s->thread, &look[n].usage);
}

bool stress_wait_host(struct stress *s, u64 ns)
{
	u32 n = s->config->machine.vcpus + 1;
	struct watched look[GUEST_MAX_VCPUS + 1];
	struct watch w;

	watch_init(&w, n, ns, clock_ns());
	while (!wait_event_timeout(&s->done_wait, stress_host_done(s), WATCH_NS)) {
		look_at_all(s, look);
		for (u32 i = 0; i < n; i++) { /* it has the whole time once, whatever it does meanwhile */
			look[i].beat = 0;
			look[i].idle = false;
		}
		if (watch_look(&w, look, clock_ns()) != WATCH_NOBODY)
			return stress_host_done(s);
	}
	return true;
}

/* Return: false when somebody has made no progress for too long. */
static bool watch_progress(struct stress *s, struct watch *w, u64 now)
{
	struct watched look[GUEST_MAX_VCPUS + 1];
	u32 who;

	look_at_all(s, look);
	who = watch_look(w, look, now);
	if (who == WATCH_NOBODY)
		return true;
	stress_report_stall(s, who);
	return false;
}

static void tell(struct stress *s, u64 elapsed)
{
	const struct stress_config *c = s->config;
	struct stress_progress p = {
		.elapsed_ns = elapsed,
		.checked = stress_accesses(s),
		.ops = stress_ops_done(s),
		.violations = violation_total(&s->oracle.log),
	};

	if (c->progress)
		c->progress(&p, c->arg);
}

u32 stress_guests_begun(struct stress *s)
{
	u32 begun = 0;

	for (u32 v = 0; v < s->config->machine.vcpus; v++)
		begun += READ_ONCE(vm_guest_vcpu(s->machine.vm, v)->heartbeat) != 0;
	return begun;
}

bool stress_watch(struct stress *s)
{
	const struct stress_config *c = s->config;
	bool ok = true, over = false;
	u64 start = clock_ns(), now, first = 0, boot_ns = 0;
	struct watch w;

	watch_init(&w, c->machine.vcpus + 1, c->stall_ns, start);
	while (ok && !over) {
		wait_event_timeout(&s->done_wait, stress_host_done(s), WATCH_NS);
		now = clock_ns();
		ok = watch_progress(s, &w, now);
		if (!first) {
			first = READ_ONCE(s->first_ns);
			boot_ns = w.ran_ns;
		}
		over = stress_host_done(s) || (c->stop && READ_ONCE(*c->stop)) ||
		       (c->time_ns && first && w.ran_ns - boot_ns >= c->time_ns) || machine_ended(&s->machine);
		tell(s, first && now > first ? now - first : 0);
	}
	return ok;
}
