/* SPDX-License-Identifier: MIT */
/* The native build: how the soft engine finds and enters a workload. */
#include "guest/workload.h"

#define NATIVE_ENTRY(name, summary) { #name, guest_native_##name },
const struct guest_native_entry guest_native_table[] = { GUEST_WORKLOADS(NATIVE_ENTRY){ NULL, NULL } };

/* What guest_native_call() makes: the guest's view, and the line it is writing. */
struct native_guest {
	struct guest g;
	uint32_t used;
	char line[256];
};

static void native_flush(struct native_guest *n)
{
	uint32_t bytes = n->used;

	n->used = 0;
	if (bytes)
		n->g.native->out(n->g.native, GUEST_PORT_TEXT, n->line, 1, bytes);
}

void guest_native_text(struct guest *g, const char *text, uint64_t bytes)
{
	struct native_guest *n = (struct native_guest *)g;

	for (; bytes; bytes--) {
		n->line[n->used++] = *text;
		if (*text++ == '\n' || n->used == sizeof(n->line))
			native_flush(n);
	}
}

void guest_native_exit(struct guest *g, int code)
{
	native_flush((struct native_guest *)g);
	g->native->out(g->native, GUEST_PORT_EXIT, &code, sizeof(code), 1);
	__builtin_trap();
}

int guest_native_call(struct guest_native *native, void *shared, uint32_t vcpu,
		      int (*fn)(struct guest *g, int argc, char **argv))
{
	struct native_guest n;
	char *argv[GUEST_MAX_ARGS + 1];
	int argc = guest_setup(&n.g, shared, vcpu, argv), code;

	n.g.native = native;
	n.used = 0;
	code = fn(&n.g, argc, argv);
	native_flush(&n);
	return code;
}
