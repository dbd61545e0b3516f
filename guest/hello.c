/* SPDX-License-Identifier: MIT */
/* Workload: proof of life. */
#include "guest/workload.h"

GUEST_MAIN(hello)
{
	guest_printf(g, "hello from vcpu %u of %u", guest_vcpu_id(g), guest_vcpus(g));
	for (int i = 0; i < argc; i++)
		guest_printf(g, "%s%s", i ? " " : ": ", argv[i]);
	guest_text(g, "\n");
	return (int)guest_option(argc, argv, "exit", 0);
}
