/* SPDX-License-Identifier: MIT */
/* The bare workloads, as files inside libtain. */
#include "guest/workloads.h"

	.section .rodata
#define FILE_NAME(file) #file
#define IMAGE(name, summary) .balign 64; name##_start: .incbin FILE_NAME(name.elf); name##_end: .byte 0;
GUEST_WORKLOADS(IMAGE)

#define NAME(name, summary) name##_name: .asciz #name;
GUEST_WORKLOADS(NAME)

	.section .data.rel.ro, "aw", @progbits
	.balign 8
	.globl guest_elf_table
	.hidden guest_elf_table
guest_elf_table:
#define ENTRY(name, summary) .quad name##_name, name##_start, name##_end;
GUEST_WORKLOADS(ENTRY)
	.quad 0, 0, 0
	.size guest_elf_table, . - guest_elf_table
	.type guest_elf_table, @object

	.section .note.GNU-stack, "", @progbits
