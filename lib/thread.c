/* SPDX-License-Identifier: MIT */
/* Threads, their numbers and names. */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "lib/lock.h"
#include "lib/membarrier.h"
#include "lib/rcu.h"
#include "lib/thread.h"
#include "lib/time.h"

/* Guests of engine soft live on a thread's stack, with buffers of theirs: `ulimit -s` is not asked. */
#define STACK_BYTES (2ul << 20)

static_assert(sizeof(pthread_t) <= sizeof(u64), "a pthread_t fits in struct thread");

static struct lock_core ids_lock; /* guards ids_used and writes of thread_high */
static bool ids_used[THREAD_MAX];
u32 thread_high;
u32 thread_signals[THREAD_MAX];

__thread u32 thread_self;
__thread u64 thread_line;
static __thread u32 depth; /* thread_enter() calls not left yet */
static __thread char self_name[THREAD_NAME_BYTES];
static __thread u32 early_signal; /* noted while the thread had no number */

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t exit_key; /* of every thread: who has not left by itself does as it ends */
static cpu_set_t all_cpus;

static struct thread_leave_hook *leave_hooks; /* constant after the program's start */

static int id_alloc(u32 *id)
{
	int ret = -EAGAIN;

	lock_core_lock(&ids_lock, LOCK_SPIN_LONG);
	for (u32 i = 0; i < THREAD_MAX; i++) {
		if (ids_used[i])
			continue;
		ids_used[i] = true;
		WRITE_ONCE(thread_signals[i], 0); /* a signal of the last one of this number */
		/* Before the thread first writes to a slot of its own: who waits in lib/srcu.c relies on it. */
		if (i >= thread_high)
			WRITE_ONCE(thread_high, i + 1);
		*id = i;
		ret = 0;
		break;
	}
	lock_core_unlock(&ids_lock);
	return ret;
}

static void id_free(u32 id)
{
	lock_core_lock(&ids_lock, LOCK_SPIN_LONG);
	ids_used[id] = false;
	lock_core_unlock(&ids_lock);
}

static void set_name(char *dst, const char *name)
{
	memset(dst, 0, THREAD_NAME_BYTES);
	memcpy(dst, name, strnlen(name, THREAD_NAME_BYTES - 1));
}

static void enter(u32 id, const char *name)
{
	WRITE_ONCE(thread_self, id + 1);
	/* A handler before the store above left it here, one after it finds the number. */
	barrier();
	if (unlikely(READ_ONCE(early_signal))) {
		WRITE_ONCE(early_signal, 0);
		WRITE_ONCE(thread_signals[id], 1);
	}
	thread_line = membarrier_works || TSAN ? thread_own_line() : 0;
	depth = 1;
	set_name(self_name, name);
	pthread_setspecific(exit_key, &exit_key); /* it may end anywhere */
	rcu_register_thread();
}

static void leave(void)
{
	u32 id = thread_self - 1;

	lockdep_assert_none_held();
	if (rcu_read_lock_held())
		BUG("thread ends inside an RCU reader");
	for (const struct thread_leave_hook *hook = leave_hooks; hook; hook = hook->next)
		hook->fn();
	rcu_unregister_thread();
	thread_self = 0;
	thread_line = 0;
	depth = 0;
	self_name[0] = '\0';
	id_free(id);
}

static void exit_key_destroy(void *unused)
{
	if (thread_self)
		leave();
}

static void thread_init_once(void)
{
	if (pthread_key_create(&exit_key, exit_key_destroy))
		BUG("no thread key left");
	sched_getaffinity(0, sizeof(all_cpus), &all_cpus);
}

static void thread_init(void)
{
	pthread_once(&once, thread_init_once);
}

void thread_at_leave(struct thread_leave_hook *hook)
{
	hook->next = leave_hooks;
	leave_hooks = hook;
}

void thread_enter(const char *name)
{
	u32 id;

	if (thread_self) {
		depth++;
		return;
	}
	thread_init();
	if (id_alloc(&id))
		limit_reached("%u live threads have called tain, which is all that it can tell apart: "
			      "call it from fewer, or let those that are done with it end",
			      THREAD_MAX);
	enter(id, name);
}

void thread_exit(void)
{
	if (!depth)
		BUG("thread_exit() without thread_enter()");
	if (depth > 1)
		depth--;
	else
		leave();
}

u32 thread_id_slow(void)
{
	thread_enter("thread");
	return thread_self - 1;
}

