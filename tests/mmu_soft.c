/* SPDX-License-Identifier: MIT */
/* The software engine, with guests of a few lines that use the accessor of every native guest. */
#define GUEST_NATIVE
#include "guest/native.h"
#include "lib/alloc.h"
#include "mmu/mmu_internal.h"
#include "tests/test.h"
#include "vmm/soft_internal.h"

#include <stdio.h>
#include <string.h>

#define DATA_HVA 0x20000000ull
#define DATA_PAGES 64ull
#define DATA_BYTES (DATA_PAGES << PAGE_SHIFT)
#define RW (TAIN_PROT_READ | TAIN_PROT_WRITE)

static const struct vm_config small = {
	.vcpus = 2,
	.shared_bytes = sizeof(struct guest_shared) + 2 * sizeof(struct guest_vcpu),
	.data_bytes = DATA_BYTES,
	.arena_bytes = 4 << 20,
};

/* What the handler saw. */
struct seen {
	unsigned int count[VCPU_EXIT_CRASH + 1];
	struct vcpu_exit last; /* of any reason but text */
	char text[256];
	bool (*decide)(struct vcpu *vcpu, const struct vcpu_exit *exit,
		       struct seen *seen); /* NULL: go on but for faults */
	void *arg;
};

static bool handler(struct vcpu *vcpu, const struct vcpu_exit *exit, void *arg)
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

static struct vm *make_vm(const struct vm_config *config, const struct guest_native_entry *entry)
{
	struct err err = { "" };
	struct vm *vm = NULL;

	if (!CHECK_MSG(!vm_create(&engine_soft, config, &vm, &err), "%s", err.text))
		return NULL;
	CHECK_EQ(mm_mmap(vm_mm(vm), DATA_HVA, DATA_BYTES, RW, TAIN_MAP_FIXED, NULL), 0);
	CHECK_MSG(!vm_set_data(vm, DATA_HVA, DATA_BYTES, &err), "%s", err.text);
	if (entry)
		soft_load_native(vm, entry);
	return vm;
}

static int run(struct vm *vm, u32 vcpu, struct seen *seen, struct err *err)
{
	err->text[0] = 0;
	return vcpu_run(vm_vcpu(vm, vcpu), handler, seen, err);
}

static inline u64 data_gpa(u64 page)
{
	return GUEST_DATA_GPA + (page << PAGE_SHIFT);
}

/* --- guests ------------------------------------------------------------------ */

static int fill_and_sum(struct guest_native *native, void *shared, uint32_t vcpu)
{
	struct guest g = { .native = native };
	u64 page, sum = 0;

	for (page = 0; page < DATA_PAGES; page++)
		guest_write64(&g, data_gpa(page) + 8 * vcpu, page);
	for (page = 0; page < DATA_PAGES; page++)
		sum += guest_read64(&g, data_gpa(page) + 8 * vcpu);
	native->out(native, GUEST_PORT_TEXT, "done\n", 1, 5);
	return (int)sum;
}

static int touch_first_and_last(struct guest_native *native, void *shared, uint32_t vcpu)
{
	struct guest g = { .native = native };

	guest_write32(&g, data_gpa(0), 1);
	guest_write8(&g, data_gpa(DATA_PAGES) - 1, 7);
	return guest_read8(&g, data_gpa(DATA_PAGES) - 1);
}

static int outside_every_slot(struct guest_native *native, void *shared, uint32_t vcpu)
{
	struct guest g = { .native = native };

	return (int)guest_read64(&g, data_gpa(DATA_PAGES));
}

static int exit_by_port(struct guest_native *native, void *shared, uint32_t vcpu)
{
	u32 code = 42;

	native->out(native, GUEST_PORT_EXIT, &code, 4, 1);
	return 1; /* not reached */
}

static int strange_port(struct guest_native *native, void *shared, uint32_t vcpu)
{
	native->out(native, 0x60, "ab", 2, 1);
	return 3;
}

static int spin(struct guest_native *native, void *shared, uint32_t vcpu)
{
	const struct guest_shared *control = shared;
	struct guest g = { .native = native };

	while (!__atomic_load_n(&control->stop, __ATOMIC_RELAXED))
		guest_pause(&g);
	return 0;
}

