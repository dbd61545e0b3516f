/* SPDX-License-Identifier: MIT */
/* Engine qemu: domains as libvirt's own schema wants them, whose they are, and guests in them. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <signal.h>
#include <unistd.h>

#include "lib/time.h"
#include "tests/vmm_env.h"
#include "tests/vmm_suites.h"

#ifdef TAIN_LIBVIRT
#define BUILT true
#else
#define BUILT false
#endif

static void tcg(void)
{
	qemu_config.accel = "tcg";
	qemu_config.machine = "microvm";
	qemu_config.backing = "memfd";
}

static void default_config(void)
{
	qemu_config = (struct qemu_config){ .accel = "auto", .machine = "microvm", .backing = "memfd" };
}

static bool boot(struct env *e, u32 vcpus, const char *guest, const char *arg0, const char *arg1)
{
	return env_create(e, engine_find("qemu"), vcpus, 64) && env_load(e, guest, arg0, arg1);
}

static void count_on(const char *accel, const char *backing, u32 vcpus)
{
	struct env e;

	qemu_config.accel = accel;
	qemu_config.backing = backing;
	if (boot(&e, vcpus, "counter", "passes=50", NULL)) {
		env_run(&e);
		for (u32 i = 0; i < vcpus; i++) {
			CHECK_EQ(e.vcpu[i].last.reason, VCPU_EXIT_DONE);
			CHECK_EQ(e.vcpu[i].last.code, 0);
			/* what the guest counted is seen here: it is one memory */
			for (u64 page = 0; page < 16; page++)
				CHECK_EQ(env_read64(&e, page * PAGE_SIZE + GUEST_WSLOT_OFFSET + i * 8), 50);
		}
		CHECK_CONTAINS(e.vcpu[0].text, "counter: vcpu 0: total 800\n");
	}
	if (e.vm)
		env_destroy(&e);
	default_config();
}

static void tcg_counts_in_memory_that_is_seen_here(void)
{
	count_on("tcg", "memfd", 2);
}

static void a_file_backs_it_too(void)
{
	count_on("tcg", "file", 1);
}

static void kvm_counts_in_memory_that_is_seen_here(void)
{
	struct err why = { "" };

	if (engine_find("kvm")->probe(&why))
		test_skip("%s", why.text);
	else
		count_on("kvm", "memfd", 2);
}

/* Whichever page tain writes, the guest reads it there: offsets and addresses agree. */
static void every_page_is_where_the_guest_reads_it(void)
{
	static const char *const machines[] = { "microvm", "pc", "q35" };
	char at[40];
	struct env e;

	for (size_t i = 0; i < ARRAY_SIZE(machines); i++)
		for (u32 big = 0; big < 2; big++) {
			u64 bytes = big ? 4ul << 30 : 1ul << 20;

			if (i == 1 && !big) /* nothing that the others do not show */
				continue;
			tcg();
			qemu_config.machine = machines[i];
			if (!env_create(&e, engine_find("qemu"), 1, bytes / PAGE_SIZE))
				goto end;
			snprintf(at, sizeof(at), "at=0x%llx", (unsigned long long)(vm_data_gpa(e.vm) + bytes - 8));
			if (env_load(&e, "probe", "do=3", at)) { /* PROBE_PEEK */
				env_write64(&e, bytes - 8, 0x7461696eull);
				env_run(&e);
				CHECK_STR(e.vcpu[0].text, "read 0x7461696e\n");
			}
			env_destroy(&e);
		}
end:
	default_config();
}

static void a_trap_ends_with_a_line(void)
{
	struct env e;

	tcg();
	if (boot(&e, 1, "probe", "do=7", NULL)) { /* PROBE_PAGE_FAULT */
		env_run(&e);
		CHECK_EQ(e.vcpu[0].last.code, 128 + 14);
		CHECK_CONTAINS(e.vcpu[0].text, "guest: exception 14 (page fault)");
	}
	if (e.vm)
		env_destroy(&e);
	default_config();
}

static bool stop_on_kick(struct env_vcpu *v, const struct vcpu_exit *exit)
{
	(void)v;
	return exit->reason == VCPU_EXIT_TEXT;
}

static void a_kick_leaves_a_guest_that_spins(void)
{
	struct env e;

	tcg();
	if (boot(&e, 2, "probe", "do=1", NULL)) { /* PROBE_SPIN */
		e.handler = stop_on_kick;
		env_start(&e);
		env_wait_heartbeat(&e, 1);
		vcpu_kick(e.vcpu[0].vcpu);
		vcpu_kick(e.vcpu[1].vcpu);
		env_join(&e);
		CHECK_EQ(e.vcpu[0].last.reason, VCPU_EXIT_KICK);
		CHECK_EQ(e.vcpu[1].last.reason, VCPU_EXIT_KICK);
	}
	if (e.vm)
		env_destroy(&e);
	default_config();
}

