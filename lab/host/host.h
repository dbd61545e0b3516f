/* SPDX-License-Identifier: MIT */
/*
 * What a plan can do to the memory behind DATA, once over tain's mm and once over
 * Linux. Offsets and lengths are bytes from the start of DATA, page aligned.
 *
 * Limbo. After unmap, remap and move_away the pages that stood in the range are no
 * longer DATA; where the host can still reach them they are in limbo, and the
 * oracle watches them there: a guest that writes into limbo used a translation
 * that had been taken away.
 *
 *   operation              anonymous          memfd
 *   unmap, remap           freed at once      limbo: the old pages of the file
 *   move_away              limbo: the quarantine address
 *   release                unmapped there     holes punched there
 *
 * Pages that guests are about to lose for a moment stay DATA. Between watch and unwatch
 * they can be reached as if they were in limbo, whatever the range allows:
 *
 *   watch, shared          mapped at the quarantine too
 *   watch, private         /proc/self/mem
 *
 * One thread operates on a host; only read64 and write64 race with guests.
 */
#ifndef LAB_HOST_HOST_H
#define LAB_HOST_HOST_H

#include "lab/host/op.h"
#include "lab/system/system.h"
#include "lib/base.h"
#include "lib/err.h"
#include "mm/mm.h"

enum host_limbo { LIMBO_NONE, LIMBO_QUARANTINE, LIMBO_FILE, LIMBO_MEM };

struct host;

/*
 * What a forked child does, beside being there: before the parent goes on, once it does, and before it ends.
 * Other threads may have held any lock at the fork: system calls alone, no allocation.
 */
struct host_child {
	void (*notes)(void *arg); /* soon done: nobody else makes a step meanwhile. May be NULL */
	void (*born)(void *arg);
	void (*ends)(void *arg);
	void *arg;
};

/*
 * Every function returns 0 or -errno. -EOPNOTSUPP: this host cannot do it, nothing
 * happened. Any other error of unmap, remap, map or a move leaves the range in an
 * unknown state: the run cannot go on.
 */
struct host_ops {
	const char *name;
	/* Can it give this backing? 0, or -EOPNOTSUPP and the reason. */
	int (*supports)(enum host_backing backing, struct err *why);
	int (*create)(struct host *host, struct err *err);
	void (*destroy)(struct host *host);
	int (*map)(struct host *host, u64 off, u64 len);   /* fresh memory into a hole */
	int (*remap)(struct host *host, u64 off, u64 len); /* fresh memory over what is there, in one step */
	int (*unmap)(struct host *host, u64 off, u64 len);
	int (*protect)(struct host *host, u64 off, u64 len, int prot); /* TAIN_PROT_* */
	int (*dontneed)(struct host *host, u64 off, u64 len);
	int (*populate)(struct host *host, u64 off, u64 len);  /* contents kept */
	int (*move_away)(struct host *host, u64 off, u64 len); /* to the quarantine; at most limbo_bytes */
	int (*move_back)(struct host *host);		       /* what move_away took, to where it was */
	int (*release)(struct host *host);		       /* end of limbo */
	/* From watch to unwatch, see above. watch: -EOPNOTSUPP if there is no other way; NULL: there never is. */
	int (*watch)(struct host *host, u64 off, u64 len);
	int (*unwatch)(struct host *host);
	/*
	 * Any operation of lab/host/op.h, as its table describes; one at a time. -EOPNOTSUPP: this
	 * host, or what the machine was allowed to do, has no such thing. Another error of
	 * begin: the kernel refused. @why says so, and then nothing has changed and nothing
	 * is to be ended. A failed end leaves the range in an unknown state.
	 */
	int (*begin)(struct host *host, enum host_op op, u64 off, u64 len, struct err *why);
	int (*end)(struct host *host, struct err *why);
	/* Aligned, atomic. The address must be mapped and allowed. */
	int (*read64)(struct host *host, u64 off, u64 *value);
	int (*write64)(struct host *host, u64 off, u64 value);
	/* The same in limbo; @off is the offset in DATA where the page was. */
	int (*limbo_read64)(struct host *host, u64 off, u64 *value);
	int (*limbo_write64)(struct host *host, u64 off, u64 value);
	/* Is nothing left of what DATA is made of? NULL: nobody knows. Return: 0; -ENOSPC, and @why says where. */
	int (*full)(struct host *host, struct err *why);
};

struct host {
	/* set by the caller */
	enum host_backing backing;
	u64 bytes;	      /* size of DATA */
	u32 ranges;	      /* in so many equal ranges, an operation in one of them; 0 is 1 */
	u64 limbo_bytes;      /* longest range that move_away takes */
	u64 merge_ns;	      /* merge's begin refuses where nothing is merged by then; 0: whatever KSM found */
	struct mm_struct *mm; /* over tain's mm; NULL: Linux */
	struct vm *vm;	      /* guest memory is another process's, which vm_outside() names; NULL: this process's */
	/* set by host_create() */
	const struct host_ops *ops;
	hva_t data; /* DATA, mapped, fresh: the last of its ranges, see host_addr() */
	u64 stride; /* between two ranges, for those of more than one */
	hva_t quarantine;
	enum host_limbo limbo;
	u64 limbo_off;
	u64 limbo_len;
	enum host_op op; /* between begin and end, with its range */
	u64 op_off;
	u64 op_len;
	bool child_changed; /* after fork's end: memory that the child held private was not the same any more */
	struct host_child
		*child; /* fork: what its child does; NULL: it looks at the range twice, and tells child_changed */
	struct system_change change; /* another process's: between merge's begin and end */
	u64 own_off;		     /* another process's: how far operations have come in memory beside DATA */
	int fd; /* Linux: the file behind DATA, or -1; offset 0 of DATA is offset 0 of it at first */
	void *private;
};

static inline u64 host_range_bytes(const struct host *host)
{
	return host->ranges > 1 ? host->bytes / host->ranges : host->bytes;
}

/* Ranges that follow each other in DATA lie apart here, and the other way round. */
static inline hva_t host_addr(const struct host *host, u64 off)
{
	u64 range = off / host_range_bytes(host);

	if (host->ranges <= 1)
		return host->data + off;
	return host->data + (host->ranges - 1 - range) * host->stride + off % host_range_bytes(host);
}

extern const struct host_ops host_mm_ops;
extern const struct host_ops host_linux_ops;
extern const struct host_ops host_outside_ops;

/* Map DATA and find a place for the quarantine. Return: 0; -EOPNOTSUPP, -ENOMEM, -errno with one line in @err. */
int host_create(struct host *host, struct err *err);
void host_destroy(struct host *host);

/* Fresh memory for all of DATA, of one range. Return: 0; -errno: it is in an unknown state. */
int host_renew(struct host *host);

/* Return: 0; -EINVAL with the nearest name in @err. */
int host_parse_backing(const char *name, enum host_backing *backing, struct err *err);

/*
 * Move a range by @move, in halves where the range is not one mapping and the mm
 * moves one mapping at a time (-EFAULT). For the two implementations.
 */
typedef int host_move_fn(struct host *host, hva_t from, hva_t to, u64 len);
int host_move_range(struct host *host, hva_t from, hva_t to, u64 len, host_move_fn *move);

#endif /* LAB_HOST_HOST_H */
