/* SPDX-License-Identifier: MIT */
/*
 * A userfaultfd handler by Firecracker's convention: it listens on a Unix socket, takes
 * the layout of the memory and the userfaultfd from whoever connects, and answers page
 * faults from a snapshot file. One thread, one connection after the other.
 *
 *   uffd-handler SOCKET SNAPSHOT [--wrong=remove|again]
 *
 * The three things that handlers get wrong, and how this one does them:
 *
 * - UFFDIO_COPY and UFFDIO_ZEROPAGE fail with EAGAIN while the address space changes,
 *   until the event of that change has been read. Such a fault is put aside, and tried
 *   again after the next events.
 * - Faults are read before events that are older. A fault at an address that nobody
 *   knows is put aside too: the event that explains it may follow.
 * - Of what was read together, events come first: the kernel goes on with a removal as
 *   soon as its event has been read, and a page copied after it would stay.
 *
 * --wrong=remove ignores REMOVE; --wrong=again gives a fault up at EAGAIN. They are for
 * testing testers: `tain uffd-check` must report them.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define PAGE 4096ull
#define SPACES 64   /* the process itself and its forked children */
#define PIECES 4096 /* ranges in one address space */
#define ASIDE 1024  /* faults */
#define MESSAGES 32

/* Memory at [start, + len) is the snapshot's from offset on. */
struct piece {
	uint64_t start, len, offset;
};

struct space {
	int fd; /* -1: free */
	int nr;
	struct piece piece[PIECES];
	uint8_t *removed; /* one byte per page of the snapshot */
	int aside;
	uint64_t fault[ASIDE];
};

static struct space space[SPACES];
static const char *snapshot;
static uint64_t snapshot_bytes;
static bool wrong_remove, wrong_again;

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void close_space(struct space *s)
{
	close(s->fd);
	free(s->removed);
	s->removed = NULL;
	s->fd = -1;
}

/* --- where memory is ------------------------------------------------------------ */

static void add_piece(struct space *s, uint64_t start, uint64_t len, uint64_t offset)
{
	if (s->nr == PIECES) {
		fprintf(stderr, "uffd-handler: more than %d ranges\n", PIECES);
		exit(1);
	}
	s->piece[s->nr++] = (struct piece){ start, len, offset };
}

/* Make @at a border between pieces. */
static void split(struct space *s, uint64_t at)
{
	for (int i = 0; i < s->nr; i++) {
		struct piece *p = &s->piece[i];

		if (at > p->start && at < p->start + p->len) {
			uint64_t first = at - p->start;

			add_piece(s, at, p->len - first, p->offset + first);
			p->len = first;
			return;
		}
	}
}

static void remove_range(struct space *s, uint64_t start, uint64_t end)
{
	for (int i = 0; i < s->nr; i++) {
		struct piece *p = &s->piece[i];
		uint64_t a = p->start > start ? p->start : start;
		uint64_t b = p->start + p->len < end ? p->start + p->len : end;

		for (; a < b; a += PAGE)
			s->removed[(p->offset + a - p->start) / PAGE] = 1;
	}
}

static void merge(struct space *s)
{
	for (int i = 0; i < s->nr; i++)
		for (int j = 0; j < s->nr; j++) {
			struct piece *a = &s->piece[i], *b = &s->piece[j];

			if (i == j || a->start + a->len != b->start || a->offset + a->len != b->offset)
				continue;
			a->len += b->len;
			*b = s->piece[--s->nr];
			i = -1;
			break;
		}
}

static void move(struct space *s, uint64_t from, uint64_t to, uint64_t len)
{
	split(s, from);
	split(s, from + len);
	for (int i = 0; i < s->nr; i++)
		if (s->piece[i].start >= from && s->piece[i].start < from + len)
			s->piece[i].start += to - from;
	merge(s);
}

/* --- faults --------------------------------------------------------------------------- */

static void wake(struct space *s, uint64_t at)
{
	struct uffdio_range range = { at, PAGE };

	ioctl(s->fd, UFFDIO_WAKE, &range);
}

