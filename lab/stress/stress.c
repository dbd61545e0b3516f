/* SPDX-License-Identifier: MIT */
/*
 * Stress: see lab/stress/stress.h. Three kinds of threads: vCPUs (lab/machine/machine.c), one host
 * thread that carries out the plan, and the caller, who watches the clock.
 */
#include "lab/stress/internal.h"

#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lab/plan/step.h"
#include "lab/plan/step_uffd.h"
#include "lib/alloc.h"
#include "lib/probe.h"
#include "lib/time.h"
#include "lib/trace.h"

#define LEAVE_NS (10 * NSEC_PER_SEC) /* a vCPU that was kicked leaves within that */
#define NAP_NS (20 * NSEC_PER_MSEC)  /* a longer pause between two steps is cut up, so that the run can end */
#define FIRST_TURN_NS (100 * NSEC_PER_USEC)
#define MAX_BYTES (1ull << 36) /* a stamp names a page in 24 bits */

#define UFFD_OPS (BIT(PLAN_UFFD_MISSING) | BIT(PLAN_UFFD_MINOR) | BIT(PLAN_UFFD_WP))

/* --- host thread --------------------------------------------------------------- */

static void audit(struct stress *s)
{
	struct err err = { "" };
	u64 bad = vm_audit(s->machine.vm, &err);

	if (bad == -1ull)
		return;
	s->audits++;
	if (!bad)
		return;
	oracle_report(&s->oracle, VIOLATION_MIRROR, VIOLATION_NO_PAGE, VIOLATION_NO_VCPU, 0, 0, err.text);
	violation_count(&s->oracle.log, bad - 1);
}

static void collect(struct stress *s)
{
	for (u32 v = 0; v < s->config->machine.vcpus; v++)
		oracle_collect(&s->oracle, v, vm_guest_vcpu(s->machine.vm, v));
	if (violation_total(&s->oracle.log))
		violation_trace(&s->oracle.log);
}

/* The host could not, or would not. */
static int not_done(struct stress *s, const struct plan_step *step, int ret)
{
	struct err *why = &s->why[step->op];

	if (!why->text[0])
		err_set(why, ret, "%s",
			s->oracle.why.text[0] ? s->oracle.why.text
					      : "this engine or host mm does not have the operation");
	if (ret == STEP_REFUSED) {
		s->refused[step->op]++;
		return 0;
	}
	s->skipped++;
	s->unsupported |= BIT(step->op);
	if (s->unsupported != s->plan.ops)
		return 0;
	return err_set(&s->err, ret, "the host has none of the operations asked for");
}

static int one_step(struct stress *s, u64 index)
{
	struct plan_step step;
	int ret;

	plan_step(&s->plan, index, &step);
	WRITE_ONCE(s->step, index);
	WRITE_ONCE(s->begun, index + 1);
	if (s->unsupported & BIT(step.op)) {
		s->skipped++;
		return 0;
	}
	WRITE_ONCE(s->in_step, 1);
	mutex_lock(&s->machine.still);
	ret = step_run(&s->oracle, &step);
	s->machine.broken = ret < 0 && ret != -EOPNOTSUPP;
	mutex_unlock(&s->machine.still);
	WRITE_ONCE(s->in_step, 0);
	if (ret == STEP_REFUSED || ret == -EOPNOTSUPP)
		return not_done(s, &step, ret);
	if (ret == -ENOSPC && !s->oracle.why.text[0] && s->machine.host.ops->full)
		s->machine.host.ops->full(&s->machine.host, &s->oracle.why);
	if (ret)
		return err_set(&s->err, ret, "step %llu, %s of %llu pages at page %llu: %s", (unsigned long long)index,
			       plan_op_name(step.op), (unsigned long long)step.pages, (unsigned long long)step.first,
			       s->oracle.why.text[0] ? s->oracle.why.text : strerror(-ret));
	WRITE_ONCE(s->ops_done[step.op], s->ops_done[step.op] + 1);
	return 0;
}

static bool must_stop(struct stress *s, u64 index)
{
	const struct stress_config *c = s->config;

	return READ_ONCE(s->stop) || (c->steps && index >= c->steps) ||
	       (c->list && c->repeat && index / c->list_nr >= c->repeat) ||
	       violation_total(&s->oracle.log) >= c->max_violations;
}

