/* SPDX-License-Identifier: MIT */
/* Every operation on every backing, on Linux: what it promises is what the host reads afterwards. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lab/system/guardian.h"
#include "lab/host/host.h"
#include "lab/system/smaps.h"
#include "tests/lab_suites.h"

#define HUGE (2ull << 20)
#define DATA_BYTES (2 * HUGE)
#define OLD 0x1000000000ull   /* word of page p: OLD + p / 2, so that KSM finds pairs */
#define FILES 0x2000000000ull /* what the file itself holds, under private copies */

struct cell {
	enum host_op op;
	enum host_backing backing;
	struct host host;
};

static const char *name_of(const struct cell *c)
{
	static char text[64];

	snprintf(text, sizeof(text), "%s on %s", op_table[c->op].name, host_backing_table[c->backing].name);
	return text;
}

static u64 get(struct cell *c, u64 page)
{
	u64 value = 0;

	CHECK_EQ(c->host.ops->read64(&c->host, page * PAGE_SIZE + 8, &value), 0);
	return value;
}

/* A private file's own data, then what stands in DATA. */
static void fill(struct cell *c)
{
	u64 pages = c->host.bytes / PAGE_SIZE;

	for (u64 p = 0; p < pages; p++) {
		u64 value = FILES + p;

		if (host_backing_table[c->backing].kind == BACKING_PRIVATE)
			CHECK_EQ(pwrite(c->host.fd, &value, sizeof(value), (off_t)(p * PAGE_SIZE + 8)), 8);
	}
	for (u64 p = 0; p < pages; p++)
		CHECK_EQ(c->host.ops->write64(&c->host, p * PAGE_SIZE + 8, OLD + p / 2), 0);
}

static bool as_promised(enum op_contents contents, u64 page, u64 value)
{
	switch (contents) {
	case OP_KEEPS:
		return value == OLD + page / 2;
	case OP_ZEROES:
		return value == 0;
	case OP_REVERTS:
		return value == FILES + page;
	case OP_LAZY:
		return value == 0 || value == OLD + page / 2;
	case OP_IMPOSSIBLE:
		return false;
	}
	return false;
}

static void check_contents(struct cell *c)
{
	enum op_contents in = op_contents(c->op, c->backing), out = op_table[c->op].whole ? in : OP_KEEPS;

	for (u64 p = 0; p < c->host.bytes / PAGE_SIZE; p++) {
		enum op_contents want = p < HUGE / PAGE_SIZE ? in : out;
		u64 value = get(c, p);

		if (!CHECK_MSG(as_promised(want, p, value), "%s: page %llu holds %#llx", name_of(c),
			       (unsigned long long)p, (unsigned long long)value))
			return;
	}
}

/* Return: was it done? */
static bool run_cell(struct cell *c)
{
	struct err why = { "" };
	int ret = c->host.ops->begin(&c->host, c->op, 0, HUGE, &why);

	if (op_contents(c->op, c->backing) == OP_IMPOSSIBLE)
		CHECK_MSG(ret, "%s is done, and said to be impossible", name_of(c));
	if (ret) {
		CHECK_MSG(why.text[0], "%s: refused without a reason", name_of(c));
		CHECK_MSG(!c->host.op_len, "%s: refused, and to be ended", name_of(c));
		return false;
	}
	CHECK_MSG(!c->host.ops->end(&c->host, &why), "%s: end: %s", name_of(c), why.text);
	CHECK_MSG(!c->host.child_changed, "%s: the child's copy changed", name_of(c));
	check_contents(c);
	return true;
}

/* Every operation alone on @backing, each on fresh memory. Return: how many were done; -1: no such backing here. */
static int all_ops_on(enum host_backing backing, u32 *done)
{
	struct err err = { "" };
	int n = 0;

	*done = 0;
	for (int op = 0; op < OP_NR; op++) {
		struct cell c = { .op = op, .backing = backing };

		c.host.backing = backing;
		c.host.bytes = DATA_BYTES;
		c.host.limbo_bytes = HUGE;
		if (host_create(&c.host, &err)) {
			CHECK_MSG(!op, "%s: made before, not now: %s", name_of(&c), err.text);
			test_skip("%s: %s", host_backing_table[backing].name, err.text);
			return -1;
		}
		fill(&c);
		if (run_cell(&c)) {
			n++;
			*done |= BIT(op);
		}
		host_destroy(&c.host);
	}
	return n;
}

