/* SPDX-License-Identifier: MIT */
/*
 * Workload: every vCPU counts in words of its own, one per page, and knows what it
 * must find there. Only for hosts that keep contents: a destroyed page is a lost count.
 */
#include "guest/workload.h"

GUEST_MAIN(counter)
{
	uint64_t all = guest_data_size(g) >> GUEST_PAGE_SHIFT;
	uint64_t pages = guest_option(argc, argv, "pages", 16), passes = guest_option(argc, argv, "passes", 1000);
	uint64_t base = guest_data_base(g) + GUEST_WSLOT_OFFSET + g->id * 8ul, total = 0, start;

	if (pages > all)
		pages = all;
	if (!pages) {
		guest_printf(g, "counter: vcpu %u: there is no DATA\n", g->id);
		return 1;
	}
	start = guest_read64(g, base);
	for (uint64_t pass = 0; (!passes || pass < passes) && !guest_stop_asked(g); pass++) {
		for (uint64_t page = 0; page < pages; page++) {
			uint64_t gpa = base + (page << GUEST_PAGE_SHIFT), seen = guest_read64(g, gpa);

			if (seen != start + pass) {
				guest_printf(g, "counter: vcpu %u: page %llu holds %llu instead of %llu\n", g->id,
					     (unsigned long long)page, (unsigned long long)seen,
					     (unsigned long long)(start + pass));
				return 1;
			}
			guest_write64(g, gpa, seen + 1);
			shared_store(&g->vcpu->accesses, 2 * ++total);
		}
		shared_add(&g->vcpu->heartbeat, 1);
	}
	guest_printf(g, "counter: vcpu %u: total %llu\n", g->id, (unsigned long long)total);
	return 0;
}
