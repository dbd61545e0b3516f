/* SPDX-License-Identifier: MIT */
/*
 * The host's side: an address space with VMAs, page tables and a fault path, on
 * an arena of frames that plays physical memory.
 *
 * Every function returns 0 or -errno unless it says otherwise. Addresses and
 * lengths of operations are bytes, page aligned; a length of zero, a reversed or
 * overflowing range, or one past TAIN_TASK_SIZE is -EINVAL. -EINTR, where it is listed: a
 * signal is pending for the calling thread (tain/signal.h).
 */
#ifndef TAIN_MM_H
#define TAIN_MM_H

#include "tain/signal.h"
#include "tain/types.h"

struct mm_struct;
struct notifier_mm;
struct frame_arena;
struct mm_file;
struct page;

#define TAIN_TASK_SIZE 0x0000800000000000ull /* hva are below this */

/* Protection and flags have Linux's values, so that plans need no translation. */
#define TAIN_PROT_NONE 0
#define TAIN_PROT_READ 1
#define TAIN_PROT_WRITE 2
#define TAIN_PROT_EXEC 4
#define TAIN_MAP_SHARED 0x01
#define TAIN_MAP_FIXED 0x10
#define TAIN_MAP_FIXED_NOREPLACE 0x100000
#define TAIN_MAP_POPULATE 0x8000
#define TAIN_MREMAP_MAYMOVE 1
#define TAIN_MREMAP_FIXED 2
#define TAIN_MADV_DONTNEED 4

/*
 * Create an arena of @bytes (page aligned, at least 1 MiB): a memfd, mapped once,
 * shared. Frames are indices into it.
 * Context: sleeps. Return: 0; -EINVAL for a bad size; -ENOMEM; what memfd_create or mmap said.
 */
TAIN_API int frame_arena_create(size_t bytes, struct frame_arena **arena);

/* Free an arena; no mm may use it any more (a frame still in use is a bug report in checking builds). */
TAIN_API void frame_arena_destroy(struct frame_arena *arena);

/*
 * Create an empty address space. @policy names the locking design ("mmap_sem").
 * mm_users and mm_count start at one; mmput() ends it.
 * Context: sleeps. Return: 0; -EINVAL for an unknown policy; -ENOMEM.
 */
TAIN_API int mm_create(struct frame_arena *arena, const char *policy, struct mm_struct **mm);

/*
 * What can be chosen when an address space is made. Zero is the default of each, so
 * name the fields that matter and leave the rest.
 */
struct mm_options {
	const char *policy;    /* locking design; NULL: "mmap_sem" */
	const char *mm_lock;   /* how all locks are taken: "marks" (default), "bits", "sorted" (mm/lock_all.h) */
	const char *admission; /* of notifiers: "mm_lock" (default) or "section" (docs/notifier.md) */
	/*
	 * VMAs above which a registration that takes all locks is refused with -EPERM
	 * unless @privileged; 0: 65530. An address space may have as many VMAs, and
	 * 65530 in any case.
	 */
	unsigned int max_vmas;
	bool privileged;
};

/*
 * mm_create() with a choice. @options: read during the call; NULL: all defaults.
 * Context: sleeps. Return: 0; -EINVAL for a name that is not known; -ENOMEM.
 */
TAIN_API int mm_create_with(struct frame_arena *arena, const struct mm_options *options, struct mm_struct **mm);

/* mm_users: users of the address space. The last mmput() runs exit: release of notifiers, unmap, free (rule N8). */
TAIN_API void mmget(struct mm_struct *mm);
TAIN_API void mmput(struct mm_struct *mm);

/* mm_count: users of the structure. */
TAIN_API void mmgrab(struct mm_struct *mm);
TAIN_API void mmdrop(struct mm_struct *mm);

/* The handle that mmu_notifier_register() takes. */
TAIN_API struct notifier_mm *mm_notifier(struct mm_struct *mm);

