/* SPDX-License-Identifier: MIT */
/* Another process that runs guests: who it is, its threads and its mappings, from /proc. */
#include "lab/trace/vmm_process.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lab/host/op.h"
#include "lab/system/pagemap.h"
#include "lib/alloc.h"

#define VMS_TOLD 16u /* of more, duplicates are not told apart */

/* Threads of the kernel that invalidate other processes' memory. */
static const char *const meddlers[] = { "ksmd", "khugepaged", "kcompactd", "kswapd", "migration" };

void vmm_thread_name(u32 tid, char *name, size_t bytes)
{
	char path[64];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%u/comm", tid);
	f = fopen(path, "re");
	if (!f || !fgets(name, (int)bytes, f))
		snprintf(name, bytes, "?");
	name[strcspn(name, "\n")] = '\0';
	if (f)
		fclose(f);
}

bool vmm_process_ended(const struct vmm_process *p)
{
	struct pollfd poll_fd = { .fd = p->pidfd, .events = POLLIN };

	return poll(&poll_fd, 1, 0) > 0;
}

/* --- who it is --------------------------------------------------------------------------- */

/* Is descriptor @fd of process @pid a duplicate of one of @known? Where the kernel does not tell: no. */
static bool duplicates(pid_t pid, const int *known, u32 nr, int fd)
{
	for (u32 i = 0; i < nr; i++)
		if (!syscall(SYS_kcmp, pid, pid, KCMP_FILE, known[i], fd))
			return true;
	return false;
}

int vmm_process_vms(struct vmm_process *p)
{
	int vm[VMS_TOLD];
	char path[64], link[64];
	u32 vms = 0, vcpus = 0;
	struct dirent *d;
	ssize_t n;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", p->pid);
	dir = opendir(path);
	if (!dir)
		return errno == ENOENT ? -ENOENT : -EACCES;
	while ((d = readdir(dir))) {
		n = readlinkat(dirfd(dir), d->d_name, link, sizeof(link) - 1);
		link[max(n, 0)] = '\0';
		vcpus += !strncmp(link, "anon_inode:kvm-vcpu:", 20);
		if (strcmp(link, "anon_inode:kvm-vm") != 0 ||
		    duplicates(p->pid, vm, min(vms, VMS_TOLD), atoi(d->d_name)))
			continue;
		if (vms < VMS_TOLD)
			vm[vms] = atoi(d->d_name);
		vms++;
	}
	closedir(dir);
	p->vms = max(p->vms, vms);
	p->vcpus = max(p->vcpus, vcpus);
	return 0;
}

static int thread_group(pid_t pid)
{
	char path[64], line[128];
	int tgid = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f) && sscanf(line, "Tgid: %d", &tgid) != 1)
		;
	if (f)
		fclose(f);
	return tgid;
}

u64 vmm_process_start(pid_t pid)
{
	char path[64], text[1024], *at;
	unsigned long long start = 0;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[max(n, 0)] = '\0';
	at = strrchr(text, ')'); /* a name may hold anything */
	if (!at || sscanf(at, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
			  &start) != 1)
		return 0;
	return start;
}

int vmm_process_open(struct vmm_process *p, pid_t pid, struct err *err)
{
	int tgid = thread_group(pid), ret;

	*p = (struct vmm_process){ .pid = pid, .pidfd = -1, .pagemap = -1 };
	if (!tgid)
		return err_set(err, -ENOENT, "there is no process %d", pid);
	if (tgid != pid)
		return err_set(err, -EINVAL, "%d is a thread of process %d: say --pid %d", pid, tgid, tgid);
	p->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (p->pidfd < 0)
		return err_set(err, errno == ESRCH ? -ENOENT : -errno, "cannot watch process %d: %s", pid,
			       strerror(errno));
	fcntl(p->pidfd, F_SETFD, FD_CLOEXEC);
	if (vmm_process_ended(p))
		return err_set(err, -ENOENT, "process %d has ended", pid);
	vmm_thread_name((u32)pid, p->comm, sizeof(p->comm));
	ret = vmm_process_vms(p);
	if (ret)
		return err_set(err, ret, "cannot look at process %d: /proc/%d/fd: %s", pid, pid, strerror(-ret));
	if (!p->vms && !p->vcpus)
		return err_set(err, -EINVAL, "process %d (%s) does not use KVM: it has no descriptor of a VM", pid,
			       p->comm);
	p->pagemap = pagemap_open(pid);
	p->pagemap_error = min(p->pagemap, 0);
	ret = vmm_process_areas(p);
	return ret ? err_set(err, ret == -ENOENT ? ret : -EACCES, "/proc/%d/maps: %s", pid, strerror(-ret)) : 0;
}

