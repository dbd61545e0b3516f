/* SPDX-License-Identifier: MIT */
/* The domains of engine qemu without a hypervisor: their XML, and which ones a sweep takes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/test.h"
#include "tests/vmm_suites.h"

#ifdef TAIN_LIBVIRT

#include "vmm/qemu_internal.h"

static bool virt_or_skip(void)
{
	struct err why = { "" };

	if (!virt_load(&why))
		return true;
	test_skip("%s", why.text);
	return false;
}

/* What one domain differs from another by. */
struct variant {
	const char *machine, *backing;
	const char *kernel;
	u32 vcpus;
	bool kvm, under_linux;
	bool second;  /* what another domain migrates to */
	bool restore; /* from a file, when the balloon held some of its memory */
};

static const struct variant plain = {
	.machine = "microvm", .backing = "memfd", .kernel = "/tmp/x.elf", .vcpus = 1, .kvm = true
};

/* Return: for xmlBufferFree(); the configuration is as before. */
static xmlBufferPtr make_xml(const struct variant *v)
{
	static const char *const extra[] = { "-incoming", "defer", NULL };
	struct qemu_vm q = { .kvm = v->kvm, .layout = { .ram_bytes = 322ul << 20 } };
	struct qemu_domain d = { .name = "tain-1-2-0-abcd", .uuid = "12345678-1234-4234-a234-123456789abc" };
	struct vm vm = { .engine = &engine_qemu, .config = { .vcpus = v->vcpus }, .priv = &q };
	const struct qemu_config before = qemu_config;
	struct qemu_xml xml = {
		.vm = &vm,
		.kernel = v->kernel,
		.console = "/tmp/tain-1/console",
		.extra = v->second ? extra : NULL,
		.current_kib = v->restore ? 301012 : 0,
	};
	char cmdline[QEMU_CMDLINE_BYTES];
	xmlBufferPtr buffer;

	qemu_config.machine = v->machine;
	qemu_config.backing = v->backing;
	qemu_config.under_linux = v->under_linux;
	if (v->under_linux && !strcmp(v->backing, "file"))
		q.layout.ram_start = GUEST_SHARED_GPA;
	if (v->under_linux) {
		qemu_linux_cmdline(&vm, cmdline, sizeof(cmdline));
		xml.cmdline = cmdline;
		xml.initramfs = "/tmp/tain-1/initramfs";
	}
	buffer = qemu_domain_xml(&xml, &d);
	qemu_config = before;
	return buffer;
}

static void validate(const char *xml)
{
	char path[] = "/tmp/tain-test-xml-XXXXXX", command[128];
	int fd = mkstemp(path);

	CHECK_EQ(write(fd, xml, strlen(xml)), (ssize_t)strlen(xml));
	close(fd);
	snprintf(command, sizeof(command), "virt-xml-validate %s domain >/dev/null 2>&1", path);
	CHECK_MSG(!system(command), "virt-xml-validate refuses %s", xml);
	unlink(path);
}

static bool validator_or_skip(void)
{
	if (!virt_or_skip())
		return false;
	if (!system("command -v virt-xml-validate >/dev/null"))
		return true;
	test_skip("virt-xml-validate is not installed");
	return false;
}

static void check_variant(const struct variant *v)
{
	xmlBufferPtr xml = make_xml(v);
	const char *text;

	if (!CHECK(xml))
		return;
	text = (const char *)virt->xmlBufferContent(xml);
	validate(text);
	/* What was asked for is in there, and nothing else. */
	CHECK_EQ(strstr(text, "<domain type=\"kvm\"") != NULL, v->kvm);
	CHECK_EQ(strstr(text, "<initrd>") != NULL, v->under_linux);
	CHECK_EQ(strstr(text, "memmap=") != NULL, v->under_linux);
	CHECK_EQ(strstr(text, "<maxMemory ") != NULL, !v->under_linux && strcmp(v->machine, "microvm"));
	CHECK_EQ(strstr(text, "<currentMemory>301012<") != NULL, v->restore);
	/* of two nodes one is shared; else all memory is */
	CHECK_EQ(strstr(text, "<cell id=\"1\"") != NULL, v->under_linux && !strcmp(v->backing, "file"));
	CHECK_EQ(strstr(text, "<memoryBacking>") != NULL, !v->under_linux || !strcmp(v->backing, "memfd"));
	CHECK_EQ(strstr(text, "value=\"-incoming\"") != NULL, v->second);
	virt->xmlBufferFree(xml);
}

