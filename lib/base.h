/* SPDX-License-Identifier: MIT */
/* What every file starts from: integer names, small macros, assertions. */
#ifndef LIB_BASE_H
#define LIB_BASE_H

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tain/types.h"

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int32_t s32;
typedef int64_t s64;

#define PAGE_SHIFT TAIN_PAGE_SHIFT
#define PAGE_SIZE TAIN_PAGE_SIZE
#define PAGE_MASK TAIN_PAGE_MASK
#define CACHELINE 64

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define BIT(n) (1ull << (n))
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))
#define min(a, b)                                                                                                      \
	({                                                                                                             \
		__typeof__(a) min_a = (a);                                                                             \
		__typeof__(b) min_b = (b);                                                                             \
		min_a < min_b ? min_a : min_b;                                                                         \
	})
#define max(a, b)                                                                                                      \
	({                                                                                                             \
		__typeof__(a) max_a = (a);                                                                             \
		__typeof__(b) max_b = (b);                                                                             \
		max_a > max_b ? max_a : max_b;                                                                         \
	})
#define align_down(x, a) ((x) & ~((__typeof__(x))(a)-1))
#define align_up(x, a) align_down((x) + ((__typeof__(x))(a)-1), a)
#define is_aligned(x, a) (((x) & ((__typeof__(x))(a)-1)) == 0)
#define cacheline_aligned __attribute__((aligned(CACHELINE)))
#define link_hidden __attribute__((visibility("hidden"))) /* of data on a hot path: no look into the GOT */
#define must_check __attribute__((warn_unused_result))
#define format_printf(fmt, first) __attribute__((format(printf, fmt, first)))
/* For memory whose history the thread sanitizer has wrong: say why. */
#define no_tsan __attribute__((no_sanitize("thread")))

/*
 * Builds. TAIN_CHECKING (prove, asan, tsan and the unit tests) compiles in the
 * lock checker, race points, mutants, poisoning and ASSERT. TAIN_PROVE adds the
 * hostile mode (rare paths run daily).
 */
#ifdef TAIN_CHECKING
#define CHECKING 1
#else
#define CHECKING 0
#endif
#ifdef TAIN_PROVE
#define PROVE 1
#else
#define PROVE 0
#endif
#if defined(__SANITIZE_THREAD__)
#define TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TSAN 1
#endif
#endif
#ifndef TSAN
#define TSAN 0
#endif

/* tain's own state is corrupt: print file:line, the text and the traces, abort. */
void bug_at(const char *file, int line, const char *fmt, ...) __attribute__((noreturn)) format_printf(3, 4);

/* The caller asks for more than there can be, where no error can be returned: print the line, abort. */
void limit_reached(const char *fmt, ...) __attribute__((noreturn)) format_printf(1, 2);

#define BUG_ON(cond)                                                                                                   \
	do {                                                                                                           \
		if (unlikely(cond))                                                                                    \
			bug_at(__FILE__, __LINE__, "%s", #cond);                                                       \
	} while (0)
#define BUG(...) bug_at(__FILE__, __LINE__, __VA_ARGS__)

/* Checking builds only; elsewhere type-checked and never evaluated. No side effects inside. */
#if CHECKING
#define ASSERT(cond)                                                                                                   \
	do {                                                                                                           \
		if (unlikely(!(cond)))                                                                                 \
			bug_at(__FILE__, __LINE__, "assertion failed: %s", #cond);                                     \
	} while (0)
#else
#define ASSERT(cond) ((void)sizeof(!!(cond)))
#endif

#endif /* LIB_BASE_H */
