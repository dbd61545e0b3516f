/* SPDX-License-Identifier: MIT */
/* The truth table: the rows that are certain on every kernel, on soft and on kvm. */
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "lab/system/guardian.h"
#include "lab/matrix/internal.h"
#include "lab/host/swap.h"
#include "tests/lab_suites.h"

static struct matrix_result result;

static bool run(const char *engine, const char *ops, const char *backings)
{
	struct matrix_config config = { .machine = { .engine = engine_find(engine) } };
	struct err err = { "" };

	if (!CHECK_MSG(!op_parse_list(ops, &config.ops, &err) && !op_parse_backings(backings, &config.backings, &err),
		       "%s", err.text))
		return false;
	return CHECK_MSG(!matrix_run(&config, &result, &err), "matrix of %s on %s: %s", ops, backings, err.text);
}

static const struct matrix_cell *find(enum host_op op, enum host_backing backing)
{
	for (u32 i = 0; i < result.nr; i++)
		if (result.cell[i].op == op && result.cell[i].backing == backing)
			return &result.cell[i];
	return NULL;
}

/* What must be there; MATRIX_UNKNOWN: not asserted. Events where userfaultfd works at all. */
struct row {
	enum host_op op;
	enum host_backing backing;
	enum matrix_sight during, after;
	s64 freed, moved, events;
};

#define ANY MATRIX_UNKNOWN

static void check_row(const struct row *row)
{
	const struct matrix_cell *c = find(row->op, row->backing);
	char name[64], events[40], want[40];

	snprintf(name, sizeof(name), "%s on %s", op_table[row->op].name, host_backing_table[row->backing].name);
	if (!CHECK_MSG(c, "%s is in the table", name))
		return;
	if (!CHECK_MSG(c->state == MATRIX_DONE, "%s: %s: %s", name, matrix_state_name(c->state), c->why))
		return;
	CHECK_MSG(c->during == row->during, "%s: during: %s", name, matrix_sight_name(c->during));
	CHECK_MSG(c->after == row->after, "%s: after: %s", name, matrix_sight_name(c->after));
	if (row->freed != ANY)
		CHECK_MSG(c->freed == ANY || (c->freed >= row->freed - 5 && c->freed <= row->freed + 5),
			  "%s: %lld %% freed", name, (long long)c->freed);
	if (row->moved != ANY)
		CHECK_MSG(c->moved == ANY || c->moved == row->moved, "%s: %lld %% in other frames", name,
			  (long long)c->moved);
	if (row->events != ANY && !c->events_why[0])
		CHECK_MSG(c->events == row->events, "%s: events %s, not %s", name,
			  matrix_events_text(c->events, events), matrix_events_text(row->events, want));
	CHECK_MSG(c->read.count && c->read.p50 && c->read.p50 <= c->read.max, "%s: reads were timed", name);
	if (c->read.count < 100)
		CHECK_MSG(c->read.p99 == MATRIX_UNKNOWN, "%s: p99 of %llu reads", name,
			  (unsigned long long)c->read.count);
	else
		CHECK_MSG(c->read.p99 >= (s64)c->read.p50 && c->read.p99 <= (s64)c->read.max, "%s: p99 of reads", name);
	CHECK_MSG(c->write.count == c->read.count, "%s: writes were timed", name);
}

#define NONE SIGHT_UNKNOWN
#define UNMAP MATRIX_EVENT_UNMAP
#define REMOVE MATRIX_EVENT_REMOVE
#define REMAP MATRIX_EVENT_REMAP

