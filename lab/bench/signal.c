/* SPDX-License-Identifier: MIT */
/*
 * From a signal to -EINTR: one thread registers, another ends it at a random moment.
 *
 *   sender                              registrar
 *   ------                              ---------
 *   turn = n; complete(go)        ->    armed = n; mmu_notifier_register() ...
 *   wait until armed == n,
 *   and for the moment
 *   read the clock; tgkill        ->    handler: read the clock; note
 *   sleep                               ... -EINTR; read the clock
 *   note the turn                 <-    complete(ended)
 *
 * In two places, turn by turn. On the registrar's processor, which a timer gives the
 * sender at the moment: then the registrar stands until the sender sleeps again, and what
 * that takes is in the time. And on another processor, where the sender spins until the
 * moment, and the kernel's interrupt from one processor to the other is in the time.
 *
 * Three ways in each: a signal; the flag that its handler sets, set by the sender, as the
 * kernel's own sender does; and a signal to the same thread while it registers nothing,
 * but writes to as much memory for as long and looks for its signal.
 *
 * Where the time went: what passed until the handler ran is the machine's; so is what a
 * thread was not given of its processor, by the difference of its two clocks. Two threads
 * that share one are given it when their processor times together make the whole.
 */
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "lab/bench/notifier.h"
#include "lib/alloc.h"
#include "lib/lock.h"
#include "lib/thread.h"
#include "lib/time.h"
#include "mm/mm.h"
#include "notifier/notifier.h"

#define SIGNAL SIGUSR1
#define CHECK_EVERY 20
#define ELSEWHERE (TAIN_TASK_SIZE / 2)

struct moment {
	u64 ns;
	u64 cpu_ns; /* the registrar's processor time */
};

struct registrar {
	struct mm_struct *mm;
	u8 *memory; /* these two: for SIGNAL_BARE */
	u64 bytes;
	struct mmu_notifier subscription;
	struct thread thread;
	struct completion go, ended;
	enum signal_way way; /* these three under go */
	u32 turn;
	bool quit;
	u32 armed; /* the turn that has begun */
	int ret;   /* these two under ended */
	struct moment end;
};

/* One turn. */
struct turn {
	struct moment sent, handled, end;
	u64 sender_ns;	      /* on the same processor: the sender had it for so long */
	u64 sender_absent_ns; /* on another: the sender did not have it for so long, while it sent */
};

static struct moment in_handler; /* under ended */
static u32 handled;		 /* in this turn, or nothing is to be */

/* Of the calling thread. */
static u64 cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (u64)ts.tv_sec * NSEC_PER_SEC + (u64)ts.tv_nsec;
}

static u64 since(u64 from, u64 to)
{
	return to > from ? to - from : 0;
}

static void on_signal(int sig)
{
	in_handler.ns = clock_ns(); /* first of all */
	thread_signal_note();
	in_handler.cpu_ns = cpu_ns();
	WRITE_ONCE(handled, 1);
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

	for (;;) {
		wait_for_completion(&r->go);
		if (r->quit)
			return;
		thread_signal_clear();
		smp_store_release(&r->armed, r->turn); /* pairs with the acquires in await_moment() */
		r->ret = r->way == SIGNAL_BARE ? look_only(r->memory, r->bytes)
					       : mmu_notifier_register(&r->subscription, mm_notifier(r->mm));
		r->end.ns = clock_ns();
		r->end.cpu_ns = cpu_ns();
		if (!r->ret)
			mmu_notifier_unregister(&r->subscription, mm_notifier(r->mm));
		while (!READ_ONCE(handled)) /* it was over before its signal: that comes */
			thread_yield();
		complete(&r->ended);
	}
}

/* A timer that is late, or whose thread does not run at once, makes the moment another; it is a random one. */
static void await_moment(const struct registrar *r, enum signal_place place, u64 delay_ns)
{
	u64 start;

	if (place == SIGNAL_SAME_CPU) {
		do
			thread_sleep_ns(delay_ns);
		while (smp_load_acquire(&r->armed) != r->turn);
		return;
	}
	while (smp_load_acquire(&r->armed) != r->turn)
		cpu_relax();
	start = clock_ns();
	while (clock_ns() - start < delay_ns)
		cpu_relax();
}

