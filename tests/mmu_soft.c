/* SPDX-License-Identifier: MIT */
/* The software engine: VMs made, refused and described. */
#include "tests/mmu_soft.h"

#include "lib/alloc.h"

#include <stdio.h>
#include <string.h>

const struct vm_config soft_small = {
	.vcpus = 2,
	.shared_bytes = sizeof(struct guest_shared) + 2 * sizeof(struct guest_vcpu),
	.data_bytes = DATA_BYTES,
	.arena_bytes = 4 << 20,
};

bool soft_handler(struct vcpu *vcpu, const struct vcpu_exit *exit, void *arg)
{
	struct seen *seen = arg;

	seen->count[exit->reason]++;
	if (exit->reason == VCPU_EXIT_TEXT)
		snprintf(seen->text + strlen(seen->text), sizeof(seen->text) - strlen(seen->text), "%.*s",
			 (int)exit->bytes, (const char *)exit->data);
	else
		seen->last = *exit;
	if (seen->decide)
		return seen->decide(vcpu, exit, seen);
	return exit->reason == VCPU_EXIT_TEXT || exit->reason == VCPU_EXIT_KICK;
}

struct vm *soft_make_vm(const struct vm_config *config, const struct guest_native_entry *entry)
{
	struct err err = { "" };
	struct vm *vm = NULL;

	if (!CHECK_MSG(!vm_create(&engine_soft, config, &vm, &err), "%s", err.text))
		return NULL;
	CHECK_EQ(mm_mmap(vm_mm(vm), DATA_HVA, DATA_BYTES, RW, TAIN_MAP_FIXED, NULL), 0);
	CHECK_MSG(!vm_set_ranges(vm, &(hva_t){ DATA_HVA }, 1, DATA_BYTES, &err), "%s", err.text);
	if (entry)
		soft_load_native(vm, entry);
	return vm;
}

int soft_run(struct vm *vm, u32 vcpu, struct seen *seen, struct err *err)
{
	err->text[0] = 0;
	return vcpu_run(vm_vcpu(vm, vcpu), soft_handler, seen, err);
}

static void the_header_is_filled(void)
{
	const struct guest_shared *shared;
	struct vm *vm;

	vm = soft_make_vm(&soft_small, NULL);
	REQUIRE(vm);
	shared = vm_shared(vm);
	CHECK_EQ(shared->magic, GUEST_ABI_MAGIC);
	CHECK_EQ(shared->version, GUEST_ABI_VERSION);
	CHECK_EQ(shared->vcpus, 2);
	CHECK_EQ(shared->shared_bytes, soft_small.shared_bytes);
	CHECK_EQ(shared->data_bytes, DATA_BYTES);
	CHECK_GT(shared->tsc_khz, 0);
	CHECK_PTR_EQ((const char *)shared + shared->vcpu_offset, vm_guest_vcpu(vm, 0));
	CHECK_EQ(vm_guest_vcpu(vm, 1)->posted, 0);
	vm_destroy(vm);
}

static void bad_configurations(void)
{
	const struct {
		const char *text;
		struct vm_config config;
		int ret;
	} table[] = {
		{ "vCPUs", { .vcpus = 0, .shared_bytes = 1 << 20 }, -EINVAL },
		{ "vCPUs", { .vcpus = GUEST_MAX_VCPUS + 1, .shared_bytes = 1 << 20 }, -EINVAL },
		{ "multiples", { .vcpus = 1, .shared_bytes = (1 << 20) + 1 }, -EINVAL },
		{ "multiples", { .vcpus = 1, .shared_bytes = 1 << 20, .data_bytes = 1 }, -EINVAL },
		{ "shared with the guest", { .vcpus = 2, .shared_bytes = sizeof(struct guest_shared) }, -EINVAL },
		{ "shared with the guest", { .vcpus = 2, .shared_bytes = 1ull << 32 }, -EINVAL },
		{ "at most", { .vcpus = 1, .shared_bytes = 1 << 20, .data_bytes = TAIN_TASK_SIZE }, -EINVAL },
		{ "at most", { .vcpus = 1, .shared_bytes = 1 << 20, .data_bytes = -PAGE_SIZE }, -EINVAL },
		{ "arena", { .vcpus = 1, .shared_bytes = 1 << 20, .arena_bytes = 1ull << 46 }, -EINVAL },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(table); i++) {
		struct err err = { "" };
		struct vm *vm = NULL;
		int ret = vm_create(&engine_soft, &table[i].config, &vm, &err);

		CHECK_MSG(ret == table[i].ret, "row %zu: %d, expected %d (%s)", i, ret, table[i].ret, err.text);
		CHECK_CONTAINS(err.text, table[i].text);
		CHECK_PTR_EQ(vm, NULL);
	}
}

