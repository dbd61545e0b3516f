/* SPDX-License-Identifier: MIT */
/* From the entry to guest_main() and back; what a bare guest says when it traps. */
#include "guest/rt/boot.h"
#include "guest/workload.h"

#define CRT_EXIT_ABI 125
#define CRT_EXIT_TRAP 128

extern char trap_stacks[]; /* GUEST_MAX_VCPUS pages */

void guest_enter(uint64_t vcpu, struct guest_shared *shared)
{
	struct guest g = { .id = (uint32_t)vcpu };
	char *argv[GUEST_MAX_ARGS + 1];
	int argc;

	if (shared->magic != GUEST_ABI_MAGIC || shared->version != GUEST_ABI_VERSION) {
		guest_printf(&g, "guest: built for version %u of the guest interface, the host offers %u\n",
			     GUEST_ABI_VERSION, shared->magic == GUEST_ABI_MAGIC ? shared->version : 0);
		guest_exit(&g, CRT_EXIT_ABI);
	}
	guest_boot_clear();
	argc = guest_setup(&g, shared, (uint32_t)vcpu, argv);
	guest_exit(&g, guest_main(&g, argc, argv));
}

struct guest_trap *guest_trap_of(uint64_t vcpu)
{
	return (struct guest_trap *)(trap_stacks + vcpu * GUEST_PAGE_SIZE);
}

void guest_trap(const struct guest_trap *trap)
{
	static const char *const names[32] = {
		[0] = "divide error",	[1] = "debug",	      [3] = "breakpoint",
		[4] = "overflow",	[5] = "bound",	      [6] = "invalid opcode",
		[7] = "no FPU",		[8] = "double fault", [10] = "invalid TSS",
		[11] = "no segment",	[12] = "stack",	      [13] = "general protection",
		[14] = "page fault",	[16] = "FPU error",   [17] = "alignment",
		[18] = "machine check", [19] = "SIMD error",  [21] = "control protection",
	};
	struct guest g = { .id = (uint32_t)(((uintptr_t)trap - (uintptr_t)trap_stacks) / GUEST_PAGE_SIZE) };
	const char *name = names[trap->vector & 31];

	if (guest_boot_shared) {
		struct guest_shared *shared = (void *)(uintptr_t)guest_boot_shared;

		g.vcpu = (struct guest_vcpu *)((char *)shared + shared->vcpu_offset) + g.id;
	}
	guest_printf(&g, "guest: exception %lu (%s), error 0x%lx, rip 0x%lx, rsp 0x%lx", trap->vector,
		     name ? name : "reserved", trap->error, trap->rip, trap->rsp);
	if (trap->vector == 14)
		guest_printf(&g, ", address 0x%lx", trap->address);
	guest_text(&g, "\n");
	guest_exit(&g, CRT_EXIT_TRAP + (int)(trap->vector & 31));
}
