/* SPDX-License-Identifier: MIT */
/* The monotonic clock and the rate of the cycle counter. */
#include <time.h>

#include "lib/atomic.h"
#include "lib/thread.h"
#include "lib/time.h"

#define CALIBRATE_NS (20 * NSEC_PER_MSEC)
#define STEP_READINGS 10000
#define MOMENT_TRIES 20
#define MOMENT_NS 1000 /* no try is needed after one as good as this */

u64 cycles_mult;
static u64 khz;
static enum cycles_unit sample_unit; /* constant once something is measured */

/* The same moment on both clocks. */
struct moment {
	u64 ns, cycles;
};

static struct moment epoch; /* when the program started, so that the first use seldom has to wait */

u64 clock_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (u64)ts.tv_sec * NSEC_PER_SEC + (u64)ts.tv_nsec;
}

/* The processor may be taken away between two readings, for seconds where it is virtual: of some tries the closest. */
static struct moment moment_now(void)
{
	struct moment best = { 0, 0 };
	u64 apart = ~0ull;

	for (int i = 0; i < MOMENT_TRIES && apart > MOMENT_NS; i++) {
		u64 before = clock_ns(), count = cycles(), after = clock_ns();

		if (after - before >= apart)
			continue;
		apart = after - before;
		best = (struct moment){ before + apart / 2, count };
	}
	return best;
}

__attribute__((constructor)) static void time_init(void)
{
	epoch = moment_now();
}

u64 cycles_khz(void)
{
	u64 known = READ_ONCE(khz);
	u64 ns, count, mult;
	struct moment now;

	if (likely(known))
		return known;
	ns = clock_ns() - epoch.ns;
	if (ns < CALIBRATE_NS)
		thread_sleep_ns(CALIBRATE_NS - ns);
	now = moment_now();
	ns = now.ns - epoch.ns;
	count = now.cycles - epoch.cycles;
	if (!count) /* a processor without a counter */
		count = ns;
	/* Threads may race here: each result is good, and the two words need not be of one. */
	mult = ((unsigned __int128)ns << 32) / count;
	WRITE_ONCE(cycles_mult, mult ? mult : 1);
	known = (unsigned __int128)count * (NSEC_PER_SEC / 1000) / ns;
	WRITE_ONCE(khz, known);
	return known;
}

u64 cycles_step(void)
{
	u64 step = ~0ull, last = cycles();

	for (int i = 0; i < STEP_READINGS; i++) {
		u64 now = cycles();

		if (now > last)
			step = min(step, now - last);
		last = now;
	}
	return step;
}

void cycles_set_unit(enum cycles_unit unit)
{
	sample_unit = unit;
}

const char *cycles_unit_name(void)
{
	return sample_unit == CYCLES_INSTRUCTIONS ? "instructions" : "ns";
}

u64 cycles_to_unit(u64 count)
{
	return sample_unit == CYCLES_INSTRUCTIONS ? count : cycles_to_ns(count);
}

double ns_to_unit(double ns)
{
	return sample_unit == CYCLES_INSTRUCTIONS ? ns * (double)cycles_khz() / 1e6 : ns;
}
