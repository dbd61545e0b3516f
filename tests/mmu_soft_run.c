/* SPDX-License-Identifier: MIT */
/* The software engine at work, with guests of a few lines that use the accessor of every native guest. */
#include "tests/mmu_soft.h"

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

	vm = soft_make_vm(&soft_small, &entry_fill_and_sum);
	REQUIRE(vm);
	CHECK_EQ(soft_run(vm, 1, &seen, &err), 0);
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
	CHECK_EQ(soft_run(vm, 1, &seen, &err), 0);
	CHECK_EQ(seen.count[VCPU_EXIT_DONE], 2);
	vm_destroy(vm);
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

	vm = soft_make_vm(&soft_small, &entry_touch_first_and_last);
	REQUIRE(vm);
	CHECK_EQ(mm_munmap(vm_mm(vm), DATA_HVA, DATA_BYTES), 0);
	CHECK_EQ(soft_run(vm, 0, &seen, &err), 0); /* the soft_handler says stop */
	CHECK_EQ(seen.count[VCPU_EXIT_FAULT], 1);
	CHECK_EQ(seen.last.gpa, GUEST_DATA_GPA);
	CHECK(seen.last.write);

	seen = (struct seen){ .decide = map_it, .arg = vm }; /* the soft_handler repairs: the guest goes on */
	CHECK_EQ(soft_run(vm, 0, &seen, &err), 0);
	CHECK_EQ(seen.count[VCPU_EXIT_FAULT], 2);
	CHECK_EQ(seen.last.reason, VCPU_EXIT_DONE);
	CHECK_EQ(seen.last.code, 7);

	seen = (struct seen){ 0 };
	soft_load_native(vm, &entry_outside_every_slot);
	CHECK_EQ(soft_run(vm, 0, &seen, &err), 0);
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

	vm = soft_make_vm(&soft_small, &entry_exit_by_port);
	REQUIRE(vm);
	CHECK_EQ(soft_run(vm, 0, &seen, &err), 0);
	CHECK_EQ(seen.count[VCPU_EXIT_DONE], 1);
	CHECK_EQ(seen.last.code, 42);
	soft_load_native(vm, &entry_strange_port);
	CHECK_EQ(soft_run(vm, 0, &seen, &err), 0);
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

	vm = soft_make_vm(&soft_small, &entry_two_pages_one_entry);
	REQUIRE(vm);
	CHECK_EQ(soft_run(vm, 0, &seen, &err), 0);
	CHECK_EQ(seen.last.code, 0);
	CHECK_EQ(vm_audit(vm, &err), 0);
	vm_destroy(vm);
}

static bool stop_at_third_kick(struct vcpu *vcpu, const struct vcpu_exit *exit, struct seen *seen)
{
	struct err err;

	CHECK_EQ(exit->reason, VCPU_EXIT_KICK);
	CHECK_EQ(vcpu_run(vcpu, soft_handler, seen, &err), -EBUSY);
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

	vm = soft_make_vm(&soft_small, &entry_spin);
	REQUIRE(vm);
	vcpu_kick(vm_vcpu(vm, 0)); /* before the run: not lost */
	CHECK_EQ(soft_run(vm, 0, &seen, &err), 0);
	CHECK_EQ(seen.count[VCPU_EXIT_KICK], 3);
	vm_destroy(vm);
}

static void a_full_arena_is_an_error(void)
{
	struct vm_config config = soft_small;
	struct seen seen = { 0 };
	struct err err;
	struct vm *vm;

	config.arena_bytes = 1 << 20;
	config.data_bytes = 4 << 20;
	vm = soft_make_vm(&config, NULL);
	REQUIRE(vm);
	CHECK_EQ(mm_mmap(vm_mm(vm), 0x40000000, 4 << 20, RW, TAIN_MAP_FIXED, NULL), 0);
	CHECK_EQ(mm_populate(vm_mm(vm), 0x40000000, 4 << 20), -ENOMEM);
	soft_load_native(vm, &entry_fill_and_sum);
	CHECK_EQ(soft_run(vm, 0, &seen, &err), -ENOMEM);
	CHECK_CONTAINS(err.text, "no frame left");
	vm_destroy(vm);
}

static void a_poisoned_vm_is_an_error(void)
{
	struct seen seen = { 0 };
	struct err err;
	struct vm *vm;

	vm = soft_make_vm(&soft_small, &entry_fill_and_sum);
	REQUIRE(vm);
	mmu_poison(soft_vm(vm)->mmu,
		   &(struct mmu_mismatch){ .gfn = 5, .mirrored = 6, .host = 7, .rule = "for a test" });
	CHECK_EQ(soft_run(vm, 0, &seen, &err), -EIO);
	CHECK_CONTAINS(err.text, "for a test: gfn 0x5, frame 0x6 there, frame 0x7 in the host");
	CHECK_EQ(vm_audit(vm, &err), 1);
	CHECK_CONTAINS(err.text, "for a test: gfn 0x5");
	vm_destroy(vm);
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

	r->ret = vcpu_run(vm_vcpu(r->vm, r->id), soft_handler, &r->seen, &r->err);
}

/* A page that is unmapped and mapped again reads zero, never an older count: see count_up(). */
static void stress_with_audit(void)
{
	struct runner r[2] = { 0 };
	struct err err = { "" };
	struct vm *vm;
	u32 i;

	vm = soft_make_vm(&soft_small, &entry_count_up);
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

const struct test_case mmu_soft_run_tests[] = {
	TEST(a_guest_runs),
	TEST(faults_that_the_host_refuses),
	TEST(ports),
	TEST(tlb_conflicts),
	TEST(kicks),
	TEST(a_full_arena_is_an_error),
	TEST(a_poisoned_vm_is_an_error),
	TEST(stress_with_audit),
	TEST_END,
};
