/* SPDX-License-Identifier: MIT */
/* Tests of the small things: errors, allocation, threads, counters, clocks, random numbers, mutants. */
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/alloc.h"
#include "lib/counter.h"
#include "lib/err.h"
#include "lib/lock.h"
#include "lib/mutant.h"
#include "lib/rng.h"
#include "lib/thread.h"
#include "lib/time.h"
#include "tests/lib_suites.h"

static void err_set_formats_and_returns_code(void)
{
	struct err err;
	char longer[1000];

	CHECK_EQ(err_set(&err, -EINVAL, "%s is %d", "size", 0), -EINVAL);
	CHECK_STR(err.text, "size is 0");
	CHECK_EQ(err_set(NULL, -EIO, "nobody listens"), -EIO);
	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	err_set(&err, 0, "%s", longer);
	CHECK_EQ(strlen(err.text), sizeof(err.text) - 1);
}

/* Run fn in a child; its standard error ends up in @text. Return: the wait status. */
static int run_child(void (*fn)(void), char *text, size_t len)
{
	int fds[2], status = -1;
	size_t used = 0;
	ssize_t n;
	pid_t pid;

	if (pipe(fds))
		return -1;
	pid = fork();
	if (!pid) {
		dup2(fds[1], 2);
		close(fds[0]);
		close(fds[1]);
		fn();
		_exit(0);
	}
	close(fds[1]);
	while (used < len - 1 && (n = read(fds[0], text + used, len - 1 - used)) > 0)
		used += (size_t)n;
	text[used] = '\0';
	close(fds[0]);
	waitpid(pid, &status, 0);
	return status;
}

static void child_bug(void)
{
	BUG("frame %d is freed twice", 7);
}

static void bug_names_the_place_and_aborts(void)
{
	char text[8192];
	int status = run_child(child_bug, text, sizeof(text));

	CHECK(WIFSIGNALED(status) || WEXITSTATUS(status));
	CHECK_CONTAINS(text, "tain: BUG at tests/lib_base.c:");
	CHECK_CONTAINS(text, "frame 7 is freed twice (thread main)\n");
	CHECK_CONTAINS(text, "this is a defect in tain, please report it\n");
}

static void aligned_memory_is_aligned_and_zero(void)
{
	for (size_t align = 8; align <= 4096; align *= 2) {
		u8 *p = mem_alloc_aligned(align, 3 * align + 1);

		REQUIRE(p);
		CHECK_EQ((uintptr_t)p % align, 0);
		for (size_t i = 0; i < 3 * align + 1; i++)
			CHECK_EQ(p[i], 0);
		mem_free(p);
	}
	mem_free(NULL);
}

static void the_chosen_allocation_fails(void)
{
#if CHECKING
	u64 before = mem_outstanding();
	void *p[5];

	mem_fail_after(3);
	p[0] = mem_alloc(10);
	p[1] = mem_zalloc(10);
	CHECK(!mem_failed());
	p[2] = mem_alloc_aligned(64, 64);
	CHECK(mem_failed());
	p[3] = mem_alloc(10);
	CHECK(p[0] && p[1] && !p[2] && p[3]);
	CHECK_EQ(mem_outstanding(), before + 3);
	mem_fail_after(1);
	CHECK(!mem_failed());
	mem_fail_after(0);
	p[4] = mem_alloc(1);
	CHECK(p[4]);
	for (int i = 0; i < 5; i++)
		mem_free(p[i]);
	CHECK_EQ(mem_outstanding(), before);
#else
	test_skip("allocation failures are in checking builds only");
#endif
}

struct id_check {
	struct completion go;
	u32 id;
	char name[THREAD_NAME_BYTES];
};

static void id_thread(void *arg)
{
	struct id_check *check = arg;

	check->id = thread_id();
	strcpy(check->name, thread_name());
	wait_for_completion(&check->go);
}

static void thread_ids_are_dense_and_reused(void)
{
	struct thread threads[8];
	struct id_check checks[8];
	u32 high = 0;

	for (int round = 0; round < 3; round++) {
		u64 seen = 0;

		for (int i = 0; i < 8; i++) {
			init_completion(&checks[i].go);
			REQUIRE_EQ(thread_create(&threads[i], "dense", -1, id_thread, &checks[i]), 0);
		}
		for (int i = 0; i < 8; i++) {
			complete(&checks[i].go);
			CHECK_PTR_EQ(thread_join(&threads[i]), &checks[i]);
			CHECK_LT(checks[i].id, 64);
			CHECK_STR(checks[i].name, "dense");
			CHECK(!(seen & BIT(checks[i].id)));
			seen |= BIT(checks[i].id);
		}
		CHECK(!(seen & BIT(thread_id())));
		if (round)
			CHECK_EQ(thread_high, high);
		high = thread_high;
	}
}

