/* SPDX-License-Identifier: MIT */
/*
 * A file: a cache of pages by index, and the VMAs that map it. Anonymous shared
 * memory, known by its handle alone; its pages live in the arena and nowhere else.
 */
#ifndef MM_FILE_H
#define MM_FILE_H

#include "lib/lock.h"
#include "lib/rcu.h"
#include "mm/frame.h"
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
 * They know that they were the file's until mm_file_let_go(), which drops the references.
 */
#define MM_FILE_KEEP_SIZE (~0ull)
struct page *mm_file_take(struct mm_file *file, u64 first, u64 last, u64 size);
void mm_file_let_go(struct mm_file *file, struct page *taken);

/* Is it in the file's cache, or was until now? */
static inline bool page_is_of_file(const struct page *page, const struct mm_file *file)
{
	return READ_ONCE(page->flags) & PG_FILE && READ_ONCE(page->mapping) == file;
}

/*
 * Put @new in the place of @old, with its contents, if nobody but the file and the
 * caller has a reference. Context: the i_mmap lock of the file. Return: done; the file's
 * reference on @old is the caller's then, and @new's the file's.
 */
bool mm_file_replace(struct page *old, struct page *new);

#endif /* MM_FILE_H */
