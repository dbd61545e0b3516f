/* SPDX-License-Identifier: MIT */
/*
 * A thin layer over CUnit. A test program lists its suites and calls test_main():
 *
 *   static const struct test_case lock_tests[] = { TEST(mutex_excludes), ..., TEST_END };
 *   static const struct test_suite suites[] = { { "lock", lock_tests }, {} };
 *   int main(int argc, char **argv) { return test_main("lib", suites, argc, argv); }
 *
 * Arguments are filters: only tests whose "suite.test" contains one of them run.
 * TAIN_JUNIT=PREFIX writes JUnit XML to PREFIX-Results.xml. A test that runs longer than
 * its watchdog allows is named and the program ends. After each test no lock may be
 * held and no allocation more be outstanding than before.
 */
#ifndef TESTS_TEST_H
#define TESTS_TEST_H

#include "lib/base.h"

struct test_case {
	const char *name;
	void (*fn)(void);
	bool leaks; /* keeps memory on purpose (a cache): outstanding allocations are not compared */
};

struct test_suite {
	const char *name;
	const struct test_case *tests; /* ends with TEST_END */
	void (*setup)(void);	       /* before each test, may be NULL */
	void (*teardown)(void);
};

/* clang-format off */
#define TEST(fn) { #fn, fn, false }
#define TEST_LEAKS(fn) { #fn, fn, true }
#define TEST_END { NULL, NULL, false }
/* clang-format on */

/* Run them; prints `ROOM: N passed, N failed, N skipped`. Return: the exit status. */
int test_main(const char *room, const struct test_suite *suites, int argc, char **argv);

/* This test cannot run here: counted and named. Return from the test after it. */
void test_skip(const char *fmt, ...) format_printf(1, 2);

/* What costs seconds and is the same in every build. Return: is this the one? If not, the test is skipped. */
bool test_prove_or_skip(void);

/* A processor that this program may run on, as options name it. */
const char *test_cpu(void);

/*
 * Until this test ends no other one of any test program has the machine's switches: for those
 * that change them, and those that look whether they are as before.
 */
void test_own_machine(void);

/*
 * A control group that allows @bytes of memory, and no swap, until this test ends. Return: its
 * directory, for who writes to its cgroup.procs; NULL: the test has been skipped with the reason.
 */
const char *test_memory_group(u64 bytes);
/* This process becomes a member until the test ends. Return: false: the test has been skipped. */
bool test_enter_group(void);

/* A failed check is recorded with its text; the test goes on. Return: @ok. */
bool test_check(bool ok, const char *file, int line, const char *fmt, ...) format_printf(4, 5);
bool test_check_str(const char *a, const char *b, const char *expr_a, const char *expr_b, const char *file, int line);
bool test_check_contains(const char *text, const char *part, const char *file, int line);

/* Failed checks in this test so far: to stop a loop at the first. */
unsigned int test_failures(void);

/* How many turns a stress loop should do in this build. */
#if TSAN
#define TEST_SCALE(n) ((n) / 10 ? (n) / 10 : 1)
#else
#define TEST_SCALE(n) (n)
#endif

#define CHECK(cond) test_check(!!(cond), __FILE__, __LINE__, "%s", #cond)
#define CHECK_MSG(cond, ...) test_check(!!(cond), __FILE__, __LINE__, __VA_ARGS__)
#define CHECK_OP(a, op, b)                                                                                             \
	({                                                                                                             \
		__int128 check_a = (a), check_b = (b);                                                                 \
                                                                                                                       \
		test_check(check_a op check_b, __FILE__, __LINE__, "%s " #op " %s: %lld (%#llx) against %lld (%#llx)", \
			   #a, #b, (long long)check_a, (unsigned long long)check_a, (long long)check_b,                \
			   (unsigned long long)check_b);                                                               \
	})
/* Integers; pointers with CHECK_PTR_EQ. Both values are printed. */
#define CHECK_EQ(a, b) CHECK_OP(a, ==, b)
#define CHECK_NE(a, b) CHECK_OP(a, !=, b)
#define CHECK_LT(a, b) CHECK_OP(a, <, b)
#define CHECK_LE(a, b) CHECK_OP(a, <=, b)
#define CHECK_GT(a, b) CHECK_OP(a, >, b)
#define CHECK_GE(a, b) CHECK_OP(a, >=, b)
#define CHECK_PTR_EQ(a, b)                                                                                             \
	({                                                                                                             \
		const void *check_a = (a), *check_b = (b);                                                             \
                                                                                                                       \
		test_check(check_a == check_b, __FILE__, __LINE__, "%s == %s: %p against %p", #a, #b, check_a,         \
			   check_b);                                                                                   \
	})
#define CHECK_STR(a, b) test_check_str(a, b, #a, #b, __FILE__, __LINE__)
#define CHECK_CONTAINS(text, part) test_check_contains(text, part, __FILE__, __LINE__)
/* For what the rest of the test stands on: leave the (void) test when it fails. */
#define REQUIRE(cond)                                                                                                  \
	do {                                                                                                           \
		if (!CHECK(cond))                                                                                      \
			return;                                                                                        \
	} while (0)
#define REQUIRE_EQ(a, b)                                                                                               \
	do {                                                                                                           \
		if (!CHECK_EQ(a, b))                                                                                   \
			return;                                                                                        \
	} while (0)

#endif /* TESTS_TEST_H */
