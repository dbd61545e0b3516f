/* SPDX-License-Identifier: MIT */
/*
 * Benchmarks of the notifier layer. `register`: what a subscription costs, by how it
 * is admitted, over numbers of VMAs, beside what the same VMAs cost KVM.
 * `invalidate`: what a section costs, by who listens and by what is mirrored.
 */
#ifndef LAB_BENCH_NOTIFIER_H
#define LAB_BENCH_NOTIFIER_H

#include "lab/result/figure.h"
#include "lib/base.h"
#include "lib/err.h"
#include "lib/hist.h"
#include "lib/rng.h"

struct mm_struct;

/* --- register ------------------------------------------------------------------------ */

/* How a subscriber is admitted: by one of the mm_lock variants, or by section; and the peer. */
enum register_how {
	REGISTER_MARKS,
	REGISTER_BITS,
	REGISTER_SORTED,
	REGISTER_SECTION,
	REGISTER_KVM, /* what as many VMAs in this process add to KVM_CREATE_VM */
	REGISTER_HOW_NR
};
#define REGISTER_VARIANTS REGISTER_SECTION /* those that lock, and that a signal ends */

enum register_kind {
	REGISTER_OWN,	    /* each VMA has an anon_vma of its own */
	REGISTER_SHARED,    /* one for all */
	REGISTER_UNTOUCHED, /* none */
	REGISTER_KIND_NR
};

struct register_name {
	const char *name;
	const char *summary;
};
extern const struct register_name register_how_table[REGISTER_HOW_NR];
extern const struct register_name register_kind_table[REGISTER_KIND_NR];

enum register_figure {
	REGISTER_FIGURE_PEER, /* one per kind */
	REGISTER_FIGURE_FLAT = REGISTER_FIGURE_PEER + REGISTER_KIND_NR,
	REGISTER_FIGURE_SECTION,
	REGISTER_FIGURE_SIGNAL, /* one per variant that locks */
	REGISTER_FIGURE_HANDLED = REGISTER_FIGURE_SIGNAL + REGISTER_VARIANTS,
	REGISTER_FIGURE_NR = REGISTER_FIGURE_HANDLED + REGISTER_VARIANTS
};

#define REGISTER_COUNTS_MAX 8
#define REGISTER_COUNT_MAX 4000000u
/* Above it one address space is locked at a time, and those of kind `own` alone unless others are asked for. */
#define REGISTER_MANY 100000u

/* Where the thread runs that ends a registration, turn by turn. */
enum signal_place {
	SIGNAL_SAME_CPU,  /* on the registrar's processor: what is judged */
	SIGNAL_OTHER_CPU, /* on another: one processor interrupts the other */
	SIGNAL_PLACES
};
extern const struct register_name signal_place_table[SIGNAL_PLACES];

/* How it ends one, turn by turn. */
enum signal_way {
	SIGNAL_SENT, /* a signal, whose handler notes it */
	SIGNAL_FLAG, /* its sender notes it, as the kernel's does: nothing has to be delivered */
	SIGNAL_BARE, /* a signal, to a thread that writes to as much memory for as long: what the machine takes */
	SIGNAL_WAYS
};

/* Nanoseconds. */
enum signal_part {
	SIGNAL_WHOLE,	 /* from the sending to the return of -EINTR */
	SIGNAL_DELIVERY, /* ... to the handler's first line */
	SIGNAL_HANDLED,	 /* from there on */
	SIGNAL_COMPUTED, /* of that: processor time of the thread */
	SIGNAL_PARTS
};
#define SIGNAL_BOUND_NS 100000u

struct signal_times {
	struct hist part[SIGNAL_PARTS];
	u64 slow;	 /* whole ones above the bound; of these: */
	u64 slow_before; /* those that were above it before the handler ran */
	u64 slow_absent; /* those that were not, but for the time that one of the threads did not have its processor */
};

struct signal_results {
	struct signal_times times[SIGNAL_PLACES][SIGNAL_WAYS];
	u64 late[SIGNAL_PLACES]; /* signals that came when registration was over */
	struct err no_other_cpu; /* why there is nothing of SIGNAL_OTHER_CPU; empty: nothing was left out */
};

struct bench_register_config {
	u32 counts[REGISTER_COUNTS_MAX]; /* of VMAs, upwards */
	u32 nr_counts;
	bool kinds[REGISTER_KIND_NR];
	bool many_own_only;
	u32 rounds;
	u32 signals; /* registrations to interrupt, per variant, at the largest count; 0: none */
	u64 seed;    /* of the moments of the signals */
	const u32 *stop;
	/* May be NULL; called by the caller's thread. */
	void (*progress)(u64 done, u64 total, const char *what, void *arg);
	void *arg;
};

struct bench_register_result {
	/* Nanoseconds; a round's value is the fastest of what fits in a few milliseconds; by section the median of 63.
	 */
	struct figure cases[REGISTER_COUNTS_MAX][REGISTER_KIND_NR][REGISTER_HOW_NR];
	struct signal_results signals[REGISTER_VARIANTS];
	u64 sections, sections_alone; /* registrations by section, and those that no other thread ran beside */
	struct figure figure[REGISTER_FIGURE_NR];
	u64 elapsed_ns;
};

/*
 * "10,1000,40000" to config->counts: sorted, each once. Return: 0; -EINVAL with one line in @err.
 */
int bench_register_counts(const char *list, struct bench_register_config *config, struct err *err);

/*
 * @result: bench_register_destroy() it, whatever is returned; holds what was measured.
 * Return: 0; -EINTR (told to stop); -ENOMEM, -errno with one line in @err.
 */
