/* SPDX-License-Identifier: MIT */
/* Files: two address spaces map one, beside a naive model; its end; memory running out; its races. */
#include <string.h>

#include "tests/mm_env.h"

#define FILE_PAGES 24u
#define WINDOW 40u
#define NOWHERE (-1)

struct files {
	struct frame_arena *arena;
	struct mm_struct *mm[2];
	struct mm_file *file;
	size_t free_bytes;
	/* The model. */
	u64 size;
	u64 value[FILE_PAGES];
	int maps[2][WINDOW]; /* which page of the file, or NOWHERE */
	bool writable[2][WINDOW];
	u64 next_value;
	u32 done[8];
	struct rng rng;
};

static hva_t addr_of(unsigned int mm, unsigned int page)
{
	return (mm ? ENV_BASE_ROOT : ENV_BASE_LEAF) + page * PAGE_SIZE;
}

static bool files_init(struct files *f, u64 seed)
{
	*f = (struct files){ .size = FILE_PAGES, .next_value = 1 };
	rng_seed(&f->rng, seed);
	memset(f->maps, 0xff, sizeof(f->maps));
	if (!CHECK_EQ(frame_arena_create(ENV_ARENA_BYTES, &f->arena), 0))
		return false;
	f->free_bytes = frame_arena_free_bytes(f->arena);
	for (unsigned int i = 0; i < 2; i++)
		CHECK_EQ(mm_create(f->arena, "mmap_sem", &f->mm[i]), 0);
	return CHECK_EQ(mm_file_create(f->arena, FILE_PAGES * PAGE_SIZE, &f->file), 0);
}

static void files_fini(struct files *f)
{
	mm_file_put(f->file); /* mappings keep it */
	for (unsigned int i = 0; i < 2; i++) {
		if (f->mm[i])
			mm_check(f->mm[i]);
		mmput(f->mm[i]);
	}
	CHECK_EQ(frame_arena_free_bytes(f->arena), f->free_bytes);
	frame_arena_destroy(f->arena);
}

static unsigned int pick(struct files *f, unsigned int limit, unsigned int *n)
{
	unsigned int page = (unsigned int)rng_below(&f->rng, limit);

	*n = 1 + (unsigned int)rng_below(&f->rng, min(limit - page, 8u));
	return page;
}

static void do_map(struct files *f, unsigned int i)
{
	unsigned int n, page = pick(f, WINDOW, &n), index = (unsigned int)rng_below(&f->rng, FILE_PAGES);
	bool writable = rng_below(&f->rng, 4);

	CHECK_EQ(mm_mmap_file(f->mm[i], addr_of(i, page), n * PAGE_SIZE, writable ? RW : TAIN_PROT_READ,
			      TAIN_MAP_FIXED | TAIN_MAP_SHARED, f->file, index * PAGE_SIZE, NULL),
		 0);
	for (unsigned int k = 0; k < n; k++) {
		f->maps[i][page + k] = (int)(index + k);
		f->writable[i][page + k] = writable;
	}
}

static void do_unmap(struct files *f, unsigned int i)
{
	unsigned int n, page = pick(f, WINDOW, &n);

	CHECK_EQ(mm_munmap(f->mm[i], addr_of(i, page), n * PAGE_SIZE), 0);
	for (unsigned int k = 0; k < n; k++)
		f->maps[i][page + k] = NOWHERE;
}

static void do_dontneed(struct files *f, unsigned int i)
{
	unsigned int n, page = pick(f, WINDOW, &n);

	mm_madvise(f->mm[i], addr_of(i, page), n * PAGE_SIZE, TAIN_MADV_DONTNEED); /* the file keeps the contents */
}

static void do_access(struct files *f, unsigned int i)
{
	unsigned int page = (unsigned int)rng_below(&f->rng, WINDOW);
	int index = f->maps[i][page];
	bool there = index != NOWHERE && (u64)index < f->size;
	u64 value = 0;

	CHECK_EQ(mm_read64(f->mm[i], addr_of(i, page), &value), there ? 0 : -EFAULT);
	if (there)
		CHECK_EQ(value, f->value[index]);
	there = there && f->writable[i][page];
	CHECK_EQ(mm_write64(f->mm[i], addr_of(i, page), f->next_value), there ? 0 : -EFAULT);
	if (there)
		f->value[index] = f->next_value++;
}

