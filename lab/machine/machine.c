/* SPDX-License-Identifier: MIT */
/* A running guest: see lab/machine/machine.h. */
#include "lab/machine/machine.h"

#include <ctype.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>

#include "lab/machine/watch.h"
#include "lib/atomic.h"
#include "lib/option.h"
#include "lib/time.h"

/* How long a vCPU rests before it repeats an access that the host does not allow now. */
#define FAULT_PAUSE_NS 20000
/* How long a guest may take to end after it was asked. */
#define GRACE_NS NSEC_PER_SEC
/* What a small run takes beside its guest's memory. */
#define GROUP_REST (12ull << 20)

static u64 system_available_bytes(void)
{
	unsigned long long kib = 0;
	FILE *f = fopen("/proc/meminfo", "re");
	struct sysinfo info;
	char line[128];

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "MemAvailable: %llu kB", &kib) == 1)
			break;
	if (f)
		fclose(f);
	if (kib)
		return kib << 10;
	/* No /proc: all there is. */
	return sysinfo(&info) ? ~0ull : (u64)info.totalram * info.mem_unit;
}

u64 machine_available_bytes(struct cgroup_room *limit)
{
	u64 system = system_available_bytes();

	limit->file[0] = 0;
	if (!cgroup_room("", limit) || limit->room >= system) {
		limit->file[0] = 0;
		return system;
	}
	return limit->room;
}

static DEFINE_LOCK_CLASS(still_class, "machine still");

static void size_text(char *text, size_t n, u64 bytes)
{
	if (bytes >= 1ull << 30)
		snprintf(text, n, "%.1f GiB", (double)bytes / (1ull << 30));
	else
		snprintf(text, n, "%.1f MiB", (double)bytes / (1ull << 20));
}

/* Beside the guest's memory: page tables of both MMUs, pages in limbo, and those in each thread's caches. */
static u64 arena_margin(const struct machine_config *c)
{
	return align_up(c->bytes / 64, 64 << 10) + (1 << 20) + c->vcpus * (64 << 10);
}

static int check_available(const struct machine_config *c, struct err *err)
{
	struct cgroup_room limit;
	u64 available = machine_available_bytes(&limit), rest, most;
	char want[32], have[32], all[32];

	/* For page tables, the oracle, and the rest of the machine. Who goes over a group's limit is killed. */
	rest = available / 8;
	if (limit.file[0])
		rest = min(max(rest, GROUP_REST), available);
	most = available - rest;
	if (c->arena_bytes <= most && c->bytes <= most && c->beside_bytes <= most - c->bytes)
		return 0;
	size_text(want, sizeof(want), max(c->bytes, c->arena_bytes));
	size_text(have, sizeof(have), available);
	size_text(all, sizeof(all), limit.limit);
	if (!limit.file[0])
		return err_set(err, -EINVAL,
			       "%s, and what goes with it, is more than the %s that this machine has available", want,
			       have);
	return err_set(err, -EINVAL,
		       "%s, and what goes with it, is more than what is left, %s, of the %s that %s allows: raise it, "
		       "or give less",
		       want, have, all, limit.file);
}

static int check_bytes(const struct machine_config *c, struct err *err)
{
	char have[32];

	if (!c->bytes)
		return err_set(err, -EINVAL, "a guest memory of 0 bytes; give at least one page (4K)");
	if (!is_aligned(c->bytes, PAGE_SIZE))
		return err_set(err, -EINVAL, "%llu bytes is not a multiple of the page size, 4K",
			       (unsigned long long)c->bytes);
	if (c->ranges > VM_MAX_RANGES)
		return err_set(err, -EINVAL, "%u ranges; 1 to %d are possible", c->ranges, VM_MAX_RANGES);
	if (c->ranges > 1 && c->bytes % (c->ranges * host_backing_table[c->backing].granule))
		return err_set(err, -EINVAL, "%llu bytes do not divide into %u ranges of whole pages",
			       (unsigned long long)c->bytes, c->ranges);
	if (!is_aligned(c->arena_bytes, PAGE_SIZE))
		return err_set(err, -EINVAL, "an arena of %llu bytes is not a multiple of the page size, 4K",
			       (unsigned long long)c->arena_bytes);
	if (c->arena_bytes && !c->engine->own_mm)
		return err_set(err, -EINVAL, "engine %s has no arena: its host memory is Linux's", c->engine->name);
	if (c->arena_bytes && (c->arena_bytes < c->bytes || c->arena_bytes - c->bytes < arena_margin(c))) {
		format_size(arena_margin(c), have, sizeof(have));
		return err_set(err, -EINVAL,
			       "an arena of %llu bytes is too small for %llu bytes of guest memory and %s beside them",
			       (unsigned long long)c->arena_bytes, (unsigned long long)c->bytes, have);
	}
	return check_available(c, err);
}

