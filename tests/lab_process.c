/* SPDX-License-Identifier: MIT */
/* A VMM seen from outside: its mappings, and memslots found by frames. This process stands for it. */
#include <fcntl.h>
#include <linux/kcmp.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lab/system/pagemap.h"
#include "lab/trace/vmm_process.h"
#include "tests/lab_suites.h"

static const char maps[] = "55d0c0000000-55d0c0100000 r-xp 00000000 fe:01 131 /usr/bin/qemu-system-x86_64\n"
			   "7f0000000000-7f0000200000 rw-p 00000000 00:00 0 \n"
			   "7f0000200000-7f0000300000 r--p 00000000 00:00 0 \n"
			   "7f0000300000-7f0000400000 ---p 00000000 00:00 0 \n"
			   "7f1000000000-7f1000100000 rw-s 00000000 00:01 77 /memfd:tain-data (deleted)\n"
			   "7f1000100000-7f1000200000 r--s 00100000 00:01 77 /memfd:tain-data (deleted)\n"
			   "7f1000200000-7f1000300000 rw-s 00300000 00:01 77 /memfd:tain-data (deleted)\n"
			   "7f1100000000-7f1100100000 rw-p 00000000 00:01 77 /memfd:tain-data (deleted)\n"
			   "7f2000000000-7f2000200000 rw-s 00000000 00:01 99 /dev/zero (deleted)\n"
			   "7f3000000000-7f3000200000 rw-p 00000000 00:0f 11 /anon_hugepage (deleted)\n"
			   "7f3100000000-7f3100200000 rw-s 00000000 00:19 12 /dev/shm/guest ram\n"
			   "7f3200000000-7f3200200000 rw-p 00000000 fe:01 13 "
			   "/var/lib/machines/a/very/long/name/that/does/not/fit/into/a/row/ram\n"
			   "7f4000000000-7f4000003000 rw-s 00000000 00:0e 5 anon_inode:kvm-vcpu:0\n"
			   "7fff00000000-7fff00002000 r-xp 00000000 00:00 0 [vdso]\n";

static void mappings(void)
{
	static const struct {
		hva_t hva, start, end;
		const char *backing, *name;
	} table[] = {
		{ 0x55d0c0000000, 0x55d0c0000000, 0x55d0c0100000, "file_private", "/usr/bin/qemu-system-x86_64" },
		/* Neighbours over one object are one, whatever their rights. */
		{ 0x7f00002ff000, 0x7f0000000000, 0x7f0000400000, "anonymous", "" },
		{ 0x7f10000ff000, 0x7f1000000000, 0x7f1000200000, "memfd", "/memfd:tain-data (deleted)" },
		/* Not where the offset jumps. */
		{ 0x7f1000200000, 0x7f1000200000, 0x7f1000300000, "memfd", "/memfd:tain-data (deleted)" },
		{ 0x7f1100000000, 0x7f1100000000, 0x7f1100100000, "memfd_private", "/memfd:tain-data (deleted)" },
		{ 0x7f20001fffff, 0x7f2000000000, 0x7f2000200000, "shmem", "/dev/zero (deleted)" },
		{ 0x7f3000000000, 0x7f3000000000, 0x7f3000200000, "anonymous_hugetlb_2mb", "/anon_hugepage (deleted)" },
		{ 0x7f3100000000, 0x7f3100000000, 0x7f3100200000, "file_shared", "/dev/shm/guest ram" },
		{ 0x7f3200000000, 0x7f3200000000, 0x7f3200200000, "file_private",
		  "chines/a/very/long/name/that/does/not/fit/into/a/row/ram" },
		{ 0x7f4000000000, 0x7f4000000000, 0x7f4000003000, "special", "anon_inode:kvm-vcpu:0" },
		{ 0x7fff00000000, 0x7fff00000000, 0x7fff00002000, "special", "[vdso]" },
	};
	struct vmm_process p = { .pidfd = -1, .pagemap = -1 };
	const struct vmm_area *a;

	CHECK_EQ(vmm_areas_parse(&p, maps), 0);
	CHECK_EQ(p.nr_areas, ARRAY_SIZE(table));
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		a = vmm_process_area(&p, table[i].hva);
		if (!CHECK_MSG(a, "nothing at %#llx", (unsigned long long)table[i].hva))
			continue;
		CHECK_EQ(a->start, table[i].start);
		CHECK_EQ(a->end, table[i].end);
		CHECK_STR(a->backing, table[i].backing);
		CHECK_CONTAINS(a->name, table[i].name);
	}
	CHECK_PTR_EQ(vmm_process_area(&p, 0x7f0000400000), NULL);
	CHECK_PTR_EQ(vmm_process_area(&p, 0), NULL);
	CHECK_PTR_EQ(vmm_process_area(&p, ~0ull), NULL);
	CHECK_EQ(vmm_areas_parse(&p, "no line of maps\n"), -EINVAL);
	vmm_process_close(&p);
}