static void do_truncate(struct files *f, unsigned int i)
{
	u64 size = rng_below(&f->rng, FILE_PAGES + 1);

	CHECK_EQ(mm_file_truncate(f->file, size * PAGE_SIZE), 0);
	for (u64 page = size; page < FILE_PAGES; page++)
		f->value[page] = 0;
	f->size = size;
	CHECK_EQ(mm_file_size(f->file), size * PAGE_SIZE);
}

static void do_grow(struct files *f, unsigned int i)
{
	CHECK_EQ(mm_file_truncate(f->file, FILE_PAGES * PAGE_SIZE), 0);
	f->size = FILE_PAGES;
}

static void do_punch(struct files *f, unsigned int i)
{
	unsigned int n, page = pick(f, FILE_PAGES, &n);

	CHECK_EQ(mm_file_punch(f->file, page * PAGE_SIZE, n * PAGE_SIZE), 0);
	memset(&f->value[page], 0, n * sizeof(u64));
}

static void do_migrate(struct files *f, unsigned int i)
{
	struct mm_migrate_stats stats = { 0 };
	unsigned int n, page = pick(f, WINDOW, &n);

	CHECK_EQ(mm_migrate(f->mm[i], addr_of(i, page), n * PAGE_SIZE, &stats), 0);
	/* The same page twice in the range is collected twice, and then pinned by ourselves. */
	CHECK_EQ(stats.moved + stats.pinned + stats.absent, n);
	f->done[7] += stats.moved > 0;
}

static void (*const operations[])(struct files *f, unsigned int i) = { do_map,	    do_unmap, do_dontneed, do_access,
								       do_truncate, do_grow,  do_punch,	   do_migrate };

static void model(void)
{
	for (u64 seed = 1; seed <= 3; seed++) {
		struct files f;

		if (!files_init(&f, seed))
			return;
		for (unsigned int turn = 0; turn < 6000u && !test_failures(); turn++) {
			u64 which = rng_below(&f.rng, 2 * ARRAY_SIZE(operations));

			operations[which < ARRAY_SIZE(operations) ? which : 3](&f, turn % 2);
			if (turn % 16 == 0) {
				mm_check(f.mm[0]);
				mm_check(f.mm[1]);
			}
		}
		CHECK_MSG(!test_failures(), "seed %llu", (unsigned long long)seed);
		CHECK_GT(f.done[7], 5);
		files_fini(&f);
	}
}

static void end_of_file(void)
{
	struct files f;
	hva_t at = addr_of(0, 0);

	if (!files_init(&f, 1))
		return;
	CHECK_EQ(mm_file_truncate(f.file, 2 * PAGE_SIZE), 0);
	/* The mapping may reach past the end; populate says where it stopped being possible. */
	CHECK_EQ(mm_mmap_file(f.mm[0], at, 4 * PAGE_SIZE, RW, TAIN_MAP_FIXED | TAIN_MAP_SHARED, f.file, 0, NULL), 0);
	CHECK_EQ(mm_populate(f.mm[0], at, 2 * PAGE_SIZE), 0);
	CHECK_EQ(mm_populate(f.mm[0], at, 4 * PAGE_SIZE), -EFAULT);
	CHECK_EQ(mm_write64(f.mm[0], at + PAGE_SIZE, 5), 0);
	CHECK_EQ(mm_file_truncate(f.file, PAGE_SIZE), 0);
	CHECK_EQ(mm_write64(f.mm[0], at + PAGE_SIZE, 5), -EFAULT);
	CHECK_EQ(mm_file_truncate(f.file, 2 * PAGE_SIZE), 0);
	CHECK_EQ(mm_read64(f.mm[0], at + PAGE_SIZE, &f.value[0]), 0);
	CHECK_EQ(f.value[0], 0);
	files_fini(&f);
}