/*
 * Hold the address space still: no fault and no operation on it, by anybody, until
 * mmap_write_unlock() by the same thread. For several registrations in one go
 * (mmu_notifier_register_locked() and the like). Sections under a file's lock alone go on.
 * Context: sleeps; outermost: before the locks of files, and before any lock that a notifier
 * callback takes. Never from a callback or in a section. Until the unlock the thread calls
 * nothing else for this mm: operations, mm_pin() and the last mmput() would wait for it for ever.
 * Two address spaces in one order everywhere, or never.
 * Return: 0; -EINVAL for NULL; -EDEADLK if the thread holds it (a checker report too). No
 * signal ends the wait.
 * Pairs: mmap_write_unlock().
 */
TAIN_API int mmap_write_lock(struct mm_struct *mm);

/* Context: the thread that locked it. Return: 0; -EINVAL if this is another (a checker report too). */
TAIN_API int mmap_write_unlock(struct mm_struct *mm);

/*
 * Map @len bytes of anonymous, zeroed memory.
 * @addr: where, with TAIN_MAP_FIXED (replaces what is there) or
 *   TAIN_MAP_FIXED_NOREPLACE; otherwise a hint, and *@out says where.
 * @out: may be NULL with a fixed address.
 * Context: sleeps; opens a notifier section when it replaces mappings.
 * Return: 0; -EINVAL; -ENOMEM (no room, too many VMAs, no memory); -EEXIST
 * (NOREPLACE over a mapping); with TAIN_MAP_POPULATE also what mm_populate() returns: then
 * the mapping is there all the same, and *@out is set.
 */
TAIN_API int mm_mmap(struct mm_struct *mm, hva_t addr, size_t len, int prot, int flags, hva_t *out);

/*
 * A file: memory shared by all who map it, known by its handle, its pages in the arena.
 * Created with @bytes (page aligned) of zeros, which is also the most it can have.
 * Context: sleeps. Return: 0; -EINVAL; -ENOMEM.
 */
TAIN_API int mm_file_create(struct frame_arena *arena, size_t bytes, struct mm_file **file);

/* References: one is the creator's, one each mapping's. The last one frees the pages. NULL is fine for put. */
TAIN_API void mm_file_get(struct mm_file *file);
TAIN_API void mm_file_put(struct mm_file *file);
TAIN_API uint64_t mm_file_size(struct mm_file *file);

/*
 * Map @len bytes of a file from byte @offset on. As mm_mmap(), with TAIN_MAP_SHARED in
 * @flags. An access past the end of the file is -EFAULT; the mapping may reach there.
 * @file: of the arena of @mm; -EINVAL otherwise.
 */
TAIN_API int mm_mmap_file(struct mm_struct *mm, hva_t addr, size_t len, int prot, int flags, struct mm_file *file,
			  uint64_t offset, hva_t *out);

/*
 * Set the size, page aligned, at most that of creation. What lies past it is thrown
 * away and unmapped wherever it is mapped: sections run under the file's i_mmap lock
 * alone, mmap_lock of nobody.
 * Context: sleeps; no lock of any mm. Return: 0; -EINVAL.
 */
TAIN_API int mm_file_truncate(struct mm_file *file, uint64_t bytes);

/* Throw away [offset, offset + len); it reads as zero from then on. The rest as mm_file_truncate(). */
TAIN_API int mm_file_punch(struct mm_file *file, uint64_t offset, uint64_t len);

struct mm_migrate_stats {
	uint64_t moved;	 /* pages that are in another frame now */
	uint64_t pinned; /* ... that are not, because somebody has a reference */
	uint64_t absent; /* addresses without a page, or with a special one */
};

/*
 * Give each page of [addr, addr + len) another frame with the same contents. Each page
 * is found by its reverse map and moved under its object's lock: no mmap_lock is held
 * then. A page of a file is unmapped and comes back by faults.
 * @stats: counts are added to it; NULL is fine.
 * Context: sleeps. Return: 0 (look at @stats for pages that did not move); -EINVAL;
 * -ENOMEM when there is no frame; -EINTR: the rest was not tried.
 */
TAIN_API int mm_migrate(struct mm_struct *mm, hva_t addr, size_t len, struct mm_migrate_stats *stats);

