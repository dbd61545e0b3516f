/* SPDX-License-Identifier: MIT */
/*
 * Policy mmap_sem (design D0): one reader/writer semaphore per address space.
 * Faults, and operations that change entries alone, hold it for reading; everything
 * that changes a VMA holds it for writing. What it costs: any writer, however small
 * or far away, stops every fault.
 */
#include "mm/mm_internal.h"

static DEFINE_LOCK_CLASS(mmap_lock_class, "mmap_lock");

static int mmap_sem_init(struct mm_struct *mm)
{
	init_rwsem(&mm->mmap_lock, &mmap_lock_class);
	return 0;
}

static void mmap_sem_destroy(struct mm_struct *mm)
{
}

static int mmap_sem_fault_begin(struct vm_fault *vmf)
{
	down_read(&vmf->mm->mmap_lock);
	vmf->vma = vma_lookup(vmf->mm, vmf->addr);
	return 0;
}

static bool mmap_sem_fault_valid(struct vm_fault *vmf)
{
	lockdep_assert_held(&vmf->mm->mmap_lock);
	ASSERT(!vma_is_dead(vmf->vma)); /* no writer since fault_begin() */
	return true;
}

static void mmap_sem_fault_end(struct vm_fault *vmf)
{
	up_read(&vmf->mm->mmap_lock);
}

static void mmap_sem_read_begin(struct mm_range *range)
{
	down_read(&range->mm->mmap_lock);
}

static void mmap_sem_read_end(struct mm_range *range)
{
	up_read(&range->mm->mmap_lock);
}

static void mmap_sem_write_begin(struct mm_range *range)
{
	down_write(&range->mm->mmap_lock);
}

static void mmap_sem_write_end(struct mm_range *range)
{
	up_write(&range->mm->mmap_lock);
}

/* Every section runs under mmap_lock, for reading or writing: the registrar's write lock excludes them all. */
static int mmap_sem_lock_all(struct mm_struct *mm)
{
	lockdep_assert_held_write(&mm->mmap_lock);
	return 0;
}

static void mmap_sem_unlock_all(struct mm_struct *mm)
{
	lockdep_assert_held_write(&mm->mmap_lock);
}

const struct mm_policy mm_policy_mmap_sem = {
	.name = "mmap_sem",
	.lockless_readers = false,
	.init = mmap_sem_init,
	.destroy = mmap_sem_destroy,
	.fault_begin = mmap_sem_fault_begin,
	.fault_valid = mmap_sem_fault_valid,
	.fault_end = mmap_sem_fault_end,
	.read_begin = mmap_sem_read_begin,
	.read_end = mmap_sem_read_end,
	.write_begin = mmap_sem_write_begin,
	.write_end = mmap_sem_write_end,
	.lock_all = mmap_sem_lock_all,
	.unlock_all = mmap_sem_unlock_all,
};
