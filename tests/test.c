/* SPDX-License-Identifier: MIT */
/* The layer over CUnit: filters, skips, the watchdog, and what must be as before after every test. */
#include "lib/lock.h" /* before fcntl.h, which has a LOCK_READ too */

#include <CUnit/Basic.h>
#include <CUnit/CUnit.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/alloc.h"
#include "lib/atomic.h"
#include "lib/mutant.h"
#include "lib/race.h"
#include "lib/rcu.h"
#include "lib/thread.h"
#include "lib/time.h"
#include "lib/trace.h"
#include "tests/test.h"

/* A hang, not a test on a busy machine: 600 s, each turn once however long it took, in case the machine stood still. */
#define WATCHDOG_TURNS 1200
#define WATCHDOG_NS (NSEC_PER_SEC / 2)
#define TEXT_BYTES 2048

static const char *room;
static const struct test_suite *suites;
static unsigned int nr_passed, nr_failed, nr_skipped;
static u64 nr_begun;

/* The test that runs. lock guards what checks in several threads write. */
static struct {
	struct lock_core lock;
	char name[160];
	u64 test; /* how many have begun; 0: none runs */
	unsigned int checks, failures;
	bool skipped;
	char text[TEXT_BYTES]; /* the first failure, or why it was skipped */
} now;

/* --- JUnit XML: written here, because CUnit's own is not well formed and knows no skips --- */

static struct {
	char name[4096];
	FILE *file, *cases; /* the cases are kept until the totals are known */
	char *buf;
	size_t len;
} junit;

static void junit_open(const char *prefix)
{
	if (!prefix || !*prefix)
		return;
	snprintf(junit.name, sizeof(junit.name), "%s-Results.xml", prefix);
	junit.file = fopen(junit.name, "w");
	junit.cases = open_memstream(&junit.buf, &junit.len);
	if (!junit.file || !junit.cases)
		BUG("cannot write %s", junit.name);
}

static void junit_text(const char *text)
{
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (c == '<')
			fputs("&lt;", junit.cases);
		else if (c == '&')
			fputs("&amp;", junit.cases);
		else if (c == '"')
			fputs("&quot;", junit.cases);
		else
			fputc(c >= ' ' && c < 0x7f ? c : ' ', junit.cases); /* what else may not be in XML */
	}
}

static void junit_case(const char *suite, const char *name, u64 ns)
{
	if (!junit.cases)
		return;
	fprintf(junit.cases, "  <testcase classname=\"%s.%s\" name=\"%s\" time=\"%llu.%03llu\"", room, suite, name,
		(unsigned long long)(ns / NSEC_PER_SEC), (unsigned long long)(ns / NSEC_PER_MSEC % 1000));
	if (now.failures || now.skipped) {
		fprintf(junit.cases, ">\n    <%s message=\"", now.failures ? "failure" : "skipped");
		junit_text(now.text);
		fputs("\"/>\n  </testcase>\n", junit.cases);
	} else {
		fputs("/>\n", junit.cases);
	}
}

static void junit_close(void)
{
	if (!junit.file)
		return;
	fclose(junit.cases);
	fprintf(junit.file,
		"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
		"<testsuite name=\"%s\" tests=\"%u\" failures=\"%u\" errors=\"0\" skipped=\"%u\">\n%s</testsuite>\n",
		room, nr_passed + nr_failed + nr_skipped, nr_failed, nr_skipped, junit.buf);
	if (fclose(junit.file))
		BUG("cannot write %s", junit.name);
	free(junit.buf);
}

/* --- checks --------------------------------------------------------------------------------- */

bool test_check(bool ok, const char *file, int line, const char *fmt, ...)
{
	char text[TEXT_BYTES];
	va_list ap;

	if (likely(ok)) {
		__atomic_fetch_add(&now.checks, 1, __ATOMIC_RELAXED);
		return true;
	}
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	lock_core_lock(&now.lock, LOCK_SPIN_SHORT);
	if (!__atomic_fetch_add(&now.failures, 1, __ATOMIC_RELAXED))
		snprintf(now.text, sizeof(now.text), "%s:%d: %.1500s", file, line, text);
	fprintf(stderr, "FAILED %s at %s:%d: %s\n", now.name, file, line, text);
	CU_assertImplementation(CU_FALSE, (unsigned int)line, text, file, "", CU_FALSE);
	lock_core_unlock(&now.lock);
	return false;
}

bool test_check_str(const char *a, const char *b, const char *expr_a, const char *expr_b, const char *file, int line)
{
	bool same = a && b ? !strcmp(a, b) : a == b;

	return test_check(same, file, line, "%s == %s: '%s' against '%s'", expr_a, expr_b, a ? a : "(null)",
			  b ? b : "(null)");
}

