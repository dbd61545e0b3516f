/* SPDX-License-Identifier: MIT */
/* What guest/test/probe.c can be asked to do. */
#ifndef GUEST_TEST_PROBE_H
#define GUEST_TEST_PROBE_H

enum probe_action {
	PROBE_FORMAT,	    /* print through every conversion */
	PROBE_SPIN,	    /* until stopped, with a heartbeat */
	PROBE_POKE,	    /* write value= to gpa at=, read it back, print it */
	PROBE_PEEK,	    /* read gpa at=, print it */
	PROBE_PORT,	    /* 16 bits to port at= and back */
	PROBE_PARTIAL_LINE, /* text without a newline, then spin */
	PROBE_EXIT,	    /* leave in the middle with code value= */
	PROBE_PAGE_FAULT,
	PROBE_DIVIDE,
	PROBE_INVALID_OPCODE,
	PROBE_PRIVILEGE,
	PROBE_BREAKPOINT,
	PROBE_STACK,
};

/* The ELF file, linked into the test program. */
extern const char probe_elf_start[], probe_elf_end[];

#endif /* GUEST_TEST_PROBE_H */