int bench_register_run(const struct bench_register_config *config, struct bench_register_result *result,
		       struct err *err);
void bench_register_destroy(struct bench_register_result *result);

/* result->figure from the rest; bench_register_run() does it. */
void bench_register_conclude(const struct bench_register_config *config, struct bench_register_result *result);

/* --- its parts ------------------------------------------------------------------------- */

/* Linux VMAs of this process. */
struct peer_vmas {
	char *start; /* NULL: none */
	size_t bytes;
	u32 holes; /* pages unmapped between those kept, from the second on: anybody's */
};

/* @vmas: none yet. Return: 0; -EOPNOTSUPP (vm.max_map_count) or -errno with the reason in @why: none. */
int peer_vmas_add(struct peer_vmas *vmas, enum register_kind kind, u32 count, struct err *why);
void peer_vmas_remove(struct peer_vmas *vmas);
/* Return: a descriptor of /dev/kvm; -errno with the reason in @why. */
int peer_kvm_open(struct err *why);
/* Nanoseconds of KVM_CREATE_VM, the fastest of a few. Return: 0; -errno with one line in @err. */
int peer_kvm_create(int kvm, double *ns, struct err *err);

/* Keep the calling thread where it is. Return: another processor that it may use; -1: there is none. */
int bench_pin_here(void);

/*
 * Interrupt registrations on @mm in each place and each way in turn, at moments spread
 * over @typical_ns, until @tries were ended by a signal sent on their own processor; look
 * now and then whether the mm can still be locked. The calling thread sends, and may run
 * anywhere afterwards. Return: 0; -EINTR (told to stop); -errno with one line in @err.
 */
struct bench_signals {
	struct mm_struct *mm;
	u64 bytes; /* what a bare thread writes to; a power of two */
	u32 tries;
	u64 typical_ns;
	struct rng *rng;
	const u32 *stop;
	struct signal_results *results;
};
int signal_results_init(struct signal_results *results); /* 0; -ENOMEM. Destroy it, whatever is returned */
void signal_results_destroy(struct signal_results *results);
int bench_signals_run(struct bench_signals *s, struct err *err);

/* --- invalidate ------------------------------------------------------------------------ */

enum invalidate_admission { INVALIDATE_MM_LOCK, INVALIDATE_SECTION, INVALIDATE_ADMISSIONS };
extern const char *const invalidate_admission_names[INVALIDATE_ADMISSIONS];

#define INVALIDATE_SIZES 5 /* numbers of subscribers, or of pages */
enum invalidate_what {
	INVALIDATE_NOBODY,	   /* start and end, no subscriber: over an empty loop */
	INVALIDATE_SUBSCRIBERS,	   /* the same, empty callbacks; by their number */
	INVALIDATE_PRESENT,	   /* a section over pages that the second MMU maps; a page, by their number */
	INVALIDATE_HOLE,	   /* ... over 1 GiB of which it maps none */
	INVALIDATE_DONTNEED,	   /* the whole operation, mirrored; a page */
	INVALIDATE_DONTNEED_ALONE, /* the same, nobody mirrors */
	INVALIDATE_MUNMAP,
	INVALIDATE_MUNMAP_ALONE,
	INVALIDATE_WHAT_NR
};
extern const struct register_name invalidate_table[INVALIDATE_WHAT_NR];
extern const u32 invalidate_subscribers[INVALIDATE_SIZES]; /* ends with 0 */

enum invalidate_figure {
	INVALIDATE_FIGURE_NOBODY,
	INVALIDATE_FIGURE_SUBSCRIBERS, /* one per number */
	INVALIDATE_FIGURE_LINEAR = INVALIDATE_FIGURE_SUBSCRIBERS + 3,
	INVALIDATE_FIGURE_PRESENT,
	INVALIDATE_FIGURE_PRESENT_ONE,
	INVALIDATE_FIGURE_HOLE,
	INVALIDATE_FIGURE_NR
};

struct bench_invalidate_config {
	u64 bytes; /* of the largest range that is mirrored */
	u32 rounds;
	const u32 *stop;
	void (*progress)(u64 done, u64 total, void *arg); /* may be NULL */
	void *arg;
};

struct bench_invalidate_result {
	u32 pages[INVALIDATE_SIZES]; /* upwards; 0: none */
	struct figure cases[INVALIDATE_ADMISSIONS][INVALIDATE_WHAT_NR][INVALIDATE_SIZES];
	/* Of the cases by pages: a straight line through the smallest and the largest. */
	struct figure fixed[INVALIDATE_ADMISSIONS][INVALIDATE_WHAT_NR],
		slope[INVALIDATE_ADMISSIONS][INVALIDATE_WHAT_NR];
	struct figure figure[INVALIDATE_ADMISSIONS][INVALIDATE_FIGURE_NR];
	u64 elapsed_ns;
};

#define INVALIDATE_BYTES_MAX (1ull << 30)

/* Return: 0; -EINTR (told to stop); -EINVAL, -ENOMEM, -errno with one line in @err. What was measured is in @result. */
int bench_invalidate_run(const struct bench_invalidate_config *config, struct bench_invalidate_result *result,
			 struct err *err);

/* Names and sizes into @result; result->figure from the cases. bench_invalidate_run() does both. */
void bench_invalidate_init(const struct bench_invalidate_config *config, struct bench_invalidate_result *result);
void bench_invalidate_conclude(struct bench_invalidate_result *result);

#endif /* LAB_BENCH_NOTIFIER_H */
