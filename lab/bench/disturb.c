/* SPDX-License-Identifier: MIT */
/* What may stall a vCPU: see lab/bench/interference.h. None of it touches the guest's memory but the dirty log. */
#include <string.h>
#include <sys/mman.h>

#include "lab/bench/interference.h"
#include "lib/alloc.h"
#include "lib/time.h"

#define HUGE (2ull << 20)
#define PIECE_PAGES 64	  /* mapped and unmapped at a time */
#define MEMORY (4 * HUGE) /* for KSM and khugepaged */
#define WAIT_NS NSEC_PER_MSEC
#define COLLAPSE_NS NSEC_PER_SEC /* khugepaged is nice to everybody, and visits other processes too */
#define MERGE_NS (20 * NSEC_PER_MSEC)

const struct disturber_info disturber_table[DISTURB_NR + 1] = {
	[DISTURB_MUNMAP] = { "munmap", "maps, touches and unmaps other memory, 64 pages at a time", "unmaps" },
	[DISTURB_MEMSLOT] = { "memslot", "adds and removes a memslot that the guest does not use", "removals" },
	[DISTURB_DIRTY_LOG] = { "dirty_log", "logs writes to the guest's memory and reads the log, over and over",
				"reads" },
	[DISTURB_KSM] = { "ksm", "KSM merges other memory of this process, which is written again", "merged pages" },
	[DISTURB_KHUGEPAGED] = { "khugepaged", "khugepaged collapses other memory of this process", "huge pages" },
	[DISTURB_COMPACT] = { "compact", "compacts the machine's memory, over and over", "compactions" },
};

int disturber_parse(const char *list, u32 *disturbers, struct err *err)
{
	const char *names[DISTURB_NR + 1] = { NULL };

	for (int i = 0; i < DISTURB_NR; i++)
		names[i] = disturber_table[i].name;
	return op_parse_names(list, names, "disturber", "disturbers", disturbers, err);
}

static bool stopped(const struct disturbance *d)
{
	return READ_ONCE(d->stop);
}

static void worked(struct disturbance *d, u64 n)
{
	WRITE_ONCE(d->work, d->work + n);
}

/* --- nothing of the machine's ------------------------------------------------------------ */

static int work_munmap(struct disturbance *d)
{
	const size_t bytes = PIECE_PAGES * PAGE_SIZE;
	char *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return err_set(&d->err, -errno, "mmap: %s", strerror(errno));
	for (size_t off = 0; off < bytes; off += PAGE_SIZE)
		WRITE_ONCE(p[off], 1);
	munmap(p, bytes);
	worked(d, 1);
	return 0;
}

static int work_memslot(struct disturbance *d)
{
	int ret = vm_set_spare(d->vm, (hva_t)(uintptr_t)d->memory, HUGE, &d->err);

	ret = ret ?: vm_set_spare(d->vm, (hva_t)(uintptr_t)d->memory, 0, &d->err);
	if (!ret)
		worked(d, 1);
	return ret;
}

static int begin_dirty_log(struct disturbance *d, struct err *err)
{
	d->bitmap = mem_zalloc(align_up(d->data_bytes / PAGE_SIZE, 64) / 8);
	if (!d->bitmap)
		return err_set(err, -ENOMEM, "no memory for the dirty log");
	return vm_dirty_log(d->vm, 0, VM_DIRTY_START, NULL, err);
}

static int work_dirty_log(struct disturbance *d)
{
	int ret = vm_dirty_log(d->vm, 0, VM_DIRTY_READ, d->bitmap, &d->err);

	if (!ret)
		worked(d, 1);
	return ret;
}

static int end_dirty_log(struct disturbance *d, struct err *err)
{
	return vm_dirty_log(d->vm, 0, VM_DIRTY_STOP, NULL, err);
}

/* --- the machine's threads ---------------------------------------------------------------- */

static int begin_ksm(struct disturbance *d, struct err *err)
{
	int ret = system_ksm(&d->change, err);

	if (!ret && madvise(d->memory, MEMORY, MADV_MERGEABLE)) {
		ret = err_set(err, -EOPNOTSUPP, "madvise(MADV_MERGEABLE): %s", strerror(errno));
		system_undo(&d->change, NULL);
	}
	return ret;
}

/* Equal pages; what KSM has merged of them is written, and comes apart. */
static int work_ksm(struct disturbance *d)
{
	u64 merged = 0;

	for (size_t off = 0; off < MEMORY; off += PAGE_SIZE)
		WRITE_ONCE(d->memory[off], 1);
	thread_sleep_ns(MERGE_NS);
	system_ksm_pages(&merged, NULL);
	worked(d, merged);
	return 0;
}

