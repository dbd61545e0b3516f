/* SPDX-License-Identifier: MIT */
/* Outliving tain: see lab/system/keeper.h. */
#include "lab/system/keeper.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static bool kept(int fd, int pipe, const int *keep)
{
	for (; *keep >= 0; keep++)
		if (*keep == fd)
			return true;
	return fd == pipe;
}

/* Signals for a whole group or session are not for it, and nobody waits for its end of a pipe. */
static void detach(const char *name, int pipe, const int *keep)
{
	static const int ignored[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE, SIGTSTP };
	int null = open("/dev/null", O_RDWR);

	setsid();
	for (size_t i = 0; i < ARRAY_SIZE(ignored); i++)
		signal(ignored[i], SIG_IGN);
	prctl(PR_SET_NAME, name);
	if (null >= 0)
		for (int fd = 0; fd <= STDERR_FILENO; fd++)
			dup2(null, fd);
	for (int fd = STDERR_FILENO + 1; fd < 1024; fd++)
		if (!kept(fd, pipe, keep))
			close(fd);
	if (chdir("/"))
		return;
}

static void wait_for(pid_t parent, int pipe)
{
	struct pollfd p[2] = { { .fd = pipe, .events = POLLIN }, { .fd = -1, .events = POLLIN } };

	p[1].fd = (int)syscall(SYS_pidfd_open, parent, 0); /* before Linux 5.3 the pipe's end must do */
	if (getppid() == parent)
		while (poll(p, 2, -1) < 0 && errno == EINTR)
			;
}

int keeper_start(struct keeper *k, const char *name, const int *keep, void (*fn)(void *arg), void *arg, struct err *err)
{
	pid_t parent = getpid();
	int fds[2], ret;

	k->pid = 0;
	if (pipe2(fds, O_CLOEXEC))
		return err_set(err, -errno, "cannot start the process %s: %s", name, strerror(errno));
	k->pid = fork();
	if (!k->pid) {
		detach(name, fds[0], keep);
		wait_for(parent, fds[0]);
		fn(arg);
		_exit(0);
	}
	ret = k->pid < 0 ? -errno : 0;
	close(fds[0]);
	k->pipe = fds[1];
	if (!ret)
		return 0;
	close(k->pipe);
	k->pid = 0;
	return err_set(err, ret, "cannot start the process %s: %s", name, strerror(-ret));
}

void keeper_end(struct keeper *k)
{
	if (!k->pid)
		return;
	close(k->pipe);
	while (waitpid(k->pid, NULL, 0) < 0 && errno == EINTR)
		;
	k->pid = 0;
}
