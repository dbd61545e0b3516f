/* SPDX-License-Identifier: MIT */
/*
 * uffd_check: see lab/uffd/check.h. The calling thread watches: an access or an
 * operation that gets no answer within the limit, or a handler that has ended, is told,
 * and then everybody is freed without the handler. A thread in a fault is woken when its
 * range is unregistered; one that waits for an event to be read goes on when we read it.
 */
#include "lab/uffd/check_internal.h" /* before fcntl.h, which has a LOCK_READ too */

#include <fcntl.h>
#include <jansson.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "lab/system/linux_compat.h"
#include "lab/system/place.h"
#include "lib/alloc.h"
#include "lib/time.h"

#define RW (PROT_READ | PROT_WRITE)
#define WATCH_NS (5 * NSEC_PER_MSEC)
#define RESCUE_NS (60 * NSEC_PER_SEC) /* a hang */

static DEFINE_LOCK_CLASS(violation_class, "uffd_check_violation");

/* --- memory and its descriptor ------------------------------------------------------ */

static int open_uffd(struct uffd_check *c, struct err *err)
{
	struct uffdio_api api = { .api = UFFD_API,
				  .features = UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_EVENT_REMOVE |
					      UFFD_FEATURE_EVENT_UNMAP | UFFD_FEATURE_EVENT_REMAP };
	bool fork = c->ops & 1u << UCHECK_FORK;

	for (;;) {
		struct uffdio_api ask = api;
		int error;

		c->uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
		if (c->uffd < 0)
			return err_set(err, errno == ENOSYS ? -EOPNOTSUPP : -errno, "userfaultfd: %s%s",
				       strerror(errno), errno == EPERM ? "; sysctl vm.unprivileged_userfaultfd=1" : "");
		ask.features |= fork ? UFFD_FEATURE_EVENT_FORK : 0;
		if (!ioctl(c->uffd, UFFDIO_API, &ask))
			return 0;
		error = errno;
		close(c->uffd);
		c->uffd = -1;
		if (!fork)
			return err_set(err, -EOPNOTSUPP, "userfaultfd without its events: %s", strerror(error));
		snprintf(c->result->skip[UCHECK_FORK], sizeof(c->result->skip[0]), "UFFD_FEATURE_EVENT_FORK: %s%s",
			 strerror(error), error == EPERM ? "; it takes CAP_SYS_PTRACE" : "");
		c->ops &= ~(1u << UCHECK_FORK);
		fork = false;
	}
}

static int map_region(struct uffd_check *c, struct region *r, struct err *err)
{
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	u64 bytes = r->pages * PAGE_SIZE;
	int flags = r->shared ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS;

	if (r->shared) {
		r->fd = memfd_create("tain-uffd-check", MFD_CLOEXEC);
		if (r->fd < 0 || ftruncate(r->fd, (off_t)bytes))
			return err_set(err, -errno, "memfd: %s", strerror(errno));
	}
	if (mmap(r->memory, bytes, RW, flags | MAP_NORESERVE | MAP_FIXED, r->fd, 0) == MAP_FAILED)
		return err_set(err, -ENOMEM, "no memory for a region of %llu bytes", (unsigned long long)bytes);
	madvise(r->memory, bytes, MADV_NOHUGEPAGE);
	reg.range.start = (u64)(uintptr_t)r->memory;
	reg.range.len = bytes;
	if (ioctl(c->uffd, UFFDIO_REGISTER, &reg))
		return err_set(err, errno == EINVAL ? -EOPNOTSUPP : -errno, "UFFDIO_REGISTER: %s", strerror(errno));
	return 0;
}

