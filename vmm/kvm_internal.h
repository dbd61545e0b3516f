/* SPDX-License-Identifier: MIT */
/* Private to the kvm engine. */
#ifndef VMM_KVM_INTERNAL_H
#define VMM_KVM_INTERNAL_H

#include <linux/kvm.h>
#include <sys/types.h>

#include "lib/atomic.h"
#include "vmm/console.h"
#include "vmm/vmm_internal.h"

#define KVM_DEVICE "/dev/kvm"

/* Newer than Debian 12's headers; the kernel fills in the gpa where it can. */
#define TAIN_KVM_EXIT_MEMORY_FAULT 39
struct kvm_exit_memory_fault {
	u64 flags;
	u64 gpa;
	u64 size;
};

/* KVM_GET_STATS_FD of a VM or a vCPU: one value at a fixed place. */
struct kvm_stat {
	int fd; /* -1: the kernel has none */
	off_t offset;
};

struct kvm_vm {
	int fd;
	size_t run_bytes; /* of struct kvm_run, from KVM_GET_VCPU_MMAP_SIZE */
	void *low;	  /* GUEST_IMAGE_END bytes: host address of gpa 0 */
	u64 slot_bytes[VM_SLOT_NR];
	hva_t slot_hva[VM_SLOT_NR];
	gpa_t entry;
	struct kvm_cpuid2 *cpuid; /* what the processor and KVM support */
	struct kvm_stat flushes, pages_4k, pages_2m;
};

struct kvm_vcpu {
	struct vcpu vcpu;
	int fd;
	struct kvm_run *run;
	struct kvm_sregs reset; /* as the kernel made them; long mode is written over a copy */
	struct kvm_stat faults;
	struct console console; /* the thread that runs the vCPU */
	bool started;
	pid_t tid;  /* of the thread inside kvm_vcpu_run(), or 0 */
	u32 kicked; /* set by kickers, taken by the thread */
};

static inline struct kvm_vm *to_kvm(const struct vm *vm)
{
	return vm->priv;
}

static inline struct kvm_vcpu *to_kvm_vcpu(struct vcpu *vcpu)
{
	return container_of(vcpu, struct kvm_vcpu, vcpu);
}

/* kvm_probe.c. Return of kvm_open: a descriptor, or -errno with reason and repair in @why. */
int kvm_open(const char *path, struct err *why);
int kvm_probe(struct err *why);
void kvm_identify(struct vm *vm, struct vm_identity *id);

/* kvm_child_x86.c */
int kvm_child_read(const struct vm *vm, const struct vm_child_read *r);

/* kvm_x86.c */
int kvm_x86_init_vm(struct kvm_vm *kvm, int device, struct err *err);
int kvm_x86_init_vcpu(struct kvm_vm *kvm, struct kvm_vcpu *v, struct err *err);
void kvm_x86_reset_vcpu(struct kvm_vm *kvm, struct kvm_vcpu *v);
void kvm_x86_map(struct kvm_vm *kvm, gpa_t end);
void kvm_x86_describe(struct kvm_vcpu *v, const char *what, struct err *err);

/* kvm_run.c */
int kvm_kick_init(struct err *err);
int kvm_vcpu_run(struct vcpu *vcpu, vcpu_exit_fn *fn, void *arg, struct err *err);
void kvm_vcpu_kick(struct vcpu *vcpu);

/* kvm_stats.c */
void kvm_stat_open(struct kvm_stat *stat, int owner, const char *name);
void kvm_stat_close(struct kvm_stat *stat);
void kvm_stats(struct vm *vm, struct vm_stats *stats);

#endif /* VMM_KVM_INTERNAL_H */