static void who_is_no_vmm(void)
{
	struct vmm_process p;
	struct err err;
	pid_t pid;

	CHECK_EQ(vmm_process_open(&p, 0x3ffffff, &err), -ENOENT);
	CHECK_CONTAINS(err.text, "there is no process 67108863");
	vmm_process_close(&p);
	pid = fork();
	if (!pid)
		_exit(0);
	REQUIRE(pid > 0);
	/* A zombie: over, and not yet waited for. */
	CHECK_EQ(waitid(P_PID, (id_t)pid, &(siginfo_t){ 0 }, WEXITED | WNOWAIT), 0);
	CHECK_EQ(vmm_process_open(&p, pid, &err), -ENOENT);
	CHECK_CONTAINS(err.text, "has ended");
	vmm_process_close(&p);
	CHECK_EQ(waitpid(pid, NULL, 0), pid);
	CHECK_EQ(vmm_process_open(&p, getppid(), &err), -EINVAL);
	CHECK_CONTAINS(err.text, "does not use KVM");
	vmm_process_close(&p);
}

/* Two VMs, one of them with two descriptors. */
static void vms_are_counted(void)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), vm[3] = { -1, -1, -1 };
	struct vmm_process p = { .pid = getpid() };
	u32 before = 0;

	if (!have_kvm())
		goto close;
	CHECK_EQ(vmm_process_vms(&p), 0);
	before = p.vms;
	vm[0] = ioctl(kvm, KVM_CREATE_VM, 0);
	vm[1] = ioctl(kvm, KVM_CREATE_VM, 0);
	CHECK_EQ(vmm_process_vms(&p), 0);
	CHECK_EQ(p.vms, before + 2);
	vm[2] = dup(vm[1]);
	if (syscall(SYS_kcmp, getpid(), getpid(), KCMP_FILE, vm[1], vm[2])) {
		test_skip("kcmp: %s", strerror(errno));
	} else {
		CHECK_EQ(vmm_process_vms(&p), 0);
		CHECK_EQ(p.vms, before + 2);
	}
close:
	for (int i = 0; i < 3; i++)
		if (vm[i] >= 0)
			close(vm[i]);
	if (kvm >= 0)
		close(kvm);
	/* The most there were: what was recorded then is still to come. */
	if (vm[0] >= 0) {
		CHECK_EQ(vmm_process_vms(&p), 0);
		CHECK_EQ(p.vms, before + 2);
	}
}

#define PAGES 64
#define FIRST_GFN 0x100000ull

