/* SPDX-License-Identifier: MIT */
/* See tests/vmm_env.h. */
#include "tests/vmm_env.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/atomic.h"
#include "mm/mm.h"

/*
 * Where DATA goes. In this process it lies far below everything else: the tests make
 * holes in it, and Linux gives the highest hole to the next mmap() of any thread.
 */
#define ENV_DATA_HVA 0x7e9000000000ull

static void env_map_data(struct env *e, hva_t at, size_t bytes)
{
	void *mapped;

	if (e->engine->own_mm) {
		CHECK_EQ(mm_mmap(vm_mm(e->vm), at, bytes, TAIN_PROT_READ | TAIN_PROT_WRITE, TAIN_MAP_FIXED, NULL), 0);
		return;
	}
	mapped = mmap((void *)at, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1,
		      0);
	CHECK_EQ((hva_t)mapped, at);
}

bool env_create(struct env *e, const struct engine *engine, u32 vcpus, u64 pages)
{
	struct vm_config config = { .vcpus = vcpus, .shared_bytes = 1 << 20, .data_bytes = pages * PAGE_SIZE };
	struct err err = { "" };

	*e = (struct env){ .engine = engine, .vcpus = vcpus, .bytes = pages * PAGE_SIZE };
	if (engine->probe(&err)) {
		test_skip("%s", err.text);
		return false;
	}
	if (!CHECK_MSG(!vm_create(engine, &config, &e->vm, &err), "vm_create: %s", err.text))
		return false;
	for (u32 i = 0; i < vcpus; i++)
		e->vcpu[i] = (struct env_vcpu){ .env = e, .vcpu = vm_vcpu(e->vm, i), .id = i };
	if (!pages)
		return true;
	e->data = ENV_DATA_HVA;
	env_map_data(e, e->data, e->bytes);
	return CHECK_MSG(!vm_set_ranges(e->vm, &e->data, 1, e->bytes, &err), "vm_set_ranges: %s", err.text);
}

void env_destroy(struct env *e)
{
	bool own_mm = e->engine->own_mm;

	if (e->vm)
		vm_destroy(e->vm);
	e->vm = NULL;
	if (!own_mm && e->data)
		munmap((void *)e->data, e->bytes);
}

static int probe_file(void)
{
	int fd = memfd_create("probe", MFD_CLOEXEC);
	size_t bytes = (size_t)(probe_elf_end - probe_elf_start);

	CHECK_EQ(write(fd, probe_elf_start, bytes), (ssize_t)bytes);
	return fd;
}

bool env_load(struct env *e, const char *guest, const char *arg0, const char *arg1)
{
	struct guest_image image = { .name = guest };
	char *argv[] = { (char *)arg0, (char *)arg1 };
	struct err err = { "" };
	char path[32];
	int fd = -1, ret;

	if (!strcmp(guest, "probe")) {
		fd = probe_file();
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		image.path = path;
	}
	ret = vm_load(e->vm, &image, (arg0 != NULL) + (arg1 != NULL), argv, &err);
	if (fd >= 0)
		close(fd);
	return CHECK_MSG(!ret, "vm_load %s: %d %s", guest, ret, err.text);
}

static bool env_exit(struct vcpu *vcpu, const struct vcpu_exit *exit, void *arg)
{
	struct env_vcpu *v = arg;
	bool on = exit->reason == VCPU_EXIT_TEXT;

	if (exit->reason == VCPU_EXIT_TEXT) {
		size_t bytes = min(exit->bytes, sizeof(v->text) - 1 - v->text_bytes);

		memcpy(v->text + v->text_bytes, exit->data, bytes);
		v->text_bytes += bytes;
	} else {
		v->last = *exit;
	}
	fetch_add(&v->count[exit->reason], 1);
	return v->env->handler ? v->env->handler(v, exit) : on;
}

static void env_thread(void *arg)
{
	struct env_vcpu *v = arg;

	thread_block_signals();
	v->ret = vcpu_run(v->vcpu, env_exit, v, &v->err);
}

