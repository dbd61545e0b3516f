/* SPDX-License-Identifier: MIT */
/* The engines side by side: the same workloads, on each that runs here; and what only `soft` can be asked. */
#define GUEST_NATIVE /* the guests below are compiled in */
#include "guest/workload.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "lib/atomic.h"
#include "tests/vmm_env.h"
#include "tests/vmm_suites.h"
#include "vmm/vmm_internal.h"

typedef void engine_test(const struct engine *engine);

/* --- on every engine ------------------------------------------------------------- */

static void hello(const struct engine *engine)
{
	char greeting[64];
	struct env e;

	if (!env_create(&e, engine, 2, 16))
		goto destroy;
	if (!env_load(&e, "hello", "one", "exit=42"))
		goto destroy;
	env_run(&e);
	for (u32 i = 0; i < 2; i++) {
		snprintf(greeting, sizeof(greeting), "hello from vcpu %u of 2: one exit=42\n", i);
		CHECK_STR(e.vcpu[i].text, greeting);
		CHECK_EQ(env_count(&e, i, VCPU_EXIT_TEXT), 1); /* one line, told at once */
		CHECK_EQ(e.vcpu[i].last.code, 42);
	}
destroy:
	env_destroy(&e);
}

static void no_such_guest(const struct engine *engine)
{
	struct guest_image image = { .name = "nobody" };
	struct err err = { "" };
	struct env e;

	if (env_create(&e, engine, 1, 16)) {
		CHECK_EQ(vm_load(e.vm, &image, 0, NULL, &err), -ENOENT);
		CHECK_CONTAINS(err.text, "nobody");
		CHECK_EQ(vcpu_run(vm_vcpu(e.vm, 0), NULL, NULL, &err), -EINVAL);
	}
	env_destroy(&e);
}

static void counter(const struct engine *engine)
{
	struct env e;

	if (!env_create(&e, engine, 2, 16) || !env_load(&e, "counter", "passes=50", "pages=16"))
		goto destroy;
	env_run(&e);
	for (u32 i = 0; i < 2; i++) {
		CHECK_CONTAINS(e.vcpu[i].text, "total 800\n");
		CHECK_EQ(e.vcpu[i].last.code, 0);
		for (u64 page = 0; page < 16; page++)
			CHECK_EQ(env_read64(&e, page * PAGE_SIZE + GUEST_WSLOT_OFFSET + i * 8), 50);
	}
destroy:
	env_destroy(&e);
}

static void walks(const struct engine *engine)
{
	static const char *const guests[] = { "stride", "random" };
	struct env e;

	for (u32 i = 0; i < 2; i++) {
		if (env_create(&e, engine, 2, 64) && env_load(&e, guests[i], "passes=4", "write=1")) {
			env_run(&e);
			CHECK_CONTAINS(e.vcpu[0].text, "256 accesses in");
			CHECK_EQ(env_read64(&e, 63 * PAGE_SIZE + GUEST_WSLOT_OFFSET + 8) != 0, true);
		}
		env_destroy(&e);
	}
}

static void touch(const struct engine *engine)
{
	struct guest_command command = { .pages = 64, .write = 1, .timed = 1 };
	struct guest_shared *shared;
	u32 *samples;
	struct env e;

	if (!env_create(&e, engine, 1, 64) || !env_load(&e, "touch", NULL, NULL))
		goto destroy;
	shared = vm_shared(e.vm);
	shared->sample_offset = 512 << 10;
	shared->sample_count = 64;
	samples = (u32 *)((char *)shared + shared->sample_offset);
	env_start(&e);
	for (u32 order = GUEST_ORDER_SEQUENTIAL; order <= GUEST_ORDER_RANDOM; order++) {
		command.order = order;
		command.stride = 4;
		env_command(&e, 0, &command);
		CHECK_EQ(READ_ONCE(vm_guest_vcpu(e.vm, 0)->samples), 64);
		for (u32 i = 0; i < 64; i++)
			CHECK_NE(READ_ONCE(samples[i]), 0);
		CHECK_GT(READ_ONCE(vm_guest_vcpu(e.vm, 0)->command_cycles), 0);
	}
	env_command(&e, 0, &(struct guest_command){ .quit = 1 });
	env_join(&e);
	for (u64 page = 0; page < 64; page++)
		CHECK_EQ(env_read64(&e, page * PAGE_SIZE + GUEST_TOUCH_OFFSET(page)), page + 1);
destroy:
	env_destroy(&e);
}

