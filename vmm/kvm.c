/* SPDX-License-Identifier: MIT */
/* Engine `kvm`: Linux's address space, KVM's second MMU. VMs, memory, images; kvm_run.c runs them. */
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/alloc.h"
#include "vmm/elf.h"
#include "vmm/kvm_internal.h"

/* Zeroed, and not copied by fork: a child never needs the guest's tables, and a copy would cost every page a fault. */
static void *map_memory(size_t bytes, struct err *err)
{
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (at == MAP_FAILED) {
		err_set(err, -errno, "no memory for the VM: %zu bytes: %s", bytes, strerror(errno));
		return NULL;
	}
	madvise(at, bytes, MADV_DONTFORK);
	return at;
}

/* A region keeps its host address and size for life: to change, it goes first. It may move in the guest. */
static int set_slot(struct kvm_vm *kvm, u32 slot, gpa_t gpa, hva_t hva, size_t bytes, struct err *err)
{
	struct kvm_userspace_memory_region region = { .slot = slot, .guest_phys_addr = gpa, .userspace_addr = hva };

	if (kvm->slot_bytes[slot] && (kvm->slot_bytes[slot] != bytes || kvm->slot_hva[slot] != hva)) {
		if (ioctl(kvm->fd, KVM_SET_USER_MEMORY_REGION, &region))
			return err_set(err, -errno, "memslot %u cannot be removed: %s", slot, strerror(errno));
		kvm->slot_bytes[slot] = 0;
	}
	if (!bytes)
		return 0;
	region.memory_size = bytes;
	if (ioctl(kvm->fd, KVM_SET_USER_MEMORY_REGION, &region))
		return err_set(err, -errno, "memslot %u, %zu bytes at 0x%llx: %s", slot, bytes, (unsigned long long)gpa,
			       strerror(errno));
	kvm->slot_bytes[slot] = bytes;
	kvm->slot_hva[slot] = hva;
	return 0;
}

static int kvm_set_memory(struct vm *vm, u32 slot, gpa_t gpa, hva_t hva, size_t bytes, struct err *err)
{
	struct kvm_vm *kvm = to_kvm(vm);

	if (slot >= VM_SLOT_NR)
		return err_set(err, -EINVAL, "memslot %u; expected below %u", slot, VM_SLOT_NR);
	if (bytes > GUEST_DATA_LIMIT || gpa > GUEST_DATA_LIMIT - bytes)
		return err_set(err, -EINVAL, "%zu bytes at 0x%llx; guest memory ends at 0x%lx", bytes,
			       (unsigned long long)gpa, GUEST_DATA_LIMIT);
	if (bytes)
		kvm_x86_map(kvm, align_up(gpa + bytes, 2ul << 20));
	return set_slot(kvm, slot, gpa, hva, bytes, err);
}

/* KVM's GET clears what it returns, and write-protects it before it does. */
static int kvm_dirty_log(struct vm *vm, u32 range, enum vm_dirty what, u64 *bitmap, struct err *err)
{
	struct kvm_userspace_memory_region region = {
		.slot = VM_SLOT_DATA + range,
		.flags = what == VM_DIRTY_START ? KVM_MEM_LOG_DIRTY_PAGES : 0,
		.guest_phys_addr = GUEST_DATA_GPA + range * vm->range_bytes,
		.memory_size = vm->range_bytes,
		.userspace_addr = vm->data_hva[range],
	};
	struct kvm_dirty_log log = { .slot = VM_SLOT_DATA + range, .dirty_bitmap = bitmap };
	int ret;

	if (what == VM_DIRTY_READ)
		ret = ioctl(to_kvm(vm)->fd, KVM_GET_DIRTY_LOG, &log);
	else
		ret = ioctl(to_kvm(vm)->fd, KVM_SET_USER_MEMORY_REGION, &region);
	return ret ? err_set(err, -errno, "dirty log: %s", strerror(errno)) : 0;
}

static int create_memory(struct vm *vm, struct kvm_vm *kvm, struct err *err)
{
	size_t bytes = vm->config.shared_bytes;
	int ret;

	if (bytes > GUEST_SHARED_END - GUEST_SHARED_GPA)
		return err_set(err, -EINVAL, "SHARED of %zu bytes; expected at most %lu", bytes,
			       GUEST_SHARED_END - GUEST_SHARED_GPA);
	kvm->low = map_memory(GUEST_IMAGE_END, err);
	vm->shared = kvm->low ? map_memory(bytes, err) : NULL;
	if (!vm->shared)
		return -ENOMEM;
	ret = set_slot(kvm, VM_SLOT_LOW, GUEST_LOW_GPA, (hva_t)kvm->low, GUEST_IMAGE_END, err);
	if (!ret)
		ret = set_slot(kvm, VM_SLOT_SHARED, GUEST_SHARED_GPA, (hva_t)vm->shared, bytes, err);
	return ret;
}

static void kvm_destroy(struct vm *vm)
{
	struct kvm_vm *kvm = to_kvm(vm);

	kvm_stat_close(&kvm->flushes);
	kvm_stat_close(&kvm->pages_4k);
	kvm_stat_close(&kvm->pages_2m);
	if (kvm->fd >= 0)
		close(kvm->fd);
	if (vm->shared)
		munmap(vm->shared, vm->config.shared_bytes);
	if (kvm->low)
		munmap(kvm->low, GUEST_IMAGE_END);
	vm->shared = NULL;
	mem_free(kvm->cpuid);
	mem_free(kvm);
	vm->priv = NULL;
}

