/* SPDX-License-Identifier: MIT */
/* Where a process has its guest's memory: frames that KVM's events name, found again in its pagemap. */
#include "lab/trace/vmm_process.h"

#include <stdlib.h>
#include <string.h>

#include "lab/system/pagemap.h"
#include "lib/alloc.h"
#include "lib/time.h"

#define BATCH 16384			/* words of pagemap read at a time: 64 MiB of memory */
#define SEARCH_NS (200 * NSEC_PER_MSEC) /* searches of all memory may take so long in all, */
#define SEARCH_ONE_NS NSEC_PER_SEC
#define MISSED_PER_MATCH 8
#define MATCHES_ENOUGH 32 /* so many that agree are no accident, whatever was missed: a bad start is made good */
#define SEARCH_SHARE 20	  /* and such a part of the time */

bool vmm_slot_sure(const struct vmm_slot *slot)
{
	return slot->sure;
}

/* Two pages that agree are enough where frames stay; where most are gone before they are looked for, two may be an
 * accident. */
static void judge(struct vmm_slots *slots)
{
	u64 enough = max(min(slots->missed / MISSED_PER_MATCH, (u64)MATCHES_ENOUGH), (u64)2);

	for (u32 i = 0; i < slots->nr; i++) {
		struct vmm_slot *s = &slots->slot[i];

		s->sure = s->matched > s->refuted && (s->sure || s->matched >= enough);
	}
}

u32 vmm_slots_sure(const struct vmm_slots *slots)
{
	u32 n = 0;

	for (u32 i = 0; i < slots->nr; i++)
		n += slots->slot[i].sure;
	return n;
}

hva_t vmm_slots_hva(const struct vmm_slots *slots, u64 gfn)
{
	const struct vmm_slot *best = NULL;

	for (u32 i = 0; i < slots->nr; i++) {
		const struct vmm_slot *s = &slots->slot[i];

		if (gfn >= s->first && gfn <= s->last && vmm_slot_sure(s) &&
		    (!best || s->last - s->first < best->last - best->first))
			best = s;
	}
	return best ? (gfn + (u64)best->delta) << PAGE_SHIFT : 0;
}

static bool frame_is(const struct vmm_process *p, hva_t hva, u64 pfn)
{
	u64 entry;

	return pagemap_read(p->pagemap, hva, 1, &entry) == 1 && entry & PM_PRESENT && (entry & PM_FRAME) == pfn;
}

static void slot_take(struct vmm_slot *s, u64 gfn, u64 pages)
{
	/* The same page again proves nothing new. */
	s->matched += s->matched != 1 || s->first != gfn;
	s->first = min(s->first, gfn);
	s->last = max(s->last, gfn + pages - 1);
}

/* The page is in slot @right: every other one that would have it elsewhere is less likely. */
static void refute_others(struct vmm_slots *slots, u32 right, u64 gfn)
{
	for (u32 i = 0; i < slots->nr; i++)
		if (i != right && gfn >= slots->slot[i].first && gfn <= slots->slot[i].last)
			slots->slot[i].refuted++;
}

/* Is it where a known slot has it, or would have it if it were longer? */
static bool known(struct vmm_slots *slots, const struct vmm_process *p, const struct vmm_page *page)
{
	for (u32 i = 0; i < slots->nr; i++) {
		struct vmm_slot *s = &slots->slot[i];
		hva_t hva = (page->gfn + (u64)s->delta) << PAGE_SHIFT;

		if (!vmm_process_area(p, hva) || !frame_is(p, hva, page->pfn))
			continue;
		slot_take(s, page->gfn, page->pages);
		refute_others(slots, i, page->gfn);
		return true;
	}
	return false;
}

/*
 * The host moves pages (mremap) between the fault and the search. One that turns up
 * elsewhere in the very mapping where its slot has it was moved; slots do not overlap.
 */
static bool was_moved(const struct vmm_slots *slots, const struct vmm_process *p, u64 gfn, hva_t hva)
{
	hva_t before = vmm_slots_hva(slots, gfn);

	return before && (!vmm_process_area(p, before) || vmm_process_area(p, before) == vmm_process_area(p, hva));
}

static void slot_new(struct vmm_slots *slots, const struct vmm_page *page, hva_t hva)
{
	s64 delta = (s64)(hva >> PAGE_SHIFT) - (s64)page->gfn;
	u32 at = slots->nr;

	for (u32 i = 0; i < slots->nr; i++) {
		if (slots->slot[i].delta == delta) {
			slot_take(&slots->slot[i], page->gfn, page->pages);
			return;
		}
		if (!vmm_slot_sure(&slots->slot[i]))
			at = i; /* full: an accident makes room */
	}
	if (slots->nr < VMM_SLOTS)
		at = slots->nr++;
	else if (at == slots->nr)
		return;
	slots->slot[at] = (struct vmm_slot){ page->gfn, page->gfn + page->pages - 1, delta, 1, 0, false };
}

