/* SPDX-License-Identifier: MIT */
/*
 * Up from 32 bits, or from a processor's first instruction, to the state in which a
 * VMM of tain enters guest_start: for loaders that know PVH or multiboot2.
 *
 *   loader -> boot_entry (32 bit)                        -> boot_long -> guest_boot() -> guest_start
 *   start-up IPI -> GUEST_BOOT_PAGE (16 bit) -> boot_next -> boot_long ------------------> guest_start
 */
#include "guest/rt/boot.h"

#define BOOT_PAGE 0x1000 /* GUEST_BOOT_PAGE */
#define BOOT_CS 0x28
#define KERNEL_CS 0x08
#define KERNEL_DS 0x10
#define SHARED_GPA 0x10000000
#define IMAGE_END 0x8000000
#define STACK_SHIFT 16

#define CR0_PE 0x1
#define CR0_LONG_MODE 0x80010033 /* PG WP NE ET MP PE */
#define CR4_LONG_MODE 0x620	 /* OSXMMEXCPT OSFXSR PAE */
#define MSR_EFER 0xc0000080
#define EFER_LME 0x100
#define TABLE_ENTRY 0x27
#define LARGE_ENTRY 0xe7

	/* QEMU reads eight bytes. */
	.section .note.tain.pvh, "a", @note
	.balign 4
	.long 4, 8, 18 /* XEN_ELFNOTE_PHYS32_ENTRY */
	.asciz "Xen"
	.quad boot_entry

	.section .tain.boot, "ax", @progbits
	/* Within the first 32 KiB of the file. The ELF entry is for VMMs: multiboot2 has one of its own. */
	.balign 8
multiboot2:
	.long 0xe85250d6, 0, multiboot2_end - multiboot2
	.long -(0xe85250d6 + multiboot2_end - multiboot2)
	.word 3, 0 /* entry address, 32 bit */
	.long 12, boot_entry
	.balign 8
	.word 0, 0
	.long 8
multiboot2_end:

	.code32
	/* eax, ebx: as the loader left them. Flat segments, no paging, no stack. */
	.globl boot_entry
boot_entry:
	cli
	cld
	lgdt gdt_pointer
	mov %eax, boot_magic
	mov %ebx, boot_info
	/* [0, 1 GiB) for now; guest_boot() makes the tables that stay. */
	mov $boot_pd, %edi
	mov $LARGE_ENTRY, %eax
1:	mov %eax, (%edi)
	add $8, %edi
	add $0x200000, %eax
	cmp $(0x40000000 + LARGE_ENTRY), %eax
	jne 1b
	mov $(boot_pdpt + TABLE_ENTRY), %eax
	mov %eax, boot_pml4
	mov $(boot_pd + TABLE_ENTRY), %eax
	mov %eax, boot_pdpt
	mov $boot_pml4, %esi
	ljmp $BOOT_CS, $boot_long

	/* esi: page tables. */
boot_long:
	mov $KERNEL_DS, %ecx
	mov %ecx, %ds
	mov %ecx, %es
	mov %ecx, %ss
	mov $CR4_LONG_MODE, %eax
	mov %eax, %cr4
	mov %esi, %cr3
	mov $MSR_EFER, %ecx
	rdmsr
	or $EFER_LME, %eax
	wrmsr
	mov $CR0_LONG_MODE, %eax
	mov %eax, %cr0
	ljmp $KERNEL_CS, $boot_long_mode

	.code64
boot_long_mode:
	mov guest_boot_shared(%rip), %rsi
	test %rsi, %rsi
	jnz 1f
	/* The first processor. That there is RAM for the stacks is not known yet. */
	mov $boot_stack_end, %esp
	xor %ebp, %ebp
	mov boot_magic(%rip), %edi
	mov boot_info(%rip), %esi
	call guest_boot
	mov %rax, %rsi
	xor %edi, %edi
	mov $IMAGE_END, %esp
	jmp guest_start
1:	/* Another: the APIC's number is the vCPU's. A stray one, which SHARED knows nothing of, halts. */
	mov $1, %eax
	cpuid
	shr $24, %ebx
	mov guest_boot_shared(%rip), %rsi
	cmp 8(%rsi), %ebx /* guest_shared.vcpus */
	jae 2f
	lock orl $1, guest_boot_up(, %rbx, 4)
	mov %ebx, %edi
	mov %ebx, %eax
	shl $STACK_SHIFT, %eax
	mov $IMAGE_END, %esp
	sub %rax, %rsp
	jmp guest_start
2:	cli
	hlt
	jmp 2b

	/* Copied to BOOT_PAGE. */
	.code16
	.globl boot_page, boot_page_end
boot_page:
	cli
	lgdtl %cs:(boot_page_gdt - boot_page)
	mov %cr0, %eax
	or $CR0_PE, %al
	mov %eax, %cr0
	ljmpl $BOOT_CS, $boot_next
	.balign 8
boot_page_gdt:
	.word 0xffff
	.long gdt
boot_page_end:

	.code32
boot_next:
	cld
	mov $KERNEL_DS, %ecx
	mov %ecx, %ds
	mov boot_tables, %esi
	jmp boot_long

	.data
	.balign 8
boot_magic:
	.long 0
boot_info:
	.long 0
	.globl boot_tables
boot_tables:
	.quad 0

	.bss
	.balign 4096
boot_pml4:
	.skip 4096
boot_pdpt:
	.skip 4096
boot_pd:
	.skip 4096
	.skip 4096
boot_stack_end:

	.section .note.GNU-stack, "", @progbits