static int create_fds(struct kvm_vm *kvm, int device, struct err *err)
{
	int bytes = ioctl(device, KVM_GET_VCPU_MMAP_SIZE, 0);

	if (bytes < (int)sizeof(struct kvm_run))
		return err_set(err, -ENOTSUP, "KVM shares %d bytes per vCPU; expected %zu", bytes,
			       sizeof(struct kvm_run));
	kvm->run_bytes = (size_t)bytes;
	do
		kvm->fd = ioctl(device, KVM_CREATE_VM, 0);
	while (kvm->fd < 0 && errno == EINTR);
	if (kvm->fd < 0)
		return err_set(err, -errno, "KVM_CREATE_VM: %s", strerror(errno));
	return 0;
}

static int kvm_create(struct vm *vm, const struct vm_config *config, struct err *err)
{
	int device = kvm_open(KVM_DEVICE, err), ret;
	struct kvm_vm *kvm;

	(void)config;
	if (device < 0)
		return device;
	kvm = mem_zalloc(sizeof(*kvm));
	if (!kvm) {
		close(device);
		return err_set(err, -ENOMEM, "no memory for a VM");
	}
	kvm->fd = -1;
	kvm->flushes.fd = kvm->pages_4k.fd = kvm->pages_2m.fd = -1;
	vm->priv = kvm;
	ret = kvm_kick_init(err);
	if (!ret)
		ret = create_fds(kvm, device, err);
	if (!ret)
		ret = create_memory(vm, kvm, err);
	if (!ret)
		ret = kvm_x86_init_vm(kvm, device, err);
	close(device);
	if (ret) {
		kvm_destroy(vm);
		return ret;
	}
	kvm_stat_open(&kvm->flushes, kvm->fd, "remote_tlb_flush");
	kvm_stat_open(&kvm->pages_4k, kvm->fd, "pages_4k");
	kvm_stat_open(&kvm->pages_2m, kvm->fd, "pages_2m");
	return 0;
}

static void kvm_vcpu_destroy(struct vcpu *vcpu)
{
	struct kvm_vcpu *v = to_kvm_vcpu(vcpu);

	kvm_stat_close(&v->faults);
	if (v->run)
		munmap(v->run, to_kvm(vcpu->vm)->run_bytes);
	if (v->fd >= 0)
		close(v->fd);
	mem_free(v);
}

static int map_run(struct kvm_vm *kvm, struct kvm_vcpu *v, struct err *err)
{
	void *run;

	v->fd = ioctl(kvm->fd, KVM_CREATE_VCPU, (unsigned long)v->vcpu.id);
	if (v->fd < 0)
		return err_set(err, -errno, "KVM_CREATE_VCPU %u: %s", v->vcpu.id, strerror(errno));
	run = mmap(NULL, kvm->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
	if (run == MAP_FAILED)
		return err_set(err, -errno, "vcpu %u: its run area cannot be mapped: %s", v->vcpu.id, strerror(errno));
	v->run = run;
	return 0;
}

static int kvm_vcpu_create(struct vm *vm, u32 id, struct vcpu **vcpu, struct err *err)
{
	struct kvm_vm *kvm = to_kvm(vm);
	struct kvm_vcpu *v = mem_zalloc(sizeof(*v));
	int ret;

	if (!v)
		return err_set(err, -ENOMEM, "no memory for vcpu %u", id);
	v->vcpu.vm = vm;
	v->vcpu.id = id;
	v->fd = -1;
	v->faults.fd = -1;
	ret = map_run(kvm, v, err);
	if (!ret)
		ret = kvm_x86_init_vcpu(kvm, v, err);
	if (ret) {
		kvm_vcpu_destroy(&v->vcpu);
		return ret;
	}
	kvm_stat_open(&v->faults, v->fd, "pf_taken");
	*vcpu = &v->vcpu;
	return 0;
}

static int kvm_load(struct vm *vm, const struct guest_image *image, struct err *err)
{
	struct kvm_vm *kvm = to_kvm(vm);
	struct elf_image elf;
	void *owned = NULL;
	const void *file = NULL;
	size_t bytes = 0;
	int ret;

	for (u32 i = 0; i < vm->config.vcpus; i++)
		if (to_kvm_vcpu(vm->vcpus[i])->started)
			return err_set(err, -EBUSY, "vcpu %u has run already; load a guest into a new VM", i);
	ret = elf_find_image(image, &file, &bytes, &owned, err);
	if (!ret)
		ret = elf_parse(image->path ? image->path : image->name, file, bytes, &elf, err);
	if (!ret) {
		/* Zeros where the last image was. */
		madvise((char *)kvm->low + ELF_LOAD_START, ELF_LOAD_END - ELF_LOAD_START, MADV_DONTNEED);
		elf_copy(&elf, kvm->low);
		kvm->entry = elf.entry;
		for (u32 i = 0; i < vm->config.vcpus; i++)
			kvm_x86_reset_vcpu(kvm, to_kvm_vcpu(vm->vcpus[i]));
	}
	mem_free(owned);
	return ret;
}

const struct engine engine_kvm = {
	.name = "kvm",
	.summary = "Linux's own memory management and KVM's second MMU, vCPUs on the processor",
	.needs = KVM_DEVICE,
	.own_mm = false,
	.probe = kvm_probe,
	.create = kvm_create,
	.destroy = kvm_destroy,
	.identify = kvm_identify,
	.set_memory = kvm_set_memory,
	.load = kvm_load,
	.vcpu_create = kvm_vcpu_create,
	.vcpu_destroy = kvm_vcpu_destroy,
	.vcpu_run = kvm_vcpu_run,
	.vcpu_kick = kvm_vcpu_kick,
	.stats = kvm_stats,
	.dirty_log = kvm_dirty_log,
	.child_read = kvm_child_read,
	.audit = NULL,
};