/* "0,2,4-7" into @cpu. Return: how many; -EINVAL. */
static int parse_cpus(const char *text, int *cpu, u32 room)
{
	u32 n = 0;

	while (*text) {
		char *end;
		unsigned long first = strtoul(text, &end, 10), last = first;

		if (!isdigit((unsigned char)*text)) /* strtoul() takes blanks and signs */
			return -EINVAL;
		if (*end == '-') {
			if (!isdigit((unsigned char)end[1]))
				return -EINVAL;
			last = strtoul(end + 1, &end, 10);
		}
		if (last < first || last >= CPU_SETSIZE || (*end && *end != ',') || (*end == ',' && !end[1]))
			return -EINVAL;
		for (; first <= last && n < room; first++)
			cpu[n++] = (int)first;
		text = *end ? end + 1 : end;
	}
	return n ? (int)n : -EINVAL;
}

/* The processors to use: those asked for, all of them allowed; or all allowed. */
static int pick_cpus(const char *list, int *cpu, struct err *err)
{
	cpu_set_t allowed;
	int n = 0;

	if (sched_getaffinity(0, sizeof(allowed), &allowed))
		return err_set(err, -errno, "sched_getaffinity: %s", strerror(errno));
	if (list) {
		n = parse_cpus(list, cpu, MACHINE_MAX_CPUS);
		if (n < 0)
			return err_set(err, -EINVAL, "'%s' is no list of processors such as 0,2,4-7", list);
		for (int i = 0; i < n; i++)
			if (!CPU_ISSET(cpu[i], &allowed))
				return err_set(err, -EINVAL, "processor %d does not exist or is not allowed here",
					       cpu[i]);
		return n;
	}
	for (int i = 0; i < CPU_SETSIZE && n < MACHINE_MAX_CPUS; i++)
		if (CPU_ISSET(i, &allowed))
			cpu[n++] = i;
	return n;
}

int machine_check(const struct machine_config *config, struct err *err)
{
	int cpu[MACHINE_MAX_CPUS];
	int ret;

	if (!config->vcpus || config->vcpus > GUEST_MAX_VCPUS)
		return err_set(err, -EINVAL, "%u vCPUs; 1 to %d are possible", config->vcpus, GUEST_MAX_VCPUS);
	ret = check_bytes(config, err);
	if (ret)
		return ret;
	ret = pick_cpus(config->cpus, cpu, err);
	return ret < 0 ? ret : 0;
}

static void identify(struct machine *m)
{
	struct vm_identity id = { 0 };

	vm_identify(m->vm, &id);
	snprintf(m->id.engine, sizeof(m->id.engine), "%s", id.engine);
	snprintf(m->id.mmu, sizeof(m->id.mmu), "%s", id.mmu);
	snprintf(m->id.host_mm, sizeof(m->id.host_mm), "%s", id.host_mm);
	snprintf(m->id.cpu, sizeof(m->id.cpu), "%s", id.cpu);
	snprintf(m->id.under, sizeof(m->id.under), "%s", id.under);
}

static int create_vm(struct machine *m, struct err *err)
{
	const struct machine_config *c = &m->config;
	struct vm_config config = {
		.vcpus = c->vcpus,
		.arena_bytes = c->arena_bytes,
		.data_bytes = c->bytes,
	};
	u64 fixed = sizeof(struct guest_shared) + c->vcpus * sizeof(struct guest_vcpu);
	int ret;

	config.shared_bytes = align_up(fixed + c->extra_bytes, PAGE_SIZE);
	ret = vm_create(c->engine, &config, &m->vm, err);
	if (ret)
		return ret;
	m->shared = vm_shared(m->vm);
	m->extra_offset = align_up(m->shared->vcpu_offset + c->vcpus * sizeof(struct guest_vcpu), PAGE_SIZE);
	BUG_ON(m->extra_offset + c->extra_bytes > config.shared_bytes);
	m->extra = (char *)vm_shared(m->vm) + m->extra_offset;
	m->shared->seed = c->seed;
	if (!m->shared->tsc_khz)
		m->shared->tsc_khz = cycles_khz();
	identify(m);
	return 0;
}

static int set_data(struct machine *m, struct err *err)
{
	u32 ranges = max(m->config.ranges, 1u);
	u64 each = host_range_bytes(&m->host);
	hva_t hva[VM_MAX_RANGES];

	for (u32 i = 0; i < ranges; i++)
		hva[i] = host_addr(&m->host, i * each);
	return vm_set_ranges(m->vm, hva, ranges, each, err);
}

