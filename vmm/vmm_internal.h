/* SPDX-License-Identifier: MIT */
/*
 * What the engines share: the VM and the vCPU as every engine sees them, and the
 * ports. An engine embeds struct vcpu in its own and hangs its VM on vm->priv.
 *
 *   vm_create() -> engine->create()        makes vm->shared and its slot, vm->mm if own_mm
 *                  header of guest_shared  by vm.c, the same for all
 *                  engine->vcpu_create()   once per vCPU
 *   vm_load()   -> arguments into SHARED, then engine->load()
 *   vcpu_run()  -> engine->vcpu_run()      with vcpu->fn, vcpu->arg set
 */
#ifndef VMM_VMM_INTERNAL_H
#define VMM_VMM_INTERNAL_H

#include "guest/abi.h"
#include "lib/base.h"
#include "lib/err.h"
#include "vmm/engine.h"

struct vm {
	const struct engine *engine;
	struct vm_config config; /* checked by vm_create(), constant */
	void *shared;		 /* set by engine->create(): config.shared_bytes, zeroed, until engine->destroy() */
	struct mm_struct *mm;	 /* set by engine->create() if own_mm */
	gpa_t data_gpa;		 /* GUEST_DATA_GPA, unless engine->create() puts it elsewhere */
	hva_t data_hva[VM_MAX_RANGES]; /* of the ranges of DATA */
	u32 ranges;
	size_t range_bytes;
	bool loaded;
	struct vcpu *vcpus[GUEST_MAX_VCPUS];
	void *priv; /* the engine's */
};

/* Constant, or the running thread's own. */
struct vcpu {
	struct vm *vm;
	u32 id;
	u32 running;	  /* atomic: inside vcpu_run() */
	vcpu_exit_fn *fn; /* of the vcpu_run() under way */
	void *arg;
};

static inline struct guest_shared *vm_guest_shared(const struct vm *vm)
{
	return vm->shared;
}

/* Tell the handler. Return: true to go on, false to leave vcpu_run() with 0. */
static inline bool vcpu_report(struct vcpu *vcpu, const struct vcpu_exit *exit)
{
	return vcpu->fn(vcpu, exit, vcpu->arg);
}

/*
 * The guest wrote @count items of @bytes each, at @data, to a port: TEXT and BYTES
 * reach the handler as VCPU_EXIT_TEXT, EXIT as VCPU_EXIT_DONE, any other port or a
 * width nobody defined as VCPU_EXIT_CRASH.
 * @data: valid during the call; copied from guest memory already, nobody changes it.
 * Context: the vCPU's thread, outside guest mode.
 * Return: true to go on, false to leave vcpu_run() with 0.
 */
bool vm_port_out(struct vcpu *vcpu, u32 port, const void *data, u32 bytes, u32 count);

extern const struct engine engine_soft;
extern const struct engine engine_kvm;
extern const struct engine engine_qemu;

/* The soft engine runs this entry instead of one of guest_native_table; for tests. */
int soft_load_native(struct vm *vm, const struct guest_native_entry *entry);

#endif /* VMM_VMM_INTERNAL_H */
