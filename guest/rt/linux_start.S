/* SPDX-License-Identifier: MIT */
/* What guest/rt/linux.c cannot say in C: a guest's first instructions under Linux, and those of its threads. */
#define SYS_clone 56
#define SYS_exit_group 231
#define CLONE_THREAD_FLAGS 0x50f00 /* VM FS FILES SIGHAND THREAD SYSVSEM */

	.text
	.globl guest_linux_start
guest_linux_start:
	xor %ebp, %ebp
	and $-16, %rsp
	call guest_linux
	ud2

	/* long guest_linux_thread(uint64_t vcpu, void *stack). Return: to who called it alone, -errno or a number. */
	.globl guest_linux_thread
guest_linux_thread:
	push %rbx
	mov %rdi, %rbx
	mov $CLONE_THREAD_FLAGS, %edi
	xor %edx, %edx
	xor %r10d, %r10d
	xor %r8d, %r8d
	mov $SYS_clone, %eax
	syscall
	test %rax, %rax
	jz 1f
	pop %rbx
	ret
1:	xor %ebp, %ebp
	mov %rbx, %rdi
	call guest_linux_vcpu
	ud2

	/* Linux wants to know where a signal's handler returns to. Ours do not. */
	.globl guest_linux_restorer
guest_linux_restorer:
	mov $SYS_exit_group, %eax
	syscall
	ud2

	.section .note.GNU-stack, "", @progbits
