/* SPDX-License-Identifier: MIT */
/*
 * A domain's life. It is transient: libvirt forgets it when its QEMU ends, and it is
 * destroyed on every way out. Should tain itself end without one, libvirt destroys it
 * when the connection breaks; what a libvirtd that was restarted meanwhile has left, the
 * next tain destroys: domains that begin with QEMU_PREFIX and carry the tag of a process
 * that has ended.
 */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <signal.h>
#include <unistd.h>

#include "lib/time.h"
#include "vmm/kvm_internal.h"
#include "vmm/qemu_internal.h"

#define CONSOLE_WAIT_MS 60000
#define END_WAIT_MS 20000
#define DESTROY_TRIES 5

/* --- connection ------------------------------------------------------------------------------ */

static const char *uri_of(void)
{
	const char *uri = qemu_config.connect ?: getenv("LIBVIRT_DEFAULT_URI");

	return uri && *uri ? uri : "qemu:///system";
}

/* libvirt says it with the domain where /etc/hosts has one. What has the same name elsewhere is found out by its PID.
 */
static bool same_host(const char *a, const char *b)
{
	size_t n = strcspn(a, ".");

	return n == strcspn(b, ".") && !strncasecmp(a, b, n);
}

static int check_driver(virConnectPtr connection, struct err *err)
{
	const char *type = virt->virConnectGetType(connection);
	char here[256] = "", *there;
	int ret = 0;

	if (!type || strcmp(type, "QEMU"))
		return err_set(err, -EOPNOTSUPP, "%s: libvirt's driver %s runs no QEMU; use a qemu: URI", uri_of(),
			       type ?: "?");
	there = virt->virConnectGetHostname(connection);
	gethostname(here, sizeof(here) - 1);
	if (there && !same_host(there, here))
		ret = err_set(err, -EOPNOTSUPP, "%s: runs on %s; tain works on the guest's memory: run it there",
			      uri_of(), there);
	free(there);
	return ret;
}

int qemu_connect(virConnectPtr *connection, struct err *err)
{
	char what[128];
	int ret = virt_load(err);

	if (ret)
		return ret;
	*connection = virt->virConnectOpen(uri_of());
	if (!*connection) {
		snprintf(what, sizeof(what), "%s%s", uri_of(),
			 geteuid() && !strcmp(uri_of(), "qemu:///system") ? " is for root, others use qemu:///session"
									  : "");
		ret = virt_error(err, what);
		/* No daemon, no transport: whatever it is called, this machine cannot now. */
		return ret == -EIO ? -EOPNOTSUPP : ret;
	}
	ret = check_driver(*connection, err);
	if (ret)
		virt->virConnectClose(*connection);
	return ret;
}

static bool offers(virConnectPtr connection, const char *type)
{
	char *xml = virt->virConnectGetDomainCapabilities(connection, NULL, "x86_64", qemu_config.machine, type, 0);

	free(xml);
	return xml != NULL;
}

/*
 * Without nested paging KVM shadows every page table that a Linux makes, and may have to
 * emulate all of its kernel: minutes. Who names kvm gets it.
 */
static bool too_slow(void)
{
	struct vm_identity id;

	if (!qemu_config.under_linux || strcmp(qemu_config.accel, "auto"))
		return false;
	kvm_identify(NULL, &id);
	return !strcmp(id.mmu, "KVM kernel shadow");
}

int qemu_choose_accel(virConnectPtr connection, bool *kvm, struct err *err)
{
	char what[160];

	*kvm = strcmp(qemu_config.accel, "tcg") != 0 && !too_slow();
	if (*kvm && offers(connection, "kvm"))
		return 0;
	if (!strcmp(qemu_config.accel, "auto"))
		*kvm = false;
	if (!offers(connection, "qemu")) {
		snprintf(what, sizeof(what), "machine %.40s with %s", qemu_config.machine, *kvm ? "KVM" : "TCG");
		return virt_error(err, what);
	}
	return *kvm ? err_set(err, -EOPNOTSUPP, "%s offers no KVM: %s; --accel tcg needs none", uri_of(),
			      access("/dev/kvm", F_OK) ? "there is no /dev/kvm" : "may QEMU's user open /dev/kvm?")
		    : 0;
}

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