/* What every Linux since 5.7 does. */
#define EVERYWHERE                                                                                                     \
	(BIT(OP_MUNMAP) | BIT(OP_REMAP) | BIT(OP_MPROTECT) | BIT(OP_DONTNEED) | BIT(OP_FORK) | BIT(OP_POPULATE))

static void check_backing(enum host_backing backing, u32 more)
{
	u32 done, want = EVERYWHERE | more;

	if (all_ops_on(backing, &done) < 0)
		return;
	for (int op = 0; op < OP_NR; op++)
		if (want & BIT(op))
			CHECK_MSG(done & BIT(op), "%s on %s was refused", op_table[op].name,
				  host_backing_table[backing].name);
}

#define MOVES (BIT(OP_MREMAP) | BIT(OP_MREMAP_ONTO))

static void anonymous(void)
{
	check_backing(HOST_ANONYMOUS, MOVES | BIT(OP_DONTUNMAP) | BIT(OP_FREE) | BIT(OP_COLD) | BIT(OP_SPLIT));
}

static void anonymous_thp(void)
{
	check_backing(HOST_ANONYMOUS_THP, MOVES | BIT(OP_DONTUNMAP) | BIT(OP_FREE) | BIT(OP_COLD) | BIT(OP_SPLIT));
}

static void shmem(void)
{
	check_backing(HOST_SHMEM, MOVES | BIT(OP_REMOVE) | BIT(OP_COLD));
}

static void memfd(void)
{
	check_backing(HOST_MEMFD, MOVES | BIT(OP_REMOVE) | BIT(OP_PUNCH) | BIT(OP_TRUNCATE) | BIT(OP_COLD));
}

static void memfd_private(void)
{
	check_backing(HOST_MEMFD_PRIVATE, MOVES | BIT(OP_PUNCH) | BIT(OP_TRUNCATE) | BIT(OP_COLD));
}

static void file_shared(void)
{
	check_backing(HOST_FILE_SHARED, MOVES | BIT(OP_TRUNCATE) | BIT(OP_COLD));
}

static void file_private(void)
{
	check_backing(HOST_FILE_PRIVATE, MOVES | BIT(OP_TRUNCATE) | BIT(OP_COLD));
}

static void memfd_thp(void)
{
	check_backing(HOST_MEMFD_THP,
		      MOVES | BIT(OP_REMOVE) | BIT(OP_PUNCH) | BIT(OP_TRUNCATE) | BIT(OP_COLD) | BIT(OP_SPLIT));
}

static void shmem_thp(void)
{
	check_backing(HOST_SHMEM_THP, MOVES | BIT(OP_REMOVE) | BIT(OP_COLD) | BIT(OP_SPLIT));
}

static void file_shared_thp(void)
{
	check_backing(HOST_FILE_SHARED_THP, MOVES | BIT(OP_TRUNCATE) | BIT(OP_COLD));
}

static void guest_memfd(void)
{
	check_backing(HOST_GUEST_MEMFD, 0);
}

static bool have_guardian(void)
{
	struct err err = { "" };

	test_own_machine();
	if (!guardian_start(&err))
		return true;
	test_skip("%s", err.text);
	return false;
}

static void hugetlb(void)
{
	if (!have_guardian())
		return;
	check_backing(HOST_ANONYMOUS_HUGETLB_2MB, 0);
	CHECK_EQ(guardian_stop(NULL), 0);
}

/* The machine's switches in use: more is possible, and nothing contradicts the table. */
static void anonymous_with_the_machine(void)
{
	struct err err = { "" };
	u32 done;

	if (!have_guardian())
		return;
	if (all_ops_on(HOST_ANONYMOUS, &done) >= 0 && !geteuid()) {
		if (!access("/sys/kernel/mm/ksm/run", W_OK))
			CHECK_MSG(done & BIT(OP_MERGE), "merge was refused");
		if (!access("/proc/sys/vm/compact_memory", W_OK))
			CHECK_MSG(done & BIT(OP_COMPACT), "compact was refused");
	}
	CHECK_MSG(!guardian_stop(&err), "%s", err.text);
}

