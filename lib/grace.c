/* SPDX-License-Identifier: MIT */
/* Callbacks after a grace period: the queues and the worker threads of RCU and SRCU. */
#include "lib/grace.h"
#include "lib/lock.h"
#include "lib/thread.h"

/* Not a struct spinlock: call_rcu() comes from under any lock, and orders none. */
static void worker_lock(struct grace_worker *worker)
{
	lock_core_lock(&worker->lock, LOCK_SPIN_LONG);
}

static void worker_unlock(struct grace_worker *worker)
{
	lock_core_unlock(&worker->lock);
}

struct grace_worker rcu_worker = GRACE_WORKER_INIT(rcu_worker, "rcu");
struct grace_worker srcu_worker = GRACE_WORKER_INIT(srcu_worker, "srcu");

void grace_domain_init(struct grace_domain *domain, struct grace_worker *worker,
		       void (*synchronize)(struct grace_domain *domain))
{
	*domain = (struct grace_domain)GRACE_DOMAIN_INIT(*domain, worker, synchronize);
}

static struct grace_domain *worker_pop(struct grace_worker *worker, struct rcu_head **callbacks, u64 *queued)
{
	struct grace_domain *domain;

	worker_lock(worker);
	domain = worker->first;
	if (domain) {
		smp_store_release(&worker->first, domain->next);
		if (!domain->next)
			worker->last = &worker->first;
		domain->next = NULL;
		domain->listed = false;
		*callbacks = domain->first;
		*queued = domain->queued;
		domain->first = NULL;
		domain->last = &domain->first;
	}
	worker_unlock(worker);
	return domain;
}

/* The callbacks of one domain. Return: false if none has any. */
static bool worker_step(struct grace_worker *worker)
{
	struct grace_domain *domain;
	struct rcu_head *head, *next;
	u64 queued;

	domain = worker_pop(worker, &head, &queued);
	if (!domain)
		return false;
	domain->synchronize(domain);
	for (; head; head = next) {
		next = head->next; /* the callback frees it */
		head->func(head);
	}
	/* The domain may be gone after this: a barrier saw it done. */
	smp_store_release(&domain->done, queued);
	wake_up_all(&worker->done);
	return true;
}

static void worker_run(void *arg)
{
	struct grace_worker *worker = arg;

	WRITE_ONCE(worker->runner, thread_id() + 1);
	for (;;) {
		wait_event(&worker->work, smp_load_acquire(&worker->first));
		while (worker_step(worker))
			lockdep_assert_none_held();
	}
}

/*
 * There is one worker, or none: who finds none starts its thread. Where no thread is to be
 * had, callbacks stay queued until the next call or barrier finds one, or until somebody
 * waits for them: that one is the worker meanwhile, under its own locks.
 *
 *   call                        barrier
 *   ----                        -------
 *   started = true
 *                               somebody is the worker: wait
 *   no thread
 *   started = false; wake       nobody is: started = true; no thread; run them here
 */
static bool worker_start(struct grace_worker *worker)
{
	return !thread_create(&worker->thread, worker->name, -1, worker_run, worker);
}

static bool worker_claim_locked(struct grace_worker *worker)
{
	if (worker->started)
		return false;
	WRITE_ONCE(worker->started, true);
	return true;
}

static void worker_resign(struct grace_worker *worker)
{
	worker_lock(worker);
	WRITE_ONCE(worker->started, false);
	worker_unlock(worker);
	wake_up_all(&worker->done);
}

/*
 * No further than the caller waits for: others may queue for ever. What they have queued
 * gets a thread, should there be one by now.
 */
static void worker_stand_in(struct grace_worker *worker, const struct grace_domain *domain, u64 queued)
{
	bool left;

	WRITE_ONCE(worker->runner, thread_id() + 1);
	while (smp_load_acquire(&domain->done) < queued && worker_step(worker))
		;
	WRITE_ONCE(worker->runner, 0);
	worker_lock(worker);
	left = worker->first;
	WRITE_ONCE(worker->started, left);
	worker_unlock(worker);
	if (left && !worker_start(worker))
		worker_resign(worker);
	wake_up_all(&worker->done);
}

void grace_call(struct grace_domain *domain, struct rcu_head *head, void (*fn)(struct rcu_head *head))
{
	struct grace_worker *worker = domain->worker;
	bool start;

	head->func = fn;
	head->next = NULL;
	worker_lock(worker);
	*domain->last = head;
	domain->last = &head->next;
	WRITE_ONCE(domain->queued, domain->queued + 1);
	if (!domain->listed) {
		domain->listed = true;
		smp_store_release(worker->last, domain);
		worker->last = &domain->next;
	}
	start = worker_claim_locked(worker);
	worker_unlock(worker);
	if (start && !worker_start(worker))
		worker_resign(worker);
	wake_up_all(&worker->work);
}

void grace_barrier(struct grace_domain *domain)
{
	struct grace_worker *worker = domain->worker;
	u64 queued = READ_ONCE(domain->queued);

	if (READ_ONCE(worker->runner) == thread_id() + 1)
		BUG("barrier for %s callbacks inside one", worker->name);
	while (smp_load_acquire(&domain->done) < queued) {
		bool start;

		worker_lock(worker);
		start = worker_claim_locked(worker);
		worker_unlock(worker);
		if (start && !worker_start(worker))
			worker_stand_in(worker, domain, queued);
		wait_event(&worker->done, smp_load_acquire(&domain->done) >= queued || !READ_ONCE(worker->started));
	}
}

bool grace_idle(struct grace_domain *domain)
{
	return smp_load_acquire(&domain->done) == READ_ONCE(domain->queued);
}
