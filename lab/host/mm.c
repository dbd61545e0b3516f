/* SPDX-License-Identifier: MIT */
/* The host over tain's own mm. */
#include "lab/host/host.h"

#include <string.h>

#define RW (TAIN_PROT_READ | TAIN_PROT_WRITE)

static int host_mm_supports(enum host_backing backing, struct err *why)
{
	if (backing == HOST_ANONYMOUS)
		return 0;
	return err_set(why, -EOPNOTSUPP, "backing %s: tain's mm has anonymous memory only; use --engine kvm",
		       host_backing_table[backing].name);
}

static int host_mm_create(struct host *host, struct err *err)
{
	u64 each = host_range_bytes(host), room;
	u32 ranges = max(host->ranges, 1u);
	hva_t base;
	int ret;

	host->stride = each + PAGE_SIZE;
	room = ranges * host->stride + host->limbo_bytes;
	/* One mapping for all finds the place; the quarantine part then stays a hole between moves. */
	ret = mm_mmap(host->mm, 0, room, RW, 0, &base);
	if (ret)
		return err_set(err, ret, "cannot map %llu bytes of DATA in tain's mm", (unsigned long long)host->bytes);
	host->data = base;
	host->quarantine = base + ranges * host->stride;
	for (u32 i = 0; i < ranges && !ret; i++)
		ret = mm_munmap(host->mm, base + i * host->stride + each,
				PAGE_SIZE + (i == ranges - 1 ? host->limbo_bytes : 0));
	if (ret)
		return err_set(err, ret, "cannot make room for the quarantine in tain's mm");
	return 0;
}

static void host_mm_destroy(struct host *host)
{
	host->ops->release(host);
	for (u32 i = 0; i < max(host->ranges, 1u); i++)
		mm_munmap(host->mm, host->data + i * host->stride, host_range_bytes(host));
}

static int host_mm_map(struct host *host, u64 off, u64 len)
{
	return mm_mmap(host->mm, host_addr(host, off), len, RW, TAIN_MAP_FIXED_NOREPLACE, NULL);
}

static int host_mm_remap(struct host *host, u64 off, u64 len)
{
	return mm_mmap(host->mm, host_addr(host, off), len, RW, TAIN_MAP_FIXED, NULL);
}

static int host_mm_unmap(struct host *host, u64 off, u64 len)
{
	return mm_munmap(host->mm, host_addr(host, off), len);
}

static int host_mm_protect(struct host *host, u64 off, u64 len, int prot)
{
	return mm_mprotect(host->mm, host_addr(host, off), len, prot);
}

static int host_mm_dontneed(struct host *host, u64 off, u64 len)
{
	return mm_madvise(host->mm, host_addr(host, off), len, TAIN_MADV_DONTNEED);
}

static int host_mm_populate(struct host *host, u64 off, u64 len)
{
	return mm_populate(host->mm, host_addr(host, off), len);
}

static int host_mm_move(struct host *host, hva_t from, hva_t to, u64 len)
{
	hva_t out;

	return mm_mremap(host->mm, from, len, len, TAIN_MREMAP_MAYMOVE | TAIN_MREMAP_FIXED, to, &out);
}

static int host_mm_move_away(struct host *host, u64 off, u64 len)
{
	int ret = host_move_range(host, host_addr(host, off), host->quarantine, len, host_mm_move);

	if (ret)
		return ret;
	host->limbo = LIMBO_QUARANTINE;
	host->limbo_off = off;
	host->limbo_len = len;
	return 0;
}

static int host_mm_move_back(struct host *host)
{
	host->limbo = LIMBO_NONE;
	return host_move_range(host, host->quarantine, host_addr(host, host->limbo_off), host->limbo_len, host_mm_move);
}

static int host_mm_release(struct host *host)
{
	if (host->limbo == LIMBO_NONE)
		return 0;
	host->limbo = LIMBO_NONE;
	return mm_munmap(host->mm, host->quarantine, host->limbo_len);
}

static int host_mm_read64(struct host *host, u64 off, u64 *value)
{
	return mm_read64(host->mm, host_addr(host, off), value);
}

