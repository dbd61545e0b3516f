/* SPDX-License-Identifier: MIT */
/* The matrix: which userfaultfd event an operation sends to a handler that registered the range. */
#include "lab/matrix/internal.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lab/system/linux_compat.h"
#include "lib/thread.h"

#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00) /* of /dev/userfaultfd */
#endif

#define EVENTS                                                                                                         \
	(UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_UNMAP)

struct listener {
	int fd;
	int stop; /* eventfd */
	struct uffdio_range range;
	u32 events; /* written by the reader; read when it has ended */
	struct thread thread;
};

static int open_uffd(u64 features, struct err *why)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK), device, error = errno;

	if (fd < 0 && error == EPERM) {
		device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
		if (device >= 0) {
			fd = ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
			error = errno;
			close(device);
		}
	}
	if (fd < 0)
		return err_set(why, -error, "userfaultfd: %s%s", strerror(error),
			       error == EPERM ? ": run as root, or sysctl vm.unprivileged_userfaultfd=1" : "");
	if (!ioctl(fd, UFFDIO_API, &api))
		return fd;
	error = errno;
	close(fd);
	return err_set(why, -error, "userfaultfd: UFFDIO_API: %s", strerror(error));
}

/* A missing page of the operation's own: nobody will bring it, so nobody may wait for it. */
static void let_go(struct listener *l)
{
	ioctl(l->fd, UFFDIO_UNREGISTER, &l->range);
	ioctl(l->fd, UFFDIO_WAKE, &l->range);
}

static void take_event(struct listener *l, const struct uffd_msg *msg)
{
	switch (msg->event) {
	case UFFD_EVENT_UNMAP:
		l->events |= MATRIX_EVENT_UNMAP;
		break;
	case UFFD_EVENT_REMOVE:
		l->events |= MATRIX_EVENT_REMOVE;
		break;
	case UFFD_EVENT_REMAP:
		l->events |= MATRIX_EVENT_REMAP;
		break;
	case UFFD_EVENT_FORK:
		l->events |= MATRIX_EVENT_FORK;
		close((int)msg->arg.fork.ufd); /* the child's own */
		break;
	case UFFD_EVENT_PAGEFAULT:
		l->events |= MATRIX_EVENT_PAGEFAULT;
		let_go(l);
		break;
	}
}

/* The operation waits until its event was read; what it sent is therefore here when it returns. */
static void listener_thread(void *arg)
{
	struct listener *l = arg;
	struct pollfd p[] = { { .fd = l->fd, .events = POLLIN }, { .fd = l->stop, .events = POLLIN } };
	struct uffd_msg msg;

	thread_block_signals();
	for (;;) {
		if (poll(p, ARRAY_SIZE(p), -1) < 0 && errno != EINTR)
			return;
		while (read(l->fd, &msg, sizeof(msg)) == sizeof(msg))
			take_event(l, &msg);
		if (p[1].revents)
			return;
	}
}

static int register_range(struct listener *l, struct host *host, struct err *why)
{
	struct uffdio_register reg = {
		.range = { .start = host->data, .len = host->bytes },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};

	l->range = reg.range;
	if (!ioctl(l->fd, UFFDIO_REGISTER, &reg))
		return 0;
	return err_set(why, -errno, "UFFDIO_REGISTER refuses %s: %s", host_backing_table[host->backing].name,
		       strerror(errno));
}

static int listen_to(struct host *host, struct listener *l, enum host_op op, struct err *never, struct err *why)
{
	const u64 one = 1;
	int ret;

	l->fd = open_uffd(EVENTS, NULL);
	if (l->fd < 0) /* FORK is for the privileged alone */
		l->fd = open_uffd(op == OP_FORK ? EVENTS : EVENTS & ~(u64)UFFD_FEATURE_EVENT_FORK, why);
	if (l->fd < 0)
		return l->fd;
	ret = register_range(l, host, why);
	if (ret)
		*never = *why;
	else
		ret = thread_create(&l->thread, "uffd", -1, listener_thread, l);
	if (ret)
		return ret;
	ret = host->ops->begin(host, op, 0, MATRIX_RANGE, why);
	if (!ret)
		ret = host->ops->end(host, why);
	if (write(l->stop, &one, sizeof(one)) != sizeof(one))
		BUG("eventfd: %s", strerror(errno));
	thread_join(&l->thread);
	return ret;
}

int matrix_uffd(enum host_op op, enum host_backing backing, struct err *never, s64 *events, struct err *why)
{
	struct host host = { .backing = backing, .bytes = MATRIX_BYTES, .limbo_bytes = MATRIX_RANGE };
	struct listener l = { .fd = -1, .stop = eventfd(0, EFD_CLOEXEC) };
	int ret;

	if (l.stop < 0)
		return err_set(why, -errno, "eventfd: %s", strerror(errno));
	ret = host_create(&host, why);
	if (!ret) {
		ret = matrix_fill(&host);
		ret = ret ?: listen_to(&host, &l, op, never, why);
		if (l.fd >= 0)
			close(l.fd); /* first: nobody reads it any more */
		host_destroy(&host);
	}
	close(l.stop);
	*events = ret ? MATRIX_UNKNOWN : (s64)l.events;
	return ret;
}
