/* SPDX-License-Identifier: MIT */
/*
 * Callbacks after a grace period, for RCU and SRCU alike: a domain queues them, a
 * worker thread waits for the domain's readers and runs them. Private to lib/.
 */
#ifndef LIB_GRACE_H
#define LIB_GRACE_H

#include "lib/rcu.h"

struct grace_worker;

struct grace_domain {
	struct rcu_head *first, **last; /* guarded by the worker's lock, like all here */
	u64 queued;			/* callbacks so far */
	u64 done;			/* of them, run; written by the worker's thread alone */
	bool listed;
	struct grace_domain *next;
	struct grace_worker *worker;
	void (*synchronize)(struct grace_domain *domain);
};

/* clang-format off */
#define GRACE_DOMAIN_INIT(domain, grace_worker, sync) \
	{ .last = &(domain).first, .worker = (grace_worker), .synchronize = (sync) }
/* clang-format on */

/* @worker: one static object per kind; its thread starts with the first callback and lives for ever. */
void grace_domain_init(struct grace_domain *domain, struct grace_worker *worker,
		       void (*synchronize)(struct grace_domain *domain));
void grace_call(struct grace_domain *domain, struct rcu_head *head, void (*fn)(struct rcu_head *head));
void grace_barrier(struct grace_domain *domain);
bool grace_idle(struct grace_domain *domain);

extern struct grace_worker rcu_worker, srcu_worker;

#endif /* LIB_GRACE_H */
