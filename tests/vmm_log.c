/* SPDX-License-Identifier: MIT */
/* The logs of engine qemu's domains: where they are, which ones a sweep takes, and what of them is QEMU's own word. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/test.h"
#include "tests/vmm_suites.h"

#ifdef TAIN_LIBVIRT

#include "vmm/qemu_internal.h"

static char log_dir[] = "/tmp/tain-test-logs-XXXXXX";

static void write_log(const char *name, const char *text)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%.95s", log_dir, name);
	f = fopen(path, "we");
	if (CHECK(f)) {
		fputs(text, f);
		fclose(f);
	}
}

/* Return: was it there? It is not any more. */
static bool remove_log(const char *name)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%.95s", log_dir, name);
	return !unlink(path);
}

/* In a directory of the test's own. Return: false: it has failed. */
static bool make_logs(void)
{
	memcpy(log_dir + strlen(log_dir) - 6, "XXXXXX", 6);
	return CHECK(mkdtemp(log_dir));
}

static pid_t ended_process(void)
{
	pid_t pid = fork();

	if (!pid)
		_exit(0);
	waitpid(pid, NULL, 0);
	return pid;
}

static const struct {
	const char *what;
	enum { ENDED, RUNS, OWN, OTHERS } owner;
	bool listed; /* libvirt has the domain */
	bool gone;   /* what the sweep makes of its log */
} logs[] = {
	{ "of a tain that has ended", ENDED, false, true }, { "of a domain that it has left", ENDED, true, false },
	{ "of a tain that runs", RUNS, false, false },	    { "of a domain of ours", OWN, true, false },
	{ "of an earlier one of ours", OWN, false, true },  { "of somebody else", OTHERS, false, false },
};

/* Without a list of domains nobody knows which logs are in use: then all stay. */
static void sweep_these_logs(virConnectPtr c, bool list_fails)
{
	virDomainPtr domain[ARRAY_SIZE(logs)] = { NULL };
	struct qemu_owner self;
	char name[ARRAY_SIZE(logs)][96], xml[512];

	qemu_owner_self(&self);
	for (size_t i = 0; i < ARRAY_SIZE(logs); i++) {
		pid_t pid = logs[i].owner == OWN ? getpid() : logs[i].owner == RUNS ? getppid() : ended_process();

		snprintf(name[i], sizeof(name[i]), "%s-%llu-%d-%zu-abcd", logs[i].owner == OTHERS ? "vm" : "tain",
			 (unsigned long long)self.pidns, pid, i);
		snprintf(xml, sizeof(xml),
			 "<domain type='test'><name>%.95s</name><memory>8192</memory>"
			 "<os><type>hvm</type></os></domain>",
			 name[i]);
		if (logs[i].listed)
			domain[i] = virt->virDomainCreateXML(c, xml, 0);
		strcat(name[i], ".log");
		write_log(name[i], "");
	}
	qemu_sweep(list_fails ? NULL : c, log_dir);
	for (size_t i = 0; i < ARRAY_SIZE(logs); i++) {
		bool gone = logs[i].gone && !list_fails;

		CHECK_MSG(remove_log(name[i]) == !gone, "the log %s is %sthere", logs[i].what, gone ? "" : "not ");
		if (domain[i]) {
			CHECK_EQ(virt->virDomainDestroy(domain[i]), 0);
			virt->virDomainFree(domain[i]);
		}
	}
}

static void a_sweep_takes_only_logs_that_nobody_uses(void)
{
	virConnectPtr c;
	struct err why = { "" };

	if (virt_load(&why)) {
		test_skip("%s", why.text);
		return;
	}
	if (!make_logs())
		return;
	c = virt->virConnectOpen("test:///default");
	REQUIRE(c);
	sweep_these_logs(c, false);
	sweep_these_logs(c, true);
	virt->virConnectClose(c);
	CHECK_EQ(rmdir(log_dir), 0);
}

/* By whose libvirtd it is, which the URI says; not by who asks. */
static void where_the_logs_are(void)
{
	static const struct {
		const char *uri, *dir; /* NULL: the user's own, for all but root */
	} cases[] = {
		{ "qemu:///system", "/var/log/libvirt/qemu" },
		{ "qemu:///system?socket=/run/x", "/var/log/libvirt/qemu" },
		{ "qemu+unix:///system", "/var/log/libvirt/qemu" },
		{ "qemu+ssh://root@box/system", "/var/log/libvirt/qemu" },
		{ "qemu:///session", NULL },
		{ "qemu+unix:///session?socket=/run/x", NULL },
		{ "qemu+ssh://me@box/session", "" },
		{ "qemu+tcp://box:16509/session", "" },
		{ "qemu+ssh://me@box", "" },
		{ "nonsense", "" },
		{ "", "" },
	};
	char dir[QEMU_LOG_BYTES];

	setenv("XDG_CACHE_HOME", "/tmp/nowhere", 1);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		qemu_log_dir(cases[i].uri, dir, sizeof(dir));
		if (cases[i].dir)
			CHECK_STR(dir, cases[i].dir);
		else
			CHECK_STR(dir, geteuid() ? "/tmp/nowhere/libvirt/qemu/log" : "/var/log/libvirt/qemu");
	}
	unsetenv("XDG_CACHE_HOME");
}