/* Return: what registration said. */
static int take_turn(struct registrar *r, enum signal_place place, enum signal_way way, u64 delay_ns, struct turn *t)
{
	pid_t pid = getpid();
	u64 cpu_before;

	*t = (struct turn){ 0 };
	WRITE_ONCE(handled, way == SIGNAL_FLAG);
	r->way = way;
	r->turn++;
	complete(&r->go);
	await_moment(r, place, delay_ns);
	cpu_before = cpu_ns();
	t->sent.cpu_ns = thread_cpu_ns(&r->thread);
	t->sent.ns = clock_ns();
	if (way == SIGNAL_FLAG)
		thread_signal_send(&r->thread);
	else
		syscall(SYS_tgkill, pid, r->thread.tid, SIGNAL);
	/* On the registrar's processor nothing comes between sending and sleeping. */
	if (place == SIGNAL_OTHER_CPU)
		t->sender_absent_ns = since(cpu_ns() - cpu_before, clock_ns() - t->sent.ns);
	wait_for_completion(&r->ended);
	if (place == SIGNAL_SAME_CPU)
		t->sender_ns = cpu_ns() - cpu_before;
	t->handled = way == SIGNAL_FLAG ? t->sent : in_handler;
	t->end = r->end;
	return r->ret;
}

static void note_turn(struct signal_times *times, const struct turn *t)
{
	u64 whole = since(t->sent.ns, t->end.ns), before = since(t->sent.ns, t->handled.ns);
	u64 had = since(t->sent.cpu_ns, t->end.cpu_ns) + t->sender_ns;
	u64 absent = max(since(had, whole), t->sender_absent_ns);

	hist_add(&times->part[SIGNAL_WHOLE], whole);
	hist_add(&times->part[SIGNAL_DELIVERY], before);
	hist_add(&times->part[SIGNAL_HANDLED], since(t->handled.ns, t->end.ns));
	hist_add(&times->part[SIGNAL_COMPUTED], since(t->handled.cpu_ns, t->end.cpu_ns));
	if (whole <= SIGNAL_BOUND_NS)
		return;
	times->slow++;
	times->slow_before += before > SIGNAL_BOUND_NS;
	times->slow_absent += since(absent, whole) <= SIGNAL_BOUND_NS;
}

/* Another thread can take every lock, and each on its own: whatever was left held would hold this up for ever. */
static int check_unlocked(struct mm_struct *mm, struct err *err)
{
	struct mmu_notifier subscription = { .ops = &nothing_ops };
	int ret;

	ret = mmu_notifier_register(&subscription, mm_notifier(mm));
	if (ret)
		return err_set(err, ret, "registration after -EINTR failed: %s", strerror(-ret));
	mmu_notifier_unregister(&subscription, mm_notifier(mm));
	ret = mm_mmap(mm, ELSEWHERE, PAGE_SIZE, TAIN_PROT_READ | TAIN_PROT_WRITE, TAIN_MAP_FIXED, NULL);
	ret = ret ?: mm_write64(mm, ELSEWHERE, 1);
	ret = ret ?: mm_munmap(mm, ELSEWHERE, PAGE_SIZE);
	return ret ? err_set(err, ret, "the address space after -EINTR: %s", strerror(-ret)) : 0;
}

/* A turn every so many rounds: a million VMAs take their time, and what is judged needs most samples. */
static const u32 every[SIGNAL_PLACES][SIGNAL_WAYS] = {
	[SIGNAL_SAME_CPU] = { [SIGNAL_SENT] = 1, [SIGNAL_FLAG] = 4, [SIGNAL_BARE] = 1 },
	[SIGNAL_OTHER_CPU] = { [SIGNAL_SENT] = 2, [SIGNAL_FLAG] = 4, [SIGNAL_BARE] = 2 },
};

