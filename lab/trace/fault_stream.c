/* SPDX-License-Identifier: MIT */
/* From the kernel's events to faults: one small machine per thread. */
#include "lab/trace/fault_stream.h"

#include <string.h>

#include "lib/alloc.h"

/* Bits of an x86 page fault's error code, which kvm_page_fault and the walk carry. */
#define PFERR_PRESENT BIT(0)
#define PFERR_WRITE BIT(1)
#define PFERR_FETCH BIT(4)
/* Of an EPT violation's exit qualification: what was asked for, and what the entry allowed. */
#define QUALIFICATION_WRITE BIT(1)
#define QUALIFICATION_FETCH BIT(2)
#define QUALIFICATION_PRESENT (7 * BIT(3))

/* Of an entry, in all formats: readable or present, writable, executable or user. */
#define SPTE_PRESENT 7ull
#define SPTE_LARGE BIT(7)

#define NEW_THREAD 0x10000u /* CLONE_THREAD: of its parent's process */
#define TASK_BLOCKED 0xffu  /* prev_state: any of these, and it waits for something */
#define RSS_SWAPENTS 2	    /* MM_SWAPENTS */

enum fault_state { FAULT_NONE, FAULT_OPEN, FAULT_REQUESTED, FAULT_SET };

struct fault_thread {
	u32 tid;
	u32 space;
	enum fault_state state;
	u64 attempt_ns; /* when it was opened, or last retried */
	bool present;	/* an entry was there, and forbade the access */
	bool allocated, unmapped, mapped, swapped;
	hva_t unmap_start, unmap_end; /* what it invalidated itself last, and who had done so before this fault */
	struct invalidation before;
	u64 off_ns; /* since when it is not on a processor; 0: it is */
	bool blocked;
	struct fault fault;
};

int fault_stream_init(struct fault_stream *s, const struct fault_stream_config *config)
{
	int ret;

	*s = (struct fault_stream){ .config = *config };
	ret = fault_pages_init(&s->pages);
	return ret ?: invalidations_init(&s->invalid);
}

void fault_stream_destroy(struct fault_stream *s)
{
	if (s->pages.slot)
		fault_pages_destroy(&s->pages);
	if (s->invalid.slot)
		invalidations_destroy(&s->invalid);
	mem_free(s->threads);
	s->threads = NULL;
}

/* A VMM has a few threads; the one that was looked for last comes first. */
static struct fault_thread *thread_find(const struct fault_stream *s, u32 tid)
{
	for (u32 i = 0; i < s->nr_threads; i++)
		if (s->threads[i].tid == tid)
			return &s->threads[i];
	return NULL;
}

u32 fault_stream_space(const struct fault_stream *s, u32 tid)
{
	const struct fault_thread *t = thread_find(s, tid);

	return t ? t->space : 0;
}

static struct fault_thread *thread_get(struct fault_stream *s, u32 tid)
{
	struct fault_thread *t = thread_find(s, tid), *more;
	u32 max = s->max_threads ? s->max_threads * 2 : 16;

	if (t)
		return t;
	if (s->nr_threads == s->max_threads) {
		more = mem_zalloc(max * sizeof(*more));
		if (!more)
			return NULL;
		if (s->nr_threads)
			memcpy(more, s->threads, s->nr_threads * sizeof(*more));
		mem_free(s->threads);
		s->threads = more;
		s->max_threads = max;
	}
	t = &s->threads[s->nr_threads++];
	*t = (struct fault_thread){ .tid = tid };
	return t;
}

/* --- the life of a fault ---------------------------------------------------------------- */

/* Has this fault invalidated any of the @pages pages at @hva? */
static bool unmapped_itself(const struct fault_thread *t, hva_t hva, u64 pages)
{
	return t->unmapped && t->unmap_start < hva + pages * PAGE_SIZE && hva < t->unmap_end;
}