static void stop_asked(const struct engine *engine)
{
	struct env e;

	if (!env_create(&e, engine, 2, 16) || !env_load(&e, "random", NULL, NULL))
		goto destroy;
	env_start(&e);
	env_wait_heartbeat(&e, 0);
	env_wait_heartbeat(&e, 1);
	WRITE_ONCE(((struct guest_shared *)vm_shared(e.vm))->stop, 1);
	env_join(&e);
	CHECK_EQ(env_count(&e, 0, VCPU_EXIT_DONE), 1);
	CHECK_EQ(env_count(&e, 1, VCPU_EXIT_DONE), 1);
destroy:
	env_destroy(&e);
}

static bool leave_on_kick(struct env_vcpu *v, const struct vcpu_exit *exit)
{
	(void)v;
	return exit->reason == VCPU_EXIT_TEXT;
}

static bool stay_on_kick(struct env_vcpu *v, const struct vcpu_exit *exit)
{
	(void)v;
	return exit->reason == VCPU_EXIT_TEXT || exit->reason == VCPU_EXIT_KICK;
}

static void kick_ends_a_run(const struct engine *engine)
{
	struct env e;

	if (!env_create(&e, engine, 1, 16) || !env_load(&e, "random", NULL, NULL))
		goto destroy;
	e.handler = leave_on_kick;
	env_start(&e);
	env_wait_heartbeat(&e, 0);
	vcpu_kick(vm_vcpu(e.vm, 0));
	env_join(&e);
	CHECK_EQ(e.vcpu[0].last.reason, VCPU_EXIT_KICK);
	CHECK_EQ(env_count(&e, 0, VCPU_EXIT_DONE), 0);
destroy:
	env_destroy(&e);
}

/* Each kick is answered: none is lost, whatever the vCPU is doing when it comes. */
static void no_kick_is_lost(const struct engine *engine)
{
	struct env e;

	if (!env_create(&e, engine, 1, 16) || !env_load(&e, "random", NULL, NULL))
		goto destroy;
	e.handler = stay_on_kick;
	vcpu_kick(vm_vcpu(e.vm, 0)); /* before there is a thread */
	env_start(&e);
	for (u32 n = 1; n <= TEST_SCALE(2000); n++) {
		env_wait_count(&e, 0, VCPU_EXIT_KICK, n);
		vcpu_kick(vm_vcpu(e.vm, 0));
	}
	env_wait_heartbeat(&e, 0);
	WRITE_ONCE(((struct guest_shared *)vm_shared(e.vm))->stop, 1);
	env_join(&e);
	CHECK_EQ(env_count(&e, 0, VCPU_EXIT_DONE), 1);
destroy:
	env_destroy(&e);
}

/* Page 3 is not there: the handler puts it back and the access is repeated. */
static bool repair(struct env_vcpu *v, const struct vcpu_exit *exit)
{
	if (exit->reason != VCPU_EXIT_FAULT)
		return exit->reason == VCPU_EXIT_TEXT;
	CHECK_EQ(exit->gpa & PAGE_MASK, GUEST_DATA_GPA + 3 * PAGE_SIZE);
	if (v->env->arg)
		env_protect(v->env, 3, PROT_READ | PROT_WRITE);
	else
		env_map(v->env, 3);
	return true;
}

static void fault_is_repaired(const struct engine *engine)
{
	struct env e;

	for (int protect = 0; protect < 2; protect++) {
		if (!env_create(&e, engine, 1, 16) || !env_load(&e, "counter", "passes=3", NULL)) {
			env_destroy(&e);
			return;
		}
		e.handler = repair;
		e.arg = protect ? &e : NULL;
		if (protect)
			env_protect(&e, 3, PROT_NONE);
		else
			env_unmap(&e, 3);
		env_run(&e);
		CHECK_EQ(env_count(&e, 0, VCPU_EXIT_FAULT), 1);
		CHECK_EQ(e.vcpu[0].last.code, 0);
		CHECK_EQ(env_read64(&e, 3 * PAGE_SIZE + GUEST_WSLOT_OFFSET), 3);
		env_destroy(&e);
	}
}