/* Its pidfd is the one handle on the process that anybody needs. */
static void a_qemu_that_dies_is_reported(void)
{
	struct vm_outside o;
	struct env e;

	tcg();
	if (boot(&e, 1, "probe", "do=1", NULL)) {
		env_start(&e);
		env_wait_heartbeat(&e, 0);
		CHECK_EQ(vm_outside(e.vm, &o), 0);
		CHECK_EQ(syscall(SYS_pidfd_send_signal, o.pidfd, SIGKILL, NULL, 0), 0);
		env_join(&e);
		CHECK_EQ(e.vcpu[0].last.reason, VCPU_EXIT_CRASH);
		CHECK_CONTAINS(e.vcpu[0].last.err.text, "ended before its guest");
	}
	if (e.vm)
		env_destroy(&e);
	default_config();
}

static void controls(void)
{
	struct err err = { "" };
	struct env e;
	u64 before;

	tcg();
	if (boot(&e, 1, "probe", "do=1", NULL)) {
		e.handler = stop_on_kick;
		env_start(&e);
		env_wait_heartbeat(&e, 0);
		CHECK_MSG(!vm_control(e.vm, VM_STATS, &err), "%s", err.text);
		CHECK_MSG(!vm_control(e.vm, VM_SUSPEND, &err), "%s", err.text);
		before = READ_ONCE(vm_guest_vcpu(e.vm, 0)->heartbeat);
		usleep(20000);
		CHECK_EQ(READ_ONCE(vm_guest_vcpu(e.vm, 0)->heartbeat), before);
		CHECK_MSG(!vm_control(e.vm, VM_RESUME, &err), "%s", err.text);
		while (READ_ONCE(vm_guest_vcpu(e.vm, 0)->heartbeat) == before) /* the watchdog is the limit */
			usleep(1000);
		vcpu_kick(e.vcpu[0].vcpu);
		env_join(&e);
	}
	if (e.vm)
		env_destroy(&e);
	default_config();
}

/*
 * Under TCG it is suspended meanwhile: QEMU 7.2 loses writes of a guest that runs, since
 * after a look at the dirty bitmap TLB entries stay that write without marking the page. The
 * counter finds pages that hold an older count: "page 5 holds 1646151 instead of 1653901".
 */
static void is_migrated(const char *accel)
{
	struct err err = { "" };
	struct vm_outside a, b;
	struct env e;
	u64 took;

	qemu_config.accel = accel;
	if (boot(&e, 2, "counter", "passes=0", NULL)) {
		env_start(&e);
		env_wait_heartbeat(&e, 0);
		env_wait_heartbeat(&e, 1);
		CHECK_EQ(vm_outside(e.vm, &a), 0);
		took = clock_ns();
		CHECK_MSG(!vm_control(e.vm, VM_MIGRATE, &err), "%s", err.text);
		took = clock_ns() - took;
		CHECK_EQ(vm_outside(e.vm, &b), 0);
		CHECK_EQ(a.pidfd, b.pidfd);		       /* the number; others poll on it */
		CHECK_LE(b.downtime_ns, took + NSEC_PER_MSEC); /* QEMU tells whole milliseconds */
		/* it counts in the memory that is mapped here now, and misses nothing from before */
		for (u32 i = 0; i < 2; i++) {
			u64 before = READ_ONCE(vm_guest_vcpu(e.vm, i)->heartbeat);

			while (READ_ONCE(vm_guest_vcpu(e.vm, i)->heartbeat) == before &&
			       !env_count(&e, i, VCPU_EXIT_DONE))
				usleep(1000);
		}
		WRITE_ONCE(((struct guest_shared *)vm_shared(e.vm))->stop, 1);
		env_join(&e);
		for (u32 i = 0; i < 2; i++) {
			CHECK_EQ(e.vcpu[i].last.reason, VCPU_EXIT_DONE);
			CHECK_EQ(e.vcpu[i].last.code, 0);
		}
		CHECK_CONTAINS(e.vcpu[0].text, "counter: vcpu 0: total ");
		CHECK_CONTAINS(e.vcpu[0].text, "counter: vcpu 1: total ");
	}
	if (e.vm)
		env_destroy(&e);
	default_config();
}

static void a_guest_that_counts_is_migrated(void)
{
	struct err why = { "" };

	if (!engine_find("kvm")->probe(&why))
		is_migrated("kvm");
	else
		test_skip("%s", why.text);
}

static void a_guest_that_counts_is_migrated_under_tcg(void)
{
	is_migrated("tcg");
}

static unsigned int open_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned int n = 0;

	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

