/* SPDX-License-Identifier: MIT */
/* The table of the kernel's events. */
#include "lab/trace/kvm_event.h"

const struct kvm_event_desc kvm_event_table[KVM_EVENT_NR] = {
#define X(id, system, name, filter, ...) [KVM_EVENT_##id] = { system, name, filter, { __VA_ARGS__ } },
	KVM_EVENTS(X)
#undef X
};
