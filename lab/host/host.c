/* SPDX-License-Identifier: MIT */
/* What both hosts share: see lab/host/host.h. */
#include "lab/host/host.h"

#include <string.h>

#include "lib/option.h"

int host_create(struct host *host, struct err *err)
{
	int ret;

	host->ops = host->mm ? &host_mm_ops : host->vm ? &host_outside_ops : &host_linux_ops;
	host->limbo = LIMBO_NONE;
	host->fd = -1;
	ret = host->ops->supports(host->backing, err);
	return ret ?: host->ops->create(host, err);
}

void host_destroy(struct host *host)
{
	if (host->ops)
		host->ops->destroy(host);
	host->ops = NULL;
}

int host_renew(struct host *host)
{
	int ret = host->ops->unmap(host, 0, host->bytes);

	ret = ret ?: host->ops->map(host, 0, host->bytes);
	return ret ?: host->ops->release(host);
}

int host_parse_backing(const char *name, enum host_backing *backing, struct err *err)
{
	const char *names[HOST_BACKING_NR + 1] = { 0 };
	const char *near;

	for (int i = 0; i < HOST_BACKING_NR; i++) {
		names[i] = host_backing_table[i].name;
		if (!strcmp(names[i], name)) {
			*backing = i;
			return 0;
		}
	}
	near = option_nearest(name, names);
	return err_set(err, -EINVAL, "unknown backing '%s'%s%s%s; `tain list backings` names them", name,
		       near ? ", did you mean '" : "", near ?: "", near ? "'?" : "");
}

int host_move_range(struct host *host, hva_t from, hva_t to, u64 len, host_move_fn *move)
{
	u64 half = align_up(len / 2, PAGE_SIZE);
	int ret = move(host, from, to, len);

	if (ret != -EFAULT || len == PAGE_SIZE)
		return ret;
	ret = host_move_range(host, from, to, half, move);
	return ret ?: host_move_range(host, from + half, to + half, len - half, move);
}
