/* SPDX-License-Identifier: MIT */
/* The domain as libvirt wants it described, and whose it is. */
#include <dirent.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/qemu_internal.h"

#define SLOT_BYTES (256ull << 20) /* room for memory that is plugged in */
#define QEMU_NS "http://libvirt.org/schemas/domain/qemu/1.0"

static void open_element(xmlTextWriterPtr w, const char *name)
{
	virt->xmlTextWriterStartElement(w, BAD_CAST name);
}

static void close_element(xmlTextWriterPtr w)
{
	virt->xmlTextWriterEndElement(w);
}

static void attribute(xmlTextWriterPtr w, const char *name, const char *value)
{
	virt->xmlTextWriterWriteAttribute(w, BAD_CAST name, BAD_CAST value);
}

static void attribute_u64(xmlTextWriterPtr w, const char *name, u64 value)
{
	char text[24];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
	attribute(w, name, text);
}

/* An element with attributes alone: name, value, ..., NULL. */
static void element(xmlTextWriterPtr w, const char *name, ...)
{
	const char *attr;
	va_list args;

	open_element(w, name);
	va_start(args, name);
	while ((attr = va_arg(args, const char *)) != NULL)
		attribute(w, attr, va_arg(args, const char *));
	va_end(args);
	close_element(w);
}

static void element_text(xmlTextWriterPtr w, const char *name, const char *text)
{
	open_element(w, name);
	virt->xmlTextWriterWriteString(w, BAD_CAST text);
	close_element(w);
}

static void write_owner(xmlTextWriterPtr w)
{
	struct qemu_owner owner;

	qemu_owner_self(&owner);
	open_element(w, "metadata");
	open_element(w, "tain:owner");
	attribute(w, "xmlns:tain", QEMU_OWNER_NS);
	attribute(w, "boot", owner.boot);
	attribute_u64(w, "pidns", owner.pidns);
	attribute_u64(w, "pid", owner.pid);
	attribute_u64(w, "start", owner.start);
	close_element(w);
	close_element(w);
}

static bool is_microvm(void)
{
	return !qemu_config.machine || !strcmp(qemu_config.machine, "microvm");
}

bool qemu_has_slots(void)
{
	return !is_microvm() && !qemu_config.under_linux;
}

/* The open element's text, with its unit. */
static void bytes_text(xmlTextWriterPtr w, u64 value)
{
	char bytes[24];

	snprintf(bytes, sizeof(bytes), "%llu", (unsigned long long)value);
	attribute(w, "unit", "b");
	virt->xmlTextWriterWriteString(w, BAD_CAST bytes);
}

static void write_memory(xmlTextWriterPtr w, const struct qemu_xml *xml)
{
	const struct qemu_layout *layout = &to_qemu(xml->vm)->layout;
	char kib[24];

	if (qemu_has_slots()) {
		open_element(w, "maxMemory");
		attribute(w, "slots", "1");
		bytes_text(w, layout->ram_bytes + SLOT_BYTES);
		close_element(w);
	}
	open_element(w, "memory");
	bytes_text(w, layout->ram_bytes);
	close_element(w);
	if (xml->current_kib) {
		snprintf(kib, sizeof(kib), "%llu", (unsigned long long)xml->current_kib);
		element_text(w, "currentMemory", kib);
	}
	if (layout->ram_start) /* each node says it */
		return;
	open_element(w, "memoryBacking");
	element(w, "source", "type", qemu_config.backing, NULL);
	element(w, "access", "mode", "shared", NULL);
	close_element(w);
}

static void write_node(xmlTextWriterPtr w, const char *id, const char *cpus, u64 bytes, bool shared)
{
	open_element(w, "cell");
	attribute(w, "id", id);
	if (cpus)
		attribute(w, "cpus", cpus);
	attribute_u64(w, "memory", bytes);
	attribute(w, "unit", "b");
	if (shared)
		attribute(w, "memAccess", "shared");
	close_element(w);
}

