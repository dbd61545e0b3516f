/* SPDX-License-Identifier: MIT */
/* Tests of the locks themselves: exclusion, sharing, fairness, downgrade. */
#include "lib/lock.h"
#include "lib/thread.h"
#include "tests/lib_suites.h"

#define THREADS 4
#define TURNS TEST_SCALE(20000u)

static DEFINE_LOCK_CLASS(mutex_class, "test mutex");
static DEFINE_LOCK_CLASS(spin_class, "test spinlock");
static DEFINE_LOCK_CLASS(rwlock_class, "test rwlock");
static DEFINE_LOCK_CLASS(rwsem_class, "test rwsem");

static struct mutex mutex = MUTEX_INIT(&mutex_class);
static struct spinlock spin = SPINLOCK_INIT(&spin_class);
static struct rwlock rwlock = RWLOCK_INIT(&rwlock_class);
static struct rw_semaphore rwsem = RWSEM_INIT(&rwsem_class);

static u64 plain[2]; /* under the lock that is tested; both equal outside its write sections */
static u32 torn, stop;

static u32 runners, expected; /* nobody goes until all are there */

static void await_all(void)
{
	fetch_add(&runners, 1);
	while (smp_load_acquire(&runners) < READ_ONCE(expected))
		thread_yield();
}

static void start(struct thread *threads, int nr, void (*fn)(void *))
{
	for (int i = 0; i < nr; i++)
		BUG_ON(thread_create(&threads[i], "lock", -1, fn, (void *)(uintptr_t)i));
}

static void join(struct thread *threads, int nr)
{
	for (int i = 0; i < nr; i++)
		thread_join(&threads[i]);
}

/* @nr: threads that will call await_all(). */
static void reset(u32 nr)
{
	expected = nr;
	plain[0] = plain[1] = 0;
	torn = stop = runners = 0;
}

static void add_both(void)
{
	plain[0]++;
	plain[1]++;
}

static void look(void)
{
	if (plain[0] != plain[1])
		fetch_add(&torn, 1);
}

static void mutex_thread(void *arg)
{
	await_all();
	for (u32 i = 0; i < TURNS; i++) {
		if (!(i & 7) && mutex_trylock(&mutex)) {
			add_both();
			mutex_unlock(&mutex);
		} else {
			mutex_lock(&mutex);
			add_both();
			mutex_unlock(&mutex);
		}
	}
}

static void mutex_excludes(void)
{
	struct thread threads[THREADS];

	reset(THREADS);
	start(threads, THREADS, mutex_thread);
	join(threads, THREADS);
	CHECK_EQ(plain[0], THREADS * TURNS);
	CHECK_EQ(plain[1], THREADS * TURNS);
}

static void spin_thread(void *arg)
{
	await_all();
	for (u32 i = 0; i < TURNS; i++) {
		while (!(i & 7) && !spin_trylock(&spin))
			cpu_relax();
		if (i & 7)
			spin_lock(&spin);
		add_both();
		spin_unlock(&spin);
	}
}

static void spinlock_excludes(void)
{
	struct thread threads[THREADS];

	reset(THREADS);
	start(threads, THREADS, spin_thread);
	join(threads, THREADS);
	CHECK_EQ(plain[0], THREADS * TURNS);
}

static void rwlock_thread(void *arg)
{
	await_all();
	for (u32 i = 0; i < TURNS; i++) {
		if (i % 4) {
			read_lock(&rwlock);
			look();
			read_unlock(&rwlock);
		} else {
			write_lock(&rwlock);
			add_both();
			write_unlock(&rwlock);
		}
	}
}

static void rwlock_excludes_writers(void)
{
	struct thread threads[THREADS];

	reset(THREADS);
	start(threads, THREADS, rwlock_thread);
	join(threads, THREADS);
	CHECK_EQ(plain[0], THREADS * (TURNS / 4));
	CHECK_EQ(torn, 0);
	CHECK_EQ(rwlock.core.state, 0);
}

static void rwsem_thread(void *arg)
{
	await_all();
	for (u32 i = 0; i < TURNS; i++) {
		switch (i % 8) {
		case 0:
			down_write(&rwsem);
			add_both();
			up_write(&rwsem);
			break;
		case 1:
			down_write(&rwsem);
			add_both();
			downgrade_write(&rwsem);
			look();
			up_read(&rwsem);
			break;
		case 2:
			if (down_write_trylock(&rwsem))
				up_write(&rwsem);
			break;
		case 3:
			if (down_read_trylock(&rwsem)) {
				look();
				up_read(&rwsem);
			}
			break;
		default:
			down_read(&rwsem);
			look();
			up_read(&rwsem);
		}
	}
}

