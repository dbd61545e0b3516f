/* SPDX-License-Identifier: MIT */
/*
 * A bare guest's first and last instructions: tables, the drop to CPL3, traps.
 *
 * Where CPL0 is emulated (kernel shadow paging) an instruction there costs about a
 * microsecond, so nothing is computed: the two sections lie at fixed addresses
 * (tain-guest.ld) and every descriptor is a constant. The Accessed bits are set
 * beforehand; CPL3 may use every port through the zeroed I/O bitmap.
 */
#include "guest/rt/boot.h"

#define RT_TEXT 0x200000
#define RT_DATA 0x201000
#define VCPUS 16

#define KERNEL_CS 0x08
#define USER_SS (0x18 | 3)
#define USER_CS (0x20 | 3)
#define TSS_SELECTOR 0x30 /* of vCPU 0; 16 bytes each */

#define TSS_BYTES 104
#define BITMAP_BYTES 8193 /* 65536 ports, and the byte of ones that ends it */
#define TRAP_STACK_BYTES 4096
#define EXIT_PORT 0xf4
/* Nobody sends a guest interrupts. But Bochs takes no interrupt for the host either while a guest bars its own. */
#define USER_FLAGS 0x202 /* IF */

	.section .tain.text, "ax", @progbits
rt_text:
	/* Stub of vector v at RT_TEXT + v * 16; the processor pushes an error code for some. */
	.set v, 0
	.rept 32
	.org v * 16
	.if !(v == 8 || (v >= 10 && v <= 14) || v == 17 || v == 21 || v == 29 || v == 30)
	push $0
	.endif
	push $v
	jmp trap
	.set v, v + 1
	.endr

	/* From the VMM: rdi = vCPU, rsi = SHARED, rsp = stack; see guest/abi.h. From Linux: at CPL3. */
	.globl guest_start
guest_start:
	cld
	mov %cs, %eax
	test $3, %al
	jnz guest_linux_start
	lgdt gdt_pointer(%rip)
	lidt idt_pointer(%rip)
	mov %edi, %eax
	shl $4, %eax
	add $TSS_SELECTOR, %eax
	ltr %ax
	mov %rsp, %rax
	push $USER_SS
	push %rax
	push $USER_FLAGS
	push $USER_CS
	push $guest_user
	iretq

guest_user:
	xor %ebp, %ebp
	call guest_enter
	ud2

	/*
	 * vector, error, rip, cs, flags, rsp, ss on the trap stack: add cr2 and let CPL3
	 * say it. A trap while saying it finds its rsp on a trap stack: leave at once.
	 */
trap:
	cmpl $3, (%rsp) /* int3, from guest_boot_exit() */
	jne 1f
	cmp $GUEST_HALT_MAGIC, %edi
	je halt
1:
	mov 40(%rsp), %rax
	sub $trap_stacks, %rax
	cmp $(VCPUS * TRAP_STACK_BYTES), %rax
	jb trap_again
	mov %cr2, %rax
	push %rax
	mov %rsp, %rdi
	lea -64(%rsp), %rax
	and $-16, %rax
	push $USER_SS
	push %rax
	push $USER_FLAGS
	push $USER_CS
	push $trap_user
	iretq

trap_user:
	xor %ebp, %ebp
	call guest_trap
	ud2

trap_again:
	pop %rax
	add $128, %eax
	out %eax, $EXIT_PORT
	jmp trap_again

	/* CPL3 cannot halt, and no other vector can be raised from there on every machine. */
halt:
	cli
	hlt
	jmp halt

	.section .tain.data, "aw", @progbits
rt_data:
	/* The task segments first: their addresses are RT_DATA + vcpu * TSS_BYTES. One bitmap ends them all. */
	.set v, 0
	.rept VCPUS
	.long 0
	.quad trap_stacks + (v + 1) * TRAP_STACK_BYTES /* rsp0 */
	.skip TSS_BYTES - 12 - 2
	.word (VCPUS - v) * TSS_BYTES /* bitmap, from this segment's start */
	.set v, v + 1
	.endr
	.skip BITMAP_BYTES - 1
	.byte 0xff

	.balign 16
	.globl gdt, gdt_pointer
gdt:
	.quad 0
	.quad 0x00af9b000000ffff /* kernel code */
	.quad 0x00cf93000000ffff /* kernel data */
	.quad 0x00cff3000000ffff /* user data */
	.quad 0x00affb000000ffff /* user code */
	.quad 0x00cf9b000000ffff /* kernel code of 32 bits, on the way up: BOOT_CS in start.S */
	.set v, 0
	.rept VCPUS
	.word ((VCPUS - v) * TSS_BYTES + BITMAP_BYTES - 1) & 0xffff
	.word (RT_DATA + v * TSS_BYTES) & 0xffff
	.byte ((RT_DATA + v * TSS_BYTES) >> 16) & 0xff, 0x89, 0, 0
	.quad 0
	.set v, v + 1
	.endr
gdt_end:

	.balign 16
idt:
	/* Interrupt gates; int3 alone may be raised by CPL3. */
	.set v, 0
	.rept 32
	.word (RT_TEXT + v * 16) & 0xffff, KERNEL_CS
	.byte 0
	.if v == 3
	.byte 0xee
	.else
	.byte 0x8e
	.endif
	.word (RT_TEXT + v * 16) >> 16
	.quad 0
	.set v, v + 1
	.endr
idt_end:

gdt_pointer:
	.word gdt_end - gdt - 1
	.quad gdt
idt_pointer:
	.word idt_end - idt - 1
	.quad idt

	.bss
	.balign 16
	.globl trap_stacks
trap_stacks:
	.skip VCPUS * TRAP_STACK_BYTES

	.section .note.GNU-stack, "", @progbits
