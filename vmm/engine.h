/* SPDX-License-Identifier: MIT */
/*
 * The door to vmm/: virtual machines on interchangeable engines. Nothing above
 * this room knows which engine runs.
 */
#ifndef VMM_ENGINE_H
#define VMM_ENGINE_H

#include <sys/types.h>

#include "guest/abi.h"
#include "lib/base.h"
#include "lib/err.h"

struct vm;
struct vcpu;
struct mm_struct;

#define VM_MAX_RANGES 16

/* DATA may lie in several ranges, each with a slot of its own from VM_SLOT_DATA on. */
enum vm_slot {
	VM_SLOT_LOW,
	VM_SLOT_SHARED,
	VM_SLOT_DATA,
	VM_SLOT_SPARE = VM_SLOT_DATA + VM_MAX_RANGES,
	VM_SLOT_NR,
};

/* Why vcpu_run()'s handler is called. */
enum vcpu_exit_reason {
	VCPU_EXIT_DONE,	 /* the guest ended: code */
	VCPU_EXIT_TEXT,	 /* console bytes: data, bytes */
	VCPU_EXIT_FAULT, /* DATA at gpa is not backed or not allowed now; returning true retries the access */
	VCPU_EXIT_MMIO,	 /* an access outside every memslot: gpa; without bytes, returning true repeats it */
	VCPU_EXIT_KICK,	 /* vcpu_kick() */
	VCPU_EXIT_CRASH, /* guest exception, triple fault or an exit nobody expects: text in err */
};

struct vcpu_exit {
	enum vcpu_exit_reason reason;
	u32 code;
	gpa_t gpa; /* FAULT: the target the guest recorded; MMIO: the address */
	bool write;
	const void *data;
	size_t bytes;
	void *reply; /* MMIO, a read of bytes > 0: where the answer goes; all ones otherwise */
	struct err err;
};

/* Return true to go on, false to leave vcpu_run(). */
typedef bool vcpu_exit_fn(struct vcpu *vcpu, const struct vcpu_exit *exit, void *arg);

struct vm_config {
	u32 vcpus;	     /* 1..GUEST_MAX_VCPUS */
	size_t shared_bytes; /* size of the SHARED slot */
	size_t arena_bytes;  /* engines with tain's own mm: physical memory beside SHARED; 0: engine's choice from
				data_bytes */
	size_t data_bytes;   /* what DATA will be, for sizing */
};

/* What the first line of every run says. */
struct vm_identity {
	const char *engine;  /* "soft" */
	const char *mmu;     /* "tain EPT", "KVM EPT", "KVM NPT", "KVM kernel shadow" */
	const char *host_mm; /* "tain mmap_sem", "Linux 6.18.x" */
	char cpu[64];	     /* processor of the vCPU: "software", or the model name */
	char under[64];	     /* the package of the Linux that the guest runs under; "": it has the machine to itself */
};

struct vm_stats {
	bool counted; /* somebody counts faults; else what differs between two looks at them means nothing */
	u64 faults;   /* second-MMU faults taken; soft: exact, kvm: pf_taken from KVM_GET_STATS_FD */
	u64 retries, zapped, flushes, invalidations; /* 0 where unknown */
	u64 mapped;    /* kvm: pages of 4K that the second MMU maps now, larger ones by their size; 0 where unknown */
	u64 mapped_2m; /* of these, the entries of 2 MiB */
};

/* A guest: a built-in workload by name, or an ELF file. */
struct guest_image {
	const char *name; /* workload, or path as given */
	const char *path; /* NULL for a built-in workload */
};

enum vm_dirty { VM_DIRTY_START, VM_DIRTY_READ, VM_DIRTY_STOP };

/* Where a range of DATA is: nowhere; at its place; where no guest looks. */
enum vm_show { VM_HIDE, VM_SHOW, VM_MOVE };

/* What a guest of a forked child does: read @count words, the first at @data, each @stride bytes behind the last. */
struct vm_child_read {
	hva_t data;
	u64 bytes; /* of its memory, from @data, whole pages; at most 512 MiB */
	u64 stride, count;
	bool invert; /* and write the complement of each in its place */
	u64 *word;   /* what it read */
};

/*
 * Engines whose vCPUs are in another process (`qemu`). SHARED and DATA are that
 * process's memory, mapped here too: vm_set_ranges() says where in this process, and
 * vm_load() maps the guest's DATA over what is there. The vCPUs run from the first
 * vcpu_run() on, all of them.
 */
