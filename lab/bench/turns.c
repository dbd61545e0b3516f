/* SPDX-License-Identifier: MIT */
/* Nanoseconds in short turns: see lab/bench/turns.h. */
#include "lab/bench/turns.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/alloc.h"
#include "lib/atomic.h"

#define PACE_LOOPS 1000u /* of eight additions */
#define STAY_NS (5 * NSEC_PER_MSEC)

/* Four chains: more than that no core adds at a time, so that anybody else's instructions cost some. */
static u64 additions(void *arg)
{
	u64 a = 0, b = 0, c = 0, d = 0, begin = cycles();

	for (u32 i = 0; i < PACE_LOOPS; i++)
		for (int twice = 0; twice < 2; twice++) {
			a++, b++, c++, d++;
			__asm__ volatile("" : "+r"(a), "+r"(b), "+r"(c), "+r"(d));
		}
	return cycles() - begin;
}

static bool at_full_speed(u32 pace, u32 fastest)
{
	return pace * 100ull <= fastest * (100ull + TURNS_FULL_PERCENT);
}

int turns_init(struct turns *turns, u32 rounds)
{
	*turns = (struct turns){ .rounds_max = min(rounds, (u32)FIGURE_ROUNDS_MAX) };
	turns->turn = mem_alloc((size_t)turns->rounds_max * TURNS_MAX * sizeof(*turns->turn));
	return turns->turn ? 0 : -ENOMEM;
}

void turns_destroy(struct turns *turns)
{
	mem_free(turns->turn);
	turns->turn = NULL;
}

/* --- the processors ------------------------------------------------------------------------ */

struct tour {
	cpu_set_t allowed;
	int nr; /* of those; one or none: stay */
	int cpu;
	u64 until;
};

static void tour_begin(struct tour *tour)
{
	tour->nr = sched_getaffinity(0, sizeof(tour->allowed), &tour->allowed) ? 0 : CPU_COUNT(&tour->allowed);
	tour->cpu = sched_getcpu();
	tour->until = 0;
}

/* Where it cannot go it does not: there may be fewer by now. */
static void tour_go_on(struct tour *tour, u64 now)
{
	cpu_set_t one;

	if (tour->nr < 2 || now < tour->until)
		return;
	do
		tour->cpu = (tour->cpu + 1) % CPU_SETSIZE;
	while (!CPU_ISSET(tour->cpu, &tour->allowed));
	CPU_ZERO(&one);
	CPU_SET(tour->cpu, &one);
	sched_setaffinity(0, sizeof(one), &one);
	tour->until = now + STAY_NS;
}

static void tour_end(const struct tour *tour)
{
	if (tour->nr > 1)
		sched_setaffinity(0, sizeof(tour->allowed), &tour->allowed);
}

/* --- a round ---------------------------------------------------------------------------------- */

static u32 clamped(u64 count)
{
	return (u32)min(count, (u64)UINT32_MAX);
}

static struct turn take_turn(const struct turns_of *of, u32 *without)
{
	u64 (*pace)(void *arg) = of->pace ?: additions;
	u64 paced = pace(of->arg), took;

	*without = clamped(of->without(of->arg, of->loops));
	took = of->with(of->arg, of->loops);
	paced += pace(of->arg);
	return (struct turn){ .pace = clamped(paced), .took = clamped(took) };
}

int turns_round(struct turns *turns, const struct turns_of *of, u32 *pace, double *ns)
{
	u32 first = turns->n, best = first, full = 0, empty = UINT32_MAX, without;
	u64 start = clock_ns(), now = start;
	struct tour tour;
	int ret = 0;

	if (turns->rounds == turns->rounds_max)
		return -ENOSPC;
	tour_begin(&tour);
	while (turns->n - first < TURNS_MAX &&
	       (turns->n - first < TURNS_MIN || now - start < (full < TURNS_FULL ? of->most_ns : of->least_ns))) {
		struct turn *turn = &turns->turn[turns->n++];

		tour_go_on(&tour, now);
		*turn = take_turn(of, &without);
		empty = min(empty, without);
		if (turn->took < turns->turn[best].took)
			best = turns->n - 1;
		if (*pace && !at_full_speed(*pace, turn->pace))
			full = 0; /* none was, as is seen now */
		*pace = *pace ? min(*pace, turn->pace) : turn->pace;
		full += at_full_speed(turn->pace, *pace);
		now = clock_ns();
		if (of->stop && READ_ONCE(*of->stop)) {
			ret = -EINTR;
			break;
		}
	}
	tour_end(&tour);
	turns->loops = of->loops;
	turns->without = turns->rounds ? min(turns->without, empty) : empty;
	turns->fastest[turns->rounds++] = best;
	*ns = turns->turn[best].took > empty ? cycles_to_ns_exact(turns->turn[best].took - empty) / of->loops : 0;
	return ret;
}

/* --- the note ----------------------------------------------------------------------------------- */

static int compare_u32(const void *a, const void *b)
{
	u32 x = *(const u32 *)a, y = *(const u32 *)b;

	return x < y ? -1 : x > y;
}

/* Which turns; nanoseconds of a loop in the one in the middle, as a value would be, and how many there are. */
enum which { TURNS_FAST, TURNS_SLOW, TURNS_ALL };

static double middle(const struct turns *turns, u32 pace, enum which which, u32 *room, u32 *n)
{
	u32 took;

	*n = 0;
	for (u32 i = 0; i < turns->n; i++)
		if (which == TURNS_ALL || at_full_speed(turns->turn[i].pace, pace) == (which == TURNS_FAST))
			room[(*n)++] = turns->turn[i].took;
	if (!*n)
		return 0;
	qsort(room, *n, sizeof(*room), compare_u32);
	took = room[*n / 2];
	return took > turns->without ? cycles_to_ns_exact(took - turns->without) / turns->loops : 0;
}

void turns_note(const struct turns *turns, u32 pace, double divisor, struct figure *figure)
{
	u32 *room = mem_alloc((turns->n + 1ull) * sizeof(*room)), n[TURNS_ALL + 1], low = UINT32_MAX, high = 0;
	char fast[16] = "-", slow[16] = "-";
	struct figure beside = { .rounds = 0 };
	double ns[TURNS_ALL + 1];

	if (!room || !turns->rounds || !pace)
		goto out;
	for (enum which i = 0; i <= TURNS_ALL; i++)
		ns[i] = middle(turns, pace, i, room, &n[i]) / divisor;
	for (u32 i = 0; i < turns->rounds; i++) {
		u32 paced = turns->turn[turns->fastest[i]].pace;

		figure_add(&beside, (double)paced / pace, 0);
		low = min(low, paced);
		high = max(high, paced);
	}
	if (n[TURNS_FAST])
		snprintf(fast, sizeof(fast), "%.2f", ns[TURNS_FAST]);
	if (n[TURNS_SLOW])
		snprintf(slow, sizeof(slow), "%.2f", ns[TURNS_SLOW]);
	snprintf(figure->note, sizeof(figure->note),
		 "%.1f %% of %u turns ran at full speed, the middle one of them %s ns, of the others %s, of all %.2f; "
		 "others: somebody else on the core, or a lower clock, as additions beside them show; "
		 "beside the values, each a round's fastest turn, those took %.2f times their least (%.2f to %.2f)",
		 100.0 * n[TURNS_FAST] / turns->n, turns->n, fast, slow, ns[TURNS_ALL],
		 figure_median(&beside, beside.value), (double)low / pace, (double)high / pace);
out:
	mem_free(room);
}
