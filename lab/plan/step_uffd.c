/* SPDX-License-Identifier: MIT */
/*
 * Steps under userfaultfd. A range is registered for the length of one step; its faults
 * are resolved by a handler thread, or by the vCPU's own (lab/uffd/uffd.h). With a handler
 * thread the kernel tells of REMOVE, UNMAP and REMAP too, and faults race with these.
 */
#include "lab/plan/step_uffd.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lab/plan/step_internal.h"
#include "lab/system/pagemap.h"
#include "lib/alloc.h"
#include "lib/atomic.h"
#include "lib/race.h"
#include "lib/thread.h"
#include "lib/time.h"

struct step_uffd {
	struct host *host;
	enum uffd_placement placement;
	struct uffd uffd[UFFD_MODE_NR];
	bool open[UFFD_MODE_NR];
	struct uffd *active; /* of the step under way; NULL: none. Stored with release */
	u32 inside;	     /* vCPUs in step_uffd_fault(); atomic */
	char *source;	     /* MISSING: what a page of DATA will hold, as far from the start as there */
	u64 bytes;	     /* of the place that DATA's ranges lie in */
	u64 *noted;	     /* a bit per page of DATA: a fault of it has been resolved, or is about to be; atomic */
	u64 pages;
};

struct step_uffd *step_uffd_create(struct host *host, enum uffd_placement placement)
{
	struct step_uffd *su = mem_zalloc(sizeof(*su));

