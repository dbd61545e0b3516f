/* SPDX-License-Identifier: MIT */
/* Driving the guest workload `touch`: see lab/machine/touch.h. */
#include "lab/machine/touch.h"

#include "lib/time.h"
#include "mm/mm.h"

#define ANSWER_NS (120 * NSEC_PER_SEC)
#define LEAVE_NS (10 * NSEC_PER_SEC)
#define POLL_NS (50 * NSEC_PER_USEC) /* seldom enough to disturb no measurement */
#define POLL_SHARED_NS NSEC_PER_MSEC /* where the caller takes its turn on a vCPU's processor */
#define POLL_MOST_NS (10 * NSEC_PER_MSEC)
#define STORM 64     /* accesses failed: worth a look at what they may be missing */
#define POLL_SHARE 8 /* a long command is looked at seldom: each look may cost a vCPU two switches */

u64 touch_part(const struct touch *t)
{
	return t->machine.config.bytes / PAGE_SIZE / t->machine.config.vcpus;
}

int touch_start(struct touch *t, const struct machine_config *config, const u32 *stop, struct err *err)
{
	struct machine_config c = *config;
	int ret;

	*t = (struct touch){ .stop = stop };
	if (!c.vcpus || c.bytes / PAGE_SIZE < c.vcpus)
		return err_set(err, -EINVAL, "fewer pages than vCPUs");
	t->sample_count = c.bytes / PAGE_SIZE / c.vcpus;
	c.image = (struct guest_image){ .name = "touch" };
	c.extra_bytes = c.vcpus * t->sample_count * sizeof(u32);
	c.retry_faults = true;
	ret = machine_create(&t->machine, &c, err);
	if (ret)
		return ret;
	/* The arena's own memory is there before anybody measures what using it costs. */
	if (vm_mm(t->machine.vm))
		frame_arena_populate(mm_arena(vm_mm(t->machine.vm)));
	t->machine.shared->sample_offset = t->machine.extra_offset;
	t->machine.shared->sample_count = t->sample_count;
	ret = machine_start(&t->machine, err);
	if (ret && !touch_end(t, NULL))
		return ret;
	return ret;
}

int touch_end(struct touch *t, struct err *err)
{
	u32 culprit;
	int ret = machine_stop(&t->machine, LEAVE_NS, &culprit);

	if (ret)
		return err_set(err, ret, "vCPU %u does not leave its guest", culprit);
	machine_destroy(&t->machine);
	return 0;
}

static void post(struct touch *t, u32 vcpu, const struct guest_command *command)
{
	struct guest_vcpu *gv = vm_guest_vcpu(t->machine.vm, vcpu);
	u64 part = touch_part(t), first = min(command->first, part);

	WRITE_ONCE(gv->command.first, vcpu * part + first);
	WRITE_ONCE(gv->command.pages, min(command->pages, part - first));
	WRITE_ONCE(gv->command.stride, command->stride);
	WRITE_ONCE(gv->command.seed, command->seed);
	WRITE_ONCE(gv->command.limit, command->limit);
	WRITE_ONCE(gv->command.order, command->order);
	WRITE_ONCE(gv->command.write, command->write);
	WRITE_ONCE(gv->command.timed, command->timed);
	WRITE_ONCE(gv->command.quit, command->quit);
	WRITE_ONCE(gv->command.repeat, command->repeat);
	/* Pairs with the guest's load-acquire: who sees it sees the command. */
	smp_store_release(&gv->posted, ++t->posted[vcpu]);
}

void touch_post(struct touch *t, const struct guest_command *command)
{
	for (u32 v = 0; v < t->machine.config.vcpus; v++)
		post(t, v, command);
}

/* What a vCPU wrote before `done` is visible then. */
bool touch_answered(struct touch *t)
{
	for (u32 v = 0; v < t->machine.config.vcpus; v++)
		if (smp_load_acquire(&vm_guest_vcpu(t->machine.vm, v)->done) < t->posted[v])
			return false;
	return true;
}

