/* SPDX-License-Identifier: MIT */
/* What only a bare guest on /dev/kvm can do: exceptions, ports, MMIO, partial lines; probing, leaks, lack of memory. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "lib/alloc.h"
#include "lib/atomic.h"
#include "lib/time.h"
#include "tests/vmm_env.h"
#include "tests/vmm_suites.h"
#include "vmm/elf.h"
#include "vmm/kvm_internal.h"

/* The probe guest with `do=action` and one more argument, on one vCPU. Return: false when it cannot run. */
static bool probe_create(struct env *e, enum probe_action action, const char *arg)
{
	char what[16];

	snprintf(what, sizeof(what), "do=%d", action);
	return env_create(e, &engine_kvm, 1, 16) && env_load(e, "probe", what, arg);
}

static void formats_text(void)
{
	struct env e;

	if (probe_create(&e, PROBE_FORMAT, NULL)) {
		env_run(&e);
		CHECK_STR(e.vcpu[0].text,
			  "[  -42|42   |00abc|str|c|-5000000000|0|7|%|   right|l  |ffffffffffffffff]\n");
		CHECK_EQ(env_count(&e, 0, VCPU_EXIT_TEXT), 1); /* one line, one exit */
	}
	env_destroy(&e);
}

static void exits_in_the_middle(void)
{
	struct env e;

	if (probe_create(&e, PROBE_EXIT, "value=77")) {
		env_run(&e);
		CHECK_EQ(e.vcpu[0].last.code, 77);
		/* Once ended, it stays ended. */
		env_start(&e);
		env_join(&e);
		CHECK_EQ(env_count(&e, 0, VCPU_EXIT_DONE), 2);
		CHECK_EQ(e.vcpu[0].last.code, 77);
	}
	env_destroy(&e);
}

