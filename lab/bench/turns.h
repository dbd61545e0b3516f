/* SPDX-License-Identifier: MIT */
/*
 * What takes nanoseconds, measured on a core that is not always ours alone.
 *
 * Who has the other hardware thread of the core shares its adders, its store queue and its
 * predictors, and on a virtual machine may be anybody: no clock and no counter here tells.
 * On the reference machine he comes and goes in pieces of 10 us to a second, has a third to
 * all of a second's time, and what is a matter of stores takes 1.5 to 1.8 times as long
 * beside him. So
 *
 * - turns are short, about 10 us each, to fall into a piece of the one kind or the other;
 * - the same loop without what is measured takes its turn beside it: of the same moments;
 * - before and after there are additions in registers, as many at a time as a core can do:
 *   their time against the fastest of the run tells whether the turn had the core alone, and
 *   its full clock. They alone decide when it is enough, not what is measured;
 * - every processor that the thread may use takes part, a few milliseconds at a time.
 *
 * A round's value is its fastest turn, less the fastest loop without: what else the machine
 * does only adds. How the other turns went is said in the figure's note.
 */
#ifndef LAB_BENCH_TURNS_H
#define LAB_BENCH_TURNS_H

#include "lab/result/figure.h"
#include "lib/base.h"
#include "lib/time.h"

#define TURNS_MIN 64u	      /* of a round, in any case */
#define TURNS_MAX 32768u      /* of a round */
#define TURNS_FULL 200u	      /* at full speed, then enough ... */
#define TURNS_FULL_PERCENT 5u /* ... which is: the additions within it of their fastest */
/* ... but not before, and after this in any case. */
#define TURNS_LEAST_NS (CHECKING ? 0 : 50 * NSEC_PER_MSEC)
#define TURNS_MOST_NS (CHECKING ? 0 : 400 * NSEC_PER_MSEC)

/* Each returns the cycles that it took. */
struct turns_of {
	u64 (*with)(void *arg, u32 loops);
	u64 (*without)(void *arg, u32 loops);
	u64 (*pace)(void *arg); /* the additions; NULL: those of turns.c */
	void *arg;
	u32 loops;
	u64 least_ns, most_ns;
	const u32 *stop; /* may be NULL */
};

struct turn {
	u32 pace, took; /* cycles */
};

/* Of one figure, all rounds. */
struct turns {
	struct turn *turn; /* in order of time */
	u32 n;
	u32 loops;		/* of a turn */
	u32 without;		/* cycles of the fastest loop without */
	u32 rounds, rounds_max; /* and the turn that each gave: */
	u32 fastest[FIGURE_ROUNDS_MAX];
};

/* @rounds: up to FIGURE_ROUNDS_MAX. Return: 0; -ENOMEM. turns_destroy() is fine on a zeroed one. */
int turns_init(struct turns *turns, u32 rounds);
void turns_destroy(struct turns *turns);

/*
 * One round; *ns: of a loop. *pace: cycles of the fastest additions of the run, of all that
 * is measured in it; 0 before the first. The thread's processors are as before afterwards.
 * Return: 0; -EINTR (told to stop); -ENOSPC (more rounds than were announced).
 */
int turns_round(struct turns *turns, const struct turns_of *of, u32 *pace, double *ns);

/* When the run is over: how the turns went, into figure->note. @divisor: as of its values. */
void turns_note(const struct turns *turns, u32 pace, double divisor, struct figure *figure);

#endif /* LAB_BENCH_TURNS_H */
