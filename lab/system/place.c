/* SPDX-License-Identifier: MIT */
/* Places for mappings with holes: see lab/system/place.h. */
#include "lab/system/place.h"

#include <sys/mman.h>

#include "lab/system/linux_compat.h"

#define PLACE_GAP (64ull << 30)
#define PLACE_TRIES 64

hva_t place_reserve(u64 bytes)
{
	void *top = mmap(NULL, PAGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	hva_t base = (hva_t)(uintptr_t)top;
	void *p;

	if (top == MAP_FAILED)
		return 0;
	munmap(top, PAGE_SIZE);
	for (int i = 0; i < PLACE_TRIES && base >= bytes + PLACE_GAP; i++) {
		base = align_down(base - bytes - PLACE_GAP, 1ul << 30);
		p = mmap((void *)(uintptr_t)base, bytes, PROT_NONE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
		if (p == (void *)(uintptr_t)base)
			return base;
		if (p != MAP_FAILED) /* a kernel before 4.17 takes NOREPLACE for a hint */
			munmap(p, bytes);
	}
	return 0;
}
