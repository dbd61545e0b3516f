/* SPDX-License-Identifier: MIT */
/*
 * Native workloads without an engine: the accessor leads to flat memory, and every
 * access passes through a hook. The TLB stays empty and a request is always pending.
 */
#ifndef TESTS_VMM_FLAT_H
#define TESTS_VMM_FLAT_H

#include "guest/abi.h"
#include "lib/base.h"

#define FLAT_MAX_PAGES 4096
#define FLAT_SAMPLES 64

/* SHARED, with everything a workload may look for. */
struct flat_shared {
	struct guest_shared header;
	struct guest_vcpu vcpu[2];
	struct guest_page_rule rule[FLAT_MAX_PAGES];
	u32 sample[2][FLAT_SAMPLES];
};

struct flat {
	struct flat_shared *shared;
	char *data;
	u64 pages;
	u64 accesses; /* through the accessor, polls included; atomic */
	/* Before each access; gpa is GUEST_SHARED_GPA for a poll. */
	void (*hook)(struct flat *f, u64 gpa, int write);
	u64 stop_after; /* accesses; 0: never */
	void *arg;
	char text[512];
	size_t text_bytes;
};

bool flat_create(struct flat *f, u64 pages);
void flat_destroy(struct flat *f);

/* Run a built-in workload as @vcpu to its end. Return: the exit code. */
int flat_run(struct flat *f, const char *workload, u32 vcpu);

static inline u64 *flat_word(struct flat *f, u64 page, u64 offset)
{
	return (u64 *)(f->data + page * GUEST_PAGE_SIZE + offset);
}

#endif /* TESTS_VMM_FLAT_H */