static void bad_arguments(void)
{
	int flags = TAIN_MAP_FIXED | TAIN_MAP_SHARED;
	struct frame_arena *other;
	struct mm_file *file;
	struct files f;

	if (!files_init(&f, 1))
		return;
	CHECK_EQ(mm_file_create(f.arena, 0, &file), -EINVAL);
	CHECK_EQ(mm_file_create(f.arena, 100, &file), -EINVAL);
	CHECK_EQ(mm_file_create(NULL, PAGE_SIZE, &file), -EINVAL);
	CHECK_EQ(mm_file_create(f.arena, PAGE_SIZE, NULL), -EINVAL);
	CHECK_EQ(mm_file_truncate(f.file, 1), -EINVAL);
	CHECK_EQ(mm_file_truncate(f.file, (FILE_PAGES + 1) * PAGE_SIZE), -EINVAL);
	CHECK_EQ(mm_file_truncate(NULL, 0), -EINVAL);
	CHECK_EQ(mm_file_punch(f.file, 0, 0), -EINVAL);
	CHECK_EQ(mm_file_punch(f.file, PAGE_SIZE, FILE_PAGES * PAGE_SIZE), -EINVAL);
	CHECK_EQ(mm_mmap_file(f.mm[0], addr_of(0, 0), PAGE_SIZE, RW, TAIN_MAP_FIXED, f.file, 0, NULL), -EINVAL);
	CHECK_EQ(mm_mmap_file(f.mm[0], addr_of(0, 0), PAGE_SIZE, RW, flags, NULL, 0, NULL), -EINVAL);
	CHECK_EQ(mm_mmap_file(f.mm[0], addr_of(0, 0), PAGE_SIZE, RW, flags, f.file, 7, NULL), -EINVAL);
	CHECK_EQ(mm_mmap(f.mm[0], addr_of(0, 0), PAGE_SIZE, RW, flags, NULL), -EINVAL);
	REQUIRE_EQ(frame_arena_create(ENV_ARENA_BYTES, &other), 0);
	REQUIRE_EQ(mm_file_create(other, PAGE_SIZE, &file), 0);
	CHECK_EQ(mm_mmap_file(f.mm[0], addr_of(0, 0), PAGE_SIZE, RW, flags, file, 0, NULL), -EINVAL);
	mm_file_put(file);
	mm_file_put(NULL);
	frame_arena_destroy(other);
	files_fini(&f);
}

#if CHECKING
static void memory_runs_out(void)
{
	struct mm_file *file;
	struct files f;
	u64 n;

	if (!files_init(&f, 1))
		return;
	for (n = 1; n < 10; n++) {
		mem_fail_after(n);
		if (!mm_file_create(f.arena, PAGE_SIZE, &file))
			break;
	}
	mem_fail_after(0);
	CHECK_EQ(n, 3);
	mm_file_put(file);
	for (n = 1; n < 50; n++) {
		int err;

		mem_fail_after(n);
		err = mm_mmap_file(f.mm[0], addr_of(0, 0), 4 * PAGE_SIZE, RW, TAIN_MAP_FIXED | TAIN_MAP_SHARED, f.file,
				   0, NULL);
		mem_fail_after(0);
		mm_check(f.mm[0]);
		if (!err)
			break;
		CHECK_EQ(err, -ENOMEM);
		CHECK_EQ(f.mm[0]->vmas.count, 0);
	}
	CHECK_GT(n, 1);
	for (n = 1; n < 10; n++) {
		frame_fail_after(n);
		if (!mm_write64(f.mm[0], addr_of(0, 0), 1))
			break;
	}
	frame_fail_after(0);
	CHECK_EQ(n, 4); /* three tables and the page, one of which is there after each failure */
	files_fini(&f);
}

struct worker {
	struct thread thread;
	struct files *f;
	int err;
};

static void write_one(void *arg)
{
	struct worker *w = arg;

	w->err = mm_write64(w->f->mm[0], addr_of(0, 0), 42);
}

static bool one_page(struct files *f, struct worker *w)
{
	if (!files_init(f, 1))
		return false;
	*w = (struct worker){ .f = f };
	return CHECK_EQ(mm_mmap_file(f->mm[0], addr_of(0, 0), PAGE_SIZE, RW, TAIN_MAP_FIXED | TAIN_MAP_SHARED, f->file,
				     0, NULL),
			0);
}

/*
 * Catalogue 45, first touch.
 *
 *   T1                                  main
 *   fault: has the page of the file
 *                                       punch: the file gives it up; no entry; freed
 *   page-table lock: not the file's: once more
 *   a new page
 */