/* libvirt wants a node for memory that is plugged in. Memory of two kinds is two nodes; shared is a file then. */
static void write_nodes(xmlTextWriterPtr w, const struct qemu_xml *xml)
{
	const struct qemu_layout *l = &to_qemu(xml->vm)->layout;
	char cpus[16];

	snprintf(cpus, sizeof(cpus), "0-%u", xml->vm->config.vcpus - 1);
	open_element(w, "numa");
	write_node(w, "0", cpus, l->ram_start ?: l->ram_bytes, !l->ram_start);
	if (l->ram_start)
		write_node(w, "1", NULL, qemu_in_ram(l, l->ram_bytes), true);
	close_element(w);
}

static void write_cpu(xmlTextWriterPtr w, const struct qemu_xml *xml)
{
	bool kvm = to_qemu(xml->vm)->kvm;

	open_element(w, "cpu");
	attribute(w, "mode", kvm ? "host-passthrough" : "maximum");
	if (kvm) /* QEMU refuses it where KVM's says what the processor does not have. */
		element(w, "feature", "policy", "disable", "name", "arch-capabilities", NULL);
	if (qemu_has_slots() || to_qemu(xml->vm)->layout.ram_start)
		write_nodes(w, xml);
	close_element(w);
}

static void write_machine(xmlTextWriterPtr w, const struct qemu_xml *xml)
{
	char vcpus[12];

	snprintf(vcpus, sizeof(vcpus), "%u", xml->vm->config.vcpus);
	element_text(w, "vcpu", vcpus);
	open_element(w, "os");
	open_element(w, "type");
	attribute(w, "arch", "x86_64");
	attribute(w, "machine", qemu_config.machine);
	virt->xmlTextWriterWriteString(w, BAD_CAST "hvm");
	close_element(w);
	element_text(w, "kernel", xml->kernel);
	if (xml->initramfs)
		element_text(w, "initrd", xml->initramfs);
	if (xml->cmdline)
		element_text(w, "cmdline", xml->cmdline);
	close_element(w);
	if (xml->cmdline || qemu_has_slots()) {
		open_element(w, "features");
		element(w, "acpi",
			NULL); /* memory that is plugged in is found by its registers; Linux finds processors */
		if (xml->cmdline)
			element(w, "apic", NULL);
		close_element(w);
	}
	write_cpu(w, xml);
	element_text(w, "on_poweroff", "destroy");
	element_text(w, "on_reboot", "destroy");
	element_text(w, "on_crash", "destroy");
}

static void write_devices(xmlTextWriterPtr w, const struct qemu_xml *xml)
{
	open_element(w, "devices");
	element(w, "controller", "type", "usb", "model", "none", NULL);
	open_element(w, "serial");
	attribute(w, "type", "unix");
	element(w, "source", "mode", "connect", "path", xml->console, NULL);
	open_element(w, "target");
	attribute(w, "type", "isa-serial");
	attribute(w, "port", "0");
	close_element(w);
	close_element(w);
	element(w, "memballoon", "model", "none", NULL);
	close_element(w);
	open_element(w, "qemu:commandline");
	element(w, "qemu:arg", "value", "-device", NULL);
	element(w, "qemu:arg", "value", "isa-debug-exit,iobase=0xf4,iosize=4", NULL);
	/* microvm has no PCI, and libvirt no other place for a balloon on x86. */
	element(w, "qemu:arg", "value", "-device", NULL);
	element(w, "qemu:arg", "value", is_microvm() ? "virtio-balloon-device" : "virtio-balloon-pci,addr=0x1e", NULL);
	for (const char *const *word = xml->extra; word && *word; word++)
		element(w, "qemu:arg", "value", *word, NULL);
	close_element(w);
}

xmlBufferPtr qemu_domain_xml(const struct qemu_xml *xml, const struct qemu_domain *domain)
{
	const struct qemu_vm *q = to_qemu(xml->vm);
	xmlBufferPtr buffer = virt->xmlBufferCreate();
	xmlTextWriterPtr w = buffer ? virt->xmlNewTextWriterMemory(buffer, 0) : NULL;

	if (!w) {
		if (buffer)
			virt->xmlBufferFree(buffer);
		return NULL;
	}
	virt->xmlTextWriterSetIndent(w, 1);
	open_element(w, "domain");
	attribute(w, "type", q->kvm ? "kvm" : "qemu");
	attribute(w, "xmlns:qemu", QEMU_NS);
	element_text(w, "name", domain->name);
	element_text(w, "uuid", domain->uuid);
	write_owner(w);
	write_memory(w, xml);
	write_machine(w, xml);
	write_devices(w, xml);
	close_element(w);
	virt->xmlTextWriterEndDocument(w);
	virt->xmlFreeTextWriter(w);
	return buffer;
}