static int two_pages_one_entry(struct guest_native *native, void *shared, uint32_t vcpu)
{
	struct guest g = { .native = native };
	u64 shared_page = GUEST_SHARED_GPA;
	int i;

	/* DATA and SHARED are 1024 pages apart modulo the TLB: they share an entry. */
	for (i = 0; i < 10; i++) {
		if (guest_read32(&g, shared_page) != GUEST_ABI_MAGIC)
			return 1;
		guest_write64(&g, data_gpa(0), (u64)i);
		if (guest_read64(&g, data_gpa(0)) != (u64)i)
			return 2;
	}
	return 0;
}

/* Reads and writes its own word of random pages until stopped; it must never go back in time. */
static int count_up(struct guest_native *native, void *shared, uint32_t vcpu)
{
	const struct guest_shared *control = shared;
	struct guest g = { .native = native };
	u64 last[DATA_PAGES] = { 0 };
	u32 seed = vcpu;
	u64 n = 0;

	while (!__atomic_load_n(&control->stop, __ATOMIC_RELAXED)) {
		u64 page = (seed = seed * 1103515245 + 12345) >> 16 & (DATA_PAGES - 1);
		u64 at = data_gpa(page) + 64 + 8 * vcpu;
		u64 word = guest_read64(&g, at);

		if (word && word != last[page])
			return 1;
		last[page] = ++n;
		guest_write64(&g, at, n);
	}
	return 0;
}

#define ENTRY(fn) static const struct guest_native_entry entry_##fn = { #fn, fn }
ENTRY(fill_and_sum);
ENTRY(touch_first_and_last);
ENTRY(outside_every_slot);
ENTRY(exit_by_port);
ENTRY(strange_port);
ENTRY(spin);
ENTRY(two_pages_one_entry);
ENTRY(count_up);

/* --- tests --------------------------------------------------------------------- */

static void a_guest_runs(void)
{
	struct seen seen = { 0 };
	struct vm_identity id;
	struct vm_stats stats;
	struct err err;
	struct vm *vm;
	u64 word;

	vm = make_vm(&small, &entry_fill_and_sum);
	REQUIRE(vm);
	CHECK_EQ(run(vm, 1, &seen, &err), 0);
	CHECK_EQ(seen.count[VCPU_EXIT_DONE], 1);
	CHECK_EQ(seen.last.code, DATA_PAGES * (DATA_PAGES - 1) / 2);
	CHECK_STR(seen.text, "done\n");
	CHECK_EQ(mm_read64(vm_mm(vm), DATA_HVA + 5 * PAGE_SIZE + 8, &word), 0);
	CHECK_EQ(word, 5);
	vm_get_stats(vm, &stats);
	CHECK_GE(stats.faults, DATA_PAGES);
	CHECK_EQ(vm_audit(vm, &err), 0);
	vm_identify(vm, &id);
	CHECK_STR(id.engine, "soft");
	CHECK_STR(id.mmu, "tain EPT");
	CHECK_STR(id.host_mm, "tain mmap_sem");
	CHECK_STR(id.cpu, "software");
	/* Again, from the top, on a warm TLB and tables. */
	CHECK_EQ(run(vm, 1, &seen, &err), 0);
	CHECK_EQ(seen.count[VCPU_EXIT_DONE], 2);
	vm_destroy(vm);
}

