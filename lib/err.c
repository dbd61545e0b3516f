/* SPDX-License-Identifier: MIT */
/* Errors for people, and the end of the road: BUG. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/atomic.h"
#include "lib/err.h"
#include "lib/thread.h"
#include "lib/trace.h"

#define BUG_TRACE_RECORDS 32

int err_set(struct err *err, int code, const char *fmt, ...)
{
	va_list ap;

	if (!err)
		return code;
	va_start(ap, fmt);
	vsnprintf(err->text, sizeof(err->text), fmt, ap);
	va_end(ap);
	return code;
}

static void bug_line(const char *text, void *arg)
{
	fprintf(stderr, "  %s\n", text);
}

void limit_reached(const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "tain: ");
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\n");
	fflush(NULL);
	abort();
}

void bug_at(const char *file, int line, const char *fmt, ...)
{
	static u32 bugs;
	va_list ap;

	fprintf(stderr, "tain: BUG at %s:%d: ", file, line);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, " (thread %s)\n", thread_name());
	/* One dump: a second thread that stumbles over the same ruins adds its line only. */
	if (!xchg(&bugs, 1))
		trace_dump(BUG_TRACE_RECORDS, bug_line, NULL);
	fprintf(stderr, "tain: this is a defect in tain, please report it\n");
	fflush(NULL);
	abort();
}
