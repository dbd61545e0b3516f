/* SPDX-License-Identifier: MIT */
/* What the files of merging share: see lab/result/merge.h. */
#ifndef LAB_RESULT_MERGE_INTERNAL_H
#define LAB_RESULT_MERGE_INTERNAL_H

#include "lab/result/merge.h"

/* --- merge.c: numbers of documents that somebody may have edited --------------------- */

/* @object's @key, an integer that is not negative. Return: 0; -EINVAL with one line. */
int merge_get_count(json_t *object, const char *key, const char *file, u64 *value, struct err *err);

/* Return: 0; -EOVERFLOW with one line: a document cannot hold the sum. */
int merge_sum(u64 *to, u64 value, const char *what, const char *file, struct err *err);

/* --- merge_hist.c -------------------------------------------------------------------- */

/* Add a document's histograms. *@samples: in all of them. Return: as merge_add(). */
int merge_add_hists(struct merge *m, json_t *hists, const char *file, u64 *samples, struct err *err);
/* Into the histograms of @doc. */
void merge_put_hists(const struct merge *m, json_t *doc);
void merge_destroy_hists(struct merge *m);

/* --- merge_differ.c ------------------------------------------------------------------ */

/* The value of @key that all parts have, a borrowed reference; NULL: they differ. */
json_t *merge_common(const struct merge *m, const char *key);
/* Options that all parts have alike; for json_decref(). */
json_t *merge_common_options(const struct merge *m);
/* What to know before the sums are read: an array of lines; for json_decref(). *@complete: see merge_document(). */
json_t *merge_warnings(const struct merge *m, bool *complete);

#endif /* LAB_RESULT_MERGE_INTERNAL_H */