struct vm_outside {
	int pidfd;	  /* the other process */
	pid_t pid;	  /* its number, as long as pidfd says that it lives */
	int ram;	  /* a descriptor of the guest's RAM, which both map */
	u64 data_offset;  /* where DATA begins in it */
	hva_t data_hva;	  /* and in the other process */
	bool kvm;	  /* runs its vCPUs; else an emulator does */
	hva_t own_hva;	  /* there: memory of the Linux that the guest runs under, which uses it */
	u64 own_bytes;	  /* 0: there is none */
	bool own_private; /* it is anonymous, and in no descriptor; else at the start of ram */
	bool lost;	  /* the file behind the guest's memory was cut short: what is mapped is not it any more */
	u64 downtime_ns;  /* of the last migration: how long the vCPUs stood still, as the VMM measured it */
};

enum vm_control {
	VM_SUSPEND,
	VM_RESUME,
	VM_STATUS,  /* ask whether it runs */
	VM_STATS,   /* ask for the guest's memory statistics */
	VM_MIGRATE, /* live, to a second process, which is the VM's from then on: vm_outside() answers anew */
	VM_RESTORE, /* save it to a file, which ends its process, and restore it from there: as VM_MIGRATE */
	VM_PLUG,    /* plug memory in, which the guest tries out; */
	VM_UNPLUG,  /* and out again, which the guest agrees to */
	VM_CONTROL_NR
};

struct engine {
	const char *name;
	const char *summary;
	const char *needs; /* "/dev/kvm" or "nothing" */
	bool own_mm;	   /* host address space is tain's (vm_mm() works), else Linux's: */
	bool outside;	   /* guest memory is another process's, see vm_outside(); else this process's */
	/* Can it run here? 0, or -errno with the reason and the repair in @why. */
	int (*probe)(struct err *why);
	int (*create)(struct vm *vm, const struct vm_config *config, struct err *err);
	void (*destroy)(struct vm *vm);
	void (*abandon)(void); /* see vm_abandon(); NULL: nothing of a VM outlives its process */
	void (*identify)(struct vm *vm, struct vm_identity *id); /* own_mm false: @vm may be NULL */
	/* npages 0 removes. hva is in vm_mm() or in this process. */
	int (*set_memory)(struct vm *vm, u32 slot, gpa_t gpa, hva_t hva, size_t bytes, struct err *err);
	int (*load)(struct vm *vm, const struct guest_image *image, struct err *err);
	int (*vcpu_create)(struct vm *vm, u32 id, struct vcpu **vcpu, struct err *err);
	void (*vcpu_destroy)(struct vcpu *vcpu);
	int (*vcpu_run)(struct vcpu *vcpu, vcpu_exit_fn *fn, void *arg, struct err *err);
	void (*vcpu_kick)(struct vcpu *vcpu);
	void (*stats)(struct vm *vm, struct vm_stats *stats);
	/* See vm_dirty_log(); NULL: the engine has none. */
	int (*dirty_log)(struct vm *vm, u32 range, enum vm_dirty what, u64 *bitmap, struct err *err);
	/* See vm_child_read(); NULL: the engine has no such guests. */
	int (*child_read)(const struct vm *vm, const struct vm_child_read *r);
	/* See vm_outside() and vm_control(); NULL unless outside. */
	void (*look_outside)(struct vm *vm, struct vm_outside *to);
	int (*control)(struct vm *vm, enum vm_control what, struct err *err);
	int (*balloon)(struct vm *vm, u64 first, u64 pages, struct err *err); /* see vm_balloon() */
	/* Exact audit of mirror against host; NULL where the engine cannot. Return: mismatches, text of the first in
	 * err. */
	u64 (*audit)(struct vm *vm, struct err *err);
};

/* What the engine `qemu` alone is told: set before it is probed, constant afterwards. */
struct qemu_config {
	const char *connect; /* libvirt's URI; NULL: LIBVIRT_DEFAULT_URI, else qemu:///system */
	const char *accel;   /* "kvm", "tcg", or "auto": kvm where libvirt offers it */
	const char *machine; /* "microvm", "pc", "q35", or a version of the last two; NULL: the probe's choice */
	const char *backing; /* "memfd" or "file" */
	bool under_linux;    /* the guest is the first process of a Linux */
	const u32 *stop; /* set by somebody: no more waiting for a libvirtd that does not answer; NULL: nobody does */
	void (*say)(const char *line); /* what is waited for, for people; NULL: nobody listens. On any thread */
};