static int map_all(struct uffd_check *c, struct err *err)
{
	int ret;

	c->pages = c->config->bytes / PAGE_SIZE;
	c->region[0] = (struct region){ .pages = c->pages - c->pages / 4, .fd = -1 };
	c->region[1] = (struct region){ .first = c->region[0].pages, .pages = c->pages / 4, .shared = true, .fd = -1 };
	c->rule = mem_alloc(c->pages * sizeof(*c->rule));
	c->touched = mem_zalloc(c->pages);
	c->log = mem_zalloc(LOG_ENTRIES * sizeof(*c->log));
	c->child = mmap(NULL, PAGE_SIZE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	c->place_bytes = (c->pages + OP_PAGES) * PAGE_SIZE;
	c->place = place_reserve(c->place_bytes);
	if (!c->rule || !c->touched || !c->log || c->child == MAP_FAILED || !c->place)
		return err_set(err, -ENOMEM, "no memory for the books");
	for (int i = 0; i < 2; i++)
		c->region[i].memory = (char *)(uintptr_t)c->place + c->region[i].first * PAGE_SIZE;
	c->scratch = (char *)(uintptr_t)c->place + c->pages * PAGE_SIZE;
	for (u64 page = 0; page < c->pages; page++)
		c->rule[page] = RULE_SNAPSHOT;
	ret = open_uffd(c, err);
	for (int i = 0; i < 2 && !ret; i++)
		ret = map_region(c, &c->region[i], err);
	return ret;
}

/* From here on no page of it needs the handler, and no unmapping tells it. */
static void unregister(struct uffd_check *c)
{
	struct uffdio_range place = { c->place, c->place_bytes };

	ioctl(c->uffd, UFFDIO_UNREGISTER, &place);
	ioctl(c->uffd, UFFDIO_WAKE, &place);
}

/*
 * Nobody watches any more, and the handler may have stopped since the last answer; what
 * the mutator mapped behind rescue()'s back is registered again. An munmap() of that waits
 * until its event is read, and nothing but SIGKILL ends it.
 */
static void unmap_all(struct uffd_check *c)
{
	if (c->uffd >= 0) {
		unregister(c);
		close(c->uffd);
	}
	for (int i = 0; i < 2; i++) {
		if (c->region[i].fd >= 0)
			close(c->region[i].fd);
	}
	if (c->place)
		munmap((void *)(uintptr_t)c->place, c->place_bytes);
	if (c->child && c->child != MAP_FAILED)
		munmap(c->child, PAGE_SIZE);
	mem_free(c->rule);
	mem_free(c->touched);
	mem_free(c->log);
}

/* --- the handler's socket -------------------------------------------------------------- */

static char *layout(struct uffd_check *c)
{
	json_t *list = json_array();
	char *text;

	for (int i = 0; i < 2; i++) {
		const struct region *r = &c->region[i];

		json_array_append_new(list, json_pack("{s:I,s:I,s:I,s:I,s:I}", "base_host_virt_addr",
						      (json_int_t)(uintptr_t)r->memory, "size",
						      (json_int_t)(r->pages * PAGE_SIZE), "offset",
						      (json_int_t)(r->first * PAGE_SIZE), "page_size",
						      (json_int_t)PAGE_SIZE, "page_size_kib", (json_int_t)PAGE_SIZE));
	}
	text = json_dumps(list, JSON_COMPACT);
	json_decref(list);
	return text;
}

static int send_layout(struct uffd_check *c, struct err *err)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	char *text = layout(c);
	struct iovec iov = { text, text ? strlen(text) : 0 };
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control.room)
	};
	struct cmsghdr *head = CMSG_FIRSTHDR(&m);
	ssize_t sent;

	if (!text)
		return err_set(err, -ENOMEM, "no memory for the layout");
	head->cmsg_level = SOL_SOCKET;
	head->cmsg_type = SCM_RIGHTS;
	head->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(head), &c->uffd, sizeof(int));
	sent = sendmsg(c->socket, &m, MSG_NOSIGNAL);
	free(text);
	return sent == (ssize_t)iov.iov_len ? 0 : err_set(err, -EIO, "%s: %s", c->config->socket, strerror(errno));
}

/* Who listens but does not accept is waited for within the limit; as in stuck(), only while we run ourselves. */
static int reach(struct uffd_check *c, const struct sockaddr_un *address, struct err *err)
{
	const struct uffd_check_config *config = c->config;
	u64 waited = 0;

	while (connect(c->socket, (const struct sockaddr *)address, sizeof(*address))) {
		if (errno != EAGAIN) /* its queue is full */
			return err_set(err, errno == EACCES ? -EIO : -errno, "cannot connect to %s: %s", config->socket,
				       strerror(errno));
		if (config->stop && READ_ONCE(*config->stop))
			return -EINTR;
		if (waited >= config->limit_ns)
			return err_set(err, -EBUSY, "cannot connect to %s: whoever listens accepted nobody for %llu ms",
				       config->socket, (unsigned long long)(config->limit_ns / NSEC_PER_MSEC));
		thread_sleep_ns(WATCH_NS);
		waited += WATCH_NS;
	}
	return 0;
}

