/* SPDX-License-Identifier: MIT */
/*
 * A domain's life. It is transient: libvirt forgets it when its QEMU ends, and it is
 * destroyed on every way out. Should tain itself end without one, libvirt destroys it
 * when the connection breaks; what a libvirtd that was restarted meanwhile has left, the
 * next tain destroys (vmm/qemu_sweep.c).
 */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <signal.h>
#include <unistd.h>

#include "lib/time.h"
#include "vmm/qemu_internal.h"

#define CONSOLE_WAIT_MS 60000
#define PATIENCE_MS 10000 /* whose end takes longer, that is said */
#define END_WAIT_MS 20000
#define DESTROY_TRIES 5

/* --- files that QEMU opens --------------------------------------------------------------------- */

static void file_in(const char *dir, const char *name, char *path, size_t bytes)
{
	snprintf(path, bytes, "%s/%s", dir, name);
}

int qemu_write_file(const struct qemu_vm *q, const char *name, const void *data, size_t bytes, struct err *err)
{
	char path[QEMU_DIR_BYTES + 16];
	size_t at = 0;
	ssize_t n = 0;
	int fd, ret = 0;

	file_in(q->dir, name, path, sizeof(path));
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	while (fd >= 0 && at < bytes && (n = write(fd, (const char *)data + at, bytes - at)) > 0)
		at += (size_t)n;
	if (fd < 0 || at != bytes || fchmod(fd, 0644)) /* whatever the umask says */
		ret = err_set(err, -errno, "%s: %s", path, strerror(errno));
	if (fd >= 0)
		close(fd);
	return ret;
}

void qemu_remove_dir(char *dir)
{
	static const char *const names[] = { "guest.elf", "initramfs", "vmlinuz", "console", "saved" };
	char path[QEMU_DIR_BYTES + 16];

	for (size_t i = 0; dir[0] && i < ARRAY_SIZE(names); i++) {
		file_in(dir, names[i], path, sizeof(path));
		unlink(path);
	}
	if (dir[0])
		rmdir(dir);
	dir[0] = '\0';
}

int qemu_make_dir(char *dir, struct err *err)
{
	struct qemu_owner self;
	int ret;

	qemu_owner_self(&self);
	snprintf(dir, QEMU_DIR_BYTES, "/tmp/" QEMU_PREFIX "%llu-%llu-XXXXXX", (unsigned long long)self.pidns,
		 (unsigned long long)self.pid);
	if (mkdtemp(dir) && !chmod(dir, 0711))
		return 0;
	ret = err_set(err, -errno, "%s: %s", dir, strerror(errno));
	dir[0] = '\0';
	return ret;
}

/* For QEMU, which may be another user: it can read and connect, not list. */
static int make_files(struct qemu_vm *q, int *listener, struct err *err)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int ret = qemu_make_dir(q->dir, err);

	if (ret)
		return ret;
	ret = qemu_config.under_linux ? qemu_linux_files(q, err)
				      : qemu_write_file(q, "guest.elf", q->elf, q->elf_bytes, err);
	if (ret)
		return ret;
	file_in(q->dir, "console", address.sun_path, sizeof(address.sun_path));
	*listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (*listener < 0 || bind(*listener, (struct sockaddr *)&address, sizeof(address)) ||
	    chmod(address.sun_path, 0666) || listen(*listener, 1))
		return err_set(err, -errno, "%s: %s", address.sun_path, strerror(errno));
	return 0;
}

/* --- the domain ------------------------------------------------------------------------------- */

static void name_domain(struct qemu_domain *d)
{
	static u32 count;
	struct qemu_owner self;
	u8 r[16];

	qemu_owner_self(&self);
	if (getrandom(r, sizeof(r), 0) != sizeof(r))
		BUG("getrandom: %s", strerror(errno));
	snprintf(d->name, sizeof(d->name), QEMU_PREFIX "%llu-%llu-%u-%02x%02x", (unsigned long long)self.pidns,
		 (unsigned long long)self.pid, fetch_add(&count, 1), r[0], r[1]);
	snprintf(d->uuid, sizeof(d->uuid), "%02x%02x%02x%02x-%02x%02x-4%01x%02x-a%01x%02x-%02x%02x%02x%02x%02x%02x",
		 r[0], r[1], r[2], r[3], r[4], r[5], r[6] & 15, r[7], r[8] & 15, r[9], r[10], r[11], r[12], r[13],
		 r[14], r[15]);
}

