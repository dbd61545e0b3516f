/* SPDX-License-Identifier: MIT */
/*
 * An address space from creation to exit.
 *
 * Two counts, as in the kernel: mm_users counts users of the memory; when it falls
 * to zero, exit lets the mirrors go and frees everything mapped. mm_count counts
 * users of the structure; all of mm_users together hold one.
 */
#include <string.h>

#include "lib/alloc.h"
#include "mm/mm_internal.h"

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

static bool notifier_is_write_locked(struct notifier_mm *notifier)
{
	return READ_ONCE(mm_of(notifier)->write_owner) == thread_id() + 1; /* nobody else writes our number */
}

static int notifier_take_all_locks(struct notifier_mm *notifier)
{
	return mm_take_all_locks(mm_of(notifier));
}

static void notifier_drop_all_locks(struct notifier_mm *notifier)
{
	mm_drop_all_locks(mm_of(notifier));
}

static void notifier_free(struct notifier_mm *notifier)
{
	struct mm_struct *mm = mm_of(notifier);

	ASSERT(!mm->root && !mm->vmas.root); /* exit has been */
	notifier_mm_destroy(notifier);
	mm->policy->destroy(mm);
	counters_destroy(&mm->counters);
	mem_free(mm);
	mm_lock_settle();
}

static const struct notifier_mm_ops notifier_ops = {
	.lock_for_write = notifier_write_lock,
	.unlock_for_write = notifier_write_unlock,
	.is_write_locked = notifier_is_write_locked,
	.take_all_locks = notifier_take_all_locks,
	.drop_all_locks = notifier_drop_all_locks,
	.free = notifier_free,
	.limit = TAIN_TASK_SIZE,
};

/* --- life ------------------------------------------------------------------------ */

/* What is not said is as it always was. Return: false for a name that is not known. */
static bool read_options(struct mm_struct *mm, const struct mm_options *options, enum notifier_admission *admission)
{
	const char *mm_lock = options->mm_lock ? options->mm_lock : "marks";
	const char *name = options->admission ? options->admission : "mm_lock";

	mm->policy = mm_policy_find(options->policy ? options->policy : "mmap_sem");
	mm->mm_lock = mm_lock_find(mm_lock);
	mm->privileged = options->privileged;
	mm->max_vmas = options->max_vmas ? options->max_vmas : MM_MAX_MAP_COUNT;
	mm->max_map_count = max(mm->max_vmas, (u32)MM_MAX_MAP_COUNT);
	*admission = strcmp(name, "section") ? NOTIFIER_ADMIT_MM_LOCK : NOTIFIER_ADMIT_SECTION;
	return mm->policy && mm->mm_lock && (*admission == NOTIFIER_ADMIT_SECTION || !strcmp(name, "mm_lock"));
}

int mm_create_with(struct frame_arena *arena, const struct mm_options *options, struct mm_struct **out)
{
	static const struct mm_options defaults;
	enum notifier_admission admission;
	struct mm_struct *mm;
	int err = -EINVAL;

	if (!arena || !out)
		return -EINVAL;
	mm = mem_alloc_aligned(CACHELINE, sizeof(*mm));
	if (!mm)
		return -ENOMEM;
	if (!read_options(mm, options ? options : &defaults, &admission))
		goto free_mm;
	mm->arena = arena;
	err = -ENOMEM;
	if (counters_init(&mm->counters))
		goto free_mm;
	err = mm->policy->init(mm);
	if (err)
		goto destroy_counters;
	err = pt_create(mm);
	if (err)
		goto destroy_policy;
	err = notifier_mm_init(&mm->notifier, &notifier_ops, admission);
	if (err)
		goto destroy_tables;
	*out = mm;
	return 0;

destroy_tables:
	pt_destroy(mm);
destroy_policy:
	mm->policy->destroy(mm);
destroy_counters:
	counters_destroy(&mm->counters);
free_mm:
	mem_free(mm);
	return err;
}

int mm_create(struct frame_arena *arena, const char *policy, struct mm_struct **out)
{
	struct mm_options options = { .policy = policy };

	return policy ? mm_create_with(arena, &options, out) : -EINVAL;
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
	anon_vma_flush(mm);
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

int mmap_write_lock(struct mm_struct *mm)
{
	if (!mm)
		return -EINVAL;
	if (notifier_is_write_locked(&mm->notifier)) {
		check_report("mmap_write_lock() by the thread that holds it");
		return -EDEADLK;
	}
	mm_write_begin(mm, 0, TAIN_TASK_SIZE);
	WRITE_ONCE(mm->write_owner, thread_id() + 1);
	return 0;
}

int mmap_write_unlock(struct mm_struct *mm)
{
	if (!mm)
		return -EINVAL;
	if (!notifier_is_write_locked(&mm->notifier)) {
		check_report("mmap_write_unlock() by a thread that does not hold it");
		return -EINVAL;
	}
	WRITE_ONCE(mm->write_owner, 0);
	notifier_write_unlock(&mm->notifier);
	return 0;
}

struct frame_arena *mm_arena(struct mm_struct *mm)
{
	return mm->arena;
}

void mm_audit_begin(struct mm_struct *mm)
{
	mm_write_begin(mm, 0, TAIN_TASK_SIZE);
	/* What runs under rmap locks alone stands still too. */
	mm_take_all_locks_audit(mm);
}

void mm_audit_end(struct mm_struct *mm)
{
	struct mm_range range = { mm, 0, TAIN_TASK_SIZE };

	mm_drop_all_locks_audit(mm);
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