static void the_header_is_filled(void)
{
	const struct guest_shared *shared;
	struct vm *vm;

	vm = make_vm(&small, NULL);
	REQUIRE(vm);
	shared = vm_shared(vm);
	CHECK_EQ(shared->magic, GUEST_ABI_MAGIC);
	CHECK_EQ(shared->version, GUEST_ABI_VERSION);
	CHECK_EQ(shared->vcpus, 2);
	CHECK_EQ(shared->shared_bytes, small.shared_bytes);
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

	vm = make_vm(&small, NULL);
	REQUIRE(vm);
	CHECK_EQ(run(vm, 0, &seen, &err), -EINVAL);
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
	CHECK_EQ(vm_set_data(vm, DATA_HVA + 1, PAGE_SIZE, &err), -EINVAL);
	CHECK_EQ(vm_set_data(vm, TAIN_TASK_SIZE, PAGE_SIZE, &err), -EINVAL);
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

static bool map_it(struct vcpu *vcpu, const struct vcpu_exit *exit, struct seen *seen)
{
	struct vm *vm = seen->arg;

	if (exit->reason != VCPU_EXIT_FAULT)
		return true;
	CHECK_EQ(mm_mmap(vm_mm(vm), DATA_HVA + align_down(exit->gpa - GUEST_DATA_GPA, PAGE_SIZE), PAGE_SIZE, RW,
			 TAIN_MAP_FIXED, NULL),
		 0);
	return true;
}

static void faults_that_the_host_refuses(void)
{
	struct seen seen = { 0 };
	struct err err;
	struct vm *vm;

	vm = make_vm(&small, &entry_touch_first_and_last);
	REQUIRE(vm);
	CHECK_EQ(mm_munmap(vm_mm(vm), DATA_HVA, DATA_BYTES), 0);
	CHECK_EQ(run(vm, 0, &seen, &err), 0); /* the handler says stop */
	CHECK_EQ(seen.count[VCPU_EXIT_FAULT], 1);
	CHECK_EQ(seen.last.gpa, GUEST_DATA_GPA);
	CHECK(seen.last.write);

	seen = (struct seen){ .decide = map_it, .arg = vm }; /* the handler repairs: the guest goes on */
	CHECK_EQ(run(vm, 0, &seen, &err), 0);
	CHECK_EQ(seen.count[VCPU_EXIT_FAULT], 2);
	CHECK_EQ(seen.last.reason, VCPU_EXIT_DONE);
	CHECK_EQ(seen.last.code, 7);

	seen = (struct seen){ 0 };
	soft_load_native(vm, &entry_outside_every_slot);
	CHECK_EQ(run(vm, 0, &seen, &err), 0);
	CHECK_EQ(seen.last.reason, VCPU_EXIT_MMIO);
	CHECK_EQ(seen.last.gpa, data_gpa(DATA_PAGES));
	CHECK(!seen.last.write);
	vm_destroy(vm);
}

static void ports(void)
{
	struct seen seen = { 0 };
	struct err err;
	struct vm *vm;

	vm = make_vm(&small, &entry_exit_by_port);
	REQUIRE(vm);
	CHECK_EQ(run(vm, 0, &seen, &err), 0);
	CHECK_EQ(seen.count[VCPU_EXIT_DONE], 1);
	CHECK_EQ(seen.last.code, 42);
	soft_load_native(vm, &entry_strange_port);
	CHECK_EQ(run(vm, 0, &seen, &err), 0);
	CHECK_EQ(seen.last.reason, VCPU_EXIT_CRASH);
	CHECK_CONTAINS(seen.last.err.text, "0x60");
	CHECK_EQ(seen.count[VCPU_EXIT_DONE], 1); /* stopped there */
	vm_destroy(vm);
}

static void tlb_conflicts(void)
{
	struct seen seen = { 0 };
	struct err err;
	struct vm *vm;

	vm = make_vm(&small, &entry_two_pages_one_entry);
	REQUIRE(vm);
	CHECK_EQ(run(vm, 0, &seen, &err), 0);
	CHECK_EQ(seen.last.code, 0);
	CHECK_EQ(vm_audit(vm, &err), 0);
	vm_destroy(vm);
}

static bool stop_at_third_kick(struct vcpu *vcpu, const struct vcpu_exit *exit, struct seen *seen)
{
	struct err err;

	CHECK_EQ(exit->reason, VCPU_EXIT_KICK);
	CHECK_EQ(vcpu_run(vcpu, handler, seen, &err), -EBUSY);
	if (seen->count[VCPU_EXIT_KICK] == 3)
		return false;
	vcpu_kick(vcpu);
	return true;
}

static void kicks(void)
{
	struct seen seen = { .decide = stop_at_third_kick };
	struct err err;
	struct vm *vm;

	vm = make_vm(&small, &entry_spin);
	REQUIRE(vm);
	vcpu_kick(vm_vcpu(vm, 0)); /* before the run: not lost */
	CHECK_EQ(run(vm, 0, &seen, &err), 0);
	CHECK_EQ(seen.count[VCPU_EXIT_KICK], 3);
	vm_destroy(vm);
}

static void a_full_arena_is_an_error(void)
{
	struct vm_config config = small;
	struct seen seen = { 0 };
	struct err err;
	struct vm *vm;

	config.arena_bytes = 1 << 20;
	config.data_bytes = 4 << 20;
	vm = make_vm(&config, NULL);
	REQUIRE(vm);
	CHECK_EQ(mm_mmap(vm_mm(vm), 0x40000000, 4 << 20, RW, TAIN_MAP_FIXED, NULL), 0);
	CHECK_EQ(mm_populate(vm_mm(vm), 0x40000000, 4 << 20), -ENOMEM);
	soft_load_native(vm, &entry_fill_and_sum);
	CHECK_EQ(run(vm, 0, &seen, &err), -ENOMEM);
	CHECK_CONTAINS(err.text, "no frame left");
	vm_destroy(vm);
}

static void a_poisoned_vm_is_an_error(void)
{
	struct seen seen = { 0 };
	struct err err;
	struct vm *vm;

	vm = make_vm(&small, &entry_fill_and_sum);
	REQUIRE(vm);
	mmu_poison(soft_vm(vm)->mmu, 5, 6, 7);
	CHECK_EQ(run(vm, 0, &seen, &err), -EIO);
	CHECK_CONTAINS(err.text, "maps gfn 0x5 to frame 0x6, the host to 0x7");
	CHECK_EQ(vm_audit(vm, &err), 1);
	CHECK_CONTAINS(err.text, "0x5");
	vm_destroy(vm);
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
		ret = vm_create(&engine_soft, &small, &vm, &err);
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

/* --- vCPUs on threads ------------------------------------------------------------ */

struct runner {
	struct vm *vm;
	struct seen seen;
	struct err err;
	struct thread thread;
	u32 id;
	int ret;
};

static bool retry_faults(struct vcpu *vcpu, const struct vcpu_exit *exit, struct seen *seen)
{
	return exit->reason != VCPU_EXIT_CRASH;
}

static void runner_main(void *arg)
{
	struct runner *r = arg;

	r->ret = vcpu_run(vm_vcpu(r->vm, r->id), handler, &r->seen, &r->err);
}

/* A page that is unmapped and mapped again reads zero, never an older count: see count_up(). */
static void stress_with_audit(void)
{
	struct runner r[2] = { 0 };
	struct err err = { "" };
	struct vm *vm;
	u32 i;

	vm = make_vm(&small, &entry_count_up);
	REQUIRE(vm);
	for (i = 0; i < 2; i++) {
		r[i].vm = vm;
		r[i].id = i;
		r[i].seen.decide = retry_faults;
		CHECK_EQ(thread_create(&r[i].thread, "vcpu", -1, runner_main, &r[i]), 0);
	}
	for (i = 0; i < TEST_SCALE(2000u); i++) {
		hva_t at = DATA_HVA + (i * 7 % DATA_PAGES << PAGE_SHIFT);

		CHECK_EQ(mm_munmap(vm_mm(vm), at, PAGE_SIZE), 0);
		CHECK_EQ(mm_mmap(vm_mm(vm), at, PAGE_SIZE, RW, TAIN_MAP_FIXED, NULL), 0);
		vcpu_kick(vm_vcpu(vm, i % 2));
		if (i % 16 == 0)
			CHECK_MSG(!vm_audit(vm, &err), "%s", err.text);
	}
	__atomic_store_n(&vm_guest_shared(vm)->stop, 1, __ATOMIC_RELAXED);
	for (i = 0; i < 2; i++) {
		thread_join(&r[i].thread);
		CHECK_MSG(!r[i].ret, "vCPU %u: %s", i, r[i].err.text);
		CHECK_EQ(r[i].seen.last.reason, VCPU_EXIT_DONE);
		CHECK_EQ(r[i].seen.last.code, 0);
	}
	CHECK_MSG(!vm_audit(vm, &err), "%s", err.text);
	CHECK_EQ(frame_arena_verify(soft_vm(vm)->arena), 0);
	vm_destroy(vm);
}

const struct test_case mmu_soft_tests[] = {
	TEST(a_guest_runs),
	TEST(the_header_is_filled),
	TEST(bad_configurations),
	TEST(bad_guests_and_arguments),
	TEST(every_built_in_guest_has_an_entry),
	TEST(faults_that_the_host_refuses),
	TEST(ports),
	TEST(tlb_conflicts),
	TEST(kicks),
	TEST(a_full_arena_is_an_error),
	TEST(a_poisoned_vm_is_an_error),
	TEST(nth_allocation_fails),
	TEST(stress_with_audit),
	TEST_END,
};