/* Signals end no waiting. Return: is there something to read? */
static bool readable(int fd, int ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	u64 until = clock_ns() + (u64)ms * NSEC_PER_MSEC, now;
	int ret;

	do {
		now = clock_ns();
		ret = poll(&p, 1, now < until ? (int)((until - now) / NSEC_PER_MSEC) : 0);
	} while (ret < 0 && errno == EINTR);
	return ret > 0;
}

static int accept_console(struct qemu_domain *d, int listener, struct err *err)
{
	struct ucred peer = { 0 };
	socklen_t bytes = sizeof(peer);

	if (readable(listener, CONSOLE_WAIT_MS))
		d->console = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (d->console >= 0 && !getsockopt(d->console, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) && peer.pid == d->pid)
		return 0;
	return err_set(err, -EIO, "domain %s: QEMU does not connect to its console", d->name);
}

/* libvirt hears of the balloon a second late, and wants to be told the same at the restore as it knew at the save. */
static int look_saved(struct qemu_vm *q, const char *saved, struct qemu_xml *xml, struct err *err)
{
	char *text = virt->virDomainSaveImageGetXMLDesc(q->connection, saved, 0);

	if (!text)
		return virt_error(err, saved);
	xml->current_kib = qemu_current_kib(text);
	free(text);
	return 0;
}

/* A new domain, or the one that was saved at @saved, which keeps its identity and finds its files elsewhere. */
static int create(struct qemu_vm *q, struct qemu_domain *d, const struct qemu_xml *xml, const char *saved,
		  struct err *err)
{
	xmlBufferPtr buffer = qemu_domain_xml(xml, d);
	const char *text;

	if (!buffer)
		return err_set(err, -ENOMEM, "no memory for the domain's description");
	text = (const char *)virt->xmlBufferContent(buffer);
	if (!saved)
		d->handle = virt->virDomainCreateXML(q->connection, text,
						     VIR_DOMAIN_START_PAUSED | VIR_DOMAIN_START_AUTODESTROY |
							     (CHECKING ? VIR_DOMAIN_START_VALIDATE : 0));
	else if (!virt->virDomainRestoreFlags(q->connection, saved, text, VIR_DOMAIN_SAVE_PAUSED))
		d->handle = virt->virDomainLookupByUUIDString(q->connection, d->uuid);
	virt->xmlBufferFree(buffer);
	return d->handle ? 0 : virt_error(err, d->name);
}

/* What the domain boots, from the files that were made for it. */
static int create_with_files(struct vm *vm, struct qemu_domain *d, struct qemu_xml *xml, const char *saved,
			     struct err *err)
{
	struct qemu_vm *q = to_qemu(vm);
	char kernel[QEMU_DIR_BYTES + 16], console[QEMU_DIR_BYTES + 16], initramfs[QEMU_DIR_BYTES + 16];
	char cmdline[QEMU_CMDLINE_BYTES];

	file_in(q->dir, qemu_config.under_linux ? "vmlinuz" : "guest.elf", kernel, sizeof(kernel));
	file_in(q->dir, "console", console, sizeof(console));
	file_in(q->dir, "initramfs", initramfs, sizeof(initramfs));
	qemu_linux_cmdline(vm, cmdline, sizeof(cmdline));
	xml->kernel = kernel;
	xml->console = console;
	xml->initramfs = qemu_config.under_linux ? initramfs : NULL;
	xml->cmdline = qemu_config.under_linux ? cmdline : NULL;
	return create(q, d, xml, saved, err);
}