/* Names in @dir, and processes whose command line has a name, that only a domain of this process has. */
static unsigned int traces_in(const char *dir, const char *file)
{
	char mine[64], path[512], text[4096];
	unsigned int found = 0;
	struct stat st;
	struct dirent *e;
	size_t n;
	DIR *d;
	FILE *f;

	if (stat("/proc/self/ns/pid", &st))
		return 0;
	snprintf(mine, sizeof(mine), "tain-%llu-%d-", (unsigned long long)st.st_ino, getpid());
	d = opendir(dir);
	while (d && (e = readdir(d)) != NULL) {
		snprintf(path, sizeof(path), "%s/%s%s", dir, e->d_name, file);
		n = 0;
		f = file[0] ? fopen(path, "re") : NULL;
		if (f) {
			n = fread(text, 1, sizeof(text), f);
			fclose(f);
		}
		found += f ? memmem(text, n, mine, strlen(mine)) != NULL : !strncmp(e->d_name, mine, strlen(mine));
	}
	if (d)
		closedir(d);
	return found;
}

/* Files for QEMU, its log, libvirt's notes about the domain, the process. */
static unsigned int traces(void)
{
	return traces_in("/tmp", "") + traces_in("/var/log/libvirt/qemu", "") + traces_in("/run/libvirt/qemu", "") +
	       traces_in("/proc", "/cmdline");
}

/* TAIN_CYCLES=N: so many; `make soak` asks for 100. */
static void cycles_leak_nothing(void)
{
	const char *asked = getenv("TAIN_CYCLES");
	int cycles = asked ? atoi(asked) : PROVE ? 5 : 2;
	unsigned int before = 0, now;
	struct env e;

	tcg();
	for (int i = 0; i < cycles && !test_failures(); i++) {
		if (boot(&e, 1, "hello", NULL, NULL)) {
			env_run(&e);
			CHECK_STR(e.vcpu[0].text, "hello from vcpu 0 of 1\n");
		}
		if (!e.vm)
			break;
		env_destroy(&e);
		/* What the library opens once stays; a socket its event loop closes a moment later, of the first round
		 * too. */
		while (i && open_fds() > before && !test_failures())
			usleep(1000);
		now = open_fds();
		before = i ? min(before, now) : now;
	}
	/* libvirt tidies up after the last one a moment later, and the next one after its log: a hang is the
	 * watchdog's. */
	while (traces() && !test_failures()) {
		usleep(20000);
		if (env_create(&e, engine_find("qemu"), 1, 1))
			env_destroy(&e);
	}
	default_config();
}

static void an_image_without_a_note_is_refused(void)
{
	char path[] = "/tmp/tain-test-elf-XXXXXX";
	struct guest_image image = { .name = path, .path = path };
	size_t bytes = (size_t)(probe_elf_end - probe_elf_start);
	char *copy = malloc(bytes), *note;
	int fd = mkstemp(path);
	struct err err = { "" };
	struct env e;

	memcpy(copy, probe_elf_start, bytes);
	note = memmem(copy, bytes, "Xen", 4);
	if (CHECK(note))
		note[0] = 'Y';
	CHECK_EQ(write(fd, copy, bytes), (ssize_t)bytes);
	close(fd);
	free(copy);
	tcg();
	if (env_create(&e, engine_find("qemu"), 1, 1)) {
		CHECK_EQ(vm_load(e.vm, &image, 0, NULL, &err), -ENOEXEC);
		CHECK_CONTAINS(err.text, "no PVH note");
	}
	if (e.vm)
		env_destroy(&e);
	unlink(path);
	default_config();
}

static void options_are_checked_before_anybody_is_asked(void)
{
	struct err err = { "" };

	qemu_config.machine = "isapc";
	CHECK_EQ(engine_find("qemu")->probe(&err), BUILT ? -EINVAL : -EOPNOTSUPP);
	qemu_config.machine = "pc-q35-7.2";
	qemu_config.accel = "hax";
	CHECK_EQ(engine_find("qemu")->probe(&err), BUILT ? -EINVAL : -EOPNOTSUPP);
	default_config();
	qemu_config.connect = "test:///default";
	if (BUILT) {
		CHECK_EQ(engine_find("qemu")->probe(&err), -EOPNOTSUPP);
		CHECK_CONTAINS(err.text, "driver TEST runs no QEMU");
	}
	default_config();
}

const struct test_case vmm_qemu_tests[] = {
	TEST(tcg_counts_in_memory_that_is_seen_here),
	TEST(a_file_backs_it_too),
	TEST(kvm_counts_in_memory_that_is_seen_here),
	TEST(every_page_is_where_the_guest_reads_it),
	TEST(a_trap_ends_with_a_line),
	TEST(a_kick_leaves_a_guest_that_spins),
	TEST(a_qemu_that_dies_is_reported),
	TEST(controls),
	TEST(a_guest_that_counts_is_migrated),
	TEST(a_guest_that_counts_is_migrated_under_tcg),
	TEST(cycles_leak_nothing),
	TEST(an_image_without_a_note_is_refused),
	TEST(options_are_checked_before_anybody_is_asked),
	TEST_END,
};
