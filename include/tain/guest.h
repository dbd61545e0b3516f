/* SPDX-License-Identifier: MIT */
/*
 * The guest author's side: write guest_main(), link with libtain-guest.a and
 * tain-guest.ld (`pkg-config --cflags --libs tain-guest`), run the file with
 * `tain run --engine kvm FILE.elf`. examples/hello is a whole guest.
 *
 * A guest is freestanding C at CPL3 in long mode: no libc, no system calls, one
 * 64 KiB stack per vCPU. Every vCPU enters guest_main() at the same time. The
 * memory under test, DATA, is [guest_data_base(), + guest_data_size()); the host may
 * change it at any moment, so it is reached through guest_read*() and
 * guest_write*() only, with naturally aligned addresses.
 *
 * The same file also boots by itself, with one vCPU: `qemu-system-x86_64 -M microvm -m 256
 * -kernel FILE.elf -append "ARGUMENTS" -nodefaults -display none -serial stdio -device
 * isa-debug-exit,iobase=0xf4`, or by GRUB's multiboot2. Machines pc and q35 do too.
 *
 * An exception ends the vCPU with a line on the console and exit code 128 + vector.
 */
#ifndef TAIN_GUEST_H
#define TAIN_GUEST_H

#include <stdint.h>

struct guest_shared;
struct guest_vcpu;
struct guest_native;

/* One vCPU's view of its machine; read it through the functions below. */
struct guest {
	uint32_t id;
	uint32_t vcpus;
	uint64_t data_base;
	uint64_t data_bytes;
	uint64_t tsc_khz;
	uint64_t seed;
	const uint32_t *stop;
	uint64_t *target; /* the address under way, so that the host can name it should the access fail */
	struct guest_shared *shared;
	struct guest_vcpu *vcpu;
	struct guest_native *native; /* unused in a bare guest */
};

/*
 * The guest itself, once per vCPU. @argv: what followed the guest's name on the
 * command line; there is no program name in argv[0], and argv[argc] is NULL.
 * Return: the exit code (`tain run` passes on its low 8 bits).
 */
int guest_main(struct guest *g, int argc, char **argv);

/* Console text; lines of different vCPUs do not mix. Knows %c %s %d %i %u %x %p %% with -, 0, width, l, ll, z. */
void guest_text(struct guest *g, const char *text);
void guest_printf(struct guest *g, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* End this vCPU. */
void guest_exit(struct guest *g, int code) __attribute__((noreturn));

/* The number after `name=` among the arguments (decimal, or hexadecimal after 0x), or @otherwise. */
uint64_t guest_option(int argc, char **argv, const char *name, uint64_t otherwise);

static inline uint32_t guest_vcpu_id(const struct guest *g)
{
	return g->id;
}

static inline uint32_t guest_vcpus(const struct guest *g)
{
	return g->vcpus;
}

/* First byte of DATA, a guest-physical address; the guest runs on an identity mapping. */
static inline uint64_t guest_data_base(const struct guest *g)
{
#ifdef GUEST_NATIVE
	(void)g;
	return 0x100000000ull;
#else
	return g->data_base;
#endif
}

/* Bytes of DATA. */
static inline uint64_t guest_data_size(const struct guest *g)
{
	return g->data_bytes;
}

/* The run's seed, the same on every vCPU. */
static inline uint64_t guest_seed(const struct guest *g)
{
	return g->seed;
}

/* Did the host ask workloads without a natural end to return? */
static inline int guest_stop_asked(const struct guest *g)
{
	return __atomic_load_n(g->stop, __ATOMIC_RELAXED) != 0;
}

/* The time stamp counter, and how many of its cycles make a millisecond; 0: the guest booted by itself, and nobody
 * knows. */
static inline uint64_t guest_cycles(void)
{
	return __builtin_ia32_rdtsc();
}

static inline uint64_t guest_tsc_khz(const struct guest *g)
{
	return g->tsc_khz;
}

/* tain's own workloads are compiled a second time, into the soft engine, against accessors of its own. */
#ifndef GUEST_NATIVE

/* The target is stored before the access: the compiler may not swap the two, and x86 keeps their order. */
static inline void guest_record_target(struct guest *g, uint64_t gpa)
{
	__atomic_store_n(g->target, gpa, __ATOMIC_RELAXED);
	__asm__ __volatile__("" ::: "memory");
}

#define GUEST_DEFINE_ACCESS(bits)                                                                                      \
	static inline uint##bits##_t guest_read##bits(struct guest *g, uint64_t gpa)                                   \
	{                                                                                                              \
		guest_record_target(g, gpa);                                                                           \
		return __atomic_load_n((uint##bits##_t *)(uintptr_t)gpa, __ATOMIC_ACQUIRE);                            \
	}                                                                                                              \
	static inline void guest_write##bits(struct guest *g, uint64_t gpa, uint##bits##_t value)                      \
	{                                                                                                              \
		guest_record_target(g, gpa);                                                                           \
		__atomic_store_n((uint##bits##_t *)(uintptr_t)gpa, value, __ATOMIC_RELEASE);                           \
	}

/* uint64_t guest_read64(struct guest *g, uint64_t gpa); void guest_write64(struct guest *g, uint64_t gpa, uint64_t
 * value); ... */
GUEST_DEFINE_ACCESS(64)
GUEST_DEFINE_ACCESS(32)
GUEST_DEFINE_ACCESS(8)
#undef GUEST_DEFINE_ACCESS

/* Call it in every loop that waits. */
static inline void guest_pause(struct guest *g)
{
	(void)g;
	__builtin_ia32_pause();
}

#endif /* GUEST_NATIVE */

#endif /* TAIN_GUEST_H */
