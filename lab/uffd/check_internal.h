/* SPDX-License-Identifier: MIT */
/*
 * Private to uffd_check:
 *
 *   lab/uffd/check.c       connections, the watchdog, rescue
 *   lab/uffd/check_page.c  what pages must hold; readers; violations
 *   lab/uffd/check_op.c    the mutator: operations, their history
 */
#ifndef LAB_UFFD_CHECK_INTERNAL_H
#define LAB_UFFD_CHECK_INTERNAL_H

#include "lab/uffd/check.h"
#include "lib/atomic.h"
#include "lib/lock.h"
#include "lib/rng.h"
#include "lib/thread.h"

#define WORDS (PAGE_SIZE / sizeof(u64))
#define READERS_MAX 16
#define LOG_ENTRIES 65536u
#define OP_PAGES 8u /* at most, in one operation */

/*
 * A page's rule: what a read may find, and in the upper bits how often that changed.
 * The mutator alone writes it: everything allowed before the operation, what is true
 * afterwards behind it (release). A reader takes it before (acquire) and after its read;
 * the two the same: the content must be as it says.
 */
#define RULE_SNAPSHOT 1u
#define RULE_ZERO 2u
#define RULE_GONE 4u /* may be unmapped */
#define RULE_ANY 7u
#define RULE_STEP 8u

struct log_entry {
	u32 op;
	u32 pages;
	u64 first;
	u64 ns;
};

struct region {
	u64 first, pages; /* pages of the snapshot */
	char *memory;
	bool shared;
	int fd;
};

struct check_thread {
	struct uffd_check *check;
	struct thread thread;
	u64 since;	  /* clock when the access or operation under way began; 0: none; atomic */
	u64 page;	  /* that it is about; atomic */
	u32 op;		  /* the mutator's; atomic */
	u64 seen, waited; /* the watcher's: `since` at its last look, and for how long it has been that */
	struct rng rng;
	struct hist ns;
	u64 checked, faults; /* atomic */
	bool started;
	u32 ended; /* atomic */
};

struct uffd_check {
	const struct uffd_check_config *config;
	struct uffd_check_result *result;
	u64 pages;
	struct region region[2]; /* private anonymous memory, and a memfd shared */
	u32 *rule;
	u8 *touched; /* the page is there, as far as is known; atomic */
	int uffd, socket, pidfd;
	u32 ops;   /* bit mask of what is done */
	u32 stop;  /* atomic */
	u32 spent; /* three quarters of the pages were removed; atomic */
	u64 start_ns, last_look;
	u64 removed; /* pages; the mutator's */
	hva_t place; /* of what is mapped: holes open there */
	u64 place_bytes;
	char *scratch;
	u32 *child;	       /* shared with a forked child: 1 + page that was wrong, and why */
	int child_pid;	       /* atomic; 0: none */
	struct log_entry *log; /* written by the mutator; those below log_nr are complete */
	u64 log_nr;
	struct mutex violation_mutex; /* guards result's violations */
	struct check_thread reader[READERS_MAX], mutator;
};

char *check_address(struct uffd_check *c, u64 page);
void set_rule(struct uffd_check *c, u64 first, u64 n, u32 allowed);
/* Read a page at @at of this process. Return: 0; -errno. Works in a forked child. */
int read_page(const char *at, u64 *words);
/* Is it what @allowed says? @why: what it holds. */
bool judge(u64 page, u32 allowed, const u64 *words, const char **why);
void add_violation(struct uffd_check *c, enum uffd_check_kind kind, u64 page, const char *what, const char *holds);
void reader_main(void *arg);
void mutator_main(void *arg);

static inline void begin_wait(struct check_thread *t, u64 page, u64 now)
{
	WRITE_ONCE(t->page, page);
	WRITE_ONCE(t->since, now);
}

static inline void end_wait(struct check_thread *t)
{
	WRITE_ONCE(t->since, 0);
}

#endif /* LAB_UFFD_CHECK_INTERNAL_H */
