/* SPDX-License-Identifier: MIT */
/*
 * The arena: a memfd, mapped once, that plays physical memory, and its frames.
 *
 * A frame is free (refcount 0, owned by the allocator) or has owners. It gets from
 * free to owned in frame_alloc_raw() and back in frame_release(), nowhere else.
 */
#include <sys/mman.h>
#include <unistd.h>

#include "lib/alloc.h"
#include "lib/race.h"
#include "mm/frame.h"
#include "mm/trace.h"
#include "notifier/notifier.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define ARENA_MIN_BYTES (1ul << 20)
#define CHUNK_FRAMES BIT(FRAME_CHUNK_ORDER)

static DEFINE_LOCK_CLASS(zone_lock_class, "zone_lock");
static DEFINE_LOCK_CLASS(retired_lock_class, "retired_lock");
static DEFINE_LOCK_CLASS(frame_cache_class, "frame_cache");

/* --- failure on demand ---------------------------------------------------- */

#if CHECKING
static __thread u64 fail_after;
static __thread bool failed;

void frame_fail_after(u64 n)
{
	fail_after = n;
	failed = false;
}

bool frame_failed(void)
{
	return failed;
}

static bool should_fail(void)
{
	if (likely(!fail_after) || --fail_after)
		return false;
	failed = true;
	return true;
}
#else
#define should_fail() false
#endif

/* --- arena ------------------------------------------------------------------ */

static int arena_map(struct frame_arena *arena, size_t bytes)
{
	void *base;
	int err;

	arena->fd = memfd_create("tain-arena", MFD_CLOEXEC);
	if (arena->fd < 0)
		return -errno;
	if (ftruncate(arena->fd, (off_t)bytes)) {
		err = -errno;
		goto close_fd;
	}
	base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, arena->fd, 0);
	if (base == MAP_FAILED) {
		err = -errno;
		goto close_fd;
	}
	madvise(base, bytes, MADV_HUGEPAGE); /* a wish */
	arena->base = base;
	return 0;

close_fd:
	close(arena->fd);
	return err;
}

static void arena_init_pages(struct frame_arena *arena)
{
	for (pfn_t pfn = 0; pfn < arena->nr_frames; pfn++)
		arena->pages[pfn].arena = arena;
	spin_lock_init(&arena->zone_lock, &zone_lock_class);
	spin_lock_init(&arena->retired_lock, &retired_lock_class);
	for (unsigned int i = 0; i < FRAME_CACHES; i++)
		spin_lock_init(&arena->caches[i].lock, &frame_cache_class);
	/* A small arena must not vanish into caches. Hostile mode: they are always empty or full. */
	arena->cache_batch = (u32)min(max(arena->nr_frames / 512, 1ul), PROVE ? 2ul : FRAME_CACHE_MAX / 2ul);
	spin_lock(&arena->zone_lock);
	buddy_init_locked(arena, 0);
	spin_unlock(&arena->zone_lock);
}

int frame_arena_create(size_t bytes, struct frame_arena **out)
{
	struct frame_arena *arena;
	int err;

	if (!out || bytes < ARENA_MIN_BYTES || !is_aligned(bytes, PAGE_SIZE) || bytes >> 46)
		return -EINVAL;
	arena = mem_alloc_aligned(CACHELINE, sizeof(*arena));
	if (!arena)
		return -ENOMEM;
	arena->nr_frames = bytes >> PAGE_SHIFT;
	err = -ENOMEM;
	arena->pages = mem_alloc_aligned(CACHELINE, arena->nr_frames * sizeof(struct page));
	if (!arena->pages)
		goto free_arena;
	arena->populated = mem_zalloc(arena->nr_frames / CHUNK_FRAMES + 1);
	if (!arena->populated)
		goto free_pages;
	err = quarantine_init(arena);
	if (err)
		goto free_populated;
	err = arena_map(arena, bytes);
	if (err)
		goto free_quarantine;
	arena_init_pages(arena);
	*out = arena;
	return 0;

free_quarantine:
	quarantine_destroy(arena);
free_populated:
	mem_free(arena->populated);
free_pages:
	mem_free(arena->pages);
free_arena:
	mem_free(arena);
	return err;
}

void frame_arena_destroy(struct frame_arena *arena)
{
	if (!arena)
		return;
	rcu_barrier();
#if CHECKING
	for (pfn_t pfn = 0; pfn < arena->nr_frames; pfn++) {
		struct page *page = frame_page(arena, pfn);

		/* invariant MM2: an arena ends with every frame returned */
		if (page_count(page) && !(page->flags & PG_RESERVED))
			BUG("frame %#llx still has %u references, flags %#x, when its arena ends",
			    (unsigned long long)pfn, page_count(page), page->flags);
	}
	frame_arena_verify(arena);
#endif
	munmap(arena->base, arena->nr_frames << PAGE_SHIFT);
	close(arena->fd);
	quarantine_destroy(arena);
	mem_free(arena->populated);
	mem_free(arena->pages);
	mem_free(arena);
}

