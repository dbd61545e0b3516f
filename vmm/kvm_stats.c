/* SPDX-License-Identifier: MIT */
/* Counters that KVM keeps itself, through KVM_GET_STATS_FD (Linux 5.14); absent ones read as 0. */
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "lib/alloc.h"
#include "vmm/kvm_internal.h"

#ifdef KVM_GET_STATS_FD

static bool read_at(int fd, void *to, size_t bytes, u64 offset)
{
	return pread(fd, to, bytes, (off_t)offset) == (ssize_t)bytes;
}

/* Where @name's value lies in the file, or -1. */
static off_t find_stat(int fd, const char *name)
{
	struct kvm_stats_header header;
	struct kvm_stats_desc *desc;
	size_t bytes;
	off_t offset = -1;

	if (!read_at(fd, &header, sizeof(header), 0) || header.name_size > 256)
		return -1;
	bytes = sizeof(*desc) + header.name_size;
	desc = mem_zalloc(bytes + 1);
	if (!desc)
		return -1;
	for (u32 i = 0; i < header.num_desc && offset < 0; i++) {
		if (!read_at(fd, desc, bytes, header.desc_offset + i * bytes))
			break;
		if (!strcmp(desc->name, name) && desc->size == 1)
			offset = (off_t)(header.data_offset + desc->offset);
	}
	mem_free(desc);
	return offset;
}

void kvm_stat_open(struct kvm_stat *stat, int owner, const char *name)
{
	stat->fd = ioctl(owner, KVM_GET_STATS_FD, 0);
	if (stat->fd < 0)
		return;
	stat->offset = find_stat(stat->fd, name);
	if (stat->offset < 0)
		kvm_stat_close(stat);
}

#else

void kvm_stat_open(struct kvm_stat *stat, int owner, const char *name)
{
	(void)owner;
	(void)name;
	stat->fd = -1;
}

#endif

void kvm_stat_close(struct kvm_stat *stat)
{
	if (stat->fd >= 0)
		close(stat->fd);
	stat->fd = -1;
}

static u64 stat_value(const struct kvm_stat *stat)
{
	u64 value = 0;

	if (stat->fd < 0 || pread(stat->fd, &value, sizeof(value), stat->offset) != sizeof(value))
		return 0;
	return value;
}

void kvm_stats(struct vm *vm, struct vm_stats *stats)
{
	const struct kvm_vm *kvm = to_kvm(vm);

	u64 huge = stat_value(&kvm->pages_2m);

	*stats = (struct vm_stats){
		.counted = true,
		.flushes = stat_value(&kvm->flushes),
		.mapped = stat_value(&kvm->pages_4k) + 512 * huge,
		.mapped_2m = huge,
	};
	for (u32 i = 0; i < vm->config.vcpus; i++) {
		if (!vm->vcpus[i])
			continue;
		stats->counted &= to_kvm_vcpu(vm->vcpus[i])->faults.fd >= 0;
		stats->faults += stat_value(&to_kvm_vcpu(vm->vcpus[i])->faults);
	}
}
