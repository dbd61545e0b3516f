/* SPDX-License-Identifier: MIT */
/*
 * Threads with a small number of their own. The number indexes per-thread
 * counters, SRCU slots and trace rings; it is reused after the thread ends.
 */
#ifndef LIB_THREAD_H
#define LIB_THREAD_H

#include "lib/atomic.h"
#include "lib/base.h"
#include "tain/signal.h"

/*
 * That have called tain and are alive, at one time. Each is a cache line in every address
 * space, mirror and SRCU domain; nobody looks at more lines than were ever in use
 * (thread_high). Checking builds have few: the limit is met in their tests.
 */
#define THREAD_MAX (CHECKING ? 128u : 1024u)
#define THREAD_NAME_BYTES 16

struct thread {
	u64 handle;
	u32 id;
	u32 tid; /* the kernel's number; 0 before it runs. Written by the thread itself */
	char name[THREAD_NAME_BYTES];
	void (*fn)(void *arg);
	void *arg;
};

/*
 * Start a thread that runs fn(arg), entered and pinned.
 * @thread: the caller's, until thread_join(). @cpu: processor, or -1 for any.
 * Return: 0; -EAGAIN (THREAD_MAX or a system limit); -EINVAL (no such processor).
 */
int thread_create(struct thread *thread, const char *name, int cpu, void (*fn)(void *arg), void *arg);

/* Wait for its end. Context: sleeps. Return: the arg it was created with. */
void *thread_join(struct thread *thread);

/* Pin the calling thread; -1: let it run anywhere. Return: 0; -EINVAL. */
int thread_pin(int cpu);

/*
 * For threads tain did not create: before their first call, and after the last
 * (BUG if a lock or a reader is still held). Nests. main calls thread_enter("main") first.
 */
void thread_enter(const char *name);
void thread_exit(void);

/* What a thread has had of its processor. */
struct thread_usage {
	u64 cpu_ns;
	bool runnable; /* running, or waiting for a processor; else asleep, or over */
};

/* Of a thread between thread_create() and thread_join(). What cannot be read is 0 and false. */
void thread_get_usage(const struct thread *thread, struct thread_usage *usage);

/* Of the same, the first alone: one system call. 0: cannot be read. */
u64 thread_cpu_ns(const struct thread *thread);

const char *thread_name(void); /* THREAD_NAME_BYTES may be read */
void thread_yield(void);
void thread_sleep_ns(u64 ns);
void thread_block_signals(void); /* in a thread that must never run the program's handlers */

/*
 * What a room keeps by thread number is left clean for the next thread of that number: fn
 * runs in each thread as it leaves, after the checker has had its say, while thread_id()
 * is still its. Context: a constructor; constant afterwards.
 */
struct thread_leave_hook {
	void (*fn)(void);
	struct thread_leave_hook *next;
};
void thread_at_leave(struct thread_leave_hook *hook);

extern __thread u32 thread_self; /* id + 1; 0 before thread_enter() */
/*
 * For hot paths: (id + 1) * CACHELINE, the offset of the thread's line in an array of
 * THREAD_MAX + 1 of them; 0 where smp_mb_light() may not be said: before thread_enter(), and
 * without membarrier(2). So the array's first line is nobody's, and can be made to look as
 * if it asked for the slow path, which says thread_own_line() and smp_mb().
 */
extern __thread u64 thread_line;
extern u32 thread_high; /* every id in use, now or before, is below it; only grows */
u32 thread_id_slow(void);

static inline u32 thread_id(void)
{
	u32 self = thread_self;

	return likely(self) ? self - 1 : thread_id_slow();
}

/* In any case. Enters if need be. */
static inline u64 thread_own_line(void)
{
	return (thread_id() + 1ull) * CACHELINE;
}

/*
 * Signals, as far as long operations care: one is pending for a thread from
 * thread_signal_note() (tain/signal.h) or thread_signal_send() until thread_signal_clear(),
 * or until the thread leaves. What it meant is the program's business.
 */
extern u32 thread_signals[THREAD_MAX]; /* by id; atomic */

/* One load. What may take long asks once per step, undoes what it did, and returns -EINTR. */
static inline bool thread_signal_pending(void)
{
	u32 self = thread_self;

	return self && unlikely(READ_ONCE(thread_signals[self - 1]));
}

/* thread_signal_note() for another thread, between thread_create() and thread_join(). It is not woken from a sleep. */
void thread_signal_send(struct thread *thread);

#endif /* LIB_THREAD_H */
