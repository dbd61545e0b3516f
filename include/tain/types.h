/* SPDX-License-Identifier: MIT */
/*
 * The address vocabulary of every public header.
 *
 * gpa, gva and hva are byte addresses; gfn and pfn are page numbers. The two
 * kinds never share a variable. Ranges are half open, [start, end).
 *
 * At most 1024 threads that have called tain may be alive at one time, in one process;
 * a thread that ends makes room. The call of one more ends the process with a line that
 * says so: there is no state in which it could be refused.
 */
#ifndef TAIN_TYPES_H
#define TAIN_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint64_t gpa_t; /* guest physical address, bytes */
typedef uint64_t gfn_t; /* guest frame number */
typedef uint64_t hva_t; /* host virtual address, bytes, in one mm */
typedef uint64_t pfn_t; /* index of a frame in the arena */

#define TAIN_PAGE_SHIFT 12
#define TAIN_PAGE_SIZE (1ul << TAIN_PAGE_SHIFT)
#define TAIN_PAGE_MASK (~(TAIN_PAGE_SIZE - 1))

#define TAIN_API __attribute__((visibility("default")))

#endif /* TAIN_TYPES_H */