static int host_mm_write64(struct host *host, u64 off, u64 value)
{
	return mm_write64(host->mm, host_addr(host, off), value);
}

static int host_mm_limbo_read64(struct host *host, u64 off, u64 *value)
{
	return mm_read64(host->mm, host->quarantine + (off - host->limbo_off), value);
}

static int host_mm_limbo_write64(struct host *host, u64 off, u64 value)
{
	return mm_write64(host->mm, host->quarantine + (off - host->limbo_off), value);
}

static int begin_compact(struct host *host, u64 off, u64 len)
{
	return mm_migrate(host->mm, host_addr(host, off), len, NULL);
}

static int begin_mprotect(struct host *host, u64 off, u64 len)
{
	return host_mm_protect(host, off, len, TAIN_PROT_NONE);
}

static int end_munmap(struct host *host, u64 off, u64 len)
{
	return host_mm_map(host, off, len);
}

static int end_mprotect(struct host *host, u64 off, u64 len)
{
	return host_mm_protect(host, off, len, RW);
}

static int end_mremap(struct host *host, u64 off, u64 len)
{
	return host_mm_move_back(host);
}

static int begin_mremap_onto(struct host *host, u64 off, u64 len)
{
	int ret = mm_mmap(host->mm, host->quarantine, len, RW, TAIN_MAP_FIXED_NOREPLACE, NULL);

	return ret ?: host_mm_move(host, host->quarantine, host_addr(host, off), len);
}

static const struct {
	int (*begin)(struct host *host, u64 off, u64 len); /* NULL: tain's mm does not have it */
	int (*end)(struct host *host, u64 off, u64 len);
} fns[OP_NR] = {
	[OP_MUNMAP] = { host_mm_unmap, end_munmap },	  [OP_REMAP] = { host_mm_remap, NULL },
	[OP_MPROTECT] = { begin_mprotect, end_mprotect }, [OP_DONTNEED] = { host_mm_dontneed, NULL },
	[OP_MREMAP] = { host_mm_move_away, end_mremap },  [OP_MREMAP_ONTO] = { begin_mremap_onto, NULL },
	[OP_COMPACT] = { begin_compact, NULL },		  [OP_POPULATE] = { host_mm_populate, NULL },
};

static int host_mm_begin(struct host *host, enum host_op op, u64 off, u64 len, struct err *why)
{
	int ret;

	if (!fns[op].begin)
		return err_set(why, -EOPNOTSUPP, "tain's mm does not have it; use --engine kvm");
	if (host->op_len)
		return err_set(why, -EBUSY, "%s has not ended", op_table[host->op].name);
	ret = fns[op].begin(host, off, len);
	if (ret)
		return err_set(why, ret, "%s: %s", op_table[op].name, strerror(-ret));
	if (!fns[op].end)
		return 0;
	host->op = op;
	host->op_off = off;
	host->op_len = len;
	return 0;
}

static int host_mm_end(struct host *host, struct err *why)
{
	u64 len = host->op_len;
	int ret;

	if (!len)
		return 0;
	host->op_len = 0;
	ret = fns[host->op].end(host, host->op_off, len);
	return ret ? err_set(why, ret, "end of %s: %s", op_table[host->op].name, strerror(-ret)) : 0;
}

const struct host_ops host_mm_ops = {
	.name = "tain mm",
	.supports = host_mm_supports,
	.create = host_mm_create,
	.destroy = host_mm_destroy,
	.map = host_mm_map,
	.remap = host_mm_remap,
	.unmap = host_mm_unmap,
	.protect = host_mm_protect,
	.dontneed = host_mm_dontneed,
	.populate = host_mm_populate,
	.move_away = host_mm_move_away,
	.move_back = host_mm_move_back,
	.release = host_mm_release,
	.begin = host_mm_begin,
	.end = host_mm_end,
	.read64 = host_mm_read64,
	.write64 = host_mm_write64,
	.limbo_read64 = host_mm_limbo_read64,
	.limbo_write64 = host_mm_limbo_write64,
};
