/* SPDX-License-Identifier: MIT */
/* Can /dev/kvm run guests here, and whose second MMU is behind it? */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "vmm/kvm_internal.h"

struct capability {
	long number;
	const char *name;
};

static const struct capability needed[] = {
	{ KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY" },	      { KVM_CAP_EXT_CPUID, "KVM_CAP_EXT_CPUID" },
	{ KVM_CAP_SET_TSS_ADDR, "KVM_CAP_SET_TSS_ADDR" },     { KVM_CAP_SYNC_MMU, "KVM_CAP_SYNC_MMU" },
	{ KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT" }, { KVM_CAP_SYNC_REGS, "KVM_CAP_SYNC_REGS" },
};

static int open_failed(const char *path, int error, struct err *why)
{
	struct stat st;

	switch (error) {
	case ENOENT:
		return err_set(why, -error,
			       "%s does not exist: load KVM (modprobe kvm_intel or kvm_amd); in a virtual machine, "
			       "enable nested virtualization; in a container, pass the device in",
			       path);
	case EACCES:
	case EPERM:
		if (!stat(path, &st) && (!st.st_gid || (st.st_mode & 060) != 060))
			return err_set(why, -error,
				       "%s: permission denied, and it has no group to join: run as root, or chgrp kvm "
				       "and chmod g+rw it",
				       path);
		return err_set(why, -error,
			       "%s: permission denied: join its group (usermod -aG kvm $USER, log in again)", path);
	case ENXIO:
	case ENODEV:
		return err_set(why, -error, "%s: no hypervisor behind it: load KVM (modprobe kvm_intel or kvm_amd)",
			       path);
	default:
		return err_set(why, -error, "%s: %s", path, strerror(error));
	}
}

int kvm_open(const char *path, struct err *why)
{
	int fd = open(path, O_RDWR | O_CLOEXEC), version, ret;

	if (fd < 0)
		return open_failed(path, errno, why);
	version = ioctl(fd, KVM_GET_API_VERSION, 0);
	if (version < 0) {
		ret = err_set(why, -errno, "%s is not the KVM device: %s", path, strerror(errno));
		goto close;
	}
	if (version != 12) {
		ret = err_set(why, -ENOTSUP, "%s speaks KVM API version %d; expected 12: use Linux 4.17 or newer", path,
			      version);
		goto close;
	}
	for (size_t i = 0; i < ARRAY_SIZE(needed); i++) {
		if (ioctl(fd, KVM_CHECK_EXTENSION, needed[i].number) > 0)
			continue;
		ret = err_set(why, -ENOTSUP, "%s lacks %s: use Linux 4.17 or newer", path, needed[i].name);
		goto close;
	}
	return fd;
close:
	close(fd);
	return ret;
}

int kvm_probe(struct err *why)
{
	int device = kvm_open(KVM_DEVICE, why), vm;

	if (device < 0)
		return device;
	do
		vm = ioctl(device, KVM_CREATE_VM, 0);
	while (vm < 0 && errno == EINTR);
	if (vm < 0) {
		int error = errno;

		close(device);
		return err_set(why, -error, "%s makes no virtual machine: %s%s", KVM_DEVICE, strerror(error),
			       error == EBUSY ? ": another hypervisor holds the processor; stop it" : "");
	}
	close(vm);
	close(device);
	return 0;
}

/* First line of a small file, without its end; empty if there is none. */
static void read_line(const char *path, char *line, int bytes)
{
	FILE *file = fopen(path, "re");

	line[0] = '\0';
	if (!file)
		return;
	if (fgets(line, bytes, file))
		line[strcspn(line, "\n")] = '\0';
	fclose(file);
}

static bool parameter_set(const char *path)
{
	char line[8];

	read_line(path, line, sizeof(line));
	return line[0] == 'Y' || line[0] == '1';
}

static void read_cpu_model(char *model, size_t bytes)
{
	FILE *file = fopen("/proc/cpuinfo", "re");
	char line[256];

	snprintf(model, bytes, "unknown");
	while (file && fgets(line, sizeof(line), file)) {
		char *colon = strchr(line, ':');

		if (strncmp(line, "model name", 10) || !colon)
			continue;
		line[strcspn(line, "\n")] = '\0';
		snprintf(model, bytes, "%s", colon + 1 + (colon[1] == ' '));
		break;
	}
	if (file)
		fclose(file);
}

void kvm_identify(struct vm *vm, struct vm_identity *id)
{
	static char host_mm[sizeof("Linux ") + sizeof(((struct utsname *)0)->release)];
	struct utsname name;

	(void)vm;
	id->engine = "kvm";
	if (parameter_set("/sys/module/kvm_intel/parameters/ept"))
		id->mmu = "KVM EPT";
	else if (parameter_set("/sys/module/kvm_amd/parameters/npt"))
		id->mmu = "KVM NPT";
	else
		id->mmu = "KVM kernel shadow";
	if (!host_mm[0] && !uname(&name))
		snprintf(host_mm, sizeof(host_mm), "Linux %s", name.release);
	id->host_mm = host_mm;
	read_cpu_model(id->cpu, sizeof(id->cpu));
}