/* Without leave, nothing of the machine is changed, and the reason names the option. */
static void the_machine_is_asked_for(void)
{
	static const enum host_op ops[] = { OP_COMPACT, OP_MERGE };

	for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
		struct cell c = { .op = ops[i] };
		struct err why = { "" };

		c.host.bytes = DATA_BYTES;
		c.host.limbo_bytes = HUGE;
		REQUIRE_EQ(host_create(&c.host, &why), 0);
		CHECK_EQ(c.host.ops->begin(&c.host, ops[i], 0, HUGE, &why), -EOPNOTSUPP);
		CHECK_MSG(strstr(why.text, "--allow-system") || strstr(why.text, "this kernel"), "%s: %s", name_of(&c),
			  why.text);
		host_destroy(&c.host);
	}
}

static void one_operation_at_a_time(void)
{
	struct host host = { .backing = HOST_ANONYMOUS, .bytes = DATA_BYTES, .limbo_bytes = HUGE };
	struct err why = { "" };

	REQUIRE_EQ(host_create(&host, &why), 0);
	CHECK_EQ(host.ops->begin(&host, OP_MPROTECT, 0, HUGE, &why), 0);
	CHECK_EQ(host.ops->begin(&host, OP_DONTNEED, 0, HUGE, &why), -EBUSY);
	CHECK_CONTAINS(why.text, "mprotect has not ended");
	CHECK_EQ(host.ops->end(&host, &why), 0);
	CHECK_EQ(host.ops->end(&host, &why), 0);
	CHECK_EQ(host.ops->begin(&host, OP_DONTNEED, 1, PAGE_SIZE, &why), -EINVAL);
	CHECK_EQ(host.ops->begin(&host, OP_DONTNEED, DATA_BYTES, PAGE_SIZE, &why), -EINVAL);
	CHECK_EQ(host.ops->begin(&host, OP_DONTNEED, 0, 0, &why), -EINVAL);
	host_destroy(&host);
}

/* A host that goes in the middle of an operation ends it. */
static void what_began_ends_with_its_host(void)
{
	for (int op = 0; op < OP_NR; op++) {
		struct host host = { .backing = HOST_MEMFD, .bytes = DATA_BYTES, .limbo_bytes = HUGE };
		struct err why = { "" };

		REQUIRE_EQ(host_create(&host, &why), 0);
		host.ops->begin(&host, op, 0, HUGE, &why);
		host_destroy(&host);
	}
}

static void every_name_is_explained(void)
{
	for (int op = 0; op < OP_NR; op++) {
		REQUIRE(op_table[op].name && op_table[op].summary);
		for (int b = 0; b < HOST_BACKING_NR; b++)
			if (op_contents(op, b) == OP_IMPOSSIBLE)
				CHECK_MSG(op_table[op].not_why, "%s: why not on %s?", op_table[op].name,
					  host_backing_table[b].name);
	}
	for (int b = 0; b < HOST_BACKING_NR; b++)
		CHECK(host_backing_table[b].name && host_backing_table[b].summary && host_backing_table[b].granule);
}

/* Return: what a collapse of DATA's first huge page returns; what was begun has ended. */
static int collapse(struct host *host, struct err *why)
{
	int ret;

	why->text[0] = 0;
	ret = host->ops->begin(host, OP_COLLAPSE, 0, HUGE, why);
	return ret ?: host->ops->end(host, why);
}

/*
 * A memfd's fresh memory is another place of it. One piece can be a huge page again,
 * whatever came before it; several cannot, and are not called a want of huge pages.
 */
static void collapse_of_replaced_memory(void)
{
	struct host host = { .backing = HOST_MEMFD, .bytes = DATA_BYTES, .limbo_bytes = HUGE };
	struct err why = { "" };

	REQUIRE_EQ(host_create(&host, &why), 0);
	CHECK_EQ(host.ops->populate(&host, 0, HUGE), 0);
	if (collapse(&host, &why)) {
		test_skip("%s", why.text);
	} else {
		CHECK_EQ(host.ops->remap(&host, PAGE_SIZE, PAGE_SIZE), 0);
		CHECK_EQ(host.ops->release(&host), 0);
		CHECK_EQ(host.ops->populate(&host, 0, HUGE), 0);
		CHECK_NE(collapse(&host, &why), 0);
		CHECK_CONTAINS(why.text, "it is in several pieces of the file by now");
		CHECK_EQ(host.ops->remap(&host, 0, HUGE), 0);
		CHECK_EQ(host.ops->release(&host), 0);
		CHECK_EQ(host.ops->populate(&host, 0, HUGE), 0);
		CHECK_MSG(collapse(&host, &why) != -EINVAL, "%s", why.text); /* others are a machine short of memory */
	}
	host_destroy(&host);
}

