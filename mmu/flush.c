/* SPDX-License-Identifier: MIT */
/*
 * vCPU modes, requests, and the flush that waits (rule K23).
 *
 * A vCPU in guest mode polls its request word before every access; that is its
 * interrupt, so the mode EXITING of rule K23, which saves a second one, has no
 * counterpart here. A requester must know that no old translation will be used
 * again before its caller frees frames:
 *
 *   requester                                  vCPU
 *   ---------                                  ----
 *   zap entries
 *   ticket = ++flush_asked
 *   set request            (A, full barrier)   mode = IN_GUEST         (B, full barrier)
 *   mode == OUTSIDE?                           request? serve it, then use translations
 *     yes: done; it serves before its next access
 *     no: wait until flush_done >= ticket
 *         or mode == OUTSIDE                   poll: flush TLB, flush_done = flush_asked
 *   free frames                                or exit: mode = OUTSIDE
 *
 * A and B pair: either the vCPU sees the request, or the requester sees it in the
 * guest and waits. Without the wait (mutant k23-no-wait; test
 * k23_flush_waits_for_the_guest) the vCPU may stand between its poll and its access,
 * with the translation in hand, while the frame is freed.
 */
#include "mmu/mmu_internal.h"

/* How long a waiter spins, then yields, before it naps: the vCPU's thread may be waiting for our processor. */
#define WAIT_SPINS 200
#define WAIT_YIELDS 4
#define WAIT_NAP_NS 20000

static void wait_a_little(unsigned int *turn)
{
	if (++*turn <= WAIT_SPINS)
		cpu_relax();
	else if (*turn <= WAIT_SPINS + WAIT_YIELDS)
		thread_yield();
	else
		thread_sleep_ns(WAIT_NAP_NS);
}

void mmu_vcpu_add(struct mmu *mmu, struct mmu_vcpu *vcpu, u32 id, const struct mmu_vcpu_ops *ops)
{
	*vcpu = (struct mmu_vcpu){ .mmu = mmu, .ops = ops, .id = id, .mode = MMU_OUTSIDE };
	mutex_lock(&mmu->vcpu_lock);
	vcpu->next = mmu->vcpus;
	rcu_assign_pointer(mmu->vcpus, vcpu);
	mutex_unlock(&mmu->vcpu_lock);
}

void mmu_vcpu_remove(struct mmu_vcpu *vcpu)
{
	struct mmu *mmu = vcpu->mmu;
	struct mmu_vcpu **link;

	ASSERT(READ_ONCE(vcpu->mode) == MMU_OUTSIDE);
	mutex_lock(&mmu->vcpu_lock);
	for (link = &mmu->vcpus; *link != vcpu; link = &(*link)->next)
		BUG_ON(!*link);
	rcu_assign_pointer(*link, vcpu->next);
	mutex_unlock(&mmu->vcpu_lock);
	synchronize_srcu(&mmu->srcu); /* flushes that may still look at it */
}

static void serve_flush(struct mmu_vcpu *vcpu)
{
	u64 ticket;

	/* Full barrier, before the tickets are read: one asked later has its bit set later, and is served again. */
	fetch_and(&vcpu->requests, ~(u32)MMU_REQ_TLB_FLUSH);
	ticket = smp_load_acquire(&vcpu->flush_asked); /* pairs with flush_ask(): its zap is visible to our walks */
	vcpu->ops->tlb_flush(vcpu);
	/* Release: pairs with flush_settled(); our accesses are over when the requester's caller frees frames. */
	smp_store_release(&vcpu->flush_done, ticket);
	mmu_trace(flush_done, vcpu->id, ticket, 0, 0);
}

static void vcpu_outside(struct mmu_vcpu *vcpu)
{
	/* Release: pairs with flush_settled() and vcpu_is_held(), as flush_done does. */
	smp_store_release(&vcpu->mode, MMU_OUTSIDE);
}

static void vcpu_in_guest(struct mmu_vcpu *vcpu)
{
	xchg(&vcpu->mode, MMU_IN_GUEST); /* B of the head of this file; pairs with A in vcpu_request() */
}

/*
 * In guest mode. An audit comes first: once it sees us outside it reads our TLB,
 * which we must not touch before it lets go.
 */
static u32 serve_requests(struct mmu_vcpu *vcpu)
{
	for (;;) {
		/* Acquire: pairs with the fetch_or in vcpu_request(), and with the fetch_and that ends an audit. */
		u32 requests = smp_load_acquire(&vcpu->requests);

		if (likely(!requests))
			return 0;
		if (requests & MMU_REQ_AUDIT) {
			vcpu_outside(vcpu);
			wait_event(&vcpu->mmu->audit_wait, !(smp_load_acquire(&vcpu->requests) & MMU_REQ_AUDIT));
			vcpu_in_guest(vcpu);
		} else if (requests & MMU_REQ_TLB_FLUSH) {
			serve_flush(vcpu);
		} else {
			fetch_and(&vcpu->requests, ~requests);
			vcpu_outside(vcpu);
			return requests;
		}
	}
}

u32 mmu_vcpu_enter(struct mmu_vcpu *vcpu)
{
	ASSERT(READ_ONCE(vcpu->mode) == MMU_OUTSIDE);
	vcpu_in_guest(vcpu);
	return serve_requests(vcpu);
}

u32 mmu_vcpu_poll(struct mmu_vcpu *vcpu)
{
	ASSERT(READ_ONCE(vcpu->mode) == MMU_IN_GUEST);
	race_point("vcpu:poll");
	return serve_requests(vcpu);
}