static bool leave_on_fault(struct env_vcpu *v, const struct vcpu_exit *exit)
{
	(void)v;
	return exit->reason == VCPU_EXIT_TEXT;
}

static bool stay_on_fault(struct env_vcpu *v, const struct vcpu_exit *exit)
{
	(void)v;
	return exit->reason == VCPU_EXIT_TEXT || exit->reason == VCPU_EXIT_FAULT;
}

static void fault_ends_a_run(const struct engine *engine)
{
	struct env e;

	if (!env_create(&e, engine, 1, 16) || !env_load(&e, "counter", "passes=3", NULL))
		goto destroy;
	e.handler = leave_on_fault;
	env_unmap(&e, 0);
	env_start(&e);
	env_join(&e);
	CHECK_EQ(e.vcpu[0].last.reason, VCPU_EXIT_FAULT);
	CHECK_EQ(e.vcpu[0].last.gpa & PAGE_MASK, GUEST_DATA_GPA);
	/* Repaired between two runs. */
	env_map(&e, 0);
	env_run(&e);
	CHECK_EQ(e.vcpu[0].last.code, 0);
destroy:
	env_destroy(&e);
}

/* A handler that insists on an access nobody repairs still hears the kick. */
static void kick_reaches_a_faulting_vcpu(const struct engine *engine)
{
	struct env e;

	if (!env_create(&e, engine, 1, 16) || !env_load(&e, "counter", NULL, NULL))
		goto destroy;
	e.handler = stay_on_fault;
	env_unmap(&e, 0);
	env_start(&e);
	env_wait_count(&e, 0, VCPU_EXIT_FAULT, 3);
	vcpu_kick(vm_vcpu(e.vm, 0));
	env_join(&e);
	CHECK_EQ(e.vcpu[0].last.reason, VCPU_EXIT_KICK);
destroy:
	env_destroy(&e);
}

static void data_can_move(const struct engine *engine)
{
	struct err err = { "" };
	hva_t half, none = 0;
	struct env e;

	if (!env_create(&e, engine, 1, 32) || !env_load(&e, "counter", "passes=2", "pages=16"))
		goto destroy;
	half = e.data + 16 * PAGE_SIZE;
	CHECK_MSG(!vm_set_ranges(e.vm, &half, 1, 16 * PAGE_SIZE, &err), "%s", err.text);
	env_run(&e);
	CHECK_EQ(env_read64(&e, GUEST_WSLOT_OFFSET), 0);
	CHECK_EQ(env_read64(&e, 16 * PAGE_SIZE + GUEST_WSLOT_OFFSET), 2);
	CHECK_MSG(!vm_set_ranges(e.vm, &none, 1, 0, &err), "%s", err.text);
destroy:
	env_destroy(&e);
}

static void statistics(const struct engine *engine)
{
	struct vm_stats stats;
	struct env e;

	if (!env_create(&e, engine, 1, 256) || !env_load(&e, "random", "passes=1", "write=1"))
		goto destroy;
	env_run(&e);
	vm_get_stats(e.vm, &stats);
	if (stats.faults)		    /* an old kernel has no statistics */
		CHECK_GT(stats.faults, 30); /* one in eight, where KVM fetches neighbours */
	else
		CHECK(!engine->own_mm);
destroy:
	env_destroy(&e);
}

#define ON_BOTH(test)                                                                                                  \
	static void test##_soft(void)                                                                                  \
	{                                                                                                              \
		test(&engine_soft);                                                                                    \
	}                                                                                                              \
	static void test##_kvm(void)                                                                                   \
	{                                                                                                              \
		test(&engine_kvm);                                                                                     \
	}
