/* SPDX-License-Identifier: MIT */
/*
 * A forked child that looks at its copy with a guest of its own.
 *
 *   host                        child
 *   fork, wait for the child    copies nothing yet: its pages are the parent's; notes the vCPUs' slots
 *   [fresh, private memory:     guest 1 reads every stamp: what stood there at the fork
 *    replace the range, g+1]
 *   hold                        parent's vCPUs write, and part their pages from the child's
 *   tell it to end              its slots are as they were: what has changed there was written
 *                               by a vCPU of the parent, through a translation older than the fork;
 *                               guest 2 reads them again, and writes the complement over each:
 *                               its copy holds that then, and the parent's guests never see it
 *   collect it                  (they report it by O1: it is no stamp)
 *
 * Shared memory is the parent's own: the child reads, and writes nothing. While it lives
 * no stamp changes there, for this step is the only one under way.
 */
#include <string.h>
#include <sys/mman.h>

#include "lab/plan/step_internal.h"
#include "lib/atomic.h"
#include "vmm/engine.h"

#define CHILD_PAGES 512ull /* at most: its guest reads from the first on */
#define CHILD_WORDS (CHILD_PAGES * GUEST_STAMPS)

enum child_found { CHILD_FINE, CHILD_NO_GUEST, CHILD_WRONG, CHILD_WRITE_LOST, CHILD_WRITTEN };

/* Shared with the child. */
struct child_report {
	u32 found; /* enum child_found; written last */
	s32 error;
	u32 vcpu; /* CHILD_WRITTEN: whose slot */
	u64 page, seen, expected;
};

struct fork_guest {
	struct host_child child;
	struct oracle *o;
	const struct plan_step *step;
	u64 pages;
	bool private;
	struct child_report *report;
	u64 *word; /* the child's own */
	u64 *slot; /* the same: [page][vcpu] of its copy, at its birth */
};

static bool tell(struct fork_guest *g, enum child_found found, u64 page, u64 seen, u64 expected)
{
	g->report->page = page;
	g->report->seen = seen;
	g->report->expected = expected;
	g->report->found = found;
	return false;
}

/* In the child. */
static bool look(struct fork_guest *g, bool invert)
{
	struct oracle *o = g->o;
	hva_t at = host_addr(o->host, off_of(g->step)) + GUEST_STAMP_OFFSET;
	struct vm_child_read r = {
		.data = at,
		.bytes = g->pages * PAGE_SIZE,
		.stride = GUEST_STAMP_STRIDE,
		.count = g->pages * GUEST_STAMPS,
		.invert = invert,
		.word = g->word,
	};
	int ret = vm_child_read(o->vm, &r);

	if (ret) {
		g->report->error = ret;
		return tell(g, CHILD_NO_GUEST, 0, 0, 0);
	}
	for (u64 i = 0; i < r.count; i++) {
		u64 page = g->step->first + i / GUEST_STAMPS;
		u64 expected = o->stamped[page] ? guest_stamp(page, o->generation[page]) : 0;
		u64 now = READ_ONCE(*(u64 *)(uintptr_t)(at + i * GUEST_STAMP_STRIDE));

		if (g->word[i] != expected)
			return tell(g, CHILD_WRONG, page, g->word[i], expected);
		if (now != (invert ? ~expected : expected))
			return tell(g, CHILD_WRITE_LOST, page, now, invert ? ~expected : expected);
	}
	return true;
}

static u64 *slot_of(struct fork_guest *g, u64 page, u32 vcpu)
{
	hva_t at = host_addr(g->o->host, off_of(g->step)) + page * PAGE_SIZE;

	return (u64 *)(uintptr_t)(at + GUEST_WSLOT_OFFSET + vcpu * sizeof(u64));
}

/* In the child: nobody writes the slots of its copy, whose pages are its own or nobody may write. */
static void note_slots(struct fork_guest *g)
{
	for (u64 page = 0; page < g->pages; page++)
		for (u32 v = 0; v < g->o->vcpus; v++)
			g->slot[page * g->o->vcpus + v] = READ_ONCE(*slot_of(g, page, v));
}

