/* SPDX-License-Identifier: MIT */
/* Documents to merge, made as runs make them. */
#ifndef TESTS_LAB_MERGE_H
#define TESTS_LAB_MERGE_H

#include <jansson.h>

#include "lab/result/merge.h"
#include "tests/test.h"

/* Of a run of stress on soft, @nr of a few. Its histogram "h" holds what merge_fill() draws. */
json_t *merge_run(u64 nr);
/* The samples of run @nr, into @hist. */
void merge_fill(struct hist *hist, u64 nr);

/* Add copies of them as "r0", "r1" ... Return: what the first failure was. */
int merge_all(struct merge *m, json_t *const *docs, u32 nr, struct err *err);
/* The document, as a file would hold it. */
json_t *merge_saved(const struct merge *m);

#endif /* TESTS_LAB_MERGE_H */
