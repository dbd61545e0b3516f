/* SPDX-License-Identifier: MIT */
/*
 * A signal ends a wait: one handler, one line in it.
 *
 *   make && ./interrupt
 *
 * One thread unmaps memory, and a subscriber keeps it waiting in the middle. Others want
 * to read there, to register and to get meanwhile. SIGUSR1 ends each with -EINTR, whether it
 * sleeps already or has yet to be called: the reader at once, the others when they have the
 * lock of the address space and go on to take all others. Later all three succeed.
 * Exit 0: so it was; 1: it was not; 2: could not run.
 */
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <tain/mm.h>
#include <tain/notifier.h>

#define AT 0x10000000ull
#define BYTES 0x10000ull

static struct notifier_mm *handle;
static struct mm_struct *mm;

/* --- a subscriber that takes its time ---------------------------------------------------- */

static sem_t opened, go;

static int slow_start(struct mmu_notifier *n, const struct mmu_notifier_range *range)
{
	sem_post(&opened);
	while (sem_wait(&go))
		;
	return 0;
}

static const struct mmu_notifier_ops slow_ops = { .invalidate_range_start = slow_start };

static hva_t unmap_at = AT;

static void *unmapper(void *unused)
{
	return (void *)(long)mm_munmap(mm, unmap_at, BYTES);
}

/* --- three waits --------------------------------------------------------------------------- */

static bool invalidate(struct mmu_interval_notifier *s, const struct mmu_notifier_range *range, uint64_t cur_seq)
{
	mmu_interval_set_seq(s, cur_seq);
	return true;
}

static int alloc(struct notifier_mm *unused, struct mmu_notifier **n)
{
	*n = calloc(1, sizeof(**n));
	return *n ? 0 : -ENOMEM;
}

static void free_it(struct mmu_notifier *n)
{
	free(n);
}

static const struct mmu_interval_notifier_ops interval_ops = { .invalidate = invalidate };
static const struct mmu_notifier_ops got_ops = { .alloc_notifier = alloc, .free_notifier = free_it };
static const struct mmu_notifier_ops no_ops;

static struct mmu_interval_notifier interval;
static struct mmu_notifier registered = { .ops = &no_ops }, *got;

static int do_register(void)
{
	return mmu_notifier_register(&registered, handle);
}

static int do_get(void)
{
	return mmu_notifier_get(&got_ops, handle, &got);
}

static int do_read(void)
{
	uint64_t seq;

	return mmu_interval_read_begin(&interval, &seq);
}

struct waiter {
	const char *name;
	int (*call)(void);
	pthread_t thread;
	int answer, again;
	bool pending, still;
};

static struct waiter waiters[] = {
	{ .name = "mmu_interval_read_begin", .call = do_read }, /* first: see open_section() */
	{ .name = "mmu_notifier_register", .call = do_register },
	{ .name = "mmu_notifier_get", .call = do_get },
};
#define WAITERS (sizeof(waiters) / sizeof(waiters[0]))

static void on_usr1(int signal)
{
	thread_signal_note();
}

static void *wait_for_it(void *arg)
{
	struct waiter *w = arg;

	w->answer = w->call();
	w->again = w->call(); /* nothing has been cleared: no need to wait for that */
	w->pending = thread_signal_clear();
	w->still = thread_signal_clear();
	return NULL;
}

/* @nap: give it time to fall asleep first. Either way it has to end. Return: 0; -errno. */
static int interrupt(struct waiter *w, bool nap)
{
	struct timespec ms20 = { .tv_nsec = 20000000 };
	int ret = -pthread_create(&w->thread, NULL, wait_for_it, w);

	if (ret)
		return ret;
	if (nap)
		nanosleep(&ms20, NULL);
	return -pthread_kill(w->thread, SIGUSR1);
}

/* Return: 0; 1: it did not end as it should. */
static int outcome(struct waiter *w)
{
	pthread_join(w->thread, NULL);
	printf("%s: %s, again %s\n", w->name, strerror(-w->answer), strerror(-w->again));
	return w->answer != -EINTR || w->again != -EINTR || !w->pending || w->still;
}

/* Return: 0; 1; -errno. */
static int open_section(bool nap)
{
	pthread_t thread;
	void *unmapped;
	int bad, ret;

	ret = -pthread_create(&thread, NULL, unmapper, NULL);
	if (ret)
		return ret;
	while (sem_wait(&opened))
		;
	for (size_t i = 0; i < WAITERS && !ret; i++)
		ret = interrupt(&waiters[i], nap);
	if (ret)
		return ret;
	bad = outcome(&waiters[0]); /* the section is open still */
	sem_post(&go);
	for (size_t i = 1; i < WAITERS; i++)
		bad |= outcome(&waiters[i]);
	pthread_join(thread, &unmapped);
	return bad || unmapped;
}

static int run(void)
{
	struct mmu_notifier slow = { .ops = &slow_ops };
	int bad, ret;

	ret = mm_mmap(mm, AT, 3 * BYTES, TAIN_PROT_READ, TAIN_MAP_FIXED, NULL);
	ret = ret ? ret : mmu_interval_notifier_insert(&interval, handle, AT, 2 * BYTES, &interval_ops);
	ret = ret ? ret : mmu_notifier_register(&slow, handle);
	ret = ret ? ret : open_section(false);
	unmap_at += BYTES;
	ret = ret ? ret : open_section(true);
	if (ret)
		return ret;
	bad = 0;
	for (size_t i = 0; i < WAITERS; i++) {
		ret = waiters[i].call();
		printf("%s, the section is over: %s\n", waiters[i].name, strerror(-ret));
		bad |= ret != 0;
	}
	if (bad)
		return 1;
	mmu_notifier_put(got);
	mmu_notifier_unregister(&registered, handle);
	mmu_interval_notifier_remove(&interval);
	mmu_notifier_unregister(&slow, handle);
	return 0;
}

int main(void)
{
	struct sigaction action = { .sa_handler = on_usr1 };
	struct frame_arena *arena;
	int ret;

	sigaction(SIGUSR1, &action, NULL);
	sem_init(&opened, 0, 0);
	sem_init(&go, 0, 0);
	ret = frame_arena_create(8 << 20, &arena);
	ret = ret ? ret : mm_create(arena, "mmap_sem", &mm);
	if (!ret) {
		handle = mm_notifier(mm);
		ret = run();
	}
	if (ret < 0) {
		fprintf(stderr, "interrupt: %s\n", strerror(-ret));
		return 2;
	}
	if (!ret) {
		mmput(mm);
		mmu_notifier_synchronize();
		frame_arena_destroy(arena);
	}
	return ret;
}