static s64 huge_kib(struct host *host, u64 off, u64 len)
{
	struct smaps maps;

	CHECK_EQ(smaps_read(host_addr(host, off), host_addr(host, off) + len, &maps), 0);
	return maps.huge_kib;
}

/* What the file takes of memory or disk, in pages. */
static u64 file_pages(struct host *host)
{
	struct stat st = { 0 };

	CHECK_EQ(fstat(host->fd, &st), 0);
	return (u64)st.st_blocks * 512 / PAGE_SIZE;
}

/*
 * All of DATA is huge when it comes, and so is a block that is mapped anew. A page that is mapped anew
 * is a page: it does not take a huge one of its file, or a long run would fill disk or memory.
 */
static void shared_huge_pages(enum host_backing backing)
{
	struct host host = { .backing = backing, .bytes = 2 * DATA_BYTES, .limbo_bytes = HUGE, .ranges = 2 };
	const char *name = host_backing_table[backing].name;
	struct err err = { "" };

	if (host_create(&host, &err)) {
		test_skip("%s: %s", name, err.text);
		return;
	}
	for (u64 off = 0; off < host.bytes; off += host_range_bytes(&host))
		if (huge_kib(&host, off, host_range_bytes(&host)) < (s64)host_range_bytes(&host) / 1024)
			test_skip("%s: memory is too fragmented", name);
	CHECK_EQ(host.ops->remap(&host, 0, HUGE), 0);
	CHECK_EQ(host.ops->release(&host), 0);
	CHECK_EQ(host.ops->populate(&host, 0, HUGE), 0);
	if (huge_kib(&host, 0, HUGE) < (s64)HUGE / 1024)
		test_skip("%s: memory is too fragmented", name);
	for (u64 off = HUGE; off < HUGE + 16 * PAGE_SIZE; off += PAGE_SIZE) {
		CHECK_EQ(host.ops->remap(&host, off, PAGE_SIZE), 0);
		CHECK_EQ(host.ops->release(&host), 0);
		CHECK_EQ(host.ops->populate(&host, off, PAGE_SIZE), 0);
	}
	CHECK_EQ(huge_kib(&host, HUGE, 16 * PAGE_SIZE), 0);
	if (host.fd >= 0)
		CHECK_LE(file_pages(&host), host.bytes / PAGE_SIZE + HUGE / PAGE_SIZE);
	host_destroy(&host);
}

static void shared_memory_is_huge(void)
{
	for (int b = 0; b < HOST_BACKING_NR; b++)
		if (host_backing_table[b].thp && host_backing_table[b].kind == BACKING_SHARED)
			shared_huge_pages(b);
}

/* No silent fallback: where no huge page fits there is no such memory. */
static void no_room_for_a_huge_page(void)
{
	for (int b = 0; b < HOST_BACKING_NR; b++) {
		struct host host = { .backing = b, .bytes = HUGE, .limbo_bytes = PAGE_SIZE, .ranges = 2 };
		struct err err = { "" };

		if (!host_backing_table[b].thp || host_backing_table[b].kind != BACKING_SHARED)
			continue;
		CHECK_EQ(host_create(&host, &err), -EINVAL);
		CHECK_CONTAINS(err.text, "a range of less than 2M holds no huge page");
	}
}

const struct test_case lab_host_ops_tests[] = {
	TEST(every_name_is_explained),
	TEST(one_operation_at_a_time),
	TEST(what_began_ends_with_its_host),
	TEST(the_machine_is_asked_for),
	TEST(anonymous),
	TEST(anonymous_thp),
	TEST(shmem),
	TEST(memfd),
	TEST(memfd_private),
	TEST(file_shared),
	TEST(file_private),
	TEST(memfd_thp),
	TEST(shmem_thp),
	TEST(file_shared_thp),
	TEST(shared_memory_is_huge),
	TEST(no_room_for_a_huge_page),
	TEST(guest_memfd),
	TEST(hugetlb),
	TEST(anonymous_with_the_machine),
	TEST(collapse_of_replaced_memory),
	TEST_END,
};