/*
 * Where vCPUs fill every processor, the host's thread shares one: it sleeps often,
 * works briefly, and should run as soon as it wakes. A short slice says so (Linux 6.12
 * and later; others refuse it, and the run only has fewer operations).
 */
static void wake_promptly(void)
{
	struct {
		u32 size, policy;
		u64 flags;
		s32 nice;
		u32 priority;
		u64 runtime, deadline, period;
	} attr = { .size = sizeof(attr), .runtime = 100 * NSEC_PER_USEC };

	syscall(SYS_sched_setattr, 0, &attr, 0);
	prctl(PR_SET_TIMERSLACK, 1); /* delays of microseconds are not rounded up to 50 */
}

/* Between two steps. */
static void rest(struct stress *s)
{
	u64 left = s->config->delay_ns;

	while (READ_ONCE(s->machine.waiting) && !s->ret && !READ_ONCE(s->stop))
		thread_sleep_ns(20 * NSEC_PER_USEC);
	while (left && !READ_ONCE(s->stop)) {
		u64 nap = min(left, NAP_NS);

		thread_sleep_ns(nap);
		left -= nap;
	}
}

/*
 * On a busy machine a short plan would be over before a vCPU has had its first turn. The time of a run begins when
 * its guests do, since an operating system may have to boot first: at the last look that saw none of them begun, so
 * that what they checked is never put down to less time than it took.
 */
static void wait_for_guests(struct stress *s)
{
	u64 quiet_ns = s->start_ns, look_ns = clock_ns();
	u32 begun;

	while ((begun = stress_guests_begun(s)) < s->config->machine.vcpus && !READ_ONCE(s->stop)) {
		if (!begun)
			quiet_ns = look_ns;
		thread_sleep_ns(FIRST_TURN_NS);
		look_ns = clock_ns();
	}
	if (begun)
		WRITE_ONCE(s->first_ns, quiet_ns);
}

static void stress_host_thread(void *arg)
{
	struct stress *s = arg;
	const struct stress_config *c = s->config;

	thread_block_signals();
	wake_promptly();
	wait_for_guests(s);
	for (u64 i = 0; !must_stop(s, i) && !s->ret; i++) {
		s->ret = one_step(s, i);
		collect(s);
		if (c->audit_every && i % c->audit_every == c->audit_every - 1)
			audit(s);
		WRITE_ONCE(s->steps_done, i + 1);
		rest(s);
	}
	/* Pairs with the acquire in stress_host_done(): ret, err and what the steps did are whole. */
	smp_store_release(&s->done, 1);
	wake_up_all(&s->done_wait);
}

/* --- the run ------------------------------------------------------------------------ */

static void frame_corrupted(struct frame_arena *arena, pfn_t pfn, unsigned int offset, u64 found, void *arg)
{
	struct stress *s = arg;
	u32 vcpu = (offset - GUEST_WSLOT_OFFSET) / sizeof(u64);
	char text[96];

	snprintf(text, sizeof(text), "frame %llu holds %#llx at byte %u after it was freed", (unsigned long long)pfn,
		 (unsigned long long)found, offset);
	oracle_report(&s->oracle, VIOLATION_FRAME, VIOLATION_NO_PAGE,
		      vcpu < s->config->machine.vcpus ? vcpu : VIOLATION_NO_VCPU, found, 0, text);
}

/* An access failed that userfaultfd may be about. */
static bool stress_fault(u32 vcpu, u64 off, void *arg)
{
	struct stress *s = arg;

	return s->oracle.uffd && step_uffd_fault(s->oracle.uffd, off);
}

