/* SPDX-License-Identifier: MIT */
/*
 * A running guest: a VM, the host memory behind its DATA, and one thread per vCPU.
 * What run, stress and bench share.
 */
#ifndef LAB_MACHINE_MACHINE_H
#define LAB_MACHINE_MACHINE_H

#include "lab/host/host.h"
#include "lib/base.h"
#include "lib/cgroup.h"
#include "lib/err.h"
#include "lib/lock.h"
#include "lib/thread.h"
#include "vmm/engine.h"

#define MACHINE_MAX_CPUS 256

struct machine_config {
	const struct engine *engine;
	struct guest_image image;
	int argc; /* the guest's own arguments */
	char *const *argv;
	u32 vcpus;
	u64 bytes;  /* of DATA */
	u32 ranges; /* that DATA consists of, apart for the host; 0 is 1 */
	enum host_backing backing;
	u64 arena_bytes;  /* engines with tain's mm; 0: the engine's choice */
	u64 limbo_bytes;  /* longest range moved away; 0: none */
	u64 extra_bytes;  /* in SHARED, for the caller */
	u64 beside_bytes; /* memory that the caller takes beside the guest's, for machine_check() */
	u64 seed;
	const char *cpus;  /* "0,2,4-7": vCPU i runs on the i-th, the host on the last; NULL: all allowed */
	bool any_cpu;	   /* vCPUs run where the scheduler puts them, as a peer's do */
	bool retry_faults; /* the host changes DATA: a failed access is repeated. Else it ends the vCPU */
	/*
	 * Before an access to DATA at @off that the host did not allow is repeated: make it
	 * possible. On the vCPU's thread, outside guest mode. Return: false: nothing could be
	 * done, treat it as if there were no hook. NULL: none.
	 */
	bool (*fault)(u32 vcpu, u64 off, void *arg);
	/* Console bytes of any vCPU; NULL: dropped. Several threads. */
	void (*text)(u32 vcpu, const void *data, size_t bytes, void *arg);
	void *arg;
};

enum machine_vcpu_state { MACHINE_VCPU_NEW, MACHINE_VCPU_RUNNING, MACHINE_VCPU_ENDED };

struct machine;

/* vm_identify()'s answer, copied: it outlives the VM. */
struct machine_identity {
	char engine[16];
	char mmu[32];
	char host_mm[64];
	char cpu[64];
	char under[64]; /* the Linux that the guest runs under, or "" */
};

struct machine_vcpu {
	struct machine *machine;
	struct vcpu *vcpu;
	u32 id;
	int cpu;
	u32 state; /* enum machine_vcpu_state; ENDED is stored last, with release */
	bool started;
	u64 retried; /* accesses repeated because DATA was not there; written by the vCPU's thread */
	/* valid when ENDED */
	bool exited; /* the guest ended by itself, with code */
	u32 code;
	int ret; /* 0, or -errno with err; -EPROTO: the guest crashed */
	struct err err;
	struct thread thread;
};

struct machine {
	struct machine_config config;
	struct vm *vm;
	struct host host;
	struct machine_identity id;
	struct guest_shared *shared;
	u64 extra_offset; /* from the start of SHARED */
	void *extra;
	u32 stop;		   /* set: vCPUs leave at their next exit */
	struct wait_queue changed; /* a vCPU ended */
	/*
	 * Held by the host's thread while it operates; under it all of DATA is mapped, readable and
	 * writable, unless broken. vCPUs whose accesses KVM hands to us take it, see machine_mmio().
	 */
	struct mutex still;
	bool broken; /* guarded by still: an operation failed half way */
	u32 waiting; /* vCPUs that want still; the host lets them pass between two operations */
	int cpu[MACHINE_MAX_CPUS];
	u32 cpus;
	struct machine_vcpu vcpu[GUEST_MAX_VCPUS];
};

/*
 * What is wrong with the numbers, before anything is created.
 * Return: 0; -EINVAL with one line in @err.
 */
int machine_check(const struct machine_config *config, struct err *err);

/* Return: 0; -EINVAL, -EOPNOTSUPP (this engine cannot), -ENOMEM, -errno with one line in @err. */
int machine_create(struct machine *m, const struct machine_config *config, struct err *err);

/* Start every vCPU's thread. Return: 0; -errno with text; some may run then: machine_stop(). */
int machine_start(struct machine *m, struct err *err);

/* Wait until all vCPUs ended, at most @ns. Return: did they? */
bool machine_wait(struct machine *m, u64 ns);

/*
 * Ask all to leave, make them after a second, and join them. Return: 0; -ETIMEDOUT: vCPU *@culprit did not leave
 * within @ns; the machine must then be left as it is.
 */
int machine_stop(struct machine *m, u64 ns, u32 *culprit);

/* A vCPU that ended with an error, or NULL. */
const struct machine_vcpu *machine_failed(const struct machine *m);

/* A vCPU that ended, for whatever reason, or NULL. */
const struct machine_vcpu *machine_ended(const struct machine *m);

/* Processor for the thread that operates on the host. */
int machine_host_cpu(const struct machine *m);

void machine_destroy(struct machine *m);

/* Bytes this machine could give to a guest now. @limit: the control group's limit that says so; no file: none does. */
u64 machine_available_bytes(struct cgroup_room *limit);

#endif /* LAB_MACHINE_MACHINE_H */
