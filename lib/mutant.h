/* SPDX-License-Identifier: MIT */
/*
 * Mutants: named switches that put one historical bug back, to prove that the
 * oracle bites. The list is lib/mutants.def; the code exists in checking builds only.
 */
#ifndef LIB_MUTANT_H
#define LIB_MUTANT_H

#include "lib/base.h"

enum mutant {
	MUTANT_NONE,
#define MUTANT(id, name, number, year, story, oracle) id,
#include "lib/mutants.def"
#undef MUTANT
	MUTANT_NR
};

struct mutant_info {
	const char *name;   /* NULL ends the table */
	const char *story;  /* what happened, one line */
	const char *oracle; /* what must notice it */
	u32 number;	    /* in the catalogue of historical bugs; 0: breaks a rule, no recorded case */
	u32 year;
};

/* A bug of the catalogue's first part (1 to 18, the notifier core) that no mutant puts back. */
struct mutant_gap {
	const char *story; /* NULL ends the table */
	const char *why;   /* there is none */
	u32 number;
	u32 year;
};

extern u32 mutant_active;  /* enum mutant */
extern u64 mutant_reached; /* how often its place was come to since mutant_set() */

#if CHECKING
#define mutant(id) mutant_is(id)
#else
#define mutant(id) ((void)sizeof(id), false)
#endif

static inline bool mutant_is(enum mutant id)
{
	if (likely(__atomic_load_n(&mutant_active, __ATOMIC_RELAXED) != id))
		return false;
	__atomic_fetch_add(&mutant_reached, 1, __ATOMIC_RELAXED);
	return true;
}

/* Switch on one mutant, all others off; NULL or "none": all off. Return: 0; -ENOENT; -ENOSYS in a build without
 * mutants. */
int mutant_set(const char *name);

/* Always compiled in; ends with name NULL. */
const struct mutant_info *mutant_table(void);
const char *const *mutant_names(void);
const struct mutant_gap *mutant_gaps(void); /* ends with story NULL */

#endif /* LIB_MUTANT_H */
