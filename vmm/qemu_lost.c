/* SPDX-License-Identifier: MIT */
/*
 * A file that backs the guest's memory can be truncated by whoever may write it. What is
 * mapped behind its end is gone then, and a look at it a SIGBUS, for tain as for QEMU.
 * tain lives on, with zeros in its place, to say so and to tidy up.
 */
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/lock.h"
#include "vmm/qemu_internal.h"

#define MAX_VMS 8

static DEFINE_LOCK_CLASS(lost_class, "qemu lost");
static struct mutex lost_mutex = MUTEX_INIT(&lost_class); /* guards who is written into vms[], and before */
static struct vm *vms[MAX_VMS];				  /* read by the handler on any thread */
static struct sigaction before;

/* Zeros over [@start, + @bytes), should @at be in it; lost before, so that nobody takes them for the guest's. */
static bool replace(struct vm *vm, hva_t at, hva_t start, u64 bytes)
{
	if (!start || at < start || at - start >= bytes)
		return false;
	WRITE_ONCE(to_qemu(vm)->lost, 1);
	return (void *)syscall(SYS_mmap, start, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
			       -1, 0) != MAP_FAILED;
}

static void on_sigbus(int signal, siginfo_t *info, void *context)
{
	hva_t at = (hva_t)(uintptr_t)info->si_addr;

	(void)signal;
	(void)context;
	for (u32 i = 0; i < MAX_VMS; i++) {
		struct vm *vm = READ_ONCE(vms[i]);
		bool done;

		if (!vm)
			continue;
		done = replace(vm, at, (hva_t)(uintptr_t)vm->shared, vm->config.shared_bytes);
		for (u32 range = 0; !done && range < vm->ranges; range++)
			done = replace(vm, at, vm->data_hva[range], vm->range_bytes);
		if (done)
			return;
	}
	sigaction(SIGBUS, &before, NULL); /* somebody else's: it comes again */
}

void qemu_lost_watch(struct vm *vm)
{
	struct sigaction action = { .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO };
	static bool caught;

	mutex_lock(&lost_mutex);
	if (!caught)
		caught = !sigaction(SIGBUS, &action, &before);
	for (u32 i = 0; i < MAX_VMS; i++)
		if (!vms[i]) {
			smp_store_release(&vms[i], vm);
			break;
		}
	mutex_unlock(&lost_mutex);
}

void qemu_lost_forget(const struct vm *vm)
{
	mutex_lock(&lost_mutex);
	for (u32 i = 0; i < MAX_VMS; i++)
		if (vms[i] == vm)
			WRITE_ONCE(vms[i], NULL);
	mutex_unlock(&lost_mutex);
}

bool qemu_lost(const struct vm *vm)
{
	struct qemu_vm *q = to_qemu(vm);
	struct stat st;

	if (!READ_ONCE(q->lost) && q->domain.ram >= 0 && !fstat(q->domain.ram, &st) &&
	    (u64)st.st_size < q->layout.ram_bytes)
		WRITE_ONCE(q->lost, 1);
	return READ_ONCE(q->lost);
}
