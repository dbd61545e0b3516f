/* SPDX-License-Identifier: MIT */
/*
 * userfaultfd over ranges of this process, and who resolves its faults:
 *
 *   UFFD_THREAD   a handler thread on a processor of the caller's choice: another one,
 *                 or the faulting vCPU's own
 *   UFFD_INLINE   the faulting thread. The kernel then sends no event: an access by
 *                 KVM_RUN fails with -EFAULT, and who runs the vCPU calls uffd_resolve()
 *
 * Either way a fault brings the whole aligned window of pages around it in. What the
 * pages hold is the caller's business through `source`.
 */
#ifndef LAB_UFFD_UFFD_H
#define LAB_UFFD_UFFD_H

#include "lib/base.h"
#include "lib/counter.h"
#include "lib/err.h"
#include "lib/hist.h"
#include "lib/thread.h"

enum uffd_mode {
	UFFD_MISSING, /* no page in the page table, nor in the page cache: UFFDIO_COPY or UFFDIO_ZEROPAGE */
	UFFD_MINOR,   /* shmem: page in the page cache, not in the page table: UFFDIO_CONTINUE */
	UFFD_WP,      /* write to a protected page: UFFDIO_WRITEPROTECT */
	UFFD_MODE_NR
};

enum uffd_placement { UFFD_THREAD, UFFD_INLINE };

extern const char *const uffd_mode_names[UFFD_MODE_NR + 1]; /* "MISSING", ...; ends with NULL */

struct uffd_config {
	enum uffd_mode mode;
	enum uffd_placement placement;
	int cpu;     /* of the handler thread; -1: any */
	u32 window;  /* pages a fault brings in, a power of two */
	hva_t start; /* the range in which windows lie; what is registered is a part of it */
	u64 bytes;
	/*
	 * MISSING: contents of the range, at the same offsets; NULL: zeros.
	 * MINOR: another mapping of the same memory, through which missing pages come into
	 * the page cache; NULL: they are there.
	 */
	void *source;
	bool shared; /* WP of shared memory too (Linux 5.19) */
	bool events; /* UFFD_THREAD: have REMOVE, UNMAP and REMAP told too: who causes one waits until the handler read
			it */
	/* Before a fault at @addr is resolved, on the thread that does it. NULL: none. */
	void (*resolving)(hva_t addr, void *arg);
	void *arg;
};

enum uffd_count {
	UFFD_FAULTS,  /* resolved, or found resolved */
	UFFD_PAGES,   /* brought in */
	UFFD_EXISTED, /* pages that somebody else had brought in: EEXIST */
	UFFD_PARTIAL, /* calls that did a part of their range */
	UFFD_AGAIN,   /* calls that the address space was too busy for: EAGAIN */
	UFFD_GONE,    /* ranges that were mapped or registered no more: ENOENT */
	UFFD_FAILED,  /* anything else */
	UFFD_EVENTS,  /* that were no faults */
	UFFD_COUNT_NR
};

struct uffd {
	struct uffd_config config;
	int fd;
	int stop_fd; /* eventfd: the handler thread leaves */
	struct counters counters;
	u32 busy;	/* threads in uffd_resolve(), and the handler with what it has read; atomic */
	u32 last_error; /* errno of the last of UFFD_FAILED; atomic */
	struct hist ns; /* the handler thread's, from its wake-up to the fault resolved; read after uffd_close() */
	bool thread_runs;
	struct thread thread;
};

/*
 * Can the kernel do it, and may this user? Not one feature more than @mode and
 * @placement need is ever asked for.
 * Return: 0; -EOPNOTSUPP, -EPERM, -errno with the reason in @why.
 */
int uffd_probe(enum uffd_mode mode, enum uffd_placement placement, struct err *why);

/*
 * A descriptor, and the handler thread. Nothing is registered yet.
 * Return: 0; as uffd_probe(); -EINVAL (the window), -ENOMEM, -EAGAIN (no thread).
 */
int uffd_open(struct uffd *u, const struct uffd_config *config, struct err *err);

/*
 * The thread ends; threads blocked in a fault go on as if there were no userfaultfd. Fine on one that uffd_open()
 * refused. Context: nobody else is in uffd_resolve(), or comes there.
 */
void uffd_close(struct uffd *u);
/* After uffd_close(): what was measured. */
void uffd_destroy(struct uffd *u);

/* Return: 0; -errno: EINVAL (not such memory), EBUSY (another descriptor has it). */
int uffd_register(struct uffd *u, hva_t start, u64 bytes);
int uffd_unregister(struct uffd *u, hva_t start, u64 bytes); /* blocked threads go on */

/* WP: writes fault from now on; pages that are not there are not protected. Return: 0; -errno. */
int uffd_protect(struct uffd *u, hva_t start, u64 bytes);

/*
 * Bring the window around @addr in, and wake who waits for it.
 * Context: any thread. Return: 0; -EAGAIN: the address space is being changed, repeat
 * the access; -ENOENT: the place is mapped or registered no more; -errno.
 */
int uffd_resolve(struct uffd *u, hva_t addr);

/*
 * Wait until nobody is resolving a fault that came before the range was unregistered, or has
 * read one: then the source's pages of that range may change, and it may be registered again.
 */
void uffd_quiesce(struct uffd *u);

u64 uffd_counted(struct uffd *u, enum uffd_count what);

#endif /* LAB_UFFD_UFFD_H */
