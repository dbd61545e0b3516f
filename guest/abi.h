/* SPDX-License-Identifier: MIT */
/*
 * What host and guest agree on: the guest-physical layout, the shared region and
 * the native accessor. The one header both sides include; freestanding.
 *
 * Guest-physical layout (three memslots):
 *
 *   slot 0  LOW     GUEST_LOW_GPA..     page tables, image, stacks   (bare guests only)
 *   slot 1  SHARED  GUEST_SHARED_GPA..  struct guest_shared and what it points to
 *   slot 2  DATA    GUEST_DATA_GPA..    the memory under test; the host changes it at will
 *
 * On machines that are not tain's (QEMU, Bochs) the same addresses lie in one piece of
 * RAM, and DATA follows SHARED: data_base says where it begins. GUEST_DATA_GPA is where
 * tain's own engines put it.
 *
 * SHARED is written by both sides at the same time: 32- and 64-bit words, each
 * accessed atomically; nobody trusts a value twice.
 */
#ifndef GUEST_ABI_H
#define GUEST_ABI_H

#include <stdint.h>

#include "guest/workloads.h"

#define GUEST_ABI_VERSION 2
#define GUEST_ABI_MAGIC 0x74616975u

#define GUEST_PAGE_SHIFT 12
#define GUEST_PAGE_SIZE 4096ul
#define GUEST_MAX_VCPUS 16
#define GUEST_MAX_ARGS 32
#define GUEST_ARGS_BYTES 2048

#define GUEST_LOW_GPA 0x0ul
#define GUEST_PGTABLE_GPA 0x4000ul	/* PML4, PDPT, one PD per GiB; DATA ends at GUEST_DATA_LIMIT at the latest */
#define GUEST_IMAGE_GPA 0x200000ul	/* first byte an image segment may use */
#define GUEST_IMAGE_END 0x8000000ul	/* 128 MiB: end of LOW, stacks below it, growing down */
#define GUEST_STACK_BYTES 0x10000ul	/* per vCPU, at GUEST_IMAGE_END - (vcpu + 1) * GUEST_STACK_BYTES */
#define GUEST_SHARED_GPA 0x10000000ul	/* 256 MiB */
#define GUEST_SHARED_END 0xe0000000ul	/* SHARED ends here at the latest; devices of other machines lie above */
#define GUEST_DATA_GPA 0x100000000ul	/* 4 GiB */
#define GUEST_DATA_LIMIT 0x7000000000ul /* 448 GiB */

/*
 * How a bare guest is entered, every vCPU alike and at the same time: at the ELF
 * entry, long mode, CPL0, interrupts off, no IDT and no TSS; identity mapping of
 * [0, end of DATA) that CPL3 may use; rdi = vCPU number, rsi = GUEST_SHARED_GPA,
 * rsp = top of its stack.
 *
 * The same file boots by itself, through its PVH note (QEMU's -kernel) or its multiboot2
 * header (GRUB, so Bochs): guest/rt/boot.c brings the machine into that state. A host
 * that can write the machine's memory fills SHARED in before it starts. Where nobody did,
 * the guest makes a SHARED of its own: one vCPU, arguments from the command line, and for
 * DATA the memory behind LOW.
 *
 * And the same file is a program: as the first process of a Linux it is entered at CPL3,
 * and finds SHARED and DATA in /dev/mem (guest/rt/linux.c).
 *
 * Such a guest has no VMM that takes one vCPU away: each notes exit_code and ended, and
 * halts; the last one writes the exit code to GUEST_PORT_EXIT, which ends a QEMU that has
 * isa-debug-exit there, and "Shutdown" to Bochs's port.
 */

#define GUEST_BOOT_PAGE 0x1000ul	/* where processors start, one page */
#define GUEST_BOOT_LIMIT 0x2000000000ul /* 128 GiB: the page tables of a guest that booted end below 0xa0000 */