xmlBufferPtr qemu_dimm_xml(u64 bytes)
{
	xmlBufferPtr buffer = virt->xmlBufferCreate();
	xmlTextWriterPtr w = buffer ? virt->xmlNewTextWriterMemory(buffer, 0) : NULL;

	if (!w) {
		if (buffer)
			virt->xmlBufferFree(buffer);
		return NULL;
	}
	open_element(w, "memory");
	attribute(w, "model", "dimm");
	attribute(w, "access", "shared");
	open_element(w, "target");
	open_element(w, "size");
	bytes_text(w, bytes);
	close_element(w);
	element_text(w, "node", "0");
	close_element(w);
	close_element(w);
	virt->xmlTextWriterEndDocument(w);
	virt->xmlFreeTextWriter(w);
	return buffer;
}

/* --- owners ------------------------------------------------------------------------------- */

static void read_text(const char *path, char *text, size_t bytes)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, text, bytes - 1);

	if (fd >= 0)
		close(fd);
	text[n > 0 ? n : 0] = '\0';
	text[strcspn(text, "\n")] = '\0';
}

/* In clock ticks since the machine started; 0: no such process. */
static u64 process_start(u64 pid)
{
	unsigned long long start = 0;
	char path[48], text[1024], *rest;

	snprintf(path, sizeof(path), "/proc/%llu/stat", (unsigned long long)pid);
	read_text(path, text, sizeof(text));
	rest = strrchr(text, ')'); /* a program may be called anything */
	if (!rest ||
	    sscanf(rest + 1, " %*c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %llu",
		   &start) != 1)
		return 0;
	return start;
}

void qemu_owner_self(struct qemu_owner *owner)
{
	struct stat st;

	read_text("/proc/sys/kernel/random/boot_id", owner->boot, sizeof(owner->boot));
	owner->pidns = stat("/proc/self/ns/pid", &st) ? 0 : (u64)st.st_ino;
	owner->pid = (u64)getpid();
	owner->start = process_start(owner->pid);
}

static u64 number_of(xmlNodePtr node, const char *name)
{
	xmlChar *text = virt->xmlGetProp(node, BAD_CAST name);
	unsigned long long value = 0;

	if (text)
		sscanf((const char *)text, "%llu", &value);
	free(text);
	return value;
}

u64 qemu_current_kib(const char *xml)
{
	xmlDocPtr doc =
		virt->xmlReadMemory(xml, (int)strlen(xml), "saved", NULL, XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
	xmlNodePtr node = doc ? virt->xmlDocGetRootElement(doc) : NULL;
	unsigned long long value = 0;

	for (node = node ? node->children : NULL; node; node = node->next)
		if (!strcmp((const char *)node->name, "currentMemory") && node->children && node->children->content)
			sscanf((const char *)node->children->content, "%llu", &value);
	if (doc)
		virt->xmlFreeDoc(doc);
	return value;
}

bool qemu_owner_gone(const char *xml)
{
	xmlDocPtr doc =
		virt->xmlReadMemory(xml, (int)strlen(xml), "owner", NULL, XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
	xmlNodePtr node = doc ? virt->xmlDocGetRootElement(doc) : NULL;
	struct qemu_owner self;
	xmlChar *boot;
	bool gone = false;
	u64 start;

	if (node) {
		qemu_owner_self(&self);
		boot = virt->xmlGetProp(node, BAD_CAST "boot");
		start = number_of(node, "start");
		/* Of another machine, or another world of processes: nobody here can tell. */
		if (boot && !strcmp((const char *)boot, self.boot) && number_of(node, "pidns") == self.pidns && start)
			gone = process_start(number_of(node, "pid")) != start;
		free(boot);
	}
	if (doc)
		virt->xmlFreeDoc(doc);
	return gone;
}
