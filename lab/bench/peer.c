/* SPDX-License-Identifier: MIT */
/* The peers: Linux's own anonymous fault, and other people's programs. */
#include "lab/bench/bench.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/alloc.h"
#include "lib/cgroup.h"
#include "lib/rng.h"
#include "lib/thread.h"
#include "lib/time.h"

#define PEER_NS (120 * NSEC_PER_SEC)

extern char **environ;

const char *const bench_place_names[BENCH_PLACE_NR] = { "anywhere", "on one processor" };

/* The order of the pages: 0, 1, 2 ..., shuffled for RANDOM. */
static u32 *page_order(u64 pages, enum bench_order order, u64 seed)
{
	u32 *page = mem_alloc(pages * sizeof(*page));
	struct rng rng;

	if (!page)
		return NULL;
	for (u64 i = 0; i < pages; i++)
		page[i] = (u32)i;
	if (order == BENCH_SEQUENTIAL)
		return page;
	rng_seed(&rng, seed);
	for (u64 i = pages - 1; i > 0; i--) {
		u64 j = rng_below(&rng, i + 1);
		u32 swap = page[i];

		page[i] = page[j];
		page[j] = swap;
	}
	return page;
}

int bench_linux_faults(u64 bytes, enum bench_order order, u64 seed, struct bench_row *row, struct hist *samples)
{
	u64 pages = bytes / PAGE_SIZE, start;
	u32 *page = page_order(pages, order, seed);
	char *p;

	if (!page)
		return -ENOMEM;
	p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED) {
		mem_free(page);
		return -ENOMEM;
	}
	madvise(p, bytes, MADV_NOHUGEPAGE);
	start = clock_ns();
	for (u64 i = 0; i < pages; i++) {
		u64 begin = bench_stamp_begin();

		WRITE_ONCE(*(u64 *)(p + (u64)page[i] * PAGE_SIZE), i + 1);
		hist_add(samples, cycles_to_unit(bench_stamp_end() - begin));
	}
	row->elapsed_ns += clock_ns() - start;
	row->accesses += pages;
	row->faults += pages;
	row->ran = true;
	munmap(p, bytes);
	mem_free(page);
	return 0;
}

/* Read until the end, the limit of @output, or the time. */
static int read_output(int fd, char *output, size_t bytes, const u32 *stop)
{
	u64 start = clock_ns();
	size_t used = 0;
	char rest[256];

	for (;;) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		u64 spent = clock_ns() - start;
		ssize_t n;

		if (spent > PEER_NS)
			return -ETIMEDOUT;
		if (stop && READ_ONCE(*stop))
			return -EINTR;
		if (poll(&p, 1, 200) <= 0)
			continue;
		n = used + 1 < bytes ? read(fd, output + used, bytes - used - 1) : read(fd, rest, sizeof(rest));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : 0;
		if (used + 1 < bytes)
			used += (size_t)n;
		output[used] = 0;
	}
}

int bench_peer_output(char *const argv[], int cpu, char *output, size_t bytes, const u32 *stop, struct err *err)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	u64 kills = cgroup_oom_kills("");
	int fds[2], status, ret;
	char by[CGROUP_KILLED_TEXT];
	pid_t pid;

	output[0] = 0;
	if (pipe2(fds, O_CLOEXEC))
		return err_set(err, -errno, "pipe: %s", strerror(errno));
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, fds[1], STDOUT_FILENO);
	posix_spawn_file_actions_adddup2(&actions, fds[1], STDERR_FILENO);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP); /* to end it with all that it starts */
	ret = cpu < 0 ? 0 : thread_pin(cpu);			/* a child inherits it */
	ret = ret ?: -posix_spawnp(&pid, argv[0], &actions, &attr, argv, environ);
	thread_pin(-1);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&actions);
	close(fds[1]);
	if (ret) {
		close(fds[0]);
		return err_set(err, ret, "%s: %s", argv[0], strerror(-ret));
	}
	ret = read_output(fds[0], output, bytes, stop);
	close(fds[0]);
	if (ret)
		kill(-pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (ret)
		return err_set(err, ret, "%s: %s", argv[0], strerror(-ret));
	if (WIFSIGNALED(status)) {
		cgroup_killed_text(kills, WTERMSIG(status), by, sizeof(by));
		return err_set(err, -EIO, "%s was killed %s", argv[0], by);
	}
	if (WEXITSTATUS(status))
		return err_set(err, -EIO, "%s failed: %.120s", argv[0], output);
	return 0;
}

static int first_cpu(void)
{
	cpu_set_t allowed;

	if (sched_getaffinity(0, sizeof(allowed), &allowed))
		return -1;
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &allowed))
			return cpu;
	return -1;
}

/*
 * It says "Total guest execution time:    0.366104250s", for so many pages. Not its "Overall demand paging rate": that
 * of Linux before 6.7 divides nanoseconds by 10^8.
 */
int bench_peer_rate(const char *program, const char *uffd, u64 bytes, enum bench_place place, const u32 *stop,
		    double *rate, struct err *err)
{
	static const char key[] = "guest execution time:";
	u64 megabytes = bytes >> 20;
	char size[32], output[4096];
	char *argv[] = { (char *)program, (char *)"-v", (char *)"1", (char *)"-b", size,
			 (char *)"-u",	  (char *)uffd, NULL };
	const char *at;
	double seconds;
	int ret;

	if (!uffd)
		argv[5] = NULL;
	snprintf(size, sizeof(size), "%lluM", (unsigned long long)megabytes);
	ret = bench_peer_output(argv, place == BENCH_ONE_CPU ? first_cpu() : -1, output, sizeof(output), stop, err);
	if (ret)
		return ret;
	at = strstr(output, key);
	seconds = at ? strtod(at + strlen(key), NULL) : 0;
	if (!(seconds > 0))
		return err_set(err, -EIO, "%s printed no time", argv[0]);
	*rate = (double)(megabytes << (20 - PAGE_SHIFT)) / seconds;
	return 0;
}