/* I/O ports. */
#define GUEST_PORT_TEXT 0x3f8	/* console text */
#define GUEST_PORT_BYTES 0xe9	/* console bytes, uninterpreted */
#define GUEST_PORT_EXIT 0xf4	/* writes the exit code (32 bit) and ends this vCPU */
#define GUEST_PORT_BOCHS 0x8900 /* "Shutdown", to Bochs */

/*
 * A stamp names its page and generation in one word, so that a read never tears:
 *   63..40 page number   39..16 generation   15..0 checksum of the other two
 * A word of zero is a page nobody stamped.
 */
#define GUEST_GENERATION_MASK 0xffffffu /* generations are compared modulo 2^24 */

static inline uint64_t guest_stamp_sum(uint64_t body)
{
	uint64_t x = (body + GUEST_ABI_MAGIC) * 0x9e3779b97f4a7c15ull; /* page 0, generation 0 is no zero either */

	return (x >> 48 ^ x >> 24) & 0xffff;
}

static inline uint64_t guest_stamp(uint64_t page, uint32_t generation)
{
	uint64_t body = page << 40 | (uint64_t)(generation & 0xffffff) << 16;

	return body | guest_stamp_sum(body);
}

static inline int guest_stamp_valid(uint64_t stamp)
{
	return guest_stamp_sum(stamp & ~0xffffull) == (stamp & 0xffff);
}

static inline uint64_t guest_stamp_page(uint64_t stamp)
{
	return stamp >> 40;
}

static inline uint32_t guest_stamp_generation(uint64_t stamp)
{
	return stamp >> 16 & 0xffffff;
}

/*
 * Layout of a DATA page under the oracle: stamps, written by the host alone, at
 * GUEST_STAMP_OFFSET + i * GUEST_STAMP_STRIDE (i < GUEST_STAMPS); write slots,
 * each written by its own vCPU alone, at GUEST_WSLOT_OFFSET + vcpu * 8.
 */
#define GUEST_STAMPS 8
#define GUEST_STAMP_OFFSET 0
#define GUEST_STAMP_STRIDE 512
#define GUEST_WSLOT_OFFSET 64

/* Where `touch` touches a page: in each another line, or all would share one set of the processor's cache. */
#define GUEST_TOUCH_OFFSET(page) (((page)&63) * 64)

/*
 * Per page, in SHARED: what a read of a stamp may return.
 * required:  lowest generation still allowed << 1 | zero_allowed (bit 0)
 * announced: highest generation that may have been written
 * The host raises `announced` before an operation that destroys contents and
 * `required` after it has returned. A guest reads required, then the stamp, then
 * announced: a generation outside [required, announced] is a violation; a zero is
 * one unless the flag allows it or the two generations differ (an operation was
 * under way). Both generations only grow. A stamp is written one word at a time; the rest
 * of the page, with its write slots, is changed by nothing but operations that
 * destroy contents. guest/stamp.c says what may be concluded from that and why.
 */
struct guest_page_rule {
	uint32_t required;
	uint32_t announced;
};

/* What the guest believes went wrong. */
enum guest_violation_kind {
	GUEST_VIOLATION_NONE,
	GUEST_VIOLATION_STALE,	 /* a generation that is forbidden */
	GUEST_VIOLATION_ZERO,	 /* zeros where a stamp must be */
	GUEST_VIOLATION_FOREIGN, /* a stamp of another page */
	GUEST_VIOLATION_CORRUPT, /* not a stamp */
	GUEST_VIOLATION_LOST,	 /* this vCPU's own write is gone, and no operation took it */
};

struct guest_violation {
	uint32_t kind; /* enum guest_violation_kind; written last */
	uint32_t vcpu;
	uint64_t page;
	uint64_t seen;	    /* the word read */
	uint32_t required;  /* as read before it */
	uint32_t announced; /* as read after it */
	uint64_t expected;  /* LOST: the word written */
	uint64_t when;	    /* guest time stamp counter */
};

#define GUEST_VIOLATION_RING 32

