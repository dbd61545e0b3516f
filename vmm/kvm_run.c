/* SPDX-License-Identifier: MIT */
/*
 * The kvm engine's run loop: enter, look at the exit, tell the handler.
 *
 * Why no kick is lost. A kick is `kicked`; immediate_exit and the signal only hurry
 * the thread to its next look at it.
 *
 *   kicker                                  vCPU thread, each turn
 *   K1 kicked = 1 (full barrier)            V1 immediate_exit = 0
 *   K2 immediate_exit = 1                   V2 kicked taken (xchg, full barrier): report
 *   K3 signal to the thread                 V3 KVM_RUN; -EINTR: next turn
 *
 * If V2 does not see K1, then V1 comes before K2, so KVM finds immediate_exit set or
 * the signal comes: in KVM_RUN it interrupts; before KVM_RUN, K2 came earlier still
 * and KVM_RUN returns at once. Either way there is a next turn, and it sees K1. A kick
 * that finds no thread (tid 0) is seen by the first V2 of the next run: the thread
 * stores tid before V2 (xchg), the kicker reads it after K1.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/lock.h"
#include "lib/probe.h"
#include "vmm/kvm_internal.h"

static DEFINE_LOCK_CLASS(kvm_kick_class, "kvm_kick");
static struct mutex kick_mutex = MUTEX_INIT(&kvm_kick_class); /* guards the choice of kick_signal */
static int kick_signal;					      /* 0: not chosen yet; then constant */

static void ignore_signal(int number)
{
	(void)number;
}

/* Take the first real-time signal that nobody handles; keep it for the life of the process. */
int kvm_kick_init(struct err *err)
{
	int ret = 0;

	mutex_lock(&kick_mutex);
	for (int number = SIGRTMIN; !kick_signal && number <= SIGRTMAX; number++) {
		struct sigaction action = { .sa_handler = ignore_signal, .sa_flags = SA_RESTART }, old;

		if (sigaction(number, NULL, &old) || (old.sa_flags & SA_SIGINFO) || old.sa_handler != SIG_DFL)
			continue;
		if (!sigaction(number, &action, NULL))
			WRITE_ONCE(kick_signal, number);
	}
	if (!kick_signal)
		ret = err_set(err, -EBUSY, "every real-time signal has a handler; vCPUs need one to be kicked");
	mutex_unlock(&kick_mutex);
	return ret;
}

/* From any thread, a signal handler too. A thread that just left the run may get a stray signal: it does nothing. */
void kvm_vcpu_kick(struct vcpu *vcpu)
{
	struct kvm_vcpu *v = to_kvm_vcpu(vcpu);
	pid_t tid;

	xchg(&v->kicked, 1);
	WRITE_ONCE(v->run->immediate_exit, 1);
	tid = READ_ONCE(v->tid);
	if (tid)
		syscall(SYS_tgkill, getpid(), tid, READ_ONCE(kick_signal));
}

enum turn { TURN_ON, TURN_STOP, TURN_FAILED };

/* Text before news: what the guest said before the exit is printed before the exit is told. */
static enum turn report(struct kvm_vcpu *v, const struct vcpu_exit *exit)
{
	if (!console_flush(&v->console, &v->vcpu))
		return TURN_STOP;
	return vcpu_report(&v->vcpu, exit) ? TURN_ON : TURN_STOP;
}

/* The vCPU cannot go on: whatever the handler answers, the run ends. */
static enum turn report_crash(struct kvm_vcpu *v, const char *what)
{
	struct vcpu_exit exit = { .reason = VCPU_EXIT_CRASH };

	kvm_x86_describe(v, what, &exit.err);
	report(v, &exit);
	return TURN_STOP;
}

/* KVM_RUN returned -EFAULT: the host does not back the access now. KVM may know where; the guest does. */
static enum turn report_fault(struct kvm_vcpu *v)
{
	const struct kvm_exit_memory_fault *fault = (const void *)v->run->padding;
	struct vcpu_exit exit = {
		.reason = VCPU_EXIT_FAULT,
		.gpa = READ_ONCE(vm_guest_vcpu(v->vcpu.vm, v->vcpu.id)->target),
	};
	enum turn turn;

	/* KVM names a page, the guest a word in it. */
	if (v->run->exit_reason == TAIN_KVM_EXIT_MEMORY_FAULT && fault->size && (exit.gpa ^ fault->gpa) >> PAGE_SHIFT)
		exit.gpa = fault->gpa;
	probe3(run_failed, v->vcpu.id, exit.gpa, v->run->exit_reason);
	turn = report(v, &exit);
	probe3(run_repaired, v->vcpu.id, exit.gpa, turn == TURN_ON);
	return turn;
}

