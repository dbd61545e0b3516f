/* SPDX-License-Identifier: MIT */
/*
 * Private to the matrix:
 *
 *   lab/matrix/matrix.c         the cells in turn, and what is concluded
 *   lab/matrix/guest.c   what the guest does and sees
 *   lab/matrix/cost.c    what that costs, on ranges of its own
 *   lab/matrix/look.c    what the host's memory looks like
 *   lab/matrix/uffd.c    what userfaultfd says
 *   lab/matrix/range.c   what KVM's notifier is told, from its tracepoint
 */
#ifndef LAB_MATRIX_INTERNAL_H
#define LAB_MATRIX_INTERNAL_H

#include "lab/matrix/matrix.h"
#include "lab/machine/touch.h"

#define HUGE_PAGE (2ull << 20)
#define MATRIX_BYTES (8ull << 20)
#define MATRIX_RANGE (4ull << 20) /* the operation's part of DATA, from its start */
#define MATRIX_PAGES (MATRIX_RANGE / PAGE_SIZE)
#define MATRIX_NEAR 8 /* KVM's shadow MMU maps aligned groups of eight at a fault */

/* The word that the guest looks at, in the first half of DATA by its page. Below: what the guest writes, page + 1. */
#define MATRIX_OLD 0x10000000u
#define MATRIX_FILE 0x20000000u

/* Equal for two pages 64 apart, whose words lie at the same place: KSM finds pairs. */
static inline u32 matrix_old(u64 page)
{
	return MATRIX_OLD + (u32)(page & ~64ull);
}

/* --- guest.c --------------------------------------------------------------------- */

/* What the host writes before. Return: 0, -errno. */
int matrix_fill(struct host *host);

/* The guest reads the range. @written: it has written it itself since, and must find that. */
int matrix_see(struct touch *t, bool written, enum matrix_sight *sight, struct err *err);

/*
 * Between begin and end: does an access fail, and else what does it see? After FAULT
 * the access is still under way: touch_wait() when the operation has ended.
 */
int matrix_probe(struct touch *t, enum matrix_sight *sight, struct err *err);

/* The guest reads or writes all of the range. */
int matrix_use(struct touch *t, bool write, struct err *err);
/* It accesses the first of each @apart pages alone; every access is timed. */
int matrix_time(struct touch *t, u64 apart, bool write, struct hist *hist, struct err *err);

/* --- cost.c ---------------------------------------------------------------------- */

/*
 * Do the operation again, as often as it takes, and time the guest's accesses after it: @c
 * has what they cost, or why that is not known. @faults: grows by those of the second MMU.
 * Return: 0; -errno with one line in @err.
 */
int matrix_cost(struct touch *t, struct matrix_cell *c, struct hist *hist, u64 *faults, struct err *err);

/* --- look.c ------------------------------------------------------------------------- */

struct matrix_look {
	u64 frame[MATRIX_PAGES];	  /* what each page of the range stands in; 0: nothing */
	bool known;			  /* frame and used are */
	bool frames_known;		  /* this process may know the frames' numbers: they can be compared */
	u64 used;			  /* pages of memory that DATA and what was moved away from it take */
	s64 huge_kib, lazy_kib, swap_kib; /* MATRIX_UNKNOWN where the kernel does not say */
};

/* How to see pages that are in a shared object, mapped by DATA or not. */
struct matrix_witness {
	void *at; /* a second mapping of the object from its start; NULL: there is no object */
};

int matrix_witness_open(struct matrix_witness *w, struct host *host, struct err *err);
void matrix_witness_close(struct matrix_witness *w);
/* Return: 0; -errno with what is missing in @why: @look then holds what is known. */
int matrix_look(struct host *host, const struct matrix_witness *w, struct matrix_look *look, struct err *why);

/* Is not all of DATA huge, as the backing's name says? @text: what of it is. A row of huge pages is told of nothing
 * else. */
bool matrix_lacks_huge(enum host_backing backing, const struct matrix_look *look, char *text, size_t n);

/* --- uffd.c --------------------------------------------------------------------------- */

/*
 * Do @op on a fresh @backing with userfaultfd listening. Return: 0 and *@events; -errno
 * and why they are unknown; @never is set when no operation on this backing has any.
 */
int matrix_uffd(enum host_op op, enum host_backing backing, struct err *never, s64 *events, struct err *why);

/* --- range.c ---------------------------------------------------------------------------- */

#define MATRIX_RING_PAGES 128 /* of records, for each processor: some 6,000; no more is free of charge to non-root */

struct matrix_ranges {
	unsigned int id;	       /* of the event; 0: it cannot be watched */
	unsigned int start_at, end_at; /* its fields */
	unsigned int ring_pages;       /* a power of two */
	/* of a watch */
	hva_t start, end;
	struct range_ring *ring; /* one per processor; NULL: none */
	unsigned int nr;
};

/* Find the event. Return: 0; -errno and why not in @why: watches then find nothing out. */
int matrix_ranges_open(struct matrix_ranges *r, struct err *why);
/* Watch the events that touch [start, end). Return: 0; -errno and why not in @why. */
int matrix_ranges_watch(struct matrix_ranges *r, hva_t start, hva_t end, struct err *why);
/*
 * End the watch: how many there were, and how many pages of the range they cover; MATRIX_UNKNOWN without a watch.
 * Return: 0; -EOVERFLOW: some were lost, both are unknown, @why says how many.
 */
int matrix_ranges_take(struct matrix_ranges *r, s64 *count, s64 *pages, struct err *why);
/* End the watch, if there is one. */
void matrix_ranges_close(struct matrix_ranges *r);

#endif /* LAB_MATRIX_INTERNAL_H */
