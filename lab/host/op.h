/* SPDX-License-Identifier: MIT */
/*
 * The operations on guest memory that a host can do, and what each promises: one
 * table for stress, matrix and list. An operation begins, may hold an intermediate
 * state, and ends (host_ops->begin, ->end in lab/host/host.h):
 *
 *   munmap        begin: unmap                end: map fresh memory
 *   mprotect      begin: no rights            end: all rights
 *   mremap        begin: move away            end: move back
 *   truncate      begin: the file is empty    end: as long as before, a hole
 *   guard         begin: guard pages          end: taken away again
 *   merge         begin: KSM has merged       end: unmerged
 *   fork          begin: a child holds all    end: the child is gone
 *   dontunmap     begin: pages moved away     end: unmapped where they went
 *   remap, mremap_onto  begin: all of it      end: old pages that a file still holds are freed
 *   the others    begin: all of it            end: nothing
 */
#ifndef LAB_HOST_OP_H
#define LAB_HOST_OP_H

#include "lib/base.h"
#include "lib/err.h"

enum host_backing {
	HOST_ANONYMOUS,
	HOST_MEMFD,
	HOST_ANONYMOUS_THP,
	HOST_MEMFD_THP,
	HOST_ANONYMOUS_HUGETLB_2MB,
	HOST_SHMEM,
	HOST_SHMEM_THP,
	HOST_MEMFD_PRIVATE,
	HOST_FILE_SHARED,
	HOST_FILE_SHARED_THP,
	HOST_FILE_PRIVATE,
	HOST_GUEST_MEMFD,
	HOST_BACKING_NR
};

enum host_backing_kind {
	BACKING_ANON,	 /* private, no file */
	BACKING_SHARED,	 /* the file's own pages, with a descriptor or without */
	BACKING_PRIVATE, /* private copies of a file's pages */
	BACKING_KIND_NR
};

struct host_backing_info {
	const char *name;
	const char *summary;
	bool keeps; /* DONTNEED does not destroy contents */
	enum host_backing_kind kind;
	u64 granule; /* operations begin and end at multiples of it */
	bool system; /* may need a machine-wide change (lab/system/system.h) */
	bool thp;    /* transparent huge pages: where they cannot be had there is no such backing */
};

extern const struct host_backing_info host_backing_table[HOST_BACKING_NR + 1]; /* name NULL ends it */

enum host_op {
	OP_MUNMAP,
	OP_REMAP,
	OP_MPROTECT,
	OP_DONTNEED,
	OP_MREMAP,
	OP_DONTUNMAP,
	OP_MREMAP_ONTO,
	OP_REMOVE,
	OP_PUNCH,
	OP_TRUNCATE,
	OP_GUARD,
	OP_FREE,
	OP_COLD,
	OP_PAGEOUT,
	OP_COLLAPSE,
	OP_SPLIT,
	OP_COMPACT,
	OP_MERGE,
	OP_FORK,
	OP_POPULATE,
	OP_NR
};

#define OP_ALL ((u32)(BIT(OP_NR) - 1))

/* What a guest finds in the range once the operation has ended. */
enum op_contents {
	OP_KEEPS,      /* what was there */
	OP_ZEROES,     /* zeros */
	OP_REVERTS,    /* the file's own data: zeros where it has a hole */
	OP_LAZY,       /* what was there, or zeros as soon as the kernel takes the page; a write keeps it */
	OP_IMPOSSIBLE, /* no kernel does this to this backing */
};

struct op_info {
	const char *name;
	const char *summary;
	u8 contents[BACKING_KIND_NR]; /* enum op_contents */
	u32 not_on;		      /* BIT(enum host_backing): impossible there, whatever contents says */
	const char *not_why;	      /* why it is impossible where it is */
	bool absent;		      /* between begin and end every guest access fails, and is repeated */
	bool held;		      /* what stands between begin and end is a state of its own */
	bool whole;		      /* it happens to all of DATA, not to the range alone */
	bool system;		      /* changes a switch of the machine: needs lab/system/system.h allowed */
};

extern const struct op_info op_table[OP_NR + 1]; /* name NULL ends it */

enum op_contents op_contents(enum host_op op, enum host_backing backing);

/*
 * Parse "munmap,remap" or "all". Return: 0; -EINVAL with the nearest name in @err.
 */
int op_parse_list(const char *list, u32 *ops, struct err *err);
/* The same for backings. */
int op_parse_backings(const char *list, u32 *backings, struct err *err);

/*
 * The same for any @names (NULL ends them), of which there are at most 32: bit i stands for
 * names[i]. @what: "operation"; @list: after `tain list`, which names them.
 */
int op_parse_names(const char *text, const char *const *names, const char *what, const char *list, u32 *bits,
		   struct err *err);

#endif /* LAB_HOST_OP_H */