void vmm_process_close(struct vmm_process *p)
{
	if (p->pidfd >= 0)
		close(p->pidfd);
	if (p->pagemap >= 0)
		close(p->pagemap);
	mem_free(p->area);
	p->area = NULL;
	p->pidfd = p->pagemap = -1;
}

static size_t list_add(char *list, size_t bytes, size_t used, const char *tid)
{
	int n = snprintf(list + used, bytes - used, "%s ", tid);

	return n > 0 && used + (size_t)n < bytes ? used + (size_t)n : used;
}

static bool meddles(const char *tid)
{
	char name[32];

	vmm_thread_name((u32)atoi(tid), name, sizeof(name));
	for (size_t i = 0; i < ARRAY_SIZE(meddlers); i++)
		if (!strncmp(name, meddlers[i], strlen(meddlers[i])))
			return true;
	return false;
}

/* A user's process may call itself ksmd; threads of the kernel have no program. */
static bool of_kernel(const char *pid)
{
	char path[64], exe[8];

	snprintf(path, sizeof(path), "/proc/%d/exe", atoi(pid));
	return readlink(path, exe, sizeof(exe)) < 0;
}

int vmm_process_tids(const struct vmm_process *p, char *list, size_t bytes)
{
	char path[64];
	size_t used = 0;
	struct dirent *d;
	DIR *dir;

	list[0] = '\0';
	snprintf(path, sizeof(path), "/proc/%d/task", p->pid);
	dir = opendir(path);
	if (!dir)
		return -errno;
	while ((d = readdir(dir)))
		if (d->d_name[0] != '.')
			used = list_add(list, bytes, used, d->d_name);
	closedir(dir);
	dir = opendir("/proc");
	while (dir && (d = readdir(dir)))
		if (d->d_name[0] >= '1' && d->d_name[0] <= '9' && meddles(d->d_name) && of_kernel(d->d_name))
			used = list_add(list, bytes, used, d->d_name);
	if (dir)
		closedir(dir);
	return used ? 0 : -ESRCH;
}

/* --- mappings ------------------------------------------------------------------------------ */

static const char *backing_of(const char *name, bool shared, u64 ino)
{
	enum host_backing backing;

	if (!strncmp(name, "/anon_hugepage", 14) || !strncmp(name, "/hugetlbfs", 10))
		return shared ? "shared_hugetlb" : host_backing_table[HOST_ANONYMOUS_HUGETLB_2MB].name;
	if (strstr(name, "guest_memfd") || strstr(name, "kvm-gmem"))
		return host_backing_table[HOST_GUEST_MEMFD].name;
	if (!strncmp(name, "/memfd:", 7))
		backing = shared ? HOST_MEMFD : HOST_MEMFD_PRIVATE;
	else if (!strncmp(name, "/dev/zero", 9) || !strncmp(name, "/SYSV", 5))
		backing = HOST_SHMEM;
	else if (!strncmp(name, "/dev/", 5) && strncmp(name, "/dev/shm/", 9))
		return "device";
	else if (!strncmp(name, "anon_inode:", 11) || !strncmp(name, "[v", 2))
		return "special"; /* vCPUs' run pages, vdso, vvar */
	else if (ino)
		backing = shared ? HOST_FILE_SHARED : HOST_FILE_PRIVATE;
	else
		backing = shared ? HOST_SHMEM : HOST_ANONYMOUS;
	return host_backing_table[backing].name;
}

