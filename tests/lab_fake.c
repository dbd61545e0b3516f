/* SPDX-License-Identifier: MIT */
/* The fake host of the oracle's tests: see tests/lab_suites.h. */
#include <string.h>

#include "tests/lab_suites.h"

static struct fake_host *fake_of(struct host *host)
{
	return container_of(host, struct fake_host, host);
}

/* A point where a guest can act. */
static void point(struct fake_host *fake)
{
	fake->points++;
	if (fake->hook)
		fake->hook(fake);
}

/* What the test wants this operation to return. */
static int refused(struct fake_host *fake, const char *name)
{
	static const char unsupported[] = "unsupported:";
	const char *fail = fake->fail_op;

	if (!fail)
		return 0;
	if (!strncmp(fail, unsupported, strlen(unsupported)))
		return strcmp(fail + strlen(unsupported), name) ? 0 : -EOPNOTSUPP;
	return strcmp(fail, name) ? 0 : -ENOMEM;
}

static void set_range(struct fake_host *fake, u64 off, u64 len, enum fake_access access, bool clear)
{
	for (u64 page = off / PAGE_SIZE; page < (off + len) / PAGE_SIZE; page++) {
		fake->access[page] = access;
		if (clear)
			memset(fake->data[page], 0, PAGE_SIZE);
	}
}

static void to_limbo(struct host *host, u64 off, u64 len, enum host_limbo kind)
{
	struct fake_host *fake = fake_of(host);

	host->limbo = kind;
	host->limbo_off = off;
	host->limbo_len = len;
	memcpy(fake->limbo[off / PAGE_SIZE], fake->data[off / PAGE_SIZE], len);
}

static int fake_map(struct host *host, u64 off, u64 len)
{
	int ret = refused(fake_of(host), "map");

	point(fake_of(host));
	if (!ret)
		set_range(fake_of(host), off, len, FAKE_WRITE, true);
	point(fake_of(host));
	return ret;
}

static int fake_remap(struct host *host, u64 off, u64 len)
{
	int ret = refused(fake_of(host), "remap");

	point(fake_of(host));
	if (!ret && fake_of(host)->keep_limbo)
		to_limbo(host, off, len, LIMBO_FILE);
	if (!ret)
		set_range(fake_of(host), off, len, FAKE_WRITE, true);
	point(fake_of(host));
	return ret;
}

static int fake_unmap(struct host *host, u64 off, u64 len)
{
	int ret = refused(fake_of(host), "unmap");

	point(fake_of(host));
	if (!ret && fake_of(host)->keep_limbo)
		to_limbo(host, off, len, LIMBO_FILE);
	if (!ret)
		set_range(fake_of(host), off, len, FAKE_NONE, true);
	point(fake_of(host));
	return ret;
}

static int fake_protect(struct host *host, u64 off, u64 len, int prot)
{
	int ret = refused(fake_of(host), "protect");

	point(fake_of(host));
	if (!ret)
		set_range(fake_of(host), off, len,
			  prot & TAIN_PROT_WRITE  ? FAKE_WRITE
			  : prot & TAIN_PROT_READ ? FAKE_READ
						  : FAKE_NONE,
			  false);
	point(fake_of(host));
	return ret;
}

static int fake_dontneed(struct host *host, u64 off, u64 len)
{
	int ret = refused(fake_of(host), "dontneed");

	point(fake_of(host));
	if (!ret && !host_backing_table[host->backing].keeps)
		memset(fake_of(host)->data[off / PAGE_SIZE], 0, len);
	point(fake_of(host));
	return ret;
}

static int fake_move_away(struct host *host, u64 off, u64 len)
{
	int ret = refused(fake_of(host), "move_away");

	point(fake_of(host));
	if (!ret) {
		to_limbo(host, off, len, LIMBO_QUARANTINE);
		set_range(fake_of(host), off, len, FAKE_NONE, true);
	}
	point(fake_of(host));
	return ret;
}

static int fake_move_back(struct host *host)
{
	struct fake_host *fake = fake_of(host);
	u64 page = host->limbo_off / PAGE_SIZE;

	point(fake);
	memcpy(fake->data[page], fake->limbo[page], host->limbo_len);
	set_range(fake, host->limbo_off, host->limbo_len, FAKE_WRITE, false);
	host->limbo = LIMBO_NONE;
	point(fake);
	return 0;
}

static int fake_release(struct host *host)
{
	point(fake_of(host));
	host->limbo = LIMBO_NONE;
	return 0;
}

