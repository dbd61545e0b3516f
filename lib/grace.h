/* SPDX-License-Identifier: MIT */
/*
 * Callbacks after a grace period, for RCU and SRCU alike: a domain queues them, a
 * worker waits for the domain's readers and runs them. It is a thread of its own, or where
 * none is to be had, who waits for the callbacks. Private to lib/.
 */
#ifndef LIB_GRACE_H
#define LIB_GRACE_H

#include "lib/lock_core.h"
#include "lib/rcu.h"
#include "lib/thread.h"
#include "lib/wait.h"

struct grace_domain;

struct grace_worker {
	const char *name;
	struct lock_core lock;		    /* guards all below and the queues of the domains */
	struct grace_domain *first, **last; /* domains with callbacks queued */
	bool started;			    /* somebody is the worker */
	u32 runner;			    /* who: its thread_id() + 1; written by it alone */
	struct wait_queue work, done;
	struct thread thread;
};

struct grace_domain {
	struct rcu_head *first, **last; /* guarded by the worker's lock, like all here */
	u64 queued;			/* callbacks so far */
	u64 done;			/* of them, run; written by the worker alone */
	bool listed;
	struct grace_domain *next;
	struct grace_worker *worker;
	void (*synchronize)(struct grace_domain *domain);
};

/* clang-format off */
#define GRACE_WORKER_INIT(worker, worker_name) { .name = (worker_name), .last = &(worker).first }
#define GRACE_DOMAIN_INIT(domain, grace_worker, sync) \
	{ .last = &(domain).first, .worker = (grace_worker), .synchronize = (sync) }
/* clang-format on */

/*
 * @worker: one static object per kind; its thread starts with the first callback and lives
 * for ever. Without a thread (EAGAIN) grace_barrier() runs callbacks itself.
 */
void grace_domain_init(struct grace_domain *domain, struct grace_worker *worker,
		       void (*synchronize)(struct grace_domain *domain));
void grace_call(struct grace_domain *domain, struct rcu_head *head, void (*fn)(struct rcu_head *head));
void grace_barrier(struct grace_domain *domain);
bool grace_idle(struct grace_domain *domain);

extern struct grace_worker rcu_worker, srcu_worker;

#endif /* LIB_GRACE_H */