/* Where libvirt keeps what QEMU prints. */
static void log_dir(char *path, size_t bytes)
{
	const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");

	if (!geteuid())
		snprintf(path, bytes, "/var/log/libvirt/qemu");
	else if (cache)
		snprintf(path, bytes, "%s/libvirt/qemu/log", cache);
	else
		snprintf(path, bytes, "%s/.cache/libvirt/qemu/log", home ?: "");
}

static void log_path(const struct qemu_domain *d, char *path, size_t bytes)
{
	char dir[200];

	log_dir(dir, sizeof(dir));
	snprintf(path, bytes, "%s/%s.log", dir, d->name);
}

bool qemu_domain_log(const struct qemu_domain *d, char *line, size_t bytes)
{
	char path[256], text[512];
	bool whole = false;
	FILE *f;

	line[0] = '\0';
	log_path(d, path, sizeof(path));
	f = fopen(path, "re");
	while (f && fgets(text, sizeof(text), f)) {
		text[strcspn(text, "\n")] = '\0';
		if (strstr(text, "qemu-system-x86_64: ") || strstr(text, "KVM internal error"))
			snprintf(line, bytes, "%s", text);
		whole |= strstr(text, ": shutting down, reason=") != NULL; /* libvirt's, after QEMU's end */
	}
	if (f)
		fclose(f);
	return whole;
}

static int accept_console(struct qemu_domain *d, int listener, struct err *err)
{
	struct pollfd p = { .fd = listener, .events = POLLIN };
	struct ucred peer = { 0 };
	socklen_t bytes = sizeof(peer);

	if (poll(&p, 1, CONSOLE_WAIT_MS) > 0)
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
	ret = ret ?: qemu_process_find(d, q->layout.ram_bytes, err);
	ret = ret ?: accept_console(d, listener, err);
	if (listener >= 0)
		close(listener);
	qemu_remove_dir(q->dir);
	if (ret)
		qemu_domain_end(q, d);
	return ret;
}

/* libvirtd may have been restarted: the domain is still there, the old connection is not. */
static bool destroy_again(struct qemu_vm *q, const char *uuid)
{
	virDomainPtr again;
	bool gone;

	virt->virConnectClose(q->connection);
	q->connection = virt->virConnectOpen(uri_of());
	if (!q->connection)
		return false;
	again = virt->virDomainLookupByUUIDString(q->connection, uuid);
	if (!again)
		return virt->virGetLastError()->code == VIR_ERR_NO_DOMAIN;
	gone = !virt->virDomainDestroy(again);
	virt->virDomainFree(again);
	return gone;
}

static void destroy(struct qemu_vm *q, const struct qemu_domain *d)
{
	const virError *e;

	/* libvirt sees it too, and forgets the domain; waiting until it has takes a second. */
	if (d->pidfd >= 0 && qemu_process_ended(d))
		return;
	/* On a busy machine libvirt gives up before the process has: it is asked again, as long as it answers. */
	for (int i = 0; i < DESTROY_TRIES; i++) {
		if (!virt->virDomainDestroy(d->handle))
			return;
		e = virt->virGetLastError();
		if (e && (e->code == VIR_ERR_NO_DOMAIN || e->code == VIR_ERR_OPERATION_INVALID))
			return; /* it ended by itself */
		if (virt->virConnectIsAlive(q->connection) != 1)
			break;
	}
	if (destroy_again(q, d->uuid))
		return;
	/* Nobody answers for it any more. It is ours, and the pidfd says that it is the one. */
	if (d->pidfd >= 0)
		syscall(SYS_pidfd_send_signal, d->pidfd, SIGKILL, NULL, 0);
}

