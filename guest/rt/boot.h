/* SPDX-License-Identifier: MIT */
/* Between start.S, boot.c, linux.c, crt.c and entry.S; C and assembler read this file. */
#ifndef GUEST_RT_BOOT_H
#define GUEST_RT_BOOT_H

#define GUEST_HALT_MAGIC 0x68616c74 /* in edi at int3: halt instead of a trap */
#define BOOT_MB2_MAGIC 0x36d76289   /* in eax where multiboot2 loaded us */

#ifndef __ASSEMBLER__
#include "guest/abi.h"

struct guest;

/* As the stub leaves it on the trap stack. */
struct guest_trap {
	uint64_t address; /* cr2 */
	uint64_t vector;
	uint64_t error;
	uint64_t rip, cs, flags, rsp, ss;
};

/* crt.c, at CPL3: into guest_main(), and out of a trap, which lies in its vCPU's place. */
void guest_enter(uint64_t vcpu, struct guest_shared *shared) __attribute__((noreturn));
void guest_trap(const struct guest_trap *trap) __attribute__((noreturn));
struct guest_trap *guest_trap_of(uint64_t vcpu);

/* Set while one processor runs at CPL0, constant afterwards. */
extern uint64_t guest_boot_shared; /* where SHARED is, if the guest booted by itself; else 0 */

/* start.S, at CPL0 and in long mode, on the first processor. Return: address of SHARED. */
uint64_t guest_boot(uint32_t magic, uint32_t info);

/* At CPL3, before anything reads DATA: nobody but this guest has prepared a DATA of its own. */
void guest_boot_clear(void);

/* Where QEMU's machine microvm has its devices. */
#define GUEST_VIRTIO_GPA 0xfeb00000ul

/*
 * balloon.c, at CPL3: find the balloon and get it going; how many pages it is to hold; give
 * it @pages pages from @gpa on, or take them back; say how many it holds.
 */
int guest_balloon_find(void);
uint32_t guest_balloon_target(void);
void guest_balloon_move(struct guest *g, int give, uint64_t gpa, uint64_t pages);
void guest_balloon_holds(uint32_t pages);

/* What api.c stands on where the guest booted by itself. */
void guest_boot_text(struct guest *g, const char *text, uint64_t bytes);
void guest_boot_exit(struct guest *g, int code) __attribute__((noreturn));
#endif

#endif /* GUEST_RT_BOOT_H */
