/* SPDX-License-Identifier: MIT */
/* RCU: grace periods by liburcu (the TSan build has its own), callbacks by lib/grace.c. */
#include "lib/grace.h"
#include "lib/lock.h"
#include "lib/rcu.h"

#if !TSAN
/*
 * From urcu/urcu-memb.h, which cannot be included: it brings a struct rcu_head of
 * its own along.
 */
void urcu_memb_synchronize_rcu(void);
void urcu_memb_register_thread(void);
void urcu_memb_unregister_thread(void);

void synchronize_rcu(void)
{
	might_sleep();
	urcu_memb_synchronize_rcu();
}

void rcu_register_thread(void)
{
	urcu_memb_register_thread();
}

void rcu_unregister_thread(void)
{
	urcu_memb_unregister_thread();
}
#endif

static void rcu_domain_synchronize(struct grace_domain *domain)
{
	synchronize_rcu();
}

static struct grace_domain rcu_domain = GRACE_DOMAIN_INIT(rcu_domain, &rcu_worker, rcu_domain_synchronize);

void call_rcu(struct rcu_head *head, void (*fn)(struct rcu_head *head))
{
	grace_call(&rcu_domain, head, fn);
}

void rcu_barrier(void)
{
	might_sleep();
	grace_barrier(&rcu_domain);
}