int qemu_domain_start(struct vm *vm, struct qemu_domain *d, const char *const *extra, const char *saved,
		      struct err *err)
{
	struct qemu_vm *q = to_qemu(vm);
	struct qemu_xml xml = { .vm = vm, .extra = extra };
	int listener = -1, ret;

	if (!saved)
		name_domain(d);
	ret = saved ? look_saved(q, saved, &xml, err) : 0;
	ret = ret ?: make_files(q, &listener, err);
	ret = ret ?: create_with_files(vm, d, &xml, saved, err);
	ret = ret ?: qemu_process_find(d, qemu_in_ram(&q->layout, q->layout.ram_bytes), err);
	ret = ret ?: q->layout.ram_start ? qemu_process_find_below(d, err) : 0;
	ret = ret ?: accept_console(d, listener, err);
	if (listener >= 0)
		close(listener);
	qemu_remove_dir(q->dir);
	if (ret)
		qemu_domain_end(q, d);
	return ret;
}

/* libvirtd may have been restarted: the domain is still there, the old connection is not. */
static void destroy_again(struct qemu_vm *q, const char *uuid)
{
	virDomainPtr again;

	virt->virConnectClose(q->connection);
	if (qemu_open(&q->connection, NULL))
		return;
	again = virt->virDomainLookupByUUIDString(q->connection, uuid);
	if (!again)
		return;
	virt->virDomainDestroy(again);
	virt->virDomainFree(again);
}

/* It is ours, and the pidfd says that it is the one. Return: is it over with it? */
static bool kill_process(const struct qemu_domain *d)
{
	return d->pidfd >= 0 && (!syscall(SYS_pidfd_send_signal, d->pidfd, SIGKILL, NULL, 0) || errno == ESRCH);
}

/* Return: has libvirt ended it? */
static bool ask_destroy(const struct qemu_vm *q, const struct qemu_domain *d)
{
	const virError *e;

	/* On a busy machine libvirt gives up before the process has: it is asked again, as long as it answers. */
	for (int i = 0; d->handle && i < DESTROY_TRIES; i++) {
		if (!virt->virDomainDestroy(d->handle))
			return true;
		e = virt->virGetLastError();
		if (e && (e->code == VIR_ERR_NO_DOMAIN || e->code == VIR_ERR_OPERATION_INVALID))
			return true; /* it ended by itself */
		if (virt->virConnectIsAlive(q->connection) != 1)
			break;
	}
	return false;
}

static void destroy(struct qemu_vm *q, const struct qemu_domain *d)
{
	/* libvirt sees it too, and forgets the domain; waiting until it has takes a second. */
	if (d->pidfd >= 0 && qemu_process_ended(d))
		return;
	if (!ask_destroy(q, d) && !kill_process(d) && (d->handle || d->pidfd >= 0))
		destroy_again(q, d->uuid);
}

static void await_end(const struct qemu_domain *d)
{
	if (d->pidfd < 0 || readable(d->pidfd, PATIENCE_MS))
		return;
	qemu_say("waiting for QEMU (%d) of domain %s to end", d->pid, d->name);
	kill_process(d);
	if (!readable(d->pidfd, END_WAIT_MS))
		qemu_say("QEMU (%d) of domain %s does not end, and is left behind; see /proc/%d/status", d->pid,
			 d->name, d->pid);
}

static void close_fd(int *fd)
{
	int old = *fd;

	WRITE_ONCE(*fd, -1); /* first: vm_abandon() may come at any moment */
	if (old >= 0)
		close(old);
}

void qemu_domain_end(struct qemu_vm *q, struct qemu_domain *d)
{
	/* libvirt has not said that it made one, but it may have: it was killed meanwhile, or its answer was lost. */
	if (!d->handle && d->pidfd < 0 && d->name[0])
		qemu_process_seek(d);
	destroy(q, d);
	if (d->handle)
		virt->virDomainFree(d->handle);
	await_end(d);
	qemu_log_remove(q, d);
	close_fd(&d->pidfd);
	close_fd(&d->ram);
	close_fd(&d->console);
	*d = (struct qemu_domain){ .pidfd = -1, .ram = -1, .console = -1 };
}
