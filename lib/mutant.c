/* SPDX-License-Identifier: MIT */
/* The mutants' table and switch. */
#include <string.h>

#include "lib/atomic.h"
#include "lib/mutant.h"

u32 mutant_active;
u64 mutant_reached;

static const struct mutant_info table[] = {
#define MUTANT(id, name, number, year, story, oracle) { name, story, oracle, number, year },
#include "lib/mutants.def"
#undef MUTANT
	{ NULL, NULL, NULL, 0, 0 },
};

static const char *const names[] = {
#define MUTANT(id, name, number, year, story, oracle) name,
#include "lib/mutants.def"
#undef MUTANT
	NULL,
};

static const struct mutant_gap gaps[] = {
	{ "a collapse to a huge page clears a table without a section (f268f6cf875f)",
	  "mm/ maps with pages of 4 KiB alone and collapses nothing", 12, 2022 },
	{ "registration does not lock the VMAs, under whose locks faults open sections (eeff9a5d47f8)",
	  "no locking design here has a lock per VMA", 15, 2023 },
	{ "dropping all locks drops VMA locks that the writer of the address space still needs",
	  "no locking design here has a lock per VMA", 16, 2023 },
	{ NULL, NULL, 0, 0 },
};

const struct mutant_info *mutant_table(void)
{
	return table;
}

const char *const *mutant_names(void)
{
	return names;
}

const struct mutant_gap *mutant_gaps(void)
{
	return gaps;
}

int mutant_set(const char *name)
{
	u32 id = MUTANT_NONE;

	if (name && strcmp(name, "none")) {
		for (u32 i = 0; names[i]; i++) {
			if (!strcmp(name, names[i]))
				id = i + 1; /* in the order of enum mutant, behind MUTANT_NONE */
		}
		if (id == MUTANT_NONE)
			return -ENOENT;
		if (!CHECKING)
			return -ENOSYS;
	}
	WRITE_ONCE(mutant_reached, 0);
	WRITE_ONCE(mutant_active, id);
	return 0;
}
