/* SPDX-License-Identifier: MIT */
/*
 * Atomics and barriers under the kernel's names, over the compiler's builtins.
 * Each barrier in the tree names its partner at the call.
 */
#ifndef LIB_ATOMIC_H
#define LIB_ATOMIC_H

#include "lib/base.h"

#define READ_ONCE(x) __atomic_load_n(&(x), __ATOMIC_RELAXED)
#define WRITE_ONCE(x, v) __atomic_store_n(&(x), (v), __ATOMIC_RELAXED)
#define smp_load_acquire(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define smp_store_release(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)

/* Full-barrier read-modify-write, as in the kernel. */
#define xchg(p, v) __atomic_exchange_n((p), (v), __ATOMIC_SEQ_CST)
#define fetch_add(p, v) __atomic_fetch_add((p), (v), __ATOMIC_SEQ_CST)
#define fetch_or(p, v) __atomic_fetch_or((p), (v), __ATOMIC_SEQ_CST)
#define fetch_and(p, v) __atomic_fetch_and((p), (v), __ATOMIC_SEQ_CST)
/* Returns true and stores `new` if *p was *old; otherwise *old receives the value found. */
#define try_cmpxchg(p, old, new)                                                                                       \
	__atomic_compare_exchange_n((p), (old), (new), false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)

/* ThreadSanitizer does not model fences: a locked operation on a private word orders the processor there. */
#if TSAN
static inline void smp_mb(void)
{
	static __thread int word;

	__atomic_fetch_add(&word, 0, __ATOMIC_SEQ_CST);
}
#define smp_rmb() smp_mb()
#define smp_wmb() smp_mb()
#else
#if defined(__x86_64__)
/* A locked add orders as mfence does, in a tenth of the time; clang would take mfence. */
#define smp_mb() __asm__ __volatile__("lock; addl $0, -4(%%rsp)" ::: "memory", "cc")
#else
#define smp_mb() __atomic_thread_fence(__ATOMIC_SEQ_CST)
#endif
#define smp_rmb() __atomic_thread_fence(__ATOMIC_ACQUIRE)
#define smp_wmb() __atomic_thread_fence(__ATOMIC_RELEASE)
#endif
#define barrier() __asm__ __volatile__("" ::: "memory")

static inline void cpu_relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#else
	barrier();
#endif
}

#endif /* LIB_ATOMIC_H */