int machine_create(struct machine *m, const struct machine_config *config, struct err *err)
{
	int ret;

	memset(m, 0, sizeof(*m));
	m->config = *config;
	init_waitqueue(&m->changed);
	mutex_init(&m->still, &still_class);
	ret = machine_check(config, err);
	if (ret)
		return ret;
	m->cpus = pick_cpus(config->cpus, m->cpu, err);
	ret = create_vm(m, err);
	if (ret)
		return ret;
	m->host = (struct host){
		.backing = config->backing,
		.bytes = config->bytes,
		.ranges = config->ranges,
		.limbo_bytes = config->limbo_bytes,
		.mm = vm_mm(m->vm),
		.vm = config->engine->outside ? m->vm : NULL,
	};
	ret = host_create(&m->host, err);
	if (ret) {
		m->host.ops = NULL;
		goto fail;
	}
	ret = set_data(m, err);
	if (!ret)
		ret = vm_load(m->vm, &config->image, config->argc, config->argv, err);
	if (ret)
		goto fail;
	for (u32 i = 0; i < config->vcpus; i++) {
		m->vcpu[i].machine = m;
		m->vcpu[i].id = i;
		m->vcpu[i].vcpu = vm_vcpu(m->vm, i);
		m->vcpu[i].cpu = config->any_cpu ? -1 : m->cpu[i % m->cpus];
	}
	return 0;
fail:
	machine_destroy(m);
	return ret;
}

static bool machine_fault(struct machine_vcpu *v, const struct vcpu_exit *exit)
{
	const struct machine_config *c = &v->machine->config;

	if (READ_ONCE(v->machine->stop))
		return false;
	if (c->fault && exit->gpa >= GUEST_DATA_GPA && c->fault(v->id, exit->gpa - GUEST_DATA_GPA, c->arg))
		return true;
	if (c->retry_faults) {
		WRITE_ONCE(v->retried, v->retried + 1);
		thread_sleep_ns(FAULT_PAUSE_NS);
		return true;
	}
	v->ret = err_set(&v->err, -EFAULT, "vCPU %u: %s of %#llx, which is not backed now", v->id,
			 exit->write ? "write" : "access", (unsigned long long)exit->gpa);
	return false;
}

/*
 * DATA's memslot is away. KVM has begun the access and wants it done by us: then it
 * happens when the host rests, to the memory that DATA is by then. For the guest it is
 * one slow access, between what it did before and after.
 */
static bool machine_mmio(struct machine_vcpu *v, const struct vcpu_exit *exit)
{
	struct machine *m = v->machine;
	u64 off = exit->gpa - GUEST_DATA_GPA, word = 0;
	bool done = false;

	if (READ_ONCE(m->stop))
		return false;
	WRITE_ONCE(v->retried, v->retried + 1);
	if (!exit->bytes) {
		thread_sleep_ns(FAULT_PAUSE_NS);
		return true;
	}
	if (exit->bytes != sizeof(word) || !is_aligned(off, sizeof(word))) {
		v->ret = err_set(&v->err, -EFAULT, "vCPU %u: %zu bytes at %#llx, where there is no memory now", v->id,
				 exit->bytes, (unsigned long long)exit->gpa);
		return false;
	}
	fetch_add(&m->waiting, 1);
	mutex_lock(&m->still);
	if (!m->broken && exit->write) {
		memcpy(&word, exit->data, sizeof(word));
		done = !m->host.ops->write64(&m->host, off, word);
	} else if (!m->broken) {
		done = !m->host.ops->read64(&m->host, off, &word);
		memcpy(exit->reply, &word, sizeof(word));
	}
	mutex_unlock(&m->still);
	fetch_add(&m->waiting, (u32)-1);
	return done;
}

static bool machine_exit(struct vcpu *vcpu, const struct vcpu_exit *exit, void *arg)
{
	struct machine_vcpu *v = arg;
	struct machine *m = v->machine;

	switch (exit->reason) {
	case VCPU_EXIT_DONE:
		v->exited = true;
		v->code = exit->code;
		return false;
	case VCPU_EXIT_TEXT:
		if (m->config.text)
			m->config.text(v->id, exit->data, exit->bytes, m->config.arg);
		return !READ_ONCE(m->stop);
	case VCPU_EXIT_FAULT:
		return machine_fault(v, exit);
	case VCPU_EXIT_MMIO:
		if (m->config.retry_faults && exit->gpa >= GUEST_DATA_GPA &&
		    exit->gpa - GUEST_DATA_GPA < m->config.bytes)
			return machine_mmio(v, exit);
		v->ret = err_set(&v->err, -EFAULT, "vCPU %u: %s of %#llx, where there is no memory", v->id,
				 exit->write ? "write" : "read", (unsigned long long)exit->gpa);
		return false;
	case VCPU_EXIT_KICK:
		return !READ_ONCE(m->stop);
	case VCPU_EXIT_CRASH:
		v->ret = err_set(&v->err, -EPROTO, "vCPU %u: %s", v->id, exit->err.text);
		return false;
	}
	return false;
}