static const struct row soft_rows[] = {
	{ OP_MUNMAP, HOST_ANONYMOUS, SIGHT_FAULT, SIGHT_ZEROS, 100, ANY, ANY },
	{ OP_REMAP, HOST_ANONYMOUS, NONE, SIGHT_ZEROS, 100, ANY, ANY },
	{ OP_MPROTECT, HOST_ANONYMOUS, SIGHT_FAULT, SIGHT_OLD, 0, 0, ANY },
	{ OP_DONTNEED, HOST_ANONYMOUS, NONE, SIGHT_ZEROS, 100, ANY, ANY },
	{ OP_MREMAP, HOST_ANONYMOUS, SIGHT_FAULT, SIGHT_OLD, 0, 0, ANY },
	{ OP_COMPACT, HOST_ANONYMOUS, NONE, SIGHT_OLD, 0, 100, ANY },
	{ OP_POPULATE, HOST_ANONYMOUS, NONE, SIGHT_OLD, 0, 0, ANY },
};

static void soft_table(void)
{
	if (!run("soft", "munmap,remap,mprotect,dontneed,mremap,compact,populate,punch", "anonymous"))
		return;
	CHECK_EQ(result.nr, 8);
	CHECK_EQ(result.states[MATRIX_WRONG], 0);
	CHECK_STR(result.id.engine, "soft");
	for (size_t i = 0; i < ARRAY_SIZE(soft_rows); i++)
		check_row(&soft_rows[i]);
	/* Everything that holds pages is zapped; everything else is not. */
	CHECK_EQ(find(OP_DONTNEED, HOST_ANONYMOUS)->zapped, 1024);
	CHECK_EQ(find(OP_POPULATE, HOST_ANONYMOUS)->zapped, 0);
	CHECK_EQ(find(OP_PUNCH, HOST_ANONYMOUS)->state, MATRIX_SKIPPED);
	CHECK_CONTAINS(find(OP_PUNCH, HOST_ANONYMOUS)->why, "--engine kvm");
}

static void soft_has_one_backing(void)
{
	if (!run("soft", "munmap,dontneed", "memfd"))
		return;
	CHECK_EQ(result.nr, 2);
	CHECK_EQ(result.states[MATRIX_SKIPPED], 2);
	CHECK(!result.ran);
	CHECK_CONTAINS(result.cell[1].why, "anonymous memory only");
}

/* Certain since Linux 5.7, whatever the second MMU. */
static const struct row kvm_rows[] = {
	{ OP_MUNMAP, HOST_ANONYMOUS, SIGHT_FAULT, SIGHT_ZEROS, 100, ANY, UNMAP },
	{ OP_REMAP, HOST_ANONYMOUS, NONE, SIGHT_ZEROS, 100, ANY, UNMAP },
	{ OP_MPROTECT, HOST_ANONYMOUS, SIGHT_FAULT, SIGHT_OLD, 0, 0, 0 },
	{ OP_DONTNEED, HOST_ANONYMOUS, NONE, SIGHT_ZEROS, 100, ANY, REMOVE },
	{ OP_MREMAP, HOST_ANONYMOUS, SIGHT_FAULT, SIGHT_OLD, 0, 0, ANY },
	{ OP_DONTUNMAP, HOST_ANONYMOUS, NONE, SIGHT_ZEROS, 0, 100, ANY },
	{ OP_FORK, HOST_ANONYMOUS, NONE, SIGHT_OLD, 0, 100, ANY },
	{ OP_FREE, HOST_ANONYMOUS, NONE, SIGHT_OLD, 0, ANY, ANY },
	{ OP_DONTNEED, HOST_MEMFD, NONE, SIGHT_OLD, 0, 0, REMOVE },
	{ OP_REMOVE, HOST_MEMFD, NONE, SIGHT_ZEROS, 100, ANY, REMOVE },
	{ OP_PUNCH, HOST_MEMFD, NONE, SIGHT_ZEROS, 100, ANY, 0 },
	{ OP_TRUNCATE, HOST_MEMFD, SIGHT_FAULT, SIGHT_ZEROS, 100, ANY, 0 },
	{ OP_REMAP, HOST_MEMFD, NONE, SIGHT_ZEROS, 0, 100, UNMAP },
	{ OP_FORK, HOST_MEMFD, NONE, SIGHT_OLD, 0, 0, ANY },
	{ OP_DONTNEED, HOST_SHMEM, NONE, SIGHT_OLD, 0, 0, REMOVE },
	{ OP_REMOVE, HOST_SHMEM, NONE, SIGHT_ZEROS, 100, ANY, REMOVE },
	{ OP_DONTNEED, HOST_MEMFD_PRIVATE, NONE, SIGHT_FILE, 50, ANY, REMOVE },
	{ OP_PUNCH, HOST_MEMFD_PRIVATE, NONE, SIGHT_OLD, 50, 0, 0 },
	{ OP_TRUNCATE, HOST_MEMFD_PRIVATE, SIGHT_FAULT, SIGHT_ZEROS, 100, ANY, 0 },
	{ OP_DONTNEED, HOST_FILE_SHARED, NONE, SIGHT_OLD, 0, 0, ANY },
	{ OP_DONTNEED, HOST_FILE_PRIVATE, NONE, SIGHT_FILE, ANY, ANY, ANY },
};