void *frame_arena_base(struct frame_arena *arena)
{
	return arena->base;
}

size_t frame_arena_bytes(struct frame_arena *arena)
{
	return arena->nr_frames << PAGE_SHIFT;
}

size_t frame_arena_free_bytes(struct frame_arena *arena)
{
	u64 frames;

	/*
	 * What waits for a grace period is nobody's: who runs short waits for it. The lock,
	 * since RCU's thread may be half way through giving some back (free_tables_rcu()).
	 */
	spin_lock(&arena->retired_lock);
	spin_lock(&arena->zone_lock);
	frames = arena->nr_free + arena->quarantine_count;
	spin_unlock(&arena->zone_lock);
	frames += frame_cache_count(arena) + arena->nr_retired;
	spin_unlock(&arena->retired_lock);
	return frames << PAGE_SHIFT;
}

void frame_set_corruption_handler(struct frame_arena *arena, frame_corruption_fn fn, void *arg)
{
	arena->corruption_arg = arg;
	arena->corruption = fn;
}

int frame_reserve(struct frame_arena *arena, size_t bytes, pfn_t *first)
{
	u64 nr = bytes >> PAGE_SHIFT;
	int err = 0;

	if (!bytes || !is_aligned(bytes, PAGE_SIZE))
		return -EINVAL;
	spin_lock(&arena->zone_lock);
	if (arena->nr_free != arena->nr_frames - arena->nr_reserved)
		err = -EBUSY;
	else if (nr > arena->nr_free)
		err = -ENOMEM;
	if (!err) {
		*first = arena->nr_reserved;
		for (u64 i = 0; i < nr; i++) {
			struct page *page = frame_page(arena, *first + i);

			page->refcount = 1;
			page->flags = PG_RESERVED;
		}
		arena->nr_reserved += nr;
		buddy_init_locked(arena, arena->nr_reserved);
	}
	spin_unlock(&arena->zone_lock);
	return err;
}

/*
 * Have the host back the chunk of a frame that is used for the first time, 2 MiB in
 * one call, so that the faults measured are tain's and not the host's.
 */
static void populate(struct frame_arena *arena, u64 chunk)
{
	u64 first = chunk * CHUNK_FRAMES;
	u64 nr = min(CHUNK_FRAMES, arena->nr_frames - first);

	WRITE_ONCE(arena->populated[chunk], 1);
	/* Where the host cannot, its faults come one by one. */
	madvise(arena->base + (first << PAGE_SHIFT), nr << PAGE_SHIFT, MADV_POPULATE_WRITE);
}

void frame_arena_populate(struct frame_arena *arena)
{
	for (u64 chunk = 0; chunk * CHUNK_FRAMES < arena->nr_frames; chunk++) {
		if (!READ_ONCE(arena->populated[chunk]))
			populate(arena, chunk);
	}
}

/* --- allocation ------------------------------------------------------------- */

static struct page *zone_alloc(struct frame_arena *arena, unsigned int order)
{
	struct page *page;

	spin_lock(&arena->zone_lock);
	page = buddy_alloc_locked(arena, order);
	spin_unlock(&arena->zone_lock);
	return page;
}

/* Everything that is nobody's, back to the lists, and once more. */
static struct page *alloc_slow(struct frame_arena *arena, unsigned int order)
{
	mm_trace(FRAME_SHORT, order, frame_arena_free_bytes(arena), 0, 0);
	if (CHECKING)
		quarantine_drain(arena);
	frame_cache_drain(arena);
	return zone_alloc(arena, order);
}

struct page *frame_alloc_raw(struct frame_arena *arena, unsigned int order)
{
	struct page *page;

	if (should_fail())
		return NULL;
	page = order ? zone_alloc(arena, order) : frame_cache_alloc(arena);
	if (unlikely(!page))
		page = alloc_slow(arena, order);
	if (unlikely(!page))
		return NULL;
	ASSERT(page_count(page) == 0);
	if (unlikely(!READ_ONCE(arena->populated[frame_pfn(page) / CHUNK_FRAMES])))
		populate(arena, frame_pfn(page) / CHUNK_FRAMES);
	if (CHECKING)
		frame_unpoison(page, order);
	page->order = (u8)order;
	WRITE_ONCE(page->mapcount, 0);
	WRITE_ONCE(page->flags, 0);
	WRITE_ONCE(page->refcount, 1);
	return page;
}

