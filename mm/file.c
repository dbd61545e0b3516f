/* SPDX-License-Identifier: MIT */
/* The page cache of a file. */
#include "mm/file.h"
#include "lib/alloc.h"
#include "mm/mm_internal.h"

static DEFINE_LOCK_CLASS(i_mmap_class, "i_mmap");
static DEFINE_LOCK_CLASS(pages_lock_class, "file_pages");

int mm_file_create(struct frame_arena *arena, size_t bytes, struct mm_file **out)
{
	struct mm_file *file;

	if (!arena || !out || !bytes || !is_aligned(bytes, PAGE_SIZE) || bytes > TAIN_TASK_SIZE)
		return -EINVAL;
	file = mem_zalloc(sizeof(*file));
	if (!file)
		return -ENOMEM;
	file->mapping.pages = mem_zalloc((bytes >> PAGE_SHIFT) * sizeof(file->mapping.pages[0]));
	if (!file->mapping.pages) {
		mem_free(file);
		return -ENOMEM;
	}
	rmap_lock_init(&file->mapping.i_mmap, &i_mmap_class);
	spin_lock_init(&file->mapping.pages_lock, &pages_lock_class);
	file->arena = arena;
	file->max_pages = bytes >> PAGE_SHIFT;
	file->mapping.nr_pages = file->max_pages;
	file->refs = 1;
	*out = file;
	return 0;
}

static void file_free_rcu(struct rcu_head *head)
{
	struct mm_file *file = container_of(head, struct mm_file, rcu);

	rmap_lock_destroy(&file->mapping.i_mmap);
	mem_free(file->mapping.pages);
	mem_free(file);
}

void mm_file_get(struct mm_file *file)
{
	u32 old = fetch_add(&file->refs, 1);

	ASSERT(old != 0);
	(void)old;
}

void mm_file_put(struct mm_file *file)
{
	u32 old;

	if (!file)
		return;
	old = fetch_add(&file->refs, (u32)-1);
	ASSERT(old != 0);
	if (old != 1)
		return;
	mm_file_let_go(file, mm_file_take(file, 0, file->max_pages - 1, MM_FILE_KEEP_SIZE));
	call_rcu(&file->rcu, file_free_rcu);
}

u64 mm_file_size(struct mm_file *file)
{
	return READ_ONCE(file->mapping.nr_pages) << PAGE_SHIFT;
}

/* Context: pages_lock. Takes over @page's reference. */
static void add_page_locked(struct mm_file *file, u64 index, struct page *page)
{
	WRITE_ONCE(page->index, index);
	WRITE_ONCE(page->mapping, file);
	WRITE_ONCE(page->flags, PG_FILE);
	WRITE_ONCE(file->mapping.pages[index], page);
}

/* Return: as mm_file_page(); -EAGAIN if there is none, and none to put there. */
static int get_page_or_add(struct mm_file *file, u64 index, struct page *new, struct page **page)
{
	struct address_space *mapping = &file->mapping;
	int ret = 0;

	spin_lock(&mapping->pages_lock);
	*page = NULL;
	if (index >= mapping->nr_pages)
		ret = -EFAULT;
	else if (!mapping->pages[index] && !new)
		ret = -EAGAIN;
	if (!ret) {
		if (!mapping->pages[index])
			add_page_locked(file, index, new);
		*page = mapping->pages[index];
		frame_get(*page);
	}
	spin_unlock(&mapping->pages_lock);
	return ret;
}

int mm_file_page(struct mm_file *file, u64 index, struct page **page)
{
	struct page *new;
	int ret = get_page_or_add(file, index, NULL, page);

	if (ret != -EAGAIN)
		return ret;
	new = frame_alloc_wait(file->arena, 0);
	if (!new)
		return -ENOMEM;
	frame_clear(new);
	race_point("mm_file:before_add");
	ret = get_page_or_add(file, index, new, page);
	if (*page != new)
		put_page(new);
	return ret;
}

bool mm_file_has_page(struct mm_file *file, u64 index, const struct page *page)
{
	return index < READ_ONCE(file->mapping.nr_pages) && READ_ONCE(file->mapping.pages[index]) == page;
}

struct page *mm_file_take(struct mm_file *file, u64 first, u64 last, u64 size)
{
	struct address_space *mapping = &file->mapping;
	struct page *taken = NULL;

	spin_lock(&mapping->pages_lock);
	if (size != MM_FILE_KEEP_SIZE)
		WRITE_ONCE(mapping->nr_pages, size);
	for (u64 index = first; index <= last && index < file->max_pages; index++) {
		struct page *page = mapping->pages[index];

		if (!page)
			continue;
		WRITE_ONCE(mapping->pages[index], NULL);
		page->chain = taken;
		taken = page;
	}
	spin_unlock(&mapping->pages_lock);
	return taken;
}

void mm_file_let_go(struct mm_file *file, struct page *taken)
{
	spin_lock(&file->mapping.pages_lock);
	for (struct page *page = taken; page; page = page->chain)
		WRITE_ONCE(page->mapping, NULL);
	spin_unlock(&file->mapping.pages_lock);
	while (taken) {
		struct page *next = taken->chain;

		put_page(taken);
		taken = next;
	}
}

bool mm_file_replace(struct page *old, struct page *new)
{
	struct mm_file *file = READ_ONCE(old->mapping);
	struct address_space *mapping;
	bool done;

	if (!file)
		return false;
	mapping = &file->mapping;
	spin_lock(&mapping->pages_lock);
	/* The file's reference and the caller's: nobody has another, and without pages_lock nobody gets one. */
	done = mapping->pages[old->index] == old && smp_load_acquire(&old->refcount) == 2 && !READ_ONCE(old->mapcount);
	if (done) {
		__builtin_memcpy(frame_address(new), frame_address(old), PAGE_SIZE);
		WRITE_ONCE(old->mapping, NULL);
		add_page_locked(file, old->index, new);
	}
	spin_unlock(&mapping->pages_lock);
	return done;
}