static void fault_loses_to_punch(void)
{
	struct race_gate gate;
	struct mm_stats stats;
	struct worker w;
	struct files f;

	if (!one_page(&f, &w))
		return;
	race_arm(&gate, "mm_fault_file:before_ptl", 1);
	REQUIRE_EQ(thread_create(&w.thread, "writer", -1, write_one, &w), 0);
	race_wait(&gate);
	CHECK_EQ(mm_file_punch(f.file, 0, PAGE_SIZE), 0);
	race_release(&gate);
	thread_join(&w.thread);
	race_disarm(&gate);
	CHECK_EQ(w.err, 0);
	mm_get_stats(f.mm[0], &stats);
	CHECK_EQ(stats.retries, 1);
	mm_check(f.mm[0]); /* the entry's page is the file's */
	files_fini(&f);
}

/* The same with truncate: there is nothing to have any more. */
static void fault_loses_to_truncate(void)
{
	struct race_gate gate;
	struct worker w;
	struct files f;

	if (!one_page(&f, &w))
		return;
	race_arm(&gate, "mm_file:before_add", 1);
	REQUIRE_EQ(thread_create(&w.thread, "writer", -1, write_one, &w), 0);
	race_wait(&gate);
	CHECK_EQ(mm_file_truncate(f.file, 0), 0);
	race_release(&gate);
	thread_join(&w.thread);
	race_disarm(&gate);
	CHECK_EQ(w.err, -EFAULT);
	files_fini(&f);
}

static void truncate_all(void *arg)
{
	struct worker *w = arg;

	w->err = mm_file_truncate(w->f->file, 0);
}

/*
 *   T1                                  main
 *   truncate: the file gives the page up
 *                                       munmap, mmap anonymous memory there, write
 *   i_mmap: no VMA of the file; nothing of others is cleared
 */
static void truncate_spares_others(void)
{
	struct race_gate gate;
	struct worker w;
	struct files f;
	u64 value = 0;

	if (!one_page(&f, &w))
		return;
	CHECK_EQ(mm_write64(f.mm[0], addr_of(0, 0), 1), 0);
	race_arm(&gate, "mm_truncate:after_take", 1);
	REQUIRE_EQ(thread_create(&w.thread, "truncate", -1, truncate_all, &w), 0);
	race_wait(&gate);
	CHECK_EQ(mm_mmap(f.mm[0], addr_of(0, 0), PAGE_SIZE, RW, TAIN_MAP_FIXED, NULL), 0);
	CHECK_EQ(mm_write64(f.mm[0], addr_of(0, 0), 2), 0);
	race_release(&gate);
	thread_join(&w.thread);
	race_disarm(&gate);
	CHECK_EQ(mm_read64(f.mm[0], addr_of(0, 0), &value), 0);
	CHECK_EQ(value, 2);
	files_fini(&f);
}

static void migrate_one(void *arg)
{
	struct worker *w = arg;

	w->err = mm_migrate(w->f->mm[0], addr_of(0, 0), PAGE_SIZE, NULL);
}

/*
 *   T1                                  main
 *   migrate: unmapped everywhere
 *                                       fault: maps it again
 *   pages_lock: has an entry: it stays
 */
static void migrate_loses_to_fault(void)
{
	struct race_gate gate;
	struct worker w;
	struct files f;
	u64 value = 0;

	if (!one_page(&f, &w))
		return;
	CHECK_EQ(mm_write64(f.mm[0], addr_of(0, 0), 1), 0);
	race_arm(&gate, "mm_migrate:file_unmapped", 1);
	REQUIRE_EQ(thread_create(&w.thread, "migrate", -1, migrate_one, &w), 0);
	race_wait(&gate);
	CHECK_EQ(mm_write64(f.mm[0], addr_of(0, 0), 2), 0);
	race_release(&gate);
	thread_join(&w.thread);
	race_disarm(&gate);
	CHECK_EQ(mm_read64(f.mm[0], addr_of(0, 0), &value), 0);
	CHECK_EQ(value, 2);
	mm_check(f.mm[0]);
	files_fini(&f);
}

#define CHECKING_TESTS                                                                                                 \
	TEST(memory_runs_out), TEST(fault_loses_to_punch), TEST(fault_loses_to_truncate),                              \
		TEST(truncate_spares_others), TEST(migrate_loses_to_fault),
#else
#define CHECKING_TESTS
#endif

const struct test_case mm_file_tests[] = { TEST(model), TEST(end_of_file), TEST(bad_arguments),
					   CHECKING_TESTS TEST_END };
