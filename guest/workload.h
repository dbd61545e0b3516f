/* SPDX-License-Identifier: MIT */
/*
 * What a built-in workload includes: one source, two builds. Bare, GUEST_MAIN(name)
 * opens guest_main(); native, the function behind guest_native_NAME().
 */
#ifndef GUEST_WORKLOAD_H
#define GUEST_WORKLOAD_H

#include <stddef.h>

#include "guest/abi.h"
#include "tain/guest.h"

/* Fill in the vCPU's view of its machine; argv has room for GUEST_MAX_ARGS + 1. Return: argc. */
int guest_setup(struct guest *g, struct guest_shared *shared, uint32_t vcpu, char **argv);

#ifdef GUEST_NATIVE
#include "guest/native.h"

#define GUEST_MAIN(name)                                                                                               \
	static int name##_main(struct guest *g, int argc, char **argv);                                                \
	int guest_native_##name(struct guest_native *native, void *shared, uint32_t vcpu)                              \
	{                                                                                                              \
		return guest_native_call(native, shared, vcpu, name##_main);                                           \
	}                                                                                                              \
	static int name##_main(struct guest *g, int argc, char **argv)
#else
#define GUEST_MAIN(name) int guest_main(struct guest *g, int argc, char **argv)
#endif

/*
 * SHARED is read and written by both sides. Acquire and release cost nothing on
 * x86 and put the accesses around them in the order that the protocols need.
 */
#define shared_load(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define shared_store(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)

/* Count in a word that this vCPU alone writes. */
static inline void shared_add(uint64_t *word, uint64_t n)
{
	__atomic_store_n(word, __atomic_load_n(word, __ATOMIC_RELAXED) + n, __ATOMIC_RELAXED);
}

/* @offset of guest_shared, as an address; NULL when it is zero. */
static inline void *shared_at(const struct guest *g, uint64_t offset)
{
	return offset ? (char *)g->shared + offset : NULL;
}

/* Obey what the host has posted to the agent. Only where the guest booted by itself is there anything to do it with. */
#ifdef GUEST_NATIVE
static inline void guest_agent_start(struct guest *g)
{
	(void)g;
}

static inline void guest_agent_poll(struct guest *g)
{
	(void)g;
}
#else
void guest_agent_start(struct guest *g);
void guest_agent_obey(struct guest *g);

static inline void guest_agent_poll(struct guest *g)
{
	const struct guest_agent *a = &g->shared->agent;

	if (__builtin_expect(!g->id && shared_load(&a->posted) != a->done, 0))
		guest_agent_obey(g);
}
#endif

/* xorshift64*: small, fast, good enough to pick pages. The state is never zero. */
static inline uint64_t guest_random(uint64_t *state)
{
	uint64_t x = *state;

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	*state = x;
	return x * 0x2545f4914f6cdd1dull;
}

/* A state of its own for each vCPU. */
static inline uint64_t guest_random_seed(const struct guest *g, uint64_t seed)
{
	return (seed + 1) * 0x9e3779b97f4a7c15ull ^ (g->id + 1) * 0xd1342543de82ef95ull ?: 1;
}

/* Uniform enough below @n, without a division: n is far below 2^32. */
static inline uint64_t guest_random_below(uint64_t *state, uint64_t n)
{
	return (guest_random(state) >> 32) * n >> 32;
}

#endif /* GUEST_WORKLOAD_H */