/* Return: 0 or an errno; EAGAIN: not now; ENOENT: nothing is known there. */
static int resolve(struct space *s, uint64_t at)
{
	for (int i = 0; i < s->nr; i++) {
		struct piece *p = &s->piece[i];
		uint64_t offset = p->offset + at - p->start;

		if (at < p->start || at >= p->start + p->len)
			continue;
		if (s->removed[offset / PAGE]) {
			struct uffdio_zeropage z = { .range = { at, PAGE } };

			return ioctl(s->fd, UFFDIO_ZEROPAGE, &z) ? errno : 0;
		} else {
			struct uffdio_copy c = { .dst = at,
						 .src = (uint64_t)(uintptr_t)snapshot + offset,
						 .len = PAGE };

			return ioctl(s->fd, UFFDIO_COPY, &c) ? errno : 0;
		}
	}
	return ENOENT;
}

/* @again: it has been put aside before, and events came since. */
static void fault(struct space *s, uint64_t at, bool again)
{
	int error = resolve(s, at);

	if (error == EAGAIN && wrong_again)
		return;
	if ((error == EAGAIN || (error == ENOENT && !again)) && s->aside < ASIDE)
		s->fault[s->aside++] = at;
	else if (error)
		wake(s, at); /* EEXIST: it is there. ENOENT: it is gone. Either way the access is repeated */
}

/* What was put aside, once more. Return: is there any left? */
static bool retry(struct space *s)
{
	uint64_t list[ASIDE];
	int nr = s->aside;

	memcpy(list, s->fault, nr * sizeof(list[0]));
	s->aside = 0;
	for (int i = 0; i < nr; i++)
		fault(s, list[i], true);
	return s->aside;
}

/* --- events ------------------------------------------------------------------------------ */

static void forked(struct space *parent, int fd)
{
	for (int i = 1; i < SPACES; i++) {
		struct space *s = &space[i];

		/* A child that is gone sends no event: its first page tells. */
		if (s->fd >= 0 && (!s->nr || resolve(s, s->piece[0].start) == ESRCH))
			close_space(s);
	}
	for (int i = 1; i < SPACES; i++) {
		struct space *s = &space[i];

		if (s->fd >= 0)
			continue;
		s->nr = parent->nr;
		memcpy(s->piece, parent->piece, parent->nr * sizeof(s->piece[0]));
		s->removed = malloc(snapshot_bytes / PAGE);
		if (!s->removed)
			die("malloc");
		memcpy(s->removed, parent->removed, snapshot_bytes / PAGE);
		s->aside = 0;
		s->fd = fd;
		return;
	}
	fprintf(stderr, "uffd-handler: more than %d children\n", SPACES - 1);
	close(fd);
}

static void event(struct space *s, const struct uffd_msg *m)
{
	switch (m->event) {
	case UFFD_EVENT_REMOVE:
		if (!wrong_remove)
			remove_range(s, m->arg.remove.start, m->arg.remove.end);
		break;
	case UFFD_EVENT_UNMAP: /* what is mapped there next is fresh */
		remove_range(s, m->arg.remove.start, m->arg.remove.end);
		break;
	case UFFD_EVENT_REMAP:
		move(s, m->arg.remap.from, m->arg.remap.to, m->arg.remap.len);
		break;
	case UFFD_EVENT_FORK:
		forked(s, (int)m->arg.fork.ufd);
		break;
	}
}

static void serve(struct space *s)
{
	struct uffd_msg m[MESSAGES];
	ssize_t n = read(s->fd, m, sizeof(m));

	if (n < 0 && errno != EAGAIN && errno != EINTR)
		die("read");
	n = n < 0 ? 0 : n / (ssize_t)sizeof(m[0]);
	for (ssize_t i = 0; i < n; i++)
		if (m[i].event != UFFD_EVENT_PAGEFAULT)
			event(s, &m[i]);
	retry(s);
	for (ssize_t i = 0; i < n; i++)
		if (m[i].event == UFFD_EVENT_PAGEFAULT)
			fault(s, m[i].arg.pagefault.address & ~(PAGE - 1), false);
}

/* --- a connection -------------------------------------------------------------------------- */

