/* SPDX-License-Identifier: MIT */
/*
 * Memory for tain's own structures. Checking builds count what is outstanding and
 * can make one chosen allocation fail.
 */
#ifndef LIB_ALLOC_H
#define LIB_ALLOC_H

#include "lib/base.h"

/* Return: memory for mem_free(), or NULL. Context: may block in the C library for a moment; no lock of tain's. */
void *mem_alloc(size_t size) must_check;
void *mem_zalloc(size_t size) must_check;
/* @align: a power of two. Zeroed. */
void *mem_alloc_aligned(size_t align, size_t size) must_check;
void mem_free(void *ptr); /* NULL is fine */

#if CHECKING
/* The @n-th following allocation of this thread fails, once; 0: none does. */
void mem_fail_after(u64 n);
/* Did the failure asked for happen? */
bool mem_failed(void);
/* Allocations not freed yet, all threads. */
u64 mem_outstanding(void);
#endif

#endif /* LIB_ALLOC_H */
