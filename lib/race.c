/* SPDX-License-Identifier: MIT */
/* Race points: gates that hold one thread, and random delays. */
#include "lib/race.h"

#if CHECKING
#include <string.h>

#include "lib/atomic.h"
#include "lib/lock_core.h"
#include "lib/rng.h"
#include "lib/thread.h"
#include "lib/time.h"

#define RACE_DELAYS BIT(31)
#define RACE_STRETCH BIT(30)
#define RACE_TIMEOUT_NS (120 * NSEC_PER_SEC) /* a script that is wrong, not a busy machine */
#define RACE_DELAY_MAX_NS 50000

enum {
	GATE_ARMED,
	GATE_HELD,     /* a thread stands in race_hit() */
	GATE_RELEASED, /* told to go */
	GATE_LEFT,     /* gone; it does not touch the gate again */
	GATE_OPEN,     /* released before any came */
};

static struct lock_core gates_lock; /* guards the list, nth and hits */
static struct race_gate *gates;
u32 race_active;

static u64 delay_seed;
static u32 delay_permille;
static u32 delay_epoch = 1; /* changes with the seed; 0: that of a thread not seeded yet */

static const char *stretch_at, *stretch_until; /* set before RACE_STRETCH is, constant while it is */
static u32 stretch_permille;
static u64 stretch_ns;
static u32 stretch_passed; /* futex: passages of stretch_until */

/* Of this thread, begun anew with each seed. */
static struct rng *delay_rng(void)
{
	static __thread struct rng rng;
	static __thread u32 epoch;
	u32 now = smp_load_acquire(&delay_epoch);

	if (epoch != now) {
		epoch = now;
		rng_seed(&rng, rng_mix(READ_ONCE(delay_seed), thread_id()));
	}
	return &rng;
}

static void delay(void)
{
	struct rng *rng = delay_rng();
	u64 ns;

	if (rng_below(rng, 1000) >= READ_ONCE(delay_permille))
		return;
	if (rng_below(rng, 2)) {
		thread_yield();
		return;
	}
	ns = clock_ns() + rng_below(rng, RACE_DELAY_MAX_NS);
	while (clock_ns() < ns)
		cpu_relax();
}

static void stretch(const char *name)
{
	u64 deadline, now;
	u32 passed;

	if (!strcmp(name, stretch_until)) {
		fetch_add(&stretch_passed, 1);
		futex_wake(&stretch_passed, INT32_MAX);
	}
	if (strcmp(name, stretch_at) != 0 || rng_below(delay_rng(), 1000) >= stretch_permille)
		return;
	passed = READ_ONCE(stretch_passed);
	deadline = clock_ns() + stretch_ns;
	while (READ_ONCE(stretch_passed) == passed && (now = clock_ns()) < deadline)
		futex_wait(&stretch_passed, passed, deadline - now);
}

void race_hit(const char *name)
{
	struct race_gate *gate, *mine = NULL;

	if (READ_ONCE(race_active) & RACE_DELAYS)
		delay();
	/* Pairs with the or in race_stretch(): the names are set. */
	if (smp_load_acquire(&race_active) & RACE_STRETCH)
		stretch(name);
	lock_core_lock(&gates_lock, LOCK_SPIN_LONG);
	for (gate = gates; gate; gate = gate->next) {
		u32 armed = GATE_ARMED;

		if (strcmp(gate->name, name) || ++gate->hits != gate->nth)
			continue;
		if (!mine && try_cmpxchg(&gate->state, &armed, GATE_HELD))
			mine = gate;
	}
	lock_core_unlock(&gates_lock);
	if (!mine)
		return;
	futex_wake(&mine->state, INT32_MAX);
	while (smp_load_acquire(&mine->state) == GATE_HELD)
		futex_wait(&mine->state, GATE_HELD, 0);
	/* race_disarm() waits for this: the gate may be gone right after. */
	smp_store_release(&mine->state, GATE_LEFT);
	futex_wake(&mine->state, INT32_MAX);
}

void race_arm(struct race_gate *gate, const char *name, unsigned int nth)
{
	*gate = (struct race_gate){ .name = name, .nth = nth, .state = GATE_ARMED };
	lock_core_lock(&gates_lock, LOCK_SPIN_LONG);
	gate->next = gates;
	gates = gate;
	lock_core_unlock(&gates_lock);
	fetch_add(&race_active, 1);
}

void race_wait(struct race_gate *gate)
{
	u64 deadline = clock_ns() + RACE_TIMEOUT_NS;

	while (smp_load_acquire(&gate->state) == GATE_ARMED) {
		u64 now = clock_ns();

		if (now >= deadline)
			BUG("no thread came to race point %s in %llu s (%u of %u passages)", gate->name,
			    (unsigned long long)(RACE_TIMEOUT_NS / NSEC_PER_SEC), READ_ONCE(gate->hits), gate->nth);
		futex_wait(&gate->state, GATE_ARMED, deadline - now);
	}
}

bool race_held(struct race_gate *gate)
{
	return smp_load_acquire(&gate->state) == GATE_HELD;
}

void race_release(struct race_gate *gate)
{
	u32 state = GATE_ARMED;

	if (try_cmpxchg(&gate->state, &state, GATE_OPEN))
		return;
	state = GATE_HELD;
	if (try_cmpxchg(&gate->state, &state, GATE_RELEASED))
		futex_wake(&gate->state, INT32_MAX);
}

void race_disarm(struct race_gate *gate)
{
	struct race_gate **link;

	race_release(gate);
	lock_core_lock(&gates_lock, LOCK_SPIN_LONG);
	for (link = &gates; *link && *link != gate; link = &(*link)->next)
		;
	if (!*link)
		BUG("race gate %s is not armed", gate->name);
	*link = gate->next;
	lock_core_unlock(&gates_lock);
	while (smp_load_acquire(&gate->state) == GATE_RELEASED)
		futex_wait(&gate->state, GATE_RELEASED, 0);
	fetch_add(&race_active, -1);
}

void race_delays(u64 seed, unsigned int permille)
{
	WRITE_ONCE(delay_seed, seed);
	WRITE_ONCE(delay_permille, permille);
	fetch_add(&delay_epoch, 1);
	if (permille)
		fetch_or(&race_active, (u32)RACE_DELAYS);
	else
		fetch_and(&race_active, ~(u32)RACE_DELAYS);
}

void race_stretch(const char *at, const char *until, unsigned int permille, u64 ns)
{
	fetch_and(&race_active, ~(u32)RACE_STRETCH);
	if (!at)
		return;
	stretch_at = at;
	stretch_until = until;
	stretch_permille = permille;
	stretch_ns = ns;
	fetch_or(&race_active, (u32)RACE_STRETCH);
}
#endif /* CHECKING */
