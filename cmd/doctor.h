/* SPDX-License-Identifier: MIT */
/* What tain doctor looks at. */
#ifndef CMD_DOCTOR_H
#define CMD_DOCTOR_H

#include "lib/base.h"

enum finding_state {
	DOCTOR_OK,
	DOCTOR_MISSING, /* with a repair */
	DOCTOR_NOTE,	/* works, but */
};

struct finding {
	const char *name;
	enum finding_state state;
	char text[400];
	char repair[300]; /* a command; empty: none needed */
};

struct finding_check {
	const char *name;
	bool engine; /* an engine: one of them must run */
	void (*fn)(struct finding *f);
};

extern const struct finding_check doctor_checks[]; /* ends with name NULL */

#endif /* CMD_DOCTOR_H */
