/* SPDX-License-Identifier: MIT */
/*
 * libvirt and libxml2, loaded when the engine `qemu` is first asked for: tain runs
 * without them where nobody asks, and a static tain never has them.
 *
 *   virt->virConnectOpen(uri)
 */
#ifndef VMM_VIRT_H
#define VMM_VIRT_H

#include <libvirt/libvirt-qemu.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <libxml/parser.h>
#include <libxml/xmlwriter.h>

#include "lib/base.h"
#include "lib/err.h"

/* clang-format off */
#define VIRT_LIBVIRT(X) \
	X(virInitialize) X(virSetErrorFunc) X(virGetLastError) X(virResetLastError) \
	X(virEventRegisterDefaultImpl) X(virEventRunDefaultImpl) X(virConnectSetKeepAlive) X(virConnectGetURI) \
	X(virConnectOpen) X(virConnectClose) X(virConnectGetType) X(virConnectGetHostname) X(virConnectGetVersion) \
	X(virConnectGetDomainCapabilities) X(virConnectListAllDomains) X(virConnectIsAlive) \
	X(virDomainCreateXML) X(virDomainFree) X(virDomainDestroy) X(virDomainLookupByUUIDString) \
	X(virDomainGetName) X(virDomainGetXMLDesc) X(virDomainGetMetadata) X(virDomainSuspend) X(virDomainResume) \
	X(virDomainMemoryStats) X(virDomainAttachDeviceFlags) X(virDomainDetachDeviceFlags) \
	X(virDomainSetMemoryFlags) X(virDomainSaveFlags) X(virDomainRestoreFlags) X(virDomainSaveImageGetXMLDesc)
#define VIRT_LIBVIRT_QEMU(X) X(virDomainQemuMonitorCommand)
#define VIRT_LIBXML2(X) \
	X(xmlBufferCreate) X(xmlBufferContent) X(xmlBufferFree) X(xmlNewTextWriterMemory) X(xmlFreeTextWriter) \
	X(xmlTextWriterStartElement) X(xmlTextWriterEndElement) X(xmlTextWriterWriteAttribute) \
	X(xmlTextWriterWriteString) X(xmlTextWriterEndDocument) X(xmlTextWriterSetIndent) \
	X(xmlReadMemory) X(xmlDocGetRootElement) X(xmlGetProp) X(xmlFreeDoc)
/* clang-format on */

struct virt {
#define VIRT_FIELD(name) typeof(&name) name;
	VIRT_LIBVIRT(VIRT_FIELD)
	VIRT_LIBVIRT_QEMU(VIRT_FIELD)
	VIRT_LIBXML2(VIRT_FIELD)
#undef VIRT_FIELD
};

/* Valid once virt_load() has returned 0; constant then. */
extern const struct virt *virt;

/* Return: 0; -EOPNOTSUPP with the reason and the repair in @why. Context: any thread. */
int virt_load(struct err *why);

/*
 * What libvirt's last call of this thread said, as -errno and one line: "@what: ...".
 * Return: the code, never 0.
 */
int virt_error(struct err *err, const char *what);

/* virt_dl.c: dlopen() and dlsym(), or nothing in a static tain. */
void *virt_dl_open(const char *library, struct err *why);
void *virt_dl_symbol(void *library, const char *name);

#endif /* VMM_VIRT_H */