static enum fault_host host_share(const struct fault_stream *s, const struct fault_thread *t)
{
	if (t->swapped)
		return FAULT_HOST_SWAPPED;
	/* What else it invalidated was to get memory: reclaim, compaction. */
	if (t->allocated)
		return unmapped_itself(t, t->fault.hva, 1) ? FAULT_HOST_COPIED : FAULT_HOST_ALLOCATED;
	if (s->config.zero_pfn && t->fault.pfn == s->config.zero_pfn)
		return FAULT_HOST_ZERO;
	return t->mapped ? FAULT_HOST_MAPPED : FAULT_HOST_NOTHING;
}

/* It was set: report it. Open and never set: it was none. */
static int fault_close(struct fault_stream *s, struct fault_thread *t)
{
	struct fault *f = &t->fault;
	struct fault_page *p;

	if (t->state == FAULT_OPEN || t->state == FAULT_REQUESTED)
		s->counts.unfinished += 1 + f->retries;
	if (t->state != FAULT_SET) {
		t->state = FAULT_NONE;
		return 0;
	}
	t->state = FAULT_NONE;
	s->counts.faults++;
	s->counts.late += f->late;
	s->counts.retries += f->retries;
	s->counts.prefetched += f->prefetched;
	p = fault_page_get(&s->pages, f->space, f->gfn, f->level);
	if (p) {
		p->first_ns = p->count ? p->first_ns : f->start_ns;
		p->count++;
	}
	if (s->config.fault)
		s->config.fault(f, s->config.arg);
	return p ? 0 : -ENOMEM;
}

static void thread_open(struct fault_thread *t, u64 ns, u64 addr)
{
	*t = (struct fault_thread){ .tid = t->tid, .space = t->space, .state = FAULT_OPEN, .attempt_ns = ns };
	t->fault = (struct fault){ .start_ns = ns, .addr = addr, .tid = t->tid, .space = t->space, .level = 1 };
}

static int fault_open(struct fault_stream *s, struct fault_thread *t, const struct kvm_event_record *r)
{
	u64 code = r->value[1];
	bool ept = s->config.ept && s->config.tdp;
	int ret;

	s->counts.attempts++;
	if ((t->state == FAULT_OPEN || t->state == FAULT_REQUESTED) && t->fault.addr == r->value[0]) {
		t->fault.retries++;
		t->attempt_ns = r->ns;
		t->state = FAULT_OPEN;
		return 0;
	}
	ret = fault_close(s, t);
	thread_open(t, r->ns, r->value[0]);
	t->present = code & (ept ? QUALIFICATION_PRESENT : PFERR_PRESENT);
	if (code & (ept ? QUALIFICATION_FETCH : PFERR_FETCH))
		t->fault.access = FAULT_EXEC;
	else if (code & (ept ? QUALIFICATION_WRITE : PFERR_WRITE))
		t->fault.access = FAULT_WRITES;
	return ret;
}

static hva_t hva_of(const struct fault_stream *s, u32 space, u64 gfn)
{
	return s->config.hva && !space ? s->config.hva(gfn, s->config.arg) : 0;
}

/* The latest of all that the entry mapped, whose first page is at @hva: one page of a huge one takes it all away. */
static struct invalidation entry_invalidated(const struct fault_stream *s, const struct fault_page *p, hva_t hva)
{
	return invalidations_last(&s->invalid, hva, LEVEL_PAGES(fault_page_level(p)));
}

/* The same without this fault's own: what its copy invalidated is not why it came. */
static struct invalidation others_invalidated(const struct fault_stream *s, const struct fault_page *p,
					      const struct fault_thread *t)
{
	hva_t start = t->fault.hva - ((t->fault.gfn - fault_page_gfn(p)) << PAGE_SHIFT);
	u64 pages = LEVEL_PAGES(fault_page_level(p));
	hva_t end = start + pages * PAGE_SIZE;
	struct invalidation last;

	if (!t->fault.hva)
		return (struct invalidation){ 0, 0 };
	if (!unmapped_itself(t, start, pages))
		return entry_invalidated(s, p, start);
	last = t->before;
	if (start < t->unmap_start)
		last = invalidation_later(
			last, invalidations_last(&s->invalid, start, (t->unmap_start - start) >> PAGE_SHIFT));
	if (t->unmap_end < end)
		last = invalidation_later(
			last, invalidations_last(&s->invalid, t->unmap_end, (end - t->unmap_end) >> PAGE_SHIFT));
	return last;
}

