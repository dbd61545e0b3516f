/* SPDX-License-Identifier: MIT */
/*
 * Race points: named places where a test holds a thread and lets it go, to force
 * one exact interleaving; or where threads are delayed at random. Checking builds only.
 *
 *   struct race_gate gate;
 *
 *   race_arm(&gate, "mmu_fault:before_lock", 1);   the first thread to come by will hold
 *   ... start it ...
 *   race_wait(&gate);                              it stands there now
 *   ... do the other side ...
 *   race_release(&gate);
 *   race_disarm(&gate);
 */
#ifndef LIB_RACE_H
#define LIB_RACE_H

#include "lib/base.h"

#if CHECKING

struct race_gate {
	struct race_gate *next;
	const char *name;
	u32 nth;   /* which passage holds, from 1 */
	u32 hits;  /* passages so far */
	u32 state; /* futex: armed, held, released */
};

extern u32 race_active; /* gates armed, RACE_DELAYS, RACE_STRETCH; 0: a race point is one load */

void race_hit(const char *name);

/* Hold the @nth thread that comes to @name (from 1). @gate: the caller's until race_disarm(). */
void race_arm(struct race_gate *gate, const char *name, unsigned int nth);
/* Until a thread is held at the gate; BUG after 10 s. */
void race_wait(struct race_gate *gate);
/* Is a thread held there now? For tests that show that none comes. */
bool race_held(struct race_gate *gate);
/* Let it go, or let the one still to come pass. */
void race_release(struct race_gate *gate);
/* race_release() if need be, and forget the gate. */
void race_disarm(struct race_gate *gate);

/* A delay (a yield up to about 50 us) at @permille of all passages of every point; 0: off. */
void race_delays(u64 seed, unsigned int permille);

/*
 * Make a window wide: who comes to @at waits there, at @permille of the passages, until
 * any thread has passed @until once more; @ns at most, for it may be us that thread waits
 * for. It sleeps: with few processors the other side gets on meanwhile. NULL: off.
 */
void race_stretch(const char *at, const char *until, unsigned int permille, u64 ns);

#define race_point(name)                                                                                               \
	do {                                                                                                           \
		if (unlikely(__atomic_load_n(&race_active, __ATOMIC_ACQUIRE)))                                         \
			race_hit(name);                                                                                \
	} while (0)

#else
#define race_point(name) ((void)sizeof(name))
#endif

#endif /* LIB_RACE_H */
