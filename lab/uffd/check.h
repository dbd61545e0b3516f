/* SPDX-License-Identifier: MIT */
/*
 * An external userfaultfd handler, put through the races it must survive.
 *
 * The convention is Firecracker's: connect to the handler's Unix socket and send one
 * message, a JSON array of regions {base_host_virt_addr, size, offset, page_size,
 * page_size_kib} with the userfaultfd in SCM_RIGHTS. `offset` says where in its snapshot
 * file the handler finds a region. From then on the handler answers faults.
 *
 * The snapshot's content is in lab/uffd/snapshot.h.
 *
 * What a page must hold: the snapshot's page until it is removed (MADV_DONTNEED,
 * MADV_REMOVE, or unmapped and mapped anew at the same place), zeros from then on;
 * either while an operation on it is under way; another page's words never.
 */
#ifndef LAB_UFFD_CHECK_H
#define LAB_UFFD_CHECK_H

#include "lab/uffd/snapshot.h"
#include "lib/base.h"
#include "lib/err.h"
#include "lib/hist.h"

enum uffd_check_op { UCHECK_REMOVE, UCHECK_UNMAP, UCHECK_REMAP, UCHECK_FORK, UCHECK_OP_NR };
extern const char *const uffd_check_ops[UCHECK_OP_NR + 1]; /* "remove", ...; ends with NULL */

enum uffd_check_kind {
	UCHECK_CONTENT, /* a page holds what it must not */
	UCHECK_STUCK,	/* a fault or an event got no answer within the limit */
	UCHECK_DEAD,	/* the handler has ended */
	UCHECK_LOST,	/* an access failed that must succeed */
	UCHECK_KIND_NR
};
extern const char *const uffd_check_kinds[UCHECK_KIND_NR];

#define UCHECK_VIOLATIONS_SHOWN 32

struct uffd_check_violation {
	enum uffd_check_kind kind;
	u64 page;
	char text[512]; /* one line: the page, its offset, what is wrong, the operations on it */
};

struct uffd_check_config {
	const char *socket;
	struct uffd_snapshot *snapshot; /* is there; kept once the handler was reached */
	u64 bytes;			/* of all regions */
	u64 time_ns;
	u64 limit_ns; /* for one answer */
	u64 seed;
	u32 readers;
	u32 connections; /* one after the other, each with fresh memory */
	u32 ops;	 /* bit mask of enum uffd_check_op */
	const u32 *stop;
	/* May be NULL; the caller's thread. */
	void (*progress)(u64 faults, u64 checked, void *arg);
	void *arg;
};

struct uffd_check_result {
	u64 elapsed_ns;
	u64 faults;  /* accesses to pages that were not there */
	u64 checked; /* pages compared */
	u64 done[UCHECK_OP_NR];
	u32 connections;
	char skip[UCHECK_OP_NR][160]; /* why an operation was left out; empty: it was not */
	struct hist ns;		      /* of an access to a page that was not there */
	u64 violations;
	struct uffd_check_violation violation[UCHECK_VIOLATIONS_SHOWN];
};

/*
 * Run. @result: uffd_check_destroy() it, whatever is returned; violations are in it.
 * Return: 0; -EINTR (told to stop); -EOPNOTSUPP, -EPERM (no userfaultfd here); -errno
 * with one line in @err: the socket, or memory.
 */
int uffd_check_run(const struct uffd_check_config *config, struct uffd_check_result *result, struct err *err);
void uffd_check_destroy(struct uffd_check_result *result);

#endif /* LAB_UFFD_CHECK_H */