static int end_ksm(struct disturbance *d, struct err *err)
{
	if (madvise(d->memory, MEMORY, MADV_UNMERGEABLE))
		err_set(err, -errno, "madvise(MADV_UNMERGEABLE): %s", strerror(errno));
	return system_undo(&d->change, err);
}

static int begin_khugepaged(struct disturbance *d, struct err *err)
{
	return system_khugepaged(&d->change, err);
}

/* Small pages, then the wish for huge ones, until khugepaged has come by. */
static int work_khugepaged(struct disturbance *d)
{
	u64 start = clock_ns(), before = 0, now;

	madvise(d->memory, MEMORY, MADV_DONTNEED);
	madvise(d->memory, MEMORY, MADV_NOHUGEPAGE);
	for (size_t off = 0; off < MEMORY; off += PAGE_SIZE)
		WRITE_ONCE(d->memory[off], 1);
	system_khugepaged_pages(&before, NULL);
	if (madvise(d->memory, MEMORY, MADV_HUGEPAGE))
		return err_set(&d->err, -EOPNOTSUPP, "madvise(MADV_HUGEPAGE): %s", strerror(errno));
	do {
		thread_sleep_ns(WAIT_NS);
		now = before;
		system_khugepaged_pages(&now, NULL);
	} while (now - before < MEMORY / HUGE && clock_ns() - start < COLLAPSE_NS && !stopped(d));
	worked(d, now - before);
	return 0;
}

static int undo_change(struct disturbance *d, struct err *err)
{
	return system_undo(&d->change, err);
}

static int begin_compact(struct disturbance *d, struct err *err)
{
	return system_compact(err);
}

static int work_compact(struct disturbance *d)
{
	int ret = system_compact(&d->err);

	if (!ret)
		worked(d, 1);
	return ret;
}

/* --- begin and end ------------------------------------------------------------------------ */

static const struct {
	int (*begin)(struct disturbance *d, struct err *err); /* NULL: nothing to begin */
	int (*work)(struct disturbance *d);		      /* on its thread; a failure is told in d->err */
	int (*end)(struct disturbance *d, struct err *err);
} fns[DISTURB_NR] = {
	[DISTURB_MUNMAP] = { NULL, work_munmap, NULL },
	[DISTURB_MEMSLOT] = { NULL, work_memslot, NULL },
	[DISTURB_DIRTY_LOG] = { begin_dirty_log, work_dirty_log, end_dirty_log },
	[DISTURB_KSM] = { begin_ksm, work_ksm, end_ksm },
	[DISTURB_KHUGEPAGED] = { begin_khugepaged, work_khugepaged, undo_change },
	[DISTURB_COMPACT] = { begin_compact, work_compact, NULL },
};

static void disturb(void *arg)
{
	struct disturbance *d = arg;

	thread_block_signals();
	while (!stopped(d) && !d->ret) {
		WRITE_ONCE(d->ret, fns[d->kind].work(d));
		if (d->pause_ns)
			thread_sleep_ns(d->pause_ns);
	}
}

static void release(struct disturbance *d)
{
	if (d->memory)
		munmap(d->memory, MEMORY + HUGE);
	mem_free(d->bitmap);
	d->memory = NULL;
	d->bitmap = NULL;
}

int disturbance_begin(struct disturbance *d, int cpu, struct err *err)
{
	void *p = mmap(NULL, MEMORY + HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	int ret = 0;

	d->change = SYSTEM_NO_CHANGE;
	if (p == MAP_FAILED)
		return err_set(err, -ENOMEM, "no memory for the disturber");
	d->memory = p;
	if (fns[d->kind].begin)
		ret = fns[d->kind].begin(d, err);
	if (ret)
		goto release;
	ret = thread_create(&d->thread, "disturber", cpu, disturb, d);
	if (!ret)
		return 0;
	err_set(err, ret, "cannot start the disturber's thread: %s", strerror(-ret));
	if (fns[d->kind].end)
		fns[d->kind].end(d, NULL);
release:
	release(d);
	return ret;
}

int disturbance_end(struct disturbance *d, u64 *work, struct err *err)
{
	int ret = 0;

	WRITE_ONCE(d->stop, 1);
	thread_join(&d->thread);
	*work = d->work;
	if (fns[d->kind].end)
		ret = fns[d->kind].end(d, err);
	release(d);
	if (d->ret)
		return err_set(err, d->ret, "%s", d->err.text);
	return ret;
}
