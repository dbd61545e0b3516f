/* SPDX-License-Identifier: MIT */
/*
 * The run-time lock checker's side of lib/lock.h. Checking builds only: elsewhere
 * struct lock_dep is empty and every hook is nothing.
 */
#ifndef LIB_LOCK_CHECK_H
#define LIB_LOCK_CHECK_H

#include "lib/base.h"

#define LOCK_SUBCLASSES 8

struct lock_class {
	const char *name;
	u32 id[LOCK_SUBCLASSES]; /* node of each subclass in the graph; 0 until first use; under the checker's lock */
};

/* `static` may stand before it. Unused where nothing is checked. */
#define DEFINE_LOCK_CLASS(var, text) struct lock_class var __attribute__((unused)) = { .name = (text) }

struct lock_site {
	const char *file;
	int line;
};

enum lock_mode {
	LOCK_READ,
	LOCK_WRITE,
};

enum lock_kind {
	LOCK_SLEEPING, /* mutex, rw_semaphore */
	LOCK_SPINNING, /* spinlock, rwlock: nothing may sleep under it */
	LOCK_PSEUDO,   /* lock_map */
};

#if CHECKING

struct lock_dep {
	struct lock_class *class;
	enum lock_kind kind;
};

/* clang-format off */
#define LOCK_DEP_INIT(lock_class, lock_kind) { .class = (lock_class), .kind = (lock_kind) }
/* clang-format on */
#define LOCK_HERE                                                                                                      \
	({                                                                                                             \
		static const struct lock_site lock_here = { __FILE__, __LINE__ };                                      \
		&lock_here;                                                                                            \
	})

static inline void lock_dep_init(struct lock_dep *dep, struct lock_class *class, enum lock_kind kind)
{
	dep->class = class;
	dep->kind = kind;
}

/* Before a lock that may wait: order and recursion; then it counts as held. */
void lock_check_acquire(struct lock_dep *dep, unsigned int subclass, enum lock_mode mode, const struct lock_site *site);
/* The same under @nest, which serialises all who take several of this class: any number, in any order. */
void lock_check_acquire_nest(struct lock_dep *dep, struct lock_dep *nest, enum lock_mode mode,
			     const struct lock_site *site);
/* After a successful trylock: held, but it waited for nobody and orders nothing. */
void lock_check_acquired(struct lock_dep *dep, enum lock_mode mode, const struct lock_site *site);
void lock_check_release(struct lock_dep *dep, enum lock_mode mode, const struct lock_site *site);
void lock_check_downgrade(struct lock_dep *dep, const struct lock_site *site);
bool lock_check_held(const struct lock_dep *dep, bool write);
void lock_check_assert_held(const struct lock_dep *dep, bool write, const char *what, const struct lock_site *site);
void lock_check_assert_none_held(const struct lock_site *site);
void lock_check_might_sleep(const struct lock_site *site);
void lock_check_non_block(int delta, const struct lock_site *site);
unsigned int lock_check_depth(void); /* how many locks this thread holds */

/*
 * Tests: a report goes to @fn instead of aborting; NULL restores. The checker goes
 * on after @fn returns, and reports each pair and each recursion once.
 */
void lockdep_set_report(void (*fn)(const char *text));

/* A room's own report, for what a caller's contract forbids and a release build answers with an error or ignores. */
void format_printf(2, 3) lock_check_report(const struct lock_site *site, const char *fmt, ...);
#define check_report(...) lock_check_report(LOCK_HERE, __VA_ARGS__)

#else /* !CHECKING */

struct lock_dep {
};

/* clang-format off */
#define LOCK_DEP_INIT(lock_class, lock_kind) {}
/* clang-format on */
#define LOCK_HERE NULL

static inline void lock_dep_init(struct lock_dep *dep, struct lock_class *class, enum lock_kind kind)
{
}
static inline void lock_check_acquire(struct lock_dep *dep, unsigned int subclass, enum lock_mode mode,
				      const struct lock_site *site)
{
}
static inline void lock_check_acquire_nest(struct lock_dep *dep, struct lock_dep *nest, enum lock_mode mode,
					   const struct lock_site *site)
{
}
static inline void lock_check_acquired(struct lock_dep *dep, enum lock_mode mode, const struct lock_site *site)
{
}
static inline void lock_check_release(struct lock_dep *dep, enum lock_mode mode, const struct lock_site *site)
{
}
static inline void lock_check_downgrade(struct lock_dep *dep, const struct lock_site *site)
{
}
static inline void lock_check_might_sleep(const struct lock_site *site)
{
}
static inline void format_printf(1, 2) lock_check_report_nothing(const char *fmt, ...)
{
}
#define check_report(...)                                                                                              \
	do {                                                                                                           \
		if (0)                                                                                                 \
			lock_check_report_nothing(__VA_ARGS__);                                                        \
	} while (0)

#endif /* CHECKING */
#endif /* LIB_LOCK_CHECK_H */
