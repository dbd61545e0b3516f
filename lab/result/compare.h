/* SPDX-License-Identifier: MIT */
/*
 * Comparing two results: for each histogram and rate, is B faster, slower, or neither,
 * and can one tell? docs/compare.md states the method and what it assumes.
 *
 * A unit is what can be dealt to A or to B: in two documents a pass of a benchmark
 * (a block), or several that took a second together; in runs that took turns a run. A measure is one number per unit:
 * the median of a histogram, its 99th percentile, a rate.
 */
#ifndef LAB_RESULT_COMPARE_H
#define LAB_RESULT_COMPARE_H

#include <jansson.h>

#include "lab/result/compare_stats.h"
#include "lib/base.h"
#include "lib/err.h"

enum compare_side { COMPARE_A, COMPARE_B, COMPARE_SIDES };

enum compare_verdict {
	COMPARE_FASTER,
	COMPARE_SLOWER,
	COMPARE_SAME,
	COMPARE_NOISY,
	COMPARE_CONTROL, /* not judged: it tells what the machine did */
	COMPARE_VERDICTS
};

extern const char *const compare_verdict_names[COMPARE_VERDICTS]; /* "no difference" */

struct compare_measure {
	char name[64];	   /* "first_touch" */
	char quantity[16]; /* "p50", "p99", "value", "rate" */
	char unit[16];
	bool more_is_better;
	double resolution; /* of one value */
	u32 nr[COMPARE_SIDES];
	double value[COMPARE_SIDES][STATS_UNITS_MAX];

	/* What compare_judge() found. */
	double median[COMPARE_SIDES];
	double ratio;	  /* of B to A: the estimate */
	double low, high; /* it lies between these with the confidence asked for; both 0: too few units to say */
	double p;	  /* accounts for the number of measures */
	double wobble;	  /* what the machine did to A or B alone, as a part of 1 */
	enum compare_verdict verdict;
	char why[96]; /* the verdict too noisy: what is missing; may be empty */
};

struct compare {
	bool paired; /* runs that took turns */
	struct compare_measure *measure;
	u32 nr, room;
	double phase_s;	  /* two documents: a unit is made of passes that took at least so long */
	json_t *warnings; /* array of strings */
	json_t *skips;	  /* array of {what, why}: in one document, but not to be compared */
};

struct compare_config {
	double confidence;    /* 0.99 */
	double effect;	      /* smaller differences are none: 0.05 is 5 % */
	const char *controls; /* histograms that show what the machine did, with commas; two documents only */
};

#define COMPARE_CONFIDENCE 0.99
#define COMPARE_EFFECT 0.05
#define COMPARE_CONTROLS "host_fault,host_fault_random"
#define COMPARE_PHASE_S 1.0

/* @phase_s: see docs/compare.md; 0: every pass is a unit. */
void compare_init(struct compare *c, bool paired, double phase_s);
void compare_destroy(struct compare *c);

/*
 * Take the measures of @nr documents of each side: one each, or, paired, the runs in
 * turn. What the two sides do not share is skipped by name; what makes comparing them
 * doubtful is a warning.
 * Return: 0; -ENOENT (nothing in common), -EINVAL (a document is not what it says), -ENOMEM, with one line in @err.
 */
int compare_take(struct compare *c, json_t *const *a, json_t *const *b, u32 nr, struct err *err);

/* Return: 0; -ENOMEM. */
int compare_judge(struct compare *c, const struct compare_config *config);

/* How many measures have the verdict. */
u32 compare_count(const struct compare *c, enum compare_verdict verdict);

/* The key `comparison` of the document of `tain compare`. */
json_t *compare_json(const struct compare *c, const struct compare_config *config);

/* --- compare_run.c ------------------------------------------------------------------ */

struct compare_run_config {
	const char *command[COMPARE_SIDES]; /* for sh; --json FILE is added */
	u32 rounds;			    /* 1 to STATS_UNITS_MAX; each runs both */
	u64 seed;			    /* of the order */
	u64 timeout_ns;			    /* of one run; 0: none */
	const u32 *stop;		    /* may be NULL */
	void (*progress)(u64 done, u64 total, void *arg);
	void *arg;
};

/* Which side runs at @turn, 0 to 2 * rounds - 1: AB or BA, by a coin of the seed's for each pair. */
enum compare_side compare_turn(u64 seed, u32 turn);

/*
 * Run both commands in turn. @docs: per side, @rounds documents, all to be dropped (NULL where none was made).
 * Return: 0; -EINTR (told to stop); -ETIMEDOUT; -EIO (a command failed), -EINVAL (it wrote no result), -errno
 * with one line in @err.
 */
int compare_run(const struct compare_run_config *config, json_t **docs[COMPARE_SIDES], struct err *err);

#endif /* LAB_RESULT_COMPARE_H */
