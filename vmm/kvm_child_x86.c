/* SPDX-License-Identifier: MIT */
/*
 * A guest of a forked child: see vm_child_read(). A KVM VM belongs to the address space
 * that made it, so the child makes one of its own, over its copy of memory. Other
 * threads may have held any lock at the fork: system calls alone, no allocation.
 *
 * The guest is a loop at CPL3 in long mode. It has no IDT: its last instruction, which
 * is illegal, ends in a triple fault, and that in KVM_EXIT_SHUTDOWN.
 *
 *   guest-physical    0  PML4, PDPT, two page directories, the loop, the words read
 *                 1 GiB  the data
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/atomic.h"
#include "vmm/kvm_internal.h"

#define TABLE_ENTRY 0x27ull /* present, writable, user, accessed */
#define LARGE_ENTRY 0xe7ull /* and dirty, and a page of 2 MiB */
#define LARGE_PAGE (2ul << 20)
#define DATA_GPA (1ul << 30)

#define CODE_GPA (4 * PAGE_SIZE)
#define WORDS_GPA (5 * PAGE_SIZE)

#define CR0_LONG_MODE 0x80010033ull
#define CR4_LONG_MODE 0x620ull
#define EFER_LONG_MODE 0x500ull
#define TSS_GPA 0xfffbd000ull

#define FINISHED 0x746169662e646e65ull /* the loop's last store, behind the words */
#define RUNS_MAX 1000		       /* KVM_RUN calls: signals interrupt some */

/* rsi data, rdx stride, rcx how many, rdi words, rbx: write the complement back, r8 what finishes. */
__asm__(".pushsection .rodata\n"
	"kvm_child_code:\n"
	"1:	movq (%rsi), %rax\n"
	"	movq %rax, (%rdi)\n"
	"	testq %rbx, %rbx\n"
	"	jz 2f\n"
	"	notq %rax\n"
	"	movq %rax, (%rsi)\n"
	"2:	addq %rdx, %rsi\n"
	"	addq $8, %rdi\n"
	"	decq %rcx\n"
	"	jnz 1b\n"
	"	movq %r8, (%rdi)\n"
	"	ud2\n"
	"kvm_child_code_end:\n"
	".popsection\n");

extern const char kvm_child_code[], kvm_child_code_end[];

/* Not ioctl(): a sanitizer's takes locks. */
static long call(int fd, unsigned long request, unsigned long arg)
{
	return syscall(SYS_ioctl, fd, request, arg);
}

struct child_vm {
	int device, vm, vcpu;
	char *low;
	size_t low_bytes;
};

/*
 * Not memcpy(): a sanitizer's does more than copy. The child's new mappings may lie where
 * the parent has some that a fork leaves out; the thread sanitizer remembers those.
 */
static no_tsan void fill_low(char *low, u64 data_bytes)
{
	u64 *pml4 = (u64 *)low, *pdpt = pml4 + 512, *pd0 = pdpt + 512, *pd1 = pd0 + 512;
	u64 n = (u64)(kvm_child_code_end - kvm_child_code);

	pml4[0] = PAGE_SIZE | TABLE_ENTRY;
	pdpt[0] = 2 * PAGE_SIZE | TABLE_ENTRY;
	pdpt[1] = 3 * PAGE_SIZE | TABLE_ENTRY;
	for (u64 i = 0; i < 512; i++)
		pd0[i] = i * LARGE_PAGE | LARGE_ENTRY;
	for (u64 i = 0; i * LARGE_PAGE < data_bytes; i++)
		pd1[i] = (DATA_GPA + i * LARGE_PAGE) | LARGE_ENTRY;
	for (u64 i = 0; i < n; i++)
		low[CODE_GPA + i] = kvm_child_code[i];
}

static int set_slot(int vm, u32 slot, gpa_t gpa, hva_t hva, u64 bytes)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot,
		.guest_phys_addr = gpa,
		.memory_size = bytes,
		.userspace_addr = hva,
	};

	return call(vm, KVM_SET_USER_MEMORY_REGION, (uintptr_t)&region) ? -errno : 0;
}

