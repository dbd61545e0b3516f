/* SPDX-License-Identifier: MIT */
/* Memory for tain's own structures: the C library's, counted in checking builds. */
#include <stdlib.h>
#include <string.h>

#include "lib/alloc.h"
#include "lib/atomic.h"

#if CHECKING
static u64 outstanding;
static __thread u64 fail_after;
static __thread bool failed;

void mem_fail_after(u64 n)
{
	fail_after = n;
	failed = false;
}

bool mem_failed(void)
{
	return failed;
}

u64 mem_outstanding(void)
{
	return READ_ONCE(outstanding);
}

static bool alloc_fails(void)
{
	if (likely(!fail_after) || --fail_after)
		return false;
	failed = true;
	return true;
}

static void *alloc_count(void *ptr)
{
	if (ptr)
		__atomic_fetch_add(&outstanding, 1, __ATOMIC_RELAXED);
	return ptr;
}
#else
static inline bool alloc_fails(void)
{
	return false;
}

static inline void *alloc_count(void *ptr)
{
	return ptr;
}
#endif

void *mem_alloc(size_t size)
{
	return alloc_fails() ? NULL : alloc_count(malloc(size));
}

void *mem_zalloc(size_t size)
{
	return alloc_fails() ? NULL : alloc_count(calloc(1, size));
}

void *mem_alloc_aligned(size_t align, size_t size)
{
	void *ptr;

	if (alloc_fails() || posix_memalign(&ptr, max(align, sizeof(void *)), size))
		return NULL;
	memset(ptr, 0, size);
	return alloc_count(ptr);
}

void mem_free(void *ptr)
{
#if CHECKING
	if (ptr)
		__atomic_fetch_sub(&outstanding, 1, __ATOMIC_RELAXED);
#endif
	free(ptr);
}
