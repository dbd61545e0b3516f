/* SPDX-License-Identifier: MIT */
/* What causes and shares of faults are called, for files and for people. */
#include "lab/trace/fault_stream.h"

const struct fault_name fault_cause_table[FAULT_CAUSE_NR] = {
#define X(id, name, text) { name, text },
	FAULT_CAUSES(X)
#undef X
};

const struct fault_name fault_host_table[FAULT_HOST_NR] = {
#define X(id, name, text) { name, text },
	FAULT_HOSTS(X)
#undef X
};

const char *const fault_access_names[] = { "read", "write", "exec" };
