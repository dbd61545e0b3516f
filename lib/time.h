/* SPDX-License-Identifier: MIT */
/* The monotonic clock, and the processor's cycle counter with its rate. */
#ifndef LIB_TIME_H
#define LIB_TIME_H

#include "lib/base.h"

#define NSEC_PER_USEC 1000ull
#define NSEC_PER_MSEC 1000000ull
#define NSEC_PER_SEC 1000000000ull

/* Nanoseconds since some fixed moment. */
u64 clock_ns(void);

/* Time stamp counter; ordered against nothing. */
static inline u64 cycles(void)
{
#if defined(__x86_64__)
	return __builtin_ia32_rdtsc();
#else
	return clock_ns();
#endif
}

/* Its rate. The first call may take 20 ms: it is measured against clock_ns(). */
u64 cycles_khz(void);

/* What one reading after the other shows at least, in cycles: no difference below it was measured. Never 0. */
u64 cycles_step(void);

extern u64 cycles_mult; /* ns = cycles * cycles_mult >> 32; 0: not measured yet */

static inline u64 cycles_to_ns(u64 count)
{
	if (unlikely(!__atomic_load_n(&cycles_mult, __ATOMIC_RELAXED)))
		cycles_khz();
	return (unsigned __int128)count * __atomic_load_n(&cycles_mult, __ATOMIC_RELAXED) >> 32;
}

/* The same with its fraction. */
static inline double cycles_to_ns_exact(u64 count)
{
	return (double)count * 1e6 / (double)cycles_khz();
}

/*
 * What samples are given in. On an emulator that runs so many instructions per second of
 * its own, the counter counts instructions: then a sample says how many, and repeats.
 */
enum cycles_unit { CYCLES_NS, CYCLES_INSTRUCTIONS };

/* Before anything is measured. */
void cycles_set_unit(enum cycles_unit unit);
const char *cycles_unit_name(void);
u64 cycles_to_unit(u64 count);
double ns_to_unit(double ns); /* of clock_ns(), which on such an emulator counts them too */

#endif /* LIB_TIME_H */
