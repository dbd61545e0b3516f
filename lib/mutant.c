/* SPDX-License-Identifier: MIT */
/* The mutants' table and switch. */
#include <string.h>

#include "lib/atomic.h"
#include "lib/mutant.h"

u32 mutant_active;

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

const struct mutant_info *mutant_table(void)
{
	return table;
}

const char *const *mutant_names(void)
{
	return names;
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
	WRITE_ONCE(mutant_active, id);
	return 0;
}