static void rwsem_excludes_writers(void)
{
	struct thread threads[THREADS];

	reset(THREADS);
	start(threads, THREADS, rwsem_thread);
	join(threads, THREADS);
	CHECK_EQ(plain[0], THREADS * (TURNS / 4));
	CHECK_EQ(torn, 0);
	CHECK_EQ(rwsem.core.state, 0);
	CHECK(!rwsem_is_locked(&rwsem));
}

static struct completion entered, leave;

static void hold_read(void *arg)
{
	down_read(&rwsem);
	complete(&entered);
	wait_for_completion(&leave);
	up_read(&rwsem);
}

static void hold_write(void *arg)
{
	down_write(&rwsem);
	complete(&entered);
	wait_for_completion(&leave);
	up_write(&rwsem);
}

static void await_contention(void)
{
	while (!rwsem_is_contended(&rwsem))
		thread_yield();
}

static void trylocks_take_only_what_is_free(void)
{
	struct thread thread;

	init_completion(&entered);
	init_completion(&leave);
	start(&thread, 1, hold_read);
	wait_for_completion(&entered);
	CHECK(!down_write_trylock(&rwsem));
	if (CHECK(down_read_trylock(&rwsem)))
		up_read(&rwsem);
	complete(&leave);
	join(&thread, 1);
	start(&thread, 1, hold_write);
	wait_for_completion(&entered);
	CHECK(!down_write_trylock(&rwsem));
	CHECK(!down_read_trylock(&rwsem));
	complete(&leave);
	join(&thread, 1);
	mutex_lock(&mutex);
	CHECK(!lock_core_trylock(&mutex.core));
	mutex_unlock(&mutex);
}

/* A waiting writer stops new readers, and is next. */
static void rwsem_writer_is_next(void)
{
	struct thread writer;

	init_completion(&entered);
	init_completion(&leave);
	down_read(&rwsem);
	start(&writer, 1, hold_write);
	await_contention();
	CHECK(!down_read_trylock(&rwsem));
	CHECK(!wait_for_completion_timeout(&entered, 0));
	up_read(&rwsem);
	wait_for_completion(&entered);
	CHECK(!rwsem_is_contended(&rwsem));
	complete(&leave);
	join(&writer, 1);
}

/* Downgrading lets the waiting readers in, and keeps the writer behind them out. */
static void downgrade_admits_readers(void)
{
	struct thread readers[2], writer;

	init_completion(&entered);
	init_completion(&leave);
	down_write(&rwsem);
	start(readers, 2, hold_read);
	await_contention();
	downgrade_write(&rwsem);
	wait_for_completion(&entered);
	wait_for_completion(&entered);
	start(&writer, 1, hold_write);
	await_contention();
	up_read(&rwsem);
	complete(&leave);
	complete(&leave);
	join(readers, 2);
	wait_for_completion(&entered);
	complete(&leave);
	join(&writer, 1);
	CHECK_EQ(rwsem.core.state, 0);
}

static u64 reader_turns;

/* Readers overlap: one lets go only when another has come after it, so that the lock is hardly ever free. */
static void overlapping_reader(void *arg)
{
	await_all();
	while (!READ_ONCE(stop)) {
		u64 mine;

		down_read(&rwsem);
		mine = fetch_add(&reader_turns, 1);
		for (int i = 0; i < 50 && READ_ONCE(reader_turns) == mine + 1; i++)
			cpu_relax();
		up_read(&rwsem);
	}
}

static void rwsem_writer_is_not_starved(void)
{
	struct thread readers[3];
	u32 turns = TEST_SCALE(500), i;

	reset(4);
	start(readers, 3, overlapping_reader);
	await_all();
	for (i = 0; i < turns; i++) {
		down_write(&rwsem);
		up_write(&rwsem);
	}
	WRITE_ONCE(stop, 1);
	join(readers, 3);
	CHECK_EQ(i, turns);
}

static void greedy_writer(void *arg)
{
	await_all();
	while (!READ_ONCE(stop)) {
		down_write(&rwsem);
		add_both();
		up_write(&rwsem);
	}
}

static void rwsem_reader_is_not_starved(void)
{
	struct thread writers[2];
	u32 turns = TEST_SCALE(500), i;

	reset(3);
	start(writers, 2, greedy_writer);
	await_all();
	for (i = 0; i < turns; i++) {
		down_read(&rwsem);
		look();
		up_read(&rwsem);
	}
	WRITE_ONCE(stop, 1);
	join(writers, 2);
	CHECK_EQ(i, turns);
	CHECK_EQ(torn, 0);
}

const struct test_case lib_lock_tests[] = {
	TEST(mutex_excludes),
	TEST(spinlock_excludes),
	TEST(rwlock_excludes_writers),
	TEST(rwsem_excludes_writers),
	TEST(trylocks_take_only_what_is_free),
	TEST(rwsem_writer_is_next),
	TEST(downgrade_admits_readers),
	TEST(rwsem_writer_is_not_starved),
	TEST(rwsem_reader_is_not_starved),
	TEST_END,
};
