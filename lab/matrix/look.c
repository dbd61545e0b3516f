/* SPDX-License-Identifier: MIT */
/* The matrix: what the host's memory looks like, from pagemap, smaps and mincore, or from tain's own page tables. */
#include "lab/matrix/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lab/system/linux_compat.h"
#include "lab/system/pagemap.h"
#include "lab/system/smaps.h"
#include "lab/host/swap.h"
#include "lib/alloc.h"

#define DATA_PAGES (MATRIX_BYTES / PAGE_SIZE)

int matrix_witness_open(struct matrix_witness *w, struct host *host, struct err *err)
{
	void *at;

	w->at = NULL;
	if (host->mm || (host->fd < 0 && host_backing_table[host->backing].kind != BACKING_SHARED))
		return 0;
	if (host->fd >= 0)
		at = mmap(NULL, host->bytes, PROT_READ, MAP_SHARED | MAP_NORESERVE, host->fd, 0);
	else /* an old size of 0 maps the same object once more */
		at = mremap((void *)(uintptr_t)host->data, 0, host->bytes, MREMAP_MAYMOVE);
	if (at == MAP_FAILED)
		return err_set(err, -errno, "cannot map %s a second time: %s", host_backing_table[host->backing].name,
			       strerror(errno));
	w->at = at;
	return 0;
}

void matrix_witness_close(struct matrix_witness *w)
{
	if (w->at)
		munmap(w->at, MATRIX_BYTES);
	w->at = NULL;
}

/* Pages of the object that are in memory. */
static u64 resident(const struct matrix_witness *w)
{
	unsigned char in_core[DATA_PAGES];
	u64 n = 0;

	if (!w->at || mincore(w->at, MATRIX_BYTES, in_core))
		return 0;
	for (u64 i = 0; i < DATA_PAGES; i++)
		n += in_core[i] & 1;
	return n;
}

static int by_value(const void *a, const void *b)
{
	u64 x = *(const u64 *)a, y = *(const u64 *)b;

	return x < y ? -1 : x > y;
}

/* Sorts @v. */
static u64 distinct(u64 *v, u64 n)
{
	u64 count = 0;

	qsort(v, n, sizeof(*v), by_value);
	for (u64 i = 0; i < n; i++)
		count += !i || v[i] != v[i - 1];
	return count;
}

/* --- Linux -------------------------------------------------------------------------------- */

static int read_pagemap(hva_t start, u64 pages, u64 *entry)
{
	int fd = pagemap_open(0);
	s64 n;

	if (fd < 0)
		return fd;
	n = pagemap_read(fd, start, pages, entry);
	close(fd);
	return n == (s64)pages ? 0 : -EIO;
}

/* Pages of DATA, and of what was moved away from it, that went to swap and are still in memory, in its cache. */
static u64 swap_cached(struct host *host, const u64 *entry)
{
	u64 n = 0;

	for (u64 i = 0; i < DATA_PAGES; i++)
		if (pm_swapped(entry[i]))
			n += swap_in_memory(host->data + i * PAGE_SIZE, 1);
	for (u64 i = 0; i < MATRIX_PAGES; i++)
		if (pm_swapped(entry[DATA_PAGES + i]))
			n += swap_in_memory(host->quarantine + i * PAGE_SIZE, 1);
	return n;
}

static int look_linux(struct host *host, const struct matrix_witness *w, struct matrix_look *look, u64 *entry)
{
	u64 n = 0, total = DATA_PAGES + MATRIX_PAGES, present = 0, cached;
	int ret = read_pagemap(host->data, DATA_PAGES, entry);
	struct smaps maps;

	look->huge_kib = look->lazy_kib = look->swap_kib = MATRIX_UNKNOWN;
	if (!smaps_read(host->data, host->data + MATRIX_RANGE, &maps)) {
		look->huge_kib = maps.huge_kib;
		look->lazy_kib = maps.lazy_kib;
		look->swap_kib = maps.swap_kib;
	}
	ret = ret ?: read_pagemap(host->quarantine, MATRIX_PAGES, entry + DATA_PAGES);
	if (ret)
		return ret;
	for (u64 i = 0; i < MATRIX_PAGES; i++)
		look->frame[i] = entry[i] & PM_PRESENT ? entry[i] & PM_FRAME : 0;
	for (u64 i = 0; i < total; i++) {
		present |= entry[i] & PM_PRESENT;
		look->frames_known |= entry[i] & PM_PRESENT && entry[i] & PM_FRAME;
	}
	look->frames_known |= !present; /* nothing that could be told or hidden */
	cached = swap_cached(host, entry);
	for (u64 i = 0; i < total; i++)
		if (entry[i] & PM_PRESENT && !(entry[i] & PM_FILE)) /* to others than root every frame is 0 */
			entry[n++] = look->frames_known ? entry[i] & PM_FRAME : i;
	look->used = distinct(entry, n) + cached + resident(w);
	look->known = true;
	return 0;
}

/* --- tain's mm -------------------------------------------------------------------------------- */

static u64 look_page(struct mm_struct *mm, hva_t hva)
{
	struct page *page;
	bool writable;

	page = mm_audit_lookup(mm, hva, &writable);
	return page ? page_to_pfn(page) + 1 : 0;
}

static int look_mm(struct host *host, struct matrix_look *look)
{
	struct frame_arena *arena = mm_arena(host->mm);

	mm_audit_begin(host->mm);
	for (u64 i = 0; i < MATRIX_PAGES; i++)
		look->frame[i] = look_page(host->mm, host->data + i * PAGE_SIZE);
	mm_audit_end(host->mm);
	look->known = look->frames_known = true;
	look->used = (frame_arena_bytes(arena) - frame_arena_free_bytes(arena)) / PAGE_SIZE;
	look->huge_kib = look->lazy_kib = look->swap_kib = MATRIX_UNKNOWN;
	return 0;
}

int matrix_look(struct host *host, const struct matrix_witness *w, struct matrix_look *look, struct err *why)
{
	u64 *entry = mem_alloc((DATA_PAGES + MATRIX_PAGES) * sizeof(*entry));
	int ret;

	look->known = look->frames_known = false;
	if (!entry)
		return err_set(why, -ENOMEM, "no memory");
	ret = host->mm ? look_mm(host, look) : look_linux(host, w, look, entry);
	mem_free(entry);
	if (ret)
		return err_set(why, ret, "/proc/self/pagemap: %s", strerror(-ret));
	return look->frames_known ? 0 : err_set(why, -EPERM, "frame numbers are for root (CAP_SYS_ADMIN) alone");
}

bool matrix_lacks_huge(enum host_backing backing, const struct matrix_look *look, char *text, size_t n)
{
	const s64 all = MATRIX_BYTES / 1024;

	if (!host_backing_table[backing].thp || look->huge_kib < 0 || look->huge_kib >= all)
		return false;
	snprintf(text, n, "the kernel made %lld of %lld KiB huge: memory is fragmented, or was written back",
		 (long long)look->huge_kib, (long long)all);
	return true;
}
