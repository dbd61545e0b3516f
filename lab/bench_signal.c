/* SPDX-License-Identifier: MIT */
/*
 * From a signal to -EINTR: one thread registers, another sends it a real signal at a
 * random moment, whose handler notes it for mm_lock to find.
 *
 *   sender                  registrar
 *   ------                  ---------
 *   turn = n          ->    armed = n; mmu_notifier_register() ...
 *   wait; tgkill      ->      handler: note
 *                             ... -EINTR
 *   done == n?        <-    done = n
 *
 * `sent` is the time from tgkill to -EINTR, with all that the machine does meanwhile;
 * `handled` what the registrar computed from its handler to -EINTR.
 */
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "lab/bench_notifier.h"
#include "lib/alloc.h"
#include "lib/thread.h"
#include "lib/time.h"
#include "mm/mm.h"
#include "notifier/notifier.h"

#define SIGNAL SIGUSR1
#define CHECK_EVERY 20
#define ELSEWHERE (TAIN_TASK_SIZE / 2)

struct registrar {
	struct mm_struct *mm;
	u8 *memory; /* these two: without an mm */
	u64 bytes;
	struct mmu_notifier subscription;
	struct thread thread;
	int tid; /* written before armed */
	u32 turn, armed, done;
	bool quit;
	int ret; /* these three under done */
	u64 end_ns;
	u64 end_cpu_ns;
};

static u64 handled_cpu_ns; /* by the handler; 0: it has not run */

static u64 cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (u64)ts.tv_sec * NSEC_PER_SEC + (u64)ts.tv_nsec;
}

static void on_signal(int sig)
{
	thread_signal_note();
	smp_store_release(&handled_cpu_ns, max(cpu_ns(), (u64)1)); /* pairs with the acquire in interrupt() */
}

static int nothing_start(struct mmu_notifier *subscription, const struct mmu_notifier_range *range)
{
	return 0;
}

static const struct mmu_notifier_ops nothing_ops = { .invalidate_range_start = nothing_start };

/* Odd, so that every line has its turn, and no two next to each other are neighbours. */
#define LOOK_STEP (0x9e3779b1ull * CACHELINE)

/*
 * The quickest that a thread can end for a signal here which does what mm_lock does: it
 * writes to objects all over memory, and asks for a signal at each.
 */
static int look_only(u8 *memory, u64 bytes)
{
	for (u64 at = 0; !thread_signal_pending(); at = (at + LOOK_STEP) & (bytes - 1))
		WRITE_ONCE(memory[at], 1);
	return -EINTR;
}

static void registrar(void *arg)
{
	struct registrar *r = arg;

	r->tid = (int)syscall(SYS_gettid);
	for (u32 turn = 1;; turn++) {
		while (smp_load_acquire(&r->turn) != turn) /* pairs with the releases in interrupt() and the end */
			thread_yield();
		if (READ_ONCE(r->quit))
			return;
		thread_signal_clear();
		smp_store_release(&r->armed, turn); /* pairs with the acquire in interrupt() */
		r->ret = r->mm ? mmu_notifier_register(&r->subscription, mm_notifier(r->mm))
			       : look_only(r->memory, r->bytes);
		r->end_ns = clock_ns();
		r->end_cpu_ns = cpu_ns();
		if (!r->ret)
			mmu_notifier_unregister(&r->subscription, mm_notifier(r->mm));
		smp_store_release(&r->done, turn); /* pairs with the acquire in interrupt() */
	}
}

/* One turn. Return: what registration said; *@sent: from the sending to its end. */
static int interrupt(struct registrar *r, u64 delay_ns, u64 *sent, u64 *handled)
{
	u32 turn = r->turn + 1;
	u64 start;

	WRITE_ONCE(handled_cpu_ns, 0);
	smp_store_release(&r->turn, turn);
	while (smp_load_acquire(&r->armed) != turn)
		cpu_relax();
	start = clock_ns();
	while (clock_ns() - start < delay_ns)
		cpu_relax();
	start = clock_ns();
	syscall(SYS_tgkill, getpid(), r->tid, SIGNAL);
	while (smp_load_acquire(&r->done) != turn || !smp_load_acquire(&handled_cpu_ns))
		thread_yield();
	*sent = r->end_ns - start;
	*handled = r->end_cpu_ns > handled_cpu_ns ? r->end_cpu_ns - handled_cpu_ns : 0;
	return r->ret;
}

/* Another thread can take every lock, and each on its own: whatever was left held would hold this up for ever. */
static int check_unlocked(struct mm_struct *mm, struct err *err)
{
	struct mmu_notifier subscription = { .ops = &nothing_ops };
	int ret;

	if (!mm)
		return 0;
	ret = mmu_notifier_register(&subscription, mm_notifier(mm));
	if (ret)
		return err_set(err, ret, "registration after -EINTR failed: %s", strerror(-ret));
	mmu_notifier_unregister(&subscription, mm_notifier(mm));
	ret = mm_mmap(mm, ELSEWHERE, PAGE_SIZE, TAIN_PROT_READ | TAIN_PROT_WRITE, TAIN_MAP_FIXED, NULL);
	ret = ret ?: mm_write64(mm, ELSEWHERE, 1);
	ret = ret ?: mm_munmap(mm, ELSEWHERE, PAGE_SIZE);
	return ret ? err_set(err, ret, "the address space after -EINTR: %s", strerror(-ret)) : 0;
}

static int interrupt_all(struct bench_signals *s, struct registrar *r, struct err *err)
{
	u64 sent, handled;
	int ret = 0;

	for (u32 i = 0; i < 4 * s->tries && hist_count(s->sent) < s->tries && !ret; i++) {
		if (s->stop && READ_ONCE(*s->stop))
			return -EINTR;
		ret = interrupt(r, rng_below(s->rng, s->typical_ns + 1), &sent, &handled);
		if (ret && ret != -EINTR)
			return err_set(err, ret, "registration under a signal: %s", strerror(-ret));
		if (!ret)
			s->late++;
		if (ret == -EINTR) {
			hist_add(s->sent, sent);
			hist_add(s->handled, handled);
		}
		ret = i % CHECK_EVERY ? 0 : check_unlocked(s->mm, err);
	}
	return ret ?: check_unlocked(s->mm, err);
}

int bench_signals_run(struct bench_signals *s, struct err *err)
{
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART }, before;
	struct registrar r = { .mm = s->mm, .subscription.ops = &nothing_ops, .bytes = s->bytes };
	int ret;

	if (!s->mm) {
		r.memory = mem_alloc_aligned(PAGE_SIZE, s->bytes);
		if (!r.memory)
			return err_set(err, -ENOMEM, "no memory for a thread that looks for its signal");
	}
	if (sigaction(SIGNAL, &action, &before)) {
		ret = err_set(err, -errno, "sigaction: %s", strerror(errno));
		goto free;
	}
	ret = thread_create(&r.thread, "registrar", -1, registrar, &r);
	if (ret) {
		ret = err_set(err, ret, "cannot start a thread: %s", strerror(-ret));
		goto restore;
	}
	ret = interrupt_all(s, &r, err);
	WRITE_ONCE(r.quit, true);
	smp_store_release(&r.turn, r.turn + 1);
	thread_join(&r.thread);
restore:
	sigaction(SIGNAL, &before, NULL);
free:
	mem_free(r.memory);
	return ret;
}
