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