bool test_check_contains(const char *text, const char *part, const char *file, int line)
{
	return test_check(text && strstr(text, part), file, line, "'%s' contains '%s'", text ? text : "(null)", part);
}

bool test_prove_or_skip(void)
{
	if (!PROVE)
		test_skip("this build leaves it to the prove build");
	return PROVE;
}

unsigned int test_failures(void)
{
	return READ_ONCE(now.failures);
}

void test_skip(const char *fmt, ...)
{
	va_list ap;

	now.skipped = true;
	va_start(ap, fmt);
	vsnprintf(now.text, sizeof(now.text), fmt, ap);
	va_end(ap);
	fprintf(stderr, "SKIPPED %s: %s\n", now.name, now.text);
}

const char *test_cpu(void)
{
	static char text[16];
	cpu_set_t allowed;
	int cpu = 0;

	CPU_ZERO(&allowed);
	sched_getaffinity(0, sizeof(allowed), &allowed);
	while (cpu < CPU_SETSIZE - 1 && !CPU_ISSET(cpu, &allowed))
		cpu++;
	snprintf(text, sizeof(text), "%d", cpu);
	return text;
}

static int machine_lock = -1;

/* A lock on what is there anyway, so that nothing has to be made; without it nothing is changed either. */
void test_own_machine(void)
{
	if (machine_lock < 0)
		machine_lock = open("/sys/kernel/mm", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (machine_lock >= 0)
		flock(machine_lock, LOCK_EX);
}

static void release_machine(void)
{
	if (machine_lock >= 0)
		close(machine_lock);
	machine_lock = -1;
}

/* --- a control group of memory ------------------------------------------------------------- */

static struct {
	char dir[96];	/* "": none */
	char home[512]; /* the group that this process is of, if it left it */
} group;

static bool write_text(const char *dir, const char *file, const char *text)
{
	char path[700];
	ssize_t n = -1;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd >= 0) {
		n = write(fd, text, strlen(text));
		close(fd);
	}
	return n == (ssize_t)strlen(text);
}

const char *test_memory_group(u64 bytes)
{
	static const char *const tops[] = { "/sys/fs/cgroup/memory", "/sys/fs/cgroup" };
	char text[32];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)bytes);
	for (size_t i = 0; i < ARRAY_SIZE(tops); i++) {
		snprintf(group.dir, sizeof(group.dir), "%s/tain-test-%d", tops[i], getpid());
		if (mkdir(group.dir, 0755))
			continue;
		/* Where there is swap, without it: else nobody is killed. */
		if (write_text(group.dir, i ? "memory.max" : "memory.limit_in_bytes", text)) {
			write_text(group.dir, i ? "memory.swap.max" : "memory.memsw.limit_in_bytes", i ? "0" : text);
			return group.dir;
		}
		rmdir(group.dir);
	}
	group.dir[0] = 0;
	test_skip("no control group of memory can be made below /sys/fs/cgroup");
	return NULL;
}

bool test_enter_group(void)
{
	bool v1 = strstr(group.dir, "/memory/") != NULL, found = false;
	FILE *f = fopen("/proc/self/cgroup", "re");
	char line[400], *path;

	while (f && !found && fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = 0;
		path = strrchr(line, ':');
		found = path && (v1 ? strstr(line, ":memory:") != NULL : !strncmp(line, "0::", 3));
		snprintf(group.home, sizeof(group.home), "%s%s", v1 ? "/sys/fs/cgroup/memory" : "/sys/fs/cgroup",
			 found ? path + 1 : "");
	}
	if (f)
		fclose(f);
	if (found && write_text(group.home, "cgroup.procs", "0") && write_text(group.dir, "cgroup.procs", "0"))
		return true;
	group.home[0] = 0;
	test_skip("this process cannot change its control group and come back");
	return false;
}

/* What was killed in it may still be about to go. */
static void release_group(void)
{
	if (group.home[0])
		CHECK(write_text(group.home, "cgroup.procs", "0"));
	for (int turns = 0; group.dir[0] && rmdir(group.dir) && turns < 6000; turns++)
		thread_sleep_ns(10 * NSEC_PER_MSEC);
	if (group.dir[0])
		CHECK(access(group.dir, F_OK));
	group.dir[0] = group.home[0] = 0;
}

/* Not alarm(): a thread that spins takes no signal in a TSan build. */
static void watchdog(void *unused)
{
	u64 seen = 0, turns = 0;

	thread_block_signals();
	for (;;) {
		u64 test = smp_load_acquire(&now.test);

		turns = test && test == seen ? turns + 1 : 0;
		seen = test;
		if (turns > WATCHDOG_TURNS)
			BUG("test %s hangs: no end after %llu s", now.name,
			    (unsigned long long)(WATCHDOG_TURNS * WATCHDOG_NS / NSEC_PER_SEC));
		thread_sleep_ns(WATCHDOG_NS);
	}
}

