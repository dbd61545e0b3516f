/* SPDX-License-Identifier: MIT */
/* Loads libvirt: see vmm/virt.h. */
#include "vmm/virt.h"

#include <signal.h>
#include <string.h>

#include "lib/lock.h"
#include "lib/thread.h"

static DEFINE_LOCK_CLASS(virt_class, "virt load");
static struct mutex load_mutex = MUTEX_INIT(&virt_class); /* guards functions while they are filled in */
static struct virt functions;

const struct virt *virt;

/* The library's own messages on stderr: callers make theirs of virGetLastError(). */
static void silent(void *data, virErrorPtr error)
{
	(void)data;
	(void)error;
}

static int load_one(void **to, void *library, const char *name, struct err *why)
{
	*to = virt_dl_symbol(library, name);
	return *to ? 0 : err_set(why, -EOPNOTSUPP, "libvirt has no %s: use version 7.0 or newer", name);
}

/* libvirt writes to the socket of a daemon that may have gone, and wants to hear of it from write(). */
static void ignore_sigpipe(void)
{
	struct sigaction old, ignore = { .sa_handler = SIG_IGN };

	if (!sigaction(SIGPIPE, NULL, &old) && !(old.sa_flags & SA_SIGINFO) && old.sa_handler == SIG_DFL)
		sigaction(SIGPIPE, &ignore, NULL);
}

/* libvirt answers the daemon's keepalive, and ends a connection that has none, between two calls here. For ever. */
static void events(void *unused)
{
	(void)unused;
	thread_block_signals();
	while (functions.virEventRunDefaultImpl() >= 0)
		;
}

static int run_events(struct err *why)
{
	static struct thread thread;
	int ret;

	if (TSAN) /* glib's locks are futexes, which the thread sanitizer does not see: there no keepalive */
		return 0;
	if (functions.virEventRegisterDefaultImpl() < 0)
		return err_set(why, -EOPNOTSUPP, "libvirt has no event loop");
	ret = thread_create(&thread, "virt events", -1, events, NULL);
	return ret ? err_set(why, ret, "no thread for libvirt's events: %s", strerror(-ret)) : 0;
}

static int load(struct err *why)
{
	void *xml = virt_dl_open("libxml2.so.2", why), *lib, *qemu;
	int ret = 0;

	lib = xml ? virt_dl_open("libvirt.so.0", why) : NULL;
	qemu = lib ? virt_dl_open("libvirt-qemu.so.0", why) : NULL;
	if (!qemu)
		return -EOPNOTSUPP;
#define VIRT_LOAD(library, name) ret = ret ?: load_one((void **)&functions.name, library, #name, why);
#define VIRT_LOAD_LIB(name) VIRT_LOAD(lib, name)
#define VIRT_LOAD_QEMU(name) VIRT_LOAD(qemu, name)
#define VIRT_LOAD_XML(name) VIRT_LOAD(xml, name)
	VIRT_LIBVIRT(VIRT_LOAD_LIB)
	VIRT_LIBVIRT_QEMU(VIRT_LOAD_QEMU)
	VIRT_LIBXML2(VIRT_LOAD_XML)
	if (!ret && functions.virInitialize() < 0)
		ret = err_set(why, -EOPNOTSUPP, "libvirt does not start");
	if (ret)
		return ret;
	functions.virSetErrorFunc(NULL, silent);
	ignore_sigpipe();
	return run_events(why);
}

int virt_load(struct err *why)
{
	int ret = 0;

	mutex_lock(&load_mutex);
	if (!virt) {
		ret = load(why);
		if (!ret)
			virt = &functions;
	}
	mutex_unlock(&load_mutex);
	return ret;
}

int virt_error(struct err *err, const char *what)
{
	const virError *e = virt->virGetLastError();
	const char *text = e && e->message ? e->message : "no reason given";
	int code = -EIO;

	switch (e ? e->code : VIR_ERR_OK) {
	case VIR_ERR_NO_CONNECT:
	case VIR_ERR_NO_SUPPORT:
	case VIR_ERR_CONFIG_UNSUPPORTED:
	case VIR_ERR_OPERATION_UNSUPPORTED:
		code = -EOPNOTSUPP;
		break;
	case VIR_ERR_AUTH_FAILED:
	case VIR_ERR_AUTH_CANCELLED:
	case VIR_ERR_AUTH_UNAVAILABLE:
	case VIR_ERR_ACCESS_DENIED:
	case VIR_ERR_OPERATION_DENIED:
		code = -EACCES;
		break;
	case VIR_ERR_NO_DOMAIN:
		code = -ESRCH;
		break;
	case VIR_ERR_DOM_EXIST:
		code = -EEXIST;
		break;
	case VIR_ERR_INVALID_ARG:
	case VIR_ERR_INVALID_CONN:
		code = -EINVAL;
		break;
	default:
		break;
	}
	return err_set(err, code, "%s: %.200s", what, text);
}
