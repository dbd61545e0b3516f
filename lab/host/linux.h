/* SPDX-License-Identifier: MIT */
/*
 * Private to the Linux host:
 *
 *   lab/host/linux.c          place, mapping, limbo
 *   lab/host/linux_backing.c  what stands behind DATA
 *   lab/host/linux_op.c       the operations of lab/host/op.h
 *   lab/host/linux_ksm.c      one of them: merging
 *   lab/host/linux_watch.c    another way to what guests cannot reach
 */
#ifndef LAB_HOST_LINUX_H
#define LAB_HOST_LINUX_H

#include <sys/types.h>

#include "lab/host/host.h"
#include "lab/system/linux_compat.h"
#include "lab/system/system.h"

#define RW (PROT_READ | PROT_WRITE)
#define HUGE (2ull << 20)

struct host_linux {
	int map_flags;	  /* of mmap(): MAP_SHARED or MAP_PRIVATE, and what the backing adds */
	bool tracked;	  /* shared, with a descriptor: offset says which page of the file stands where */
	bool huge;	  /* transparent huge pages are wanted */
	int huge_error;	  /* the last -errno where a whole block could not be made huge */
	u64 file_bytes;	  /* size of the file */
	u64 file_end;	  /* tracked: offsets below it have been used */
	u64 *offset;	  /* tracked: per page of DATA, its offset in the file */
	u64 *old;	  /* the same for the pages in limbo */
	int thp_disabled; /* PR_SET_THP_DISABLE as found */
	int mem;	  /* /proc/self/mem, or -1 */
	pid_t child;	  /* fork: between begin and end */
	int to_child, from_child;
	u64 oom_kills;		     /* in this process's control group, before the next child */
	struct system_change memory; /* what the backing needs */
	struct system_change change; /* what the operation under way needs */
};

static inline char *data_ptr(struct host *host, u64 off)
{
	return (char *)(uintptr_t)host_addr(host, off);
}

/* madvise(), again and again where the kernel says that a page is busy for a moment. Return: 0; -errno. */
int host_linux_advise(void *at, u64 len, int advice);
/* Map fresh memory; @how is MAP_FIXED or MAP_FIXED_NOREPLACE. */
int host_linux_map_fresh(struct host *host, u64 off, u64 len, int how);
/* The same at the quarantine, as if it were at @off of DATA, which it is about to replace. */
int host_linux_map_quarantine(struct host *host, u64 off, u64 len);
/* The pages of the range are about to lose their place in DATA. */
void host_linux_enter_limbo(struct host *host, u64 off, u64 len, enum host_limbo kind);
int host_linux_move(struct host *host, hva_t from, hva_t to, u64 len);

/* linux_backing.c. Return of open: 0; -EOPNOTSUPP, -errno with one line in @err; close undoes what was done. */
int host_linux_open(struct host *host, struct err *err);
void host_linux_close(struct host *host);
bool host_linux_on_disk(const struct host *host);
int host_linux_full(struct host *host, struct err *why);
int host_linux_thp_allow(struct host_linux *l, bool allow);

/* linux_op.c */
int host_linux_begin(struct host *host, enum host_op op, u64 off, u64 len, struct err *why);
int host_linux_end(struct host *host, struct err *why);

/* linux_ksm.c */
int host_linux_merge(struct host *host, u64 off, u64 len, struct err *why);
int host_linux_unmerge(struct host *host, u64 off, u64 len, struct err *why);

/* linux_watch.c */
int host_linux_watch(struct host *host, u64 off, u64 len);
int host_linux_unwatch(struct host *host);
/* A word of DATA, whatever may be done to its page. */
int host_linux_mem_word(struct host *host, u64 off, u64 *value, bool write);

#endif /* LAB_HOST_LINUX_H */