/* Before the page's history is written on. */
static void find_cause(struct fault_stream *s, struct fault_thread *t)
{
	const struct fault_page *p = fault_page_find(&s->pages, t->space, t->fault.gfn);
	struct fault *f = &t->fault;
	struct invalidation last;

	f->cause = FAULT_UNTOLD;
	if (t->present) {
		f->cause = FAULT_WRITE;
		return;
	}
	if (!p || !(p->set_ns | p->gone_ns)) {
		f->cause = FAULT_NEW;
		return;
	}
	if (s->several && !t->space)
		return;
	if (p->set_ns > f->start_ns) {
		f->cause = FAULT_SPURIOUS;
		return;
	}
	last = others_invalidated(s, p, t);
	if (p->gone_by) {
		f->cause = FAULT_INVALIDATED;
		f->by = p->gone_by;
	} else if (p->gone_placed) {
		f->cause = FAULT_ZAPPED; /* what was invalidated since then did not take it away */
	} else if (last.ns && last.ns >= p->since_ns && (!p->gone_ns || last.ns <= p->gone_ns)) {
		f->cause = FAULT_INVALIDATED;
		f->by = last.tid;
	}
}

static void on_requested(struct fault_stream *s, struct fault_thread *t, const struct kvm_event_record *r)
{
	struct fault *f = &t->fault;

	if (t->state != FAULT_OPEN && t->state != FAULT_REQUESTED) {
		fault_close(s, t);
		thread_open(t, r->ns, r->value[0] << PAGE_SHIFT);
		f->late = true;
	}
	f->gfn = r->value[0];
	f->pfn = r->value[1];
	f->level = (u8)fault_level(r->value[2]);
	f->page_ns = f->late ? 0 : r->ns - f->start_ns;
	f->hva = hva_of(s, t->space, f->gfn);
	t->state = FAULT_REQUESTED;
	f->host = host_share(s, t);
	find_cause(s, t);
}

/*
 * An invalidation's event comes before it takes the mmu lock: an entry that is set in
 * between goes, too. One that began before the page was looked up is seen by the fault,
 * which then retries (rule K4). So the entry counts from the last try on.
 */
static int page_set(struct fault_stream *s, const struct kvm_event_record *r, const struct fault_thread *t, u32 level)
{
	struct fault_page *p = fault_page_get(&s->pages, t->space, r->value[0], level);

	if (!p)
		return -ENOMEM;
	p->set_ns = r->ns;
	p->since_ns = t->state == FAULT_SET ? t->attempt_ns : r->ns;
	p->gone_ns = 0;
	p->gone_by = 0;
	p->gone_placed = false;
	return 0;
}

static int on_set(struct fault_stream *s, struct fault_thread *t, const struct kvm_event_record *r)
{
	u32 level = fault_level(r->value[2]);
	struct fault *f = &t->fault;

	if (t->state == FAULT_SET) {
		f->prefetched++;
	} else if (t->state == FAULT_REQUESTED && align_down(f->gfn, LEVEL_PAGES(level)) == r->value[0]) {
		f->level = (u8)level;
		f->ns = f->late ? 0 : r->ns - f->start_ns;
		t->state = FAULT_SET;
	}
	return page_set(s, r, t, level);
}

