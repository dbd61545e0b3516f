/* SPDX-License-Identifier: MIT */
/*
 * The matrix: the ranges that Linux tells KVM's notifier about, from the tracepoint kvm_unmap_hva_range. A tracepoint's
 * filter is set once and for all, so each watch has events of its own.
 */
#include "lab/matrix/internal.h"

#include <fcntl.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lab/system/event_dir.h"
#include "lib/alloc.h"
#include "lib/atomic.h"

/* What one processor wrote: Linux's ring of records behind a page of positions. */
struct range_ring {
	int fd;
	struct perf_event_mmap_page *page;
	size_t bytes; /* of records, a power of two */
};

static FILE *open_event(const struct event_dir *dir, const char *file, struct err *why)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "%s/events/kvm/kvm_unmap_hva_range/%s", dir->path, file);
	f = fopen(path, "re");
	if (!f)
		err_set(why, -errno, "tracepoint kvm_unmap_hva_range: %s",
			errno == ENOENT ? "this KVM does not have it" : strerror(errno));
	return f;
}

/* "field:unsigned long start; offset:8; size:8;" */
static int read_format(struct matrix_ranges *r, const struct event_dir *dir, struct err *why)
{
	FILE *f = open_event(dir, "format", why);
	char line[256], *at;

	if (!f)
		return -ENOENT;
	r->start_at = r->end_at = 0;
	while (fgets(line, sizeof(line), f)) {
		at = strstr(line, "offset:");
		if (at && strstr(line, " start;"))
			sscanf(at, "offset:%u", &r->start_at);
		if (at && strstr(line, " end;"))
			sscanf(at, "offset:%u", &r->end_at);
	}
	fclose(f);
	return r->start_at && r->end_at ? 0 : err_set(why, -ENOENT, "tracepoint kvm_unmap_hva_range: unknown format");
}

static int open_ring(struct range_ring *ring, int cpu, const struct matrix_ranges *r, struct err *why)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_TRACEPOINT,
		.size = sizeof(attr),
		.config = r->id,
		.sample_period = 1,
		.sample_type = PERF_SAMPLE_RAW,
	};
	char filter[80];
	void *page;

	/* Of every process: khugepaged, ksmd and kswapd tell KVM too. */
	ring->fd = (int)syscall(SYS_perf_event_open, &attr, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC);
	if (ring->fd < 0)
		return err_set(why, -errno, "perf_event_open of kvm_unmap_hva_range: %s", strerror(errno));
	/* What a busy VM beside this one is told would fill the ring. A kernel that filters nothing may lose some. */
	snprintf(filter, sizeof(filter), "start < %#llx && end > %#llx", (unsigned long long)r->end,
		 (unsigned long long)r->start);
	ioctl(ring->fd, PERF_EVENT_IOC_SET_FILTER, filter);
	ring->bytes = r->ring_pages * PAGE_SIZE;
	page = mmap(NULL, PAGE_SIZE + ring->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, ring->fd, 0);
	if (page == MAP_FAILED)
		return err_set(why, -errno, "the event's ring cannot be mapped: %s", strerror(errno));
	madvise(page, PAGE_SIZE + ring->bytes, MADV_DONTFORK);
	ring->page = page;
	return 0;
}

static int read_id(const struct event_dir *dir, unsigned int *id, struct err *why)
{
	FILE *f = open_event(dir, "id", why);
	int ret;

	if (!f)
		return -ENOENT;
	ret = fscanf(f, "%u", id) == 1 ? 0 : err_set(why, -EIO, "tracepoint kvm_unmap_hva_range has no number");
	fclose(f);
	return ret;
}

int matrix_ranges_open(struct matrix_ranges *r, struct err *why)
{
	struct event_dir dir;
	int ret = event_dir_open(&dir, why);

	*r = (struct matrix_ranges){ .ring_pages = MATRIX_RING_PAGES };
	if (ret)
		return ret;
	ret = read_format(r, &dir, why) ?: read_id(&dir, &r->id, why);
	event_dir_close(&dir);
	return ret;
}