static void which_lines_are_qemus_own(void)
{
	static const struct {
		const char *emulator, *line;
		bool own;
	} cases[] = {
		{ "qemu-system-x86_64", "2026-11-21T20:01:02.123456Z qemu-system-x86_64: terminating on signal 15",
		  true },
		{ "qemu-system-x86_64", "qemu-system-x86_64: ../hw/x.c:1: f: Assertion `x' failed.", true },
		{ "qemu-kvm", "2026-11-21T20:01:02.123456Z qemu-kvm: terminating on signal 15", true },
		{ "kvm", "2026-11-21T20:01:02.123456Z kvm: cannot set up guest memory", true },
		{ "qemu-kvm", "qemu: fatal: Trying to execute code outside RAM or ROM", true },
		{ "qemu-kvm", "KVM internal error. Suberror: 1", true },
		{ "qemu-kvm", "error: kvm run failed Bad address", true },
		{ "kvm", "2026-11-21 20:01:02.123+0000: shutting down, reason=crashed", false },
		{ "qemu-kvm", "/usr/libexec/qemu-kvm \\", false },
		{ "qemu-kvm", "-name guest=qemu-kvm: x,debug-threads=on \\", false },
		{ "kvm", "2026-11-21T20:01:02.123456Z qemu-kvm: of another one", false },
		{ "", ": nobody's", false },
		{ "kvm", "2026-11-21T20:01:02", false },
		{ "kvm", "", false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		CHECK_MSG(qemu_log_line(cases[i].line, cases[i].emulator) == cases[i].own, "'%s' is %s's own, or not",
			  cases[i].line, cases[i].emulator);
}

/* The last lines, of the last QEMU, once libvirt has written its own below it; or why there is none. */
static void what_qemu_said_last(void)
{
	static const char first[] = "2026-11-21 20:01:02.123+0000: starting up libvirt version: 9.0.0\n"
				    "LC_ALL=C \\\n"
				    "2026-11-21T20:01:03.123456Z kvm: the first\n",
			  end[] = "2026-11-21 20:01:04.123+0000: shutting down, reason=saved\n";
	struct qemu_domain d = { .name = "tain-1-2-3-abcd", .emulator = "kvm" };
	struct qemu_vm q = { .kvm = false };
	char line[200], text[1024];

	CHECK(qemu_domain_log(&q, &d, line, sizeof(line)));
	CHECK_STR(line, "its log is with the libvirtd of another user or machine");
	if (!make_logs())
		return;
	snprintf(q.log_dir, sizeof(q.log_dir), "%s", log_dir);
	CHECK(qemu_domain_log(&q, &d, line, sizeof(line)));
	CHECK_CONTAINS(line, "/tain-1-2-3-abcd.log: No such file or directory");
	write_log("tain-1-2-3-abcd.log", first);
	CHECK(!qemu_domain_log(&q, &d, line, sizeof(line)));
	CHECK_STR(line, "kvm: the first");
	snprintf(text, sizeof(text), "%skvm: two\nnobody's\nqemu: three\nkvm: four\n", first);
	write_log("tain-1-2-3-abcd.log", text);
	CHECK(!qemu_domain_log(&q, &d, line, sizeof(line)));
	CHECK_STR(line, "kvm: two | qemu: three | kvm: four");
	CHECK(!qemu_domain_log(&q, &d, line, 20)); /* room for one: the newest */
	CHECK_STR(line, "kvm: four");
	CHECK(!qemu_domain_log(&q, &d, line, 6));
	CHECK_STR(line, "kvm: ");
	snprintf(text, sizeof(text), "%s%s", first, end);
	write_log("tain-1-2-3-abcd.log", text);
	CHECK(qemu_domain_log(&q, &d, line, sizeof(line)));
	snprintf(text, sizeof(text), "%s%s2026-11-21 20:01:05.123+0000: starting up libvirt version: 9.0.0\n", first,
		 end);
	write_log("tain-1-2-3-abcd.log", text);
	CHECK(!qemu_domain_log(&q, &d, line, sizeof(line))); /* restored: what it says is to come */
	CHECK_STR(line, "");
	qemu_log_remove(&q, &d);
	CHECK_EQ(rmdir(log_dir), 0);
}

const struct test_case vmm_log_tests[] = {
	TEST(a_sweep_takes_only_logs_that_nobody_uses),
	TEST(where_the_logs_are),
	TEST(which_lines_are_qemus_own),
	TEST(what_qemu_said_last),
	TEST_END,
};

#else

static void logs(void)
{
	test_skip("this build has no libvirt");
}

const struct test_case vmm_log_tests[] = { TEST(logs), TEST_END };

#endif