extern struct qemu_config qemu_config;

/* All engines, NULL terminated: soft, kvm, qemu. */
const struct engine *const *engine_all(void);
const struct engine *engine_find(const char *name);

/*
 * Create a VM: SHARED memory exists, is zeroed and reachable through vm_shared(),
 * the guest_shared header is filled in (magic, version, vcpus, sizes); vCPUs exist.
 * Context: sleeps. Return: 0; -errno with one line in @err.
 */
int vm_create(const struct engine *engine, const struct vm_config *config, struct vm **vm, struct err *err);
void vm_destroy(struct vm *vm);
/*
 * The process is about to end without vm_destroy(), its threads are stuck or nobody has the
 * time: what would outlive it ends now. Context: any thread, any signal handler; the VMs
 * are of no use afterwards.
 */
void vm_abandon(void);

void *vm_shared(struct vm *vm); /* host address of SHARED, for as long as the VM lives */
struct guest_vcpu *vm_guest_vcpu(struct vm *vm, u32 id);
struct mm_struct *vm_mm(struct vm *vm); /* NULL unless engine->own_mm */
void vm_identify(struct vm *vm, struct vm_identity *id);
/* DATA in @nr ranges of @bytes each, one behind the other for the guest, at @hva[] for the host. */
int vm_set_ranges(struct vm *vm, const hva_t *hva, u32 nr, size_t bytes, struct err *err);
/* Take a range's slot away, move it, or give it back as it was. Its guests run on. Return: as vm_set_ranges(). */
int vm_show_range(struct vm *vm, u32 range, enum vm_show show, struct err *err);
/* A memslot below GUEST_SHARED_END that no guest uses, for who changes memslots while one runs. @bytes 0 takes it away.
 */
int vm_set_spare(struct vm *vm, hva_t hva, size_t bytes, struct err *err);
/*
 * Log which pages of a range are written. READ fills @bitmap, a bit per page in whole words, with what was written
 * since START or the last READ. Return: 0; -EOPNOTSUPP; -errno with one line in @err.
 */
int vm_dirty_log(struct vm *vm, u32 range, enum vm_dirty what, u64 *bitmap, struct err *err);
/*
 * In a forked child of the process that made @vm: make another VM over the child's copy of
 * memory, and let its guest read. System calls alone, no allocation. Return: 0; -errno.
 */
int vm_child_read(const struct vm *vm, const struct vm_child_read *r);
gpa_t vm_data_gpa(const struct vm *vm);
/* Where the guest's memory is. Return: 0; -EOPNOTSUPP unless engine->outside. Valid until vm_control(VM_MIGRATE). */
int vm_outside(struct vm *vm, struct vm_outside *to);
/* Do something to the whole VM while it runs. Return: 0; -EOPNOTSUPP; -errno with one line in @err. */
int vm_control(struct vm *vm, enum vm_control what, struct err *err);
/*
 * The guest gives @pages of DATA, from page @first on, to the machine's owner through its
 * balloon, which from then on is all that the balloon holds; 0 pages: it takes all back.
 * Pages that were given read as zeros. Context: while the guest runs, which has an agent.
 * Return: as vm_control().
 */
int vm_balloon(struct vm *vm, u64 first, u64 pages, struct err *err);
int vm_load(struct vm *vm, const struct guest_image *image, int argc, char *const argv[], struct err *err);
struct vcpu *vm_vcpu(struct vm *vm, u32 id);

/*
 * Run until the guest ends or @fn returns false. Calls @fn on the calling thread,
 * outside guest mode. One thread per vCPU at a time.
 * Return: 0 (ended or told to stop); -errno with text in @err when the vCPU cannot run.
 */
int vcpu_run(struct vcpu *vcpu, vcpu_exit_fn *fn, void *arg, struct err *err);

/* Make the vCPU call its handler with VCPU_EXIT_KICK soon. Any thread. */
void vcpu_kick(struct vcpu *vcpu);
void vm_get_stats(struct vm *vm, struct vm_stats *stats);
/* See engine->audit; -1ull where the engine has none. */
u64 vm_audit(struct vm *vm, struct err *err);

/* Names of built-in workloads with one-line summaries, NULL terminated. */
struct guest_info {
	const char *name;
	const char *summary;
};
const struct guest_info *guest_list(void);

#endif /* VMM_ENGINE_H */