int matrix_ranges_watch(struct matrix_ranges *r, hva_t start, hva_t end, struct err *why)
{
	long cpus = sysconf(_SC_NPROCESSORS_CONF);
	int ret = 0;

	if (!r->id)
		return 0;
	r->start = start;
	r->end = end;
	r->ring = mem_zalloc((size_t)cpus * sizeof(*r->ring));
	if (!r->ring)
		return err_set(why, -ENOMEM, "no memory");
	for (int cpu = 0; cpu < cpus; cpu++) {
		ret = open_ring(&r->ring[r->nr], cpu, r, why);
		r->nr += ret != -ENODEV; /* a processor that is off */
		if (ret && ret != -ENODEV)
			break;
	}
	if (ret && ret != -ENODEV) {
		matrix_ranges_close(r);
		return ret;
	}
	return 0;
}

void matrix_ranges_close(struct matrix_ranges *r)
{
	for (unsigned int i = 0; i < r->nr; i++) {
		if (r->ring[i].page)
			munmap(r->ring[i].page, PAGE_SIZE + r->ring[i].bytes);
		if (r->ring[i].fd >= 0)
			close(r->ring[i].fd);
	}
	mem_free(r->ring);
	r->ring = NULL;
	r->nr = 0;
}

/* Copy out of the ring, which ends and begins anew. */
static void copy_out(const struct range_ring *ring, u64 at, void *to, size_t n)
{
	const char *data = (const char *)ring->page + PAGE_SIZE;

	for (size_t i = 0; i < n; i++)
		((char *)to)[i] = data[(at + i) % ring->bytes];
}

static void take_record(const struct matrix_ranges *r, const struct range_ring *ring, u64 at, s64 *count, s64 *pages)
{
	u64 raw = at + sizeof(struct perf_event_header) + sizeof(u32), from, to;

	copy_out(ring, raw + r->start_at, &from, sizeof(from));
	copy_out(ring, raw + r->end_at, &to, sizeof(to));
	from = max(from, r->start);
	to = min(to, r->end);
	if (from >= to)
		return;
	*count += 1;
	*pages += (s64)((to - from) / PAGE_SIZE);
}

/* Return: how many events were in the ring. */
static u64 take_ring(const struct matrix_ranges *r, const struct range_ring *ring, s64 *count, s64 *pages)
{
	struct perf_event_header header;
	/* Pairs with the kernel's store: what lies below head has been written. */
	u64 head = smp_load_acquire(&ring->page->data_head), tail = ring->page->data_tail, n = 0;

	for (; tail < head; tail += header.size) {
		copy_out(ring, tail, &header, sizeof(header));
		if (!header.size)
			break;
		if (header.type != PERF_RECORD_SAMPLE)
			continue;
		take_record(r, ring, tail, count, pages);
		n++;
	}
	smp_store_release(&ring->page->data_tail, head);
	return n;
}

int matrix_ranges_take(struct matrix_ranges *r, s64 *count, s64 *pages, struct err *why)
{
	u64 all = 0, taken = 0;

	*count = *pages = r->ring ? 0 : MATRIX_UNKNOWN;
	for (unsigned int i = 0; i < r->nr; i++) {
		struct range_ring *ring = &r->ring[i];
		u64 events = 0, here;

		/* The kernel says in the ring that it lost some only once there is room again: its count knows now. */
		if (read(ring->fd, &events, sizeof(events)) != sizeof(events))
			events = 0;
		here = take_ring(r, ring, count, pages);
		if (here < events) /* one may have been under way to it */
			here += take_ring(r, ring, count, pages);
		all += max(events, here);
		taken += here;
	}
	matrix_ranges_close(r);
	if (taken == all)
		return 0;
	*count = *pages = MATRIX_UNKNOWN;
	return err_set(why, -EOVERFLOW, "not known everywhere: the kernel had room for %llu of %llu events",
		       (unsigned long long)taken, (unsigned long long)all);
}