void mmu_vcpu_exit(struct mmu_vcpu *vcpu)
{
	ASSERT(READ_ONCE(vcpu->mode) == MMU_IN_GUEST);
	vcpu_outside(vcpu);
}

/* Return: is the vCPU in guest mode, so that somebody may have to wait? */
static bool vcpu_request(struct mmu_vcpu *vcpu, u32 request)
{
	fetch_or(&vcpu->requests, request); /* A; pairs with B in vcpu_in_guest() */
	return smp_load_acquire(&vcpu->mode) != MMU_OUTSIDE;
}

void mmu_kick(struct mmu_vcpu *vcpu)
{
	vcpu_request(vcpu, MMU_REQ_KICK);
}

/*
 * It was asked before, has not answered, and is outside the guest: it will flush before its
 * next access, and nobody has to wait. The zap comes before the look at the request: who calls
 * has changed entries by read-modify-writes, or tried to, full barriers (spte_change_locked(), spte_try_change()). So
 * if the request is taken off after the look, the flush and the walks that follow see the zap.
 */
static bool flush_is_owed(const struct mmu_vcpu *vcpu)
{
	if (!(smp_load_acquire(&vcpu->requests) & MMU_REQ_TLB_FLUSH) && !mutant(MUTANT_K23_OWED_UNASKED))
		return false;
	race_point("flush:owed");
	return smp_load_acquire(&vcpu->mode) == MMU_OUTSIDE;
}

static void flush_ask(struct mmu_vcpu *vcpu)
{
	u64 ticket = fetch_add(&vcpu->flush_asked, 1) + 1; /* orders the zap before it; pairs with serve_flush() */
	bool in_guest = vcpu_request(vcpu, MMU_REQ_TLB_FLUSH);

	mmu_trace(flush_ask, vcpu->id, ticket, in_guest, 0);
}

static bool flush_settled(struct mmu_vcpu *vcpu, u64 ticket)
{
	return smp_load_acquire(&vcpu->flush_done) >= ticket || smp_load_acquire(&vcpu->mode) == MMU_OUTSIDE;
}

static void flush_wait(struct mmu *mmu, struct mmu_vcpu *vcpu, u64 ticket)
{
	unsigned int turn = 0;

	mmu_count(mmu, MMU_NR_FLUSH_WAITS);
	race_point("flush:before_wait");
	while (!flush_settled(vcpu, ticket))
		wait_a_little(&turn);
}

/*
 * Ask everybody, then wait for everybody. A vCPU added meanwhile has an empty TLB
 * and walks tables that were zapped before we looked at the list.
 */
static __attribute__((noinline)) void flush_ask_all(struct mmu *mmu)
{
	struct mmu_vcpu *vcpu;

	for (vcpu = srcu_dereference(mmu->vcpus, &mmu->srcu); vcpu; vcpu = srcu_dereference(vcpu->next, &mmu->srcu))
		if (!flush_is_owed(vcpu))
			flush_ask(vcpu);
	if (mutant(MUTANT_K23_NO_WAIT))
		return;
	for (vcpu = srcu_dereference(mmu->vcpus, &mmu->srcu); vcpu; vcpu = srcu_dereference(vcpu->next, &mmu->srcu)) {
		u64 ticket = READ_ONCE(vcpu->flush_asked); /* ours or a later one; 0 if it was added just now */

		if (!flush_settled(vcpu, ticket))
			flush_wait(mmu, vcpu, ticket);
	}
}

void mmu_flush_remote_tlbs_srcu(struct mmu *mmu)
{
	struct mmu_vcpu *vcpu;

	if (mutant(MUTANT_K12_NO_FLUSH))
		return;
	mmu_count(mmu, MMU_NR_FLUSHES);
	/* Where everybody owes one, nobody has to be asked, or waited for. */
	for (vcpu = srcu_dereference(mmu->vcpus, &mmu->srcu); vcpu; vcpu = srcu_dereference(vcpu->next, &mmu->srcu))
		if (!flush_is_owed(vcpu))
			return flush_ask_all(mmu);
}

void mmu_flush_remote_tlbs(struct mmu *mmu)
{
	int idx = srcu_read_lock(&mmu->srcu);

	mmu_flush_remote_tlbs_srcu(mmu);
	srcu_read_unlock(&mmu->srcu, idx);
}

/*
 * Outside and told to stay there. The bit was set before the mode is read (A), so a
 * vCPU that enters after this sees it, backs out and waits (serve_requests()).
 */
static bool vcpu_is_held(struct mmu_vcpu *vcpu)
{
	return smp_load_acquire(&vcpu->mode) == MMU_OUTSIDE; /* pairs with vcpu_outside(): its TLB is ours to read */
}

void mmu_pause_vcpus_locked(struct mmu *mmu)
{
	struct mmu_vcpu *vcpu;

	lockdep_assert_held(&mmu->vcpu_lock);
	for (vcpu = mmu->vcpus; vcpu; vcpu = vcpu->next)
		vcpu_request(vcpu, MMU_REQ_AUDIT);
	for (vcpu = mmu->vcpus; vcpu; vcpu = vcpu->next) {
		unsigned int turn = 0;

		while (!vcpu_is_held(vcpu))
			wait_a_little(&turn);
	}
}

void mmu_resume_vcpus_locked(struct mmu *mmu)
{
	struct mmu_vcpu *vcpu;

	lockdep_assert_held(&mmu->vcpu_lock);
	for (vcpu = mmu->vcpus; vcpu; vcpu = vcpu->next)
		fetch_and(&vcpu->requests, ~(u32)MMU_REQ_AUDIT); /* pairs with the acquire in serve_requests() */
	wake_up_all(&mmu->audit_wait);
}
