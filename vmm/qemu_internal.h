/* SPDX-License-Identifier: MIT */
/*
 * Private to the qemu engine, whose vCPUs are in another process:
 *
 *   vmm/qemu.c          the engine: memory, images, the vCPUs as tain sees them
 *   vmm/qemu_connect.c  the connection to libvirtd, and what it offers
 *   vmm/qemu_domain.c   the domain: files, start, end
 *   vmm/qemu_xml.c      how it is described, and whose it is
 *   vmm/qemu_log.c      what QEMU said last
 *   vmm/qemu_sweep.c    what an earlier tain has left
 *   vmm/qemu_process.c  the QEMU process behind a domain, and its memory, through /proc
 *   vmm/qemu_migrate.c  the domain moves to a second QEMU
 *   vmm/qemu_linux.c    a Linux that the guest runs under
 *   vmm/qemu_save.c     the domain into a file, and back
 *   vmm/qemu_memory.c   its balloon, and memory that is plugged in and out
 *   vmm/qemu_monitor.c  QEMU's monitor
 *   vmm/qemu_lost.c     the guest's memory has gone, or the process has no time
 *   vmm/qemu_outside.c  what is done to a running domain from outside
 */
#ifndef VMM_QEMU_INTERNAL_H
#define VMM_QEMU_INTERNAL_H

#include <sys/types.h>

#include "lib/atomic.h"
#include "vmm/console.h"
#include "vmm/virt.h"
#include "vmm/vmm_internal.h"

#define QEMU_PREFIX "tain-"
#define QEMU_DIR_BYTES 64
#define QEMU_LOG_BYTES 200
#define QEMU_CMDLINE_BYTES 512
#define LARGE_PAGE (2ul << 20)

/* Guest-physical memory and where it lies in the one RAM object of the domain. */
struct qemu_layout {
	u64 data_gpa;
	u64 data_offset; /* in the RAM object; below the hole offset and address are the same */
	u64 ram_bytes;
	u64 ram_start; /* where the object begins: below is memory that QEMU alone maps, for KSM */
};

/* Of an address in the machine's RAM, in the object. */
static inline u64 qemu_in_ram(const struct qemu_layout *l, u64 at)
{
	return at - l->ram_start;
}

/* A domain and its QEMU. */
struct qemu_domain {
	virDomainPtr handle; /* NULL: none */
	char name[48];
	char uuid[37];
	int pidfd; /* -1: not found yet */
	pid_t pid;
	u64 oom_kills;	   /* on this machine, before it was found */
	char emulator[32]; /* what it was started by, without the directory */
	int ram;	   /* descriptor of the RAM object, or -1 */
	hva_t hva;	   /* of its first byte, in QEMU */
	hva_t below;	   /* of the first byte below it, in QEMU, if the object is not all */
	int console;	   /* connected to the guest's serial line, or -1 */
};

struct qemu_vm {
	virConnectPtr connection;
	bool kvm;		      /* else TCG */
	char dir[QEMU_DIR_BYTES];     /* files that QEMU opens when it starts; "" when they are gone */
	char log_dir[QEMU_LOG_BYTES]; /* "": nobody here knows */
	struct qemu_layout layout;
	struct qemu_domain domain;
	void *elf; /* what the domain was started with: a second one starts with it too */
	size_t elf_bytes;
	u64 downtime_ns;       /* of the last migration, as QEMU measured it */
	u32 moves;	       /* atomic: odd while the domain goes through a file */
	struct err unrestored; /* why it did not come back from there; before moves is even again */
	u32 lost;	       /* set when the memory's file has been cut short; any thread */
	u32 started;	       /* atomic: the first vCPU that runs lets the domain run */
	struct vm_identity id;
	struct vm *vm;		      /* from qemu_lost_watch() on; the next one there: */
	struct qemu_vm *next_watched; /* written under lost_mutex, read by handlers too */
};

struct qemu_vcpu {
	struct vcpu vcpu;
	struct console text; /* vCPU 0's: the machine has one console */
	int kick;	     /* eventfd */
};

static inline struct qemu_vm *to_qemu(const struct vm *vm)
{
	return vm->priv;
}

/*
 * qemu_connect.c. qemu_open(): again, after qemu_connect(). Return: 0; -ETIMEDOUT: libvirtd hangs; -EINTR: to stop
 * was asked for; -errno.
 */
int qemu_connect(virConnectPtr *connection, struct err *err);
int qemu_open(virConnectPtr *connection, struct err *err);
void qemu_say(const char *fmt, ...) format_printf(1, 2); /* to people who wait */
int qemu_choose_accel(virConnectPtr connection, bool *kvm, struct err *err);
void qemu_find_logs(virConnectPtr connection, char *dir, size_t bytes); /* "": not here, or nobody knows */

/*
 * qemu_domain.c. @extra: more words for QEMU's command line, or NULL. @saved: the file that the domain whose name
 * and UUID are in @d was saved to; NULL: a new one. On failure nothing is left.
 */
int qemu_domain_start(struct vm *vm, struct qemu_domain *d, const char *const *extra, const char *saved,
		      struct err *err);
void qemu_domain_end(struct qemu_vm *q, struct qemu_domain *d);
/* A directory for files that QEMU or libvirt opens, which a sweep knows; @dir has QEMU_DIR_BYTES. */
int qemu_make_dir(char *dir, struct err *err);
void qemu_remove_dir(char *dir);

