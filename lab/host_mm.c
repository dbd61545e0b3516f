/* SPDX-License-Identifier: MIT */
/* The host over tain's own mm. */
#include "lab/host.h"

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
	hva_t base;
	int ret;

	/* One mapping for both finds the place; the quarantine part then stays a hole between moves. */
	ret = mm_mmap(host->mm, 0, host->bytes + PAGE_SIZE + host->limbo_bytes, RW, 0, &base);
	if (ret)
		return err_set(err, ret, "cannot map %llu bytes of DATA in tain's mm", (unsigned long long)host->bytes);
	host->data = base;
	host->quarantine = base + host->bytes + PAGE_SIZE;
	ret = mm_munmap(host->mm, base + host->bytes, PAGE_SIZE + host->limbo_bytes);
	if (ret)
		return err_set(err, ret, "cannot make room for the quarantine in tain's mm");
	return 0;
}

static void host_mm_destroy(struct host *host)
{
	host->ops->release(host);
	mm_munmap(host->mm, host->data, host->bytes);
}

static int host_mm_map(struct host *host, u64 off, u64 len)
{
	return mm_mmap(host->mm, host->data + off, len, RW, TAIN_MAP_FIXED_NOREPLACE, NULL);
}

static int host_mm_remap(struct host *host, u64 off, u64 len)
{
	return mm_mmap(host->mm, host->data + off, len, RW, TAIN_MAP_FIXED, NULL);
}

static int host_mm_unmap(struct host *host, u64 off, u64 len)
{
	return mm_munmap(host->mm, host->data + off, len);
}

static int host_mm_protect(struct host *host, u64 off, u64 len, int prot)
{
	return mm_mprotect(host->mm, host->data + off, len, prot);
}

static int host_mm_dontneed(struct host *host, u64 off, u64 len)
{
	return mm_madvise(host->mm, host->data + off, len, TAIN_MADV_DONTNEED);
}

static int host_mm_populate(struct host *host, u64 off, u64 len)
{
	return mm_populate(host->mm, host->data + off, len);
}

static int host_mm_move(struct host *host, hva_t from, hva_t to, u64 len)
{
	hva_t out;

	return mm_mremap(host->mm, from, len, len, TAIN_MREMAP_MAYMOVE | TAIN_MREMAP_FIXED, to, &out);
}

static int host_mm_move_away(struct host *host, u64 off, u64 len)
{
	int ret = host_move_range(host, host->data + off, host->quarantine, len, host_mm_move);

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
	return host_move_range(host, host->quarantine, host->data + host->limbo_off, host->limbo_len, host_mm_move);
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
	return mm_read64(host->mm, host->data + off, value);
}

static int host_mm_write64(struct host *host, u64 off, u64 value)
{
	return mm_write64(host->mm, host->data + off, value);
}

static int host_mm_limbo_read64(struct host *host, u64 off, u64 *value)
{
	return mm_read64(host->mm, host->quarantine + (off - host->limbo_off), value);
}

static int host_mm_limbo_write64(struct host *host, u64 off, u64 value)
{
	return mm_write64(host->mm, host->quarantine + (off - host->limbo_off), value);
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
	.read64 = host_mm_read64,
	.write64 = host_mm_write64,
	.limbo_read64 = host_mm_limbo_read64,
	.limbo_write64 = host_mm_limbo_write64,
};
