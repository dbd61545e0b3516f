/* SPDX-License-Identifier: MIT */
/*
 * An address space from creation to exit.
 *
 * Two counts, as in the kernel: mm_users counts users of the memory; when it falls
 * to zero, exit lets the mirrors go and frees everything mapped. mm_count counts
 * users of the structure; all of mm_users together hold one.
 */
#include "lib/alloc.h"
#include "mm/mm_internal.h"

static __attribute__((unused)) DEFINE_LOCK_CLASS(all_locks_class, "mm_all_locks_mutex");

/* One at a time takes all locks of an mm; so the order inside a lock class is free (rule N4). */
static struct mutex mm_all_locks_mutex = MUTEX_INIT(&all_locks_class);

/* --- what the notifier layer asks of us --------------------------------------- */

static void notifier_write_lock(struct notifier_mm *notifier)
{
	mm_write_begin(mm_of(notifier), 0, TAIN_TASK_SIZE);
}

static void notifier_write_unlock(struct notifier_mm *notifier)
{
	struct mm_range range = { mm_of(notifier), 0, TAIN_TASK_SIZE };

	mm_write_end(&range);
}

static int notifier_take_all_locks(struct notifier_mm *notifier)
{
	struct mm_struct *mm = mm_of(notifier);
	int err;

	mutex_lock(&mm_all_locks_mutex);
	err = mm->policy->lock_all(mm);
	if (err)
		mutex_unlock(&mm_all_locks_mutex);
	return err;
}

static void notifier_drop_all_locks(struct notifier_mm *notifier)
{
	struct mm_struct *mm = mm_of(notifier);

	mm->policy->unlock_all(mm);
	mutex_unlock(&mm_all_locks_mutex);
}

static void notifier_free(struct notifier_mm *notifier)
{
	struct mm_struct *mm = mm_of(notifier);

	ASSERT(!mm->root && !mm->vmas.root); /* exit has been */
	notifier_mm_destroy(notifier);
	mm->policy->destroy(mm);
	counters_destroy(&mm->counters);
	mem_free(mm);
}

static const struct notifier_mm_ops notifier_ops = {
	.lock_for_write = notifier_write_lock,
	.unlock_for_write = notifier_write_unlock,
	.take_all_locks = notifier_take_all_locks,
	.drop_all_locks = notifier_drop_all_locks,
	.free = notifier_free,
};

/* --- life ------------------------------------------------------------------------ */

int mm_create(struct frame_arena *arena, const char *policy_name, struct mm_struct **out)
{
	const struct mm_policy *policy = mm_policy_find(policy_name);
	struct mm_struct *mm;
	int err = -ENOMEM;

	if (!policy || !arena || !out)
		return -EINVAL;
	mm = mem_alloc_aligned(CACHELINE, sizeof(*mm));
	if (!mm)
		return -ENOMEM;
	mm->arena = arena;
	mm->policy = policy;
	mm->max_map_count = MM_MAX_MAP_COUNT;
	if (counters_init(&mm->counters))
		goto free_mm;
	err = policy->init(mm);
	if (err)
		goto destroy_counters;
	err = pt_create(mm);
	if (err)
		goto destroy_policy;
	err = notifier_mm_init(&mm->notifier, &notifier_ops, NOTIFIER_ADMIT_MM_LOCK);
	if (err)
		goto destroy_tables;
	*out = mm;
	return 0;

destroy_tables:
	pt_destroy(mm);
destroy_policy:
	policy->destroy(mm);
destroy_counters:
	counters_destroy(&mm->counters);
free_mm:
	mem_free(mm);
	return err;
}

/*
 * The last user is gone. Mirrors first (rule N8): when release returns none holds a
 * translation or will make one. No section is needed after that.
 *
 * Nobody can be inside an operation, but a mirror that lives on mm_count may still
 * call mm_fault_in(): the write side keeps it out, and then it finds no VMA.
 */
static void exit_mmap(struct mm_struct *mm)
{
	struct mmu_gather gather;
	struct mm_range range;

	mm_trace(EXIT, mm->vmas.count, 0, 0, 0);
	mmu_notifier_release(&mm->notifier);
	race_point("mm_exit:after_release");
	range = mm_write_begin(mm, 0, TAIN_TASK_SIZE);
	gather_init(&gather, mm);
	gather_unmap(&gather, 0, TAIN_TASK_SIZE);
	gather_finish(&gather);
	vma_tree_destroy(mm);
	free_pgtables(mm, 0, TAIN_TASK_SIZE, 0, TAIN_TASK_SIZE);
	pt_destroy(mm);
	mm_write_end(&range);
	/* So that whoever looks finds every frame back in the arena. */
	if (mm_defers(mm))
		rcu_barrier();
}

void mmget(struct mm_struct *mm)
{
	s32 old = fetch_add(&mm->notifier.users, 1);

	ASSERT(old > 0); /* invariant MM8: who may call holds one */
	(void)old;
}

void mmput(struct mm_struct *mm)
{
	s32 old;

	if (!mm)
		return;
	might_sleep();
	old = fetch_add(&mm->notifier.users, -1);
	ASSERT(old > 0);
	if (old == 1) {
		exit_mmap(mm);
		mmdrop(mm);
	}
}

void mmgrab(struct mm_struct *mm)
{
	notifier_mm_grab(&mm->notifier);
}

void mmdrop(struct mm_struct *mm)
{
	if (mm)
		notifier_mm_drop(&mm->notifier);
}

/* --- the door ---------------------------------------------------------------------- */

struct notifier_mm *mm_notifier(struct mm_struct *mm)
{
	return &mm->notifier;
}

struct frame_arena *mm_arena(struct mm_struct *mm)
{
	return mm->arena;
}

void mm_audit_begin(struct mm_struct *mm)
{
	mm_write_begin(mm, 0, TAIN_TASK_SIZE);
}

void mm_audit_end(struct mm_struct *mm)
{
	struct mm_range range = { mm, 0, TAIN_TASK_SIZE };

	mm_write_end(&range);
}

struct page *mm_audit_lookup(struct mm_struct *mm, hva_t hva, bool *writable)
{
	struct page *leaf;
	pte_t pte;

	if (hva >= TAIN_TASK_SIZE || !mm->root)
		return NULL;
	leaf = pt_leaf(mm, hva);
	if (!leaf)
		return NULL;
	pte = pte_read(&pt_entries(leaf)[pt_index(hva, 1)]);
	if (!pte_prot(pte))
		return NULL; /* none, or a page that nobody may touch */
	if (writable)
		*writable = pte_write(pte);
	return frame_page(mm->arena, pte_pfn(pte));
}

void mm_get_stats(struct mm_struct *mm, struct mm_stats *stats)
{
	const struct counters *c = &mm->counters;

	*stats = (struct mm_stats){
		.faults = counter_sum(c, MM_NR_FAULTS),
		.first_touches = counter_sum(c, MM_NR_FIRST_TOUCHES),
		.spurious = counter_sum(c, MM_NR_SPURIOUS),
		.retries = counter_sum(c, MM_NR_RETRIES),
		.lost_installs = counter_sum(c, MM_NR_LOST_INSTALLS),
		.sections = counter_sum(c, MM_NR_SECTIONS),
		.zapped = counter_sum(c, MM_NR_ZAPPED),
		.moved = counter_sum(c, MM_NR_MOVED),
		.tables = counter_sum(c, MM_NR_TABLES),
		.tables_freed = counter_sum(c, MM_NR_TABLES_FREED),
	};
}