/* Commands to the `touch` family, one at a time per vCPU; see struct guest_vcpu. */
enum guest_touch_order { GUEST_ORDER_SEQUENTIAL, GUEST_ORDER_STRIDE, GUEST_ORDER_RANDOM };
/*
 * CYCLES: what the access took. VALUE: the low half of the word that was read. GAP: from
 * the end of one access to the end of the next, so that no time goes unseen between two.
 * LONGEST: again and again until the next command is posted; the longest gap alone, in
 * guest_vcpu.longest, and heartbeat grows with every access.
 */
enum guest_touch_sample {
	GUEST_SAMPLE_NONE,
	GUEST_SAMPLE_CYCLES,
	GUEST_SAMPLE_VALUE,
	GUEST_SAMPLE_GAP,
	GUEST_SAMPLE_LONGEST,
};

struct guest_command {
	uint64_t first;	 /* first page of DATA */
	uint64_t pages;	 /* how many */
	uint64_t stride; /* in pages, for GUEST_ORDER_STRIDE */
	uint64_t seed;	 /* for GUEST_ORDER_RANDOM */
	uint64_t limit;	 /* accesses at most; 0: every page */
	uint32_t order;	 /* enum guest_touch_order */
	uint32_t write;	 /* 0 read, 1 write */
	uint32_t timed;	 /* enum guest_touch_sample: one per access, in this vCPU's sample buffer */
	uint32_t quit;	 /* 1: leave the workload with exit code 0 */
	uint64_t repeat; /* passes over the same pages, of an order without samples; 0: one */
};

/* One vCPU's corner of SHARED, one page, so that vCPUs share no line. */
struct guest_vcpu {
	/* written by the guest */
	uint64_t target;	 /* gpa of the access under way in DATA: names the culprit of a failed run */
	uint64_t accesses;	 /* checked accesses so far */
	uint64_t writes;	 /* writes to DATA so far */
	uint64_t done;		 /* commands finished */
	uint64_t samples;	 /* samples of the last command */
	uint64_t command_cycles; /* guest cycles the last command took, whole */
	uint64_t violations;	 /* reported so far; the ring keeps the first GUEST_VIOLATION_RING */
	uint64_t heartbeat;	 /* grows while the guest makes progress */
	uint64_t exit_code;	 /* valid once ended; only guests that booted by themselves write the two */
	uint64_t ended;
	uint64_t longest;	/* GUEST_SAMPLE_LONGEST: guest cycles */
	uint64_t command_begun; /* the guest's clock, in cycles, when the last command began */
	uint64_t guest_pad[4];
	/* written by the host */
	uint64_t posted; /* commands posted; the guest obeys command when posted > done */
	struct guest_command command;
	uint64_t host_pad[5];
	struct guest_violation violation[GUEST_VIOLATION_RING];
} __attribute__((aligned(4096)));

/*
 * What a guest that booted by itself does for its machine's owner, as an operating system's
 * drivers would (guest/rt/agent.c): vCPU 0 looks for a request between two accesses. The
 * host posts one when the last is done.
 */
enum guest_agent_what {
	GUEST_AGENT_BALLOON, /* wait until the balloon wants `target` pages; give it [first, + pages), or take all back
			      */
	GUEST_AGENT_PLUG,    /* memory was plugged in: map it, write to each page and read that back */
	GUEST_AGENT_UNPLUG,  /* wait until it is asked for, and eject it */
};

enum guest_agent_result {
	GUEST_AGENT_OK,
	GUEST_AGENT_NO_DEVICE,	/* this machine has none */
	GUEST_AGENT_BAD_DEVICE, /* it is not as it should be */
	GUEST_AGENT_BAD_MEMORY, /* a page does not hold what was written to it */
};

struct guest_agent {
	/* written by the host */
	uint64_t posted; /* requests; the guest obeys when posted > done */
	uint64_t first;	 /* page of DATA */
	uint64_t pages;
	uint32_t what;	 /* enum guest_agent_what */
	uint32_t target; /* pages that the balloon is to hold then */
	/* written by the guest */
	uint64_t done;
	uint32_t ready;	 /* 1: somebody looks for requests */
	uint32_t result; /* enum guest_agent_result, of the last one done */
};