static const struct test_case *current_case(const struct test_suite **suite)
{
	const char *suite_name = CU_get_current_suite()->pName, *name = CU_get_current_test()->pName;

	for (*suite = suites; (*suite)->name; (*suite)++) {
		if (strcmp((*suite)->name, suite_name))
			continue;
		for (const struct test_case *test = (*suite)->tests; test->name; test++) {
			if (!strcmp(test->name, name))
				return test;
		}
	}
	BUG("CUnit runs %s.%s, which is in no table", suite_name, name);
}

/* Undo what a test may have left switched on. */
static void reset_switches(void)
{
#if CHECKING
	mem_fail_after(0);
	race_delays(0, 0);
	lockdep_set_report(NULL);
#endif
	mutant_set(NULL);
	trace_set(false);
}

static void check_leftovers(const struct test_case *test, u64 outstanding)
{
#if CHECKING
	test_check(!lock_check_depth(), __FILE__, __LINE__, "%u locks held after the test", lock_check_depth());
	lockdep_assert_none_held();
	rcu_barrier();
	if (!test->leaks)
		test_check(mem_outstanding() == outstanding, __FILE__, __LINE__,
			   "allocations outstanding: %lld more than before",
			   (long long)(mem_outstanding() - outstanding));
#endif
}

static void run_one(void)
{
	const struct test_suite *suite;
	const struct test_case *test = current_case(&suite);
	u64 outstanding = 0, start = clock_ns();
	const char *outcome;

	snprintf(now.name, sizeof(now.name), "%s.%s", suite->name, test->name);
	now.checks = 0;
	now.failures = 0;
	now.skipped = false;
#if CHECKING
	rcu_barrier();
	outstanding = mem_outstanding();
#endif
	smp_store_release(&now.test, ++nr_begun);
	if (suite->setup)
		suite->setup();
	test->fn();
	reset_switches();
	if (suite->teardown)
		suite->teardown();
	release_machine();
	release_group();
	check_leftovers(test, outstanding);
	smp_store_release(&now.test, 0);

	if (now.failures) {
		nr_failed++;
		outcome = "FAILED";
	} else if (now.skipped) {
		nr_skipped++;
		outcome = "skipped";
	} else {
		nr_passed++;
		outcome = "ok";
	}
	junit_case(suite->name, test->name, clock_ns() - start);
	CU_assertImplementation(CU_TRUE, __LINE__, outcome, __FILE__, "", CU_FALSE);
	printf("  %-7s %s (%u checks, %llu ms)\n", outcome, now.name, now.checks,
	       (unsigned long long)((clock_ns() - start) / NSEC_PER_MSEC));
	fflush(stdout);
}

static bool wanted(const char *suite, const char *test, int argc, char **argv)
{
	char name[160];

	snprintf(name, sizeof(name), "%s.%s", suite, test);
	for (int i = 1; i < argc; i++) {
		if (strstr(name, argv[i]))
			return true;
	}
	return argc < 2;
}

static unsigned int add_tests(int argc, char **argv)
{
	unsigned int nr = 0;

	for (const struct test_suite *suite = suites; suite->name; suite++) {
		CU_pSuite added = NULL;

		for (const struct test_case *test = suite->tests; test->name; test++) {
			if (!wanted(suite->name, test->name, argc, argv))
				continue;
			if (!added)
				added = CU_add_suite(suite->name, NULL, NULL);
			if (!added || !CU_add_test(added, test->name, run_one))
				BUG("CUnit: %s", CU_get_error_msg());
			nr++;
		}
	}
	return nr;
}

int test_main(const char *name, const struct test_suite *table, int argc, char **argv)
{
	static struct thread watch;
	unsigned int nr;

	room = name;
	suites = table;
	thread_enter("main");
	if (CU_initialize_registry() != CUE_SUCCESS)
		BUG("CUnit: %s", CU_get_error_msg());
	nr = add_tests(argc, argv);
	if (thread_create(&watch, "watchdog", -1, watchdog, NULL))
		BUG("cannot start the watchdog");
	CU_basic_set_mode(CU_BRM_SILENT);
	junit_open(getenv("TAIN_JUNIT"));
	CU_basic_run_tests();
	junit_close();
	if (nr != nr_passed + nr_failed + nr_skipped) {
		fprintf(stderr, "%s: %u tests were to run, %u did\n", room, nr, nr_passed + nr_failed + nr_skipped);
		nr_failed++;
	}
	if (!nr)
		fprintf(stderr, "%s: no test matches\n", room);
	CU_cleanup_registry();
	printf("%s: %u passed, %u failed, %u skipped\n", room, nr_passed, nr_failed, nr_skipped);
	fflush(stdout);
	return nr_failed || !nr ? 1 : 0;
}
