/* SPDX-License-Identifier: MIT */
/*
 * A file: a cache of pages by index, and the VMAs that map it. Anonymous shared
 * memory, known by its handle alone; its pages live in the arena and nowhere else.
 */
#ifndef MM_FILE_H
#define MM_FILE_H

#include "lib/lock.h"
#include "lib/rcu.h"
#include "mm/mm.h"
#include "mm/rmap.h"

struct address_space {
	struct rmap_lock i_mmap; /* guards vmas */
	struct rmap_node *vmas;

	struct spinlock pages_lock; /* guards what follows, and page->mapping of its pages; a leaf */
	u64 nr_pages;		    /* the size; read without the lock as a hint */
	struct page **pages;	    /* by index; each with a reference of ours. Read without the lock as a hint */
};

struct mm_file {
	/* Constant. */
	struct frame_arena *arena;
	u64 max_pages;

	struct address_space mapping;
	u32 refs; /* atomic; handles, and VMAs that are linked */
	struct rcu_head rcu;
};

/*
 * The page at @index with a reference, made if need be.
 * Context: sleeps. Return: 0; -EFAULT past the end; -ENOMEM.
 */
int mm_file_page(struct mm_file *file, u64 index, struct page **page);

/* Is @page still the file's page at @index? Context: under the page-table lock the answer stands until unlock (D0). */
bool mm_file_has_page(struct mm_file *file, u64 index, const struct page *page);

/*
 * Take the pages of [first, last] out of the file: they come back linked by ->chain,
 * with the file's references. @size: also make that the size, unless MM_FILE_KEEP_SIZE.
 */
#define MM_FILE_KEEP_SIZE (~0ull)
struct page *mm_file_take(struct mm_file *file, u64 first, u64 last, u64 size);

/* Put @new in the place of @old, with its contents, if nobody else has a reference. Return: done. */
bool mm_file_replace(struct mm_file *file, struct page *old, struct page *new);

#endif /* MM_FILE_H */
