/* SPDX-License-Identifier: MIT */
/* The tests' guest, as a file inside the test program. */
	.section .rodata
	.balign 64
	.globl probe_elf_start, probe_elf_end
probe_elf_start:
	.incbin "test/probe.elf"
probe_elf_end:
	.byte 0

	.section .note.GNU-stack, "", @progbits
