/* SPDX-License-Identifier: MIT */
/*
 * A registration cache, as RDMA and GPU libraries keep one: a buffer is registered
 * (its pages held, their addresses given to the device) at its first transfer, and the
 * registration is kept for the next. When the application unmaps the buffer and maps
 * another at the same address, the device must not go on with the old pages.
 *
 *   make && ./regcache                     subscribes to the address space: stays right, exit 0
 *   ./regcache --ignore-notifier           does not: sends old data, exit 1
 *
 * Exit 2: it could not run.
 */
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <tain/mm.h>
#include <tain/notifier.h>

#define PAGE 4096
#define BUFFER 0x10000000ull
#define BUFFER_PAGES 4
#define BUFFER_BYTES (BUFFER_PAGES * PAGE)
#define REPLY 1000000
#define BUFFERS 2000 /* one after the other, all at the same address */

/* --- the cache ------------------------------------------------------------------------ */

struct region {
	hva_t start, end;
	unsigned int users; /* transfers under way */
	bool cached;	    /* else its last user frees it */
	struct region *next;
	struct mm_pin pin[]; /* per page: what the device was given */
};

struct cache {
	struct mm_struct *mm;
	struct mmu_notifier notifier;
	pthread_mutex_t lock; /* guards all below; callbacks take it, so no call into the mm is made under it */
	pthread_cond_t closed;
	struct region *regions;
	unsigned long sections; /* open now */
	unsigned long seq;	/* sections that ended */
	unsigned long hits, misses, retries, dropped;
};

static void region_free(struct region *r)
{
	for (hva_t at = r->start; at < r->end; at += PAGE)
		mm_unpin(&r->pin[(at - r->start) / PAGE]);
	free(r);
}

/* Forget what overlaps [start, end). Whoever is in a transfer keeps its pages until it is done, and nobody joins. */
static void forget_locked(struct cache *c, hva_t start, hva_t end)
{
	for (struct region **at = &c->regions; *at;) {
		struct region *r = *at;

		if (r->end <= start || r->start >= end) {
			at = &r->next;
			continue;
		}
		*at = r->next;
		r->cached = false;
		c->dropped++;
		if (!r->users)
			region_free(r);
	}
}

static struct cache *cache_of(struct mmu_notifier *n)
{
	return (struct cache *)((char *)n - offsetof(struct cache, notifier));
}

/* The mapping of the range is about to change: from here to the end nothing of it may be cached. */
static int range_start(struct mmu_notifier *n, const struct mmu_notifier_range *range)
{
	struct cache *c = cache_of(n);

	pthread_mutex_lock(&c->lock);
	c->sections++;
	forget_locked(c, range->start, range->end);
	pthread_mutex_unlock(&c->lock);
	return 0;
}

static void range_end(struct mmu_notifier *n, const struct mmu_notifier_range *range)
{
	struct cache *c = cache_of(n);

	pthread_mutex_lock(&c->lock);
	c->seq++;
	if (!--c->sections)
		pthread_cond_broadcast(&c->closed);
	pthread_mutex_unlock(&c->lock);
}

/* The address space ends. */
static void release(struct mmu_notifier *n, struct notifier_mm *mm)
{
	struct cache *c = cache_of(n);

	pthread_mutex_lock(&c->lock);
	forget_locked(c, 0, TAIN_TASK_SIZE);
	pthread_mutex_unlock(&c->lock);
}

static const struct mmu_notifier_ops cache_ops = {
	.release = release,
	.invalidate_range_start = range_start,
	.invalidate_range_end = range_end,
};

static int cache_init(struct cache *c, struct mm_struct *mm, bool subscribe)
{
	memset(c, 0, sizeof(*c));
	c->mm = mm;
	c->notifier.ops = &cache_ops;
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->closed, NULL);
	return subscribe ? mmu_notifier_register(&c->notifier, mm_notifier(mm)) : 0;
}

static void cache_destroy(struct cache *c, bool subscribed)
{
	if (subscribed)
		mmu_notifier_unregister(&c->notifier, mm_notifier(c->mm));
	forget_locked(c, 0, TAIN_TASK_SIZE);
	pthread_mutex_destroy(&c->lock);
	pthread_cond_destroy(&c->closed);
}

static struct region *find_locked(struct cache *c, hva_t start, hva_t end)
{
	for (struct region *r = c->regions; r; r = r->next)
		if (r->start <= start && end <= r->end)
			return r;
	return NULL;
}

/* Register with the device: hold every page. No lock: this may fault, and a section may open meanwhile. */
static struct region *region_make(struct cache *c, hva_t start, hva_t end, int *err)
{
	struct region *r = calloc(1, sizeof(*r) + (end - start) / PAGE * sizeof(r->pin[0]));

	*err = r ? 0 : -ENOMEM;
	if (!r)
		return NULL;
	r->start = start;
	r->users = 1;
	for (r->end = start; r->end < end; r->end += PAGE) {
		*err = mm_pin(c->mm, r->end, TAIN_PROT_READ | TAIN_PROT_WRITE, &r->pin[(r->end - start) / PAGE]);
		if (*err) {
			region_free(r);
			return NULL;
		}
	}
	return r;
}

/*
 * The registration of [start, end), from the cache or new. Return: NULL with *err: -EFAULT
 * where nothing is mapped.
 *
 *   get                                         the application unmaps
 *   ---                                         ----------------------
 *   seq = c->seq; no section is open
 *   pin the pages: the old ones                 start: sections++; nothing cached, nothing to forget
 *                                               unmap
 *                                               end: seq++, sections--
 *   lock: seq has changed: unpin, try again     (without this the old pages would stay for ever)
 */
