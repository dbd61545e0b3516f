/* SPDX-License-Identifier: MIT */
/* The native build: how the soft engine finds and enters a workload. */
#include "guest/workload.h"

#define NATIVE_ENTRY(name, summary) { #name, guest_native_##name },
const struct guest_native_entry guest_native_table[] = { GUEST_WORKLOADS(NATIVE_ENTRY){ NULL, NULL } };

int guest_native_call(struct guest_native *native, void *shared, uint32_t vcpu,
		      int (*fn)(struct guest *g, int argc, char **argv))
{
	struct guest g;
	char *argv[GUEST_MAX_ARGS + 1];
	int argc = guest_setup(&g, shared, vcpu, argv);

	g.native = native;
	return fn(&g, argc, argv);
}
