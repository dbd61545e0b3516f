/* SPDX-License-Identifier: MIT */
/* What stands behind DATA on Linux: anonymous memory, memfds, files, guest_memfd. */
#include "lab/host/linux.h"

#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "lib/alloc.h"

/* Files are sparse, and a tracked one never filled twice at one offset: fresh memory is the next piece of it. */
#define MEMFD_BYTES (1ull << 60)
#define FILE_BYTES (8ull << 40) /* ext4 ends at 16 TiB */

#define FILE_ROOM 4 /* times DATA: others write to the disk too, and fresh memory comes before the old goes */

#define KVM_DEVICE "/dev/kvm"

static int size_file(struct host *host, struct err *err)
{
	struct host_linux *l = host->private;

	/* A file system may have smaller limits: there a plan ends earlier. */
	for (; l->file_bytes >= host->bytes; l->file_bytes /= 2)
		if (!ftruncate(host->fd, (off_t)l->file_bytes))
			return 0;
	return err_set(err, -errno, "%s: cannot set the file's size: %s", host_backing_table[host->backing].name,
		       strerror(errno));
}

static int open_memfd(struct host *host, struct err *err)
{
	struct host_linux *l = host->private;

	l->file_bytes = MEMFD_BYTES;
	host->fd = memfd_create("tain-data", MFD_CLOEXEC);
	if (host->fd < 0)
		return err_set(err, -errno, "memfd_create: %s", strerror(errno));
	return size_file(host, err);
}

static const char *file_dir(void)
{
	const char *dir = getenv("TMPDIR");

	return dir && *dir == '/' ? dir : "/var/tmp";
}

bool host_linux_on_disk(const struct host *host)
{
	return host->backing == HOST_FILE_SHARED || host->backing == HOST_FILE_SHARED_THP ||
	       host->backing == HOST_FILE_PRIVATE;
}

int host_linux_full(struct host *host, struct err *why)
{
	struct statvfs fs;

	if (!host_linux_on_disk(host) || fstatvfs(host->fd, &fs) || !fs.f_blocks || fs.f_bavail)
		return 0;
	return err_set(why, -ENOSPC, "no space left on %s", file_dir());
}

/* A file without a name, from its first moment where the file system knows O_TMPFILE. */
static int open_file(struct host *host, struct err *err)
{
	struct host_linux *l = host->private;
	const char *dir = file_dir();
	struct statvfs fs;
	char path[256];

	l->file_bytes = FILE_BYTES;
	host->fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (host->fd < 0 && snprintf(path, sizeof(path), "%s/tain-data-XXXXXX", dir) < (int)sizeof(path)) {
		host->fd = mkostemp(path, O_CLOEXEC);
		if (host->fd >= 0)
			unlink(path);
	}
	if (host->fd < 0)
		return err_set(err, -EOPNOTSUPP, "no file can be made in %s: %s", dir, strerror(errno));
	/* A write to a mapping that finds the disk full is a SIGBUS, which is too late to ask. */
	if (!fstatvfs(host->fd, &fs) && (u64)fs.f_bavail * fs.f_frsize < FILE_ROOM * (host->bytes + host->limbo_bytes))
		return err_set(err, -EOPNOTSUPP, "%s has no room for a file of %llu bytes", dir,
			       (unsigned long long)host->bytes);
	return size_file(host, err);
}

/* A guest_memfd belongs to a VM; this one needs no other. */
static int open_guest_memfd(struct host *host, struct err *err)
{
	struct tain_kvm_create_guest_memfd create = {
		.flags = TAIN_GUEST_MEMFD_FLAG_MMAP | TAIN_GUEST_MEMFD_FLAG_INIT_SHARED,
	};
	int device = open(KVM_DEVICE, O_RDWR | O_CLOEXEC), vm = -1, flags = 0, ret = 0;
	struct host_linux *l = host->private;

	if (device >= 0)
		vm = ioctl(device, KVM_CREATE_VM, 0);
	if (vm < 0) {
		ret = err_set(err, -EOPNOTSUPP, "guest_memfd: %s makes no VM: %s", KVM_DEVICE, strerror(errno));
		goto close;
	}
	if (ioctl(vm, KVM_CHECK_EXTENSION, TAIN_KVM_CAP_GUEST_MEMFD) > 0)
		flags = ioctl(vm, KVM_CHECK_EXTENSION, TAIN_KVM_CAP_GUEST_MEMFD_FLAGS);
	if (flags < 0 || (flags & (int)create.flags) != (int)create.flags) {
		ret = err_set(err, -EOPNOTSUPP, "this KVM has no guest_memfd that can be mapped (Linux 6.18)");
		goto close;
	}
	create.size = l->file_bytes = MEMFD_BYTES;
	host->fd = ioctl(vm, TAIN_KVM_CREATE_GUEST_MEMFD, &create);
	if (host->fd < 0)
		ret = err_set(err, -EOPNOTSUPP, "KVM_CREATE_GUEST_MEMFD: %s", strerror(errno));
close:
	if (vm >= 0)
		close(vm);
	if (device >= 0)
		close(device);
	return ret;
}