/*
 * How many pages of [addr, addr + len) were used since the last clear, through an entry
 * of the host or by a subscriber; clear that. @flush: subscribers flush their TLBs, or a
 * use through one may go unseen until the page is used the next time.
 * Context: sleeps. Return: 0 and *@young; -EINVAL.
 */
TAIN_API int mm_clear_young(struct mm_struct *mm, hva_t addr, size_t len, bool flush, uint64_t *young);
/* The same, and forget nothing. */
TAIN_API int mm_test_young(struct mm_struct *mm, hva_t addr, size_t len, uint64_t *young);

/*
 * Remove every mapping in [addr, addr + len). Holes are fine.
 * Context: this and the next three sleep, take mmap_lock for writing (DONTNEED: for reading)
 * and open notifier sections: never from a callback or in a section.
 * Return: 0; -EINVAL; -ENOMEM (a split needs a VMA).
 */
TAIN_API int mm_munmap(struct mm_struct *mm, hva_t addr, size_t len);

/* Change rights. Return: 0; -EINVAL; -ENOMEM for a hole in the range (what lies before it has changed) or no memory. */
TAIN_API int mm_mprotect(struct mm_struct *mm, hva_t addr, size_t len, int prot);

/*
 * Move or resize one mapping, entries and all.
 * Return: 0 and the new address in *@out; -EINVAL (flags, overlap); -EFAULT (the
 * old range is not one mapping); -ENOMEM (cannot grow in place without MAYMOVE, or no room).
 */
TAIN_API int mm_mremap(struct mm_struct *mm, hva_t old_addr, size_t old_len, size_t new_len, int flags, hva_t new_addr,
		       hva_t *out);

/*
 * @advice: TAIN_MADV_DONTNEED: contents go, the mapping stays.
 * Return: 0; -EINVAL; -ENOMEM for a hole (the rest is done).
 */
TAIN_API int mm_madvise(struct mm_struct *mm, hva_t addr, size_t len, int advice);

/*
 * Fault in every page of the range, for writing where the VMA allows; what nobody may
 * touch (TAIN_PROT_NONE) is passed over.
 * Context: sleeps; takes the locks of a fault: never from a callback. A first write to the
 * zero page opens a section, as every fault that replaces an entry.
 * Return: 0; -EINVAL; -ENOMEM; -EFAULT for a hole. Pages before the one that failed are there.
 */
TAIN_API int mm_populate(struct mm_struct *mm, hva_t addr, size_t len);

/*
 * Copy between the caller's memory and the address space, through the fault path,
 * each page pinned while it is touched. Any alignment.
 * Context: as mm_populate().
 * Return: 0; -EFAULT where the address space does not allow it; -ENOMEM.
 * A failed copy has moved a prefix.
 */
TAIN_API int mm_copy_to(struct mm_struct *mm, hva_t dst, const void *src, size_t len);
TAIN_API int mm_copy_from(struct mm_struct *mm, void *dst, hva_t src, size_t len);

/*
 * A page held for a device: the frame is used for nothing else until mm_unpin(), whatever
 * becomes of the mapping. It says what was mapped at that moment; who keeps it longer
 * subscribes to the address space, and lets go when the mapping does (tain/notifier.h).
 */
struct mm_pin {
	struct page *page;
	void *data; /* its bytes, in this process */
};

/*
 * Fault the page at @addr in and hold it. @addr: page aligned. @prot: TAIN_PROT_READ,
 * TAIN_PROT_WRITE or both: what the device will do.
 * Context: sleeps; takes the locks of a fault: never from a notifier callback.
 * Return: 0; -EINVAL; -EFAULT (no mapping, or it forbids it); -ENOMEM.
 * Pairs: mm_unpin(), any context that may take a spinlock, a callback too.
 */
TAIN_API int mm_pin(struct mm_struct *mm, hva_t addr, int prot, struct mm_pin *pin);
TAIN_API void mm_unpin(struct mm_pin *pin);

#endif /* TAIN_MM_H */
