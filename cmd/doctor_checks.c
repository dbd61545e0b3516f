/* SPDX-License-Identifier: MIT */
/* The findings of tain doctor. Each looks and changes nothing. */
#include "cmd/doctor.h"

#include <limits.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lab/system/event_dir.h"
#include "lab/system/journal.h"
#include "lab/system/system_lock.h"
#include "lab/machine/machine.h"

#define MIN_BYTES (512ull << 20)

static void finding(struct finding *f, enum finding_state state, const char *fmt, ...) format_printf(3, 4);
static void finding(struct finding *f, enum finding_state state, const char *fmt, ...)
{
	va_list args;

	f->state = state;
	va_start(args, fmt);
	vsnprintf(f->text, sizeof(f->text), fmt, args);
	va_end(args);
}

static void repair(struct finding *f, const char *command)
{
	snprintf(f->repair, sizeof(f->repair), "%s", command);
}

/* First line of a file, without its end. Return: false when it cannot be read. */
static bool read_line(const char *path, char *line, size_t n)
{
	FILE *file = fopen(path, "re");
	bool ok;

	if (!file)
		return false;
	ok = fgets(line, (int)n, file) != NULL;
	fclose(file);
	if (ok)
		line[strcspn(line, "\n")] = 0;
	return ok;
}

/* "a [b] c" -> "b" in place. */
static const char *chosen(char *line)
{
	char *open = strchr(line, '['), *close = strchr(line, ']');

	if (!open || !close)
		return line;
	*close = 0;
	return open + 1;
}

static bool in_path(const char *program)
{
	const char *path = getenv("PATH") ?: "/usr/bin:/bin";
	char file[PATH_MAX];

	while (*path) {
		size_t len = strcspn(path, ":");

		snprintf(file, sizeof(file), "%.*s/%s", (int)len, path, program);
		if (!access(file, X_OK))
			return true;
		path += len + (path[len] == ':');
	}
	return false;
}

/* --- engines ------------------------------------------------------------------------ */

static void check_engine(struct finding *f, const char *name)
{
	const struct engine *engine = engine_find(name);
	struct machine_config config = { .engine = engine, .vcpus = 1, .bytes = 1 << 20 };
	static struct machine m;
	struct err why = { "" };

	config.image = (struct guest_image){ .name = "hello" };
	if (engine->probe(&why) || (!engine->outside && machine_create(&m, &config, &why))) {
		finding(f, DOCTOR_MISSING, "%s", why.text);
		return;
	}
	if (engine->outside) { /* to start one would take seconds */
		finding(f, DOCTOR_OK, "libvirt offers it");
		return;
	}
	finding(f, DOCTOR_OK, "runs; MMU %s, host mm %s, CPU %s", m.id.mmu, m.id.host_mm, m.id.cpu);
	machine_destroy(&m);
}

static void check_soft(struct finding *f)
{
	check_engine(f, "soft");
}

static void check_qemu_engine(struct finding *f)
{
	check_engine(f, "qemu");
	if (f->state == DOCTOR_OK)
		return;
	if (!in_path("libvirtd") || !in_path("qemu-system-x86_64"))
		repair(f, "sudo apt-get install libvirt-daemon-system qemu-system-x86");
	else if (geteuid() && !strstr(getenv("LIBVIRT_DEFAULT_URI") ?: "",
				      "/session")) /* even in the group libvirt: the system's QEMU is another user's */
		repair(f, "export LIBVIRT_DEFAULT_URI=qemu:///session   # or run as root");
	else if (access("/run/libvirt/libvirt-sock", F_OK))
		repair(f, access("/run/systemd/system", F_OK) ? "sudo scripts/libvirt-up   # of tain's source"
							      : "sudo systemctl start libvirtd");
}

static void check_kvm(struct finding *f)
{
	struct stat st;

	check_engine(f, "kvm");
	if (f->state == DOCTOR_OK)
		return;
	if (access("/dev/kvm", F_OK))
		repair(f, "sudo modprobe kvm_intel || sudo modprobe kvm_amd   # and virtualisation on in the firmware");
	else if (!stat("/dev/kvm", &st) && (!st.st_gid || (st.st_mode & 060) != 060))
		repair(f, "sudo chgrp kvm /dev/kvm; sudo chmod g+rw /dev/kvm; sudo usermod -aG kvm \"$USER\"   # then "
			  "log in again");
	else if (access("/dev/kvm", R_OK | W_OK))
		repair(f, "sudo usermod -aG kvm \"$USER\"   # then log in again");
}

/* --- the machine ---------------------------------------------------------------------- */