static int open_hugetlb(struct host *host, struct err *err)
{
	u64 granule = host_backing_table[host->backing].granule;
	struct host_linux *l = host->private;

	if (!is_aligned(host->bytes, granule) || !is_aligned(host->limbo_bytes, granule))
		return err_set(err, -EINVAL, "backing %s: sizes must be multiples of 2M",
			       host_backing_table[host->backing].name);
	/* DATA, a second time where a child holds it, and the quarantine. */
	return system_hugepages((2 * host->bytes + host->limbo_bytes) / granule, &l->memory, err);
}

static int open_thp(struct host *host, struct err *err)
{
	struct host_linux *l = host->private;

	return system_thp(&l->memory, err);
}

static const struct {
	int map_flags;
	int (*open)(struct host *host, struct err *err); /* NULL: nothing to open */
} backings[HOST_BACKING_NR] = {
	[HOST_ANONYMOUS] = { MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, NULL },
	[HOST_MEMFD] = { MAP_SHARED | MAP_NORESERVE, open_memfd },
	[HOST_ANONYMOUS_THP] = { MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, open_thp },
	[HOST_MEMFD_THP] = { MAP_SHARED | MAP_NORESERVE, open_memfd },
	[HOST_ANONYMOUS_HUGETLB_2MB] = { MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_HUGE_2MB, open_hugetlb },
	[HOST_SHMEM] = { MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, NULL },
	[HOST_SHMEM_THP] = { MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, NULL },
	[HOST_MEMFD_PRIVATE] = { MAP_PRIVATE | MAP_NORESERVE, open_memfd },
	[HOST_FILE_SHARED] = { MAP_SHARED | MAP_NORESERVE, open_file },
	[HOST_FILE_SHARED_THP] = { MAP_SHARED | MAP_NORESERVE, open_file },
	[HOST_FILE_PRIVATE] = { MAP_PRIVATE | MAP_NORESERVE, open_file },
	[HOST_GUEST_MEMFD] = { MAP_SHARED | MAP_NORESERVE, open_guest_memfd },
};

/*
 * Transparent huge pages are a backing of their own: others are kept from them per process, since flags per
 * mapping would keep mappings from merging.
 */
int host_linux_thp_allow(struct host_linux *l, bool allow)
{
	if (l->thp_disabled)
		return 0; /* found like that */
	if (allow)
		return prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0) ? -errno : 0;
	if (!prctl(PR_SET_THP_DISABLE, 1, TAIN_PR_THP_DISABLE_EXCEPT_ADVISED, 0, 0))
		return 0;
	return prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) ? -errno : 0;
}

int host_linux_open(struct host *host, struct err *err)
{
	struct host_linux *l = host->private;
	bool shared = host_backing_table[host->backing].kind == BACKING_SHARED;
	u64 pages = host->bytes / PAGE_SIZE;
	int ret;

	l->memory = l->change = SYSTEM_NO_CHANGE;
	l->map_flags = backings[host->backing].map_flags;
	l->huge = host_backing_table[host->backing].thp;
	l->thp_disabled = prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0);
	if (backings[host->backing].open) {
		ret = backings[host->backing].open(host, err);
		if (ret)
			return ret;
	}
	if (l->huge && l->thp_disabled > 0)
		return err_set(err, -EOPNOTSUPP, "huge pages are off for this process (PR_SET_THP_DISABLE)");
	if (l->huge && shared && host_range_bytes(host) < HUGE)
		return err_set(err, -EINVAL, "backing %s: a range of less than 2M holds no huge page",
			       host_backing_table[host->backing].name);
	if (!l->huge)
		host_linux_thp_allow(l, false);
	l->tracked = host->fd >= 0 && shared;
	if (!l->tracked)
		return 0;
	l->offset = mem_zalloc(pages * sizeof(u64));
	l->old = mem_zalloc(pages * sizeof(u64));
	return l->offset && l->old ? 0 : err_set(err, -ENOMEM, "no memory for the map of the file");
}

void host_linux_close(struct host *host)
{
	struct host_linux *l = host->private;

	if (host->fd >= 0)
		close(host->fd);
	host->fd = -1;
	host_linux_thp_allow(l, true);
	system_undo(&l->memory, NULL);
	mem_free(l->offset);
	mem_free(l->old);
}
