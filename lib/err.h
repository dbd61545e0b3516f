/* SPDX-License-Identifier: MIT */
/* One line that says what is wrong, where, and what to do; filled by rooms, printed by cmd/ alone. */
#ifndef LIB_ERR_H
#define LIB_ERR_H

#include "lib/base.h"

struct err {
	char text[320];
};

/* Fill @err (may be NULL) and return @code, so that `return err_set(err, -EINVAL, ...)` reads well. */
int err_set(struct err *err, int code, const char *fmt, ...) format_printf(3, 4);

#endif /* LIB_ERR_H */
