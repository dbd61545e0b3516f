/* SPDX-License-Identifier: MIT */
/* Seeding and mixing; the generator itself is inline. */
#include <sys/random.h>

#include "lib/rng.h"
#include "lib/time.h"

/* A bijection of 64-bit words in which every input bit reaches every output bit (Stafford's variant 13). */
static u64 mix(u64 x)
{
	x ^= x >> 30;
	x *= 0xbf58476d1ce4e5b9ull;
	x ^= x >> 27;
	x *= 0x94d049bb133111ebull;
	return x ^ x >> 31;
}

u64 rng_mix(u64 a, u64 b)
{
	/* An odd constant per round: (a, b) and (b, a) differ, and (0, 0) is not 0. */
	return mix(mix(a + 0x9e3779b97f4a7c15ull) + b * 0xd1342543de82ef95ull + 1);
}

void rng_seed(struct rng *r, u64 seed)
{
	/* Four different words of one bijection: never all zero, the one state that xoshiro must not have. */
	for (u64 i = 0; i < ARRAY_SIZE(r->s); i++)
		r->s[i] = mix(seed + (i + 1) * 0x9e3779b97f4a7c15ull);
}

u64 rng_random_seed(void)
{
	u64 seed = 0;

	if (getrandom(&seed, sizeof(seed), GRND_NONBLOCK) != sizeof(seed))
		seed = rng_mix(clock_ns(), cycles());
	return seed ? seed : 1;
}
