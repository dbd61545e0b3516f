/* SPDX-License-Identifier: MIT */
/*
 * Collects the bytes of the text port into lines, so that the handler is called
 * once a line and lines of different vCPUs do not mix.
 */
#ifndef VMM_CONSOLE_H
#define VMM_CONSOLE_H

#include "vmm/vmm_internal.h"

#define CONSOLE_LINE_BYTES 512

struct console {
	u32 used;
	char line[CONSOLE_LINE_BYTES];
};

/*
 * Bytes for the text port. Lines that end, or no longer fit, go to the handler.
 * Return: true to go on, false to leave vcpu_run() with 0.
 */
bool console_text(struct console *console, struct vcpu *vcpu, const void *data, size_t bytes);

/* What is left of a line. Call it before any other exit is reported. Return: as console_text(). */
bool console_flush(struct console *console, struct vcpu *vcpu);

#endif /* VMM_CONSOLE_H */