static void check_cpus(struct finding *f)
{
	cpu_set_t set;
	int n;

	sched_getaffinity(0, sizeof(set), &set);
	n = CPU_COUNT(&set);
	if (n >= 2)
		finding(f, DOCTOR_OK, "%d processors: vCPUs and the host's thread can run at the same time", n);
	else
		finding(f, DOCTOR_NOTE, "one processor: vCPU and host take turns, races are rarer");
}

static void check_memory(struct finding *f)
{
	struct cgroup_room limit;
	u64 bytes = machine_available_bytes(&limit);
	enum finding_state state = bytes >= MIN_BYTES ? DOCTOR_OK : DOCTOR_NOTE;

	if (!limit.file[0]) {
		finding(f, state, "%llu MiB available", (unsigned long long)bytes >> 20);
		return;
	}
	finding(f, state, "%llu MiB available, for %s allows %llu MiB", (unsigned long long)bytes >> 20, limit.file,
		(unsigned long long)limit.limit >> 20);
	if (state == DOCTOR_NOTE)
		snprintf(f->repair, sizeof(f->repair),
			 "echo %s | sudo tee %s   # or podman run --memory=2g and the like",
			 strstr(limit.file, "_in_bytes") ? "-1" : "max", limit.file);
}

static void check_memlock(struct finding *f)
{
	struct rlimit limit;

	getrlimit(RLIMIT_MEMLOCK, &limit);
	if (limit.rlim_cur == RLIM_INFINITY) {
		finding(f, DOCTOR_OK, "unlimited");
		return;
	}
	finding(f, limit.rlim_cur >= MIN_BYTES || !geteuid() ? DOCTOR_OK : DOCTOR_NOTE,
		"%llu KiB of locked memory allowed", (unsigned long long)limit.rlim_cur >> 10);
	if (f->state == DOCTOR_NOTE)
		repair(f, "ulimit -l unlimited   # or a memlock line in /etc/security/limits.conf");
}

static void check_maps(struct finding *f)
{
	char line[64] = "65530";

	read_line("/proc/sys/vm/max_map_count", line, sizeof(line));
	finding(f, atol(line) >= 65530 ? DOCTOR_OK : DOCTOR_NOTE, "%s mappings per process", line);
	if (f->state == DOCTOR_NOTE)
		repair(f, "sudo sysctl vm.max_map_count=65530");
}

static void check_overcommit(struct finding *f)
{
	char line[64] = "?";

	read_line("/proc/sys/vm/overcommit_memory", line, sizeof(line));
	if (strcmp(line, "2"))
		finding(f, DOCTOR_OK, "vm.overcommit_memory is %s", line);
	else
		finding(f, DOCTOR_NOTE, "vm.overcommit_memory is 2: mappings may fail although memory is free");
	if (f->state == DOCTOR_NOTE)
		repair(f, "sudo sysctl vm.overcommit_memory=0");
}

static void check_swap(struct finding *f)
{
	FILE *file = fopen("/proc/swaps", "re");
	char line[256];
	int n = -1; /* a heading */

	while (file && fgets(line, sizeof(line), file))
		n++;
	if (file)
		fclose(file);
	if (n > 0) {
		finding(f, DOCTOR_OK, "%d swap area%s", n, n == 1 ? "" : "s");
		return;
	}
	finding(f, DOCTOR_MISSING, "no swap: anonymous memory cannot be paged out");
	repair(f,
	       "sudo sh -c 'fallocate -l 1G /swapfile && chmod 600 /swapfile && mkswap /swapfile && swapon /swapfile'");
}

/* What --allow-system changed and nobody was left to put back: lab/system/journal.h. */
static void check_left(struct finding *f)
{
	char text[300];
	int ret = journal_left(text, sizeof(text));

	if (ret == -EBUSY)
		finding(f, DOCTOR_NOTE, "a tain has machine-wide switches changed now, and puts them back: %s", text);
	else if (ret == -EACCES)
		finding(f, DOCTOR_NOTE, "what a killed tain may have left changed: root alone can look");
	else if (ret < 0)
		finding(f, DOCTOR_MISSING, SYSTEM_RUN_DIR "/journal is not of this version of tain");
	else if (!ret)
		finding(f, DOCTOR_OK, "nothing of the machine stands changed by a killed tain");
	else
		finding(f, DOCTOR_MISSING, "changed by a tain that was killed with its guardian: %s", text);
	if (ret > 0)
		repair(f, "sudo tain stress -q -i 1 --ops munmap --allow-system   # any run with it puts them back");
}

/* --- the kernel ------------------------------------------------------------------------- */

static void check_memfd(struct finding *f)
{
	int fd = memfd_create("tain-doctor", MFD_CLOEXEC);

	if (fd < 0)
		finding(f, DOCTOR_MISSING, "memfd_create: %s", strerror(errno));
	else
		finding(f, DOCTOR_OK, "works");
	if (fd >= 0)
		close(fd);
}

