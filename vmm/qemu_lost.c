/* SPDX-License-Identifier: MIT */
/*
 * The VMs of this process, for those who cannot wait for a lock: signal handlers.
 *
 * A file that backs the guest's memory can be truncated by whoever may write it. What is
 * mapped behind its end is gone then, and a look at it a SIGBUS, for tain as for QEMU.
 * tain lives on, with zeros in its place, to say so and to tidy up.
 *
 * And a process that must end at once ends their QEMUs first.
 */
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/lock.h"
#include "lib/thread.h"
#include "vmm/qemu_internal.h"

static DEFINE_LOCK_CLASS(lost_class, "qemu lost");
static struct mutex lost_mutex = MUTEX_INIT(&lost_class); /* guards changes of the list, and of caught and before */
static struct qemu_vm *vms;				  /* linked by next_watched */
static struct sigaction before;
static bool caught;

/*
 * A VM leaves the list, and then the process, while a handler may be at it. Atomic; full barriers pair.
 *
 *   a handler                       qemu_lost_forget()
 *   inside++                        unlinked
 *   reads the list                  inside == 0: who comes now does not find it
 *   inside--                        the VM is freed
 */
static u32 inside;

/* Zeros over [@start, + @bytes), should @at be in it; lost before, so that nobody takes them for the guest's. */
static bool replace(struct qemu_vm *q, hva_t at, hva_t start, u64 bytes)
{
	if (!start || at < start || at - start >= bytes)
		return false;
	WRITE_ONCE(q->lost, 1);
	return (void *)syscall(SYS_mmap, start, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
			       -1, 0) != MAP_FAILED;
}

static bool replace_at(hva_t at)
{
	bool done = false;

	fetch_add(&inside, 1);
	for (struct qemu_vm *q = smp_load_acquire(&vms); q && !done; q = smp_load_acquire(&q->next_watched)) {
		done = replace(q, at, (hva_t)(uintptr_t)q->vm->shared, q->vm->config.shared_bytes);
		for (u32 range = 0; !done && range < q->vm->ranges; range++)
			done = replace(q, at, q->vm->data_hva[range], q->vm->range_bytes);
	}
	fetch_add(&inside, (u32)-1);
	return done;
}

/* Somebody else's: as if this handler were not there. */
static void pass_on(int signal, siginfo_t *info, void *context)
{
	const struct sigaction usual = { .sa_handler = SIG_DFL };

	if (before.sa_flags & SA_SIGINFO) {
		before.sa_sigaction(signal, info, context);
	} else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) {
		before.sa_handler(signal);
	} else if (info->si_code > 0 || before.sa_handler == SIG_DFL) { /* an access that fails cannot be ignored */
		sigaction(SIGBUS, &usual, NULL);
		raise(SIGBUS); /* when this handler ends; an access would fail again, a signal that was sent not */
	}
}

static void on_sigbus(int signal, siginfo_t *info, void *context)
{
	int error = errno;

	if (info->si_code <= 0 || !replace_at((hva_t)(uintptr_t)info->si_addr))
		pass_on(signal, info, context);
	errno = error;
}

void qemu_lost_watch(struct vm *vm)
{
	struct sigaction action = { .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO };
	struct qemu_vm *q = to_qemu(vm);

	mutex_lock(&lost_mutex);
	if (!caught)
		caught = !sigaction(SIGBUS, &action, &before);
	q->vm = vm;
	q->next_watched = vms;
	smp_store_release(&vms, q); /* pairs with the acquire of the handlers: who finds it, finds it whole */
	mutex_unlock(&lost_mutex);
}

void qemu_lost_forget(const struct vm *vm)
{
	struct qemu_vm *q = to_qemu(vm), **at;
	struct sigaction now;

	mutex_lock(&lost_mutex);
	for (at = &vms; *at && *at != q; at = &(*at)->next_watched)
		;
	if (*at)
		smp_store_release(at, q->next_watched);
	if (!vms && caught && !sigaction(SIGBUS, NULL, &now) && now.sa_flags & SA_SIGINFO &&
	    now.sa_sigaction == on_sigbus) /* else somebody put theirs over it, and may pass on to it */
		caught = sigaction(SIGBUS, &before, NULL) != 0;
	mutex_unlock(&lost_mutex);
	smp_mb();
	while (fetch_add(&inside, 0)) /* what they looked at is freed behind their last look */
		thread_yield();
}

void qemu_abandon(void)
{
	fetch_add(&inside, 1);
	for (struct qemu_vm *q = smp_load_acquire(&vms); q; q = smp_load_acquire(&q->next_watched)) {
		int pidfd = READ_ONCE(q->domain.pidfd);

		if (pidfd >= 0)
			syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
	}
	fetch_add(&inside, (u32)-1);
}

bool qemu_lost(const struct vm *vm)
{
	struct qemu_vm *q = to_qemu(vm);
	struct stat st;

	if (!READ_ONCE(q->lost) && q->domain.ram >= 0 && !fstat(q->domain.ram, &st) &&
	    (u64)st.st_size < qemu_in_ram(&q->layout, q->layout.ram_bytes))
		WRITE_ONCE(q->lost, 1);
	return READ_ONCE(q->lost);
}
