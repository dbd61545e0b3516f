/* SPDX-License-Identifier: MIT */
/* Virtual machines as every engine sees them: engines by name, creation, SHARED and its header, guests and arguments.
 */
#include "lib/alloc.h"
#include "lib/atomic.h"
#include "lib/time.h"
#include "tain/mm.h"
#include "vmm/vmm_internal.h"

#include <string.h>

static const struct engine *const engines[] = { &engine_soft, &engine_kvm, &engine_qemu, NULL };

static const struct guest_info guests[] = {
#define GUEST_INFO(name, summary) { #name, summary },
	GUEST_WORKLOADS(GUEST_INFO)
#undef GUEST_INFO
		{ NULL, NULL }
};

const struct engine *const *engine_all(void)
{
	return engines;
}

const struct engine *engine_find(const char *name)
{
	const struct engine *const *engine;

	for (engine = engines; *engine; engine++) {
		if (!strcmp((*engine)->name, name))
			return *engine;
	}
	return NULL;
}

const struct guest_info *guest_list(void)
{
	return guests;
}

static size_t shared_bytes_min(u32 vcpus)
{
	return sizeof(struct guest_shared) + vcpus * sizeof(struct guest_vcpu);
}

static int config_check(const struct vm_config *config, struct err *err)
{
	size_t max_shared = GUEST_DATA_GPA - GUEST_SHARED_GPA;

	if (!config->vcpus || config->vcpus > GUEST_MAX_VCPUS)
		return err_set(err, -EINVAL, "%u vCPUs asked for; a VM has 1 to %u", config->vcpus, GUEST_MAX_VCPUS);
	if (!is_aligned(config->shared_bytes, PAGE_SIZE) || !is_aligned(config->data_bytes, PAGE_SIZE) ||
	    !is_aligned(config->arena_bytes, PAGE_SIZE))
		return err_set(err, -EINVAL, "memory sizes must be multiples of %lu bytes", PAGE_SIZE);
	if (config->shared_bytes < shared_bytes_min(config->vcpus) || config->shared_bytes > max_shared)
		return err_set(err, -EINVAL,
			       "%zu bytes of memory shared with the guest asked for; %zu to %zu are possible",
			       config->shared_bytes, shared_bytes_min(config->vcpus), max_shared);
	if (config->data_bytes > TAIN_TASK_SIZE / 2 || config->arena_bytes > TAIN_TASK_SIZE)
		return err_set(err, -EINVAL, "%zu bytes of guest memory asked for; at most %llu are possible",
			       config->data_bytes, TAIN_TASK_SIZE / 2);
	return 0;
}

static void shared_init(struct vm *vm)
{
	struct guest_shared *shared = vm_guest_shared(vm);

	shared->magic = GUEST_ABI_MAGIC;
	shared->version = GUEST_ABI_VERSION;
	shared->vcpus = vm->config.vcpus;
	shared->shared_bytes = vm->config.shared_bytes;
	shared->tsc_khz = cycles_khz();
	shared->vcpu_offset = sizeof(*shared);
}

static void vcpus_destroy(struct vm *vm)
{
	u32 i;

	for (i = 0; i < vm->config.vcpus; i++) {
		if (vm->vcpus[i])
			vm->engine->vcpu_destroy(vm->vcpus[i]);
		vm->vcpus[i] = NULL;
	}
}

int vm_create(const struct engine *engine, const struct vm_config *config, struct vm **out, struct err *err)
{
	int ret = config_check(config, err);
	struct vm *vm;
	u32 i;

	if (ret)
		return ret;
	vm = mem_zalloc(sizeof(*vm));
	if (!vm)
		return err_set(err, -ENOMEM, "no memory for a VM");
	vm->engine = engine;
	vm->config = *config;
	vm->data_gpa = GUEST_DATA_GPA;
	ret = engine->create(vm, config, err);
	if (ret)
		goto free_vm;
	shared_init(vm);
	for (i = 0; i < config->vcpus; i++) {
		ret = engine->vcpu_create(vm, i, &vm->vcpus[i], err);
		if (ret)
			goto destroy_vcpus;
	}
	*out = vm;
	return 0;

destroy_vcpus:
	vcpus_destroy(vm);
	engine->destroy(vm);
free_vm:
	mem_free(vm);
	return ret;
}

void vm_destroy(struct vm *vm)
{
	vcpus_destroy(vm);
	vm->engine->destroy(vm);
	mem_free(vm);
}

void vm_abandon(void)
{
	for (const struct engine *const *engine = engines; *engine; engine++)
		if ((*engine)->abandon)
			(*engine)->abandon();
}

void *vm_shared(struct vm *vm)
{
	return vm->shared;
}

struct guest_vcpu *vm_guest_vcpu(struct vm *vm, u32 id)
{
	ASSERT(id < vm->config.vcpus);
	return (struct guest_vcpu *)((char *)vm->shared + sizeof(struct guest_shared)) + id;
}

struct mm_struct *vm_mm(struct vm *vm)
{
	return vm->mm;
}

struct vcpu *vm_vcpu(struct vm *vm, u32 id)
{
	return id < vm->config.vcpus ? vm->vcpus[id] : NULL;
}