/* DATA's own pages, whatever access they have at their place. */
static int fake_watch(struct host *host, u64 off, u64 len)
{
	point(fake_of(host));
	host->limbo = LIMBO_MEM;
	host->limbo_off = off;
	host->limbo_len = len;
	return 0;
}

static int fake_unwatch(struct host *host)
{
	host->limbo = LIMBO_NONE;
	point(fake_of(host));
	return 0;
}

static int fake_read64(struct host *host, u64 off, u64 *value)
{
	point(fake_of(host));
	ASSERT(fake_of(host)->access[off / PAGE_SIZE] != FAKE_NONE);
	*value = fake_of(host)->data[off / PAGE_SIZE][off % PAGE_SIZE / sizeof(u64)];
	return 0;
}

static int fake_write64(struct host *host, u64 off, u64 value)
{
	point(fake_of(host));
	ASSERT(fake_of(host)->access[off / PAGE_SIZE] == FAKE_WRITE);
	fake_of(host)->data[off / PAGE_SIZE][off % PAGE_SIZE / sizeof(u64)] = value;
	return 0;
}

static u64 *limbo_word(struct host *host, u64 off)
{
	struct fake_host *fake = fake_of(host);

	ASSERT(host->limbo != LIMBO_NONE);
	return &(host->limbo == LIMBO_MEM ? fake->data : fake->limbo)[off / PAGE_SIZE][off % PAGE_SIZE / sizeof(u64)];
}

static int fake_limbo_read64(struct host *host, u64 off, u64 *value)
{
	point(fake_of(host));
	*value = *limbo_word(host, off);
	return 0;
}

static int fake_limbo_write64(struct host *host, u64 off, u64 value)
{
	point(fake_of(host));
	*limbo_word(host, off) = value;
	return 0;
}

static int fake_populate(struct host *host, u64 off, u64 len)
{
	point(fake_of(host));
	return 0;
}

/* As lab/host/op.h describes it. MADV_FREE takes every other page. */
static int fake_begin(struct host *host, enum host_op op, u64 off, u64 len, struct err *why)
{
	enum op_contents contents = op_contents(op, host->backing);
	enum fake_access access = op_table[op].absent ? FAKE_NONE : FAKE_WRITE;
	struct fake_host *fake = fake_of(host);
	int ret = refused(fake, op_table[op].name);

	point(fake);
	if (ret)
		return err_set(why, ret, "the fake host refuses %s", op_table[op].name);
	if (op == OP_DONTUNMAP && contents != OP_KEEPS)
		to_limbo(host, off, len, LIMBO_QUARANTINE);
	if (op == OP_MREMAP_ONTO && fake->keep_limbo)
		to_limbo(host, off, len, LIMBO_FILE);
	if (contents == OP_LAZY)
		for (u64 at = off; at < off + len; at += 2 * PAGE_SIZE)
			set_range(fake, at, PAGE_SIZE, access, true);
	else if (op_table[op].absent || contents != OP_KEEPS)
		set_range(fake, off, len, access, contents != OP_KEEPS);
	host->op = op;
	host->op_off = off;
	host->op_len = len;
	point(fake);
	return 0;
}

static int fake_end(struct host *host, struct err *why)
{
	bool destroys = op_contents(host->op, host->backing) != OP_KEEPS;

	point(fake_of(host));
	if (op_table[host->op].absent)
		set_range(fake_of(host), host->op_off, host->op_len, FAKE_WRITE, destroys);
	host->limbo = LIMBO_NONE;
	host->op_len = 0;
	point(fake_of(host));
	return 0;
}

static const struct host_ops fake_ops = {
	.name = "fake",
	.map = fake_map,
	.remap = fake_remap,
	.unmap = fake_unmap,
	.protect = fake_protect,
	.dontneed = fake_dontneed,
	.populate = fake_populate,
	.begin = fake_begin,
	.end = fake_end,
	.move_away = fake_move_away,
	.move_back = fake_move_back,
	.release = fake_release,
	.watch = fake_watch,
	.unwatch = fake_unwatch,
	.read64 = fake_read64,
	.write64 = fake_write64,
	.limbo_read64 = fake_limbo_read64,
	.limbo_write64 = fake_limbo_write64,
};

void fake_host_init(struct fake_host *fake, enum host_backing backing)
{
	memset(fake, 0, sizeof(*fake));
	fake->host.ops = &fake_ops;
	fake->host.backing = backing;
	fake->host.bytes = FAKE_PAGES * PAGE_SIZE;
	fake->keep_limbo = backing == HOST_MEMFD;
	for (int page = 0; page < FAKE_PAGES; page++)
		fake->access[page] = FAKE_WRITE;
}