/* The turns of a round in one place. */
static int interrupt_in(struct bench_signals *s, struct registrar *r, enum signal_place place, u32 round, u64 delay_ns,
			struct err *err)
{
	for (enum signal_way way = 0; way < SIGNAL_WAYS; way++) {
		struct turn turn;
		int ret;

		if (round % every[place][way])
			continue;
		if (s->stop && READ_ONCE(*s->stop))
			return -EINTR;
		ret = take_turn(r, place, way, delay_ns, &turn);
		if (ret && ret != -EINTR)
			return err_set(err, ret, "registration under a signal: %s", strerror(-ret));
		if (ret)
			note_turn(&s->results->times[place][way], &turn);
		else
			s->results->late[place]++;
	}
	return 0;
}

/* @cpu: the sender's, by place; -1: there is none. */
static int interrupt_all(struct bench_signals *s, struct registrar *r, const int *cpu, struct err *err)
{
	const struct hist *counted = &s->results->times[SIGNAL_SAME_CPU][SIGNAL_SENT].part[SIGNAL_WHOLE];
	int ret = 0;

	for (u32 i = 0; i < 4 * s->tries && hist_count(counted) < s->tries && !ret; i++) {
		u64 delay_ns = rng_below(s->rng, s->typical_ns + 1);

		for (enum signal_place place = 0; place < SIGNAL_PLACES && !ret; place++) {
			if (cpu[place] < 0)
				continue;
			ret = thread_pin(cpu[place]);
			if (ret)
				return err_set(err, ret, "cannot send signals on processor %d: %s", cpu[place],
					       strerror(-ret));
			ret = interrupt_in(s, r, place, i, delay_ns, err);
		}
		if (!ret && !(i % CHECK_EVERY))
			ret = check_unlocked(s->mm, err);
	}
	return ret ?: check_unlocked(s->mm, err);
}

int signal_results_init(struct signal_results *results)
{
	int ret = 0;

	for (int place = 0; place < SIGNAL_PLACES; place++)
		for (int way = 0; way < SIGNAL_WAYS; way++)
			for (int part = 0; part < SIGNAL_PARTS; part++)
				ret = ret ?: hist_init(&results->times[place][way].part[part]);
	return ret;
}

void signal_results_destroy(struct signal_results *results)
{
	for (int place = 0; place < SIGNAL_PLACES; place++)
		for (int way = 0; way < SIGNAL_WAYS; way++)
			for (int part = 0; part < SIGNAL_PARTS; part++)
				hist_destroy(&results->times[place][way].part[part]);
}

int bench_signals_run(struct bench_signals *s, struct err *err)
{
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART }, before;
	struct registrar r = { .mm = s->mm, .subscription.ops = &nothing_ops, .bytes = s->bytes };
	int cpu[SIGNAL_PLACES], ret;

	r.memory = mem_alloc_aligned(PAGE_SIZE, s->bytes);
	if (!r.memory)
		return err_set(err, -ENOMEM, "no memory for a thread that looks for its signal");
	if (sigaction(SIGNAL, &action, &before)) {
		ret = err_set(err, -errno, "sigaction: %s", strerror(errno));
		goto free;
	}
	cpu[SIGNAL_OTHER_CPU] = bench_pin_here();
	cpu[SIGNAL_SAME_CPU] = sched_getcpu();
	if (cpu[SIGNAL_OTHER_CPU] < 0)
		err_set(&s->results->no_other_cpu, 0, "there is one processor");
	ret = thread_create(&r.thread, "registrar", cpu[SIGNAL_SAME_CPU], registrar, &r);
	if (ret) {
		ret = err_set(err, ret, "cannot start a thread: %s", strerror(-ret));
		goto restore;
	}
	ret = interrupt_all(s, &r, cpu, err);
	r.quit = true;
	complete(&r.go);
	thread_join(&r.thread);
restore:
	thread_pin(-1);
	sigaction(SIGNAL, &before, NULL);
free:
	mem_free(r.memory);
	return ret;
}
