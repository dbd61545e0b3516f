/* SPDX-License-Identifier: MIT */
/*
 * Memory slots: which hva backs a gfn. An array is immutable once published;
 * readers hold the mmu's SRCU.
 *
 * Start and end of a section must hit the same slots, or one counts and the other
 * does not (rule K3, catalogue 20; mutant k3-no-wait-active; test
 * k3_update_waits_for_sections):
 *
 *   host, unmapping X                          slot update
 *   -----------------                          -----------
 *   start(X): no slot there, nothing to do
 *                                              publish a slot over X
 *                                              vCPU faults: in_progress is 0, maps p
 *   clear the entry of p, free p               (the vCPU goes on using it)
 *   end(X): slot found, in_progress-- to -1
 *
 * So a new array is published only while no section is open. Sections are many and
 * updates few: a section is counted by its thread alone, until an update asks to see them.
 *
 *   section                                    slot update
 *   -------                                    -----------
 *   open[i]++                                  updating = 1
 *   barrier (B)                                barrier (A)
 *   updating? open[i]--, and under the         wait for open[i] == 0, each i
 *     lock: active++                           under the lock: active == 0? publish
 *   start ... end                              updating = 0, release (C)
 *   open[i]--, or under the lock: active--
 *
 * A and B pair: the update sees the section in open, or the section sees the update and
 * is counted in active. Who sees the end of an update sees its array, by C. Which of its
 * counts a thread takes a section off does not matter, their sum is what is waited for:
 * open[i] never stays grown while an update counts, and active is looked at last. On its way
 * from the one to the other a section stands in neither: it is not open until it is entered.
 *
 * Sections overtake a waiting update: with sections open at every moment it waits for
 * ever, and the host goes on. The other way round, a host operation would wait for a slot
 * update, which waits for host operations.
 */
#include "lib/alloc.h"
#include "lib/membarrier.h"
#include "lib/thread.h"
#include "mmu/mmu_internal.h"

/* @slots' spans, from its slots. */
static void slots_index(struct memslots *slots)
{
	hva_t hull_end = 0;
	u32 i, at;

	for (i = 0; i < slots->nr; i++) {
		const struct memslot *slot = &slots->slot[i];

		for (at = i; at && slots->span[at - 1].start > slot->hva; at--)
			slots->span[at] = slots->span[at - 1];
		slots->span[at] = (struct slot_span){ .start = slot->hva,
						      .end = slot->hva + (slot->npages << PAGE_SHIFT),
						      .base = slot->base };
	}
	for (i = 0; i < slots->nr; i++) {
		hull_end = max(hull_end, slots->span[i].end);
		slots->span[i].hull_end = hull_end;
	}
	slots->span[i].start = slots->span[i].hull_end = (hva_t)-1;
}

int mmu_slots_init(struct mmu *mmu)
{
	mmu->slots = mem_zalloc(sizeof(*mmu->slots));
	mmu->open = mem_alloc_aligned(CACHELINE, (THREAD_MAX + 1) * sizeof(*mmu->open));
	if (!mmu->slots || !mmu->open)
		return -ENOMEM;
	slots_index(mmu->slots);
	return 0;
}

void mmu_slots_destroy(struct mmu *mmu)
{
	mem_free(mmu->slots);
	mem_free(mmu->open);
}

void section_enter_counted(struct mmu *mmu)
{
	spin_lock(&mmu->invalidate_lock);
	WRITE_ONCE(mmu->active, mmu->active + 1);
	spin_unlock(&mmu->invalidate_lock);
}

void section_leave_counted(struct mmu *mmu)
{
	bool last;

	spin_lock(&mmu->invalidate_lock);
	WRITE_ONCE(mmu->active, mmu->active - 1);
	last = !mmu->active;
	spin_unlock(&mmu->invalidate_lock);
	if (last)
		wake_up_all(&mmu->active_wait);
}

const struct memslot *slot_find(const struct memslots *slots, gfn_t gfn)
{
	u32 low = 0, high = slots->nr;

	/* The first slot that ends behind gfn. */
	while (low < high) {
		u32 mid = (low + high) / 2;

		if (slots->slot[mid].base + slots->slot[mid].npages <= gfn)
			low = mid + 1;
		else
			high = mid;
	}
	return low < slots->nr && slots->slot[low].base <= gfn ? &slots->slot[low] : NULL;
}

/* From here on sections are counted in active; wait for those that are not. */
static void update_begin(struct mmu *mmu)
{
	u32 high;

	WRITE_ONCE(mmu->updating, 1);
	smp_mb_heavy(); /* A */
	race_point("mmu_slots:updating");
	high = READ_ONCE(thread_high);
	for (u32 i = 1; i <= high; i++)
		for (u32 turn = 0; smp_load_acquire(&mmu->open[i].nr); srcu_poll(&turn))
			;
}

static void update_end(struct mmu *mmu)
{
	smp_store_release(&mmu->updating, 0); /* C, pairs with the acquire in mmu_section_enter() */
}

