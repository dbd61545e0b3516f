/* SPDX-License-Identifier: MIT */
/* A SIGBUS, and who it is about: VMs of engine qemu whose memory was cut short, or somebody else. Without a domain. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/thread.h"
#include "tests/test.h"
#include "tests/vmm_suites.h"

#ifdef TAIN_LIBVIRT

#include "vmm/qemu_internal.h"

#define BYTES (4 * PAGE_SIZE)

struct one {
	struct vm vm;
	struct qemu_vm q;
};

/* Memory whose file has been cut short: each look at it is a SIGBUS. */
static char *lost_memory(void)
{
	int fd = memfd_create("lost", MFD_CLOEXEC);
	char *at;

	if (fd < 0 || ftruncate(fd, BYTES))
		BUG("memfd: %s", strerror(errno));
	at = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (at == MAP_FAILED || ftruncate(fd, 0))
		BUG("mmap: %s", strerror(errno));
	close(fd);
	return at;
}

/* A VM as far as a SIGBUS asks. */
static struct one *new_vm(void)
{
	struct one *o = calloc(1, sizeof(*o));

	o->q.domain = (struct qemu_domain){ .pidfd = -1, .ram = -1, .console = -1 };
	o->vm.priv = &o->q;
	o->vm.shared = lost_memory();
	o->vm.config.shared_bytes = BYTES;
	o->vm.data_hva[0] = (hva_t)(uintptr_t)lost_memory();
	o->vm.range_bytes = BYTES;
	o->vm.ranges = 1;
	qemu_lost_watch(&o->vm);
	return o;
}

static void end_vm(struct one *o)
{
	qemu_lost_forget(&o->vm);
	munmap(o->vm.shared, BYTES);
	munmap((void *)(uintptr_t)o->vm.data_hva[0], BYTES);
	free(o);
}

static int look_at(const void *at)
{
	return *(const volatile char *)at;
}

/* However many, and each its own. */
static void a_dozen_vms(void)
{
	struct one *o[12];

	for (size_t i = 0; i < ARRAY_SIZE(o); i++)
		o[i] = new_vm();
	for (size_t i = 0; i < ARRAY_SIZE(o); i += 3) {
		CHECK_EQ(look_at((char *)o[i]->vm.shared + PAGE_SIZE), 0);
		CHECK_EQ(look_at((char *)(uintptr_t)o[i]->vm.data_hva[0] + BYTES - 1), 0);
	}
	for (size_t i = 0; i < ARRAY_SIZE(o); i++) {
		CHECK_EQ(qemu_lost(&o[i]->vm), i % 3 == 0);
		end_vm(o[i]);
	}
}

static u32 going; /* atomic */

static void come_and_go(void *unused)
{
	(void)unused;
	while (READ_ONCE(going))
		end_vm(new_vm());
}

/* What a handler looks at is not freed under it: the address sanitizer's word. */
static void a_vm_goes_while_another_is_lost(void)
{
	struct thread thread;

	WRITE_ONCE(going, 1);
	REQUIRE(!thread_create(&thread, "others", -1, come_and_go, NULL));
	for (int i = 0; i < 2000; i++) {
		struct one *o = new_vm();

		CHECK_EQ(look_at(o->vm.shared), 0);
		CHECK(qemu_lost(&o->vm));
		end_vm(o);
	}
	WRITE_ONCE(going, 0);
	thread_join(&thread);
}

static char *foreign;
static u32 foreign_seen;

static void mend_foreign(int signal, siginfo_t *info, void *context)
{
	(void)signal;
	(void)context;
	foreign_seen += (char *)info->si_addr == foreign;
	if (mmap(foreign, BYTES, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
		_exit(99);
}

/* Of a process of its own, for handlers are the process's. Return: its wait status. */
static int status_of(int (*child)(void))
{
	pid_t pid = fork();
	int status = 0;

	if (!pid) {
		signal(SIGBUS, SIG_DFL); /* a sanitizer's own */
		_exit(child());
	}
	waitpid(pid, &status, 0);
	return status;
}

/* Who was there first gets what is not a VM's, and the VMs theirs before and after. */
static int shares_with_an_earlier_handler(void)
{
	struct sigaction action = { .sa_sigaction = mend_foreign, .sa_flags = SA_SIGINFO };
	struct one *o;

	sigaction(SIGBUS, &action, NULL);
	o = new_vm();
	foreign = lost_memory();
	if (look_at(o->vm.shared) || look_at(foreign) || foreign_seen != 1)
		return 1;
	if (look_at((void *)(uintptr_t)o->vm.data_hva[0]) || foreign_seen != 1 || !qemu_lost(&o->vm))
		return 2;
	end_vm(o);
	return 0;
}

static int looks_at_foreign_memory(void)
{
	new_vm();
	return look_at(lost_memory());
}

static int looks_though_it_was_ignored(void)
{
	signal(SIGBUS, SIG_IGN);
	return looks_at_foreign_memory();
}

static int is_sent_one(void)
{
	new_vm();
	kill(getpid(), SIGBUS);
	return 3;
}

static int is_sent_one_that_is_ignored(void)
{
	signal(SIGBUS, SIG_IGN);
	is_sent_one();
	return 4;
}

static void what_is_somebody_elses(void)
{
	static const struct {
		int (*child)(void);
		int signal, status;
	} cases[] = {
		{ shares_with_an_earlier_handler, 0, 0 },   { looks_at_foreign_memory, SIGBUS, 0 },
		{ looks_though_it_was_ignored, SIGBUS, 0 }, { is_sent_one, SIGBUS, 0 },
		{ is_sent_one_that_is_ignored, 0, 4 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		int status = status_of(cases[i].child);

		CHECK_MSG(WIFSIGNALED(status) ? WTERMSIG(status) == cases[i].signal
					      : !cases[i].signal && WEXITSTATUS(status) == cases[i].status,
			  "case %zu: wait status %#x", i, status);
	}
}

/* A process that must end at once takes the QEMUs of its VMs along. */
static void abandoned(void)
{
	struct one *o = new_vm(), *none = new_vm();
	int status = 0;
	pid_t pid = fork();

	if (!pid)
		for (;;)
			pause();
	o->q.domain.pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	REQUIRE(o->q.domain.pidfd >= 0);
	vm_abandon();
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	close(o->q.domain.pidfd);
	end_vm(none);
	end_vm(o);
}

const struct test_case vmm_lost_tests[] = {
	TEST(a_dozen_vms), TEST(a_vm_goes_while_another_is_lost), TEST(what_is_somebody_elses), TEST(abandoned),
	TEST_END,
};

#else

static void lost(void)
{
	test_skip("this build has no libvirt");
}

const struct test_case vmm_lost_tests[] = { TEST(lost), TEST_END };

#endif
