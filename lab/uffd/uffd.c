/* SPDX-License-Identifier: MIT */
/*
 * userfaultfd: see lab/uffd/uffd.h.
 *
 * A call that is told EAGAIN does not wait for the address space to calm down: it
 * wakes the faulting thread, whose access then faults again if it still has to. So no
 * fault is ever held back by the handler, and none is lost.
 */
#include "lab/uffd/uffd.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lab/system/linux_compat.h"
#include "lib/atomic.h"
#include "lib/probe.h"
#include "lib/race.h"
#include "lib/time.h"

#define MESSAGES 16 /* read at a time */

const char *const uffd_mode_names[UFFD_MODE_NR + 1] = { "MISSING", "MINOR", "WP" };

static const u64 mode_flag[UFFD_MODE_NR] = {
	[UFFD_MISSING] = UFFDIO_REGISTER_MODE_MISSING,
	[UFFD_MINOR] = UFFDIO_REGISTER_MODE_MINOR,
	[UFFD_WP] = UFFDIO_REGISTER_MODE_WP,
};

static const u64 mode_features[UFFD_MODE_NR] = {
	[UFFD_MISSING] = UFFD_FEATURE_MISSING_SHMEM,
	[UFFD_MINOR] = UFFD_FEATURE_MINOR_SHMEM,
	[UFFD_WP] = UFFD_FEATURE_PAGEFAULT_FLAG_WP,
};

/* --- the descriptor ------------------------------------------------------------ */

/* KVM's faults are the kernel's, so a descriptor for user mode alone would not do. */
static int new_descriptor(struct err *err)
{
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK), dev, error = errno;

	if (fd >= 0)
		return fd;
	if (error == EPERM) {
		dev = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
		fd = dev >= 0 ? ioctl(dev, TAIN_USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK) : -1;
		if (dev >= 0)
			close(dev);
		if (fd >= 0)
			return fd;
		return err_set(err, -EPERM, "userfaultfd: not permitted; sysctl vm.unprivileged_userfaultfd=1");
	}
	if (error == ENOSYS)
		return err_set(err, -EOPNOTSUPP, "userfaultfd: this kernel has none");
	return err_set(err, -error, "userfaultfd: %s", strerror(error));
}

static int open_features(u64 features, struct err *err)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	int fd = new_descriptor(err), error;

	if (fd < 0 || !ioctl(fd, UFFDIO_API, &api))
		return fd;
	error = errno;
	close(fd);
	if (error == EINVAL)
		return err_set(err, -EOPNOTSUPP, "userfaultfd: this kernel lacks a feature of %#llx",
			       (unsigned long long)features);
	return err_set(err, -error, "UFFDIO_API: %s", strerror(error));
}

#define EVENTS (UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_UNMAP | UFFD_FEATURE_EVENT_REMAP)

static u64 features_of(enum uffd_mode mode, enum uffd_placement placement)
{
	return mode_features[mode] | (placement == UFFD_INLINE ? UFFD_FEATURE_SIGBUS : 0);
}

static u64 extra_features(const struct uffd_config *c)
{
	return (c->events && c->placement == UFFD_THREAD ? EVENTS : 0) |
	       (c->shared && c->mode == UFFD_WP ? UFFD_FEATURE_WP_HUGETLBFS_SHMEM : 0);
}

int uffd_probe(enum uffd_mode mode, enum uffd_placement placement, struct err *why)
{
	int fd = open_features(features_of(mode, placement), why);

	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}

int uffd_register(struct uffd *u, hva_t start, u64 bytes)
{
	struct uffdio_register reg = { .range = { start, bytes }, .mode = mode_flag[u->config.mode] };

	return ioctl(u->fd, UFFDIO_REGISTER, &reg) ? -errno : 0;
}

int uffd_unregister(struct uffd *u, hva_t start, u64 bytes)
{
	struct uffdio_range range = { start, bytes };

	return ioctl(u->fd, UFFDIO_UNREGISTER, &range) ? -errno : 0;
}

static int writeprotect(struct uffd *u, hva_t start, u64 bytes, u64 mode)
{
	struct uffdio_writeprotect wp = { .range = { start, bytes }, .mode = mode };

	return ioctl(u->fd, UFFDIO_WRITEPROTECT, &wp) ? -errno : 0;
}

/* Until it is no longer disturbed by another change of the address space. */
static int protect(struct uffd *u, hva_t start, u64 bytes)
{
	int ret;

	do
		ret = writeprotect(u, start, bytes, UFFDIO_WRITEPROTECT_MODE_WP);
	while (ret == -EAGAIN);
	return ret;
}