static struct region *cache_get(struct cache *c, hva_t start, hva_t end, int *err)
{
	struct region *r;
	unsigned long seq;

	pthread_mutex_lock(&c->lock);
	for (;;) {
		r = find_locked(c, start, end);
		if (r) {
			r->users++;
			c->hits++;
			break;
		}
		while (c->sections)
			pthread_cond_wait(&c->closed, &c->lock);
		seq = c->seq;
		pthread_mutex_unlock(&c->lock);
		r = region_make(c, start, end, err);
		pthread_mutex_lock(&c->lock);
		if (!r)
			break;
		if (!c->sections && c->seq == seq) {
			r->cached = true;
			r->next = c->regions;
			c->regions = r;
			c->misses++;
			break;
		}
		c->retries++;
		region_free(r);
	}
	pthread_mutex_unlock(&c->lock);
	return r;
}

static void cache_put(struct cache *c, struct region *r)
{
	pthread_mutex_lock(&c->lock);
	if (!--r->users && !r->cached)
		region_free(r);
	pthread_mutex_unlock(&c->lock);
}

/* --- the device: knows pages, no address space ---------------------------------------------- */

static unsigned long long device_read(struct region *r, size_t at)
{
	return *(unsigned long long *)((char *)r->pin[at / PAGE].data + at % PAGE);
}

static void device_write(struct region *r, size_t at, unsigned long long value)
{
	*(unsigned long long *)((char *)r->pin[at / PAGE].data + at % PAGE) = value;
}

/* --- the application -------------------------------------------------------------------------- */

struct application {
	struct mm_struct *mm;
	struct cache cache;
	unsigned long long words[BUFFER_BYTES / sizeof(unsigned long long)];
	bool done; /* atomic */
};

/* Send the buffer, whose words are all @value, and receive @value + REPLY into it. Return: 0; 1: stale; -errno. */
static int transfer(struct application *a, unsigned long long value)
{
	struct region *r;
	int err, stale = 0;

	r = cache_get(&a->cache, BUFFER, BUFFER + BUFFER_BYTES, &err);
	if (!r)
		return err;
	for (size_t at = 0; at < BUFFER_BYTES && !stale; at += sizeof(value)) {
		if (device_read(r, at) != value) {
			printf("stale: the buffer holds %llu and the device sent %llu: it has pages of a mapping that "
			       "is gone\n",
			       value, device_read(r, at));
			stale = 1;
		}
		device_write(r, at, value + REPLY);
	}
	cache_put(&a->cache, r);
	err = mm_copy_from(a->mm, a->words, BUFFER, BUFFER_BYTES);
	if (err)
		return err;
	if (a->words[0] != value + REPLY) {
		printf("stale: the device received %llu, and the buffer holds %llu: it wrote to pages that are gone\n",
		       value + REPLY, a->words[0]);
		stale = 1;
	}
	return stale;
}

/* A new buffer at the old address, two transfers, gone again. Return: as transfer(). */
static int one_buffer(struct application *a, unsigned long long value)
{
	int ret = mm_mmap(a->mm, BUFFER, BUFFER_BYTES, TAIN_PROT_READ | TAIN_PROT_WRITE, TAIN_MAP_FIXED, NULL);

	for (int turn = 0; turn < 2 && !ret; turn++) {
		unsigned long long word = 2 * value + turn;

		for (size_t i = 0; i < BUFFER_BYTES / sizeof(word); i++)
			a->words[i] = word;
		ret = mm_copy_to(a->mm, BUFFER, a->words, BUFFER_BYTES);
		ret = ret ? ret : transfer(a, word);
	}
	return ret ? ret : mm_munmap(a->mm, BUFFER, BUFFER_BYTES);
}

/* Another thread uses the cache all the time, so that registrations race with the unmapping. */
static void *bystander(void *arg)
{
	struct application *a = arg;

	while (!__atomic_load_n(&a->done, __ATOMIC_RELAXED)) {
		int err;
		struct region *r = cache_get(&a->cache, BUFFER, BUFFER + BUFFER_BYTES, &err);

		if (r)
			cache_put(&a->cache, r);
	}
	return NULL;
}

static int run(struct application *a)
{
	pthread_t thread;
	int ret = -pthread_create(&thread, NULL, bystander, a);

	if (ret)
		return ret;
	for (unsigned long long i = 1; i <= BUFFERS && !ret; i++)
		ret = one_buffer(a, i);
	__atomic_store_n(&a->done, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	return ret;
}

int main(int argc, char **argv)
{
	bool subscribe = argc == 1;
	static struct application a;
	struct frame_arena *arena;
	int ret;

	if (argc > 2 || (argc == 2 && strcmp(argv[1], "--ignore-notifier"))) {
		fprintf(stderr, "usage: %s [--ignore-notifier]\n", argv[0]);
		return 2;
	}
	ret = frame_arena_create(8 << 20, &arena);
	ret = ret ? ret : mm_create(arena, "mmap_sem", &a.mm);
	ret = ret ? ret : cache_init(&a.cache, a.mm, subscribe);
	if (ret) {
		fprintf(stderr, "regcache: %s\n", strerror(-ret));
		return 2;
	}
	ret = run(&a);
	cache_destroy(&a.cache, subscribe);
	mmput(a.mm);
	frame_arena_destroy(arena);
	if (ret < 0) {
		fprintf(stderr, "regcache: %s\n", strerror(-ret));
		return 2;
	}
	printf("regcache, notifier %s: %lu hits, %lu registrations, %lu of them dropped by it, %lu tried again: %s\n",
	       subscribe ? "obeyed" : "ignored", a.cache.hits, a.cache.misses, subscribe ? a.cache.dropped : 0,
	       a.cache.retries, ret ? "STALE" : "right");
	return ret;
}
