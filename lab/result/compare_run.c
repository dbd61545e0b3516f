/* SPDX-License-Identifier: MIT */
/* Running two commands in turn: see lab/result/compare.h. */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lab/result/compare.h"
#include "lab/result/result_read.h"
#include "lib/cgroup.h"
#include "lib/rng.h"
#include "lib/thread.h"
#include "lib/time.h"

#define POLL_NS (2 * NSEC_PER_MSEC)

extern char **environ;

struct runs {
	const struct compare_run_config *config;
	char dir[64];
	char result[96], errors[96]; /* of the run under way */
	pid_t *group;		     /* of its processes, 0 between two runs; the keeper sees it too */
	pid_t keeper;
	int pipe; /* to it; its end is compare's */
};

enum compare_side compare_turn(u64 seed, u32 turn)
{
	/* A coin for each pair, as the test turns pairs round: ABBA would toss one for two of them. */
	bool b_first = rng_mix(seed, turn / 2) & 1;

	return (turn % 2 != b_first) ? COMPARE_B : COMPARE_A;
}

static char side_letter(enum compare_side side)
{
	return side == COMPARE_A ? 'A' : 'B';
}

/* The last line that the command complained with. */
static void last_line(const char *path, char *text, size_t n)
{
	FILE *file = fopen(path, "re");
	char line[160];

	text[0] = 0;
	while (file && fgets(line, sizeof(line), file))
		if (line[strspn(line, " \n")])
			snprintf(text, n, "%.*s", (int)strcspn(line, "\n"), line);
	if (file)
		fclose(file);
}

/* A process group of its own: what sh started ends with it. */
static int start(struct runs *r, enum compare_side side, pid_t *pid, struct err *err)
{
	char script[4096];
	char *argv[] = { (char *)"sh", (char *)"-c", script, r->result, NULL };
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	int ret;

	if (snprintf(script, sizeof(script), "%s --json \"$0\"", r->config->command[side]) >= (int)sizeof(script))
		return err_set(err, -EINVAL, "command %c is too long", side_letter(side));
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
	posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, r->errors, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP);
	ret = -posix_spawnp(pid, "sh", &actions, &attr, argv, environ);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&actions);
	WRITE_ONCE(*r->group, ret ? 0 : *pid);
	return ret ? err_set(err, ret, "cannot start command %c: %s", side_letter(side), strerror(-ret)) : 0;
}

/* Return: 0 and @status; -EINTR, -ETIMEDOUT: it was killed. */
static int wait_for(struct runs *r, enum compare_side side, pid_t pid, int *status, struct err *err)
{
	u64 begin = clock_ns();
	int ret = 0;

	while (!waitpid(pid, status, WNOHANG)) {
		if (r->config->stop && READ_ONCE(*r->config->stop))
			ret = err_set(err, -EINTR, "stopped");
		else if (r->config->timeout_ns && clock_ns() - begin > r->config->timeout_ns)
			ret = err_set(err, -ETIMEDOUT, "command %c has not ended within %llu s", side_letter(side),
				      r->config->timeout_ns / NSEC_PER_SEC);
		if (ret) {
			kill(-pid, SIGKILL);
			while (waitpid(pid, status, 0) < 0 && errno == EINTR)
				;
			return ret;
		}
		thread_sleep_ns(POLL_NS);
	}
	return 0;
}

/* What a shell exits with whose command was killed, less the signal. */
#define BY_SHELL 128

static int was_killed(enum compare_side side, u64 kills, int signal, struct err *err)
{
	char by[CGROUP_KILLED_TEXT];

	cgroup_killed_text(kills, signal, by, sizeof(by));
	return err_set(err, -EIO, "command %c was killed %s", side_letter(side), by);
}

