/* SPDX-License-Identifier: MIT */
/*
 * A guest that is the first process of a Linux, instead of the machine's only program:
 * the same file, entered at CPL3. SHARED and DATA are memory that Linux was told to leave
 * alone (memmap=), mapped from /dev/mem at their guest-physical addresses; each vCPU is a
 * thread on a processor of its own. Console and end are those of a guest that booted by
 * itself: their ports are allowed to this process.
 *
 * Meanwhile the first thread checks memory that is Linux's own, below page tables of
 * Linux's making: the host moves that about as well.
 *
 * The image that needs no more than this file: /init, and /dev/mem.
 */
#include <asm/sigcontext.h>
#include <asm/signal.h>
#include <asm/unistd.h>
#include <linux/fcntl.h>
#include <linux/mman.h>

#include "guest/rt/boot.h"
#include "guest/workload.h"

#define MAP_PRIVATE_ANONYMOUS (MAP_PRIVATE | MAP_ANONYMOUS)
#define PROTECTION (PROT_READ | PROT_WRITE)
#define TRAP_BREAKPOINT 3

#define NOT_INIT_EXIT 2
#define LINUX_EXIT 124	/* Linux does not give what the guest needs */
#define MEMORY_EXIT 126 /* Linux's own memory has lost what was in it */

#define OWN_PAGES 4096ul
#define OWN_AT_ONCE 64 /* then the processor is left to the vCPUs */
#define OWN_REST_NS 1000000l

/* Between linux_start.S and here. */
void guest_linux(void) __attribute__((noreturn));
void guest_linux_vcpu(uint64_t vcpu) __attribute__((noreturn));
long guest_linux_thread(uint64_t vcpu, void *stack);
void guest_linux_restorer(void);

/* What Linux hands a handler, as far as it is looked at. */
struct linux_context {
	unsigned long flags, link, stack[3];
	struct sigcontext machine;
};

static struct guest_shared *const shared = (struct guest_shared *)GUEST_SHARED_GPA;

static long call6(long nr, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
	long ret;

	__asm__ __volatile__("syscall"
			     : "=a"(ret)
			     : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			     : "rcx", "r11", "memory");
	return ret;
}

static long call3(long nr, long a, long b, long c)
{
	return call6(nr, a, b, c, 0, 0, 0);
}

/* Turns the machine off, with a line. SHARED may not be there: no vCPU is meant. */
static __attribute__((noreturn)) void give_up(const char *what, long ret)
{
	struct guest g = { .id = GUEST_MAX_VCPUS - 1 };

	guest_printf(&g, "guest: under Linux: %s: error %ld\n", what, -ret);
	guest_exit(&g, LINUX_EXIT);
}

static void map_at(uint64_t at, uint64_t bytes, int fd, const char *what)
{
	int flags = MAP_FIXED_NOREPLACE | (fd < 0 ? MAP_PRIVATE_ANONYMOUS : MAP_SHARED);
	long ret = call6(__NR_mmap, (long)at, (long)bytes, PROTECTION, flags, fd, fd < 0 ? 0 : (long)at);

	if (ret != (long)at)
		give_up(what, ret);
}

static void allow_ports(void)
{
	static const uint16_t ports[][2] = { { GUEST_PORT_TEXT, 8 }, { GUEST_PORT_EXIT, 4 }, { GUEST_PORT_BOCHS, 1 } };

	for (uint32_t i = 0; i < sizeof(ports) / sizeof(ports[0]); i++)
		if (call3(__NR_ioperm, ports[i][0], ports[i][1], 1))
			for (;;) /* nobody can be told: init's end is a panic, which ends the machine */
				call3(__NR_exit_group, LINUX_EXIT, 0, 0);
}

/* --- vCPUs ---------------------------------------------------------------------------------- */

/* A trap, told as the stubs of entry.S tell it; the thread's stack says whose. */
static void on_signal(int signal, void *info, const struct linux_context *context)
{
	const struct sigcontext *m = &context->machine;
	uint64_t vcpu = (GUEST_IMAGE_END - 1 - (uintptr_t)context) / GUEST_STACK_BYTES;
	struct guest_trap *trap = guest_trap_of(vcpu % GUEST_MAX_VCPUS);

	(void)signal;
	(void)info;
	while (m->trapno == TRAP_BREAKPOINT && (uint32_t)m->rdi == GUEST_HALT_MAGIC)
		call3(__NR_pause, 0, 0, 0);
	*trap = (struct guest_trap){
		.address = m->cr2, .vector = m->trapno, .error = m->err, .rip = m->rip, .rsp = m->rsp
	};
	guest_trap(trap);
}