static void threads_are_limited_not_fatal(void)
{
	static struct thread threads[THREAD_MAX];
	static struct id_check checks[THREAD_MAX];
	int n = 0, ret = 0;

	while (n < (int)THREAD_MAX) {
		init_completion(&checks[n].go);
		ret = thread_create(&threads[n], "a name of more than 15", -1, id_thread, &checks[n]);
		if (ret)
			break;
		n++;
	}
	CHECK_EQ(ret, -EAGAIN);
	CHECK_GT(n, 64); /* the machine may have a limit of its own, if a higher one */
	for (int i = 0; i < n; i++) {
		complete(&checks[i].go);
		thread_join(&threads[i]);
	}
	CHECK_STR(checks[0].name, "a name of more ");
}

static struct completion never;

static void wait_for_ever(void *arg)
{
	wait_for_completion(&never);
}

static void child_one_too_many(void)
{
	static struct thread threads[THREAD_MAX];
	unsigned int n = 0;

	init_completion(&never);
	while (n < THREAD_MAX && !thread_create(&threads[n], "many", -1, wait_for_ever, NULL))
		n++;
	thread_exit(); /* our number goes to the last of them */
	if (thread_high < THREAD_MAX || thread_create(&threads[n], "last", -1, wait_for_ever, NULL))
		_exit(4);
	thread_enter("one too many");
}

/* It is the caller's doing, and says what the caller can do. */
static void one_thread_too_many_says_so(void)
{
	char text[8192];
	int status;

	if (TSAN) /* it cannot make threads in a forked child */
		return;
	status = run_child(child_one_too_many, text, sizeof(text));
	if (WIFEXITED(status) && WEXITSTATUS(status) == 4)
		return; /* the machine has a lower limit */
	CHECK(WIFSIGNALED(status) || WEXITSTATUS(status));
	CHECK_CONTAINS(text, " live threads have called tain");
	CHECK_CONTAINS(text, "call it from fewer");
	CHECK(!strstr(text, "defect"));
}

static void bad_processors_are_refused(void)
{
	struct thread thread;

	CHECK_EQ(thread_create(&thread, "nowhere", 1 << 20, id_thread, NULL), -EINVAL);
	CHECK_EQ(thread_create(&thread, "nowhere", 1000, id_thread, NULL), -EINVAL);
	CHECK_EQ(thread_create(&thread, "nowhere", -2, id_thread, NULL), -EINVAL);
	CHECK_EQ(thread_pin(1000), -EINVAL);
	CHECK_EQ(thread_pin(-2), -EINVAL);
	CHECK_EQ(thread_pin(-1), 0);
}

/* Noted before the thread has a number: of its own, not of who had that number before. */
static void early_signal_thread(void *arg)
{
	bool *pending = arg;

	CHECK(!thread_signal_pending());
	thread_exit();
	thread_signal_note();
	thread_enter("again");
	pending[0] = thread_signal_pending();
	pending[1] = thread_signal_clear();
	pending[2] = thread_signal_clear();
	thread_exit();
	thread_enter("again");
	pending[3] = thread_signal_pending();
}

static void signal_before_entering_is_kept(void)
{
	struct thread thread;
	bool pending[4] = { false, false, true, true };

	REQUIRE_EQ(thread_create(&thread, "early", -1, early_signal_thread, pending), 0);
	thread_join(&thread);
	CHECK(pending[0] && pending[1]);
	CHECK(!pending[2] && !pending[3]);
}

static void enter_nests(void)
{
	u32 id = thread_id();

	thread_enter("inner");
	CHECK_EQ(thread_id(), id);
	thread_exit();
	CHECK_EQ(thread_id(), id);
	CHECK_STR(thread_name(), "main");
}

#define COUNT_THREADS 4
#define COUNT_ADDS 20000u

static struct counters counters;

static void count_thread(void *arg)
{
	for (u64 i = 0; i < COUNT_ADDS; i++) {
		counter_add(&counters, 3, 1);
		counter_add(&counters, COUNTERS_MAX - 1, i & 1);
	}
}

static void counters_lose_nothing(void)
{
	struct thread threads[COUNT_THREADS];
	u64 last = 0;

	REQUIRE_EQ(counters_init(&counters), 0);
	for (int i = 0; i < COUNT_THREADS; i++)
		REQUIRE_EQ(thread_create(&threads[i], "count", -1, count_thread, NULL), 0);
	for (int i = 0; i < 100; i++) {
		u64 sum = counter_sum(&counters, 3);

		CHECK_GE(sum, last);
		last = sum;
	}
	for (int i = 0; i < COUNT_THREADS; i++)
		thread_join(&threads[i]);
	CHECK_EQ(counter_sum(&counters, 3), COUNT_THREADS * COUNT_ADDS);
	CHECK_EQ(counter_sum(&counters, COUNTERS_MAX - 1), COUNT_THREADS * COUNT_ADDS / 2);
	CHECK_EQ(counter_sum(&counters, 0), 0);
	counters_destroy(&counters);
	counters_destroy(&counters);
#if CHECKING
	mem_fail_after(1);
	CHECK_EQ(counters_init(&counters), -ENOMEM);
	counters_destroy(&counters);
#endif
}