/* The TDP MMU's entries, whoever changes them. */
static int on_tdp_spte(struct fault_stream *s, u32 space, const struct kvm_event_record *r)
{
	u64 old = r->value[1], new = r->value[2];
	struct invalidation last = { 0, 0 };
	u32 level = (u32)r->value[3];
	struct fault_page *p;
	hva_t hva;

	if (level < 1 || level > FAULT_LEVELS || (level > 1 && !((old | new) & SPTE_LARGE)) || !(old & SPTE_PRESENT))
		return 0; /* of a table, or a new entry: kvm_mmu_set_spte tells */
	if (new &SPTE_PRESENT)
		return 0;
	p = fault_page_get(&s->pages, space, r->value[0], level);
	if (!p)
		return -ENOMEM;
	/* Now: a later invalidation of the page is not to blame. */
	hva = hva_of(s, space, fault_page_gfn(p));
	last = hva ? entry_invalidated(s, p, hva) : last;
	p->gone_ns = r->ns;
	p->gone_placed = hva != 0;
	p->gone_by = last.ns && last.ns >= p->since_ns ? last.tid : 0;
	return 0;
}

static int on_fast(struct fault_stream *s, struct fault_thread *t, const struct kvm_event_record *r)
{
	struct kvm_event_record set = *r;

	if (t->state != FAULT_OPEN || !s->config.tdp || r->value[1] == r->value[2])
		return 0;
	t->fault.gfn = r->value[0] >> PAGE_SHIFT;
	t->fault.hva = hva_of(s, t->space, t->fault.gfn);
	t->fault.cause = FAULT_WRITE;
	t->fault.ns = r->ns - t->fault.start_ns;
	t->fault.fast = true;
	t->state = FAULT_SET;
	set.value[0] = t->fault.gfn;
	return page_set(s, &set, t, 1);
}

static int on_entry(struct fault_stream *s, struct fault_thread *t, const struct kvm_event_record *r)
{
	s->enters++;
	if (t->state != FAULT_SET)
		return 0; /* an open one is retried, or its access emulated */
	t->fault.ns = t->fault.late ? 0 : r->ns - t->fault.start_ns;
	t->fault.entered = true;
	return fault_close(s, t);
}

static int on_exit(struct fault_stream *s, struct fault_thread *t, const struct kvm_event_record *r)
{
	s64 error = (s32)r->value[1];

	if (error < 0 && error != -EINTR && error != -EAGAIN &&
	    (t->state == FAULT_OPEN || t->state == FAULT_REQUESTED)) {
		s->counts.failed += 1 + t->fault.retries;
		t->state = FAULT_NONE;
	}
	/* A signal ends the system call in the middle of a fault, too: it will be retried. */
	return t->state == FAULT_SET || error >= 0 ? fault_close(s, t) : 0;
}

static void unmap_itself(struct fault_stream *s, struct fault_thread *t, hva_t start, hva_t end)
{
	/* A copy is no longer than an entry. */
	u64 pages = min((end - start) >> PAGE_SHIFT, LEVEL_PAGES(FAULT_LEVELS));
	struct invalidation last = invalidations_last(&s->invalid, start, pages);

	/* Twice, as where it first splits a huge page: who had done so before the first time still counts. */
	if (!t->unmapped || last.tid != t->tid || last.ns < t->fault.start_ns)
		t->before = last;
	t->unmapped = true;
	t->unmap_start = start;
	t->unmap_end = end;
}

static int on_unmap(struct fault_stream *s, struct fault_thread *t, const struct kvm_event_record *r)
{
	s->counts.invalidations++;
	if (t && t->space)
		return 0; /* of memory whose hvas are not known */
	if (t && (t->state == FAULT_OPEN || t->state == FAULT_REQUESTED))
		unmap_itself(s, t, r->value[0], r->value[1]);
	return invalidations_add(&s->invalid, r->value[0], r->value[1], r->ns, r->tid);
}

/* Inside a fault, what its thread does to the host's memory. */
static void on_host(struct fault_thread *t, const struct kvm_event_record *r)
{
	if (!t || t->state != FAULT_OPEN)
		return;
	if (r->event == KVM_EVENT_PAGE_ALLOC)
		t->allocated = true;
	else if (r->value[0] == RSS_SWAPENTS)
		t->swapped = true;
	else
		t->mapped = true;
}