static int by_frame(const void *a, const void *b)
{
	const struct vmm_page *x = a, *y = b;

	return x->pfn < y->pfn ? -1 : x->pfn > y->pfn;
}

struct search {
	struct vmm_page *page; /* by frame */
	u32 nr;
	u64 *entry; /* BATCH of them */
	u64 until;
	hva_t *hva; /* of each; 0: not found, ~0: in several places */
	u8 maybe[8192];
};

static u32 maybe_bit(u64 pfn)
{
	return (u32)(pfn * 0x9e3779b97f4a7c15ull >> 48);
}

static void search_frame(struct search *s, u64 pfn, hva_t hva)
{
	const struct vmm_page want = { .pfn = pfn }, *hit;
	u32 bit = maybe_bit(pfn);

	if (!(s->maybe[bit / 8] & 1u << bit % 8))
		return;
	hit = bsearch(&want, s->page, s->nr, sizeof(*s->page), by_frame);
	if (hit)
		s->hva[hit - s->page] = s->hva[hit - s->page] ? ~0ull : hva;
}

static void search_range(struct search *s, const struct vmm_process *p, hva_t hva, hva_t end)
{
	while (hva < end && clock_ns() < s->until) {
		s64 n = pagemap_read(p->pagemap, hva, min((u64)BATCH, (end - hva) >> PAGE_SHIFT), s->entry);

		if (n <= 0)
			return;
		for (s64 i = 0; i < n; i++)
			if (s->entry[i] & PM_PRESENT)
				search_frame(s, s->entry[i] & PM_FRAME, hva + (u64)i * PAGE_SIZE);
		hva += (u64)n * PAGE_SIZE;
	}
}

/* Of a reservation of terabytes little may be there. */
static void search_area(struct search *s, const struct vmm_process *p, const struct vmm_area *a)
{
	hva_t hva = a->start, stop;

	for (; clock_ns() < s->until && pagemap_next(p->pagemap, &hva, a->end, &stop); hva = stop)
		search_range(s, p, hva, stop);
}

/* All of the process's memory. */
static void search_all(struct vmm_slots *slots, const struct vmm_process *p, struct vmm_page *page, u32 nr)
{
	struct search *s = mem_zalloc(sizeof(*s));
	hva_t *hva = mem_zalloc(nr * sizeof(*hva));
	u64 *entry = mem_alloc(BATCH * sizeof(*entry));
	u64 start = clock_ns();

	if (s && hva && entry) {
		*s = (struct search){
			.page = page, .nr = nr, .entry = entry, .until = start + SEARCH_ONE_NS, .hva = hva
		};
		for (u32 i = 0; i < nr; i++)
			s->maybe[maybe_bit(page[i].pfn) / 8] |= (u8)(1u << maybe_bit(page[i].pfn) % 8);
		for (u32 i = 0; i < p->nr_areas; i++)
			if (p->area[i].readable && strcmp(p->area[i].backing, "special") &&
			    strcmp(p->area[i].backing, "device"))
				search_area(s, p, &p->area[i]);
		for (u32 i = 0; i < nr; i++) {
			page[i].found = hva[i] && ~hva[i] && (!i || page[i].pfn != page[i - 1].pfn) &&
					!was_moved(slots, p, page[i].gfn, hva[i]);
			if (page[i].found)
				slot_new(slots, &page[i], hva[i]);
			else
				slots->missed++;
		}
	}
	mem_free(entry);
	mem_free(hva);
	mem_free(s);
	slots->search_ns += clock_ns() - start;
}

void vmm_slots_learn(struct vmm_slots *slots, const struct vmm_process *p, struct vmm_page *page, u32 nr)
{
	u32 left = 0;

	if (p->pagemap < 0)
		return;
	for (u32 i = 0; i < nr; i++) {
		struct vmm_page here = page[i];

		here.found = known(slots, p, &here);
		/* Those not found come first. */
		if (here.found) {
			page[i] = here;
			continue;
		}
		page[i] = page[left];
		page[left++] = here;
	}
	slots->looked += nr;
	slots->start_ns = slots->start_ns ?: clock_ns();
	if (left && slots->search_ns <= SEARCH_NS + (clock_ns() - slots->start_ns) / SEARCH_SHARE) {
		qsort(page, left, sizeof(*page), by_frame);
		search_all(slots, p, page, left);
	}
	for (u32 i = 0; i < nr; i++)
		slots->found += page[i].found;
	judge(slots);
}
