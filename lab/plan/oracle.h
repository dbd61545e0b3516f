/* SPDX-License-Identifier: MIT */
/*
 * The oracle: was a stale translation ever used?
 *
 * It never raises a false alarm. What that rests on, for each way a violation is
 * found; `op` is a host operation, "returned" means that the engine's promise
 * holds: no vCPU can use a translation of the range that is older than op
 * (rules N5, K12, K23; on kvm Linux's own promise).
 *
 * O1. Reads. Per page the host keeps a generation, and publishes in SHARED
 *     `announced`, raised before an operation that destroys the contents, and
 *     `required`, raised after it returned.
 *
 *     host                                guest
 *     announced = g + 1                   r = required             (load-acquire)
 *     full barrier (A)                    s = stamp                (load-acquire, B)
 *     op returns                          a = announced
 *     required = g + 1 (store-release)    s.generation in [r, a], else a violation
 *
 *     Lower bound: a guest that reads r = g + 1 does so after op returned, so its
 *     next access is translated anew and cannot reach a page of generation g.
 *     Upper bound: a stamp g + 1 is written after A, and B orders the load of
 *     announced behind the stamp's: who sees the stamp sees the announcement.
 *     Zeros: fresh memory is zero until it is stamped. Between announced and
 *     required the guest sees that they differ; afterwards the flag zero_allowed
 *     stands in required itself, and is cleared only after the stamps were written.
 *
 * O2. Operations that keep contents (mprotect, mremap away and back, DONTNEED of
 *     shared memory) announce nothing: before, after, and whenever the guest can
 *     read at all in between, the same stamps are there. An access in between
 *     fails; that is no violation, the guest repeats it. Once they are over, O9.
 *
 * O3. Stale writes. Each vCPU writes to a slot of its own in every page. A page in
 *     limbo (lab/host/host.h), or one that is read-only now, is not writable for any
 *     guest once op returned. So:
 *
 *     host                                guest
 *     op returns                          (a write of before op has landed: op waited for the vCPU)
 *     snapshot of the slots               an access now faults, or reaches fresh memory
 *     hold                                and leaves the page of the snapshot alone
 *     compare: a difference was written through a translation older than op
 *
 *     The host writes slots nowhere. A read-only phase ends after the comparison.
 *
 * O4. Marks. A page that is away and will come back carries, while it is away, a
 *     stamp of generation announced + 1, which nobody may see: a guest that reads it
 *     does so through a stale translation, and reports it by O1. The true stamps are
 *     written back before the page returns, so no legal read can see a mark. The same for
 *     a page that stays and that no access reaches for a moment (PROT_NONE, guard pages):
 *     the host marks it by another way to the same frame (lab/host/host.h), which guests do not
 *     have, while the range gives nobody an entry.
 *
 * O5. Lost writes: the guest's own business, guest/stamp.c. It needs from here that
 *     nothing but an announced operation clears a slot, and that `required` reaches
 *     `announced` only after the operation returned.
 *
 * O6. Frames and mirror (engines with tain's mm): a freed frame's poison was
 *     overwritten; mm/ tells when it is about to use the frame again. The exact
 *     audit holds the address space still. Both know no generation at all.
 *
 * O7. Pages that come through userfaultfd (lab/plan/step_uffd.c). The handler's source holds
 *     stamps of the announced generation, and nothing else can bring a page: after the
 *     old one is gone, zeros are forbidden too (oracle_promise()). A late handler must
 *     not copy a source that changes: uffd_quiesce() waits for it.
 *
 * O8. A forked child (lab/plan/step_fork.c). What its copy must hold is a pure function of
 *     the books at the fork, which it has a copy of as well.
 *
 * O9. New stamps after an operation that kept contents (lab/plan/step.c). It may have put the
 *     page into another frame (collapse, compact, KSM, swap); the old one still holds
 *     stamps that nothing forbids. So the host writes those of a new generation, through
 *     its own address space, when the operation is over and nothing else is under way:
 *
 *     host                                guest
 *     op returned
 *     announced = g + 1, (A)
 *     stamps g + 1                        g or g + 1
 *     required = g + 1 (store-release)    r = g + 1 (load-acquire): it reads the page that was written, and g + 1
 *
 *     The guest mirrors the address space that was written through, in which a page is in
 *     one frame at a time: if that changes, between the writes or by them (copy on write),
 *     the mirror is told, and the new frame has what was written. In another process (qemu)
 *     both have the same file's pages, shared. A guest that saw r = g reads either. Slots
 *     are not touched, and announced tells each vCPU to forget what it wrote (O5).
 */
