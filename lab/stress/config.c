/* SPDX-License-Identifier: MIT */
/* What a stress run is asked for: the defaults, and the plan that follows from it. See lab/stress/stress.h. */
#include <string.h>

#include "lab/stress/stress.h"
#include "lib/time.h"

void stress_config_init(struct stress_config *config, const struct engine *engine)
{
	struct plan plan;

	plan_init(&plan, 0, 1, PLAN_OPS_BASIC);
	*config = (struct stress_config){
		.machine = { .engine = engine, .vcpus = 2, .bytes = 4ull << 20, .retry_faults = true },
		.ops = PLAN_OPS_BASIC,
		.time_ns = 10 * NSEC_PER_SEC,
		/* Invalidations without a pause starve a guest under KVM. */
		.delay_ns = engine->own_mm ? 20 * NSEC_PER_USEC : 100 * NSEC_PER_USEC,
		.audit_every = PROVE ? 1 : 256,
		.max_violations = VIOLATION_RECORDS,
		.stall_ns = (qemu_config.under_linux ? 600
			     : engine->outside	     ? 120
						     : 20) *
			    NSEC_PER_SEC,
		.write_percent = 25,
		.repeat = 1,
	};
	memcpy(config->weight, plan.weight, sizeof(plan.weight));
}

/* What tain's mm can do. Memslots come and go by name only: after each the whole mirror has to be made anew. */
#define OWN_OPS (PLAN_OPS_BASIC | BIT(PLAN_MREMAP_ONTO) | BIT(PLAN_COMPACT) | BIT(PLAN_POPULATE))

/* What can be done to another process's memory, and to a VM in it. What takes seconds only by name. */
#define OUTSIDE_ALONE                                                                                                  \
	(BIT(PLAN_SUSPEND) | BIT(PLAN_MEMSTATS) | BIT(PLAN_MIGRATE) | BIT(PLAN_BALLOON) | BIT(PLAN_PLUG) |             \
	 BIT(PLAN_RESTORE))
#define OUTSIDE_OPS                                                                                                    \
	(BIT(PLAN_REMOVE) | BIT(PLAN_PUNCH) | BIT(PLAN_COLD) | BIT(PLAN_PAGEOUT) | BIT(PLAN_COLLAPSE) |                \
	 BIT(PLAN_SPLIT) | BIT(PLAN_COMPACT) | BIT(PLAN_POPULATE) | BIT(PLAN_SUSPEND) | BIT(PLAN_MEMSTATS) |           \
	 BIT(PLAN_BALLOON) | BIT(PLAN_MERGE))

void stress_limit_ops(struct stress_config *config, const struct plan_ops *ops)
{
	const struct engine *engine = config->machine.engine;
	u32 has = engine->own_mm ? OWN_OPS : engine->outside ? OUTSIDE_OPS : PLAN_OPS_ALL & ~OUTSIDE_ALONE;

	config->ops = ops->set & (ops->named | has);
	memcpy(config->weight, ops->weight, sizeof(config->weight));
}

void stress_plan(const struct stress_config *config, struct plan *plan)
{
	plan_init(plan, config->machine.seed, config->machine.bytes / PAGE_SIZE, config->ops);
	memcpy(plan->weight, config->weight, sizeof(plan->weight));
	plan->granule = host_backing_table[config->machine.backing].granule / PAGE_SIZE;
	plan->ranges = config->machine.ranges;
	/* no longer than a range, and at least a granule */
	plan->max_pages = max(min(plan->max_pages, plan->pages / max(plan->ranges, 1u)), plan->granule);
	plan->list = config->list;
	plan->nr = config->list_nr;
	if (!plan->list)
		return;
	plan->ops = 0;
	for (u64 i = 0; i < plan->nr; i++) {
		plan->ops |= BIT(plan->list[i].op);
		plan->max_pages = max(plan->max_pages, plan->list[i].pages);
	}
}