static int prepare(struct stress *s, struct err *err)
{
	const struct stress_config *c = s->config;
	struct machine_config config = c->machine;
	struct mm_struct *mm;
	u64 pages = config.bytes / PAGE_SIZE;
	int ret;

	ret = machine_check(&config, err);
	if (ret)
		return ret;
	if (config.bytes > MAX_BYTES)
		return err_set(err, -EINVAL, "%llu bytes; the oracle's stamps reach 64 GiB",
			       (unsigned long long)config.bytes);
	if (c->list && !c->list_nr)
		return err_set(err, -EINVAL, "a plan without steps");
	stress_plan(c, &s->plan);
	config.image = (struct guest_image){ .name = "stamp" };
	config.retry_faults = true;
	config.fault = stress_fault;
	config.arg = s;
	config.limbo_bytes = plan_longest(&s->plan) * PAGE_SIZE;
	config.extra_bytes = pages * sizeof(struct guest_page_rule);
	ret = machine_create(&s->machine, &config, err);
	if (ret)
		return ret;
	mm = vm_mm(s->machine.vm);
	if (mm)
		frame_set_corruption_handler(mm_arena(mm), frame_corrupted, s);
	s->result->id = s->machine.id;
	s->machine.shared->rule_offset = s->machine.extra_offset;
	s->machine.shared->write_percent = c->write_percent;
	ret = oracle_create(&s->oracle, &s->machine.host, s->machine.extra, pages, config.vcpus, config.seed,
			    plan_longest(&s->plan), c->stop);
	if (ret) {
		if (ret == -EINTR)
			err_set(err, ret, "stopped before the guest ran: its memory was not prepared yet");
		else
			err_set(err, ret, "cannot stamp %llu pages: %s", (unsigned long long)pages, strerror(-ret));
		machine_destroy(&s->machine);
		return ret;
	}
	s->oracle.vm = s->machine.vm;
	s->machine.host.merge_ns = c->stall_ns / 4; /* a vCPU that may not write meanwhile is not stalled yet */
	if (s->plan.ops & UFFD_OPS && !config.engine->own_mm)
		s->oracle.uffd = step_uffd_create(&s->machine.host, c->uffd);
	return 0;
}

static void fill_result(struct stress *s)
{
	struct stress_result *r = s->result;
	struct vm_stats stats = { 0 };

	r->ran = true;
	r->checked = stress_accesses(s);
	r->elapsed_ns = clock_ns() - (READ_ONCE(s->first_ns) ?: s->start_ns);
	for (u32 v = 0; v < s->config->machine.vcpus; v++) {
		r->writes += READ_ONCE(vm_guest_vcpu(s->machine.vm, v)->writes);
		r->retried += READ_ONCE(s->machine.vcpu[v].retried);
	}
	r->own_checked = READ_ONCE(s->machine.shared->own_checked);
	vm_get_stats(s->machine.vm, &stats);
	r->counted = stats.counted;
	r->faults = stats.faults;
	r->steps = READ_ONCE(s->steps_done);
	r->begun = READ_ONCE(s->begun);
	for (int i = 0; i < PLAN_OP_NR; i++)
		r->host_ops[i] = READ_ONCE(s->ops_done[i]);
	r->done = stress_ops_done(s);
	r->skipped = s->skipped;
	r->unsupported = s->unsupported;
	memcpy(r->refused, s->refused, sizeof(r->refused));
	memcpy(r->why, s->why, sizeof(r->why));
	if (s->oracle.uffd) {
		r->uffd_faults = step_uffd_counted(s->oracle.uffd, UFFD_FAULTS);
		r->uffd_events = step_uffd_counted(s->oracle.uffd, UFFD_EVENTS);
	}
	r->audits = s->audits;
}

/* tain's second MMU checks itself at each change of an entry, and stops its vCPUs with -EIO when it finds itself wrong.
 */
static bool found_by_mmu(struct stress *s, const struct machine_vcpu *failed)
{
	if (!failed || failed->ret != -EIO || !s->config->machine.engine->own_mm)
		return false;
	oracle_report(&s->oracle, VIOLATION_MIRROR, stress_target_page(s, failed->id), failed->id, 0, 0,
		      failed->err.text);
	return true;
}

/* All threads have ended: look once more, from every side. */
static void look_again(struct stress *s, struct err *err, int *ret)
{
	const struct machine_vcpu *failed = machine_failed(&s->machine);
	int verify;

	collect(s);
	audit(s);
	if (found_by_mmu(s, failed))
		failed = NULL;
	verify = s->ret ? 0 : oracle_verify(&s->oracle);
	/* A machine that has gone is why the host's last step failed. */
	if (failed && s->config->machine.engine->outside)
		*ret = err_set(err, failed->ret, "%s", failed->err.text);
	else if (s->ret)
		*ret = err_set(err, s->ret, "%s", s->err.text);
	else if (verify)
		*ret = err_set(err, verify, "cannot read DATA back: %s", strerror(-verify));
	else if (failed)
		*ret = err_set(err, failed->ret, "%s", failed->err.text);
	violation_trace(&s->oracle.log);
}

