/* SPDX-License-Identifier: MIT */
/*
 * Merging results: the parts of a campaign become one document of the same schema. What can
 * be added is added; what cannot stays with its part; what would mean nothing together is
 * refused. A part that is a merged result counts as the parts it was made of, so that
 * it does not matter in which order, and over how many levels, a campaign is gathered.
 */
#ifndef LAB_RESULT_MERGE_H
#define LAB_RESULT_MERGE_H

#include <jansson.h>

#include "lab/result/blocks.h"
#include "lib/base.h"
#include "lib/err.h"
#include "lib/hist.h"

#define MERGE_HISTS_MAX 1024

struct merge_hist {
	char *name, *unit;
	struct hist hist;
	struct blocks passes; /* of all parts, in their order */
	u64 resolution;
	bool no_passes; /* a part has samples and does not say by which passes */
};

struct merge {
	json_t *command; /* of all parts; NULL before the first */
	json_t *parts;	 /* array: where each came from */
	json_t *timed;	 /* the first of them that holds times: the others' have to be of the same MMU */
	u64 checked, faults;
	bool faults_unknown; /* of a part nobody counted them */
	json_t *ids;	     /* object: id of a part: its number */
	json_t *host_ops;    /* object: sums */
	json_t *violations;  /* array, each with its part */
	json_t *skips;	     /* array, each once, with its parts */
	json_t *skip_index;  /* object: what and why: its place in skips */
	struct merge_hist *hist[MERGE_HISTS_MAX];
	u32 nr_hists;
	struct hist scratch;
};

/* Return: 0; -ENOMEM. */
int merge_init(struct merge *m);
void merge_destroy(struct merge *m);

/*
 * Add what @doc holds, which came from @file. @doc is used up: the caller drops it and looks no more into it.
 * Return: 0; -EINVAL (it is not what it says, or does not go with the others), -EEXIST (it is in already),
 * -EOVERFLOW, -ENOMEM, with one line in @err; @m is good for merge_destroy() only then.
 */
int merge_add(struct merge *m, json_t *doc, const char *file, struct err *err);

/*
 * The document of all parts, at least one; for json_decref(). *@complete: every shard of every campaign is
 * there, and each part ran, and to its end.
 */
json_t *merge_document(const struct merge *m, bool *complete);

enum merge_outcome { MERGE_PASSED, MERGE_FAILED, MERGE_STALLED, MERGE_NOTHING_RAN };

/* What the runs say together: the gravest of what they said. */
enum merge_outcome merge_outcome(const struct merge *m);

#endif /* LAB_RESULT_MERGE_H */