static int connect_handler(struct uffd_check *c, struct err *err)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct ucred peer;
	socklen_t len = sizeof(peer);
	int ret;

	if (strlen(c->config->socket) >= sizeof(address.sun_path))
		return err_set(err, -EINVAL, "the socket's name is longer than %zu bytes",
			       sizeof(address.sun_path) - 1);
	strcpy(address.sun_path, c->config->socket);
	c->socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (c->socket < 0)
		return err_set(err, -errno, "socket: %s", strerror(errno));
	ret = reach(c, &address, err);
	if (ret)
		return ret;
	/* Who listens there; its end is seen through the pidfd. */
	if (!getsockopt(c->socket, SOL_SOCKET, SO_PEERCRED, &peer, &len) && peer.pid > 0)
		c->pidfd = (int)syscall(SYS_pidfd_open, peer.pid, 0);
	return send_layout(c, err);
}

/* --- watching ----------------------------------------------------------------------------- */

static bool all_ended(struct uffd_check *c)
{
	for (u32 i = 0; i < c->config->readers; i++)
		if (c->reader[i].started && !READ_ONCE(c->reader[i].ended))
			return false;
	return !c->mutator.started || READ_ONCE(c->mutator.ended);
}

static bool handler_dead(struct uffd_check *c)
{
	struct pollfd p = { .fd = c->pidfd, .events = POLLIN };

	return c->pidfd >= 0 && poll(&p, 1, 0) == 1;
}

/*
 * Somebody who has waited for longer than the limit, or NULL. Time counts as far as the
 * watcher itself ran: that the machine stood still, or this process, is not the handler's fault.
 */
static struct check_thread *stuck(struct uffd_check *c)
{
	u64 now = clock_ns(), given = min(now - c->last_look, 4 * WATCH_NS);

	c->last_look = now;
	for (u32 i = 0; i <= c->config->readers; i++) {
		struct check_thread *t = i ? &c->reader[i - 1] : &c->mutator;
		u64 since = READ_ONCE(t->since);

		t->waited = since && since == t->seen ? t->waited + given : 0;
		t->seen = since;
		if (t->waited > c->config->limit_ns)
			return t;
	}
	return NULL;
}

/* Is there anything wrong with the handler? Then it has been told. */
static bool complain(struct uffd_check *c)
{
	struct check_thread *t;
	char what[96];

	if (handler_dead(c)) {
		t = &c->mutator;
		for (u32 i = 0; i < c->config->readers; i++)
			if (READ_ONCE(c->reader[i].since))
				t = &c->reader[i];
		add_violation(c, UCHECK_DEAD, READ_ONCE(t->page), "the handler has ended", "");
		return true;
	}
	t = stuck(c);
	if (!t)
		return false;
	snprintf(what, sizeof(what), "%s got no answer for %llu ms",
		 t == &c->mutator ? uffd_check_ops[READ_ONCE(t->op)] : "a fault",
		 (unsigned long long)(c->config->limit_ns / NSEC_PER_MSEC));
	add_violation(c, UCHECK_STUCK, READ_ONCE(t->page), what, "");
	return true;
}

/* Free everybody without the handler. Return: false: somebody does not come. */
static bool rescue(struct uffd_check *c)
{
	u64 start = clock_ns();

	while (!all_ended(c)) {
		struct uffd_msg m;
		int child = READ_ONCE(c->child_pid);

		if (clock_ns() - start > RESCUE_NS)
			return false;
		unregister(c);
		while (read(c->uffd, &m, sizeof(m)) == (ssize_t)sizeof(m))
			if (m.event == UFFD_EVENT_FORK)
				close((int)m.arg.fork.ufd);
		if (child)
			kill(child, SIGKILL);
		thread_sleep_ns(NSEC_PER_MSEC);
	}
	return true;
}

static void sum(struct uffd_check *c, u64 *faults, u64 *checked)
{
	*faults = *checked = 0;
	for (u32 i = 0; i < c->config->readers; i++) {
		*faults += READ_ONCE(c->reader[i].faults);
		*checked += READ_ONCE(c->reader[i].checked);
	}
}