/* Only the cells that are asserted: each takes a guest of its own. */
static const struct {
	enum host_backing backing;
	const char *ops;
} kvm_runs[] = {
	{ HOST_ANONYMOUS, "munmap,remap,mprotect,dontneed,mremap,dontunmap,fork,free,remove" },
	{ HOST_MEMFD, "dontneed,remove,punch,truncate,remap,fork,free" },
	{ HOST_SHMEM, "dontneed,remove,punch" },
	{ HOST_MEMFD_PRIVATE, "dontneed,punch,truncate" },
	{ HOST_FILE_SHARED, "dontneed" },
	{ HOST_FILE_PRIVATE, "dontneed" },
};

static void check_refused_cell(enum host_op op, enum host_backing backing, const char *why)
{
	const struct matrix_cell *c = find(op, backing);

	if (!c)
		return;
	CHECK_EQ(c->state, MATRIX_REFUSED);
	CHECK_CONTAINS(c->why, why);
}

static void check_zapped(enum host_op op, enum host_backing backing, s64 pages)
{
	const struct matrix_cell *c = find(op, backing);

	if (c && c->zapped != MATRIX_UNKNOWN)
		CHECK_MSG(c->zapped == pages, "%s: %lld pages zapped", op_table[op].name, (long long)c->zapped);
}

static void kvm_table(void)
{
	if (!have_kvm())
		return;
	for (size_t r = 0; r < ARRAY_SIZE(kvm_runs); r++) {
		if (!run("kvm", kvm_runs[r].ops, host_backing_table[kvm_runs[r].backing].name))
			return;
		CHECK_EQ(result.states[MATRIX_WRONG], 0);
		for (size_t i = 0; i < ARRAY_SIZE(kvm_rows); i++)
			if (kvm_rows[i].backing == kvm_runs[r].backing)
				check_row(&kvm_rows[i]);
		check_refused_cell(OP_REMOVE, HOST_ANONYMOUS, "Invalid argument");
		check_refused_cell(OP_PUNCH, HOST_SHMEM, "no descriptor");
		check_refused_cell(OP_FREE, HOST_MEMFD, "private anonymous memory");
		check_zapped(OP_DONTNEED, HOST_ANONYMOUS, 1024);
		check_zapped(OP_FORK, HOST_MEMFD, 0);
	}
}

/* Both MMUs map all of the range huge before anything happens, or the row says why there is none. */
static void check_huge(enum host_op op, enum host_backing backing)
{
	const struct matrix_cell *c = find(op, backing);
	const char *name = host_backing_table[backing].name;

	if (!CHECK(c != NULL) ||
	    !CHECK_MSG(c->state == MATRIX_DONE || c->state == MATRIX_SKIPPED, "%s: %s", name, c->why))
		return;
	if (c->state == MATRIX_SKIPPED) {
		test_skip("%s: %s", name, c->why);
		return;
	}
	CHECK_EQ(c->huge_before, MATRIX_BYTES / 1024);
	if (backing != HOST_FILE_SHARED_THP) /* which is written back at any moment: out of the second MMU */
		CHECK_MSG(c->huge_sptes == ANY || c->huge_sptes >= (s64)(MATRIX_RANGE / HUGE_PAGE),
			  "%s: %lld huge entries", name, (long long)c->huge_sptes);
	CHECK_EQ(c->read.count, 8); /* one access per huge page: the others would find what it has brought */
}

