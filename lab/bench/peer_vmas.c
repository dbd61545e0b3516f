/* SPDX-License-Identifier: MIT */
/*
 * The peer of `bench register`: Linux registers KVM's notifier in KVM_CREATE_VM, and
 * takes every lock of the process's address space for it. VMAs of this process are
 * laid out as register.c lays out those of tain's mm.
 */
#include "lab/bench/notifier.h"

#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/atomic.h"
#include "lib/time.h"
#include "vmm/engine.h"

#define CREATE_TRIES 5
#define VMAS_SLACK 64 /* for whoever maps something meanwhile */

static u64 vmas_now(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	u64 lines = 0;
	int c;

	if (!maps)
		return 0;
	while ((c = fgetc(maps)) != EOF)
		lines += c == '\n';
	fclose(maps);
	return lines;
}

static u64 max_map_count(void)
{
	FILE *file = fopen("/proc/sys/vm/max_map_count", "re");
	unsigned long long n = 0;

	if (!file)
		return 65530;
	if (fscanf(file, "%llu", &n) != 1)
		n = 65530;
	fclose(file);
	return n;
}

/* One VMA to @count: every other page away, or of other rights. */
static int cut(struct peer_vmas *vmas, enum register_kind kind)
{
	u64 pages = vmas->bytes / PAGE_SIZE;

	for (u64 i = 1; i < pages; i += 2) {
		char *page = vmas->start + i * PAGE_SIZE;

		if (kind == REGISTER_OWN ? munmap(page, PAGE_SIZE) : mprotect(page, PAGE_SIZE, PROT_READ))
			return -errno;
		vmas->holes += kind == REGISTER_OWN;
	}
	return 0;
}

int peer_vmas_add(struct peer_vmas *vmas, enum register_kind kind, u32 count, struct err *why)
{
	u64 limit = max_map_count(), used = vmas_now();
	char *start;
	int ret;

	if (used + count + VMAS_SLACK > limit)
		return err_set(why, -EOPNOTSUPP,
			       "%u more VMAs than the %llu of this process exceed vm.max_map_count %llu", count,
			       (unsigned long long)used, (unsigned long long)limit);
	vmas->bytes = (kind == REGISTER_OWN ? 2ull : 1ull) * count * PAGE_SIZE;
	start = mmap(NULL, vmas->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (start == MAP_FAILED)
		return err_set(why, -ENOMEM, "no room for %u VMAs: %s", count, strerror(errno));
	vmas->start = start;
	vmas->holes = 0;
	madvise(start, vmas->bytes, MADV_NOHUGEPAGE);
	if (kind == REGISTER_SHARED)
		WRITE_ONCE(*start, 1);
	ret = cut(vmas, kind);
	/* A VMA keeps its anon_vma when its pages go. */
	for (u64 i = 0; kind == REGISTER_OWN && i < count && !ret; i++) {
		char *page = start + 2 * i * PAGE_SIZE;

		WRITE_ONCE(*page, 1);
		madvise(page, PAGE_SIZE, MADV_DONTNEED);
	}
	if (!ret)
		return 0;
	peer_vmas_remove(vmas);
	return err_set(why, ret, "%u VMAs: %s", count, strerror(-ret));
}

void peer_vmas_remove(struct peer_vmas *vmas)
{
	u64 kept = 2ull * vmas->holes * PAGE_SIZE;

	/* A hole is no longer ours: another thread may have mapped its own there. */
	for (u64 i = 0; i < vmas->holes; i++)
		munmap(vmas->start + 2 * i * PAGE_SIZE, PAGE_SIZE);
	if (kept < vmas->bytes)
		munmap(vmas->start + kept, vmas->bytes - kept);
	vmas->start = NULL;
}

int peer_kvm_open(struct err *why)
{
	int ret = engine_find("kvm")->probe(why), fd;

	if (ret)
		return ret;
	fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	return fd < 0 ? err_set(why, -errno, "/dev/kvm: %s", strerror(errno)) : fd;
}

int peer_kvm_create(int kvm, double *ns, struct err *err)
{
	u64 best = (u64)-1;

	for (int i = 0; i < CREATE_TRIES; i++) {
		u64 start = clock_ns();
		int vm = ioctl(kvm, KVM_CREATE_VM, 0);

		best = min(best, clock_ns() - start);
		if (vm < 0)
			return err_set(err, -errno, "KVM_CREATE_VM: %s", strerror(errno));
		close(vm);
	}
	*ns = (double)best;
	return 0;
}