static int watch(struct uffd_check *c, u64 until, struct err *err)
{
	const struct uffd_check_config *config = c->config;
	u64 faults, checked, end = 0;
	bool wrong = false;
	int ret = 0;

	while (!(wrong = complain(c)) && !(end && all_ended(c))) {
		bool told = config->stop && READ_ONCE(*config->stop);

		if (!end && (told || clock_ns() >= until || READ_ONCE(c->spent))) {
			end = 1;
			ret = told ? -EINTR : 0;
			WRITE_ONCE(c->stop, 1); /* whoever waits for the handler is still watched */
		}
		sum(c, &faults, &checked);
		if (config->progress)
			config->progress(c->result->faults + faults, c->result->checked + checked, config->arg);
		thread_sleep_ns(WATCH_NS);
	}
	WRITE_ONCE(c->stop, 1);
	if (wrong && !rescue(c))
		return err_set(err, -ETIMEDOUT, "a thread does not come back from its fault");
	return ret;
}

/* --- a connection ---------------------------------------------------------------------------- */

static int start_thread(struct uffd_check *c, struct check_thread *t, const char *name, u64 seed, void (*fn)(void *arg),
			struct err *err)
{
	int ret = hist_init(&t->ns);

	t->check = c;
	rng_seed(&t->rng, seed);
	ret = ret ?: thread_create(&t->thread, name, -1, fn, t);
	t->started = !ret;
	return ret ? err_set(err, ret, "cannot start a thread: %s", strerror(-ret)) : 0;
}

static int run_threads(struct uffd_check *c, u64 until, struct err *err)
{
	u64 seed = rng_mix(c->config->seed, c->result->connections);
	int ret = 0, watched;

	for (u32 i = 0; i < c->config->readers && !ret; i++)
		ret = start_thread(c, &c->reader[i], "reader", rng_mix(seed, i + 1), reader_main, err);
	ret = ret ?: start_thread(c, &c->mutator, "mutator", seed, mutator_main, err);
	watched = watch(c, ret ? 0 : until, err);
	if (watched == -ETIMEDOUT)
		return watched; /* its threads and memory stay */
	for (u32 i = 0; i <= c->config->readers; i++) {
		struct check_thread *t = i ? &c->reader[i - 1] : &c->mutator;

		if (t->started)
			thread_join(&t->thread);
		hist_merge(&c->result->ns, &t->ns);
		hist_destroy(&t->ns);
		c->result->faults += t->faults;
		c->result->checked += t->checked;
	}
	return ret ?: watched;
}

static int one_connection(const struct uffd_check_config *config, struct uffd_check_result *result, u64 until,
			  struct err *err)
{
	struct uffd_check *c = mem_zalloc(sizeof(*c));
	int ret;

	if (!c)
		return err_set(err, -ENOMEM, "no memory for the books");
	c->config = config;
	c->result = result;
	c->uffd = c->socket = c->pidfd = -1;
	c->region[0].fd = c->region[1].fd = -1;
	c->ops = config->ops;
	c->start_ns = c->last_look = clock_ns();
	mutex_init(&c->violation_mutex, &violation_class);
	ret = map_all(c, err) ?: connect_handler(c, err);
	if (!ret) {
		result->connections++;
		uffd_snapshot_keep(config->snapshot);
		ret = run_threads(c, until, err);
	}
	if (ret == -ETIMEDOUT)
		return ret;
	if (c->socket >= 0)
		close(c->socket);
	if (c->pidfd >= 0)
		close(c->pidfd);
	unmap_all(c);
	mem_free(c);
	return ret;
}

int uffd_check_run(const struct uffd_check_config *config, struct uffd_check_result *result, struct err *err)
{
	u64 start = clock_ns(), share = config->time_ns / max(config->connections, 1u);
	int ret;

	memset(result, 0, sizeof(*result));
	if (!config->readers || config->readers > READERS_MAX)
		return err_set(err, -EINVAL, "%u readers; 1 to %d are possible", config->readers, READERS_MAX);
	if (config->bytes % PAGE_SIZE || config->bytes / PAGE_SIZE < 8 * OP_PAGES)
		return err_set(err, -EINVAL, "%llu bytes; a multiple of 4K, at least %lluK, is possible",
			       (unsigned long long)config->bytes, OP_PAGES * 8 * PAGE_SIZE / 1024ull);
	ret = hist_init(&result->ns);
	if (ret)
		return err_set(err, ret, "no memory for the histogram");
	for (u32 i = 0; i < config->connections && !ret && !result->violations; i++)
		ret = one_connection(config, result, start + (i + 1) * share, err);
	result->elapsed_ns = clock_ns() - start;
	return ret;
}

void uffd_check_destroy(struct uffd_check_result *result)
{
	hist_destroy(&result->ns);
}
