/* SPDX-License-Identifier: MIT */
/*
 * Where mappings go that will have holes. While a hole is open, another thread's malloc
 * may call mmap(), and must not be given it: what it put there would be overwritten by
 * the next MAP_FIXED or mremap(), or unmapped with the rest. Linux fills the highest gap
 * that fits, so such mappings lie well below the process's others, with a gap between
 * that is larger than anything a thread asks for.
 */
#ifndef LAB_SYSTEM_PLACE_H
#define LAB_SYSTEM_PLACE_H

#include "lib/base.h"

/*
 * Reserve @bytes, a multiple of the page size, at a multiple of 1 GiB: the caller maps
 * over it with MAP_FIXED, and unmaps it.
 * Return: the address of a mapping without rights; 0: there is no such place.
 */
hva_t place_reserve(u64 bytes);

#endif /* LAB_SYSTEM_PLACE_H */