static int create(struct child_vm *c, const struct kvm_vm *parent, const struct vm_child_read *r)
{
	int ret;

	c->device = (int)syscall(SYS_openat, AT_FDCWD, "/dev/kvm", O_RDWR | O_CLOEXEC);
	if (c->device < 0)
		return -errno;
	do /* taking every lock of the address space gives way to signals */
		c->vm = (int)call(c->device, KVM_CREATE_VM, 0);
	while (c->vm < 0 && errno == EINTR);
	if (c->vm < 0 || call(c->vm, KVM_SET_TSS_ADDR, TSS_GPA))
		return -errno;
	c->low_bytes = WORDS_GPA + align_up((r->count + 1) * sizeof(u64), PAGE_SIZE);
	c->low = (char *)syscall(SYS_mmap, 0, c->low_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (c->low == MAP_FAILED)
		return -ENOMEM;
	fill_low(c->low, r->bytes);
	ret = set_slot(c->vm, 0, 0, (hva_t)(uintptr_t)c->low, c->low_bytes);
	ret = ret ?: set_slot(c->vm, 1, DATA_GPA, r->data, r->bytes);
	if (ret)
		return ret;
	c->vcpu = (int)call(c->vm, KVM_CREATE_VCPU, 0);
	return c->vcpu < 0 || call(c->vcpu, KVM_SET_CPUID2, (uintptr_t)parent->cpuid) ? -errno : 0;
}

static struct kvm_segment flat(u16 selector, u8 type, bool code)
{
	return (struct kvm_segment){
		.limit = 0xffffffff,
		.selector = selector | 3,
		.type = type,
		.present = 1,
		.dpl = 3,
		.s = 1,
		.l = code,
		.db = !code,
		.g = 1,
	};
}

static int set_registers(const struct child_vm *c, const struct vm_child_read *r)
{
	struct kvm_regs regs = {
		.rip = CODE_GPA,
		.rflags = 2,
		.rsi = DATA_GPA,
		.rdx = r->stride,
		.rcx = r->count,
		.rdi = WORDS_GPA,
		.rbx = r->invert,
		.r8 = FINISHED,
	};
	struct kvm_sregs sregs;

	if (call(c->vcpu, KVM_GET_SREGS, (uintptr_t)&sregs))
		return -errno;
	sregs.cs = flat(0x18, 11, true);
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = flat(0x20, 3, false);
	sregs.cr0 = CR0_LONG_MODE;
	sregs.cr3 = 0;
	sregs.cr4 = CR4_LONG_MODE;
	sregs.efer = EFER_LONG_MODE;
	sregs.gdt.limit = sregs.idt.limit = 0;
	return call(c->vcpu, KVM_SET_SREGS, (uintptr_t)&sregs) || call(c->vcpu, KVM_SET_REGS, (uintptr_t)&regs) ? -errno
														: 0;
}

/* no_tsan: as fill_low() */
static no_tsan int run(const struct child_vm *c, const struct vm_child_read *r, size_t run_bytes)
{
	const u64 *words = (const u64 *)(c->low + WORDS_GPA);
	const struct kvm_run *shared =
		(void *)syscall(SYS_mmap, 0, run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, c->vcpu, 0);
	int ret = -EINTR;

	if (shared == MAP_FAILED)
		return -ENOMEM;
	for (int i = 0; i < RUNS_MAX && ret == -EINTR; i++)
		ret = call(c->vcpu, KVM_RUN, 0) ? -errno : 0;
	if (!ret && (shared->exit_reason != KVM_EXIT_SHUTDOWN || READ_ONCE(words[r->count]) != FINISHED))
		ret = -EPROTO;
	syscall(SYS_munmap, shared, run_bytes);
	for (u64 i = 0; i < r->count && !ret; i++)
		r->word[i] = READ_ONCE(words[i]);
	return ret;
}

int kvm_child_read(const struct vm *vm, const struct vm_child_read *r)
{
	struct child_vm c = { .device = -1, .vm = -1, .vcpu = -1, .low = MAP_FAILED };
	int ret = create(&c, to_kvm(vm), r);

	ret = ret ?: set_registers(&c, r);
	ret = ret ?: run(&c, r, to_kvm(vm)->run_bytes);
	if (c.vcpu >= 0)
		syscall(SYS_close, c.vcpu);
	if (c.vm >= 0)
		syscall(SYS_close, c.vm);
	if (c.device >= 0)
		syscall(SYS_close, c.device);
	if (c.low != MAP_FAILED)
		syscall(SYS_munmap, c.low, c.low_bytes);
	return ret;
}
