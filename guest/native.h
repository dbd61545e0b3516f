/* SPDX-License-Identifier: MIT */
/*
 * The accessors of tain/guest.h for workloads compiled into the soft engine: DATA
 * is reached through the vCPU's TLB.
 *
 * A translation that passed the compare may be used although the host asks for a
 * flush in the same instant: whoever asks waits until this vCPU has polled again
 * (rule K23), and every access lies between two polls.
 */
#ifndef GUEST_NATIVE_H
#define GUEST_NATIVE_H

#include "guest/abi.h"
#include "tain/guest.h"

/* Host address of @gpa for one access, which must follow at once. */
static inline void *guest_native_host(struct guest *g, uint64_t gpa, int write)
{
	struct guest_native *native = g->native;
	const struct guest_tlb_entry *entry = &native->tlb[gpa >> GUEST_PAGE_SHIFT & (GUEST_TLB_ENTRIES - 1)];
	uint64_t tag = write ? entry->tag_write : entry->tag_read;
	uint64_t miss = tag ^ (gpa & ~(GUEST_PAGE_SIZE - 1));

	if (__builtin_expect((miss | __atomic_load_n(native->requests, __ATOMIC_RELAXED)) != 0, 0))
		return native->slow(native, gpa, write);
	return (void *)(uintptr_t)(gpa + entry->addend);
}

#define GUEST_DEFINE_ACCESS(bits)                                                                                      \
	static inline uint##bits##_t guest_read##bits(struct guest *g, uint64_t gpa)                                   \
	{                                                                                                              \
		return __atomic_load_n((uint##bits##_t *)guest_native_host(g, gpa, 0), __ATOMIC_ACQUIRE);              \
	}                                                                                                              \
	static inline void guest_write##bits(struct guest *g, uint64_t gpa, uint##bits##_t value)                      \
	{                                                                                                              \
		__atomic_store_n((uint##bits##_t *)guest_native_host(g, gpa, 1), value, __ATOMIC_RELEASE);             \
	}

GUEST_DEFINE_ACCESS(64)
GUEST_DEFINE_ACCESS(32)
GUEST_DEFINE_ACCESS(8)
#undef GUEST_DEFINE_ACCESS

static inline void guest_pause(struct guest *g)
{
	__builtin_ia32_pause();
	if (__builtin_expect(__atomic_load_n(g->native->requests, __ATOMIC_RELAXED) != 0, 0))
		g->native->slow(g->native, GUEST_SHARED_GPA, 0);
}

/* Build the vCPU's struct guest and call @fn. Return: the exit code. */
int guest_native_call(struct guest_native *native, void *shared, uint32_t vcpu,
		      int (*fn)(struct guest *g, int argc, char **argv));

/* What api.c stands on. @g: from guest_native_call(). Text leaves in whole lines, so that vCPUs do not mix theirs. */
void guest_native_text(struct guest *g, const char *text, uint64_t bytes);
void guest_native_exit(struct guest *g, int code) __attribute__((noreturn));

#endif /* GUEST_NATIVE_H */
