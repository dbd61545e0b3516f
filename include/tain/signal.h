/* SPDX-License-Identifier: MIT */
/*
 * Signals, as far as tain's waits care. tain installs no handler: the program's own says
 * that one is pending for the thread it runs on, and what that thread waits in, or will,
 * ends with -EINTR where the function lists it.
 *
 *   static void on_usr1(int signal) { thread_signal_note(); }
 *   ...
 *   err = mmu_notifier_register(&s, mm);     pthread_kill(thread, SIGUSR1): -EINTR
 *   if (err == -EINTR && thread_signal_clear() && !stopping)
 *           again
 */
#ifndef TAIN_SIGNAL_H
#define TAIN_SIGNAL_H

#include "tain/types.h"

/*
 * A signal is pending for the calling thread: a wait of its that lists -EINTR ends within
 * about a millisecond, and so does the next one, until thread_signal_clear(). A wait for a
 * lock goes on until it has it. Also before the thread's first call of tain.
 * Context: any, a signal handler too: async-signal-safe, keeps errno, takes no lock.
 * Return: nothing; cannot fail. Pairs: thread_signal_clear().
 */
TAIN_API void thread_signal_note(void);

/*
 * The calling thread has dealt with it: its waits wait again. One noted between an -EINTR and
 * this goes with it, so look at what your handler left for you after the call, not before.
 * Context: any but a signal handler.
 * Return: was one pending? Pairs: thread_signal_note().
 */
TAIN_API bool thread_signal_clear(void);

#endif /* TAIN_SIGNAL_H */
