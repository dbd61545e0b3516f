/* SPDX-License-Identifier: MIT */
/*
 * Engine `soft`: tain's own mm and MMU, guests compiled into tain. Needs nothing of
 * the machine.
 */
#include "lib/alloc.h"
#include "vmm/soft_internal.h"

#include <stdio.h>
#include <string.h>

/* Where SHARED is mapped in the VM's mm; far from where mappings are placed. */
#define SOFT_SHARED_HVA 0x7f0000000000ull
/* Beside twice the data (old and new copies live together for a while): page tables of both MMUs, ageing frames. */
#define SOFT_ARENA_MARGIN (32ull << 20)

static int soft_probe(struct err *why)
{
	return 0;
}

/* SHARED is frames that nobody can take away, so that the host may keep their address. */
static int soft_map_shared(struct vm *vm, const struct vm_config *config, pfn_t first, struct err *err)
{
	struct soft_vm *soft = soft_vm(vm);
	int ret;

	ret = mm_map_pfn(vm->mm, SOFT_SHARED_HVA, first, config->shared_bytes, TAIN_PROT_READ | TAIN_PROT_WRITE);
	if (!ret)
		ret = mmu_set_memslot(soft->mmu, VM_SLOT_SHARED, GUEST_SHARED_GPA >> PAGE_SHIFT,
				      config->shared_bytes >> PAGE_SHIFT, SOFT_SHARED_HVA, 0);
	if (ret)
		return err_set(err, ret, "cannot map %zu bytes shared with the guest: %s", config->shared_bytes,
			       strerror(-ret));
	vm->shared = (char *)frame_arena_base(soft->arena) + (first << PAGE_SHIFT);
	return 0;
}

static void soft_destroy(struct vm *vm)
{
	struct soft_vm *soft = soft_vm(vm);

	if (soft->mmu)
		mmu_destroy(soft->mmu);
	if (vm->mm)
		mmput(vm->mm);
	if (soft->arena)
		frame_arena_destroy(soft->arena);
	mem_free(soft);
	vm->priv = NULL;
	vm->mm = NULL;
}

static int soft_create(struct vm *vm, const struct vm_config *config, struct err *err)
{
	u64 physical = config->arena_bytes ? config->arena_bytes : 2 * config->data_bytes + SOFT_ARENA_MARGIN;
	u64 bytes = physical + config->shared_bytes;
	struct soft_vm *soft = mem_zalloc(sizeof(*soft));
	pfn_t shared;
	int ret;

	if (!soft)
		return err_set(err, -ENOMEM, "no memory for a VM");
	vm->priv = soft;
	ret = frame_arena_create(bytes, &soft->arena);
	if (!ret)
		ret = frame_reserve(soft->arena, config->shared_bytes, &shared); /* while the arena is fresh */
	if (ret) {
		err_set(err, ret, "cannot make an arena of %llu bytes: %s", (unsigned long long)bytes, strerror(-ret));
		goto fail;
	}
	ret = mm_create(soft->arena, "mmap_sem", &vm->mm);
	if (!ret)
		ret = mmu_create(vm->mm, "ept", &soft->mmu);
	if (ret) {
		err_set(err, ret, "cannot make an address space and its mirror: %s", strerror(-ret));
		goto fail;
	}
	snprintf(soft->mmu_label, sizeof(soft->mmu_label), "tain %s", mmu_format(soft->mmu));
	ret = soft_map_shared(vm, config, shared, err);
	if (!ret)
		return 0;
fail:
	soft_destroy(vm);
	return ret;
}

static void soft_identify(struct vm *vm, struct vm_identity *id)
{
	*id = (struct vm_identity){
		.engine = engine_soft.name,
		.mmu = soft_vm(vm)->mmu_label,
		.host_mm = "tain mmap_sem",
		.cpu = "software",
	};
}

static int soft_set_memory(struct vm *vm, u32 slot, gpa_t gpa, hva_t hva, size_t bytes, struct err *err)
{
	int ret = mmu_set_memslot(soft_vm(vm)->mmu, slot, gpa >> PAGE_SHIFT, bytes >> PAGE_SHIFT, hva, 0);

	if (ret)
		return err_set(err, ret, "memory slot %u: %zu bytes at gpa %#llx, hva %#llx: %s", slot, bytes,
			       (unsigned long long)gpa, (unsigned long long)hva, strerror(-ret));
	return 0;
}

int soft_load_native(struct vm *vm, const struct guest_native_entry *entry)
{
	soft_vm(vm)->entry = entry;
	vm->loaded = true;
	return 0;
}

static int soft_load(struct vm *vm, const struct guest_image *image, struct err *err)
{
	const struct guest_native_entry *entry;

	if (image->path)
		return err_set(err, -ENOEXEC,
			       "%s: the soft engine runs built-in guests only; use --engine kvm for ELF files",
			       image->path);
	for (entry = guest_native_table; entry->name; entry++) {
		if (!strcmp(entry->name, image->name))
			return soft_load_native(vm, entry);
	}
	return err_set(err, -ENOENT, "no built-in guest is called %s", image->name);
}

static void soft_stats(struct vm *vm, struct vm_stats *stats)
{
	struct mmu_stats mmu;

	mmu_get_stats(soft_vm(vm)->mmu, &mmu);
	*stats = (struct vm_stats){
		.counted = true,
		.faults = mmu.faults,
		.retries = mmu.retries,
		.zapped = mmu.zapped,
		.flushes = mmu.flushes,
		.invalidations = mmu.invalidations,
	};
}

struct audit_text {
	struct err *err;
	bool filled;
};

static void audit_first(const struct mmu_mismatch *m, void *arg)
{
	struct audit_text *text = arg;
	char where[32] = "the second MMU";

	if (text->filled)
		return;
	text->filled = true;
	if (m->tlb)
		snprintf(where, sizeof(where), "the TLB of vCPU %u", m->vcpu);
	if (m->rule)
		err_set(text->err, 0, "%s: gfn %#llx, frame %#llx there, frame %#llx in the host", m->rule,
			(unsigned long long)m->gfn, (unsigned long long)m->mirrored, (unsigned long long)m->host);
	else if (m->rights)
		err_set(text->err, 0, "%s lets gfn %#llx (frame %#llx) be written, its backing does not", where,
			(unsigned long long)m->gfn, (unsigned long long)m->mirrored);
	else if (m->host == (pfn_t)-1)
		err_set(text->err, 0, "%s maps gfn %#llx to frame %#llx, the host maps nothing there", where,
			(unsigned long long)m->gfn, (unsigned long long)m->mirrored);
	else
		err_set(text->err, 0, "%s maps gfn %#llx to frame %#llx, the host maps frame %#llx", where,
			(unsigned long long)m->gfn, (unsigned long long)m->mirrored, (unsigned long long)m->host);
}

static u64 soft_audit(struct vm *vm, struct err *err)
{
	struct audit_text text = { .err = err };

	return mmu_audit(soft_vm(vm)->mmu, audit_first, &text);
}

const struct engine engine_soft = {
	.name = "soft",
	.summary = "tain's own mm and MMU, software vCPUs",
	.needs = "nothing",
	.own_mm = true,
	.probe = soft_probe,
	.create = soft_create,
	.destroy = soft_destroy,
	.identify = soft_identify,
	.set_memory = soft_set_memory,
	.load = soft_load,
	.vcpu_create = soft_vcpu_create,
	.vcpu_destroy = soft_vcpu_destroy,
	.vcpu_run = soft_vcpu_run,
	.vcpu_kick = soft_vcpu_kick,
	.stats = soft_stats,
	.audit = soft_audit,
};