/*
 * Shared memory: DONTNEED keeps it, and keeps it huge; a part of a huge page splits it,
 * and nothing moves. A file on a disk has its own mind about splitting.
 */
static void kvm_shared_huge_pages(void)
{
	static const enum host_backing backings[] = { HOST_MEMFD_THP, HOST_SHMEM_THP, HOST_FILE_SHARED_THP };

	if (!have_kvm() || !run("kvm", "dontneed,split", "memfd_thp,shmem_thp,file_shared_thp,memfd"))
		return;
	CHECK_EQ(result.states[MATRIX_WRONG], 0);
	for (size_t i = 0; i < ARRAY_SIZE(backings); i++) {
		check_huge(OP_DONTNEED, backings[i]);
		check_huge(OP_SPLIT, backings[i]);
		if (find(OP_DONTNEED, backings[i])->state == MATRIX_SKIPPED)
			continue;
		check_row(&(struct row){ OP_DONTNEED, backings[i], NONE, SIGHT_OLD, 0, 0, ANY });
		if (backings[i] != HOST_FILE_SHARED_THP)
			check_zapped(OP_DONTNEED, backings[i], MATRIX_PAGES);
	}
	CHECK_EQ(find(OP_DONTNEED, HOST_MEMFD)->huge_before, 0);
	for (size_t i = 0; i < 2; i++) {
		if (find(OP_SPLIT, backings[i])->state == MATRIX_SKIPPED)
			continue;
		check_row(&(struct row){ OP_SPLIT, backings[i], NONE, SIGHT_OLD, 0, 0, 0 });
		CHECK_EQ(find(OP_SPLIT, backings[i])->huge_after, (MATRIX_BYTES - MATRIX_RANGE) / 1024);
	}
}

static void kvm_huge_pages(void)
{
	if (!have_kvm() || !run("kvm", "dontneed,split,collapse", "anonymous_thp,anonymous"))
		return;
	CHECK_EQ(result.states[MATRIX_WRONG], 0);
	if (find(OP_SPLIT, HOST_ANONYMOUS_THP)->state == MATRIX_SKIPPED) {
		test_skip("%s", find(OP_SPLIT, HOST_ANONYMOUS_THP)->why);
		return;
	}
	check_row(&(struct row){ OP_DONTNEED, HOST_ANONYMOUS_THP, NONE, SIGHT_ZEROS, 100, ANY, REMOVE });
	/* One access per huge page: the others would find what it has brought. */
	CHECK_EQ(find(OP_DONTNEED, HOST_ANONYMOUS_THP)->read.count, 8);
	CHECK_EQ(find(OP_DONTNEED, HOST_ANONYMOUS)->read.count, MATRIX_PAGES / MATRIX_NEAR);
	check_row(&(struct row){ OP_SPLIT, HOST_ANONYMOUS_THP, NONE, SIGHT_OLD, 0, 0, 0 });
	/* Memory may be too fragmented for either; what is split was huge before. */
	CHECK_LE(find(OP_SPLIT, HOST_ANONYMOUS_THP)->huge_after, find(OP_SPLIT, HOST_ANONYMOUS_THP)->huge_before);
}

/* A write is timed where nothing was read before: it faults itself. */
static void writes_have_their_own_range(void)
{
	const struct matrix_cell *c;

	if (!have_kvm() || !run("kvm", "dontneed", "memfd") || !result.counted)
		return;
	c = find(OP_DONTNEED, HOST_MEMFD);
	if (c->huge_before > 0) /* one fault then brings many */
		return;
	CHECK_MSG(result.faults >= (u64)c->faults + c->read.count + c->write.count,
		  "%llu faults: %lld of reading the range, then %llu reads and %llu writes",
		  (unsigned long long)result.faults, (long long)c->faults, (unsigned long long)c->read.count,
		  (unsigned long long)c->write.count);
}