static enum turn handle_io(struct kvm_vcpu *v)
{
	struct kvm_run *run = v->run;
	void *data = (char *)run + run->io.data_offset;
	bool on;

	if (run->io.direction == KVM_EXIT_IO_IN) {
		/* No device answers: the bus floats. */
		memset(data, 0xff, (size_t)run->io.size * run->io.count);
		return TURN_ON;
	}
	if (run->io.port == GUEST_PORT_TEXT && run->io.size == 1) {
		on = console_text(&v->console, &v->vcpu, data, run->io.count);
		return on ? TURN_ON : TURN_STOP;
	}
	if (!console_flush(&v->console, &v->vcpu))
		return TURN_STOP;
	on = vm_port_out(&v->vcpu, run->io.port, data, run->io.size, run->io.count);
	return on && run->io.port != GUEST_PORT_EXIT ? TURN_ON : TURN_STOP;
}

static enum turn handle_mmio(struct kvm_vcpu *v)
{
	struct kvm_run *run = v->run;
	struct vcpu_exit exit = {
		.reason = VCPU_EXIT_MMIO,
		.gpa = run->mmio.phys_addr,
		.write = run->mmio.is_write,
		.data = run->mmio.data,
		.bytes = run->mmio.len,
		.reply = run->mmio.is_write ? NULL : run->mmio.data,
	};

	if (!run->mmio.is_write)
		memset(run->mmio.data, 0xff, sizeof(run->mmio.data));
	return report(v, &exit);
}

static enum turn handle_exit(struct kvm_vcpu *v)
{
	char what[96];

	switch (v->run->exit_reason) {
	case KVM_EXIT_IO:
		return handle_io(v);
	case KVM_EXIT_MMIO:
		return handle_mmio(v);
	case KVM_EXIT_INTR:
		return TURN_ON;
	case KVM_EXIT_SHUTDOWN:
		return report_crash(v, "triple fault");
	case KVM_EXIT_HLT:
		return report_crash(v, "halted with no interrupt to come");
	case KVM_EXIT_INTERNAL_ERROR:
		snprintf(what, sizeof(what), "KVM internal error, suberror %u", v->run->internal.suberror);
		return report_crash(v, what);
	case KVM_EXIT_FAIL_ENTRY:
		snprintf(what, sizeof(what), "entry failed, hardware reason 0x%llx",
			 v->run->fail_entry.hardware_entry_failure_reason);
		return report_crash(v, what);
	default:
		snprintf(what, sizeof(what), "unexpected KVM exit %u", v->run->exit_reason);
		return report_crash(v, what);
	}
}

static enum turn take_turn(struct kvm_vcpu *v, struct err *err)
{
	WRITE_ONCE(v->run->immediate_exit, 0); /* V1 */
	if (xchg(&v->kicked, 0) && report(v, &(struct vcpu_exit){ .reason = VCPU_EXIT_KICK }) == TURN_STOP)
		return TURN_STOP;
	v->run->exit_reason = KVM_EXIT_UNKNOWN;
	if (!ioctl(v->fd, KVM_RUN, 0))
		return handle_exit(v);
	switch (errno) {
	case EINTR:
	case EAGAIN:
		return TURN_ON;
	case EFAULT:
		return report_fault(v);
	default:
		err_set(err, -errno, "KVM_RUN: %s", strerror(errno));
		return TURN_FAILED;
	}
}

int kvm_vcpu_run(struct vcpu *vcpu, vcpu_exit_fn *fn, void *arg, struct err *err)
{
	struct kvm_vcpu *v = to_kvm_vcpu(vcpu);
	sigset_t kick, old;
	enum turn turn;

	(void)fn;
	(void)arg;
	sigemptyset(&kick);
	sigaddset(&kick, READ_ONCE(kick_signal));
	sigprocmask(SIG_UNBLOCK, &kick, &old); /* of this thread alone, on Linux */
	v->started = true;
	WRITE_ONCE(v->tid, (pid_t)syscall(SYS_gettid));
	do
		turn = take_turn(v, err);
	while (turn == TURN_ON);
	WRITE_ONCE(v->tid, 0);
	sigprocmask(SIG_SETMASK, &old, NULL);
	console_flush(&v->console, vcpu);
	return turn == TURN_FAILED ? -EIO : 0;
}