const char *thread_name(void)
{
	static const char unknown[THREAD_NAME_BYTES] = "?";

	return self_name[0] ? self_name : unknown;
}

static void *thread_start(void *arg)
{
	struct thread *thread = arg;

	enter(thread->id, thread->name);
	WRITE_ONCE(thread->tid, (u32)syscall(SYS_gettid));
	pthread_setname_np(pthread_self(), thread->name);
	thread->fn(thread->arg);
	leave();
	return thread->arg;
}

int thread_create(struct thread *thread, const char *name, int cpu, void (*fn)(void *arg), void *arg)
{
	pthread_attr_t attr;
	pthread_t handle;
	cpu_set_t cpus;
	int ret;

	thread_init();
	if (cpu < -1 || cpu >= CPU_SETSIZE)
		return -EINVAL;
	ret = id_alloc(&thread->id);
	if (ret)
		return ret;
	set_name(thread->name, name);
	thread->tid = 0;
	thread->fn = fn;
	thread->arg = arg;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	if (cpu >= 0) {
		CPU_ZERO(&cpus);
		CPU_SET(cpu, &cpus);
		pthread_attr_setaffinity_np(&attr, sizeof(cpus), &cpus);
	}
	ret = -pthread_create(&handle, &attr, thread_start, thread);
	pthread_attr_destroy(&attr);
	if (ret) {
		id_free(thread->id);
		return ret == -EINVAL ? -EINVAL : -EAGAIN;
	}
	thread->handle = (u64)handle;
	return 0;
}

void *thread_join(struct thread *thread)
{
	void *arg;
	int ret;

	might_sleep();
	ret = pthread_join((pthread_t)thread->handle, &arg);
	if (ret)
		BUG("cannot join thread %s: %s", thread->name, strerror(ret));
	return arg;
}

/* The letter in /proc that says what the kernel does with it; 0: there is none. */
static char thread_state(u32 tid)
{
	char path[48], text[128], *at;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/task/%u/stat", tid);
	file = fopen(path, "re");
	if (!file)
		return 0;
	if (!fgets(text, sizeof(text), file))
		text[0] = 0;
	fclose(file);
	at = strrchr(text, ')'); /* the name before it may hold anything */
	return at && at[1] ? at[2] : 0;
}

u64 thread_cpu_ns(const struct thread *thread)
{
	struct timespec ts;
	clockid_t clock;

	if (pthread_getcpuclockid((pthread_t)thread->handle, &clock) || clock_gettime(clock, &ts))
		return 0;
	return (u64)ts.tv_sec * NSEC_PER_SEC + (u64)ts.tv_nsec;
}

void thread_get_usage(const struct thread *thread, struct thread_usage *usage)
{
	u32 tid = READ_ONCE(thread->tid);

	*usage = (struct thread_usage){ 0 };
	if (!tid)
		return;
	usage->cpu_ns = thread_cpu_ns(thread);
	usage->runnable = usage->cpu_ns && thread_state(tid) == 'R';
}

int thread_pin(int cpu)
{
	cpu_set_t cpus;

	thread_init();
	if (cpu < -1 || cpu >= CPU_SETSIZE)
		return -EINVAL;
	if (cpu == -1) {
		cpus = all_cpus;
	} else {
		CPU_ZERO(&cpus);
		CPU_SET(cpu, &cpus);
	}
	return -pthread_setaffinity_np(pthread_self(), sizeof(cpus), &cpus);
}

void thread_yield(void)
{
	sched_yield();
}

void thread_sleep_ns(u64 ns)
{
	struct timespec ts = { .tv_sec = (time_t)(ns / NSEC_PER_SEC), .tv_nsec = (long)(ns % NSEC_PER_SEC) };

	while (clock_nanosleep(CLOCK_MONOTONIC, 0, &ts, &ts) == EINTR)
		;
}

void thread_block_signals(void)
{
	sigset_t all;

	sigfillset(&all);
	sigdelset(&all, SIGBUS); /* the thread's own doing: blocked, it would end the process */
	pthread_sigmask(SIG_BLOCK, &all, NULL);
}

void thread_signal_note(void)
{
	u32 self = READ_ONCE(thread_self);

	if (self)
		WRITE_ONCE(thread_signals[self - 1], 1);
	else
		WRITE_ONCE(early_signal, 1);
}

void thread_signal_send(struct thread *thread)
{
	WRITE_ONCE(thread_signals[thread->id], 1);
}

bool thread_signal_clear(void)
{
	return xchg(&thread_signals[thread_id()], 0);
}