/* Move the log out of the oracle, which is about to go. */
static void take_log(struct stress *s)
{
	s->result->log = s->oracle.log;
	s->oracle.log.nr = 0;
}

/* The workload has no end of its own: one that ended before it was asked to checked nothing since. */
static int ended_early(struct stress *s, struct err *err)
{
	const struct machine_vcpu *v = machine_ended(&s->machine);

	if (!v || v->ret) /* failures speak for themselves */
		return 0;
	return err_set(err, -EIO, "vCPU %u ended by itself with code %u", v->id, v->code);
}

/* A run in which the kernel refused every step has shown nothing. */
static int all_refused(struct stress *s, struct err *err)
{
	const struct err *why = NULL;

	for (int op = 0; op < PLAN_OP_NR; op++) {
		if (s->ops_done[op])
			return 0;
		if (s->refused[op] && !why)
			why = &s->why[op];
	}
	return why ? err_set(err, -EOPNOTSUPP, "every operation was refused; the first: %s", why->text) : 0;
}

/* The step under way may be one that takes seconds, and what it asks of the guest is done only while that runs. */
static u64 last_step_ns(const struct stress *s)
{
	return s->config->machine.engine->outside ? max(s->config->stall_ns, LEAVE_NS) : LEAVE_NS;
}

static int stress_go(struct stress *s, struct err *err)
{
	u32 culprit;
	int ret;
	bool ok;

	s->start_ns = clock_ns();
	trace_set(s->config->trace);
	ret = machine_start(&s->machine, err);
	if (!ret) {
		ret = thread_create(&s->thread, "host", machine_host_cpu(&s->machine), stress_host_thread, s);
		if (ret)
			err_set(err, ret, "cannot start the host's thread: %s", strerror(-ret));
	}
	if (ret) {
		machine_stop(&s->machine, LEAVE_NS, &culprit);
		trace_set(false);
		return ret;
	}
	ok = stress_watch(s);
	ret = ended_early(s, err);
	WRITE_ONCE(s->stop, 1);
	ok = stress_wait_host(s, last_step_ns(s)) && ok;
	fill_result(s);
	if (machine_stop(&s->machine, LEAVE_NS, &culprit)) {
		if (ok)
			stress_report_stall(s, culprit);
		ok = false;
	}
	if (!stress_host_done(s) || s->machine.vcpu[0].started) {
		s->result->stalled = true;
		take_log(s);
		return err_set(err, -ETIMEDOUT, "threads are stuck; nothing more can be measured");
	}
	thread_join(&s->thread);
	look_again(s, err, &ret);
	if (!ret && !violation_total(&s->oracle.log))
		ret = all_refused(s, err);
	trace_set(false);
	return ret;
}

int stress_run(const struct stress_config *config, struct stress_result *result, struct err *err)
{
	/* Not on the stack: threads that are stuck may still look at it. */
	struct stress *s = mem_zalloc(sizeof(*s));
	int ret;

	if (!s)
		return err_set(err, -ENOMEM, "no memory");
	memset(result, 0, sizeof(*result));
	violation_log_init(&result->log);
	s->config = config;
	s->result = result;
	init_waitqueue(&s->done_wait);
	ret = prepare(s, err);
	if (ret) {
		mem_free(s);
		return ret;
	}
	if (config->started)
		config->started(&s->machine.id, config->arg);
	probe3(phase, "stress", config->machine.vcpus, config->machine.seed);
	ret = stress_go(s, err);
	if (result->stalled)
		return ret;
	step_uffd_destroy(s->oracle.uffd);
	/* The arena's end checks the frames that wait in its quarantine: the log goes last. */
	machine_destroy(&s->machine);
	violation_trace(&s->oracle.log);
	take_log(s);
	oracle_destroy(&s->oracle);
	mem_free(s);
	return ret;
}