void qemu_domain_end(struct qemu_vm *q, struct qemu_domain *d)
{
	struct pollfd p = { .fd = d->pidfd, .events = POLLIN };
	char path[256];

	if (d->handle) {
		destroy(q, d);
		virt->virDomainFree(d->handle);
		if (d->pidfd >= 0)
			poll(&p, 1, END_WAIT_MS);
	}
	if (d->name[0]) {
		log_path(d, path, sizeof(path));
		unlink(path);
	}
	for (int *fd = (int[]){ d->pidfd, d->ram, d->console, -2 }; *fd != -2; fd++)
		if (*fd >= 0)
			close(*fd);
	*d = (struct qemu_domain){ .pidfd = -1, .ram = -1, .console = -1 };
}

/* A name that a tain made whose process has ended, in this world of processes. */
static bool left_behind(const char *name, const struct qemu_owner *self, bool own_too)
{
	unsigned long long pidns, pid;

	if (sscanf(name, QEMU_PREFIX "%llu-%llu-", &pidns, &pid) != 2 || pidns != self->pidns || !pid || pid > INT_MAX)
		return false;
	return pid == self->pid ? own_too : kill((pid_t)pid, 0) && errno == ESRCH;
}

/* The files for QEMU of a tain that ended between making and removing them. */
static void sweep_files(const struct qemu_owner *self)
{
	char old[QEMU_DIR_BYTES];
	DIR *dir = opendir("/tmp");
	struct dirent *e;
	struct stat st;

	while (dir && (e = readdir(dir)) != NULL) {
		if (strlen(e->d_name) > 48 || !left_behind(e->d_name, self, false))
			continue;
		snprintf(old, sizeof(old), "/tmp/%.48s", e->d_name);
		if (!lstat(old, &st) && S_ISDIR(st.st_mode) && st.st_uid == geteuid() && (st.st_mode & 0777) == 0711)
			qemu_remove_dir(old);
	}
	if (dir)
		closedir(dir);
}

static bool is_log_of(const char *file, const char *domain)
{
	size_t n = strlen(domain);

	return !strncmp(file, domain, n) && !strcmp(file + n, ".log");
}

/* libvirt ends a domain's log a moment after the domain, and so after the tain that ran it. */
static void sweep_logs(const struct qemu_owner *self, virDomainPtr *active, int n)
{
	char path[200], file[512];
	struct dirent *e;
	DIR *dir;

	log_dir(path, sizeof(path));
	dir = opendir(path);
	while (dir && (e = readdir(dir)) != NULL) {
		bool used = !left_behind(e->d_name, self, true);

		for (int i = 0; i < n && !used; i++)
			used = is_log_of(e->d_name, virt->virDomainGetName(active[i]));
		snprintf(file, sizeof(file), "%s/%s", path, e->d_name);
		if (!used)
			unlink(file);
	}
	if (dir)
		closedir(dir);
}

void qemu_sweep(virConnectPtr connection)
{
	virDomainPtr *all = NULL;
	int n = virt->virConnectListAllDomains(connection, &all, VIR_CONNECT_LIST_DOMAINS_ACTIVE);
	struct qemu_owner self;

	qemu_owner_self(&self);
	sweep_files(&self);
	sweep_logs(&self, all, n);
	for (int i = 0; i < n; i++) {
		const char *name = virt->virDomainGetName(all[i]);
		char *tag = NULL;

		if (name && !strncmp(name, QEMU_PREFIX, strlen(QEMU_PREFIX)))
			tag = virt->virDomainGetMetadata(all[i], VIR_DOMAIN_METADATA_ELEMENT, QEMU_OWNER_NS, 0);
		if (tag && qemu_owner_gone(tag))
			virt->virDomainDestroy(all[i]);
		free(tag);
		virt->virDomainFree(all[i]);
	}
	free(all);
}