/* Accesses fail, and are repeated, as long as nothing comes. Return: 0; -ENOSPC: nothing will. */
static int starved(struct touch *t, u64 *retried, struct err *err)
{
	const struct host_ops *ops = t->machine.host.ops;
	u64 sum = 0;

	for (u32 v = 0; v < t->machine.config.vcpus; v++)
		sum += READ_ONCE(t->machine.vcpu[v].retried);
	if (sum - *retried < STORM)
		return 0;
	*retried = sum;
	return ops->full ? ops->full(&t->machine.host, err) : 0;
}

/* Until @come, or it cannot come any more. */
static int wait_until(struct touch *t, bool (*come)(struct touch *t, u64 arg), u64 arg, struct err *err)
{
	u64 start = clock_ns(), retried = 0;
	u64 poll_ns = t->machine.cpus > t->machine.config.vcpus ? POLL_NS : POLL_SHARED_NS, spent;

	while (!come(t, arg)) {
		const struct machine_vcpu *failed = machine_failed(&t->machine);

		if (failed)
			return err_set(err, -EIO, "%s", failed->err.text);
		if (t->stop && READ_ONCE(*t->stop))
			return err_set(err, -EINTR, "stopped");
		if (starved(t, &retried, err))
			return -ENOSPC;
		spent = clock_ns() - start;
		if (spent > ANSWER_NS)
			return err_set(err, -ETIMEDOUT, "the guest has not finished a command for %llu s",
				       ANSWER_NS / NSEC_PER_SEC);
		thread_sleep_ns(max(poll_ns, min(spent / POLL_SHARE, POLL_MOST_NS)));
	}
	return 0;
}

static bool answered(struct touch *t, u64 arg)
{
	(void)arg;
	return touch_answered(t);
}

int touch_wait(struct touch *t, struct err *err)
{
	if (t->nap_ns)
		thread_sleep_ns(t->nap_ns);
	return wait_until(t, answered, 0, err);
}

/* Two: the first may have been under way. */
static bool beats_behind(struct touch *t, u64 from)
{
	return READ_ONCE(vm_guest_vcpu(t->machine.vm, 0)->heartbeat) >= from + 2;
}

int touch_goes_on(struct touch *t, struct err *err)
{
	return wait_until(t, beats_behind, READ_ONCE(vm_guest_vcpu(t->machine.vm, 0)->heartbeat), err);
}

const u32 *touch_samples(const struct touch *t, u32 vcpu)
{
	return (const u32 *)t->machine.extra + vcpu * t->sample_count;
}

static void add_samples(struct touch *t, u32 vcpu, u64 n, struct hist *samples)
{
	const u32 *sample = touch_samples(t, vcpu);

	n = min(n, t->sample_count); /* the guest's word */
	for (u64 i = 0; i < n; i++)
		hist_add(samples, cycles_to_unit(READ_ONCE(sample[i])));
}

void touch_span(const struct touch *t, u64 *begun, u64 *ended)
{
	for (u32 v = 0; v < t->machine.config.vcpus; v++) {
		struct guest_vcpu *gv = vm_guest_vcpu(t->machine.vm, v);
		u64 start = READ_ONCE(gv->command_begun), spent = READ_ONCE(gv->command_cycles);

		if (!spent)
			continue;
		*begun = min(*begun, start);
		*ended = max(*ended, start + spent);
	}
}

int touch_run(struct touch *t, const struct guest_command *command, u64 *ns, u64 *accesses, struct hist *samples,
	      struct err *err)
{
	u64 begun = ~0ull, ended = 0, sum = 0;
	int ret;

	touch_post(t, command);
	ret = touch_wait(t, err);
	if (ret)
		return ret;
	touch_span(t, &begun, &ended);
	for (u32 v = 0; v < t->machine.config.vcpus; v++) {
		struct guest_vcpu *gv = vm_guest_vcpu(t->machine.vm, v);

		sum += command->limit ? min(command->limit, READ_ONCE(gv->command.pages))
				      : READ_ONCE(gv->command.pages);
		if (samples && command->timed)
			add_samples(t, v, READ_ONCE(gv->samples), samples);
	}
	if (ns)
		*ns = cycles_to_ns(ended > begun ? ended - begun : 0);
	if (accesses)
		*accesses = sum;
	return 0;
}