#ifndef LAB_PLAN_ORACLE_H
#define LAB_PLAN_ORACLE_H

#include "guest/abi.h"
#include "lab/host/host.h"
#include "lab/plan/violation.h"
#include "lib/base.h"

struct oracle {
	struct host *host;
	struct vm *vm;		      /* for what is done to the VM; NULL: there is none. The caller sets it */
	struct step_uffd *uffd;	      /* lab/plan/step_uffd.h; NULL: there is none. The caller sets it */
	struct err why;		      /* of the last step: what the host said */
	struct guest_page_rule *rule; /* in SHARED; the host alone writes it */
	u64 pages;
	u32 vcpus;
	u64 seed;
	u32 *generation; /* per page: the last one announced; wraps, a stamp holds its low 24 bits */
	u8 *stamped;	 /* per page: holds stamps of that generation; else zeros */
	u64 *last_step;	 /* per page, VIOLATION_NO_STEP before the first */
	u8 *last_op;	 /* per page */
	u64 *slots;	 /* the snapshot: [page of the step][vcpu] */
	u64 slots_first; /* first page of the snapshot */
	u64 slots_pages;
	u64 guest_seen[GUEST_MAX_VCPUS]; /* reports collected, per vCPU */
	struct violation_log log;
};

/*
 * @rule: one per page. @max_step: the longest range of a step, in pages. The first
 * generation is 1, stamped everywhere, which takes a second per GiB: @stop (may be
 * NULL) ends it. Return: 0; -ENOMEM; -EINTR (stopped); what the host's write said.
 */
int oracle_create(struct oracle *o, struct host *host, struct guest_page_rule *rule, u64 pages, u32 vcpus, u64 seed,
		  u64 max_step, const u32 *stop);
void oracle_destroy(struct oracle *o);

/* Note the step, for reports. */
void oracle_begin(struct oracle *o, const struct plan_step *step);

/* The pages' contents are about to be destroyed (O1). */
void oracle_announce(struct oracle *o, u64 first, u64 pages);

/* Write the announced generation's stamps. Return: 0, -errno of the host. */
int oracle_stamp(struct oracle *o, u64 first, u64 pages);

/* Write the stamps of the generation before it, which nobody may see: for tests of the oracle. As oracle_stamp(). */
int oracle_plant(struct oracle *o, u64 first, u64 pages);

/* The operation returned: nothing older may be seen; zeros may where the page was not stamped since. */
void oracle_require(struct oracle *o, u64 first, u64 pages);

/* As oracle_require(), where whatever brings a page brings it with its stamps: no zeros. */
void oracle_promise(struct oracle *o, u64 first, u64 pages);

/* Mark the pages in limbo, or in DATA that no guest can reach, and write the truth back (O4). Return: 0, -errno of the
 * host. */
int oracle_mark(struct oracle *o, bool limbo, u64 first, u64 pages);
int oracle_unmark(struct oracle *o, bool limbo, u64 first, u64 pages);

/*
 * O3, with pages in limbo or in DATA. Return: 0, -errno of the host. compare adds a
 * violation for each slot that changed.
 */
int oracle_snapshot(struct oracle *o, bool limbo, u64 first, u64 pages);
int oracle_compare(struct oracle *o, bool limbo);

/* Which pages of the snapshot, in DATA, were written since? @written: a bit each, as in vm_dirty_log(). */
int oracle_written(struct oracle *o, u64 *written);

/* What the rules say of a word read from @page, as guest/stamp.c must judge it. */
enum guest_violation_kind oracle_judge(u64 page, u32 required, u64 seen, u32 announced);

/* Take over what a guest has reported since the last call. */
void oracle_collect(struct oracle *o, u32 vcpu, const struct guest_vcpu *gv);

/* Read every stamp of every page; guests at rest. Return: 0, -errno of the host. */
int oracle_verify(struct oracle *o);

/* Add a record of what the host found. @page may be VIOLATION_NO_PAGE. Any thread. */
void oracle_report(struct oracle *o, enum violation_kind kind, u64 page, u32 vcpu, u64 seen, u64 expected,
		   const char *text);

#endif /* LAB_PLAN_ORACLE_H */