void env_start(struct env *e)
{
	for (u32 i = 0; i < e->vcpus; i++)
		CHECK_EQ(thread_create(&e->vcpu[i].thread, "vcpu", -1, env_thread, &e->vcpu[i]), 0);
}

void env_join(struct env *e)
{
	for (u32 i = 0; i < e->vcpus; i++) {
		struct env_vcpu *v = &e->vcpu[i];

		thread_join(&v->thread);
		CHECK_MSG(!v->ret, "vcpu_run of vcpu %u: %d %s", i, v->ret, v->err.text);
	}
}

void env_run(struct env *e)
{
	env_start(e);
	env_join(e);
	for (u32 i = 0; i < e->vcpus; i++)
		CHECK_MSG(env_count(e, i, VCPU_EXIT_DONE) == 1,
			  "vcpu %u did not end: last exit %d at %#llx, '%s', '%s'", i, e->vcpu[i].last.reason,
			  (unsigned long long)e->vcpu[i].last.gpa, e->vcpu[i].last.err.text, e->vcpu[i].text);
}

u32 env_count(struct env *e, u32 vcpu, enum vcpu_exit_reason reason)
{
	return smp_load_acquire(&e->vcpu[vcpu].count[reason]);
}

void env_wait_count(struct env *e, u32 vcpu, enum vcpu_exit_reason reason, u32 n)
{
	while (env_count(e, vcpu, reason) < n)
		thread_yield();
}

void env_wait_heartbeat(struct env *e, u32 vcpu)
{
	u64 *heartbeat = &vm_guest_vcpu(e->vm, vcpu)->heartbeat;
	u64 before = smp_load_acquire(heartbeat);

	while (smp_load_acquire(heartbeat) == before)
		thread_yield();
}

void env_command(struct env *e, u32 vcpu, const struct guest_command *command)
{
	struct guest_vcpu *guest = vm_guest_vcpu(e->vm, vcpu);
	u64 posted = READ_ONCE(guest->posted) + 1;

	WRITE_ONCE(guest->command.first, command->first);
	WRITE_ONCE(guest->command.pages, command->pages);
	WRITE_ONCE(guest->command.stride, command->stride);
	WRITE_ONCE(guest->command.seed, command->seed);
	WRITE_ONCE(guest->command.order, command->order);
	WRITE_ONCE(guest->command.write, command->write);
	WRITE_ONCE(guest->command.timed, command->timed);
	WRITE_ONCE(guest->command.quit, command->quit);
	smp_store_release(&guest->posted, posted); /* pairs with the guest's load-acquire: the command is whole */
	while (smp_load_acquire(&guest->done) < posted)
		thread_yield();
}

void env_unmap(struct env *e, u64 page)
{
	hva_t at = e->data + page * PAGE_SIZE;

	if (e->engine->own_mm)
		CHECK_EQ(mm_munmap(vm_mm(e->vm), at, PAGE_SIZE), 0);
	else
		CHECK_EQ(munmap((void *)at, PAGE_SIZE), 0);
}

void env_map(struct env *e, u64 page)
{
	env_map_data(e, e->data + page * PAGE_SIZE, PAGE_SIZE);
}

void env_protect(struct env *e, u64 page, int prot)
{
	hva_t at = e->data + page * PAGE_SIZE;

	if (e->engine->own_mm)
		CHECK_EQ(mm_mprotect(vm_mm(e->vm), at, PAGE_SIZE, prot), 0);
	else
		CHECK_EQ(mprotect((void *)at, PAGE_SIZE, prot), 0);
}

u64 env_read64(struct env *e, u64 offset)
{
	u64 value = 0;

	if (!e->engine->own_mm)
		return READ_ONCE(*(u64 *)(e->data + offset));
	CHECK_EQ(mm_read64(vm_mm(e->vm), e->data + offset, &value), 0);
	return value;
}

void env_write64(struct env *e, u64 offset, u64 value)
{
	if (e->engine->own_mm)
		CHECK_EQ(mm_write64(vm_mm(e->vm), e->data + offset, value), 0);
	else
		WRITE_ONCE(*(u64 *)(e->data + offset), value);
}