struct page *frame_alloc(struct frame_arena *arena, unsigned int order)
{
	struct page *page = order <= FRAME_MAX_ORDER ? frame_alloc_raw(arena, order) : NULL;

	if (page)
		__builtin_memset(frame_address(page), 0, PAGE_SIZE << order);
	return page;
}

/* Order-0 frames without references go to the thread's cache; in checking builds, older ones in their place. */
static void free_single(struct frame_arena *arena, struct page **pages, unsigned int nr)
{
	if (CHECKING)
		nr = quarantine_pass(arena, pages, nr);
	if (nr)
		frame_cache_free(arena, pages, nr);
}

/* The last reference is gone. */
static void frame_release(struct page *page)
{
	struct frame_arena *arena = page->arena;
	unsigned int order = page->order;

	ASSERT(READ_ONCE(page->mapcount) == 0); /* invariant MM4: no entry reaches a free frame */
	if (CHECKING)
		frame_poison(page, order);
	if (order) {
		spin_lock(&arena->zone_lock);
		buddy_free_locked(arena, page, order);
		spin_unlock(&arena->zone_lock);
	} else {
		free_single(arena, &page, 1);
	}
}

static bool page_put_testzero(struct page *page)
{
	u32 old = fetch_add(&page->refcount, (u32)-1);

	ASSERT(old != 0); /* invariant MM3 */
	return old == 1;
}

void frame_free(struct page *page, unsigned int order)
{
	ASSERT(page->order == order);
	ASSERT(page_count(page) == 1);
	WRITE_ONCE(page->refcount, 0);
	frame_release(page);
}

void put_pages(struct frame_arena *arena, struct page **pages, unsigned int nr)
{
	unsigned int free = 0;

	for (unsigned int i = 0; i < nr; i++) {
		struct page *page = pages[i];

		if (!page_put_testzero(page))
			continue;
		ASSERT(page->order == 0 && READ_ONCE(page->mapcount) == 0);
		if (CHECKING)
			frame_poison(page, 0);
		pages[free++] = page;
	}
	if (free)
		free_single(arena, pages, free);
}

/* --- page tables on their way out --------------------------------------------- */

static void free_tables(struct frame_arena *arena, struct page *chain)
{
	while (chain) {
		struct page *next = chain->chain;

		put_pages(arena, &chain, 1);
		chain = next;
	}
}

/*
 * Under the lock: a count in the middle would find the tables twice, and later miss
 * what was never there (test count_meets_grace_period).
 */
static void free_tables_rcu(struct rcu_head *head)
{
	struct page *chain = container_of(head, struct page, rcu);
	struct frame_arena *arena = chain->arena;
	u64 nr = 0;

	for (struct page *page = chain; page; page = page->chain)
		nr++;
	spin_lock(&arena->retired_lock);
	free_tables(arena, chain);
	race_point("frame:tables_given_back");
	WRITE_ONCE(arena->nr_retired, arena->nr_retired - nr);
	spin_unlock(&arena->retired_lock);
}

void frame_retire_tables(struct frame_arena *arena, struct page *chain, bool deferred)
{
	u64 nr = 0;

	if (!chain)
		return;
	if (!deferred) {
		free_tables(arena, chain);
		return;
	}
	for (struct page *page = chain; page; page = page->chain)
		nr++;
	spin_lock(&arena->retired_lock);
	WRITE_ONCE(arena->nr_retired, arena->nr_retired + nr);
	spin_unlock(&arena->retired_lock);
	call_rcu(&chain->rcu, free_tables_rcu);
}

struct page *frame_alloc_wait(struct frame_arena *arena, unsigned int order)
{
	struct page *page;

	mmu_notifier_might_reclaim(); /* rule I7; frame_alloc() is for those who may not */
	page = frame_alloc_raw(arena, order);
	if (unlikely(!page) && READ_ONCE(arena->nr_retired)) {
		rcu_barrier();
		page = frame_alloc_raw(arena, order);
	}
	return page;
}

/* --- the door ------------------------------------------------------------------ */

struct page *pfn_to_page(struct frame_arena *arena, pfn_t pfn)
{
	ASSERT(pfn < arena->nr_frames);
	return frame_page(arena, pfn);
}

pfn_t page_to_pfn(const struct page *page)
{
	return frame_pfn(page);
}

void *page_address(const struct page *page)
{
	return frame_address(page);
}

void get_page(struct page *page)
{
	frame_get(page);
}

void put_page(struct page *page)
{
	if (page_put_testzero(page))
		frame_release(page);
}

void set_pages_accessed(struct frame_arena *arena, pfn_t first, u64 nr, bool dirty)
{
	for (u64 i = 0; i < nr; i++)
		page_set_flag(pfn_to_page(arena, first + i), PG_ACCESSED | (dirty ? PG_DIRTY : 0));
}