static void machine_vcpu_thread(void *arg)
{
	struct machine_vcpu *v = arg;
	struct err err = { "" };
	int ret;

	thread_block_signals();
	ret = vcpu_run(v->vcpu, machine_exit, v, &err);
	if (ret && !v->ret)
		v->ret = err_set(&v->err, ret, "vCPU %u: %s", v->id, err.text);
	/* Pairs with the load-acquire of who reads the result. */
	smp_store_release(&v->state, MACHINE_VCPU_ENDED);
	wake_up_all(&v->machine->changed);
}

int machine_start(struct machine *m, struct err *err)
{
	char name[THREAD_NAME_BYTES];
	int ret;

	for (u32 i = 0; i < m->config.vcpus; i++) {
		struct machine_vcpu *v = &m->vcpu[i];

		snprintf(name, sizeof(name), "vcpu%u", i);
		v->state = MACHINE_VCPU_RUNNING;
		ret = thread_create(&v->thread, name, v->cpu, machine_vcpu_thread, v);
		if (ret)
			return err_set(err, ret, "cannot start a thread for vCPU %u: %s", i, strerror(-ret));
		v->started = true;
	}
	return 0;
}

static bool vcpu_ended(const struct machine_vcpu *v)
{
	return !v->started || smp_load_acquire(&v->state) == MACHINE_VCPU_ENDED;
}

static bool all_ended(const struct machine *m)
{
	for (u32 i = 0; i < m->config.vcpus; i++)
		if (!vcpu_ended(&m->vcpu[i]))
			return false;
	return true;
}

bool machine_wait(struct machine *m, u64 ns)
{
	return wait_event_timeout(&m->changed, all_ended(m), ns);
}

/* As machine_wait(), but of time in which the vCPUs could run (lab/machine/watch.h). */
static bool wait_given(struct machine *m, u64 ns)
{
	struct watched look[GUEST_MAX_VCPUS] = { { .beat = 0 } };
	struct watch w;

	watch_init(&w, m->config.vcpus, ns, clock_ns());
	while (!machine_wait(m, WATCH_NS)) {
		for (u32 i = 0; i < m->config.vcpus; i++)
			if (m->vcpu[i].started)
				thread_get_usage(&m->vcpu[i].thread, &look[i].usage);
		if (watch_look(&w, look, clock_ns()) != WATCH_NOBODY)
			return all_ended(m);
	}
	return true;
}

int machine_stop(struct machine *m, u64 ns, u32 *culprit)
{
	/* Guests that look at it end by themselves and finish their sentence; the others are made to leave. */
	WRITE_ONCE(m->shared->stop, 1);
	wait_given(m, GRACE_NS);
	WRITE_ONCE(m->stop, 1);
	for (u32 i = 0; i < m->config.vcpus; i++)
		if (m->vcpu[i].started)
			vcpu_kick(m->vcpu[i].vcpu);
	if (!wait_given(m, ns)) {
		for (*culprit = 0; vcpu_ended(&m->vcpu[*culprit]); (*culprit)++)
			;
		return -ETIMEDOUT;
	}
	for (u32 i = 0; i < m->config.vcpus; i++) {
		if (m->vcpu[i].started)
			thread_join(&m->vcpu[i].thread);
		m->vcpu[i].started = false;
	}
	return 0;
}

const struct machine_vcpu *machine_failed(const struct machine *m)
{
	for (u32 i = 0; i < m->config.vcpus; i++)
		if (smp_load_acquire(&m->vcpu[i].state) == MACHINE_VCPU_ENDED && m->vcpu[i].ret)
			return &m->vcpu[i];
	return NULL;
}

const struct machine_vcpu *machine_ended(const struct machine *m)
{
	for (u32 i = 0; i < m->config.vcpus; i++)
		if (smp_load_acquire(&m->vcpu[i].state) == MACHINE_VCPU_ENDED)
			return &m->vcpu[i];
	return NULL;
}

int machine_host_cpu(const struct machine *m)
{
	return m->cpu[m->cpus - 1];
}

void machine_destroy(struct machine *m)
{
	host_destroy(&m->host);
	if (m->vm)
		vm_destroy(m->vm);
	m->vm = NULL;
}
