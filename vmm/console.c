/* SPDX-License-Identifier: MIT */
/* Lines out of a text port that delivers bytes. */
#include "vmm/console.h"

bool console_flush(struct console *console, struct vcpu *vcpu)
{
	u32 bytes = console->used;

	console->used = 0;
	return !bytes || vm_port_out(vcpu, GUEST_PORT_TEXT, console->line, 1, bytes);
}

bool console_text(struct console *console, struct vcpu *vcpu, const void *data, size_t bytes)
{
	const char *from = data;
	bool on = true;

	for (size_t i = 0; i < bytes; i++) {
		console->line[console->used++] = from[i];
		if (from[i] == '\n' || console->used == CONSOLE_LINE_BYTES)
			on &= console_flush(console, vcpu);
	}
	return on;
}