/* Publish @new when no section is open, and wait until nobody reads the old array. Return: the old array. */
static struct memslots *slots_publish(struct mmu *mmu, struct memslots *new)
{
	bool wait = !mutant(MUTANT_K3_NO_WAIT_ACTIVE);
	struct memslots *old;

	lockdep_assert_held(&mmu->slots_lock);
	slots_index(new);
	if (wait)
		update_begin(mmu);
	for (;;) {
		if (wait)
			wait_event(&mmu->active_wait, !READ_ONCE(mmu->active));
		spin_lock(&mmu->invalidate_lock);
		if (!mmu->active || !wait)
			break;
		spin_unlock(&mmu->invalidate_lock);
	}
	old = mmu->slots;
	rcu_assign_pointer(mmu->slots, new);
	spin_unlock(&mmu->invalidate_lock);
	update_end(mmu);
	synchronize_srcu(&mmu->srcu);
	return old;
}

static struct memslot *slot_by_id(struct memslots *slots, u32 id)
{
	u32 i;

	for (i = 0; i < slots->nr; i++) {
		if (slots->slot[i].id == id)
			return &slots->slot[i];
	}
	return NULL;
}

static bool slot_overlaps(const struct memslots *slots, const struct memslot *new)
{
	u32 i;

	for (i = 0; i < slots->nr; i++) {
		const struct memslot *slot = &slots->slot[i];

		if (slot->id != new->id && slot->base < new->base + new->npages &&new->base < slot->base + slot->npages)
			return true;
	}
	return false;
}

static void slots_remove(struct memslots *slots, u32 id)
{
	u32 i, kept = 0;

	for (i = 0; i < slots->nr; i++) {
		if (slots->slot[i].id != id)
			slots->slot[kept++] = slots->slot[i];
	}
	slots->nr = kept;
}

static void slots_insert(struct memslots *slots, const struct memslot *new)
{
	u32 i;

	for (i = slots->nr; i && slots->slot[i - 1].base > new->base; i--)
		slots->slot[i] = slots->slot[i - 1];
	slots->slot[i] = *new;
	slots->nr++;
}

/*
 * rule K3: the slot stays findable, marked, until nothing of it is mapped. Faults on
 * it retry; sections still hit it, on both ends.
 */
static void slot_retire(struct mmu *mmu, struct memslots *marked, u32 id)
{
	struct memslot *slot = slot_by_id(marked, id);

	slot->flags |= SLOT_INVALID;
	marked->generation = mmu->slots->generation | SLOTS_UPDATING;
	mem_free(slots_publish(mmu, marked));
	race_point("memslot:marked");
	zap_slot(mmu, slot->base, slot->base + slot->npages);
}

static int slot_check(const struct mmu *mmu, const struct memslot *slot)
{
	u64 max_pages = TAIN_TASK_SIZE >> PAGE_SHIFT;
	gfn_t max_gfn = format_max_gfn(mmu->format);

	if (slot->id >= MMU_MAX_SLOTS || slot->flags & ~(u32)MMU_SLOT_READONLY)
		return -EINVAL;
	if (slot->base >= max_gfn || slot->npages > max_gfn - slot->base)
		return -EINVAL;
	if (!is_aligned(slot->hva, PAGE_SIZE) || slot->hva >= TAIN_TASK_SIZE || slot->npages > max_pages ||
	    slot->npages << PAGE_SHIFT > TAIN_TASK_SIZE - slot->hva)
		return -EINVAL;
	return 0;
}

static int set_memslot_locked(struct mmu *mmu, const struct memslot *new)
{
	struct memslot *old = slot_by_id(mmu->slots, new->id);
	struct memslots *next, *marked = NULL;
	u64 generation = (mmu->slots->generation & ~SLOTS_UPDATING) + 1;

	if (!new->npages && !old)
		return -ENOENT;
	if (new->npages && slot_overlaps(mmu->slots, new))
		return -EEXIST;
	if (old && old->base == new->base && old->npages == new->npages && old->hva == new->hva &&
	    old->flags == new->flags)
		return 0;
	next = mem_alloc(sizeof(*next));
	if (!next)
		return -ENOMEM;
	if (old) {
		marked = mem_alloc(sizeof(*marked));
		if (!marked) {
			mem_free(next);
			return -ENOMEM;
		}
	}
	*next = *mmu->slots;
	slots_remove(next, new->id);
	if (new->npages)
		slots_insert(next, new);
	if (marked) {
		*marked = *mmu->slots;
		slot_retire(mmu, marked, new->id);
	}
	next->generation = generation;
	mem_free(slots_publish(mmu, next));
	mmu_trace(memslot, new->id, new->base, new->npages, new->hva);
	return 0;
}

int mmu_set_memslot(struct mmu *mmu, u32 id, gfn_t base, u64 npages, hva_t hva, u32 flags)
{
	struct memslot new = { .id = id, .flags = flags, .base = base, .npages = npages, .hva = hva };
	int ret = slot_check(mmu, &new);

	if (ret)
		return ret;
	mutex_lock(&mmu->slots_lock);
	ret = set_memslot_locked(mmu, &new);
	mutex_unlock(&mmu->slots_lock);
	return ret;
}
