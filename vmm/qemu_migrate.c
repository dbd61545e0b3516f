/* SPDX-License-Identifier: MIT */
/*
 * Live migration to a second QEMU on this host. libvirt itself refuses to move a domain
 * to the host it is on, so both ends are domains of ours and the two are told through the
 * monitor. The guest's memory goes over TCP, on loopback.
 *
 *   second domain, paused        the guest runs in the first
 *   it listens; the first sends  the same; QEMU sends again what the guest has dirtied since
 *   "completed"                  stands still: the first has stopped for good
 *   the second's RAM mapped here the same
 *   resume                       runs in the second
 *   first destroyed
 *
 * What tain writes to the guest's memory is in no dirty log of QEMU's, so tain must not
 * write while this goes on. The one exception is `stop`, which another thread may set at
 * any moment: it is carried over by hand.
 *
 * Under TCG the guest's own writes are not in it either, not all of them: a TLB entry that
 * writes without marking its page survives a look at the log (QEMU 7.2). There the domain
 * is suspended first, and resumed in the second QEMU.
 */
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/thread.h"
#include "lib/time.h"
#include "vmm/qemu_internal.h"

#define MIGRATE_NS (200 * NSEC_PER_SEC)
#define LOOK_NS (5 * NSEC_PER_MSEC)
#define DRAIN_NS (20 * NSEC_PER_SEC)

/* Let it listen. *@port: where. */
static int listen_for(const struct qemu_domain *d, unsigned int *port, struct err *err)
{
	json_t *state;
	int ret;

	ret = qemu_tell(d, "{\"execute\":\"migrate-incoming\",\"arguments\":{\"uri\":\"tcp:127.0.0.1:0\"}}", err);
	state = ret ? NULL : qemu_monitor(d, "{\"execute\":\"query-migrate\"}", err);
	if (!state)
		return -EIO;
	*port = (unsigned int)atoi(
		json_string_value(json_object_get(json_array_get(json_object_get(state, "socket-address"), 0), "port"))
			?: "0");
	json_decref(state);
	return *port ? 0 : err_set(err, -EIO, "%s: QEMU does not say where it listens", d->name);
}

static int send_to(const struct qemu_domain *d, unsigned int port, struct err *err)
{
	char command[128];
	int ret;

	/* Loopback is fast; a guest that writes everywhere may be slowed down until it ends. */
	ret = qemu_tell(d,
			"{\"execute\":\"migrate-set-parameters\",\"arguments\":"
			"{\"max-bandwidth\":8589934592,\"downtime-limit\":300}}",
			err);
	ret = ret
		      ?: qemu_tell(d,
				   "{\"execute\":\"migrate-set-capabilities\",\"arguments\":{\"capabilities\":"
				   "[{\"capability\":\"auto-converge\",\"state\":true}]}}",
				   err);
	snprintf(command, sizeof(command), "{\"execute\":\"migrate\",\"arguments\":{\"uri\":\"tcp:127.0.0.1:%u\"}}",
		 port);
	return ret ?: qemu_tell(d, command, err);
}

/* Return: 0 completed; -EAGAIN under way; -EIO failed. */
static int ask(struct qemu_vm *q, struct err *err)
{
	json_t *state = qemu_monitor(&q->domain, "{\"execute\":\"query-migrate\"}", err);
	const char *status = json_string_value(json_object_get(state, "status"));
	int ret = -EAGAIN;

	if (!state)
		return -EIO;
	if (status && !strcmp(status, "completed")) {
		q->downtime_ns = (u64)json_integer_value(json_object_get(state, "downtime")) * NSEC_PER_MSEC;
		ret = 0;
	} else if (!status || !strcmp(status, "failed") || !strcmp(status, "cancelled")) {
		ret = err_set(err, -EIO, "migration %s: %.200s", status ?: "has no state",
			      json_string_value(json_object_get(state, "error-desc")) ?: "no reason given");
	}
	json_decref(state);
	return ret;
}

static int wait_completed(struct qemu_vm *q, struct err *err)
{
	u64 start = clock_ns();
	int ret;

	while ((ret = ask(q, err)) == -EAGAIN && clock_ns() - start < MIGRATE_NS)
		thread_sleep_ns(LOOK_NS);
	if (ret == -EAGAIN) {
		qemu_tell(&q->domain, "{\"execute\":\"migrate_cancel\"}", NULL);
		err_set(err, -ETIMEDOUT, "migration took longer than %llu s: cancelled",
			(unsigned long long)(MIGRATE_NS / NSEC_PER_SEC));
	}
	return ret == -EAGAIN ? -ETIMEDOUT : ret;
}