static void reports_exceptions(void)
{
	static const struct {
		enum probe_action action;
		u32 code;
		const char *says;
	} traps[] = {
		{ PROBE_PAGE_FAULT, 128 + 14, "guest: exception 14 (page fault), error 0x4, rip 0x20" },
		{ PROBE_PAGE_FAULT, 128 + 14, ", address 0x7000002000\n" },
		{ PROBE_DIVIDE, 128 + 0, "guest: exception 0 (divide error)" },
		{ PROBE_INVALID_OPCODE, 128 + 6, "guest: exception 6 (invalid opcode)" },
		{ PROBE_PRIVILEGE, 128 + 13, "guest: exception 13 (general protection)" },
		{ PROBE_BREAKPOINT, 128 + 3, "guest: exception 3 (breakpoint)" },
		{ PROBE_STACK, 128 + 14, "guest: exception 14 (page fault), error 0x6" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(traps); i++) {
		struct env e;

		if (probe_create(&e, traps[i].action, NULL)) {
			env_run(&e);
			CHECK_EQ(e.vcpu[0].last.code, traps[i].code);
			CHECK_CONTAINS(e.vcpu[0].text, traps[i].says);
		}
		env_destroy(&e);
		if (!e.data)
			return; /* skipped */
	}
}

static bool go_on(struct env_vcpu *v, const struct vcpu_exit *exit)
{
	(void)v;
	return exit->reason != VCPU_EXIT_DONE;
}

static void mmio(void)
{
	struct env e;

	if (probe_create(&e, PROBE_POKE, "at=0xd0000010")) {
		env_start(&e);
		env_join(&e);
		CHECK_EQ(e.vcpu[0].last.reason, VCPU_EXIT_MMIO);
		CHECK_EQ(e.vcpu[0].last.gpa, 0xd0000010);
		CHECK(e.vcpu[0].last.write);
		CHECK_EQ(e.vcpu[0].last.bytes, 8);
		/* A second run goes on behind the write; the read floats. */
		e.handler = go_on;
		env_run(&e);
		CHECK_STR(e.vcpu[0].text, "wrote 18446744073709551615\n");
		CHECK_EQ(env_count(&e, 0, VCPU_EXIT_MMIO), 2);
	}
	env_destroy(&e);
}

/* DATA's end is not the end of what is mapped: the rest of its last 2 MiB is no memory. */
static void past_data_is_mmio(void)
{
	struct env e;

	if (probe_create(&e, PROBE_PEEK, "at=0x100010000")) {
		env_start(&e);
		env_join(&e);
		CHECK_EQ(e.vcpu[0].last.reason, VCPU_EXIT_MMIO);
		CHECK_EQ(e.vcpu[0].last.gpa, GUEST_DATA_GPA + 16 * PAGE_SIZE);
		CHECK(!e.vcpu[0].last.write);
	}
	env_destroy(&e);
}

static void unknown_port(void)
{
	struct env e;

	if (probe_create(&e, PROBE_PORT, "at=0x80")) {
		e.handler = go_on;
		env_run(&e);
		CHECK_EQ(env_count(&e, 0, VCPU_EXIT_CRASH), 1);
		CHECK_STR(e.vcpu[0].text, "read 0xffff\n");
	}
	env_destroy(&e);
}

static bool leave_on_kick(struct env_vcpu *v, const struct vcpu_exit *exit)
{
	(void)v;
	return exit->reason == VCPU_EXIT_TEXT;
}

/* What was said before a kick is heard before it. */
static void partial_line_is_not_lost(void)
{
	struct env e;

	if (probe_create(&e, PROBE_PARTIAL_LINE, NULL)) {
		e.handler = leave_on_kick;
		env_start(&e);
		env_wait_heartbeat(&e, 0);
		vcpu_kick(vm_vcpu(e.vm, 0));
		env_join(&e);
		CHECK_STR(e.vcpu[0].text, "no end of line");
		CHECK_EQ(e.vcpu[0].last.reason, VCPU_EXIT_KICK);
	}
	env_destroy(&e);
}

/* A run that was left goes on where it stood, and may go on in another thread. */
static void resumes(void)
{
	struct env e;

	if (probe_create(&e, PROBE_SPIN, NULL)) {
		for (u32 i = 0; i < 5; i++) {
			env_start(&e);
			env_wait_heartbeat(&e, 0);
			vcpu_kick(vm_vcpu(e.vm, 0));
			env_join(&e);
		}
		CHECK_EQ(env_count(&e, 0, VCPU_EXIT_KICK), 5);
		WRITE_ONCE(((struct guest_shared *)vm_shared(e.vm))->stop, 1);
		env_run(&e);
	}
	env_destroy(&e);
}

/* Twelve bytes of code and no tables: where the first exception is the last. kvm_amd loses where it was. */
static void triple_fault(void)
{
	bool svm = !access("/sys/module/kvm_amd", F_OK);
	struct env e;

	if (probe_create(&e, PROBE_FORMAT, NULL)) {
		u8 *entry = (u8 *)to_kvm(e.vm)->low + to_kvm(e.vm)->entry;

		entry[0] = 0x0f; /* ud2 */
		entry[1] = 0x0b;
		env_start(&e);
		env_join(&e);
		CHECK_EQ(e.vcpu[0].last.reason, VCPU_EXIT_CRASH);
		CHECK_CONTAINS(e.vcpu[0].last.err.text,
			       svm ? "triple fault; KVM has reset the vCPU, its registers are lost"
				   : "triple fault at rip 0x2001f6 rsp 0x8000000");
	}
	env_destroy(&e);
}

static void wrong_abi(void)
{
	struct env e;

	if (probe_create(&e, PROBE_FORMAT, NULL)) {
		((struct guest_shared *)vm_shared(e.vm))->version = GUEST_ABI_VERSION + 1;
		env_run(&e);
		CHECK_EQ(e.vcpu[0].last.code, 125);
		CHECK_CONTAINS(e.vcpu[0].text, "built for version 2 of the guest interface, the host offers 3");
	}
	env_destroy(&e);
}

static void loads_once(void)
{
	struct guest_image bad = { .name = "/nowhere.elf", .path = "/nowhere.elf" };
	struct guest_image hello = { .name = "hello" };
	struct err err = { "" };
	struct env e;

	if (env_create(&e, &engine_kvm, 1, 16)) {
		CHECK_EQ(vm_load(e.vm, &bad, 0, NULL, &err), -ENOENT);
		CHECK_STR(err.text, "/nowhere.elf: No such file or directory");
		/* Before the first run there may be several; the last one counts. */
		CHECK(env_load(&e, "stamp", NULL, NULL));
		CHECK(env_load(&e, "hello", "exit=5", NULL));
		env_run(&e);
		CHECK_EQ(e.vcpu[0].last.code, 5);
		CHECK_EQ(vm_load(e.vm, &hello, 0, NULL, &err), -EBUSY);
	}
	env_destroy(&e);
}

/* --- the machine ------------------------------------------------------------------- */

static void probe_says_why(void)
{
	char path[] = "/tmp/tain-kvm-XXXXXX";
	struct err err = { "" };
	int fd = mkstemp(path);

	REQUIRE(fd >= 0);
	CHECK_EQ(kvm_open(path, &err), -ENOTTY);
	CHECK_CONTAINS(err.text, path);
	CHECK_CONTAINS(err.text, "is not the KVM device");
	close(fd);
	unlink(path);
	CHECK_EQ(kvm_open(path, &err), -ENOENT);
	CHECK_CONTAINS(err.text, "does not exist: load KVM (modprobe kvm_intel or kvm_amd)");
}

/* A kernel that takes it for no clock of all its processors has KVM move it for each guest. */
static bool counter_is_a_clock(void)
{
	FILE *f = fopen("/sys/devices/system/clocksource/clocksource0/available_clocksource", "re");
	char line[128] = "";

	if (f && !fgets(line, sizeof(line), f))
		line[0] = '\0';
	if (f)
		fclose(f);
	return strstr(line, "tsc") != NULL;
}

/* Counters of guests are the host's: what two VMs say of a time can be set side by side. */
static void counts_as_the_host(void)
{
	struct kvm_device_attr attr = { .group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET };
	struct env e;

	if (env_create(&e, &engine_kvm, 1, 16) && env_load(&e, "touch", NULL, NULL)) {
		struct guest_vcpu *v = vm_guest_vcpu(e.vm, 0);
		bool has = !ioctl(to_kvm_vcpu(vm_vcpu(e.vm, 0))->fd, KVM_HAS_DEVICE_ATTR, &attr);
		u64 before, after, begun;

		env_start(&e);
		before = cycles();
		env_command(&e, 0, &(struct guest_command){ .pages = 16, .write = 1 });
		after = cycles();
		begun = READ_ONCE(v->command_begun);
		env_command(&e, 0, &(struct guest_command){ .quit = 1 });
		env_join(&e);
		if (!has || !counter_is_a_clock()) {
			test_skip(has ? "the time stamp counter is no clock here"
				      : "KVM sets no offset of the counter");
		} else {
			CHECK_GE(begun, before);
			CHECK_LE(begun + READ_ONCE(v->command_cycles), after);
		}
	}
	env_destroy(&e);
}

static void identifies(void)
{
	struct vm_identity id;
	struct env e;

	if (env_create(&e, &engine_kvm, 1, 16)) {
		vm_identify(e.vm, &id);
		CHECK_STR(id.engine, "kvm");
		CHECK_CONTAINS(id.mmu, "KVM ");
		CHECK_CONTAINS(id.host_mm, "Linux ");
		CHECK_NE(id.cpu[0], 0);
	}
	env_destroy(&e);
}

static u32 open_files(void)
{
	DIR *dir = opendir("/proc/self/fd");
	u32 n = 0;

	while (dir && readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static void no_descriptor_leaks(void)
{
	u32 before = open_files();

	for (u32 i = 0; i < 100; i++) {
		struct env e;

		if (!env_create(&e, &engine_kvm, 2, 16)) {
			env_destroy(&e);
			return;
		}
		if (i % 10 == 0 && env_load(&e, "hello", NULL, NULL))
			env_run(&e);
		env_destroy(&e);
	}
	CHECK_EQ(open_files(), before);
}

/* The first, second, ... allocation fails until creation succeeds; nothing is left behind. */
static void creation_without_memory(void)
{
#if CHECKING
	struct vm_config config = { .vcpus = 2, .shared_bytes = 1 << 20 };
	u32 before = open_files();
	struct err err = { "" };
	struct vm *vm;
	u64 n;
	int ret;

	if (engine_kvm.probe(&err)) {
		test_skip("%s", err.text);
		return;
	}
	for (n = 1; n < 100; n++) {
		u64 outstanding = mem_outstanding();

		mem_fail_after(n);
		ret = vm_create(&engine_kvm, &config, &vm, &err);
		if (!mem_failed())
			break;
		if (ret) {
			CHECK_EQ(ret, -ENOMEM);
			CHECK_EQ(mem_outstanding(), outstanding);
		} else {
			vm_destroy(vm); /* what failed was a luxury */
		}
		CHECK_EQ(open_files(), before);
	}
	mem_fail_after(0);
	CHECK_EQ(ret, 0);
	CHECK_GT(n, 3);
	vm_destroy(vm);
#else
	test_skip("allocation failures exist in checking builds only");
#endif
}

const struct test_case vmm_kvm_exit_tests[] = {
	TEST(formats_text),
	TEST(exits_in_the_middle),
	TEST(reports_exceptions),
	TEST(mmio),
	TEST(past_data_is_mmio),
	TEST(unknown_port),
	TEST(partial_line_is_not_lost),
	TEST(resumes),
	TEST(triple_fault),
	TEST(wrong_abi),
	TEST(loads_once),
	TEST(probe_says_why),
	TEST(counts_as_the_host),
	TEST(identifies),
	TEST(no_descriptor_leaks),
	TEST(creation_without_memory),
	TEST_END,
};