/* A guard's mark in a page table looks like swap, and the file's page under it like the swap cache's. */
static void guards_free_the_copies(void)
{
	const struct matrix_cell *c;

	if (!have_kvm() || !run("kvm", "guard", "memfd_private"))
		return;
	c = find(OP_GUARD, HOST_MEMFD_PRIVATE);
	if (c->state == MATRIX_REFUSED) {
		test_skip("%s", c->why);
		return;
	}
	check_row(&(struct row){ OP_GUARD, HOST_MEMFD_PRIVATE, SIGHT_FAULT, SIGHT_FILE, 50, ANY, ANY });
}

static bool guarded_kvm(void)
{
	struct err err = { "" };

	if (!have_kvm())
		return false;
	test_own_machine();
	if (!guardian_start(&err))
		return true;
	test_skip("%s", err.text);
	return false;
}

/* KSM merges pairs: half of the memory; the guest's writes unmerge them. */
static void kvm_merge(void)
{
	const struct matrix_cell *c;
	struct err err = { "" };

	if (!guarded_kvm())
		return;
	if (run("kvm", "merge", "anonymous")) {
		c = find(OP_MERGE, HOST_ANONYMOUS);
		CHECK_NE(c->state, MATRIX_WRONG);
		if (c->state == MATRIX_DONE) {
			CHECK_EQ(c->after, SIGHT_OLD);
			CHECK_MSG(c->freed == ANY || (c->freed >= 40 && c->freed <= 60), "%lld %% freed",
				  (long long)c->freed);
			/* What was timed was merged: nearly every access faults. */
			CHECK_MSG(!result.counted ||
					  result.faults >= (u64)c->faults + (c->read.count + c->write.count) * 3 / 4,
				  "%llu faults, %lld of reading the range", (unsigned long long)result.faults,
				  (long long)c->faults);
		}
	}
	CHECK_MSG(!guardian_stop(&err), "%s", err.text);
}

/*
 * What went to swap is gone, or the row says that it is not and times nothing: a page of
 * the swap cache is neither free nor does its return ask a disk.
 */
static void check_pageout(enum host_backing backing, s64 all)
{
	const struct matrix_cell *c = find(OP_PAGEOUT, backing);
	const char *name = host_backing_table[backing].name;

	if (c->state == MATRIX_SKIPPED) {
		test_skip("%s", c->why);
		return;
	}
	CHECK_MSG(c->state == MATRIX_DONE && c->after == SIGHT_OLD, "%s: %s: the guest sees %s", name,
		  matrix_state_name(c->state), matrix_sight_name(c->after));
	if (c->cost_why[0]) {
		CHECK_MSG(strstr(c->cost_why, "swap"), "%s: %s", name, c->cost_why);
		CHECK_EQ(c->read.count, 0);
		CHECK_EQ(c->write.count, 0);
		return;
	}
	CHECK_EQ(c->read.count, MATRIX_PAGES / SWAP_NEAR);
	CHECK_EQ(c->write.count, MATRIX_PAGES / SWAP_NEAR);
	if (c->swapped > 90 && c->freed != ANY)
		CHECK_MSG(c->freed >= all - all / 6, "%s: %lld %% swapped, %lld %% freed", name, (long long)c->swapped,
			  (long long)c->freed);
}

/* A file's pages are dirty, and go all the same. */
static void kvm_pageout_to_a_file(void)
{
	const char *dir = getenv("TMPDIR");
	const struct matrix_cell *c;
	struct statfs fs;

	if (!have_kvm())
		return;
	if (!statfs(dir && *dir == '/' ? dir : "/var/tmp", &fs) && fs.f_type == TMPFS_MAGIC) {
		test_skip("the file's directory is memory");
		return;
	}
	if (!run("kvm", "pageout", "file_shared"))
		return;
	c = find(OP_PAGEOUT, HOST_FILE_SHARED);
	CHECK_MSG(c->state == MATRIX_DONE && c->after == SIGHT_OLD, "%s: %s: the guest sees %s",
		  matrix_state_name(c->state), c->why, matrix_sight_name(c->after));
	CHECK_MSG(c->freed == ANY || c->freed >= 50, "%lld %% freed", (long long)c->freed); /* nobody owes all */
}