/*
 * "Completed" is what the first says; the second may still be taking it in. Told to resume
 * then, it does so in the end, unless it came suspended: that it stays.
 */
static int wait_arrived(const struct qemu_domain *next, struct err *err)
{
	u64 start = clock_ns();
	json_t *state;
	bool arrived = false;

	while (!arrived && clock_ns() - start < MIGRATE_NS) {
		state = qemu_monitor(next, "{\"execute\":\"query-status\"}", err);
		if (!state)
			return -EIO;
		arrived = strcmp(json_string_value(json_object_get(state, "status")) ?: "", "inmigrate") != 0;
		json_decref(state);
		if (!arrived)
			thread_sleep_ns(LOOK_NS);
	}
	return arrived ? 0 : err_set(err, -ETIMEDOUT, "%s: the migration does not arrive", next->name);
}

/* The first has stopped, so nothing more will come: vCPU 0's thread reads what is there. */
static void drain_console(const struct qemu_domain *d)
{
	u64 start = clock_ns();
	int left = 0;

	while (!ioctl(d->console, FIONREAD, &left) && left && clock_ns() - start < DRAIN_NS)
		thread_sleep_ns(NSEC_PER_MSEC);
}

/*
 * Descriptors keep their numbers, which other threads poll on: what they wait for just
 * becomes another. Afterwards @next is the old domain.
 */
int qemu_take_over(struct vm *vm, struct qemu_domain *next, struct err *err)
{
	struct qemu_domain *d = &to_qemu(vm)->domain, old = *d;
	struct guest_shared *before;
	int ret;

	before = mmap(NULL, sizeof(*before), PROT_READ, MAP_SHARED, d->ram,
		      (off_t)qemu_in_ram(&to_qemu(vm)->layout, GUEST_SHARED_GPA));
	if (before == MAP_FAILED)
		return err_set(err, -errno, "domain %s: its memory cannot be mapped: %s", d->name, strerror(errno));
	ret = qemu_map_memory(vm, next, err);
	if (!ret && READ_ONCE(before->stop))
		WRITE_ONCE(vm_guest_shared(vm)->stop, 1);
	munmap(before, sizeof(*before));
	if (ret)
		return ret;
	drain_console(d);
	old.pidfd = fcntl(d->pidfd, F_DUPFD_CLOEXEC, 0);
	dup3(next->pidfd, d->pidfd, O_CLOEXEC);
	dup3(next->console, d->console, O_CLOEXEC);
	dup3(next->ram, d->ram, O_CLOEXEC);
	close(next->pidfd);
	close(next->console);
	close(next->ram);
	/* Their three fields are read by other threads, and stay. */
	d->handle = next->handle;
	d->pid = next->pid;
	d->hva = next->hva;
	d->below = next->below;
	memcpy(d->name, next->name, sizeof(d->name));
	memcpy(d->uuid, next->uuid, sizeof(d->uuid));
	memcpy(d->emulator, next->emulator, sizeof(d->emulator));
	old.console = old.ram = -1;
	*next = old;
	return 0;
}

/* Half taken over is worse than not at all: SHARED is the first's again then. */
static int take_over_or_stay(struct vm *vm, struct qemu_domain *next, struct err *err)
{
	int ret = qemu_take_over(vm, next, err);

	if (ret)
		qemu_map_memory(vm, &to_qemu(vm)->domain, NULL);
	return ret;
}

int qemu_migrate(struct vm *vm, struct err *err)
{
	static const char *const incoming[] = { "-incoming", "defer", NULL };
	struct qemu_vm *q = to_qemu(vm);
	struct qemu_domain next = { .pidfd = -1, .ram = -1, .console = -1 };
	unsigned int port;
	bool suspended;
	int ret;

	ret = qemu_domain_start(vm, &next, incoming, NULL, err);
	if (ret)
		return ret;
	suspended = !q->kvm;
	if (suspended && virt->virDomainSuspend(q->domain.handle))
		ret = virt_error(err, q->domain.name);
	ret = ret ?: listen_for(&next, &port, err);
	ret = ret ?: send_to(&q->domain, port, err);
	ret = ret ?: wait_completed(q, err);
	ret = ret ?: wait_arrived(&next, err);
	ret = ret ?: take_over_or_stay(vm, &next, err);
	if (!ret && virt->virDomainResume(q->domain.handle))
		ret = virt_error(err, q->domain.name);
	else if (ret)
		virt->virDomainResume(q->domain.handle); /* where it was; should that fail, it ends with tain */
	qemu_domain_end(q, &next);			 /* the first; or, if that failed, the second */
	return ret;
}