static int one_run(struct runs *r, enum compare_side side, json_t **doc, struct err *err)
{
	u64 kills = cgroup_oom_kills("");
	char complaint[160];
	int status, ret;
	pid_t pid;

	ret = start(r, side, &pid, err);
	ret = ret ?: wait_for(r, side, pid, &status, err);
	WRITE_ONCE(*r->group, 0);
	if (ret)
		return ret;
	last_line(r->errors, complaint, sizeof(complaint));
	if (WIFSIGNALED(status) || WEXITSTATUS(status) == BY_SHELL + SIGKILL)
		return was_killed(side, kills, WIFSIGNALED(status) ? WTERMSIG(status) : SIGKILL, err);
	if (WEXITSTATUS(status))
		return err_set(err, -EIO, "command %c ended with status %d%s%.150s", side_letter(side),
			       WEXITSTATUS(status), complaint[0] ? ": " : "", complaint);
	ret = result_load(r->result, doc, err);
	if (ret == -ENOENT)
		return err_set(err, -EINVAL, "command %c wrote no result: does it take --json?", side_letter(side));
	unlink(r->result);
	return ret;
}

static int make_dir(struct runs *r, struct err *err)
{
	const char *where = getenv("TMPDIR");

	if (!where || !*where || strlen(where) > 32)
		where = "/tmp";
	snprintf(r->dir, sizeof(r->dir), "%s/tain-compare.XXXXXX", where);
	if (!mkdtemp(r->dir))
		return err_set(err, -errno, "cannot make a directory in %s: %s", where, strerror(errno));
	snprintf(r->result, sizeof(r->result), "%s/result.json", r->dir);
	snprintf(r->errors, sizeof(r->errors), "%s/errors", r->dir);
	return 0;
}

/* A command that was killed may have left more in it than its result. */
static void remove_dir(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *entry;

	while (dir && (entry = readdir(dir)))
		unlinkat(dirfd(dir), entry->d_name, 0); /* . and .. stay */
	if (dir)
		closedir(dir);
	rmdir(path);
}

/* Waits for compare's end, by kill -9 too; then what compare has started ends, and its files go. */
static void keep(struct runs *r, int pipe)
{
	static const int ignored[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP };
	int null = open("/dev/null", O_RDWR);
	char byte;

	setsid();
	for (size_t i = 0; i < ARRAY_SIZE(ignored); i++)
		signal(ignored[i], SIG_IGN);
	for (int fd = 0; fd < 1024; fd++) /* nobody waits for its end of anything */
		if (fd <= STDERR_FILENO && null >= 0)
			dup2(null, fd);
		else if (fd != pipe)
			close(fd);
	while (read(pipe, &byte, 1) < 0 && errno == EINTR)
		;
	if (READ_ONCE(*r->group))
		kill(-READ_ONCE(*r->group), SIGKILL);
	remove_dir(r->dir);
	_exit(0);
}

static int start_keeper(struct runs *r, struct err *err)
{
	int fds[2] = { -1, -1 }, ret;

	r->group = mmap(NULL, sizeof(*r->group), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (r->group == MAP_FAILED)
		return err_set(err, -errno, "no memory: %s", strerror(errno));
	r->keeper = pipe2(fds, O_CLOEXEC) ? -1 : fork();
	if (!r->keeper) {
		close(fds[1]);
		keep(r, fds[0]);
	}
	if (r->keeper < 0) {
		ret = err_set(err, -errno, "cannot start a process: %s", strerror(errno));
		for (int i = 0; i < 2; i++)
			if (fds[i] >= 0)
				close(fds[i]);
		munmap(r->group, sizeof(*r->group));
		return ret;
	}
	close(fds[0]);
	r->pipe = fds[1];
	return 0;
}

static void stop_keeper(struct runs *r)
{
	close(r->pipe);
	while (waitpid(r->keeper, NULL, 0) < 0 && errno == EINTR)
		;
	munmap(r->group, sizeof(*r->group));
}

int compare_run(const struct compare_run_config *config, json_t **docs[COMPARE_SIDES], struct err *err)
{
	struct runs r = { .config = config };
	u32 done[COMPARE_SIDES] = { 0 };
	int ret = make_dir(&r, err);

	if (ret)
		return ret;
	ret = start_keeper(&r, err);
	if (ret) {
		rmdir(r.dir);
		return ret;
	}
	for (u32 turn = 0; turn < 2 * config->rounds && !ret; turn++) {
		enum compare_side side = compare_turn(config->seed, turn);

		if (config->progress)
			config->progress(turn, 2ull * config->rounds, config->arg);
		ret = one_run(&r, side, &docs[side][done[side]], err);
		done[side]++;
	}
	stop_keeper(&r);
	return ret;
}