/* This process, with frames that can be read. Return: PAGES touched pages; NULL: skipped. */
static char *own_process(struct vmm_process *p, struct vmm_page *page)
{
	char *memory = mmap(NULL, PAGES * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	u64 entry[PAGES];

	memset(p, 0, sizeof(*p));
	p->pid = getpid();
	p->pidfd = -1;
	p->pagemap = pagemap_open(0);
	if (!CHECK(memory != MAP_FAILED))
		return NULL;
	memset(memory, 1, PAGES * PAGE_SIZE);
	CHECK_EQ(vmm_process_areas(p), 0);
	if (p->pagemap < 0 || pagemap_read(p->pagemap, (hva_t)(uintptr_t)memory, PAGES, entry) != PAGES ||
	    !(entry[0] & PM_FRAME)) {
		test_skip("frame numbers are for root (CAP_SYS_ADMIN) alone");
		munmap(memory, PAGES * PAGE_SIZE);
		vmm_process_close(p);
		return NULL;
	}
	for (u32 i = 0; i < PAGES; i++)
		page[i] = (struct vmm_page){ FIRST_GFN + i, entry[i] & PM_FRAME, 1, false };
	return memory;
}

/* Searches are rationed by time; a test has all it wants. */
static void learn(struct vmm_slots *slots, const struct vmm_process *p, struct vmm_page *page, u32 nr)
{
	slots->search_ns = 0;
	vmm_slots_learn(slots, p, page, nr);
}

static void memslot_found_by_frames(void)
{
	static struct vmm_slots slots;
	struct vmm_page page[PAGES], later;
	struct vmm_process p;
	char *memory = own_process(&p, page);

	if (!memory)
		return;
	memset(&slots, 0, sizeof(slots));
	later = page[40];
	/* One page may be an accident. */
	learn(&slots, &p, page, 1);
	CHECK_EQ(slots.nr, 1);
	CHECK_EQ(vmm_slots_hva(&slots, FIRST_GFN), 0);
	learn(&slots, &p, page + 1, 31);
	CHECK_EQ(slots.nr, 1);
	CHECK_EQ(vmm_slots_hva(&slots, FIRST_GFN), (hva_t)(uintptr_t)memory);
	CHECK_EQ(vmm_slots_hva(&slots, FIRST_GFN + 31), (hva_t)(uintptr_t)memory + 31 * PAGE_SIZE);
	CHECK_EQ(vmm_slots_hva(&slots, FIRST_GFN + 32), 0); /* nobody said that the slot goes on */
	slots.search_ns = ~0ull >> 1;			    /* a known slot grows without a search */
	vmm_slots_learn(&slots, &p, &later, 1);
	CHECK(later.found);
	CHECK_EQ(vmm_slots_hva(&slots, FIRST_GFN + 32), (hva_t)(uintptr_t)memory + 32 * PAGE_SIZE);
	munmap(memory, PAGES * PAGE_SIZE);
	vmm_process_close(&p);
}

/* A terabyte of reservation with a page in it. */
static void sparse_memory(void)
{
	const u64 bytes = 1ull << 40, off = bytes / 2;
	char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	hva_t at = (hva_t)(uintptr_t)memory, stop = 0;
	int fd = pagemap_open(0);

	if (memory == MAP_FAILED || fd < 0) {
		test_skip("no terabyte of addresses, or no pagemap: %s", strerror(errno));
		return;
	}
	madvise(memory, bytes, MADV_NOHUGEPAGE);
	memory[off] = 1;
	REQUIRE(pagemap_next(fd, &at, (hva_t)(uintptr_t)memory + bytes, &stop));
	if (at == (hva_t)(uintptr_t)memory) {
		test_skip("the kernel has no PAGEMAP_SCAN: Linux 6.7");
	} else {
		CHECK_EQ(at, (hva_t)(uintptr_t)memory + off);
		CHECK_EQ(stop, at + PAGE_SIZE);
		at = stop;
		CHECK(!pagemap_next(fd, &at, (hva_t)(uintptr_t)memory + bytes, &stop));
	}
	close(fd);
	munmap(memory, bytes);
}

/* The host moved some pages within the mapping: their frames turn up elsewhere, and no slot is made of that. */
static void moved_pages_make_no_slot(void)
{
	static struct vmm_slots slots;
	struct vmm_page page[PAGES], moved[4];
	struct vmm_process p;
	char *memory = own_process(&p, page);
	u64 pfn[4];

	if (!memory)
		return;
	memset(&slots, 0, sizeof(slots));
	for (int i = 0; i < 4; i++) {
		pfn[i] = page[50 + i].pfn;
		moved[i] = (struct vmm_page){ FIRST_GFN + 10 + (u64)i, pfn[i], 1, false };
	}
	learn(&slots, &p, page, 40);
	learn(&slots, &p, moved, 4);
	CHECK_EQ(slots.missed, 4);
	for (u32 i = 0; i < slots.nr; i++)
		CHECK_EQ(vmm_slot_sure(&slots.slot[i]), !i);
	CHECK_EQ(vmm_slots_hva(&slots, FIRST_GFN + 10), (hva_t)(uintptr_t)memory + 10 * PAGE_SIZE);
	munmap(memory, PAGES * PAGE_SIZE);
	vmm_process_close(&p);
}

/* So many were missed at the start that no ratio of the few there are would ever do: they count all the same. */
static void bad_start_is_made_good(void)
{
	static struct vmm_slots slots;
	struct vmm_page page[PAGES];
	struct vmm_process p;
	char *memory = own_process(&p, page);

	if (!memory)
		return;
	slots = (struct vmm_slots){ .missed = 1000000 };
	learn(&slots, &p, page, 16);
	CHECK_EQ(vmm_slots_hva(&slots, FIRST_GFN), 0);
	CHECK_EQ(slots.nr, 1);
	CHECK_EQ(vmm_slots_sure(&slots), 0);
	learn(&slots, &p, page + 16, 48);
	CHECK_EQ(vmm_slots_sure(&slots), 1);
	CHECK_EQ(vmm_slots_hva(&slots, FIRST_GFN), (hva_t)(uintptr_t)memory);
	CHECK_EQ(slots.looked, PAGES);
	CHECK_EQ(slots.found, PAGES);
	munmap(memory, PAGES * PAGE_SIZE);
	vmm_process_close(&p);
}

/* Nearly all frames are gone when they are looked for: two that agree may be an accident. */
static void frames_that_vanish(void)
{
	static struct vmm_slots slots;
	struct vmm_page page[PAGES], gone;
	struct vmm_process p;
	char *memory = own_process(&p, page);

	if (!memory)
		return;
	memset(&slots, 0, sizeof(slots));
	for (u32 i = 0; i < 40; i++) {
		gone = (struct vmm_page){ FIRST_GFN + 1000 + i, 1ull << 50, 1, false }; /* no such frame */
		learn(&slots, &p, &gone, 1);
		CHECK(!gone.found);
	}
	CHECK_EQ(slots.missed, 40);
	learn(&slots, &p, page, 2);
	CHECK_EQ(vmm_slots_hva(&slots, FIRST_GFN), 0);
	learn(&slots, &p, page + 2, 8);
	CHECK_EQ(vmm_slots_hva(&slots, FIRST_GFN), (hva_t)(uintptr_t)memory);
	munmap(memory, PAGES * PAGE_SIZE);
	vmm_process_close(&p);
}

const struct test_case lab_process_tests[] = {
	TEST(mappings),
	TEST(who_is_no_vmm),
	TEST(vms_are_counted),
	TEST(sparse_memory),
	TEST(memslot_found_by_frames),
	TEST(moved_pages_make_no_slot),
	TEST(bad_start_is_made_good),
	TEST(frames_that_vanish),
	TEST_END,
};