/* Every combination. In checking builds libvirt validates what it starts, too: see create() in vmm/qemu_domain.c. */
static void every_domain_is_valid(void)
{
	static const char *const machines[] = { "microvm", "pc", "q35", "pc-i440fx-7.2", "pc-q35-7.2" };

	if (!validator_or_skip())
		return;
	for (u32 i = 0; i < ARRAY_SIZE(machines) * 16; i++)
		check_variant(&(struct variant){
			.machine = machines[i / 16],
			.backing = i & 1 ? "file" : "memfd",
			.kernel = i & 1 ? "/tmp/a b/<&\"'>.elf" : "/tmp/x.elf",
			.vcpus = i % 16 + 1,
			.kvm = i & 2,
			.under_linux = i & 4,
			.restore = i & 8,
			.second = !(i & 8),
		});
}

/* libvirt has no schema for a device alone: its place is in a domain that has slots. */
static void a_memory_device_is_valid_in_a_domain(void)
{
	xmlBufferPtr xml, dimm;
	const char *text, *end;
	char whole[8192];
	const struct variant q35 = { .machine = "q35", .backing = "memfd", .kernel = "/tmp/x.elf", .vcpus = 2 };

	if (!validator_or_skip())
		return;
	xml = make_xml(&q35);
	dimm = qemu_dimm_xml(16 << 20);
	REQUIRE(xml && dimm);
	text = (const char *)virt->xmlBufferContent(xml);
	end = strstr(text, "</devices>");
	if (CHECK(end)) {
		snprintf(whole, sizeof(whole), "%.*s%s%s", (int)(end - text), text,
			 (const char *)virt->xmlBufferContent(dimm), end);
		validate(whole);
	}
	virt->xmlBufferFree(xml);
	virt->xmlBufferFree(dimm);
}

static void what_the_balloon_left_is_read_back(void)
{
	static const struct {
		const char *xml;
		u64 kib;
	} cases[] = {
		{ "<domain><memory unit='KiB'>9</memory><currentMemory unit='KiB'>301012</currentMemory></domain>",
		  301012 },
		{ "<domain><a><currentMemory>7</currentMemory></a></domain>", 0 },
		{ "<domain><currentMemory/></domain>", 0 },
		{ "<domain/>", 0 },
		{ "nonsense", 0 },
	};

	if (!virt_or_skip())
		return;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		CHECK_EQ(qemu_current_kib(cases[i].xml), cases[i].kib);
}

/* What a user's file is called is text, never markup. */
static void names_are_escaped(void)
{
	struct variant v = plain;
	xmlBufferPtr xml;

	if (!virt_or_skip())
		return;
	v.kernel = "/tmp/</kernel><on_crash>&.elf";
	xml = make_xml(&v);
	REQUIRE(xml);
	CHECK_CONTAINS((const char *)virt->xmlBufferContent(xml), "/tmp/&lt;/kernel&gt;&lt;on_crash&gt;&amp;.elf");
	virt->xmlBufferFree(xml);
}

static void tag(char *to, size_t bytes, const struct qemu_owner *o)
{
	snprintf(to, bytes,
		 "<tain:owner xmlns:tain='" QEMU_OWNER_NS "' boot='%s' pidns='%llu' pid='%llu' start='%llu'/>", o->boot,
		 (unsigned long long)o->pidns, (unsigned long long)o->pid, (unsigned long long)o->start);
}

static const struct {
	const char *name;
	bool tagged, gone; /* what the sweep must see */
	s64 boot, pidns, start;
} owned[] = {
	{ "tain-ended", true, true, 0, 0, 1 },	     { "tain-alive", true, false, 0, 0, 0 },
	{ "tain-other-boot", true, false, 1, 0, 1 }, { "tain-other-pidns", true, false, 0, 1, 1 },
	{ "tain-untagged", false, false, 0, 0, 0 },  { "somebody-else", true, false, 0, 0, 1 },
};