/* Does @a go on where @before ends? */
static bool continues(const struct vmm_area *before, const struct vmm_area *a)
{
	return before->end == a->start && before->shared == a->shared && before->dev == a->dev &&
	       before->ino == a->ino && !strcmp(before->name, a->name) &&
	       (!a->ino || before->offset + (before->end - before->start) == a->offset);
}

static int area_add(struct vmm_process *p, const struct vmm_area *a)
{
	u32 max = p->max_areas ? p->max_areas * 2 : 256;
	struct vmm_area *more;

	if (p->nr_areas && continues(&p->area[p->nr_areas - 1], a)) {
		p->area[p->nr_areas - 1].end = a->end;
		p->area[p->nr_areas - 1].readable |= a->readable;
		return 0;
	}
	if (p->nr_areas == p->max_areas) {
		more = mem_alloc(max * sizeof(*more));
		if (!more)
			return -ENOMEM;
		if (p->nr_areas)
			memcpy(more, p->area, p->nr_areas * sizeof(*more));
		mem_free(p->area);
		p->area = more;
		p->max_areas = max;
	}
	p->area[p->nr_areas++] = *a;
	return 0;
}

static int parse_line(struct vmm_process *p, char *line)
{
	unsigned long start, end, offset, ino;
	unsigned int major, minor;
	struct vmm_area a = { 0 };
	int at = 0;
	char rights[8];
	size_t len;

	line[strcspn(line, "\n")] = '\0';
	if (sscanf(line, "%lx-%lx %7s %lx %x:%x %lu %n", &start, &end, rights, &offset, &major, &minor, &ino, &at) < 7)
		return -EINVAL;
	a = (struct vmm_area){ .start = start, .end = end, .offset = offset, .ino = ino, .shared = rights[3] == 's' };
	a.dev = (u64)major << 32 | minor;
	a.readable = rights[0] == 'r';
	len = strlen(line + at);
	a.backing = backing_of(line + at, a.shared, a.ino);
	snprintf(a.name, sizeof(a.name), "%s", line + at + (len < sizeof(a.name) ? 0 : len - sizeof(a.name) + 1));
	return area_add(p, &a);
}

int vmm_areas_parse(struct vmm_process *p, const char *text)
{
	char line[512];
	int ret = 0;

	p->nr_areas = 0;
	while (*text && !ret) {
		size_t n = strcspn(text, "\n");

		snprintf(line, sizeof(line), "%.*s", (int)min(n, sizeof(line) - 1), text);
		text += n + (text[n] == '\n');
		ret = parse_line(p, line);
	}
	return ret;
}

int vmm_process_areas(struct vmm_process *p)
{
	struct vmm_process fresh = { 0 };
	char path[64], line[4352]; /* a name is shorter than PATH_MAX */
	int ret = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/maps", p->pid);
	f = fopen(path, "re");
	if (!f)
		return -errno;
	while (!ret && fgets(line, sizeof(line), f))
		ret = parse_line(&fresh, line);
	fclose(f);
	if (!ret && !fresh.nr_areas)
		ret = -ENOENT; /* it is ending: there is no mm any more */
	if (ret) {
		mem_free(fresh.area);
		return ret;
	}
	mem_free(p->area);
	p->area = fresh.area;
	p->nr_areas = fresh.nr_areas;
	p->max_areas = fresh.max_areas;
	return 0;
}

const struct vmm_area *vmm_process_area(const struct vmm_process *p, hva_t hva)
{
	u32 low = 0, high = p->nr_areas;

	while (low < high) {
		u32 mid = low + (high - low) / 2;

		if (p->area[mid].end <= hva)
			low = mid + 1;
		else
			high = mid;
	}
	return low < p->nr_areas && p->area[low].start <= hva ? &p->area[low] : NULL;
}
