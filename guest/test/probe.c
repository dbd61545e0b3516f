/* SPDX-License-Identifier: MIT */
/* A bare guest for the tests of the kvm engine: do=N picks what it does, at= and value= say where and what. */
#include "guest/workload.h"
#include "guest/test/probe.h"

static void format_everything(struct guest *g)
{
	guest_printf(g, "[%5d|%-5u|%05x|%s|%c|%lld|%i|%zu|%%|%8s|%-3s|%lx]\n", -42, 42u, 0xabcu, "str", 'c',
		     -5000000000ll, 0, (size_t)7, "right", "l", 0xfffffffffffffffful);
}

static int overflow_stack(struct guest *g)
{
	/* Below the stacks and the image there are the page tables, then nothing: let rsp fall off DATA's mapping. */
	__asm__ __volatile__("mov %0, %%rsp\n\tpush %%rax" : : "r"(GUEST_DATA_LIMIT + 0x1000) : "memory");
	return (int)g->id;
}

static int trap(struct guest *g, uint64_t what)
{
	switch (what) {
	case PROBE_PAGE_FAULT:
		return *(volatile int *)(GUEST_DATA_LIMIT + 0x2000);
	case PROBE_DIVIDE:
		__asm__ __volatile__("xor %%ecx, %%ecx\n\tdiv %%ecx" : : "a"(1), "d"(0) : "ecx");
		break;
	case PROBE_INVALID_OPCODE:
		__asm__ __volatile__("ud2");
		break;
	case PROBE_PRIVILEGE:
		__asm__ __volatile__("hlt");
		break;
	case PROBE_BREAKPOINT:
		__asm__ __volatile__("int3");
		break;
	case PROBE_STACK:
		return overflow_stack(g);
	default:
		break;
	}
	return 0;
}

static void spin(struct guest *g)
{
	while (!guest_stop_asked(g)) {
		shared_add(&g->vcpu->heartbeat, 1);
		guest_pause(g);
	}
}

GUEST_MAIN(probe)
{
	uint64_t what = guest_option(argc, argv, "do", 0), at = guest_option(argc, argv, "at", 0);
	uint64_t value = guest_option(argc, argv, "value", 0);

	switch (what) {
	case PROBE_FORMAT:
		format_everything(g);
		break;
	case PROBE_SPIN:
		spin(g);
		break;
	case PROBE_POKE:
		guest_write64(g, at, value);
		guest_printf(g, "wrote %lu\n", guest_read64(g, at));
		break;
	case PROBE_PEEK:
		guest_printf(g, "read 0x%lx\n", guest_read64(g, at));
		break;
	case PROBE_PORT:
		__asm__ __volatile__("outw %w0, %w1" : : "a"(0x1234), "d"((uint16_t)at));
		__asm__ __volatile__("inw %w1, %w0" : "=a"(value) : "d"((uint16_t)at));
		guest_printf(g, "read 0x%lx\n", value & 0xffff);
		break;
	case PROBE_PARTIAL_LINE:
		guest_text(g, "no end of line");
		spin(g);
		break;
	case PROBE_EXIT:
		guest_exit(g, (int)value);
	default:
		return trap(g, what);
	}
	return 0;
}
