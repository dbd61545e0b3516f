/* SPDX-License-Identifier: MIT */
/* The domains of engine qemu without a hypervisor: their XML, and which ones a sweep takes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

static xmlBufferPtr make_xml(bool kvm, bool under, u32 vcpus, const char *name, const char *kernel,
			     const char *const *extra)
{
	struct qemu_vm q = { .kvm = kvm, .layout = { .ram_bytes = 322ul << 20 } };
	struct qemu_domain d = { .uuid = "12345678-1234-4234-a234-123456789abc" };
	struct vm vm = { .engine = &engine_qemu, .config = { .vcpus = vcpus }, .priv = &q };

	snprintf(d.name, sizeof(d.name), "%s", name);
	return qemu_domain_xml(&(struct qemu_xml){ .vm = &vm,
						   .kernel = kernel,
						   .console = "/tmp/tain-1/console",
						   .initramfs = under ? "/tmp/tain-1/initramfs" : NULL,
						   .cmdline = under ? "memmap=2M$0x10000000 console=ttyS0" : NULL,
						   .extra = extra },
			       &d);
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

static void every_domain_is_valid(void)
{
	static const char *const extra[] = { "-incoming", "defer", NULL };
	static const char *const machines[] = { "microvm", "pc", "q35", "pc-q35-7.2" };
	xmlBufferPtr xml;

	if (!virt_or_skip())
		return;
	if (system("command -v virt-xml-validate >/dev/null")) {
		test_skip("virt-xml-validate is not installed");
		return;
	}
	for (u32 i = 0; i < 32; i++) {
		qemu_config.machine = machines[i / 8];
		qemu_config.backing = i & 1 ? "file" : "memfd";
		xml = make_xml(i & 2, i & 4, i % 16 + 1, "tain-1-2-abcd", "/tmp/a b/<&\"'>.elf", i & 1 ? extra : NULL);
		if (!CHECK(xml))
			continue;
		validate((const char *)virt->xmlBufferContent(xml));
		virt->xmlBufferFree(xml);
	}
	qemu_config.machine = "microvm";
	qemu_config.backing = "memfd";
}

/* libvirt has no schema for a device alone: its place is in a domain that has slots. */
static void a_memory_device_is_valid_in_a_domain(void)
{
	xmlBufferPtr xml, dimm;
	const char *text, *end;
	char whole[8192];

	if (!virt_or_skip())
		return;
	if (system("command -v virt-xml-validate >/dev/null")) {
		test_skip("virt-xml-validate is not installed");
		return;
	}
	qemu_config.machine = "q35";
	xml = make_xml(false, false, 2, "tain-1-2-abcd", "/tmp/x.elf", NULL);
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
	qemu_config.machine = "microvm";
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
	xmlBufferPtr xml;

	if (!virt_or_skip())
		return;
	xml = make_xml(true, false, 1, "tain-x", "/tmp/</kernel><on_crash>&.elf", NULL);
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
	qemu_sweep(c);
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
