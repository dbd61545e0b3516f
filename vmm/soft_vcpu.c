/* SPDX-License-Identifier: MIT */
/*
 * The software vCPU. A guest is a function that reaches its memory through the
 * accessor of guest/native.h: TLB hits stay inline there, everything else comes here.
 *
 * Guest mode is where the guest function runs. It is left before anything that may
 * sleep, wait for a lock or call the handler, and a vCPU is stopped by longjmp()
 * from outside guest mode; the guest's own frames are gone then, so the next run
 * starts it from the top, on a TLB as it was.
 */
#include "lib/alloc.h"
#include "lib/atomic.h"
#include "lib/thread.h"
#include "vmm/soft_internal.h"

#include <string.h>

/* Retries in a row before the processor is given away to whoever holds us up. */
#define SOFT_RETRY_SPINS 16
/* Hostile mode: a TLB of a handful of entries. */
#define SOFT_HOSTILE_FILLS 32

static void __attribute__((noreturn)) soft_stop(struct soft_vcpu *v, int error)
{
	v->error = error;
	longjmp(v->stop, 1);
}

static void soft_report(struct soft_vcpu *v, const struct vcpu_exit *exit)
{
	if (!vcpu_report(&v->vcpu, exit))
		soft_stop(v, 0);
}

static void soft_report_kick(struct soft_vcpu *v)
{
	const struct vcpu_exit exit = { .reason = VCPU_EXIT_KICK };

	soft_report(v, &exit);
}

static void soft_enter(struct soft_vcpu *v)
{
	while (mmu_vcpu_enter(&v->mmu))
		soft_report_kick(v);
}

/* --- TLB --------------------------------------------------------------------- */

static void tlb_clear(struct guest_tlb_entry *entry)
{
	entry->tag_read = GUEST_TLB_EMPTY;
	entry->tag_write = GUEST_TLB_EMPTY;
}

static void tlb_flush(struct soft_vcpu *v)
{
	u32 i;

	if (v->nr_filled <= SOFT_TLB_FILLED) {
		for (i = 0; i < v->nr_filled; i++)
			tlb_clear(&v->native.tlb[v->filled[i]]);
	} else {
		for (i = 0; i < GUEST_TLB_ENTRIES; i++)
			tlb_clear(&v->native.tlb[i]);
	}
	v->nr_filled = 0;
}

static void soft_tlb_flush(struct mmu_vcpu *mmu)
{
	tlb_flush(container_of(mmu, struct soft_vcpu, mmu));
}

static void tlb_fill(struct soft_vcpu *v, gpa_t page, const struct mmu_translation *translation)
{
	u32 index = page >> PAGE_SHIFT & (GUEST_TLB_ENTRIES - 1);
	struct guest_tlb_entry *entry = &v->native.tlb[index];

	if (PROVE && ++v->fills % SOFT_HOSTILE_FILLS == 0)
		tlb_flush(v);
	if (entry->tag_read == GUEST_TLB_EMPTY) {
		if (v->nr_filled < SOFT_TLB_FILLED)
			v->filled[v->nr_filled] = index;
		v->nr_filled++;
	}
	entry->tag_read = page;
	entry->tag_write = translation->writable ? page : GUEST_TLB_EMPTY;
	entry->addend = (u64)(uintptr_t)translation->host - page;
}

static unsigned int soft_tlb_audit(struct mmu_vcpu *mmu)
{
	struct soft_vcpu *v = container_of(mmu, struct soft_vcpu, mmu);
	struct frame_arena *arena = soft_vm(v->vcpu.vm)->arena;
	u64 base = (u64)(uintptr_t)frame_arena_base(arena);
	unsigned int i, bad = 0;

	for (i = 0; i < GUEST_TLB_ENTRIES; i++) {
		const struct guest_tlb_entry *entry = &v->native.tlb[i];
		u64 page = entry->tag_read;

		if (page != GUEST_TLB_EMPTY)
			bad += !mmu_audit_translation(mmu, page >> PAGE_SHIFT,
						      (page + entry->addend - base) >> PAGE_SHIFT,
						      entry->tag_write == page);
	}
	return bad;
}

static const struct mmu_vcpu_ops soft_mmu_ops = {
	.tlb_flush = soft_tlb_flush,
	.tlb_audit = soft_tlb_audit,
};

/* --- the slow path ------------------------------------------------------------- */