int uffd_protect(struct uffd *u, hva_t start, u64 bytes)
{
	int ret = protect(u, start, bytes);

	if (ret != -ENOENT)
		return ret;
	/* Before Linux 6.4 one call protects within one VMA only. */
	ret = 0;
	for (hva_t at = start; !ret && at < start + bytes; at += PAGE_SIZE)
		ret = protect(u, at, PAGE_SIZE);
	return ret;
}

/* --- resolving ------------------------------------------------------------------- */

static void count(struct uffd *u, enum uffd_count what, u64 n)
{
	counter_add(&u->counters, what, n);
}

static void wake(struct uffd *u, hva_t addr)
{
	struct uffdio_range range = { align_down(addr, PAGE_SIZE), PAGE_SIZE };

	ioctl(u->fd, UFFDIO_WAKE, &range); /* fails where nothing is mapped: then nobody waits */
}

/* One call for [@start, + @bytes). @done: bytes brought in, whatever is returned. Return: 0; -errno. */
static int fill(struct uffd *u, hva_t start, u64 bytes, u64 *done)
{
	char *source = u->config.source ? (char *)u->config.source + (start - u->config.start) : NULL;
	s64 out;
	int ret;

	if (u->config.mode == UFFD_WP) {
		ret = writeprotect(u, start, bytes, 0);
		out = ret ? 0 : (s64)bytes;
	} else if (u->config.mode == UFFD_MINOR) {
		struct uffdio_continue c = { .range = { start, bytes } };

		for (u64 off = 0; source && off < bytes; off += PAGE_SIZE)
			(void)READ_ONCE(source[off]); /* into the page cache with it */
		ret = ioctl(u->fd, UFFDIO_CONTINUE, &c) ? -errno : 0;
		out = c.mapped;
	} else if (source) {
		struct uffdio_copy c = { .dst = start, .src = (u64)(uintptr_t)source, .len = bytes };

		ret = ioctl(u->fd, UFFDIO_COPY, &c) ? -errno : 0;
		out = c.copy;
	} else {
		struct uffdio_zeropage c = { .range = { start, bytes } };

		ret = ioctl(u->fd, UFFDIO_ZEROPAGE, &c) ? -errno : 0;
		out = c.zeropage;
	}
	*done = out > 0 ? (u64)out : 0;
	return ret;
}

/* The whole of a range, over pages that are there already. */
static int fill_range(struct uffd *u, hva_t at, u64 bytes)
{
	hva_t end = at + bytes;

	while (at < end) {
		u64 done;
		int ret = fill(u, at, end - at, &done);

		at += done;
		count(u, UFFD_PAGES, done / PAGE_SIZE);
		if (!ret)
			return 0;
		if (ret == -EEXIST) {
			count(u, UFFD_EXISTED, 1);
			at += PAGE_SIZE;
		} else if (done) {
			count(u, UFFD_PARTIAL, 1); /* what stopped it is told by the next call */
		} else {
			return ret;
		}
	}
	return 0;
}

static int resolve(struct uffd *u, hva_t addr)
{
	const struct uffd_config *c = &u->config;
	u64 window = (u64)c->window * PAGE_SIZE, off = align_down(addr - c->start, window);
	hva_t page = align_down(addr, PAGE_SIZE);
	int ret = -ENOENT;

	if (addr - c->start < c->bytes)
		ret = fill_range(u, c->start + off, min(window, c->bytes - off));
	/* A window that crosses the end of a mapping is refused whole; a page is not. */
	if (ret && ret != -EAGAIN && window > PAGE_SIZE)
		ret = fill_range(u, page, PAGE_SIZE);
	if (ret == -EAGAIN)
		count(u, UFFD_AGAIN, 1);
	else if (ret == -ENOENT || ret == -ESRCH)
		count(u, UFFD_GONE, 1);
	else if (ret)
		count(u, UFFD_FAILED, 1);
	if (ret && ret != -EAGAIN && ret != -ENOENT)
		WRITE_ONCE(u->last_error, (u32)-ret);
	count(u, UFFD_FAULTS, 1);
	if (c->placement == UFFD_THREAD)
		wake(u, addr); /* the calls woke whom they served; not those of a page that was there, or of EAGAIN */
	return ret;
}

/* Context: counted in busy. */
static int resolve_one(struct uffd *u, hva_t addr)
{
	int ret;

	if (u->config.resolving)
		u->config.resolving(addr, u->config.arg);
	ret = resolve(u, addr);
	probe3(uffd_resolved, addr, u->config.mode, ret);
	return ret;
}