/* A file for QEMU, which may be another user, in q->dir; whatever is in there goes when QEMU has opened it. */
int qemu_write_file(const struct qemu_vm *q, const char *name, const void *data, size_t bytes, struct err *err);

void qemu_sweep(virConnectPtr connection, const char *log_dir);

/*
 * qemu_log.c. The last lines that QEMU wrote itself, at most three, " | " between them; or why
 * they cannot be read; or "". Return: will no more come?
 */
#define QEMU_LOG_LINE 240 /* of each, its time not counted */
bool qemu_domain_log(const struct qemu_vm *q, const struct qemu_domain *d, char *lines, size_t bytes);
void qemu_log_remove(const struct qemu_vm *q, const struct qemu_domain *d);
/* Is @line QEMU's own, whose program is called @emulator? */
bool qemu_log_line(const char *line, const char *emulator);
/* Where a libvirtd that is spoken to at @uri has the logs; "": nobody here knows. */
void qemu_log_dir(const char *uri, char *dir, size_t bytes);

/* qemu_linux.c: is the kernel there; its name; the files it is booted with; what it is told. */
int qemu_linux_check(struct err *err);
void qemu_linux_name(char *name, size_t bytes);
int qemu_linux_files(const struct qemu_vm *q, struct err *err);
void qemu_linux_cmdline(const struct vm *vm, char *text, size_t bytes);

/* qemu_xml.c. Return: text for xmlBufferFree(), or NULL without memory. */
struct qemu_xml {
	const struct vm *vm;
	const char *kernel, *console;
	const char *initramfs, *cmdline; /* of a Linux, or NULL */
	const char *const *extra;	 /* more words for QEMU's command line, NULL terminated; may be NULL */
	u64 current_kib;		 /* what the balloon has left, as libvirt knew it; 0: all */
};
xmlBufferPtr qemu_domain_xml(const struct qemu_xml *xml, const struct qemu_domain *domain);
/* A memory device for virDomainAttachDeviceFlags(). */
xmlBufferPtr qemu_dimm_xml(u64 bytes);
/* What a domain's description says of its balloon; 0: nothing. */
u64 qemu_current_kib(const char *xml);
/* Can memory be plugged into this machine? */
bool qemu_has_slots(void);
#define QEMU_OWNER_NS "urn:tain:owner:1"
/* Who owns a domain: this process. */
struct qemu_owner {
	char boot[40]; /* of the kernel */
	u64 pidns, pid, start;
};
void qemu_owner_self(struct qemu_owner *owner);
/* Is the owner that @xml names a process of this machine that has ended? */
bool qemu_owner_gone(const char *xml);

/* qemu.c: the domain's RAM over SHARED and DATA of this process. */
int qemu_map_memory(struct vm *vm, const struct qemu_domain *d, struct err *err);

/* qemu_lost.c: from the mapping of the guest's memory on until it goes; has its file been cut short meanwhile? */
void qemu_lost_watch(struct vm *vm);
void qemu_lost_forget(const struct vm *vm);
bool qemu_lost(const struct vm *vm);
/* See vm_abandon(): of the VMs that are watched. */
void qemu_abandon(void);

/* qemu_outside.c. qemu_add_gone(): @ret, and in @err that libvirtd has gone, should that be why. */
int qemu_add_gone(const struct qemu_vm *q, int ret, struct err *err);
int qemu_give(struct vm *vm, u64 first, u64 pages, struct err *err); /* engine->balloon */
void qemu_look_outside(struct vm *vm, struct vm_outside *to);
int qemu_control(struct vm *vm, enum vm_control what, struct err *err);

/* qemu_migrate.c. Return: 0: another process has the VM; else the one that had it, or -EIO it has stopped for good. */
int qemu_migrate(struct vm *vm, struct err *err);
/* The VM is @next's from now on, and @next the one that had it. Both stand still. */
int qemu_take_over(struct vm *vm, struct qemu_domain *next, struct err *err);

/* qemu_save.c: see VM_RESTORE. On failure the VM may have ended. */
int qemu_save_restore(struct vm *vm, struct err *err);

/* qemu_memory.c: see vm_balloon(), VM_PLUG and VM_UNPLUG. */
int qemu_balloon(struct vm *vm, u64 first, u64 pages, struct err *err);
int qemu_plug(struct vm *vm, struct err *err);
int qemu_unplug(struct vm *vm, struct err *err);

/*
 * qemu_monitor.c: say @command to the monitor. Return: what it returned, for json_decref(); NULL with one line in
 * @err. qemu_tell() only whether it did.
 */
struct json_t *qemu_monitor(const struct qemu_domain *d, const char *command, struct err *err);
int qemu_tell(const struct qemu_domain *d, const char *command, struct err *err);

/* qemu_process.c. @d->uuid: of a domain that libvirt started. Fills pidfd, pid, emulator; then ram and hva. */
bool qemu_process_seek(struct qemu_domain *d);
int qemu_process_find(struct qemu_domain *d, u64 ram_bytes, struct err *err);
/* Fills below: the monitor knows. */
int qemu_process_find_below(struct qemu_domain *d, struct err *err);
bool qemu_process_ended(const struct qemu_domain *d);

#endif /* VMM_QEMU_INTERNAL_H */