static void check_thp(struct finding *f)
{
	char line[128];

	if (!read_line("/sys/kernel/mm/transparent_hugepage/enabled", line, sizeof(line))) {
		finding(f, DOCTOR_MISSING, "the kernel has no transparent huge pages");
		return;
	}
	finding(f, DOCTOR_OK, "transparent huge pages: %s; tain's anonymous backing goes without", chosen(line));
}

static void check_hugepages(struct finding *f)
{
	char line[64];

	if (!read_line("/proc/sys/vm/nr_hugepages", line, sizeof(line))) {
		finding(f, DOCTOR_MISSING, "the kernel has no hugetlbfs");
		return;
	}
	if (atol(line) > 0) {
		finding(f, DOCTOR_OK, "%s reserved", line);
		return;
	}
	finding(f, DOCTOR_MISSING, "none reserved");
	repair(f, "sudo sysctl vm.nr_hugepages=64");
}

static void check_ksm(struct finding *f)
{
	char line[64];

	if (!read_line("/sys/kernel/mm/ksm/run", line, sizeof(line)))
		finding(f, DOCTOR_MISSING, "the kernel has no KSM");
	else
		finding(f, DOCTOR_OK, "present, %s", strcmp(line, "1") ? "off" : "on");
}

static void check_userfaultfd(struct finding *f)
{
	long fd = syscall(SYS_userfaultfd, 0);

	if (fd >= 0) {
		finding(f, DOCTOR_OK, "works");
		close((int)fd);
		return;
	}
	finding(f, DOCTOR_MISSING, "%s", strerror(errno));
	if (errno == EPERM)
		repair(f, "sudo sysctl vm.unprivileged_userfaultfd=1");
}

static void check_tracefs(struct finding *f)
{
	struct event_dir dir;
	struct err why;

	switch (event_dir_open(&dir, &why)) {
	case 0:
		if (dir.mount < 0)
			finding(f, DOCTOR_OK, "%s is readable", dir.path);
		else
			finding(f, DOCTOR_OK, "not mounted: tain mounts it for itself alone, when it needs it");
		event_dir_close(&dir);
		break;
	case -EOPNOTSUPP:
		finding(f, DOCTOR_MISSING, "the kernel has no tracefs");
		break;
	default:
		finding(f, DOCTOR_MISSING, "not for this user");
		repair(f, "run as root");
	}
}

/* --- other programs ----------------------------------------------------------------------- */

static void check_program(struct finding *f, const char *program, const char *package)
{
	if (in_path(program)) {
		finding(f, DOCTOR_OK, "%s is installed", program);
		return;
	}
	finding(f, DOCTOR_MISSING, "%s is not installed", program);
	snprintf(f->repair, sizeof(f->repair), "sudo apt-get install %s", package);
}

static void check_qemu(struct finding *f)
{
	check_program(f, "qemu-system-x86_64", "qemu-system-x86");
}

static void check_libvirt(struct finding *f)
{
	check_program(f, "libvirtd", "libvirt-daemon-system");
	/* A user's own starts when it is called. */
	if (f->state != DOCTOR_OK || geteuid() || !access("/run/libvirt/libvirt-sock", F_OK))
		return;
	finding(f, DOCTOR_MISSING, "libvirtd is installed and not running");
	repair(f, access("/run/systemd/system", F_OK) ? "sudo scripts/libvirt-up   # of tain's source"
						      : "sudo systemctl start libvirtd");
}

static void check_build(struct finding *f)
{
	finding(f, CHECKING ? DOCTOR_NOTE : DOCTOR_OK, "%s",
		CHECKING ? "a checking build: mutants and race points are in, times mean nothing"
			 : "a release build: for measuring; mutants need `make prove`");
}

const struct finding_check doctor_checks[] = {
	{ "engine soft", true, check_soft },
	{ "engine kvm", true, check_kvm },
	{ "engine qemu", true, check_qemu_engine },
	{ "build", false, check_build },
	{ "processors", false, check_cpus },
	{ "memory", false, check_memory },
	{ "memlock", false, check_memlock },
	{ "mappings", false, check_maps },
	{ "overcommit", false, check_overcommit },
	{ "memfd", false, check_memfd },
	{ "swap", false, check_swap },
	{ "left changed", false, check_left },
	{ "huge pages", false, check_thp },
	{ "hugetlb", false, check_hugepages },
	{ "ksm", false, check_ksm },
	{ "userfaultfd", false, check_userfaultfd },
	{ "tracefs", false, check_tracefs },
	{ "qemu", false, check_qemu },
	{ "libvirt", false, check_libvirt },
	{ NULL, false, NULL },
};