int uffd_resolve(struct uffd *u, hva_t addr)
{
	int ret;

	probe3(uffd_read, addr, u->config.mode, -1ll);
	fetch_add(&u->busy, 1);
	ret = resolve_one(u, addr);
	fetch_add(&u->busy, (u32)-1);
	return ret;
}

void uffd_quiesce(struct uffd *u)
{
	while (smp_load_acquire(
		&u->busy)) /* pairs with the ends of uffd_resolve() and handle(): what they did is done */
		thread_sleep_ns(20 * NSEC_PER_USEC);
}

/* --- the handler thread ------------------------------------------------------------ */

/*
 * Busy from before the read: who unregisters a range and registers it again must not find what was
 * read before. Read later, it cannot be of that range.
 *
 *   handler                     host
 *   busy; read: a fault
 *                               unregister
 *                               uffd_quiesce: wait for busy
 *   resolve it: ENOENT
 *   not busy                    register again
 */
static void handle(struct uffd *u, u64 woken)
{
	struct uffd_msg message[MESSAGES];
	ssize_t n;

	fetch_add(&u->busy, 1);
	n = read(u->fd, message, sizeof(message)); /* does not block: what poll() saw may be gone */
	race_point("uffd:read");
	/* All that were read begin now: the later ones wait for the earlier. */
	for (ssize_t i = 0; i < n / (ssize_t)sizeof(message[0]); i++)
		if (message[i].event == UFFD_EVENT_PAGEFAULT)
			probe3(uffd_read, message[i].arg.pagefault.address, u->config.mode,
			       message[i].arg.pagefault.flags);
	for (ssize_t i = 0; i < n / (ssize_t)sizeof(message[0]); i++) {
		if (message[i].event != UFFD_EVENT_PAGEFAULT) {
			count(u, UFFD_EVENTS, 1);
			continue;
		}
		resolve_one(u, message[i].arg.pagefault.address);
		hist_add(&u->ns, cycles_to_ns(cycles() - woken));
	}
	fetch_add(&u->busy, (u32)-1);
}

static void handler_thread(void *arg)
{
	struct uffd *u = arg;
	struct pollfd p[] = { { .fd = u->fd, .events = POLLIN }, { .fd = u->stop_fd, .events = POLLIN } };

	thread_block_signals();
	for (;;) {
		if (poll(p, ARRAY_SIZE(p), -1) < 0 && errno != EINTR)
			break;
		if (p[1].revents)
			break;
		if (p[0].revents & POLLIN)
			handle(u, cycles());
	}
}

int uffd_open(struct uffd *u, const struct uffd_config *config, struct err *err)
{
	int ret;

	*u = (struct uffd){ .config = *config, .fd = -1, .stop_fd = -1 };
	if (!config->window || config->window & (config->window - 1))
		return err_set(err, -EINVAL, "a window of %u pages; a power of two is possible", config->window);
	ret = hist_init(&u->ns) ?: counters_init(&u->counters);
	if (ret) {
		hist_destroy(&u->ns);
		return err_set(err, ret, "no memory for the handler's histogram");
	}
	ret = u->fd = open_features(features_of(config->mode, config->placement) | extra_features(config), err);
	if (ret < 0)
		goto fail;
	cycles_khz();
	if (config->placement == UFFD_INLINE)
		return 0;
	u->stop_fd = eventfd(0, EFD_CLOEXEC);
	if (u->stop_fd < 0) {
		ret = err_set(err, -errno, "eventfd: %s", strerror(errno));
		goto fail;
	}
	ret = thread_create(&u->thread, "uffd", config->cpu, handler_thread, u);
	if (ret) {
		err_set(err, ret, "cannot start the handler's thread: %s", strerror(-ret));
		goto fail;
	}
	u->thread_runs = true;
	return 0;
fail:
	uffd_close(u);
	uffd_destroy(u);
	return ret;
}

void uffd_close(struct uffd *u)
{
	u64 one = 1;

	if (u->thread_runs) {
		while (write(u->stop_fd, &one, sizeof(one)) < 0 && errno == EINTR)
			;
		thread_join(&u->thread);
	}
	u->thread_runs = false;
	/* Closing the descriptor unregisters every range, which wakes who waits. */
	if (u->counters.lines && u->fd >= 0)
		close(u->fd);
	if (u->counters.lines && u->stop_fd >= 0)
		close(u->stop_fd);
	u->fd = u->stop_fd = -1;
}

void uffd_destroy(struct uffd *u)
{
	hist_destroy(&u->ns);
	if (u->counters.lines)
		counters_destroy(&u->counters);
	u->counters.lines = NULL;
}

u64 uffd_counted(struct uffd *u, enum uffd_count what)
{
	return u->counters.lines ? counter_sum(&u->counters, what) : 0;
}