static bool counts_time(const struct fault_stream *s, const struct fault_thread *t)
{
	return t && (t->state == FAULT_OPEN || t->state == FAULT_REQUESTED || (t->state == FAULT_SET && s->enters));
}

static void on_switch(struct fault_stream *s, const struct kvm_event_record *r)
{
	struct fault_thread *from = thread_find(s, (u32)r->value[0]), *to = thread_find(s, (u32)r->value[2]);

	if (counts_time(s, from)) {
		from->off_ns = r->ns;
		from->blocked = r->value[1] & TASK_BLOCKED;
	}
	if (!to || !to->off_ns)
		return;
	if (counts_time(s, to))
		*(to->blocked ? &to->fault.waited_ns : &to->fault.preempted_ns) += r->ns - to->off_ns;
	to->off_ns = 0;
}

/* Threads of the process that is traced need not be known; those of others are written down. */
static int on_new_task(struct fault_stream *s, u32 parent, const struct kvm_event_record *r)
{
	u32 tid = (u32)r->value[0], space = r->value[1] & NEW_THREAD ? parent : tid;
	struct fault_thread *t = thread_find(s, tid);

	if (t)
		fault_close(s, t); /* a number is used again */
	if (!t && space)
		t = thread_get(s, tid);
	if (t)
		t->space = space;
	return t || !space ? 0 : -ENOMEM;
}

int fault_stream_feed(struct fault_stream *s, const struct kvm_event_record *r)
{
	bool opens = r->event == (s->config.tdp ? KVM_EVENT_PAGE_FAULT : KVM_EVENT_WALK);
	struct fault_thread *t;

	if (r->event == KVM_EVENT_SWITCH) {
		on_switch(s, r);
		return 0;
	}
	t = thread_find(s, r->tid);
	/* These change pages whoever does it; the host's own events matter within a fault alone. */
	if (r->event == KVM_EVENT_TDP_SPTE)
		return on_tdp_spte(s, t ? t->space : 0, r);
	if (r->event == KVM_EVENT_NEW_TASK)
		return on_new_task(s, t ? t->space : 0, r);
	if (r->event == KVM_EVENT_UNMAP_HVA)
		return on_unmap(s, t, r);
	if (r->event == KVM_EVENT_PAGE_ALLOC || r->event == KVM_EVENT_RSS_STAT) {
		on_host(t, r);
		return 0;
	}
	t = thread_get(s, r->tid);
	if (!t)
		return -ENOMEM;
	if (opens)
		return fault_open(s, t, r);
	switch (r->event) {
	case KVM_EVENT_REQUESTED:
		on_requested(s, t, r);
		return 0;
	case KVM_EVENT_SET_SPTE:
		return on_set(s, t, r);
	case KVM_EVENT_FAST_FAULT:
		return on_fast(s, t, r);
	case KVM_EVENT_ENTRY:
		return on_entry(s, t, r);
	case KVM_EVENT_USERSPACE_EXIT:
		return on_exit(s, t, r);
	case KVM_EVENT_MMIO_FAULT:
		s->counts.mmio += t->state == FAULT_OPEN ? 1 + t->fault.retries : 0;
		t->state = t->state == FAULT_OPEN ? FAULT_NONE : t->state;
		return 0;
	}
	return 0;
}

void fault_stream_gap(struct fault_stream *s)
{
	for (u32 i = 0; i < s->nr_threads; i++) {
		s->counts.broken += s->threads[i].state != FAULT_NONE;
		s->threads[i].state = FAULT_NONE;
		s->threads[i].off_ns = 0;
	}
}

void fault_stream_finish(struct fault_stream *s)
{
	for (u32 i = 0; i < s->nr_threads; i++)
		fault_close(s, &s->threads[i]);
}