void vm_identify(struct vm *vm, struct vm_identity *id)
{
	vm->engine->identify(vm, id);
}

static gpa_t range_gpa(const struct vm *vm, u32 range)
{
	return vm->data_gpa + range * vm->range_bytes;
}

static int set_range(struct vm *vm, u32 range, gpa_t gpa, size_t bytes, struct err *err)
{
	return vm->engine->set_memory(vm, VM_SLOT_DATA + range, gpa, vm->data_hva[range], bytes, err);
}

int vm_set_ranges(struct vm *vm, const hva_t *hva, u32 nr, size_t bytes, struct err *err)
{
	int ret;

	if (!nr || nr > VM_MAX_RANGES)
		return err_set(err, -EINVAL, "%u ranges of guest memory; 1 to %d are possible", nr, VM_MAX_RANGES);
	for (u32 i = 0; i < nr; i++)
		if (!is_aligned(hva[i], PAGE_SIZE) || !is_aligned(bytes, PAGE_SIZE))
			return err_set(err, -EINVAL, "guest memory at %#llx, %zu bytes: not a multiple of %lu",
				       (unsigned long long)hva[i], bytes, PAGE_SIZE);
	vm->range_bytes = bytes;
	for (vm->ranges = 0; vm->ranges < nr; vm->ranges++) {
		vm->data_hva[vm->ranges] = hva[vm->ranges];
		ret = set_range(vm, vm->ranges, range_gpa(vm, vm->ranges), bytes, err);
		if (ret)
			return ret;
	}
	vm_guest_shared(vm)->data_base = vm->data_gpa;
	vm_guest_shared(vm)->data_bytes = nr * bytes;
	return 0;
}

int vm_set_spare(struct vm *vm, hva_t hva, size_t bytes, struct err *err)
{
	return vm->engine->set_memory(vm, VM_SLOT_SPARE, GUEST_SHARED_END - bytes, hva, bytes, err);
}

/* The guest sees its arguments as offsets into one buffer in SHARED. */
static int copy_args(struct guest_shared *shared, int argc, char *const argv[], struct err *err)
{
	size_t used = 0;
	int i;

	if (argc < 0 || argc > GUEST_MAX_ARGS)
		return err_set(err, -E2BIG, "%d guest arguments; at most %d fit", argc, GUEST_MAX_ARGS);
	for (i = 0; i < argc; i++) {
		size_t bytes = strlen(argv[i]) + 1;

		if (bytes > sizeof(shared->args) - used)
			return err_set(err, -E2BIG, "guest arguments too long: %zu bytes fit, argument %d does not",
				       sizeof(shared->args), i + 1);
		memcpy(shared->args + used, argv[i], bytes);
		shared->arg_offset[i] = used;
		used += bytes;
	}
	shared->argc = argc;
	return 0;
}

int vm_load(struct vm *vm, const struct guest_image *image, int argc, char *const argv[], struct err *err)
{
	int ret = copy_args(vm_guest_shared(vm), argc, argv, err);

	if (!ret)
		ret = vm->engine->load(vm, image, err);
	vm->loaded = !ret;
	return ret;
}

void vm_get_stats(struct vm *vm, struct vm_stats *stats)
{
	*stats = (struct vm_stats){ 0 };
	vm->engine->stats(vm, stats);
}

int vm_show_range(struct vm *vm, u32 range, enum vm_show show, struct err *err)
{
	/* Behind DATA, each range at a place of its own. */
	gpa_t away = align_up(range_gpa(vm, vm->ranges), 1ul << 30) + range * vm->range_bytes;

	return set_range(vm, range, show == VM_MOVE ? away : range_gpa(vm, range),
			 show == VM_HIDE ? 0 : vm->range_bytes, err);
}

int vm_dirty_log(struct vm *vm, u32 range, enum vm_dirty what, u64 *bitmap, struct err *err)
{
	if (!vm->engine->dirty_log)
		return err_set(err, -EOPNOTSUPP, "engine %s logs no writes", vm->engine->name);
	return vm->engine->dirty_log(vm, range, what, bitmap, err);
}

int vm_child_read(const struct vm *vm, const struct vm_child_read *r)
{
	return vm->engine->child_read ? vm->engine->child_read(vm, r) : -EOPNOTSUPP;
}

gpa_t vm_data_gpa(const struct vm *vm)
{
	return vm->data_gpa;
}

int vm_outside(struct vm *vm, struct vm_outside *to)
{
	if (!vm->engine->look_outside)
		return -EOPNOTSUPP;
	vm->engine->look_outside(vm, to);
	return 0;
}

int vm_control(struct vm *vm, enum vm_control what, struct err *err)
{
	if (!vm->engine->control)
		return err_set(err, -EOPNOTSUPP, "engine %s has no such control", vm->engine->name);
	return vm->engine->control(vm, what, err);
}

int vm_balloon(struct vm *vm, u64 first, u64 pages, struct err *err)
{
	if (!vm->engine->balloon)
		return err_set(err, -EOPNOTSUPP, "engine %s has no balloon", vm->engine->name);
	return vm->engine->balloon(vm, first, pages, err);
}

u64 vm_audit(struct vm *vm, struct err *err)
{
	return vm->engine->audit ? vm->engine->audit(vm, err) : -1ull;
}