static void bad_guests_and_arguments(void)
{
	const struct guest_image unknown = { .name = "nobody" }, elf = { .name = "x.elf", .path = "x.elf" };
	const struct guest_image hello = { .name = "hello" };
	static char longest[GUEST_ARGS_BYTES + 1];
	char *many[GUEST_MAX_ARGS + 1], *one[1] = { longest };
	struct err err = { "" };
	struct seen seen = { 0 };
	struct vm *vm;
	size_t i;

	vm = soft_make_vm(&soft_small, NULL);
	REQUIRE(vm);
	CHECK_EQ(soft_run(vm, 0, &seen, &err), -EINVAL);
	CHECK_CONTAINS(err.text, "no guest");
	CHECK_EQ(vm_load(vm, &unknown, 0, NULL, &err), -ENOENT);
	CHECK_CONTAINS(err.text, "nobody");
	CHECK_EQ(vm_load(vm, &elf, 0, NULL, &err), -ENOEXEC);
	CHECK_CONTAINS(err.text, "--engine kvm");
	for (i = 0; i < ARRAY_SIZE(many); i++)
		many[i] = "a";
	CHECK_EQ(vm_load(vm, &hello, GUEST_MAX_ARGS + 1, many, &err), -E2BIG);
	CHECK_CONTAINS(err.text, "at most 32");
	memset(longest, 'x', GUEST_ARGS_BYTES);
	CHECK_EQ(vm_load(vm, &hello, 1, one, &err), -E2BIG);
	CHECK_CONTAINS(err.text, "too long");
	longest[GUEST_ARGS_BYTES - 1] = 0;
	CHECK_EQ(vm_load(vm, &hello, 1, one, &err), 0);
	CHECK_EQ(vm_set_ranges(vm, &(hva_t){ DATA_HVA + 1 }, 1, PAGE_SIZE, &err), -EINVAL);
	CHECK_EQ(vm_set_ranges(vm, &(hva_t){ TAIN_TASK_SIZE }, 1, PAGE_SIZE, &err), -EINVAL);
	vm_destroy(vm);
}

static void every_built_in_guest_has_an_entry(void)
{
	const struct guest_info *info;
	const struct guest_native_entry *entry;
	unsigned int infos = 0, entries = 0;

	for (info = guest_list(); info->name; info++)
		infos++;
	for (entry = guest_native_table; entry->name; entry++)
		entries++;
	CHECK_GT(infos, 0);
	CHECK_EQ(infos, entries);
	CHECK_PTR_EQ(engine_find("soft"), &engine_soft);
	CHECK_PTR_EQ(engine_find("nothing"), NULL);
}

static void nth_allocation_fails(void)
{
#if CHECKING
	u64 n, outstanding = mem_outstanding();
	struct vm *vm;

	for (n = 1;; n++) {
		struct err err = { "" };
		int ret;

		mem_fail_after(n);
		ret = vm_create(&engine_soft, &soft_small, &vm, &err);
		mem_fail_after(0);
		if (!ret)
			break;
		CHECK_EQ(ret, -ENOMEM);
		CHECK_NE(err.text[0], 0);
		CHECK_EQ(mem_outstanding(), outstanding);
	}
	CHECK_GT(n, 8);
	vm_destroy(vm);
#endif
}

const struct test_case mmu_soft_tests[] = {
	TEST(the_header_is_filled),	TEST(bad_configurations),
	TEST(bad_guests_and_arguments), TEST(every_built_in_guest_has_an_entry),
	TEST(nth_allocation_fails),	TEST_END,
};
