/* SPDX-License-Identifier: MIT */
/* The locking designs by name. */
#include <string.h>

#include "mm/policy.h"

static const struct mm_policy *const policies[] = { &mm_policy_mmap_sem };

static const char *const names[] = { "mmap_sem", NULL };

const struct mm_policy *mm_policy_find(const char *name)
{
	_Static_assert(ARRAY_SIZE(names) == ARRAY_SIZE(policies) + 1, "a name for each policy");
	for (unsigned int i = 0; name && i < ARRAY_SIZE(policies); i++) {
		if (!strcmp(policies[i]->name, name))
			return policies[i];
	}
	return NULL;
}

const char *const *mm_policy_names(void)
{
	return names;
}
