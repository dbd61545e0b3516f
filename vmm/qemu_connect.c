/* SPDX-License-Identifier: MIT */
/*
 * The connection to libvirtd, and what it offers. Nobody waits for ever for a libvirtd that
 * hangs: libvirt's keepalive ends the calls of an open connection; the opening itself, which
 * is before that, is left to a thread that can be left behind.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "lib/alloc.h"
#include "lib/lock.h"
#include "lib/thread.h"
#include "lib/time.h"
#include "vmm/kvm_internal.h"
#include "vmm/qemu_internal.h"

/* libvirtd's own choice too. What stands still as a whole, as a virtual machine may, has asked in vain only once. */
#define KEEPALIVE_SECONDS 5
#define KEEPALIVE_TRIES 5
#define OPEN_LOOKS 300 /* counted, not timed: who was stopped meanwhile has not waited */
#define OPEN_PATIENCE 100
#define OPEN_LOOK_NS (100 * NSEC_PER_MSEC)

static const char *uri_of(void)
{
	const char *uri = qemu_config.connect ?: getenv("LIBVIRT_DEFAULT_URI");

	return uri && *uri ? uri : "qemu:///system";
}

void qemu_say(const char *fmt, ...)
{
	char line[320];
	va_list args;

	if (!qemu_config.say)
		return;
	va_start(args, fmt);
	vsnprintf(line, sizeof(line), fmt, args);
	va_end(args);
	qemu_config.say(line);
}

/* --- open -------------------------------------------------------------------------------------- */

enum { OPENER_WAITED_FOR, OPENER_DONE, OPENER_LEFT };

/* The opening thread's until it is done; then of who waits for it, or nobody's. */
struct opener {
	struct thread thread;
	struct completion done;
	u32 state; /* atomic: OPENER_... */
	char uri[256];
	virConnectPtr connection;
	int ret;
	struct err err;
};

static void open_it(struct opener *o)
{
	char what[sizeof(o->uri) + 40];

	o->connection = virt->virConnectOpen(o->uri);
	if (o->connection) {
		virt->virConnectSetKeepAlive(o->connection, KEEPALIVE_SECONDS, KEEPALIVE_TRIES);
		return;
	}
	snprintf(what, sizeof(what), "%s%s", o->uri,
		 geteuid() && !strcmp(o->uri, "qemu:///system") ? " is for root, others use qemu:///session" : "");
	o->ret = virt_error(&o->err, what);
	/* No daemon, no transport: whatever it is called, this machine cannot now. */
	if (o->ret == -EIO)
		o->ret = -EOPNOTSUPP;
}

/*
 *   opener                               who waits
 *   open_it()
 *   WAITED_FOR -> DONE                   WAITED_FOR -> LEFT: it has had its time
 *     failed: closes what nobody wants     failed: it was done just now, take it
 */
static void opener_thread(void *arg)
{
	struct opener *o = arg;
	u32 state = OPENER_WAITED_FOR;

	thread_block_signals();
	open_it(o);
	if (!try_cmpxchg(&o->state, &state, OPENER_DONE)) {
		if (o->connection)
			virt->virConnectClose(o->connection);
		return;
	}
	complete_all(&o->done);
}

static bool stop_asked(void)
{
	return qemu_config.stop && READ_ONCE(*qemu_config.stop);
}

/* Another machine's may ask the user something first. */
static bool is_local(const char *uri)
{
	const char *transport = strchr(uri, '+'), *place = strstr(uri, "://");

	return place && place[3] == '/' && (!transport || transport > place || !strncmp(transport, "+unix:", 6));
}

/* Return: false: it does not answer. */
static bool opened(struct opener *o)
{
	bool local = is_local(o->uri);
	u32 state = OPENER_WAITED_FOR;

	for (u32 i = 0; !local || i < OPEN_LOOKS; i++) {
		if (wait_for_completion_timeout(&o->done, OPEN_LOOK_NS) || stop_asked())
			break;
		if (i == OPEN_PATIENCE)
			qemu_say("waiting for the libvirtd of %s", o->uri);
	}
	if (try_cmpxchg(&o->state, &state, OPENER_LEFT))
		return false;
	wait_for_completion(&o->done);
	thread_join(&o->thread);
	return true;
}

int qemu_open(virConnectPtr *connection, struct err *err)
{
	static struct opener *left; /* never freed: its thread may still look at it */
	struct opener *o = mem_zalloc(sizeof(*o));
	int ret;

	*connection = NULL;
	if (!o)
		return err_set(err, -ENOMEM, "no memory for a connection");
	if (snprintf(o->uri, sizeof(o->uri), "%s", uri_of()) >= (int)sizeof(o->uri)) {
		mem_free(o);
		return err_set(err, -EINVAL, "a URI of libvirt's has less than %zu characters", sizeof(o->uri));
	}
	init_completion(&o->done);
	ret = thread_create(&o->thread, "virt open", -1, opener_thread, o);
	if (ret) {
		mem_free(o);
		return err_set(err, ret, "no thread for a connection: %s", strerror(-ret));
	}
	if (!opened(o)) {
		ret = stop_asked() ? err_set(err, -EINTR, "%s: stopped while it was connected to", o->uri)
				   : err_set(err, -ETIMEDOUT,
					     "%s: libvirtd listens and does not answer; is it stopped, or overloaded?",
					     o->uri);
		WRITE_ONCE(left, o);
		return ret;
	}
	*connection = o->connection;
	ret = o->ret;
	if (ret)
		err_set(err, ret, "%s", o->err.text);
	mem_free(o);
	return ret;
}

/* --- what it is -------------------------------------------------------------------------------- */

/* libvirt adds the domain that the name is resolved to; who only has a name of ours is found out by its processes. */
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

	if (!type)
		return virt_error(err, uri_of());
	if (strcmp(type, "QEMU"))
		return err_set(err, -EOPNOTSUPP, "%s: libvirt's driver %s runs no QEMU; use a qemu: URI", uri_of(),
			       type);
	there = virt->virConnectGetHostname(connection);
	if (!there)
		return virt_error(err, uri_of());
	gethostname(here, sizeof(here) - 1);
	if (!same_host(there, here))
		ret = err_set(err, -EOPNOTSUPP, "%s: runs on %s; tain works on the guest's memory: run it there",
			      uri_of(), there);
	free(there);
	return ret;
}

/* libvirt in this very process: nobody is left to destroy the domain of a tain that is killed. */
static bool is_embedded(const char *uri)
{
	const char *place = strstr(uri, "://");

	return place && !strncmp(place + 3, "/embed", 6);
}

int qemu_connect(virConnectPtr *connection, struct err *err)
{
	int ret = virt_load(err);

	if (!ret && is_embedded(uri_of()))
		ret = err_set(err, -EOPNOTSUPP,
			      "%s: without a libvirtd nobody takes the domain down should tain be killed; use "
			      "qemu:///session",
			      uri_of());
	ret = ret ?: qemu_open(connection, err);
	if (ret)
		return ret;
	ret = check_driver(*connection, err);
	if (!ret)
		return 0;
	virt->virConnectClose(*connection);
	*connection = NULL;
	return ret;
}

void qemu_find_logs(virConnectPtr connection, char *dir, size_t bytes)
{
	char *uri = virt->virConnectGetURI(connection); /* what an alias stands for */

	qemu_log_dir(uri ?: uri_of(), dir, bytes);
	free(uri);
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