	if (!su)
		return NULL;
	su->host = host;
	su->placement = placement;
	su->pages = host->bytes / PAGE_SIZE;
	su->bytes = max(host->ranges, 1u) * host->stride;
	su->noted = mem_zalloc((su->pages + 63) / 64 * sizeof(*su->noted));
	su->source = mmap(NULL, su->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (su->source == MAP_FAILED)
		su->source = NULL;
	else
		madvise(su->source, su->bytes, MADV_NOHUGEPAGE);
	if (su->noted && su->source)
		return su;
	step_uffd_destroy(su);
	return NULL;
}

void step_uffd_destroy(struct step_uffd *su)
{
	if (!su)
		return;
	for (int mode = 0; mode < UFFD_MODE_NR; mode++) {
		if (!su->open[mode])
			continue;
		uffd_close(&su->uffd[mode]);
		uffd_destroy(&su->uffd[mode]);
	}
	if (su->source)
		munmap(su->source, su->bytes);
	mem_free(su->noted);
	mem_free(su);
}

bool step_uffd_fault(struct step_uffd *su, u64 off)
{
	int ret = -ENOENT;
	struct uffd *u;

	fetch_add(&su->inside, 1);	   /* before the load: pairs with the barrier in leave() */
	u = smp_load_acquire(&su->active); /* pairs with the release in begin() */
	if (u)
		race_point("uffd:inline");
	if (u && off < su->host->bytes)
		ret = uffd_resolve(u, host_addr(su->host, off));
	fetch_add(&su->inside, (u32)-1);
	return !ret || ret == -EAGAIN;
}

/*
 * The range is unregistered: nobody has a fault of it any more, read or under way. One that
 * were late would be resolved in the next registration, noted before note_none().
 *
 *   vCPU, inline                host
 *   inside; load active
 *                               unregister; active = NULL; barrier; wait for inside
 *   note the page
 *   resolve it: ENOENT
 *   not inside                  the next step: note_none(), register
 */
static void leave(struct step_uffd *su, struct uffd *u)
{
	WRITE_ONCE(su->active, NULL);
	smp_mb(); /* store active, load inside: pairs with fetch_add() in step_uffd_fault() */
	while (smp_load_acquire(&su->inside)) /* pairs with its end */
		thread_sleep_ns(20 * NSEC_PER_USEC);
	uffd_quiesce(u);
	race_point("uffd:left");
}

u64 step_uffd_counted(struct step_uffd *su, enum uffd_count what)
{
	u64 sum = 0;

	for (int mode = 0; mode < UFFD_MODE_NR; mode++)
		sum += su->open[mode] ? uffd_counted(&su->uffd[mode], what) : 0;
	return sum;
}

/* DATA's page at @addr of the host. */
static u64 page_at(const struct step_uffd *su, hva_t addr)
{
	const struct host *h = su->host;
	u64 from = addr - h->data, each = host_range_bytes(h);

	if (h->ranges <= 1)
		return from / PAGE_SIZE;
	return ((h->ranges - 1 - from / h->stride) * each + from % h->stride) / PAGE_SIZE;
}

/* Before the page is there, or writable: who sees that, sees the bit. */
static void note_page(hva_t addr, void *arg)
{
	struct step_uffd *su = arg;
	u64 page = page_at(su, addr);

	if (page < su->pages)
		fetch_or(&su->noted[page / 64], 1ull << page % 64);
}

static int open_mode(struct oracle *o, enum uffd_mode mode, struct uffd **u)
{
	struct step_uffd *su = o->uffd;
	struct uffd_config c = {
		.mode = mode,
		.cpu = -1,
		.window = 1,
		.events = true,
	};
	int ret;

	if (!su || o->host->mm)
		return err_set(&o->why, -EOPNOTSUPP, "userfaultfd is Linux's; use --engine kvm");
	if (host_backing_table[o->host->backing].granule != PAGE_SIZE)
		return err_set(&o->why, -EOPNOTSUPP, "its handler here brings pages of 4K");
	*u = &su->uffd[mode];
	if (su->open[mode])
		return 0;
	c.placement = su->placement;
	c.start = o->host->data;
	c.bytes = su->bytes;
	c.source = mode == UFFD_MISSING ? su->source : NULL;
	c.shared = host_backing_table[o->host->backing].kind == BACKING_SHARED;
	c.resolving = note_page;
	c.arg = su;
	ret = uffd_open(*u, &c, &o->why);
	su->open[mode] = !ret;
	return ret ? -EOPNOTSUPP : 0;
}

static int begin(struct oracle *o, const struct plan_step *s, struct uffd *u)
{
	int ret;

	/* Before there can be a fault, or the first would find nobody. Pairs with the acquire in step_uffd_fault(). */
	smp_store_release(&o->uffd->active, u);
	ret = uffd_register(u, host_addr(o->host, off_of(s)), len_of(s));
	if (!ret)
		return 0;
	leave(o->uffd, u); /* nothing is registered, but who has looked may still come */
	return err_set(&o->why, ret == -EINVAL ? -EOPNOTSUPP : ret,
		       "userfaultfd %s: this memory cannot be registered: %s", uffd_mode_names[u->config.mode],
		       strerror(-ret));
}

/*
 * Every page of the range as its faults would leave it, then no faults any more. EAGAIN is of a change
 * of the address space by another thread: it ends, and nobody but this one makes the next.
 */
static int end(struct oracle *o, const struct plan_step *s, struct uffd *u)
{
	int ret = 0;

	for (u64 off = off_of(s); off < off_of(s) + len_of(s) && !ret; off += PAGE_SIZE)
		do
			ret = uffd_resolve(u, host_addr(o->host, off));
		while (ret == -EAGAIN);
	if (!ret)
		ret = uffd_unregister(u, host_addr(o->host, off_of(s)), len_of(s));
	leave(o->uffd, u);
	return ret ? err_set(&o->why, ret, "userfaultfd %s: %s", uffd_mode_names[u->config.mode], strerror(-ret)) : 0;
}

static char *source_of(struct oracle *o, u64 page)
{
	return o->uffd->source + (host_addr(o->host, page * PAGE_SIZE) - o->host->data);
}

static void fill_source(struct oracle *o, const struct plan_step *s)
{
	for (u64 i = s->first; i < s->first + s->pages; i++) {
		u64 *at = (u64 *)source_of(o, i), stamp = guest_stamp(i, o->generation[i] + 1);

		for (unsigned int j = 0; j < GUEST_STAMPS; j++)
			at[(GUEST_STAMP_OFFSET + j * GUEST_STAMP_STRIDE) / sizeof(u64)] = stamp;
	}
}

/* Away at once: whoever looks next faults. Shared memory has to lose its pages, not its entries alone. */
static int drop(struct oracle *o, const struct plan_step *s)
{
	const struct host_ops *ops = o->host->ops;
	int ret;

	if (host_backing_table[o->host->backing].kind != BACKING_SHARED)
		return ops->dontneed(o->host, off_of(s), len_of(s));
	ret = ops->begin(o->host, OP_REMOVE, off_of(s), len_of(s), &o->why);
	return ret ?: ops->end(o->host, &o->why);
}

static void note_none(struct step_uffd *su)
{
	for (u64 i = 0; i < (su->pages + 63) / 64; i++)
		WRITE_ONCE(su->noted[i], 0);
}

/*
 * Did a page stay that no fault brought? Linux cannot always split a huge page of shared
 * memory; it zeroes the part that was to go, and that part is there. Present first, then
 * noted: what a fault brings meanwhile is not taken for it.
 *
 *   here                        handler
 *                               note the page; fill it
 *   present?  yes
 *   noted?    yes: a fault's
 */
static bool something_stayed(struct oracle *o, const struct plan_step *s)
{
	const u64 *noted = o->uffd->noted;
	unsigned char here;

	for (u64 page = s->first; page < s->first + s->pages; page++) {
		if (mincore((void *)(uintptr_t)host_addr(o->host, page * PAGE_SIZE), PAGE_SIZE, &here) || !(here & 1))
			continue;
		if (!(smp_load_acquire(&noted[page / 64]) >> page % 64 & 1)) /* pairs with note_page() */
			return true;
	}
	return false;
}

/* The range is unmapped while it is registered; what stands there then is registered again. */
static int replace(struct oracle *o, const struct plan_step *s, struct uffd *u)
{
	const struct host_ops *ops = o->host->ops;
	int ret = ops->unmap(o->host, off_of(s), len_of(s));

	if (ret)
		return ret;
	oracle_require(o, s->first, s->pages);
	ret = watch_limbo(o, s);
	ret = ret ?: ops->map(o->host, off_of(s), len_of(s));
	return ret ?: uffd_register(u, host_addr(o->host, off_of(s)), len_of(s));
}

/*
 * The source holds stamps of g+1, and nothing else can bring a page:
 *
 *   announce g+1, register      g; g+1 where a page was not there
 *   drop the contents           g or g+1
 *   require g+1                 g+1, and no zeros: each page comes through a fault
 *   hold
 *   bring the others, unregister
 *
 * With fresh, the range is unmapped and mapped instead. Until it is registered again, a
 * page may come as zeros: as after munmap, require g+1 or zero, and stamp at the end. The
 * same for a private mapping of a file, where a page that the file itself has is not
 * missing, and for a part of a huge page that stayed.
 */
int step_uffd_missing(struct oracle *o, const struct plan_step *s)
{
	bool exact = !s->fresh && host_backing_table[o->host->backing].kind != BACKING_PRIVATE;
	struct uffd *u;
	int ret = open_mode(o, UFFD_MISSING, &u);

	if (ret)
		return ret;
	fill_source(o, s);
	note_none(o->uffd);
	oracle_announce(o, s->first, s->pages);
	ret = begin(o, s, u);
	if (ret)
		return step_refused(o, s, true, ret);
	ret = s->fresh ? replace(o, s, u) : drop(o, s);
	if (ret)
		return ret;
	exact = exact && !something_stayed(o, s);
	if (exact)
		oracle_promise(o, s->first, s->pages);
	else
		oracle_require(o, s->first, s->pages);
	hold(s);
	if (o->host->limbo != LIMBO_NONE)
		ret = oracle_compare(o, true);
	ret = ret ?: end(o, s, u);
	madvise(source_of(o, s->first), len_of(s), MADV_DONTNEED);
	if (ret || exact)
		return ret;
	ret = oracle_stamp(o, s->first, s->pages);
	oracle_require(o, s->first, s->pages);
	return ret ?: o->host->ops->release(o->host);
}

/* @seen: a bit per page of DATA on which something is that only a fault brings; @what says so. */
static void report_lost_faults(struct oracle *o, const struct plan_step *s, const u64 *seen, const char *what)
{
	const u64 *noted = o->uffd->noted;

	for (u64 page = s->first; page < s->first + s->pages; page++)
		if ((seen[page / 64] & ~READ_ONCE(noted[page / 64])) >> page % 64 & 1)
			oracle_report(o, VIOLATION_LOST_FAULT, page, VIOLATION_NO_VCPU, 0, 0, what);
}

/* Of the step's pages those that the file holds in memory, or that have an entry: a bit each. Return: 0; -errno. */
static int pages_here(struct oracle *o, const struct plan_step *s, bool entries, u64 *here)
{
	int fd = entries ? pagemap_open(0) : -1, ret = entries && fd < 0 ? fd : 0;

	for (u64 page = s->first; page < s->first + s->pages && !ret; page++) {
		hva_t at = host_addr(o->host, page * PAGE_SIZE);
		unsigned char in = 0;
		u64 entry = 0;

		if (!entries)
			ret = mincore((void *)(uintptr_t)at, PAGE_SIZE, &in) ? -errno : 0;
		else if (pagemap_read(fd, at, 1, &entry) != 1)
			ret = -EIO;
		if (in & 1 || entry & PM_PRESENT)
			here[page / 64] |= 1ull << page % 64;
	}
	if (fd >= 0)
		close(fd);
	return ret;
}

/*
 * Present first, then noted, as in something_stayed(). @cached: what the file held before; the
 * rest comes without a minor fault. Where nobody can tell, nothing is reported.
 */
static int report_lost_minor(struct oracle *o, const struct plan_step *s, const u64 *cached)
{
	u64 words = (o->pages + 63) / 64, *present = mem_zalloc(words * sizeof(*present));

	if (!present)
		return -ENOMEM;
	if (!pages_here(o, s, true, present)) {
		smp_mb();		  /* pairs with note_page() */
		if (CHECKING && s->plant) /* a handler that forgets */
			note_none(o->uffd);
		for (u64 i = 0; i < words; i++)
			present[i] &= cached[i];
		report_lost_faults(o, s, present, "its entry came without the fault that would have made it");
	}
	mem_free(present);
	return 0;
}

static int drop_and_look(struct oracle *o, const struct plan_step *s, struct uffd *u, const u64 *cached)
{
	int ret = o->host->ops->dontneed(o->host, off_of(s), len_of(s)), last;

	if (!ret) {
		hold(s);
		ret = report_lost_minor(o, s, cached);
	}
	/* A page that is not in the page cache yet comes by touching it, and there is nothing to resolve. */
	last = uffd_unregister(u, host_addr(o->host, off_of(s)), len_of(s));
	leave(o->uffd, u);
	return ret ?: last;
}

/*
 * Contents are kept (O2): they stay in the page cache, their entries go.
 *
 *   host                        handler                     guest
 *   in the page cache?
 *   noted = none, register
 *   dontneed                                                g, through faults
 *   hold                                                    fault
 *                               note the page
 *                               make its entry              g
 *   has it an entry?
 *   noted?                      if not, the entry was made without a fault
 *   unregister
 *
 * Faults from before the registration are over when dontneed takes all entries. From then on a
 * page of the page cache, or of swap, gets one from the handler alone: the kernel maps no
 * neighbours where minor faults are told.
 */
int step_uffd_minor(struct oracle *o, const struct plan_step *s)
{
	struct uffd *u;
	u64 *cached;
	int ret;

	if (!host_backing_table[o->host->backing].keeps)
		return err_set(&o->why, -EOPNOTSUPP, "a minor fault wants shared memory");
	ret = open_mode(o, UFFD_MINOR, &u);
	if (ret)
		return step_refused(o, s, false, ret);
	cached = mem_zalloc((o->pages + 63) / 64 * sizeof(*cached));
	if (!cached)
		return -ENOMEM;
	ret = pages_here(o, s, false, cached);
	if (ret)
		err_set(&o->why, ret, "mincore: %s", strerror(-ret));
	note_none(o->uffd);
	ret = ret ?: begin(o, s, u);
	ret = ret ? step_refused(o, s, false, ret) : drop_and_look(o, s, u, cached);
	mem_free(cached);
	return ret;
}

/*
 * Contents are kept (O2). Each vCPU writes its own slots, the host none.
 *
 *   host                        guest
 *   register, touch every page
 *   noted = none, protect       a write that lands from now on needs a page that was noted
 *   snapshot of the slots
 *   hold                        writes w: fault; noted |= page, then the page is writable; w lands
 *   look again: who wrote?      w was written after the snapshot
 *   noted?                      if not, w landed without its fault
 *   unprotect, unregister
 */
static int protect_and_look(struct oracle *o, const struct plan_step *s, struct uffd *u, u64 *written)
{
	struct step_uffd *su = o->uffd;
	int ret;

	note_none(su);
	ret = uffd_protect(u, host_addr(o->host, off_of(s)), len_of(s));
	ret = ret ?: oracle_snapshot(o, false, s->first, s->pages);
	if (ret)
		return ret;
	hold(s);
	ret = oracle_written(o, written);
	if (CHECKING && s->plant) /* a handler that forgets */
		note_none(su);
	if (!ret)
		report_lost_faults(o, s, written,
				   "written after its protection and before the fault that would have allowed it");
	return ret;
}

int step_uffd_wp(struct oracle *o, const struct plan_step *s)
{
	struct uffd *u;
	u64 *written;
	int ret = open_mode(o, UFFD_WP, &u), last;

	if (ret)
		return ret;
	written = mem_zalloc((o->pages + 63) / 64 * sizeof(*written));
	if (!written)
		return -ENOMEM;
	ret = begin(o, s, u);
	if (ret) {
		mem_free(written);
		return step_refused(o, s, false, ret);
	}
	/* What is not there cannot be protected. */
	ret = o->host->ops->populate(o->host, off_of(s), len_of(s));
	ret = ret ?: protect_and_look(o, s, u, written);
	last = end(o, s, u);
	mem_free(written);
	return ret ?: last;
}
