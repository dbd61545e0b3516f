/* SPDX-License-Identifier: MIT */
/* The x86-64 part of the kvm engine: page tables, registers, CPUID. */
#include <string.h>
#include <sys/ioctl.h>

#include "lib/alloc.h"
#include "vmm/kvm_internal.h"

/* Present, writable, user; accessed and dirty beforehand, so that nobody writes an entry later. */
#define TABLE_ENTRY 0x27ull
#define LARGE_ENTRY 0xe7ull /* and a 2 MiB page */
#define LARGE_PAGE (2ul << 20)
#define GIB (1ul << 30)

#define CR0_PROTECTED 1ull
#define CR0_LONG_MODE 0x80010033ull /* PG WP NE ET MP PE */
#define CR4_LONG_MODE 0x620ull	    /* OSXMMEXCPT OSFXSR PAE */
#define EFER_LONG_MODE 0x500ull	    /* LMA LME */

/* Three pages that KVM_SET_TSS_ADDR wants below 4 GiB on processors without unrestricted guests. */
#define TSS_GPA 0xfffbd000ull

#define MAX_CPUID_ENTRIES 256

/*
 * The table for [0, end), identity, 2 MiB pages. Entries are only ever added, each by
 * one store: a running guest may use a table that grows, and kernel shadow paging,
 * which does not see the host's stores, needs no flush for a widened table.
 */
void kvm_x86_map(struct kvm_vm *kvm, gpa_t end)
{
	u64 *pml4 = (u64 *)((char *)kvm->low + GUEST_PGTABLE_GPA);
	u64 *pdpt = pml4 + 512, *pd = pdpt + 512;

	for (gpa_t at = 0; at < end; at += LARGE_PAGE)
		WRITE_ONCE(pd[at / LARGE_PAGE], at | LARGE_ENTRY);
	for (gpa_t at = 0; at < end; at += GIB)
		smp_store_release(&pdpt[at / GIB], (GUEST_PGTABLE_GPA + (2 + at / GIB) * PAGE_SIZE) | TABLE_ENTRY);
	smp_store_release(&pml4[0], (GUEST_PGTABLE_GPA + PAGE_SIZE) | TABLE_ENTRY);
}

_Static_assert(GUEST_PGTABLE_GPA + (2 + GUEST_DATA_LIMIT / GIB) * PAGE_SIZE <= GUEST_IMAGE_GPA,
	       "the page tables run into the image");
_Static_assert(GUEST_SHARED_END <= TSS_GPA && TSS_GPA < GUEST_DATA_GPA, "KVM's pages lie in a memslot");

static struct kvm_cpuid2 *supported_cpuid(int device, struct err *err)
{
	struct kvm_cpuid2 *cpuid = mem_zalloc(sizeof(*cpuid) + MAX_CPUID_ENTRIES * sizeof(struct kvm_cpuid_entry2));

	if (!cpuid) {
		err_set(err, -ENOMEM, "no memory for the CPUID table");
		return NULL;
	}
	cpuid->nent = MAX_CPUID_ENTRIES;
	if (ioctl(device, KVM_GET_SUPPORTED_CPUID, cpuid)) {
		err_set(err, -errno, "KVM_GET_SUPPORTED_CPUID: %s", strerror(errno));
		mem_free(cpuid);
		return NULL;
	}
	return cpuid;
}

int kvm_x86_init_vm(struct kvm_vm *kvm, int device, struct err *err)
{
	if (ioctl(kvm->fd, KVM_SET_TSS_ADDR, TSS_GPA))
		return err_set(err, -errno, "KVM_SET_TSS_ADDR: %s", strerror(errno));
	kvm->cpuid = supported_cpuid(device, err);
	if (!kvm->cpuid)
		return -ENOMEM;
	kvm_x86_map(kvm, GUEST_DATA_GPA);
	return 0;
}

/* The number a processor reports for itself is per vCPU. */
static void set_apic_id(struct kvm_cpuid2 *cpuid, u32 id)
{
	for (u32 i = 0; i < cpuid->nent; i++) {
		struct kvm_cpuid_entry2 *entry = &cpuid->entries[i];

		if (entry->function == 1)
			entry->ebx = (entry->ebx & 0x00ffffff) | id << 24;
		else if (entry->function == 0xb || entry->function == 0x1f)
			entry->edx = id;
	}
}