#define ALL_ON_BOTH(X)                                                                                                 \
	X(hello)                                                                                                       \
	X(no_such_guest)                                                                                               \
	X(counter)                                                                                                     \
	X(walks)                                                                                                       \
	X(touch)                                                                                                       \
	X(stop_asked)                                                                                                  \
	X(kick_ends_a_run)                                                                                             \
	X(no_kick_is_lost)                                                                                             \
	X(fault_is_repaired)                                                                                           \
	X(fault_ends_a_run)                                                                                            \
	X(kick_reaches_a_faulting_vcpu)                                                                                \
	X(data_can_move)                                                                                               \
	X(statistics)
ALL_ON_BOTH(ON_BOTH)

/* --- soft alone -------------------------------------------------------------------- */

static int mmio_main(struct guest_native *native, void *shared, uint32_t vcpu)
{
	struct guest g = { .native = native, .shared = shared, .id = vcpu };

	guest_write64(&g, 0xd0000008, 1);
	return 0;
}

static void mmio(void)
{
	static const struct guest_native_entry entry = { "mmio", mmio_main };
	struct env e;

	if (env_create(&e, &engine_soft, 1, 16)) {
		CHECK_EQ(soft_load_native(e.vm, &entry), 0);
		env_start(&e);
		env_join(&e);
		CHECK_EQ(e.vcpu[0].last.reason, VCPU_EXIT_MMIO);
		CHECK_EQ(e.vcpu[0].last.gpa, 0xd0000008);
		CHECK(e.vcpu[0].last.write);
	}
	env_destroy(&e);
}

static void elf_files_need_kvm(void)
{
	struct guest_image image = { .name = "x.elf", .path = "x.elf" };
	struct err err = { "" };
	struct env e;

	if (env_create(&e, &engine_soft, 1, 16)) {
		CHECK_NE(vm_load(e.vm, &image, 0, NULL, &err), 0);
		CHECK_CONTAINS(err.text, "x.elf");
		CHECK_CONTAINS(err.text, "kvm");
	}
	env_destroy(&e);
}

static void bad_configurations(void)
{
	static const struct vm_config configs[] = {
		{ .vcpus = 0, .shared_bytes = 1 << 20 },   { .vcpus = GUEST_MAX_VCPUS + 1, .shared_bytes = 1 << 20 },
		{ .vcpus = 1, .shared_bytes = 0 },	   { .vcpus = 1, .shared_bytes = 4097 },
		{ .vcpus = 1, .shared_bytes = 5ul << 30 }, { .vcpus = 1, .shared_bytes = 1 << 20, .data_bytes = 100 },
	};

	for (const struct engine *const *engine = engine_all(); *engine; engine++) {
		for (size_t i = 0; i < ARRAY_SIZE(configs); i++) {
			struct err err = { "" };
			struct vm *vm;

			if (!CHECK_MSG(vm_create(*engine, &configs[i], &vm, &err) == -EINVAL, "%s, configuration %zu",
				       (*engine)->name, i))
				continue;
			CHECK_NE(err.text[0], 0);
		}
	}
}

/* The table of both builds is one list. */
static void lists_agree(void)
{
	const struct guest_info *info = guest_list();
	u32 n = 0;

	for (; info[n].name; n++) {
		CHECK_STR(guest_native_table[n].name, info[n].name);
		CHECK_STR(guest_elf_table[n].name, info[n].name);
		CHECK_GT((const char *)guest_elf_table[n].end - (const char *)guest_elf_table[n].start, 1000);
		CHECK_NE(info[n].summary[0], 0);
	}
	CHECK_EQ(n, 6);
	CHECK_PTR_EQ(guest_native_table[n].name, NULL);
	CHECK_PTR_EQ(guest_elf_table[n].name, NULL);
	CHECK_PTR_EQ(engine_find("kvm"), &engine_kvm);
	CHECK_PTR_EQ(engine_find("none"), NULL);
}

#define TEST_SOFT(test) TEST(test##_soft),
#define TEST_KVM(test) TEST(test##_kvm),

const struct test_case vmm_soft_tests[] = {
	ALL_ON_BOTH(TEST_SOFT) TEST(mmio),
	TEST(elf_files_need_kvm),
	TEST(bad_configurations),
	TEST(lists_agree),
	TEST_END,
};
const struct test_case vmm_kvm_tests[] = { ALL_ON_BOTH(TEST_KVM) TEST_END };