/* First page of SHARED; offsets are bytes from GUEST_SHARED_GPA. The host writes it before the first run, `stop` later.
 */
struct guest_shared {
	uint32_t magic;
	uint32_t version;
	uint32_t vcpus;
	uint32_t stop; /* 1: workloads without a natural end return 0 */
	uint64_t shared_bytes;
	uint64_t data_base; /* DATA is [data_base, + data_bytes) */
	uint64_t data_bytes;
	uint64_t seed;
	uint64_t tsc_khz;	/* 0: nobody knows, since the guest booted without a host */
	uint64_t vcpu_offset;	/* struct guest_vcpu[vcpus] */
	uint64_t rule_offset;	/* struct guest_page_rule[data pages], 0 without an oracle */
	uint64_t sample_offset; /* uint32_t[vcpus][sample_count], 0 without samples */
	uint64_t sample_count;
	uint32_t write_percent; /* stamp: share of accesses that write */
	uint32_t exited;	/* vCPUs that have ended, counted by guests that booted by themselves */
	uint32_t argc;
	uint32_t arg_offset[GUEST_MAX_ARGS]; /* into args */
	char args[GUEST_ARGS_BYTES];	     /* the guest's own arguments, each NUL terminated; no program name */
	uint64_t own_checked; /* under Linux: accesses checked to memory that is Linux's own; the guest writes it */
	struct guest_agent agent;
} __attribute__((aligned(4096)));

/*
 * The native accessor: how a workload compiled into the soft engine reaches guest
 * memory. A hit is one tag compare, one request-flag load and the access. Entries
 * belong to the vCPU's own thread. host = gpa + addend.
 */
#define GUEST_TLB_ENTRIES 1024

struct guest_tlb_entry {
	uint64_t tag_read;  /* gpa of the page, or GUEST_TLB_EMPTY */
	uint64_t tag_write; /* the same when writable and dirty already */
	uint64_t addend;
	uint64_t spare;
};

#define GUEST_TLB_EMPTY 1ull /* no page address is odd */

struct guest_native {
	const uint32_t *requests; /* non-zero: call slow before the access */
	/* Serves requests, walks, faults; returns the host address of gpa. Does not return when the vCPU must stop. */
	void *(*slow)(struct guest_native *native, uint64_t gpa, int write);
	/* Writes @count items of @bytes each to a port. Does not return from GUEST_PORT_EXIT. */
	void (*out)(struct guest_native *native, uint32_t port, const void *data, uint32_t bytes, uint32_t count);
	uint64_t spare; /* entries do not straddle cache lines */
	/* Direct mapped by page number. In here, not pointed to: a hit waits for no address but the guest's own. */
	struct guest_tlb_entry tlb[GUEST_TLB_ENTRIES];
} __attribute__((aligned(64)));

/*
 * The workloads compiled into libtain. @shared: host address of SHARED, which a
 * native guest reaches directly; only DATA goes through the accessor. A poll
 * without an access (guest_pause) calls slow(native, GUEST_SHARED_GPA, 0).
 * Return: the guest's exit code.
 */
struct guest_native_entry {
	const char *name;
	int (*main)(struct guest_native *native, void *shared, uint32_t vcpu);
};

extern const struct guest_native_entry guest_native_table[]; /* ends with name NULL */

#define GUEST_NATIVE_MAIN(name, summary)                                                                               \
	int guest_native_##name(struct guest_native *native, void *shared, uint32_t vcpu);
GUEST_WORKLOADS(GUEST_NATIVE_MAIN)
#undef GUEST_NATIVE_MAIN

/* The same workloads as bare ELF files, in libtain's read-only data. */
struct guest_elf_entry {
	const char *name;
	const void *start;
	const void *end;
};

extern const struct guest_elf_entry guest_elf_table[]; /* ends with name NULL */

#endif /* GUEST_ABI_H */