static void catch_traps(void)
{
	static const int signals[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP };
	const struct sigaction action = {
		.sa_handler = (__sighandler_t)(uintptr_t)on_signal,
		.sa_flags = SA_SIGINFO | SA_RESTORER,
		.sa_restorer = guest_linux_restorer,
	};

	for (uint32_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		call6(__NR_rt_sigaction, signals[i], (long)(uintptr_t)&action, 0, sizeof(sigset_t), 0, 0);
}

void guest_linux_vcpu(uint64_t vcpu)
{
	uint64_t cpus = 1ul << vcpu;
	long ret = call3(__NR_sched_setaffinity, 0, sizeof(cpus), (long)(uintptr_t)&cpus);

	if (ret < 0)
		give_up("a processor is missing", ret);
	guest_enter(vcpu, shared);
}

/* --- Linux's own memory ------------------------------------------------------------------------ */

/* Of the second half two pages each hold the same: KSM may merge them, and must part them when one is written. */
static uint64_t twin(uint64_t page)
{
	return page < OWN_PAGES / 2 ? page : page | 1;
}

/* Each page holds stamps of pass @pass; find them, and write those of the next. */
static void check_page(uint64_t *at, uint64_t page, uint32_t pass)
{
	struct guest g = { .id = GUEST_MAX_VCPUS - 1 };
	uint64_t expected = pass ? guest_stamp(twin(page), pass) : 0;

	for (uint32_t i = 0; i < GUEST_STAMPS; i++) {
		uint64_t *word = at + i * GUEST_STAMP_STRIDE / sizeof(*at), seen = shared_load(word);

		if (seen != expected) {
			guest_printf(&g, "guest: page %lu of Linux's own memory holds 0x%lx instead of 0x%lx\n", page,
				     seen, expected);
			guest_exit(&g, MEMORY_EXIT);
		}
		shared_store(word, guest_stamp(twin(page), pass + 1));
	}
	shared_add(&shared->own_checked, GUEST_STAMPS);
}

static __attribute__((noreturn)) void check_own(void)
{
	static const long rest[] = { 0, OWN_REST_NS };
	long base = call6(__NR_mmap, 0, OWN_PAGES * GUEST_PAGE_SIZE, PROTECTION, MAP_PRIVATE_ANONYMOUS, -1, 0);

	if (base < 0 && base > -4096)
		give_up("memory of its own", base);
	for (uint32_t pass = 0;; pass = pass == GUEST_GENERATION_MASK ? 1 : pass + 1)
		for (uint64_t page = 0; page < OWN_PAGES; page++) {
			check_page((uint64_t *)(base + (long)(page * GUEST_PAGE_SIZE)), page, pass);
			if (page % OWN_AT_ONCE == OWN_AT_ONCE - 1)
				call3(__NR_nanosleep, (long)(uintptr_t)rest, 0, 0);
		}
}

void guest_linux(void)
{
	static const char not_init[] = "this is a guest: `tain run` runs it\n";
	uint64_t stacks = GUEST_MAX_VCPUS * GUEST_STACK_BYTES;
	long fd, ret;

	if (call3(__NR_getpid, 0, 0, 0) != 1) {
		call3(__NR_write, 2, (long)(uintptr_t)not_init, sizeof(not_init) - 1);
		call3(__NR_exit_group, NOT_INIT_EXIT, 0, 0);
	}
	allow_ports();
	guest_boot_shared = GUEST_SHARED_GPA;
	fd = call3(__NR_open, (long)(uintptr_t) "/dev/mem", O_RDWR, 0);
	if (fd < 0)
		give_up("/dev/mem", fd);
	map_at(GUEST_SHARED_GPA, GUEST_PAGE_SIZE, (int)fd, "SHARED in /dev/mem");
	if (shared->magic != GUEST_ABI_MAGIC || shared->version != GUEST_ABI_VERSION)
		give_up("there is no SHARED of this version", 0);
	map_at(GUEST_SHARED_GPA + GUEST_PAGE_SIZE, shared->shared_bytes - GUEST_PAGE_SIZE, (int)fd,
	       "SHARED in /dev/mem");
	map_at(shared->data_base, shared->data_bytes, (int)fd, "DATA in /dev/mem");
	map_at(GUEST_IMAGE_END - stacks, stacks, -1, "stacks");
	catch_traps();
	for (uint64_t i = 0; i < shared->vcpus; i++) {
		ret = guest_linux_thread(i, (void *)(GUEST_IMAGE_END - i * GUEST_STACK_BYTES));
		if (ret < 0)
			give_up("a thread for a vCPU", ret);
	}
	check_own();
}