/*
 * Its time stamp counter is the host's. Left alone, each VM's begins with the VM, and what
 * two of them say, or one and the host, cannot be set side by side. Linux before 5.16 has
 * no such attribute: who needs it looks whether times fit.
 */
static void share_counter(struct kvm_vcpu *v)
{
	u64 offset = 0;
	struct kvm_device_attr attr = {
		.group = KVM_VCPU_TSC_CTRL,
		.attr = KVM_VCPU_TSC_OFFSET,
		.addr = (uintptr_t)&offset,
	};

	ioctl(v->fd, KVM_SET_DEVICE_ATTR, &attr);
}

int kvm_x86_init_vcpu(struct kvm_vm *kvm, struct kvm_vcpu *v, struct err *err)
{
	set_apic_id(kvm->cpuid, v->vcpu.id);
	if (ioctl(v->fd, KVM_SET_CPUID2, kvm->cpuid))
		return err_set(err, -errno, "KVM_SET_CPUID2: %s", strerror(errno));
	if (ioctl(v->fd, KVM_GET_SREGS, &v->reset))
		return err_set(err, -errno, "KVM_GET_SREGS: %s", strerror(errno));
	share_counter(v);
	return 0;
}

static struct kvm_segment flat_segment(u16 selector, u8 type, bool code)
{
	return (struct kvm_segment){
		.limit = 0xffffffff,
		.selector = selector,
		.type = type,
		.present = 1,
		.s = 1,
		.l = code,
		.db = !code,
		.g = 1,
	};
}

/*
 * The state guest/abi.h promises. It is left in kvm_run for KVM_RUN to pick up
 * (SYNC_REGS): an ioctl from here would cost 6-8 us each and move the vCPU to this
 * thread and back.
 */
void kvm_x86_reset_vcpu(struct kvm_vm *kvm, struct kvm_vcpu *v)
{
	struct kvm_segment data = flat_segment(0x10, 3, false);
	struct kvm_sregs *sregs = &v->run->s.regs.sregs;

	*sregs = v->reset;
	sregs->cs = flat_segment(0x08, 11, true);
	sregs->ds = sregs->es = sregs->fs = sregs->gs = sregs->ss = data;
	sregs->cr0 = CR0_LONG_MODE;
	sregs->cr3 = GUEST_PGTABLE_GPA;
	sregs->cr4 = CR4_LONG_MODE;
	sregs->efer = EFER_LONG_MODE;
	sregs->gdt.limit = 0;
	sregs->idt.limit = 0;
	v->run->s.regs.regs = (struct kvm_regs){
		.rip = kvm->entry,
		.rflags = 2,
		.rsp = GUEST_IMAGE_END - v->vcpu.id * GUEST_STACK_BYTES,
		.rdi = v->vcpu.id,
		.rsi = GUEST_SHARED_GPA,
	};
	v->run->kvm_dirty_regs = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS;
}

/*
 * One line: @what and the registers. After a shutdown kvm_amd has none: it resets the
 * vCPU before it tells, since the processor leaves the VMCB undefined. Guests never
 * leave protected mode.
 * Context: the vCPU's thread, outside KVM_RUN.
 */
void kvm_x86_describe(struct kvm_vcpu *v, const char *what, struct err *err)
{
	struct kvm_regs regs;
	struct kvm_sregs sregs;

	if (ioctl(v->fd, KVM_GET_REGS, &regs) || ioctl(v->fd, KVM_GET_SREGS, &sregs)) {
		err_set(err, -EIO, "%s; its registers cannot be read: %s", what, strerror(errno));
		return;
	}
	if (!(sregs.cr0 & CR0_PROTECTED)) {
		err_set(err, -EIO, "%s; KVM has reset the vCPU, its registers are lost", what);
		return;
	}
	err_set(err, -EIO,
		"%s at rip 0x%llx rsp 0x%llx rflags 0x%llx cpl %u cr2 0x%llx cr3 0x%llx "
		"rax 0x%llx rcx 0x%llx rdx 0x%llx rsi 0x%llx rdi 0x%llx",
		what, regs.rip, regs.rsp, regs.rflags, sregs.cs.selector & 3u, sregs.cr2, sregs.cr3, regs.rax, regs.rcx,
		regs.rdx, regs.rsi, regs.rdi);
}