static uint64_t number(const char *object, const char *end, const char *key)
{
	const char *at = memmem(object, end - object, key, strlen(key));

	at = at ? memchr(at, ':', end - at) : NULL;
	if (!at) {
		fprintf(stderr, "uffd-handler: a region without %s\n", key);
		exit(1);
	}
	return strtoull(at + 1, NULL, 10);
}

/* One message: the layout, and the descriptor. */
static void receive(int client, struct space *s)
{
	static char text[65536];
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = { text, sizeof(text) - 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control.room)
	};
	ssize_t n = recvmsg(client, &msg, MSG_CMSG_CLOEXEC);
	struct cmsghdr *head = CMSG_FIRSTHDR(&msg);

	if (n <= 0 || !head || head->cmsg_type != SCM_RIGHTS) {
		fprintf(stderr, "uffd-handler: no layout and descriptor\n");
		exit(1);
	}
	text[n] = 0;
	memcpy(&s->fd, CMSG_DATA(head), sizeof(s->fd));
	s->nr = s->aside = 0;
	s->removed = calloc(1, snapshot_bytes / PAGE);
	if (!s->removed)
		die("calloc");
	for (char *at = text, *end; (at = strchr(at, '{')) && (end = strchr(at, '}')); at = end) {
		uint64_t offset = number(at, end, "\"offset\""), size = number(at, end, "\"size\"");

		if (offset > snapshot_bytes || size > snapshot_bytes - offset) {
			fprintf(stderr, "uffd-handler: the snapshot is too short\n");
			exit(1);
		}
		add_piece(s, number(at, end, "\"base_host_virt_addr\""), size, offset);
	}
}

static void run(int client)
{
	receive(client, &space[0]);
	for (;;) {
		struct pollfd p[SPACES + 1];
		bool waiting = false;

		for (int i = 0; i < SPACES; i++) {
			p[i] = (struct pollfd){ .fd = space[i].fd, .events = POLLIN };
			waiting |= space[i].fd >= 0 && space[i].aside;
		}
		p[SPACES] = (struct pollfd){ .fd = client, .events = POLLIN | POLLRDHUP };
		/* An EAGAIN without an event to follow is tried again after a while. */
		if (poll(p, SPACES + 1, waiting ? 1 : -1) < 0 && errno != EINTR)
			die("poll");
		for (int i = 0; i < SPACES; i++) {
			if (space[i].fd < 0 || space[i].fd != p[i].fd)
				continue;
			if (p[i].revents & POLLIN)
				serve(&space[i]);
			else if (space[i].aside)
				retry(&space[i]);
		}
		if (p[SPACES].revents)
			break;
	}
	for (int i = 0; i < SPACES; i++)
		if (space[i].fd >= 0)
			close_space(&space[i]);
}

int main(int argc, char **argv)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct stat st;
	int fd, server;

	if (argc < 3 || argc > 4 || strlen(argv[1]) >= sizeof(address.sun_path)) {
		fprintf(stderr, "usage: uffd-handler SOCKET SNAPSHOT [--wrong=remove|again]\n");
		return 2;
	}
	wrong_remove = argc == 4 && !strcmp(argv[3], "--wrong=remove");
	wrong_again = argc == 4 && !strcmp(argv[3], "--wrong=again");
	for (int i = 0; i < SPACES; i++)
		space[i].fd = -1;
	server = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	strcpy(address.sun_path, argv[1]);
	unlink(argv[1]);
	if (server < 0 || bind(server, (struct sockaddr *)&address, sizeof(address)) || listen(server, 1))
		die(argv[1]);
	for (;;) {
		int client = accept4(server, NULL, NULL, SOCK_CLOEXEC);

		if (client < 0)
			die("accept");
		/* Only now: whoever connects may just have written it. */
		fd = open(argv[2], O_RDONLY | O_CLOEXEC);
		if (fd < 0 || fstat(fd, &st))
			die(argv[2]);
		snapshot_bytes = (uint64_t)st.st_size & ~(PAGE - 1);
		snapshot = mmap(NULL, snapshot_bytes, PROT_READ, MAP_PRIVATE, fd, 0);
		if (snapshot == MAP_FAILED)
			die(argv[2]);
		close(fd);
		run(client);
		munmap((void *)snapshot, snapshot_bytes);
		close(client);
	}
}
