/* SPDX-License-Identifier: MIT */
/* See tests/vmm_flat.h. */
#include "tests/vmm_flat.h"

#include <string.h>

#include "lib/alloc.h"
#include "lib/atomic.h"
#include "tests/test.h"

struct flat_native {
	struct guest_native native;
	struct flat *flat;
	u32 requests;
};

bool flat_create(struct flat *f, u64 pages)
{
	struct flat_shared *shared;

	*f = (struct flat){ .pages = pages };
	f->shared = shared = mem_alloc_aligned(4096, sizeof(*shared));
	f->data = mem_alloc_aligned(4096, pages * GUEST_PAGE_SIZE);
	if (!CHECK(f->shared && f->data))
		return false;
	shared->header = (struct guest_shared){
		.magic = GUEST_ABI_MAGIC,
		.version = GUEST_ABI_VERSION,
		.data_base = GUEST_DATA_GPA,
		.vcpus = 2,
		.shared_bytes = sizeof(*shared),
		.data_bytes = pages * GUEST_PAGE_SIZE,
		.seed = 42,
		.tsc_khz = 1000000,
		.vcpu_offset = offsetof(struct flat_shared, vcpu),
		.rule_offset = offsetof(struct flat_shared, rule),
		.sample_offset = offsetof(struct flat_shared, sample),
		.sample_count = FLAT_SAMPLES,
		.write_percent = 30,
	};
	return true;
}

void flat_destroy(struct flat *f)
{
	mem_free(f->shared);
	mem_free(f->data);
}

static void *flat_slow(struct guest_native *native, uint64_t gpa, int write)
{
	struct flat *f = container_of(native, struct flat_native, native)->flat;
	u64 n = fetch_add(&f->accesses, 1) + 1;

	if (f->stop_after && n >= f->stop_after)
		WRITE_ONCE(f->shared->header.stop, 1);
	if (f->hook)
		f->hook(f, gpa, write);
	if (gpa == GUEST_SHARED_GPA)
		return f->shared;
	if (!CHECK_MSG(gpa >= GUEST_DATA_GPA && gpa - GUEST_DATA_GPA < f->pages * GUEST_PAGE_SIZE, "access at %#llx",
		       (unsigned long long)gpa))
		return f->data;
	return f->data + (gpa - GUEST_DATA_GPA);
}

static void flat_out(struct guest_native *native, uint32_t port, const void *data, uint32_t bytes, uint32_t count)
{
	struct flat *f = container_of(native, struct flat_native, native)->flat;
	size_t n = min((size_t)bytes * count, sizeof(f->text) - 1 - f->text_bytes);

	CHECK_EQ(port, GUEST_PORT_TEXT);
	memcpy(f->text + f->text_bytes, data, n);
	f->text_bytes += n;
}

int flat_run(struct flat *f, const char *workload, u32 vcpu)
{
	struct flat_native n = {
		.native = { .requests = &n.requests, .slow = flat_slow, .out = flat_out },
		.flat = f,
		.requests = 1,
	};

	for (const struct guest_native_entry *entry = guest_native_table; entry->name; entry++)
		if (!strcmp(entry->name, workload))
			return entry->main(&n.native, f->shared, vcpu);
	CHECK_MSG(false, "no workload %s", workload);
	return -1;
}