static void soft_fault_failed(struct soft_vcpu *v, gpa_t gpa, int ret)
{
	struct soft_vm *soft = soft_vm(v->vcpu.vm);
	unsigned long long at = gpa;
	struct mmu_mismatch m;

	if (ret == -ENOMEM)
		err_set(v->err, ret, "no frame left for gpa %#llx in an arena of %zu bytes", at,
			frame_arena_bytes(soft->arena));
	else if (ret == -EIO && mmu_get_poison(soft->mmu, &m))
		err_set(v->err, ret,
			"the second MMU is wrong: %s: gfn %#llx, frame %#llx there, frame %#llx in the host", m.rule,
			(unsigned long long)m.gfn, (unsigned long long)m.mirrored, (unsigned long long)m.host);
	else
		err_set(v->err, ret, "fault on gpa %#llx: %s", at, strerror(-ret));
	soft_stop(v, ret);
}

/* Outside guest mode. Returns when the access is worth another try. */
static void soft_fault(struct soft_vcpu *v, gpa_t gpa, enum mm_access access)
{
	struct vcpu_exit exit = { .gpa = gpa, .write = access == MM_WRITE };
	int ret;

	/* For those who look from outside at a vCPU that does not come back from here. */
	WRITE_ONCE(vm_guest_vcpu(v->vcpu.vm, v->vcpu.id)->target, gpa);
	ret = mmu_fault(&v->mmu, gpa, access);
	switch (ret) {
	case MMU_FAULT_RETRY:
		if (++v->retries % SOFT_RETRY_SPINS == 0)
			thread_yield();
		return;
	case MMU_FAULT_FIXED:
	case MMU_FAULT_SPURIOUS:
		v->retries = 0;
		return;
	case MMU_FAULT_MMIO:
		exit.reason = VCPU_EXIT_MMIO;
		break;
	case -EFAULT:
		exit.reason = VCPU_EXIT_FAULT;
		break;
	default:
		soft_fault_failed(v, gpa, ret);
	}
	soft_report(v, &exit);
}

static void *soft_slow(struct guest_native *native, uint64_t gpa, int write)
{
	struct soft_vcpu *v = container_of(native, struct soft_vcpu, native);
	enum mm_access access = write ? MM_WRITE : MM_READ;
	struct mmu_translation translation;

	for (;;) {
		if (READ_ONCE(v->mmu.requests) && mmu_vcpu_poll(&v->mmu)) {
			soft_report_kick(v);
			soft_enter(v);
		}
		if (likely(mmu_walk(&v->mmu, gpa, access, &translation))) {
			tlb_fill(v, gpa & PAGE_MASK, &translation);
			return (char *)translation.host + (gpa & ~PAGE_MASK);
		}
		mmu_vcpu_exit(&v->mmu);
		soft_fault(v, gpa, access);
		soft_enter(v);
	}
}

static void soft_out(struct guest_native *native, uint32_t port, const void *data, uint32_t bytes, uint32_t count)
{
	struct soft_vcpu *v = container_of(native, struct soft_vcpu, native);

	mmu_vcpu_exit(&v->mmu);
	if (!vm_port_out(&v->vcpu, port, data, bytes, count))
		soft_stop(v, 0);
	soft_enter(v);
}

/* --- life ---------------------------------------------------------------------- */

int soft_vcpu_create(struct vm *vm, u32 id, struct vcpu **vcpu, struct err *err)
{
	struct soft_vcpu *v = mem_alloc_aligned(CACHELINE, sizeof(*v));
	u32 i;

	if (!v)
		return err_set(err, -ENOMEM, "no memory for vCPU %u", id);
	v->vcpu.vm = vm;
	v->vcpu.id = id;
	for (i = 0; i < GUEST_TLB_ENTRIES; i++)
		tlb_clear(&v->native.tlb[i]);
	v->native.requests = &v->mmu.requests;
	v->native.slow = soft_slow;
	v->native.out = soft_out;
	mmu_vcpu_add(soft_vm(vm)->mmu, &v->mmu, id, &soft_mmu_ops);
	*vcpu = &v->vcpu;
	return 0;
}

void soft_vcpu_destroy(struct vcpu *vcpu)
{
	struct soft_vcpu *v = to_soft(vcpu);

	mmu_vcpu_remove(&v->mmu);
	mem_free(v);
}

int soft_vcpu_run(struct vcpu *vcpu, vcpu_exit_fn *fn, void *arg, struct err *err)
{
	const struct guest_native_entry *entry = soft_vm(vcpu->vm)->entry;
	struct soft_vcpu *v = to_soft(vcpu);
	struct vcpu_exit exit = { .reason = VCPU_EXIT_DONE };

	v->err = err;
	v->error = 0;
	v->retries = 0;
	if (setjmp(v->stop))
		return v->error;
	soft_enter(v);
	exit.code = entry->main(&v->native, vcpu->vm->shared, vcpu->id);
	mmu_vcpu_exit(&v->mmu);
	vcpu_report(vcpu, &exit);
	return 0;
}

void soft_vcpu_kick(struct vcpu *vcpu)
{
	mmu_kick(&to_soft(vcpu)->mmu);
}