static void kvm_pageout(void)
{
	struct err err = { "" };

	if (!guarded_kvm())
		return;
	if (run("kvm", "pageout", "anonymous,memfd,memfd_private")) {
		check_pageout(HOST_ANONYMOUS, 100);
		check_pageout(HOST_MEMFD, 100);
		check_pageout(HOST_MEMFD_PRIVATE, 50);
	}
	CHECK_MSG(!guardian_stop(&err), "%s", err.text);
}

/* A page counts as long as it takes memory, in the swap cache too. */
static void look_beside_mincore(struct host *host)
{
	static struct matrix_look look;
	const struct matrix_witness none = { NULL };
	struct err why = { "" };
	u64 before, after;

	if (host->ops->begin(host, OP_PAGEOUT, 0, host->bytes, &why)) {
		test_skip("%s", why.text);
		return;
	}
	before = swap_in_memory(host->data, host->bytes / PAGE_SIZE);
	matrix_look(host, &none, &look, &why);
	after = swap_in_memory(host->data, host->bytes / PAGE_SIZE);
	/* The kernel may take more of them meanwhile; nobody brings any back. */
	if (look.known)
		CHECK_MSG(look.used <= before && look.used >= after,
			  "%llu pages are used; in memory were %llu, then %llu", (unsigned long long)look.used,
			  (unsigned long long)before, (unsigned long long)after);
}

static void swap_cache_is_memory(void)
{
	struct host host = { .backing = HOST_ANONYMOUS, .bytes = MATRIX_BYTES, .limbo_bytes = MATRIX_RANGE };
	struct err err = { "" };

	test_own_machine();
	if (guardian_start(&err)) {
		test_skip("%s", err.text);
		return;
	}
	if (CHECK_MSG(!host_create(&host, &err), "%s", err.text)) {
		CHECK_EQ(matrix_fill(&host), 0);
		look_beside_mincore(&host);
		host_destroy(&host);
	}
	CHECK_MSG(!guardian_stop(&err), "%s", err.text);
}

static void stops_when_told(void)
{
	u32 stop = 1;
	struct matrix_config config = { .machine = { .engine = engine_find("soft") },
					.ops = OP_ALL,
					.backings = BIT(HOST_ANONYMOUS),
					.stop = &stop };
	struct err err = { "" };

	CHECK_EQ(matrix_run(&config, &result, &err), -EINTR);
	CHECK_EQ(result.nr, 0);
	CHECK_EQ(result.planned, OP_NR);
}

static void events_have_names(void)
{
	char text[40];

	CHECK_STR(matrix_events_text(MATRIX_UNKNOWN, text), "unknown");
	CHECK_STR(matrix_events_text(0, text), "none");
	CHECK_STR(matrix_events_text(UNMAP | REMAP, text), "UNMAP+REMAP");
	CHECK_STR(matrix_events_text(31, text), "UNMAP+REMOVE+REMAP+FORK+FAULT");
}

const struct test_case lab_matrix_tests[] = {
	TEST(events_have_names),
	TEST(stops_when_told),
	TEST(soft_table),
	TEST(soft_has_one_backing),
	TEST(kvm_table),
	TEST(kvm_huge_pages),
	TEST(kvm_shared_huge_pages),
	TEST(writes_have_their_own_range),
	TEST(guards_free_the_copies),
	TEST(kvm_merge),
	TEST(kvm_pageout),
	TEST(kvm_pageout_to_a_file),
	TEST(swap_cache_is_memory),
	TEST_END,
};
