/* SPDX-License-Identifier: MIT */
/*
 * The machine's memory shrinks and grows: by its balloon, and by a memory device plugged
 * in and out. Both want the guest to do its part, for which it has an agent
 * (guest/rt/agent.c).
 *
 *   libvirt                     QEMU                        the guest's agent
 *   set memory                  the balloon wants n pages
 *                                                           names n pages of DATA
 *                               discards them: zeros        holds n
 *   attach device               memory, and an event        maps, writes and reads it
 *   detach device               an event                    ejects it
 *                               memory gone
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "lib/thread.h"
#include "lib/time.h"
#include "vmm/qemu_internal.h"

#define AGENT_NS (100 * NSEC_PER_SEC) /* firmware may run before it, seconds */
#define LOOK_NS (100 * NSEC_PER_USEC)
#define DIMM_BYTES (16ul << 20)

/* --- the guest's part -------------------------------------------------------------------- */

/* Under a Linux the devices are its drivers'. */
static int has_agent(const char *device, struct err *err)
{
	if (!qemu_config.under_linux)
		return 0;
	return err_set(err, -EOPNOTSUPP, "--linux: the %s is for Linux's own drivers, which its initramfs has not",
		       device);
}

static int wait_for(struct vm *vm, bool (*come)(const struct guest_agent *a), struct err *err)
{
	const struct guest_agent *a = &vm_guest_shared(vm)->agent;
	u64 start = clock_ns();

	while (!come(a)) {
		if (qemu_process_ended(&to_qemu(vm)->domain))
			return err_set(err, -EIO, "QEMU has ended");
		if (clock_ns() - start > AGENT_NS)
			return err_set(err, -ETIMEDOUT, "the guest's agent does not answer");
		thread_sleep_ns(LOOK_NS);
	}
	return 0;
}

static bool is_ready(const struct guest_agent *a)
{
	return smp_load_acquire(&a->ready);
}

static bool is_done(const struct guest_agent *a)
{
	return smp_load_acquire(&a->done) == READ_ONCE(a->posted);
}

static void post(struct vm *vm, enum guest_agent_what what, u64 first, u64 pages)
{
	struct guest_agent *a = &vm_guest_shared(vm)->agent;

	WRITE_ONCE(a->what, what);
	WRITE_ONCE(a->first, first);
	WRITE_ONCE(a->pages, pages);
	WRITE_ONCE(a->target, (u32)pages);
	/* Pairs with the guest's load-acquire: who sees it sees the request. */
	smp_store_release(&a->posted, a->posted + 1);
}

static int answer(struct vm *vm, const char *device, struct err *err)
{
	int ret = wait_for(vm, is_done, err);

	if (ret)
		return ret;
	switch (READ_ONCE(vm_guest_shared(vm)->agent.result)) {
	case GUEST_AGENT_OK:
		return 0;
	case GUEST_AGENT_NO_DEVICE:
		return err_set(err, -EOPNOTSUPP, "the guest finds no %s", device);
	case GUEST_AGENT_BAD_MEMORY:
		return err_set(err, -EBADMSG,
			       "the guest did not find zeros in the memory that was plugged in, or not "
			       "what it wrote there");
	default:
		return err_set(err, -EIO, "the guest finds the %s not as it should be", device);
	}
}

/* --- balloon --------------------------------------------------------------------------------- */

static int check_balloon(struct vm *vm, u64 expected, struct err *err)
{
	struct qemu_domain *d = &to_qemu(vm)->domain;
	json_t *state = qemu_monitor(d, "{\"execute\":\"query-balloon\"}", err);
	u64 actual = (u64)json_integer_value(json_object_get(state, "actual"));

	if (!state)
		return -EIO;
	json_decref(state);
	if (actual == expected)
		return 0;
	return err_set(err, -EIO, "%s: %llu bytes are left beside the balloon instead of %llu", d->name,
		       (unsigned long long)actual, (unsigned long long)expected);
}

int qemu_balloon(struct vm *vm, u64 first, u64 pages, struct err *err)
{
	struct qemu_vm *q = to_qemu(vm);
	u64 left = q->layout.ram_bytes - pages * PAGE_SIZE;
	int ret = has_agent("balloon", err);

	ret = ret ?: wait_for(vm, is_ready, err);
	if (ret)
		return ret;
	if (virt->virDomainSetMemoryFlags(q->domain.handle, left / 1024, VIR_DOMAIN_AFFECT_LIVE))
		return virt_error(err, "balloon");
	post(vm, GUEST_AGENT_BALLOON, first, pages);
	ret = answer(vm, "virtio balloon", err);
	return ret ?: check_balloon(vm, left, err);
}

/* --- memory device --------------------------------------------------------------------------- */

/* Attach, or detach: libvirt finds the one that looks like it. */
static int with_dimm(struct qemu_vm *q, int (*call)(virDomainPtr, const char *, unsigned int), struct err *err)
{
	xmlBufferPtr text = qemu_dimm_xml(DIMM_BYTES);
	int ret;

	if (!text)
		return err_set(err, -ENOMEM, "no memory for the device's description");
	ret = call(q->domain.handle, (const char *)virt->xmlBufferContent(text), VIR_DOMAIN_AFFECT_LIVE);
	virt->xmlBufferFree(text);
	return ret ? virt_error(err, "memory device") : 0;
}

/* Before anything is attached, for a guest without slots could not give it back. With slots it says that they are
 * empty. */
static int find_slots(struct vm *vm, struct err *err)
{
	int ret;

	post(vm, GUEST_AGENT_PLUG, 0, 0);
	ret = wait_for(vm, is_done, err);
	if (!ret && READ_ONCE(vm_guest_shared(vm)->agent.result) == GUEST_AGENT_NO_DEVICE)
		ret = answer(vm, "memory slots", err);
	return ret;
}

int qemu_plug(struct vm *vm, struct err *err)
{
	struct qemu_vm *q = to_qemu(vm);
	int ret = has_agent("memory device", err);

	if (ret)
		return ret;
	if (!qemu_has_slots())
		return err_set(err, -EOPNOTSUPP, "machine %s has no memory slots: --machine pc or q35",
			       qemu_config.machine);
	ret = wait_for(vm, is_ready, err);
	ret = ret ?: find_slots(vm, err);
	ret = ret ?: with_dimm(q, virt->virDomainAttachDeviceFlags, err);
	if (ret)
		return ret;
	post(vm, GUEST_AGENT_PLUG, 0, 0);
	return answer(vm, "memory slots", err);
}

/*
 * libvirt waits a few seconds for the guest and then says that it is done. Only when its
 * description is without the device may another be attached.
 */
static int wait_unplugged(const struct qemu_domain *d, struct err *err)
{
	u64 start = clock_ns();
	bool left = true;

	while (left && clock_ns() - start < AGENT_NS) {
		char *text = virt->virDomainGetXMLDesc(d->handle, 0);

		if (!text)
			return virt_error(err, d->name);
		left = strstr(text, "<memory model=");
		free(text);
		if (left)
			thread_sleep_ns(NSEC_PER_MSEC);
	}
	return left ? err_set(err, -ETIMEDOUT, "%s: the memory device does not go", d->name) : 0;
}

int qemu_unplug(struct vm *vm, struct err *err)
{
	struct qemu_vm *q = to_qemu(vm);
	int ret;

	post(vm, GUEST_AGENT_UNPLUG, 0, 0);
	ret = with_dimm(q, virt->virDomainDetachDeviceFlags, err);
	ret = ret ?: answer(vm, "memory slots", err);
	return ret ?: wait_unplugged(&q->domain, err);
}