static void compare_slots(struct fork_guest *g)
{
	for (u64 page = 0; page < g->pages; page++)
		for (u32 v = 0; v < g->o->vcpus; v++) {
			u64 before = g->slot[page * g->o->vcpus + v], now = READ_ONCE(*slot_of(g, page, v));

			if (now == before)
				continue;
			g->report->vcpu = v;
			tell(g, CHILD_WRITTEN, g->step->first + page, now, before);
			return;
		}
}

static void child_notes(void *arg)
{
	struct fork_guest *g = arg;

	if (g->private)
		note_slots(g);
}

static void child_born(void *arg)
{
	look(arg, false);
}

static void child_ends(void *arg)
{
	struct fork_guest *g = arg;

	if (CHECKING && g->step->plant &&
	    g->private) /* as if a vCPU of the parent wrote to the frame that is the child's */
		WRITE_ONCE(*slot_of(g, 0, 0), ~READ_ONCE(*slot_of(g, 0, 0)));
	if (g->report->found == CHILD_FINE && g->private)
		compare_slots(g);
	if (g->report->found == CHILD_FINE)
		look(g, g->private);
}

/* The parent's memory changes under the child's copy. As step_remap(). */
static int part(struct oracle *o, const struct plan_step *s)
{
	int ret;

	oracle_announce(o, s->first, s->pages);
	ret = o->host->ops->remap(o->host, off_of(s), len_of(s));
	if (ret)
		return ret;
	oracle_require(o, s->first, s->pages);
	return renew(o, s);
}

static int judge(struct fork_guest *g)
{
	const struct child_report *r = g->report;
	struct oracle *o = g->o;

	switch (r->found) {
	case CHILD_FINE:
		return 0;
	case CHILD_NO_GUEST:
		err_set(&o->why, r->error, "the child's guest did not run: %s", strerror(-r->error));
		return STEP_REFUSED;
	default:
		oracle_report(o, VIOLATION_CHILD, r->page, r->found == CHILD_WRITTEN ? r->vcpu : VIOLATION_NO_VCPU,
			      r->seen, r->expected,
			      r->found == CHILD_WRONG	  ? "read by the child's guest"
			      : r->found == CHILD_WRITTEN ? "in the child's copy: written by the parent's vCPU"
							  : "in the child's memory, after its guest ran");
		return 0;
	}
}

static int with_guest(struct fork_guest *g, const struct plan_step *s)
{
	struct oracle *o = g->o;
	struct host *h = o->host;
	bool parted = s->fresh && g->private;
	int ret;

	h->child = &g->child;
	ret = h->ops->begin(h, OP_FORK, off_of(s), len_of(s), &o->why);
	if (ret) {
		h->child = NULL;
		return step_refused(o, s, false, ret);
	}
	ret = parted ? part(o, s) : 0;
	if (CHECKING && s->plant && !g->private) /* as if the child had found something else than was there */
		tell(g, CHILD_WRONG, s->first, 0, 0);
	hold(s);
	ret = h->ops->end(h, &o->why) ?: ret;
	h->child = NULL;
	return ret ?: judge(g);
}

int step_fork(struct oracle *o, const struct plan_step *s)
{
	struct fork_guest g = {
		.o = o,
		.step = s,
		.pages = min(s->pages, CHILD_PAGES),
		.private = host_backing_table[o->host->backing].kind != BACKING_SHARED,
	};
	size_t bytes = PAGE_SIZE + (CHILD_WORDS + CHILD_PAGES * o->vcpus) * sizeof(u64);
	int ret;

	if (!o->vm || o->host->mm) {
		ret = step_host(o, s);
		if (!ret && o->host->child_changed)
			oracle_report(o, VIOLATION_CHILD, s->first, VIOLATION_NO_VCPU, 0, 0, "in the child's copy");
		return ret;
	}
	g.report = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (g.report == MAP_FAILED)
		return -ENOMEM;
	g.word = (u64 *)((char *)g.report + PAGE_SIZE);
	g.slot = g.word + CHILD_WORDS;
	g.child = (struct host_child){ .notes = child_notes, .born = child_born, .ends = child_ends, .arg = &g };
	ret = with_guest(&g, s);
	munmap(g.report, bytes);
	return ret;
}