static void clocks_agree(void)
{
	u64 khz = cycles_khz(), around = clock_ns(), count = cycles(), within = clock_ns(), measured;

	thread_sleep_ns(10 * NSEC_PER_MSEC);
	within = clock_ns() - within;
	measured = cycles_to_ns(cycles() - count);
	around = clock_ns() - around;
	CHECK_GE(within, 10 * NSEC_PER_MSEC);
	CHECK_GT(khz, 1000);
	CHECK_EQ(cycles_khz(), khz);
	/* However far the reads lie apart, the counter's lie between the clock's; a wrong rate is far off. */
	CHECK_MSG(measured > within / 2 && measured < around * 2, "cycle counter says %llu ns, clock %llu to %llu",
		  (unsigned long long)measured, (unsigned long long)within, (unsigned long long)around);
	CHECK_EQ(cycles_to_ns(0), 0);
}

static void random_numbers_repeat(void)
{
	struct rng a, b, c;
	u64 same = 0;

	rng_seed(&a, 42);
	rng_seed(&b, 42);
	rng_seed(&c, 43);
	for (int i = 0; i < 1000; i++) {
		u64 x = rng_next(&a);

		CHECK_EQ(x, rng_next(&b));
		same += x == rng_next(&c);
	}
	CHECK_EQ(same, 0);
	rng_seed(&a, 0);
	CHECK_NE(rng_next(&a), rng_next(&a));
	CHECK_EQ(rng_mix(1, 2), rng_mix(1, 2));
	CHECK_NE(rng_mix(1, 2), rng_mix(2, 1));
	CHECK_NE(rng_mix(0, 0), 0);
	CHECK_NE(rng_random_seed(), 0);
}

static void random_numbers_stay_in_range_and_spread(void)
{
	static const u64 limits[] = { 1, 2, 3, 7, 1000, 1ull << 32, (1ull << 63) + 1, ~0ull };
	u64 counts[16] = { 0 };
	struct rng rng;

	rng_seed(&rng, 7);
	for (size_t i = 0; i < ARRAY_SIZE(limits); i++) {
		for (int j = 0; j < 1000; j++)
			CHECK_LT(rng_below(&rng, limits[i]), limits[i]);
	}
	for (int i = 0; i < 16000; i++)
		counts[rng_below(&rng, 16)]++;
	/* 1000 expected, standard deviation 31: the seed is fixed, so this passes always or never. */
	for (int i = 0; i < 16; i++)
		CHECK_MSG(counts[i] > 850 && counts[i] < 1150, "bucket %d has %llu of about 1000", i,
			  (unsigned long long)counts[i]);
}

static void mutants_switch(void)
{
	const struct mutant_info *info = mutant_table();
	const char *const *names = mutant_names();
	int n = 0;

	for (; info[n].name; n++) {
		CHECK_STR(info[n].name, names[n]);
		CHECK(info[n].story && info[n].story[0] && info[n].oracle && info[n].oracle[0]);
		CHECK_GE(info[n].year, 2000);
		for (int i = 0; i < n; i++)
			CHECK_MSG(strcmp(info[i].name, info[n].name), "%s is in the list twice", info[n].name);
	}
	CHECK(!names[n]);
	CHECK_EQ(n, MUTANT_NR - 1);
	/* The catalogue's part on the notifier core is whole: each number has a mutant, or a reason. */
	for (u32 number = 1; number <= 18; number++) {
		u32 here = 0, missing = 0;

		for (int i = 0; i < n; i++)
			here += info[i].number == number;
		for (const struct mutant_gap *g = mutant_gaps(); g->story; g++)
			missing += g->number == number && g->why[0];
		CHECK_MSG(missing == !here, "number %u: %u mutants, %u reasons", number, here, missing);
	}
	CHECK(!mutant(MUTANT_K12_NO_FLUSH));
	CHECK_EQ(mutant_set("k12-no-flsh"), -ENOENT);
	CHECK_EQ(mutant_set("k12-no-flush"), CHECKING ? 0 : -ENOSYS);
	CHECK_EQ(mutant(MUTANT_K12_NO_FLUSH), CHECKING);
	CHECK(!mutant(MUTANT_K23_NO_WAIT));
	CHECK_EQ(mutant_set("none"), 0);
	CHECK(!mutant(MUTANT_K12_NO_FLUSH));
	CHECK_EQ(mutant_set(NULL), 0);
}

const struct test_case lib_base_tests[] = {
	TEST(err_set_formats_and_returns_code),
	TEST(bug_names_the_place_and_aborts),
	TEST(aligned_memory_is_aligned_and_zero),
	TEST(the_chosen_allocation_fails),
	TEST(thread_ids_are_dense_and_reused),
	TEST(threads_are_limited_not_fatal),
	TEST(bad_processors_are_refused),
	TEST(one_thread_too_many_says_so),
	TEST(signal_before_entering_is_kept),
	TEST(enter_nests),
	TEST(counters_lose_nothing),
	TEST(clocks_agree),
	TEST(random_numbers_repeat),
	TEST(random_numbers_stay_in_range_and_spread),
	TEST(mutants_switch),
	TEST_END,
};
