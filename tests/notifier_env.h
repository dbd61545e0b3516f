/* SPDX-License-Identifier: MIT */
/*
 * What the tests of notifier/ stand on: an owner that is nothing but a lock, a
 * subscriber that writes down what it hears, and a mirror of a real address space.
 */
#ifndef TESTS_NOTIFIER_ENV_H
#define TESTS_NOTIFIER_ENV_H

#include "lib/alloc.h"
#include "lib/rng.h"
#include "lib/thread.h"
#include "mm/mm_internal.h"
#include "notifier/notifier_internal.h"
#include "tests/test.h"

#define RW (TAIN_PROT_READ | TAIN_PROT_WRITE)

/* --- an owner -------------------------------------------------------------------- */

struct owner {
	struct notifier_mm mm;
	struct rw_semaphore lock; /* sections run under it for reading, registration for writing */
	struct rw_semaphore rmap; /* what reclaim runs its sections under; taken by take_all_locks */
	int take_all_locks;	  /* what it answers */
	u32 all_locked;		  /* taken less dropped */
	u32 freed;
};

void owner_init(struct owner *owner); /* admission by mm_lock */
void owner_init_with(struct owner *owner, enum notifier_admission admission);
/* The last count goes; checks that the structure is told to go, once. */
void owner_fini(struct owner *owner);

struct mmu_notifier_range owner_range(struct owner *owner, bool blockable);

/* --- a subscriber that listens ------------------------------------------------------ */

#define HEARD_MAX 64

struct listener {
	struct mmu_notifier notifier;
	char name;
	int answer;		    /* of start */
	u32 starts, ends, releases; /* atomic */
	s32 open;		    /* starts less ends */
	u32 bad;		    /* an end that no start went before; a call after unregister */
	struct mmu_notifier_range last;
	void (*in_start)(struct listener *listener, const struct mmu_notifier_range *range);
	void *arg;
};

extern const struct mmu_notifier_ops listener_ops; /* all three */
extern const struct mmu_notifier_ops listener_ops_no_end;

void listener_init(struct listener *listener, char name, const struct mmu_notifier_ops *ops);

/* What all listeners heard since, in order: "sA" start at A, "eA" its end, "rA" release. One thread. */
extern char heard[HEARD_MAX];
void heard_reset(void);

/* --- a mirror ------------------------------------------------------------------------- */

#define MIRROR_PAGES 48u
#define MIRROR_BASE (0x40200000ull - MIRROR_PAGES / 2 * PAGE_SIZE)

struct mirror {
	struct mmu_notifier notifier;
	struct mutex lock; /* guards the rest */
	u64 in_progress;
	u64 seq;
	bool released;
	struct {
		struct page *page; /* no reference: rule N5 alone keeps it */
		bool writable;
	} entry[MIRROR_PAGES];
};

struct mirror_env {
	struct frame_arena *arena;
	struct mm_struct *mm;
	struct mirror mirror;
	u32 corrupted; /* free frames somebody wrote to */
};

bool mirror_env_init(struct mirror_env *env);
void mirror_env_fini(struct mirror_env *env);

/*
 * One access through the mirror, as a guest would: faults until it works.
 * Return: 0, -EFAULT; -ESTALE: it maps a page that is nobody's.
 */
int mirror_access(struct mirror_env *env, u64 page, bool write, u64 *value);
/* Map the page if it is not; no access. */
int mirror_fault(struct mirror_env *env, u64 page, bool write);
struct page *mirror_page(struct mirror_env *env, u64 page);
/* Entries that the address space does not back, held still. */
u32 mirror_audit(struct mirror_env *env);

static inline hva_t mirror_addr(u64 page)
{
	return MIRROR_BASE + page * PAGE_SIZE;
}

/* --- threads that do one thing ------------------------------------------------------------ */

struct actor {
	struct thread thread;
	void *arg;
	void *arg2;
	int result;
	u32 done;
};

bool act(struct actor *actor, void (*fn)(void *arg), void *arg, void *arg2);
void act_done(struct actor *actor);
bool is_done(struct actor *actor);
void do_register(void *arg);   /* arg: a struct mmu_notifier, arg2: on this notifier_mm */
void do_unregister(void *arg); /* the same */
void do_release(void *arg);    /* arg: a notifier_mm */
void do_section(void *arg);    /* arg: an owner; one section under its lock */

/* --- what the checker says ------------------------------------------------------------------ */

#if CHECKING
void report_begin(void);
const char *report_end(void); /* the first report since, or "" */
#endif

extern const struct test_case notifier_register_tests[], notifier_range_tests[], notifier_race_tests[],
	notifier_mirror_tests[], notifier_admit_tests[], notifier_leave_tests[], notifier_get_tests[],
	notifier_interval_tests[], notifier_emm_tests[], notifier_mutant_tests[], notifier_stress_tests[],
	notifier_locked_tests[];

#endif /* TESTS_NOTIFIER_ENV_H */