/* With the API's own test driver: nobody's machine is touched. */
static void a_sweep_takes_only_what_is_ours_and_over(void)
{
	virDomainPtr domain[ARRAY_SIZE(owned)], *all;
	char xml[1024], owner[512];
	virConnectPtr c;
	int n;

	if (!virt_or_skip())
		return;
	c = virt->virConnectOpen("test:///default");
	REQUIRE(c);
	for (size_t i = 0; i < ARRAY_SIZE(owned); i++) {
		struct qemu_owner o;

		qemu_owner_self(&o);
		o.boot[0] ^= owned[i].boot != 0;
		o.pidns += (u64)owned[i].pidns;
		o.start += (u64)owned[i].start;
		tag(owner, sizeof(owner), &o);
		CHECK_EQ(qemu_owner_gone(owner), owned[i].start && !owned[i].boot && !owned[i].pidns);
		snprintf(xml, sizeof(xml),
			 "<domain type='test'><name>%s</name><metadata>%s</metadata><memory>8192</memory>"
			 "<os><type>hvm</type></os></domain>",
			 owned[i].name, owned[i].tagged ? owner : "");
		domain[i] = virt->virDomainCreateXML(c, xml, 0);
		CHECK(domain[i]);
	}
	qemu_sweep(c, "");
	n = virt->virConnectListAllDomains(c, &all, VIR_CONNECT_LIST_DOMAINS_ACTIVE);
	for (size_t i = 0; i < ARRAY_SIZE(owned); i++) {
		bool there = false;

		for (int k = 0; k < n; k++)
			there |= !strcmp(virt->virDomainGetName(all[k]), owned[i].name);
		CHECK_MSG(there == !owned[i].gone, "%s is %sthere", owned[i].name, there ? "" : "not ");
		if (there && domain[i])
			CHECK_EQ(virt->virDomainDestroy(domain[i]), 0);
		if (domain[i])
			virt->virDomainFree(domain[i]);
	}
	for (int k = 0; k < n; k++)
		virt->virDomainFree(all[k]);
	free(all);
	virt->virConnectClose(c);
}

/* --- logs ------------------------------------------------------------------------------------- */

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

	if (!virt_or_skip() || !make_logs())
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

/* The last line, of the last QEMU, once libvirt has written its own below it; or why there is none. */
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
	CHECK_STR(line, "2026-11-21T20:01:03.123456Z kvm: the first");
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

/* Somebody else has a domain of that name: libvirt's words, and which one. */
static void a_name_that_is_taken(void)
{
	static const char *const uuids[] = { "12345678-1234-4234-a234-123456789abc",
					     "12345678-1234-4234-a234-123456789abd" };
	virDomainPtr domain[2] = { NULL };
	struct err err = { "" };
	virConnectPtr c;
	char xml[512];

	if (!virt_or_skip())
		return;
	c = virt->virConnectOpen("test:///default");
	REQUIRE(c);
	for (size_t i = 0; i < ARRAY_SIZE(domain); i++) {
		snprintf(xml, sizeof(xml),
			 "<domain type='test'><name>tain-taken</name><uuid>%s</uuid><memory>8192</memory>"
			 "<os><type>hvm</type></os></domain>",
			 uuids[i]);
		domain[i] = virt->virDomainCreateXML(c, xml, 0);
	}
	CHECK(domain[0] && !domain[1]);
	CHECK_LT(virt_error(&err, "tain-taken"), 0);
	CHECK_CONTAINS(err.text, "tain-taken: ");
	CHECK_CONTAINS(err.text, "already exists with uuid 12345678-1234-4234-a234-123456789abc");
	for (size_t i = 0; i < ARRAY_SIZE(domain); i++)
		if (domain[i]) {
			CHECK_EQ(virt->virDomainDestroy(domain[i]), 0);
			virt->virDomainFree(domain[i]);
		}
	virt->virConnectClose(c);
}

static void nonsense_is_nobodys(void)
{
	static const char *const texts[] = { "", "<", "<a/>", "<a boot='x' pid='1' start='2'/>", "<a pid='-1'>" };

	if (!virt_or_skip())
		return;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		CHECK(!qemu_owner_gone(texts[i]));
}

const struct test_case vmm_domain_tests[] = {
	TEST(every_domain_is_valid),
	TEST(a_memory_device_is_valid_in_a_domain),
	TEST(what_the_balloon_left_is_read_back),
	TEST(names_are_escaped),
	TEST(a_sweep_takes_only_what_is_ours_and_over),
	TEST(a_sweep_takes_only_logs_that_nobody_uses),
	TEST(where_the_logs_are),
	TEST(which_lines_are_qemus_own),
	TEST(what_qemu_said_last),
	TEST(a_name_that_is_taken),
	TEST(nonsense_is_nobodys),
	TEST_END,
};

#else

static void domains(void)
{
	test_skip("this build has no libvirt");
}

const struct test_case vmm_domain_tests[] = { TEST(domains), TEST_END };

#endif
