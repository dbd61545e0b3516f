/* SPDX-License-Identifier: MIT */
/* Random numbers that a seed repeats: xoshiro256** (Blackman and Vigna, 2018), seeded through a mixer. */
#ifndef LIB_RNG_H
#define LIB_RNG_H

#include "lib/base.h"

struct rng {
	u64 s[4];
};

void rng_seed(struct rng *r, u64 seed);

/* A hash of both, without state: for numbers that belong to a place, such as (seed, step). */
u64 rng_mix(u64 a, u64 b);

/* A seed nobody chose. Never 0. */
u64 rng_random_seed(void);

static inline u64 rng_rotl(u64 x, int k)
{
	return x << k | x >> (64 - k);
}

static inline u64 rng_next(struct rng *r)
{
	u64 result = rng_rotl(r->s[1] * 5, 7) * 9;
	u64 t = r->s[1] << 17;

	r->s[2] ^= r->s[0];
	r->s[3] ^= r->s[1];
	r->s[1] ^= r->s[2];
	r->s[0] ^= r->s[3];
	r->s[2] ^= t;
	r->s[3] = rng_rotl(r->s[3], 45);
	return result;
}

/* Uniform in [0, n), n > 0. */
static inline u64 rng_below(struct rng *r, u64 n)
{
	unsigned __int128 product = (unsigned __int128)rng_next(r) * n;

	/* The lowest 2^64 mod n products of each row are one too many: draw again. */
	if (unlikely((u64)product < n)) {
		u64 floor = -n % n;

		while ((u64)product < floor)
			product = (unsigned __int128)rng_next(r) * n;
	}
	return product >> 64;
}

#endif /* LIB_RNG_H */
